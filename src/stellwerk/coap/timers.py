"""Due times in one heap with lazy deletion: arming, moving and cancelling never search."""

from heapq import heappop, heappush
from itertools import count
from math import inf


class Timed:
    """Something with at most one due time. Subclasses do their work in `fire`."""

    __slots__ = ("due", "queued")

    def __init__(self) -> None:
        self.due = inf
        self.queued = inf

    def fire(self, now: float) -> None:
        """The due time has come."""
        raise NotImplementedError


class Timers:
    """All due times of one engine, in monotonic seconds."""

    __slots__ = ("_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._order = count()

    def arm(self, timed: Timed, due: float) -> None:
        """Set or move the one due time of ``timed``."""
        timed.due = due
        # A later due time reuses the entry that is queued already: it is put back when it comes up.
        if due < timed.queued:
            timed.queued = due
            heappush(self._heap, (due, next(self._order), timed))

    def cancel(self, timed: Timed) -> None:
        """``timed`` is not due any more; its entry dies when it comes up."""
        timed.due = inf

    def fire_due(self, now: float) -> None:
        """Fire everything due by ``now``, in order of due times."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, timed = heappop(heap)
            if at != timed.queued:
                continue
            timed.queued = inf
            if timed.due <= now:
                timed.due = inf
                timed.fire(now)
            elif timed.due != inf:
                self.arm(timed, timed.due)

    def next_due(self) -> float:
        """The earliest due time, ``inf`` for none."""
        heap = self._heap
        while heap:
            at, _, timed = heap[0]
            if at == timed.queued and timed.due == at:
                return at
            heappop(heap)
            if at == timed.queued:
                timed.queued = inf
                if timed.due != inf:
                    self.arm(timed, timed.due)
        return inf
