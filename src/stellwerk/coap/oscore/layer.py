"""OSCORE as a message layer on a message layer: what the exchange layer of contexts stands on.

The message layer below carries protected messages as any others, so acknowledgements, repetitions and duplicates stay
there. A peer here is a context (`contexts.ContextPeer`), which has a carrier, a peer there.
"""

from dataclasses import replace
from typing import Final, cast

from stellwerk.coap import codes
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import ContextState, Event
from stellwerk.coap.freshness import Freshness
from stellwerk.coap.layer import MessageLayer, Owner, Sending
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.options import ECHO, OBSERVE, Cut, cut_datagrams
from stellwerk.coap.oscore.context import LAST_NUMBER, Keys, encode_bytes
from stellwerk.coap.oscore.contexts import NUMBERS_AHEAD, Context, ContextPeer, Contexts, SentRequest
from stellwerk.coap.oscore.protection import Binding, Sealed, read_section, seal_request, seal_response
from stellwerk.coap.parameters import Parameters
from stellwerk.coap.peers import Peer
from stellwerk.core.ids import PeerId, context_peer

_OBSERVERS_PER_PEER: Final = 64


class OpenedMessage(Message):
    """What a protected message held; `OscoreLayer.admit` finds its record with it."""

    __slots__ = ("inbound",)
    inbound: "OpenedInbound"


class OpenedInbound(Inbound):
    """One protected message that was received and read: ``outer`` is its record in the message layer below."""

    __slots__ = ("binding", "has_taken", "keys", "needs_number", "outer", "request", "sender_number")

    def __init__(self, peer: ContextPeer, message: Message, outer: Inbound) -> None:
        super().__init__(peer, message, outer.receipt, outer.expires, outer.size)
        self.confirmable = outer.confirmable
        self.outer = outer
        # Two exchange layers share one engine; below zero are those of the protected one.
        self.number = -outer.number
        self.binding: Binding | None = None
        """Of a request: what our answer is bound to."""
        self.keys: Keys | None = None
        self.needs_number = False
        """The answer needs a number of ours: the same request may have been answered with its own nonce before."""
        self.sender_number: int | None = None
        self.has_taken = False
        """Its number counts as seen because of it."""
        self.request: SentRequest | None = None
        """Of a response: our request."""

    @property
    def address(self) -> PeerId:
        """An Echo proves that this very context is heard at this very address."""
        context = cast("ContextPeer", self.peer).context
        return self.outer.peer.id._replace(transport=f"{self.peer.id.transport}/{context.number}/{context.salt.hex()}")


class _Unsent(Sending):
    """A message that could not be protected."""

    __slots__ = ("_detail",)

    def __init__(self, owner: Owner, detail: str) -> None:
        super().__init__(owner)
        self._detail = detail

    def fire(self, now: float) -> None:
        """Whoever made it is not in the middle of it any more."""
        self.owner.refused(self._detail, now)


class GuardedOwner:
    """The owner of a protected request in the message layer below."""

    __slots__ = ("_owner", "peer", "token")

    def __init__(self, owner: Owner, peer: ContextPeer, token: bytes) -> None:
        self._owner = owner
        self.peer = peer
        self.token = token

    def acknowledged(self, now: float) -> None:
        """It arrived."""
        self._owner.acknowledged(now)

    def reset(self, now: float) -> None:
        """A RST came."""
        self._owner.reset(now)

    def unacknowledged(self, now: float) -> None:
        """Nobody reacted."""
        self._owner.unacknowledged(now)

    def refused(self, bound: str, now: float) -> None:
        """It was not sent."""
        self._owner.refused(bound, now)


class _Decisions:
    """What is known of protected messages: the message layer below knows it."""

    def __init__(self, base: MessageLayer) -> None:
        self._base = base

    def decided(self, inbound: Inbound, now: float) -> None:
        """It has its answer."""
        assert isinstance(inbound, OpenedInbound)
        inbound.message = inbound.view = inbound.body = inbound.about = None
        self._base.answers.decided(inbound.outer, now)

    def holds(self, inbound: Inbound) -> bool:
        """Whether its sender has not forgotten it."""
        assert isinstance(inbound, OpenedInbound)
        return self._base.answers.holds(inbound.outer)

    def forget(self, inbound: Inbound) -> None:
        """As if it had never come: then its number never came either."""
        assert isinstance(inbound, OpenedInbound)
        peer = inbound.peer
        assert isinstance(peer, ContextPeer)
        if inbound.request is not None:
            inbound.request.forget(inbound.sender_number)
        elif inbound.has_taken and inbound.keys is peer.context.keys and peer.context.window is not None:
            assert inbound.sender_number is not None
            peer.context.window.forget(inbound.sender_number)
        inbound.message = inbound.view = inbound.body = inbound.about = None
        self._base.answers.forget(inbound.outer)


