"""The real clock; engines and decisions get its readings as arguments."""

import os
import time

from stellwerk.core.instant import Instant


class SystemClock:
    """Monotonic time for timers, wall time for what is stored."""

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """UTC milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def instant(self) -> Instant:
        """Both readings of one moment."""
        return Instant(time.monotonic(), time.time_ns() // 1_000_000)


class SystemEntropy:
    """The operating system's unpredictable bytes."""

    def take(self, count: int) -> bytes:
        return os.urandom(count)
