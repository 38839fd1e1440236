"""Points in time.

Engines and decisions get the time as an argument. Two kinds exist and never mix: ``now`` is a monotonic
reading in seconds, good for timers inside one run; ``wall_ms`` is UTC in milliseconds since 1970, good
for what is stored and shown.
"""

from typing import NamedTuple


class Instant(NamedTuple):
    """One moment, read on both clocks: ``now`` monotonic seconds, ``wall_ms`` UTC milliseconds since 1970."""

    now: float
    wall_ms: int
