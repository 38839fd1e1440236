"""Due times in one heap with lazy deletion: arming, moving and cancelling never search."""

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final


class Timed:
    """Something with at most one due time. Subclasses do their work in `fire`."""

    __slots__ = ("due", "queued")

    def __init__(self) -> None:
        self.due = inf
        self.queued = inf

    def fire(self, now: float) -> None:
        """The due time has come."""
        raise NotImplementedError


_SLACK: Final = 64
"""Entries that may be dead whatever the number of live ones."""


class Timers:
    """All due times of one engine, in monotonic seconds."""

    __slots__ = ("_heap", "_live", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._live = 0
        self._order = count()

    def __len__(self) -> int:
        """Entries in the heap, dead ones too."""
        return len(self._heap)

    def arm(self, timed: Timed, due: float) -> None:
        """Set or move the one due time of ``timed``."""
        if timed.due == inf:
            self._live += 1
        timed.due = due
        # A later due time reuses the entry that is queued already: it is put back when it comes up.
        if due < timed.queued:
            timed.queued = due
            heappush(self._heap, (due, next(self._order), timed))
            if len(self._heap) > 2 * self._live + _SLACK:
                self._sweep()

    def cancel(self, timed: Timed) -> None:
        """``timed`` is not due any more; its entry dies when it comes up, or when dead ones are the majority."""
        if timed.due != inf:
            timed.due = inf
            self._live -= 1

    def _sweep(self) -> None:
        # What was armed and cancelled at once would otherwise be held until its due time, with all that hangs on it.
        live: list[tuple[float, int, Timed]] = []
        for entry in self._heap:
            at, _, timed = entry
            if at != timed.queued:
                continue
            if timed.due == inf:
                timed.queued = inf
            else:
                live.append(entry)
        heapify(live)
        self._heap[:] = live

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
                self._live -= 1
                timed.fire(now)
            elif timed.due != inf:
                self._requeue(timed)

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
                    self._requeue(timed)
        return inf

    def _requeue(self, timed: Timed) -> None:
        timed.queued = timed.due
        heappush(self._heap, (timed.due, next(self._order), timed))
