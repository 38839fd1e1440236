"""What one engine knows of its OSCORE contexts, and how many there may be (RFC 8613 §3, App. B.1).

A `Context` is keys, numbers and window; a `ContextPeer` is what the exchange layer knows of it over one transport. An
idle context may be forgotten: it is asked for again, and its window begins anew with an Echo.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from stellwerk.coap.oscore.context import LAST_NUMBER, Keys
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.protection import Binding
from stellwerk.coap.oscore.recovery import Recovery
from stellwerk.coap.oscore.replay import ReplayWindow
from stellwerk.coap.peers import Peer
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId, context_peer

NUMBERS_AHEAD: Final = 256
"""How many numbers are stored as used at a time; so many are lost with a restart (App. B.1.1)."""
_SALT_BYTES: Final = 8
_NONE: Final = -1
"""No number."""
_WITHOUT_NUMBER: Final = -2
"""Stands for the answer with the nonce of its request."""
_ROOM_TRIES: Final = 8


class SentRequest:
    """A protected request of ours: what verifies its answers."""

    __slots__ = ("again", "binding", "is_answered", "keys", "newest", "observes")

    def __init__(self, keys: Keys, binding: Binding, observes: bool) -> None:
        self.keys = keys
        self.binding = binding
        self.observes = observes
        """Notifications may come of it."""
        self.newest = _NONE
        """The notification number (RFC 8613 §7.4.1)."""
        self.again = _NONE
        """The number of a response that had no effect and may come once more."""
        self.is_answered = False
        """An answer came with the nonce of the request, which serves once."""

    def is_new(self, number: int | None) -> bool:
        """Whether a response with ``number``, None for the request's nonce, may be taken."""
        if number is None:
            return not self.is_answered or self.again == _WITHOUT_NUMBER
        return number > self.newest or number == self.again

    def take(self, number: int | None) -> None:
        """It came, and verified."""
        self.again = _NONE
        if number is None:
            self.is_answered = True
        else:
            self.newest = max(self.newest, number)

    def forget(self, number: int | None) -> None:
        """It had no effect."""
        self.again = _WITHOUT_NUMBER if number is None else number


class ContextPeer(Peer):
    """A context over one transport, as a peer of the exchange layer."""

    __slots__ = ("cancelled", "carrier", "context", "observers", "sent_requests")

    def __init__(self, id: PeerId, context: "Context", now: float) -> None:
        # Addresses are proven to the message layer, and bounds for those that are not are kept there.
        super().__init__(id, now, True)
        self.context = context
        self.carrier: PeerId | None = None
        """Where it was last heard, verified and fresh."""
        self.sent_requests: dict[bytes, list[SentRequest]] = {}
        """By token, newest last; an observation and its cancellation share one."""
        self.observers: dict[bytes, tuple[Keys, Binding]] = {}
        """By token, the requests of theirs that observe us."""
        self.cancelled: dict[bytes, None] = {}
        """Tokens of observations that we cancelled over a stream: what still comes with them is passed over."""

    def is_live(self, token: bytes) -> bool:
        """Whether anything may still come with ``token``."""
        if token in self.cancelled:
            return True
        if self.relations is not None and token in self.relations:
            return True
        return self.outgoing is not None and token in self.outgoing.by_token


class Context:
    """One security context."""

    __slots__ = (
        "asked",
        "ceiling",
        "challenged",
        "keys",
        "material",
        "newest",
        "next_number",
        "number",
        "peers",
        "recovery",
        "salt",
        "window",
    )

    def __init__(self, material: ContextMaterial, entropy: Entropy) -> None:
        self.number = material.number
        self.material = material
        self.keys = Keys(material)
        self.next_number = material.unused
        self.ceiling = material.ceiling
        self.asked = 0
        """The ceiling that shall be stored, as far as was asked."""
        self.window: ReplayWindow | None = None
        """None until something is known to be fresh."""
        self.challenged = b"", _NONE
        """The highest number that was answered with an Echo, and under which ID Context: it was not served, and shall
        not be once its sender has asked anew."""
        self.newest = _NONE
        """The highest number that was heard."""
        self.recovery = Recovery(material)
        self.salt = entropy.take(_SALT_BYTES)
        """So that no Echo of before serves again."""
        self.peers: dict[str, ContextPeer] = {}
        """By transport."""

    @property
    def left(self) -> int:
        """How many numbers may be used at once."""
        return min(self.ceiling, LAST_NUMBER + 1) - self.next_number

    def raise_ceiling(self, unused: int, ceiling: int) -> None:
        """Numbers below ``ceiling`` are stored as used; 0: none are. ``unused``: what lies between the ceiling of
        before and it is somebody else's."""
        if ceiling > self.ceiling:
            if unused > self.ceiling:
                self.next_number = max(self.next_number, unused)
            self.ceiling = ceiling
        self.asked = self.ceiling

    def challenge(self, id_context: bytes, number: int) -> None:
        """A request with ``number`` is answered with an Echo."""
        self.challenged = id_context, max(number, self.past(id_context))

    def past(self, id_context: bytes) -> int:
        """Up to which number nothing is served any more under ``id_context``, though it may never have come before."""
        return self.challenged[1] if self.challenged[0] == id_context else _NONE

    def adopt_keys(self, keys: Keys, newest: int) -> None:
        """Both ends have agreed on ``keys``; numbers of theirs up to ``newest`` may be old. Ours go on: none is ever
        used twice, whatever the keys."""
        self.keys = keys
        self.window = ReplayWindow(newest)
        self.newest = _NONE

    def is_idle(self) -> bool:
        """Whether forgetting it loses nothing but what can be asked again."""
        return all(peer.is_idle() for peer in self.peers.values())


