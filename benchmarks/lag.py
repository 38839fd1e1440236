"""How far projected rows are behind the journal, over time."""

import bisect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import Progress

EVERY_S = 0.1


class Lag:
    """Samples of both ends. ``at``: monotonic seconds; ``last`` and ``projected``: sequence numbers."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.last: list[int] = []
        self.projected: list[int] = []

    def seconds(self) -> list[float]:
        """For each sample, the age of the oldest entry that was not projected then, as exact as the sampling is."""
        found = []
        for at, last, projected in zip(self.at, self.last, self.projected, strict=True):
            if projected >= last:
                found.append(0.0)
                continue
            # The first sample that saw an entry which is not projected yet; it was written at the one before or later.
            found.append(at - self.at[max(0, bisect.bisect_right(self.last, projected) - 1)])
        return found

    def by_second(self) -> list[float]:
        """The worst of each second."""
        found: dict[int, float] = {}
        for at, lag_s in zip(self.at, self.seconds(), strict=True):
            second = int(at - self.at[0])
            found[second] = max(found.get(second, 0.0), lag_s)
        return list(found.values())


@contextmanager
def sampled(data_dir: Path) -> Iterator[Lag]:
    """Sample beside the caller's work until it is left."""
    lag, stop = Lag(), threading.Event()

    def sample() -> None:
        progress = Progress(data_dir)
        while not stop.wait(EVERY_S):
            last, projected = progress.read()
            lag.at.append(time.monotonic())
            lag.last.append(last)
            lag.projected.append(projected)
        progress.close()

    thread = threading.Thread(target=sample, name="lag", daemon=True)
    thread.start()
    try:
        yield lag
    finally:
        stop.set()
        thread.join()
