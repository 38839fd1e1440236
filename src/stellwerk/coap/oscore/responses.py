"""Reading protected responses: which request they are bound to, and what verifies them.

What cannot be verified is as if it had never come (RFC 8613 §8.4): the true answer may still come. An error that is not
protected says that the other end could not read our request, or that somebody wants us to think so: the request fails.
"""

from dataclasses import replace

from stellwerk.coap import actions, codes
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import ContextRederived, TokenQuestion
from stellwerk.coap.message import Message
from stellwerk.coap.observe import Observing
from stellwerk.coap.options import OptionView
from stellwerk.coap.oscore.context import Keys, Unverified, decode_bytes
from stellwerk.coap.oscore.contexts import Context, ContextPeer, SentRequest
from stellwerk.coap.oscore.layer import GuardedOwner, OpenedInbound, OpenedMessage, OscoreLayer
from stellwerk.coap.oscore.option import BrokenOption, OscoreOption, decode_option
from stellwerk.coap.oscore.protection import Opened, bind, open_response
from stellwerk.coap.oscore.recovery import is_sound
from stellwerk.coap.peers import Peer
from stellwerk.coap.requests import Requests

_LONGEST_TEXT = 64


class ResponseReader:
    """Protected responses to one engine, for ``requests`` and ``observing``."""

    def __init__(self, layer: OscoreLayer, requests: Requests, observing: Observing) -> None:
        self._layer = layer
        self._carriers = layer.base
        self._contexts = layer.peers
        self._requests = requests
        self._observing = observing
        self._strangers: dict[int, tuple[Inbound, Message]] = {}

    def take_stranger(self, exchange: int | None) -> tuple[Inbound, Message] | None:
        """The response that waits for the answer to a `events.TokenQuestion` with ``exchange``."""
        return self._strangers.pop(exchange, None) if exchange is not None else None

    def receive_acknowledgement(self, carrier: Peer, owner: GuardedOwner, message: Message, now: float) -> None:
        """An acknowledgement with an answer to a protected request came from ``carrier``."""
        self._receive_response(carrier, owner.peer, None, message, now)

    def receive_response(self, carrier: Peer, inbound: Inbound, message: Message, now: float) -> None:
        """A response with the token of a protected request came from ``carrier``."""
        assert carrier.guarded is not None
        peer = carrier.guarded[message.token]
        assert isinstance(peer, ContextPeer)
        self._receive_response(carrier, peer, inbound, message, now)

    def receive_stranger(self, carrier: Peer, inbound: Inbound, message: Message, now: float) -> None:
        """A protected response came whose token no request here has: an observation of before a restart, perhaps."""
        there = self._contexts.at(carrier.id)
        inbound.view = self._layer.read_options(message.options, False)
        if len(there) != 1 or len(self._strangers) >= self._layer.limits.questions_total:
            self._layer.refuse(carrier.id, "oscore_token", "a protected response to no request")
            self._carriers.reject(inbound, now)
            return
        self._strangers[-inbound.number] = (inbound, message)
        self._layer.events.append(TokenQuestion(-inbound.number, there[0].id, message.token))

    def _receive_response(
        self, carrier: Peer, peer: ContextPeer, outer: Inbound | None, message: Message, now: float
    ) -> None:
        view = self._layer.read_options(message.options, False)
        if outer is not None:
            outer.view = view
        if view.oscore is None:
            self._receive_unprotected(carrier, peer, outer, message, now)
            return
        try:
            option = decode_option(view.oscore)
        except BrokenOption as error:
            self._pass_over(carrier, outer, error.rule)
            return
        token = message.token
        for request in reversed(peer.sent_requests.get(token, [])):
            keys = self._answering_keys(peer.context, request, option)
            number = None if option.piv is None else _number_of(option)
            try:
                opened = open_response(keys, request.binding, option, message.options, message.payload)
            except Unverified:
                continue
            if not request.is_new(number):
                self._settle(outer, now)
                self._layer.refuse(peer.id, "stale", f"protected response {number} after {request.newest}")
                return
            self._carriers.verify(carrier)
            request.take(number)
            if keys is not request.keys:
                self._go_on_agreeing(peer, outer, message, option, now)
                return
            self._finish_agreeing(peer.context)
            self._take_response(peer, outer, message, opened, request, number, now)
            return
        self._pass_over(carrier, outer, "it does not verify")

    def _take_response(
        self,
        peer: ContextPeer,
        outer: Inbound | None,
        message: Message,
        opened: Opened,
        request: SentRequest,
        number: int | None,
        now: float,
    ) -> None:
        token = message.token
        inner = OpenedMessage(message.type, opened.code, message.mid, token, opened.options, opened.payload)
        view = self._layer.read_options(inner.options, False)
        if token in peer.cancelled:
            self._settle(outer, now)
            if view.observe is None:
                del peer.cancelled[token]
                self._layer.release_token(peer, token)
            return
        exchange = peer.outgoing.by_token.get(token) if peer.outgoing is not None else None
        if exchange is not None and not self._is_notification(peer, exchange.action.observe, token, view):
            self._settle(outer, now)
            self._requests.answered(exchange, inner, view, now)
            return
        if outer is None:
            self._layer.refuse(peer.id, "mismatch", "a notification in an acknowledgement")
            return
        inbound = inner.inbound = OpenedInbound(peer, inner, outer)
        inbound.request, inbound.sender_number = request, number
        self._observing.receive(peer, inbound, inner, now)

    def _is_notification(self, peer: ContextPeer, asked: int | None, token: bytes, view: OptionView) -> bool:
        """RFC 7641 §3.6: what comes with Observe while a relation is cancelled is its last notification."""
        return asked == 1 and view.observe is not None and peer.relations is not None and token in peer.relations

    def _settle(self, outer: Inbound | None, now: float) -> None:
        if outer is not None:
            self._carriers.acknowledge(outer)
            self._carriers.answers.decided(outer, now)

    def _pass_over(self, carrier: Peer, outer: Inbound | None, detail: str) -> None:
        """RFC 8613 8.4: as if it had never come. The true answer may still come."""
        self._layer.refuse(carrier.id, "oscore_response", detail)
        if outer is not None:
            self._carriers.answers.forget(outer)

    def _receive_unprotected(
        self, carrier: Peer, peer: ContextPeer, outer: Inbound | None, message: Message, now: float
    ) -> None:
        """The other end could not read our request, or somebody says so."""
        exchange = peer.outgoing.by_token.get(message.token) if peer.outgoing is not None else None
        if exchange is None or message.code < codes.BAD_REQUEST:
            self._pass_over(carrier, outer, "it is not protected")
            return
        self._settle(outer, now)
        text = message.payload[:_LONGEST_TEXT].decode(errors="replace")
        # Whoever says this need not be the device, and people read it.
        shown = "".join(each if each.isprintable() else " " for each in text)
        self._requests.fail(exchange, "unprotected", f"{codes.dotted(message.code)} {shown}".strip(), now)

    # --- we lost our state ---------------------------------------------------------------------------------------

    def _answering_keys(self, context: Context, request: SentRequest, option: OscoreOption) -> Keys:
        """Which keys an answer is protected with: those of its request, unless it names our part of a new context."""
        recovery = context.recovery
        r2 = decode_bytes(option.kid_context) if option.kid_context else None
        if not recovery.starts or recovery.r3 or not is_sound(r2):
            return request.keys
        assert r2 is not None
        return Keys(context.material, recovery.answer_context(r2))

    def _go_on_agreeing(
        self, peer: ContextPeer, outer: Inbound | None, message: Message, option: OscoreOption, now: float
    ) -> None:
        """The other end has answered with its R2: say our request again, under what both have drawn."""
        context = peer.context
        r2 = decode_bytes(option.kid_context or b"")
        assert r2 is not None
        # Nothing under our new random value is old.
        context.adopt_keys(Keys(context.material, context.recovery.agree(r2, self._layer.entropy)), -1)
        self._settle(outer, now)
        for exchange in list(peer.outgoing.by_token.values()) if peer.outgoing is not None else ():
            # With NSTART above 1 others were asked under R1 as well.
            self._requests.again(exchange, now)

    def _finish_agreeing(self, context: Context) -> None:
        if context.recovery.starts and context.recovery.r3:
            context.recovery.starts = False
            peer = next(iter(context.peers.values()))
            self._layer.events.append(ContextRederived(context.number, peer.id, context.keys.id_context))

    # --- observations of before a restart ------------------------------------------------------------------------

    def adopt_observation(self, action: actions.AdoptObservation, now: float) -> None:
        """Know an observation of before a restart; a notification that waits for it is read."""
        stranger = self.take_stranger(action.exchange)
        peer = self._contexts.find(action.peer)
        window = peer.context.window if peer is not None else None
        if peer is not None and window is not None and action.binding:
            self._observing.adopt(replace(action, exchange=None), peer, now)
            keys = peer.context.keys
            carrier = self._layer.carrier_of(peer, now)
            if carrier is not None and action.token not in peer.sent_requests:
                request = SentRequest(keys, bind(keys, keys.sender_id, action.binding), True)
                # Its first answer came to an earlier run, and so may all have that are older than what is known to be
                # fresh (RFC 8613 §7.5).
                request.is_answered = True
                request.newest = window.first
                self._layer.remember(peer, carrier, action.token, request)
        else:
            self._layer.refuse(action.peer, *self._layer.absence)
        if stranger is not None:
            outer, message = stranger
            if peer is not None and action.token in peer.sent_requests and outer.message is not None:
                self._receive_response(outer.peer, peer, outer, message, now)
            else:
                self._carriers.reject(outer, now)


def _number_of(option: OscoreOption) -> int:
    return int.from_bytes(option.piv or b"", "big")
