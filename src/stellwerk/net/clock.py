"""The real clock; engines and decisions get its readings as arguments."""

import os
import threading
import time
from typing import Final

from stellwerk.core.instant import Instant


class SystemClock:
    """Monotonic time for timers, wall time for what is stored."""

    def __init__(self) -> None:
        self._offset_ms = self.wall_ms() - int(time.monotonic() * 1000)

    def lifetime_ms(self) -> int:
        """Wall time at the start of this run plus monotonic time since: blind to steps of the wall clock (design
        §7)."""
        return self._offset_ms + int(time.monotonic() * 1000)

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """UTC milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def instant(self) -> Instant:
        """Both readings of one moment."""
        return Instant(time.monotonic(), time.time_ns() // 1_000_000)


_POOL_BYTES: Final = 4_096


class SystemEntropy:
    """The operating system's unpredictable bytes. Each is given once; they are drawn some thousand at a time: a call of
    the system costs more than what is asked for here, and hands the interpreter over."""

    def __init__(self) -> None:
        self._pool = b""
        self._given = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> bytes:
        """``count`` bytes; from any thread."""
        with self._lock:
            start, self._given = self._given, self._given + count
            if self._given > len(self._pool):
                self._pool = os.urandom(_POOL_BYTES + count)
                start, self._given = 0, count
            return self._pool[start : start + count]
