"""Reading protected requests: which context, whether it is genuine and new, and what is said where it is not.

Everything a request can fail by is answered as RFC 8613 §8.2 says. The first one after a context came here is asked for
once more with an Echo (App. B.1.2), unless it comes under an ID Context with a fresh value of ours (App. B.2).
"""

from collections.abc import Callable
from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import ContextMoved, ContextQuestion, ContextRederived, RequestQuestion
from stellwerk.coap.message import encode_options
from stellwerk.coap.options import ECHO
from stellwerk.coap.oscore.context import Keys, Unverified, decode_bytes, encode_bytes
from stellwerk.coap.oscore.contexts import Context, ContextPeer
from stellwerk.coap.oscore.layer import OpenedInbound, OpenedMessage, OscoreLayer
from stellwerk.coap.oscore.option import BrokenOption, OscoreOption, decode_option
from stellwerk.coap.oscore.protection import open_request, seal_response
from stellwerk.coap.oscore.questions import Arrival, ContextQuestions
from stellwerk.coap.oscore.recovery import is_sound
from stellwerk.coap.oscore.replay import ReplayWindow
from stellwerk.coap.peers import Peer
from stellwerk.coap.reliability import Transmission
from stellwerk.coap.serving import Questions, Resume, Serving

_BUSY_S: Final = 5
_SHORT_BYTES: Final = 64
"""Beside the payload, of a protected message whose options are like those of others."""
_CANDIDATES: Final = 4
"""Contexts whose other ends have the same ID, of which one message may try the keys."""


class RequestReader:
    """Protected requests of one engine. ``plain`` answers those that cannot be read, ``serving`` serves the others.
    ``end_all``: what hangs on a context under its keys of before comes to nothing."""

    def __init__(
        self,
        layer: OscoreLayer,
        plain: Serving,
        serving: Serving,
        questions: Questions,
        end_all: Callable[[Context, str, float], None],
    ) -> None:
        self._layer = layer
        self._carriers = layer.base
        self._contexts = layer.peers
        self._plain = plain
        self._serving = serving
        self._questions = questions
        self._end_all = end_all
        self._asked = ContextQuestions(layer.timers, layer.limits.questions_total, self._unanswered)

    def take(self, question: int) -> list[Arrival]:
        """The requests that waited for ``question`` and still can be answered."""
        return [
            arrival
            for arrival in self._asked.take(question)
            if arrival.outer.message is not None and self._carriers.answers.holds(arrival.outer)
        ]

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
                    self.receive(context, arrival, now)
                    return
            self.receive(candidates[-1], arrival, now)
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

    def refuse_unknown(self, arrival: Arrival, now: float) -> None:
        """Say that there is no such context."""
        self._refuse(arrival.outer, codes.UNAUTHORIZED, "Security context not found", "oscore_context", now)

    def put_off(self, arrival: Arrival, now: float) -> None:
        """Say that nobody knows just now (RFC 8613 App. B.2.1)."""
        text = "no time to look for the security context"
        self._plain.refuse_protected(
            arrival.outer, codes.SERVICE_UNAVAILABLE, text, "oscore_busy", now, max_age_s=_BUSY_S
        )

    def _unanswered(self, arrival: Arrival) -> None:
        outer = arrival.outer
        if outer.message is not None:
            self._layer.refuse(outer.peer.id, "oscore_question", "nobody said which context it is")
            self._carriers.answers.forget(outer)

    def receive(self, context: Context, arrival: Arrival, now: float) -> None:
        """Read a request of ``context``."""
        named, keys = arrival.option.kid_context, context.keys
        if named is None or named == keys.id_context or decode_bytes(named) == keys.id_context:
            self._receive_under(context, arrival, now)
        else:
            is_known = context.recovery.is_ours(named) or context.recovery.is_offered(named)
            self._receive_renamed(context, named if is_known else decode_bytes(named), arrival, now)

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
            context.window = ReplayWindow(max(number, context.past(context.keys.id_context)))
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
        around = outer.message
        message = OpenedMessage(around.type, opened.code, around.mid, around.token, opened.options, opened.payload)
        inbound = message.inbound = OpenedInbound(peer, message, outer)
        inbound.keys, inbound.binding = keys, binding
        inbound.sender_number = _number_of(arrival.option)
        inbound.view = self._layer.read_options(opened.options, outer.size - len(opened.payload) <= _SHORT_BYTES)
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
        if peer.parameters is not None:
            there.parameters = peer.parameters
            if old is not None:
                old.parameters = None
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
        assert isinstance(inbound, OpenedInbound)
        assert isinstance(inbound.peer, ContextPeer)
        assert inbound.keys is not None
        assert inbound.sender_number is not None
        inbound.peer.context.challenge(inbound.keys.id_context, inbound.sender_number)
        echo = self._serving.freshness.value(inbound.address, now)
        self._layer.answer(inbound, codes.UNAUTHORIZED, encode_options(((ECHO, echo),)), b"", now)

    # --- another ID Context (App. B.2) ---------------------------------------------------------------------------

    def _receive_renamed(self, context: Context, named: bytes | None, arrival: Arrival, now: float) -> None:
        """A request under another ID Context than the one we have: its sender has lost its state, or did so before
        we did."""
        recovery, outer = context.recovery, arrival.outer
        if named is None or not is_sound(named) or recovery.starts:
            self.refuse_unknown(arrival, now)
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
            recovery.use()
            self._agree(context, keys, -1, inbound, now)
        elif recovery.is_ours(named):
            # Agreed on before a restart of ours: only that this is fresh is still to be shown.
            if self._repeats_echo(inbound, now):
                assert inbound.sender_number is not None
                self._agree(context, keys, max(inbound.sender_number - 1, context.past(named)), inbound, now)
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
        self._end_all(context, "the other end lost its OSCORE context", now)
        context.adopt_keys(keys, newest)
        assert context.window is not None
        assert inbound.sender_number is not None
        context.window.take(inbound.sender_number)
        inbound.has_taken = True
        self._layer.events.append(ContextRederived(context.number, inbound.peer.id, keys.id_context))
        self._serve(context, inbound, now)


def _number_of(option: OscoreOption) -> int:
    return int.from_bytes(option.piv or b"", "big")
