"""What one engine knows of each peer. Everything beyond the bare record is created when first needed."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, Parameters
from stellwerk.core.ids import PeerId

if TYPE_CHECKING:
    from stellwerk.coap.blockwise import BodyStore
    from stellwerk.coap.duplicates import EvictedMids, Inbound
    from stellwerk.coap.exchange import Outgoing
    from stellwerk.coap.observe import Relation
    from stellwerk.coap.transmission import Transmission


class Peer:
    """One remote address, seen from one local address."""

    __slots__ = (
        "after",
        "before",
        "bodies",
        "checked",
        "credit",
        "decided",
        "evicted",
        "guarded",
        "guesses",
        "id",
        "next_mid",
        "notified",
        "observed",
        "outgoing",
        "parameters",
        "pending",
        "relations",
        "ring",
        "sent",
        "undecided",
        "unproven",
        "verified",
    )

    def __init__(self, id: PeerId, now: float, verified: bool = False) -> None:
        self.id = id
        self.checked = now
        """When it was looked at last, for what may be forgotten."""
        self.verified = verified
        self.unproven = False
        """A device moved here and has not answered from here yet: ``credit`` pays for repetitions (decision 0006)."""
        self.credit = 0
        """Bytes that we may still send unasked while the address is not verified: what came from it, times the
        amplification limit, less what went there."""
        self.guesses = 0
        """Acknowledgements and resets from there of what was never sent there, as long as it is not verified."""
        self.parameters: Parameters | None = None
        self.next_mid = -1
        self.sent: dict[int, Transmission] | None = None
        self.undecided: Inbound | None = None
        """The newest message that waits for its answer, chained to the others."""
        self.pending = 0
        """How many these are."""
        self.ring: bytes | None = None
        """The newest answers, packed (`duplicates`)."""
        self.decided = 0
        """How many these are."""
        self.before: Peer | None = None
        self.after: Peer | None = None
        """Its neighbours among the peers that have as many answers."""
        self.evicted: EvictedMids | None = None
        self.outgoing: Outgoing | None = None
        self.relations: dict[bytes, Relation] | None = None
        self.bodies: BodyStore | None = None
        self.notified: dict[int, tuple[int, bytes]] | None = None
        """Message IDs of the last non-confirmable notifications of ours, for a RST to them."""
        self.observed: dict[bytes, tuple[object, ...]] | None = None
        """Who observes us from there: token to the key of the observed request."""
        self.guarded: dict[bytes, Peer] | None = None
        """Tokens of protected requests of ours that went there, with the peers that their OSCORE contexts are."""

    def is_idle(self) -> bool:
        """Whether forgetting this peer loses nothing."""
        return not (
            self.ring
            or self.undecided
            or self.sent
            or self.evicted
            or self.outgoing
            or self.relations
            or self.bodies
            or self.observed
            or self.guarded
            or self.parameters
        )


# A spoofed flood must not make room-finding slow; this many idle peers are looked at for one newcomer.
_ROOM_TRIES: Final = 8


class PeerTable:
    """All peers by address. Each is looked at once per EXCHANGE_LIFETIME, in a first-in-first-out queue."""

    __slots__ = ("_by_id", "_checks", "_limit", "_verified", "find")

    def __init__(self, limit: int, verified: bool = False) -> None:
        """``verified``: whoever speaks has shown where it receives, and another layer bounds what goes elsewhere."""
        self._verified = verified
        self._by_id: dict[PeerId, Peer] = {}
        self._checks: deque[Peer] = deque()
        self._limit = limit
        self.find: Callable[[PeerId], Peer | None] = self._by_id.get
        """The peer, if known. Each datagram asks, so it is the table's own method."""

    def __len__(self) -> int:
        return len(self._by_id)

    def find_or_add(self, id: PeerId, now: float) -> Peer | None:
        """The peer, created when new; None when the table is full of peers that matter."""
        peer = self._by_id.get(id)
        if peer is not None:
            return peer
        if len(self._by_id) >= self._limit and not self._make_room():
            return None
        peer = Peer(id, now, self._verified)
        self._by_id[id] = peer
        self._checks.append(peer)
        return peer

    def _make_room(self) -> bool:
        # Only peers without any state may go: forgetting stored answers would run requests twice.
        checks = self._checks
        for _ in range(min(_ROOM_TRIES, len(checks))):
            peer = checks.popleft()
            if peer.is_idle():
                del self._by_id[peer.id]
                return True
            checks.append(peer)
        return False

    def next_check(self) -> float | None:
        """When `take_due` has something."""
        return self._checks[0].checked + EXCHANGE_LIFETIME_S if self._checks else None

    def take_due(self, now: float) -> Peer | None:
        """The next peer whose turn has come; hand it to `keep` or `drop`."""
        if self._checks and self._checks[0].checked + EXCHANGE_LIFETIME_S <= now:
            return self._checks.popleft()
        return None

    def keep(self, peer: Peer, now: float) -> None:
        """Look at ``peer`` again one EXCHANGE_LIFETIME from ``now``."""
        peer.checked = now
        self._checks.append(peer)

    def drop(self, peer: Peer) -> None:
        """Forget ``peer``."""
        self._by_id.pop(peer.id, None)
