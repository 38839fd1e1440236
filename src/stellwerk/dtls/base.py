"""What the parts of one engine share: outbox, events, timers, bounds, randomness."""

from itertools import count

from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timers
from stellwerk.dtls.events import Dropped, Event
from stellwerk.dtls.parameters import Limits


class Admission:
    """How often handshakes may begin, decided by whoever owns the engine; by default as often as somebody wants. Both
    are asked once for each handshake, and their yes is spent by it."""

    def address(self, address: PeerId, now: float) -> bool:
        """Whether ``address``, which has shown with its cookie that it receives there, may begin one."""
        return True

    def public_key(self, address: PeerId, now: float) -> bool:
        """Whether ``address`` may have one more with public keys, which cost a multiple of one with a pre-shared
        key."""
        return True


class Base:
    """``wall_offset_s``: what makes the engine's monotonic seconds seconds that outlive a restart."""

    def __init__(
        self, entropy: Entropy, limits: Limits, wall_offset_s: float, admission: Admission | None = None
    ) -> None:
        self.admission = admission or Admission()
        self.entropy = entropy
        self.limits = limits
        self.timers = Timers()
        self.datagrams: list[tuple[PeerId, bytes]] = []
        self.events: list[Event] = []
        self._wall_offset_s = wall_offset_s
        self._numbers = count(1)

    def number(self) -> int:
        """A number for a question; none comes twice."""
        return next(self._numbers)

    def wall_s(self, now: float) -> int:
        """``now`` in whole seconds that outlive a restart."""
        return int(now + self._wall_offset_s)

    def drop(self, address: PeerId, reason: str) -> None:
        """Tell that something from or for ``address`` led to nothing."""
        self.events.append(Dropped(address, reason))