class Contexts:
    """All contexts of one engine."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_number: OrderedDict[int, Context] = OrderedDict()
        self._by_kid: dict[bytes, list[Context]] = {}
        self._by_id: dict[PeerId, ContextPeer] = {}
        self._by_carrier: dict[PeerId, list[ContextPeer]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Context]:
        return iter(list(self._by_number.values()))

    # --- peers of the exchange layer -----------------------------------------------------------------------------

    def find(self, id: PeerId) -> ContextPeer | None:
        """The peer, if its context is here and was heard over this transport."""
        return self._by_id.get(id)

    def find_or_add(self, id: PeerId, now: float) -> ContextPeer | None:
        """The same: there is none to make from here."""
        return self._by_id.get(id)

    def peer_of(self, context: Context, transport: str, now: float) -> ContextPeer:
        """``context`` as a peer over ``transport``."""
        peer = context.peers.get(transport)
        if peer is None:
            peer = context.peers[transport] = ContextPeer(context_peer(context.number, transport), context, now)
            self._by_id[peer.id] = peer
        return peer

    def at(self, carrier: PeerId) -> list[ContextPeer]:
        """Which contexts speak from ``carrier``."""
        return self._by_carrier.get(carrier, [])

    def move(self, peer: ContextPeer, carrier: PeerId | None) -> None:
        """``peer`` speaks from ``carrier`` now, None for nowhere."""
        if peer.carrier is not None:
            there = self._by_carrier[peer.carrier]
            there.remove(peer)
            if not there:
                del self._by_carrier[peer.carrier]
        peer.carrier = carrier
        if carrier is not None:
            self._by_carrier.setdefault(carrier, []).append(peer)

    # --- contexts ------------------------------------------------------------------------------------------------

    def by_number(self, number: int) -> Context | None:
        """The context ``number``."""
        return self._by_number.get(number)

    def candidates(self, kid: bytes, kid_context: bytes | None, carrier: PeerId, most: int) -> list[Context]:
        """Whose other end sends as ``kid``, at most ``most`` of them: who speaks from there already comes first, then
        who has this ID Context."""
        known = self._by_kid.get(kid)
        if known is None:
            return []
        if len(known) > 1:
            there = [peer.context for peer in self.at(carrier) if peer.context.keys.recipient_id == kid]
            if there:
                known = there
            elif kid_context is not None:
                known = [each for each in known if each.keys.id_context == kid_context] or known
        for context in known[:most]:
            self._by_number.move_to_end(context.number)
        return known[:most]

    def add(self, context: Context) -> bool:
        """Know ``context``; False when there are too many that matter."""
        if len(self._by_number) >= self._limit and not self._make_room():
            return False
        self._by_number[context.number] = context
        self._by_kid.setdefault(context.keys.recipient_id, []).append(context)
        return True

    def remove(self, context: Context) -> None:
        """Forget ``context``."""
        self._by_number.pop(context.number, None)
        same = self._by_kid.get(context.keys.recipient_id, [])
        if context in same:
            same.remove(context)
            if not same:
                del self._by_kid[context.keys.recipient_id]
        for peer in context.peers.values():
            self.move(peer, None)
            self._by_id.pop(peer.id, None)
        context.peers = {}

    def _make_room(self) -> bool:
        for _ in range(min(_ROOM_TRIES, len(self._by_number))):
            number, context = next(iter(self._by_number.items()))
            if context.is_idle():
                self.remove(context)
                return True
            self._by_number.move_to_end(number)
        return False
