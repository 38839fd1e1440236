"""The exchange layer of contexts, beside that of addresses: who reads protected messages, and what becomes of them.

The engine of an endpoint hands over what carries the OSCORE option (`receive_request`, `receive_response`), and wishes
that are about contexts (`takes`, `submit`). Everything a protected request can fail by is answered as RFC 8613 §8.2
says; what cannot be verified of a response is as if it had never come (§8.4).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from stellwerk.coap import actions, codes
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.engine import ExchangeEngine
from stellwerk.coap.events import (
    ConnectionLost,
    ContextMoved,
    ContextQuestion,
    ContextRederived,
    RequestQuestion,
    TokenQuestion,
)
from stellwerk.coap.layer import MessageLayer
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.observe import cancellation_options
from stellwerk.coap.options import ECHO, OptionView
from stellwerk.coap.oscore.context import Keys, Unverified, decode_bytes, encode_bytes, refusal_of
from stellwerk.coap.oscore.contexts import Context, ContextPeer, SentRequest
from stellwerk.coap.oscore.layer import GuardedOwner, OpenedInbound, OpenedMessage, OscoreLayer
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.option import BrokenOption, OscoreOption, decode_option
from stellwerk.coap.oscore.protection import Opened, bind, open_request, open_response, seal_response
from stellwerk.coap.oscore.questions import Arrival, ContextQuestions
from stellwerk.coap.oscore.recovery import is_sound
from stellwerk.coap.oscore.replay import ReplayWindow
from stellwerk.coap.peers import Peer
from stellwerk.coap.reliability import Transmission
from stellwerk.coap.serving import Resume, Serving
from stellwerk.core.ids import PeerId

_CANDIDATES: Final = 4
"""Contexts whose other ends have the same ID, of which one message may try the keys."""
_CANCELLED_REMEMBERED: Final = 64
_BY_EXCHANGE: Final = (
    actions.Respond,
    actions.AcceptNotification,
    actions.Proceed,
    actions.Recall,
    actions.Drop,
    actions.RejectToken,
    actions.RejectRequest,
)
_BY_HANDLE: Final = (actions.CancelRequest, actions.HoldRequest, actions.RepeatRequest)
_ABOUT_CONTEXTS: Final = (
    actions.GiveContext,
    actions.NoContext,
    actions.ContextStored,
    actions.AdoptContext,
    actions.DropContext,
)


class _Nobody:
    """The owner of a cancellation: whatever becomes of it, the observation is forgotten."""

    def acknowledged(self, now: float) -> None:
        """It arrived."""

    def reset(self, now: float) -> None:
        """There is no such observation."""

    def unacknowledged(self, now: float) -> None:
        """Its connection will end."""

    def refused(self, bound: str, now: float) -> None:
        """What still comes is passed over."""


_NOBODY: Final = _Nobody()


class ProtectedExchanges(ExchangeEngine):
    """Exchanges under OSCORE on ``base``, the message layer of an engine. ``plain`` serves its unprotected requests,
    and answers those that cannot be read."""

    def __init__(
        self,
        base: MessageLayer,
        plain: Serving,
        body_bytes_by_path: Mapping[tuple[str, ...], int] | None,
        contexts: int,
    ) -> None:
        layer = OscoreLayer(base, contexts)
        super().__init__(layer, body_bytes_by_path)
        layer.freshness = self._serving.freshness
        self._layer = layer
        self._contexts = layer.peers
        self._carriers = base
        self._plain = plain
        self._asked = ContextQuestions(base.timers, base.limits.questions_total, self._unanswered)
        self._strangers: dict[int, tuple[Inbound, Message]] = {}

    # --- wishes --------------------------------------------------------------------------------------------------

    def takes(self, action: actions.Action) -> bool:
        """Whether ``action`` is about something here."""
        if isinstance(action, _BY_EXCHANGE):
            return action.exchange < 0
        if isinstance(action, _BY_HANDLE):
            return self._requests.knows(action.handle)
        if isinstance(action, _ABOUT_CONTEXTS):
            return True
        if isinstance(action, actions.MovePeer):
            return action.old.is_context
        return action.peer.is_context

    def submit(self, action: actions.Action, now: float) -> None:
        """As `ExchangeEngine.submit`, and what concerns contexts."""
        if isinstance(action, actions.GiveContext):
            self._give(action, now)
        elif isinstance(action, actions.NoContext):
            for arrival in self._asked.take(action.question):
                self._refuse_unknown(arrival, now)
        elif isinstance(action, actions.ContextStored):
            context = self._contexts.by_number(action.number)
            if context is not None:
                context.ceiling = max(context.ceiling, action.ceiling)
        elif isinstance(action, actions.AdoptContext):
            self._adopt(action, now)
        elif isinstance(action, actions.DropContext):
            context = self._contexts.by_number(action.number)
            if context is not None:
                self._remove(context, "the context was dropped", now)
        elif isinstance(action, actions.AdoptObservation):
            self._adopt_observation(action, now)
        elif isinstance(action, actions.RejectToken) and action.exchange in self._strangers:
            self._carriers.reject(self._strangers.pop(action.exchange)[0], now)
        else:
            super().submit(action, now)

    def _move(self, action: actions.MovePeer, now: float) -> None:
        """A context moves by being heard."""

    def _forget_observation(self, peer: Peer, token: bytes, now: float) -> None:
        """Over a stream there is no RST to the next notification: there the peer is told (RFC 8323 §7)."""
        assert isinstance(peer, ContextPeer)
        relation = (peer.relations or {}).get(token)
        super()._forget_observation(peer, token, now)
        if self._layer.ordered and relation is not None and relation.request is not None:
            peer.cancelled[token] = None
            if len(peer.cancelled) > _CANCELLED_REMEMBERED:
                del peer.cancelled[next(iter(peer.cancelled))]
            request = relation.request
            options = encode_options(cancellation_options(request))
            self._layer.send_confirmable(peer, request.code, token, options, request.payload, _NOBODY, now)
        elif not peer.is_live(token):
            self._layer.forget_token(peer, self._layer.carrier_of(peer, now), token)

    def abandon(self, number: int) -> None:
        """The message ``number`` of the layer below needs no decision any more."""
        self._strangers.pop(-number, None)
        self._drop(-number)

    # --- contexts in and out -------------------------------------------------------------------------------------

    def _give(self, action: actions.GiveContext, now: float) -> None:
        arrivals = self._asked.take(action.question)
        if not arrivals:
            return
        context = self._know(action.material, arrivals[0].outer.peer.id, now)
        for arrival in arrivals:
            outer = arrival.outer
            if outer.message is None or not self._carriers.answers.holds(outer):
                continue
            if context is None or context.keys.recipient_id != arrival.option.kid:
                self._refuse_unknown(arrival, now)
            else:
                self._receive(context, arrival, now)

    def _know(self, material: ContextMaterial, asker: PeerId, now: float) -> Context | None:
        context = self._contexts.by_number(material.number)
        if context is not None and context.material.master_secret == material.master_secret:
            # Asked for by two of its messages; its window must not begin anew.
            return context
        refusal = refusal_of(material)
        if refusal is not None:
            self._layer.refuse(asker, "oscore_material", refusal)
            return None
        if context is not None:
            self._remove(context, "the context was replaced", now)
        context = Context(material, self._layer.entropy)
        if not self._contexts.add(context):
            self._layer.refuse(asker, "contexts_total", "too many OSCORE contexts")
            return None
        return context

    def _adopt(self, action: actions.AdoptContext, now: float) -> None:
        context = self._know(action.material, action.carrier, now)
        if context is None:
            return
        if action.rederive:
            context.keys = Keys(context.material, context.recovery.start(self._layer.entropy))
        peer = self._contexts.peer_of(context, action.carrier.transport, now)
        if peer.carrier is None:
            self._contexts.move(peer, action.carrier)
        self._layer.look_ahead(context)

    def _remove(self, context: Context, detail: str, now: float) -> None:
        for peer in context.peers.values():
            self._end_all(peer, detail, now)
            self._forget_tokens(peer)
        self._contexts.remove(context)

    def _end_all(self, peer: ContextPeer, detail: str, now: float) -> None:
        """What was asked over ``peer`` comes to nothing."""
        self._requests.lose_all(peer, detail, now)
        self._bodies.discard_all(peer)
        self._observing.forget_all(peer, now)
        peer.observed = peer.notified = None
        peer.observers.clear()

    def _forget_tokens(self, peer: ContextPeer) -> None:
        carrier = self._carriers.peers.find(peer.carrier) if peer.carrier is not None else None
        for token in list(peer.sent_requests):
            self._layer.forget_token(peer, carrier, token)

    def lose_carrier(self, id: PeerId, reason: str, detail: str, now: float) -> None:
        """The connection or session ``id`` is no more."""
        for peer in list(self._contexts.at(id)):
            self._end_all(peer, detail, now)
            self._forget_tokens(peer)
            self._contexts.move(peer, None)
            if self._layer.ordered:
                self._layer.events.append(ConnectionLost(peer.id, reason, detail))

    # --- requests ------------------------------------------------------------------------------------------------

    def receive_request(self, inbound: Inbound, payload: bytes, now: float) -> None:
        """A request with the OSCORE option came, as ``inbound`` in the layer below."""
        view = inbound.view
        assert view is not None
        assert view.oscore is not None
        try:
            option = decode_option(view.oscore)
        except BrokenOption as error:
            self._refuse(inbound, codes.BAD_OPTION, f"OSCORE: {error.rule}", "oscore_option", now)
            return
        if option.kid is None or option.piv is None or not payload:
            self._refuse(
                inbound, codes.BAD_OPTION, "OSCORE: a request has kid, Partial IV and payload", "oscore_option", now
            )
            return
        arrival = Arrival(inbound, option, payload)
        candidates = self._contexts.candidates(option.kid, option.kid_context, inbound.peer.id, _CANDIDATES)
        if candidates:
            for context in candidates[:-1]:
                if self._verifies(context, arrival):
                    self._receive(context, arrival, now)
                    return
            self._receive(candidates[-1], arrival, now)
            return
        asked = self._asked.ask(arrival, inbound.peer.id, now)
        if asked is None:
            # Dropped without a trace: it comes again.
            self._carriers.answers.forget(inbound)
            self._layer.refuse(inbound.peer.id, "questions_total", "too many open questions")
            return
        self._carriers.expect_answer(inbound, now)
        if asked[1]:
            self._layer.events.append(ContextQuestion(asked[0], inbound.peer.id, option.kid, option.kid_context))

    def _verifies(self, context: Context, arrival: Arrival) -> bool:
        try:
            open_request(context.keys, arrival.option, (), arrival.payload)
        except Unverified:
            return False
        return True

    def _refuse(
        self, outer: Inbound, code: int, text: str, reason: str, now: float, context: Context | None = None
    ) -> None:
        self._plain.refuse_protected(outer, code, text, reason, now, 0 if context is None else context.number)

    def _refuse_unknown(self, arrival: Arrival, now: float) -> None:
        if arrival.outer.message is not None and self._carriers.answers.holds(arrival.outer):
            self._refuse(arrival.outer, codes.UNAUTHORIZED, "Security context not found", "oscore_context", now)

    def _unanswered(self, arrival: Arrival) -> None:
        outer = arrival.outer
        if outer.message is not None:
            self._layer.refuse(outer.peer.id, "oscore_question", "nobody said which context it is")
            self._carriers.answers.forget(outer)

    def _receive(self, context: Context, arrival: Arrival, now: float) -> None:
        """Read a request of ``context``."""
        named, keys = arrival.option.kid_context, context.keys
        if named is None or named == keys.id_context or decode_bytes(named) == keys.id_context:
            self._receive_under(context, arrival, now)
        else:
            self._receive_renamed(context, decode_bytes(named), arrival, now)

    def _receive_under(self, context: Context, arrival: Arrival, now: float) -> None:
        """Read a request under the keys that the context has."""
        outer = arrival.outer
        number = _number_of(arrival.option)
        window = context.window
        is_replay = window is not None and not window.is_new(number)
        # What an earlier answer is stored of may be answered from there, though its number came.
        if is_replay and not self._carriers.may_be_old(outer, now):
            self._refuse(outer, codes.UNAUTHORIZED, "Replay detected", "oscore_replay", now, context)
            return
        inbound = self._open(context, context.keys, arrival, now)
        if inbound is None:
            return
        is_fresh = self._repeats_echo(inbound, now)
        if is_replay:
            inbound.needs_number = True
            self._ask_if_old(inbound, self._refuse_replay, now)
        elif window is not None:
            window.take(number)
            inbound.has_taken = True
            self._serve(context, inbound, now)
        elif is_fresh:
            # App. B.1.2: it was made after we asked, so whatever is older may be a replay and this is not.
            context.window = ReplayWindow(number)
            inbound.has_taken = True
            self._serve(context, inbound, now)
        else:
            # It may have been answered before a restart, with its own nonce.
            inbound.needs_number = True
            if self._carriers.may_be_old(outer, now):
                self._ask_if_old(inbound, self._challenge, now)
            else:
                self._challenge(inbound, now)

    def _repeats_echo(self, inbound: OpenedInbound, now: float) -> bool:
        """Whether it has an Echo that we gave this context there a moment ago: it is new, and its address proven."""
        view = inbound.view
        assert view is not None
        if view.echo is None or not self._serving.freshness.is_fresh(inbound.address, view.echo, now):
            return False
        self._carriers.verify(inbound.outer.peer)
        return True

    def _open(self, context: Context, keys: Keys, arrival: Arrival, now: float) -> OpenedInbound | None:
        """What ``arrival`` holds; None if it does not verify, which is answered."""
        outer = arrival.outer
        assert outer.message is not None
        try:
            opened, binding = open_request(keys, arrival.option, outer.message.options, arrival.payload)
        except Unverified:
            self._refuse(outer, codes.BAD_REQUEST, "Decryption failed", "oscore_decryption", now, context)
            return None
        peer = self._contexts.peer_of(context, outer.peer.id.transport, now)
        message = OpenedMessage(
            outer.message.type, opened.code, outer.message.mid, outer.message.token, opened.options, opened.payload
        )
        inbound = message.inbound = OpenedInbound(peer, message, outer)
        inbound.keys, inbound.binding = keys, binding
        inbound.sender_number = _number_of(arrival.option)
        inbound.view = self._layer.read_options(message.options, False)
        return inbound

    def _serve(self, context: Context, inbound: OpenedInbound, now: float) -> None:
        """It is verified and fresh: what it asks for is done."""
        peer, message, number = inbound.peer, inbound.message, inbound.sender_number
        assert isinstance(peer, ContextPeer)
        assert isinstance(message, OpenedMessage)
        assert number is not None
        if number > context.newest:
            context.newest = number
            self._hear(peer, inbound.outer.peer, now)
        self._layer.look_ahead(context)
        self._serving.receive(peer, message, b"", now)

    def _hear(self, peer: ContextPeer, there: Peer, now: float) -> None:
        """The newest message of ``peer`` came from ``there``: requests and notifications go there from now on."""
        before = peer.carrier
        if before == there.id:
            return
        old = self._carriers.peers.find(before) if before is not None else None
        self._contexts.move(peer, there.id)
        # Somebody on the way may have sent it on from elsewhere.
        there.unproven = not there.verified
        if peer.sent_requests and there.guarded is None:
            there.guarded = {}
        for token in peer.sent_requests:
            assert there.guarded is not None
            there.guarded[token] = peer
            if old is not None and old.guarded is not None:
                old.guarded.pop(token, None)
        if old is not None and not old.guarded:
            old.guarded = None
        if peer.outgoing is not None:
            for exchange in peer.outgoing.by_token.values():
                if isinstance(exchange.sending, Transmission):
                    exchange.sending.redirect(there)
                    self._carriers.send_paid(exchange.sending, now)
        self._layer.events.append(ContextMoved(peer.context.number, peer.id, there.id))

    def _ask_if_old(self, inbound: OpenedInbound, resume: Resume, now: float) -> None:
        if self._questions.hold(inbound, resume):
            self._layer.expect_answer(inbound, now)
            self._layer.events.append(RequestQuestion(inbound.number, inbound.peer.id, inbound.receipt))

    def _refuse_replay(self, inbound: Inbound, now: float) -> None:
        assert isinstance(inbound, OpenedInbound)
        self._refuse(inbound.outer, codes.UNAUTHORIZED, "Replay detected", "oscore_replay", now)

    def _challenge(self, inbound: Inbound, now: float) -> None:
        """Nothing is known to be fresh yet: ask for the request once more, with an Echo (App. B.1.2, RFC 9175 §2.3)."""
        echo = self._serving.freshness.value(inbound.address, now)
        self._layer.answer(inbound, codes.UNAUTHORIZED, encode_options(((ECHO, echo),)), b"", now)

    # --- another ID Context (App. B.2) ---------------------------------------------------------------------------

    def _receive_renamed(self, context: Context, named: bytes | None, arrival: Arrival, now: float) -> None:
        """A request under another ID Context than the one we have: its sender has lost its state, or did so before
        we did."""
        recovery, outer = context.recovery, arrival.outer
        if named is None or not is_sound(named) or recovery.starts:
            self._refuse_unknown(arrival, now)
            return
        is_offered = recovery.is_offered(named)
        if not is_offered and recovery.is_ours(named) and context.window is not None:
            # It was agreed on before what we have now.
            self._refuse(outer, codes.UNAUTHORIZED, "Replay detected", "oscore_replay", now, context)
            return
        keys = Keys(context.material, named)
        inbound = self._open(context, keys, arrival, now)
        if inbound is None:
            return
        if is_offered:
            # Nothing under our new random value is old.
            recovery.offered = None
            self._agree(context, keys, -1, inbound, now)
        elif recovery.is_ours(named):
            # Agreed on before a restart of ours: only that this is fresh is still to be shown.
            if self._repeats_echo(inbound, now):
                assert inbound.sender_number is not None
                self._agree(context, keys, inbound.sender_number - 1, inbound, now)
            else:
                inbound.needs_number = True
                self._challenge(inbound, now)
        else:
            self._offer(context, named, inbound, now)

    def _offer(self, context: Context, named: bytes, inbound: OpenedInbound, now: float) -> None:
        """The first request of somebody who lost its state: answer with our R2."""
        number = self._layer.take_number(context)
        message, outer = inbound.message, inbound.outer
        assert message is not None
        assert inbound.binding is not None
        if number is None:
            self._layer.refuse(inbound.peer.id, "oscore_numbers", "no sender number is stored as used")
            self._carriers.answers.forget(outer)
            return
        r2 = context.recovery.offer(self._layer.entropy)
        keys = Keys(context.material, r2 + named)
        sealed = seal_response(keys, inbound.binding, number, codes.UNAUTHORIZED, (), b"", encode_bytes(r2))
        self._layer.send_answer(outer, sealed, now)

    def _agree(self, context: Context, keys: Keys, newest: int, inbound: OpenedInbound, now: float) -> None:
        """``keys`` are those of both ends now, as ``inbound`` shows, and numbers up to ``newest`` may be old: what hung
        on other keys has come to an end."""
        for peer in context.peers.values():
            self._end_all(peer, "the other end lost its OSCORE context", now)
            self._forget_tokens(peer)
        context.adopt_keys(keys, newest)
        assert context.window is not None
        assert inbound.sender_number is not None
        context.window.take(inbound.sender_number)
        inbound.has_taken = True
        self._layer.events.append(ContextRederived(context.number, inbound.peer.id, keys.id_context))
        self._serve(context, inbound, now)

    # --- responses -----------------------------------------------------------------------------------------------

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
            self._carriers.verify(carrier)
            if not request.is_new(number):
                self._settle(outer, now)
                self._layer.refuse(peer.id, "stale", f"protected response {number} after {request.newest}")
                return
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
                self._layer.forget_token(peer, self._layer.carrier_of(peer, now), token)
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
        text = message.payload.decode(errors="replace")[:64]
        self._requests.fail(exchange, "unprotected", f"{codes.dotted(message.code)} {text}".strip(), now)

    def receive_reset(self, carrier: Peer, mid: int) -> None:
        """A RST from ``carrier``: perhaps for a non-confirmable notification of ours."""
        for peer in self._contexts.at(carrier.id):
            self._serving.reset(peer, mid)

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

    def _adopt_observation(self, action: actions.AdoptObservation, now: float) -> None:
        stranger = self._strangers.pop(action.exchange, None) if action.exchange is not None else None
        peer = self._contexts.find(action.peer)
        if peer is not None and action.binding:
            self._observing.adopt(replace(action, exchange=None), peer, now)
            keys = peer.context.keys
            carrier = self._layer.carrier_of(peer, now)
            if carrier is not None and action.token not in peer.sent_requests:
                request = SentRequest(keys, bind(keys, keys.sender_id, action.binding), True)
                # Its first answer came to an earlier run.
                request.is_answered = True
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