class OscoreLayer(MessageLayer):
    """Contexts of one engine, on the message layer ``base``."""

    sorts_notifications = True
    absent = ("unconnected", "the OSCORE context was not heard yet")
    absence = absent

    answers: _Decisions
    peers: Contexts

    def __init__(self, base: MessageLayer, contexts: int) -> None:
        # Outbox, events and timers are those of the layer below.
        self.base = base
        self.entropy = base.entropy
        self.limits = base.limits
        self.parameters = replace(base.parameters, request_tag=True)
        self.timers = base.timers
        self.ordered = base.ordered
        self.read_options = base.read_options
        self.exchanges = 0
        self.duplicates = 0
        self.retransmissions = 0
        self.peers = Contexts(contexts)
        self.answers = _Decisions(base)
        self.freshness: Freshness

    @property
    def events(self) -> list[Event]:
        """Those of the engine."""
        return self.base.events

    @events.setter
    def events(self, events: list[Event]) -> None:
        self.base.events = events

    @property
    def datagrams(self) -> list[tuple[PeerId, bytes]]:
        """Those of the engine."""
        return self.base.datagrams

    @datagrams.setter
    def datagrams(self, datagrams: list[tuple[PeerId, bytes]]) -> None:
        self.base.datagrams = datagrams

    def parameters_of(self, peer: Peer) -> Parameters:
        """Bodies are tagged, whatever the peer's parameters say: old blocks may be replayed (RFC 9175 §3.3)."""
        own = peer.parameters
        if own is None:
            return self.parameters
        return own if own.request_tag else replace(own, request_tag=True)

    # --- numbers -------------------------------------------------------------------------------------------------

    def take_number(self, context: Context) -> int | None:
        """A number of ours that was never used; None while none is stored as used, or when all are."""
        number = context.next_number if context.left > 0 else None
        if number is not None:
            context.next_number += 1
        self.look_ahead(context)
        return number

    def look_ahead(self, context: Context) -> None:
        """Ask that more numbers are stored as used, before the last are."""
        if context.left >= NUMBERS_AHEAD // 2 or context.asked > context.ceiling:
            return
        wanted = min(max(context.ceiling, context.next_number) + NUMBERS_AHEAD, LAST_NUMBER + 1)
        if context.asked < wanted and context.ceiling < wanted:
            context.asked = wanted
            peer = next((each.id for each in context.peers.values()), context_peer(context.number, "udp"))
            self.events.append(ContextState(context.number, peer, wanted))

    # --- receiving -----------------------------------------------------------------------------------------------

    def admit(self, peer: Peer, message: Message, datagram: bytes, now: float) -> Inbound | None:
        """The record of a message that was read already: duplicates were dealt with below."""
        assert isinstance(message, OpenedMessage)
        return message.inbound

    def may_be_old(self, inbound: Inbound, now: float) -> bool:
        """Whether it may have been decided before."""
        assert isinstance(inbound, OpenedInbound)
        return self.base.may_be_old(inbound.outer, now)

    def expect_answer(self, inbound: Inbound, now: float) -> None:
        """The answer may take a while."""
        assert isinstance(inbound, OpenedInbound)
        self.base.expect_answer(inbound.outer, now)

    def acknowledge(self, inbound: Inbound) -> None:
        """It arrived."""
        assert isinstance(inbound, OpenedInbound)
        self.base.acknowledge(inbound.outer)

    def reject(self, inbound: Inbound, now: float) -> None:
        """Refuse it without an answer."""
        assert isinstance(inbound, OpenedInbound)
        inbound.message = inbound.view = inbound.body = inbound.about = None
        self.base.reject(inbound.outer, now)

    # --- sending -------------------------------------------------------------------------------------------------

    def carrier_of(self, peer: Peer, now: float = 0.0) -> Peer | None:
        """Where ``peer`` is, None when it is nowhere."""
        assert isinstance(peer, ContextPeer)
        return None if peer.carrier is None else self.base.peers.find_or_add(peer.carrier, now)

    def cut_for(self, peer: Peer) -> Cut:
        """As for its carrier, whose messages leave room for protection; blocks no larger than the context's own."""
        carrier = self.carrier_of(peer)
        size = self.parameters_of(peer).block_size
        if carrier is None:
            return cut_datagrams(size)
        cut = self.base.cut_for(carrier)
        return cut_datagrams(size) if not self.ordered and size < cut.size else cut

    def has_answers_under_way(self, peer: Peer) -> bool:
        """Whether one to where the context is may not have arrived."""
        carrier = self.carrier_of(peer)
        return carrier is not None and self.base.has_answers_under_way(carrier)

    def peer_for_request(self, id: PeerId, once: bool, now: float) -> Peer | None:
        """The context, if it is known where it is, and may be asked there."""
        peer = self.peers.find(id)
        carrier = None if peer is None else self.carrier_of(peer, now)
        return peer if carrier is not None and self.base.takes_requests(carrier) else None

    def room_for_answer(self, inbound: Inbound) -> int:
        """Never asked: `answer` keeps the bound of the layer below."""
        raise NotImplementedError

    def answer(self, inbound: Inbound, code: int, options: bytes, payload: bytes, now: float) -> None:
        """Protect the answer to a request and send it to where the request came from."""
        assert isinstance(inbound, OpenedInbound)
        outer, peer, message = inbound.outer, inbound.peer, inbound.message
        assert isinstance(peer, ContextPeer)
        assert message is not None
        assert inbound.keys is not None
        keys = inbound.keys
        if self.peers.by_number(peer.context.number) is not peer.context:
            # Dropped since: its other end is told nothing more, and a copy of the request is read anew.
            self.answers.forget(inbound)
            return
        if not outer.peer.verified:
            room = self.base.room_for_answer(outer) - 4 - len(message.token) - keys.overhead
            if len(options) + len(payload) > room:
                code, options, payload = self._cut_down(inbound, code, options, room, now)
        decoded = read_section(options) if options else ()
        number, observes = None, False
        for each, _ in decoded:
            observes = observes or each == OBSERVE
        if inbound.needs_number or observes:
            number = self.take_number(peer.context)
            if number is None:
                self.refuse(peer.id, "oscore_numbers", "no sender number is stored as used")
                self.answers.forget(inbound)
                return
        assert inbound.binding is not None
        sealed = seal_response(keys, inbound.binding, number, code, decoded, payload)
        self._note_observer(peer, message.token, keys, inbound.binding, observes and codes.is_success(code))
        inbound.message = inbound.view = inbound.body = inbound.about = None
        self.send_answer(outer, sealed, now)

    def send_answer(self, outer: Inbound, sealed: Sealed, now: float) -> None:
        """Let a protected answer leave."""
        if not outer.peer.verified:
            assert outer.message is not None
            outer.peer.credit -= 5 + len(outer.message.token) + len(sealed.options) + len(sealed.payload)
        self.base.answer(outer, sealed.code, sealed.options, sealed.payload, now)

    def _cut_down(
        self, inbound: OpenedInbound, code: int, options: bytes, room: int, now: float
    ) -> tuple[int, bytes, bytes]:
        """A truthful answer for an address that is not proven, as `serving.Serving` makes it."""
        if code >= codes.BAD_REQUEST:
            return code, options if len(options) <= room else b"", b""
        echo = encode_options(((ECHO, self.freshness.value(inbound.address, now)),))
        return codes.UNAUTHORIZED, echo, b""

    def _note_observer(self, peer: ContextPeer, token: bytes, keys: Keys, binding: Binding, stands: bool) -> None:
        if peer.observers:
            peer.observers.pop(token, None)
        if stands:
            while len(peer.observers) >= _OBSERVERS_PER_PEER:
                del peer.observers[next(iter(peer.observers))]
            peer.observers[token] = (keys, binding)

    def send_confirmable(
        self,
        peer: Peer,
        code: int,
        token: bytes,
        options: bytes,
        payload: bytes,
        owner: Owner,
        now: float,
        once: bool = False,
        ack_timeout_s: float | None = None,
    ) -> Sending:
        """Protect a request, or a notification that shall be acknowledged, and send it to where the context is."""
        assert isinstance(peer, ContextPeer)
        carrier = self.carrier_of(peer, now)
        if carrier is None:
            return self._unsent(owner, self.absent[1], now)
        if codes.is_request(code):
            sealed = self._seal_request(peer, carrier, code, token, options, payload)
            owner = GuardedOwner(owner, peer, token)
        else:
            sealed = self._seal_notification(peer, code, token, options, payload)
        if isinstance(sealed, str):
            return self._unsent(owner, sealed, now)
        if ack_timeout_s is None and peer.parameters is not None:
            ack_timeout_s = peer.parameters.ack_timeout_s
        # Of an address that was heard and not proven: it gets no more than its own bytes pay for.
        once = once or carrier.unproven
        return self.base.send_confirmable(
            carrier, sealed.code, token, sealed.options, sealed.payload, owner, now, once, ack_timeout_s
        )

    def _unsent(self, owner: Owner, detail: str, now: float) -> Sending:
        unsent = _Unsent(owner, detail)
        self.timers.arm(unsent, now)
        return unsent

    def _seal_request(
        self, peer: ContextPeer, carrier: Peer, code: int, token: bytes, options: bytes, payload: bytes
    ) -> Sealed | str:
        context = peer.context
        number = self.take_number(context)
        if number is None:
            return "no sender number is stored as used" if context.next_number <= LAST_NUMBER else "no number is left"
        keys = context.keys
        decoded = read_section(options)
        sealed, binding = seal_request(keys, number, code, decoded, payload, self.named(context))
        observes = any(each == OBSERVE and not value for each, value in decoded)
        self.remember(peer, carrier, token, SentRequest(keys, binding, observes))
        return sealed

    def named(self, context: Context) -> bytes | None:
        """The kid context of our requests: the ID Context; as long as the two ends agree on one, as App. B.2 has it."""
        id_context = context.keys.id_context
        return encode_bytes(id_context) if context.recovery.starts else id_context or None

    def _seal_notification(
        self, peer: ContextPeer, code: int, token: bytes, options: bytes, payload: bytes
    ) -> Sealed | str:
        observer = peer.observers.get(token)
        if observer is None:
            return "the observe request is not known"
        number = self.take_number(peer.context)
        if number is None:
            return "no sender number is stored as used"
        return seal_response(observer[0], observer[1], number, code, read_section(options), payload)

    def remember(self, peer: ContextPeer, carrier: Peer, token: bytes, request: SentRequest) -> None:
        """Answers to ``request`` may come with ``token``."""
        known = peer.sent_requests.setdefault(token, [])
        # A cancellation has the token of its observation, of which more may still come.
        known[:] = [request] if request.observes else [*[each for each in known if each.observes], request]
        if carrier.guarded is None:
            carrier.guarded = {}
        carrier.guarded[token] = peer

    def release_token(self, peer: Peer, token: bytes) -> None:
        """Unless a request or an observation of ours has it still, nothing is expected with ``token``."""
        assert isinstance(peer, ContextPeer)
        if token in peer.sent_requests and not peer.is_live(token):
            carrier = self.base.peers.find(peer.carrier) if peer.carrier is not None else None
            self.forget_token(peer, carrier, token)

    def forget_token(self, peer: ContextPeer, carrier: Peer | None, token: bytes) -> None:
        """Nothing is expected with ``token``."""
        peer.sent_requests.pop(token, None)
        if carrier is not None and carrier.guarded is not None and carrier.guarded.get(token) is peer:
            del carrier.guarded[token]
            if not carrier.guarded:
                carrier.guarded = None

    def binding_of(self, peer: Peer, token: bytes) -> bytes:
        """The Partial IV of the observe request."""
        assert isinstance(peer, ContextPeer)
        return next((each.binding.piv for each in peer.sent_requests.get(token, ()) if each.observes), b"")

    def send_paid(self, sending: Sending, now: float) -> None:
        """As below."""
        self.base.send_paid(sending, now)

    def repeat(self, sending: Sending, now: float) -> None:
        """As below: the same bytes."""
        if not isinstance(sending, _Unsent):
            self.base.repeat(sending, now)

    def send_non_confirmable(self, peer: Peer, code: int, token: bytes, options: bytes, payload: bytes) -> int | None:
        """Protect a notification and send it once."""
        assert isinstance(peer, ContextPeer)
        carrier = self.carrier_of(peer)
        sealed = self._seal_notification(peer, code, token, options, payload) if carrier is not None else self.absent[1]
        if isinstance(sealed, str):
            self.refuse(peer.id, "oscore_unsent", sealed)
            return None
        assert carrier is not None
        return self.base.send_non_confirmable(carrier, sealed.code, token, sealed.options, sealed.payload)

    def stop(self, sending: Sending) -> None:
        """Wait no longer for a reaction."""
        if isinstance(sending, _Unsent):
            self.timers.cancel(sending)
        else:
            self.base.stop(sending)

    def verify(self, peer: Peer) -> None:
        """Where it is is proven."""
        carrier = self.carrier_of(peer)
        if carrier is not None:
            self.base.verify(carrier)

    def probe(self, peer: Peer, now: float) -> None:
        """Ask its carrier for a reaction."""
        carrier = self.carrier_of(peer, now)
        if carrier is not None:
            self.base.probe(carrier, now)

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """The layer below has all timers."""

    def deadline(self) -> float | None:
        """The layer below has all timers."""
        return None
