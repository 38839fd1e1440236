"""The server role of the exchange layer: requests that arrive, and their answers (RFC 7252 §5; contract §1.1, MSG-5).

A request that breaks the rules for options is answered here; one that may be old is asked about; blocks are collected;
what remains reaches the outside once, whole, as `events.RequestReceived`.
"""

from collections.abc import Callable
from typing import Protocol

from stellwerk.coap import codes
from stellwerk.coap.actions import Recall, Respond, SendNotification
from stellwerk.coap.blockwise import Bodies, BodyKey, Verdict, answer_key
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import (
    NotificationAcked,
    NotificationRejected,
    Refused,
    RequestQuestion,
    RequestReceived,
)
from stellwerk.coap.freshness import Freshness
from stellwerk.coap.layer import USUAL_ANSWER, MessageLayer
from stellwerk.coap.message import Message, Options, encode_options
from stellwerk.coap.options import (
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    ECHO,
    LOCATION_PATH,
    MAX_AGE,
    OBSERVE,
    OUTSIDE,
    RULES,
    encode_block,
    encode_uint,
    sort_options,
    text_options,
)
from stellwerk.coap.peers import Peer

_OBSERVERS_PER_PEER = 64
_NOTIFIED_PER_PEER = 16
# Header, token and options up to here are worth remembering: they repeat (a Register does not), and cannot fill the
# memory.
_SHORT_BYTES = 48
_INSIDE = RULES.keys() - OUTSIDE - {BLOCK1, BLOCK2}
"""Options that mean nothing around a protected message."""

Resume = Callable[[Inbound, float], None]


class Questions:
    """Messages that wait for an answer from outside before they can be treated, bounded over all peers."""

    def __init__(self, layer: MessageLayer) -> None:
        self._layer = layer
        self._waiting: dict[int, tuple[Inbound, Resume]] = {}

    def hold(self, inbound: Inbound, resume: Resume) -> bool:
        """Keep ``inbound`` until its answer; False, and it is dropped, when too many wait."""
        if len(self._waiting) >= self._layer.limits.questions_total:
            # Dropped without a trace: the peer repeats it, and then there may be room.
            self._layer.answers.forget(inbound)
            self._layer.refuse(inbound.peer.id, "questions_total", "too many open questions")
            return False
        self._waiting[inbound.number] = (inbound, resume)
        return True

    def take(self, exchange: int) -> tuple[Inbound, Resume] | None:
        """The message with the number ``exchange``, which waits no longer; None if it does not wait."""
        return self._waiting.pop(exchange, None)


class SentNotification:
    """The owner of a confirmable notification of ours."""

    def __init__(self, layer: MessageLayer, peer: Peer, action: SendNotification) -> None:
        self._layer = layer
        self._peer = peer
        self._action = action

    def acknowledged(self, now: float) -> None:
        """The observer has it."""
        self._layer.events.append(NotificationAcked(self._action.handle, self._peer.id, self._action.token))

    def reset(self, now: float) -> None:
        """The observer does not want it."""
        self._lost("reset")

    def unacknowledged(self, now: float) -> None:
        """The observer is gone."""
        self._lost("timeout")

    def refused(self, bound: str, now: float) -> None:
        """It could not be sent."""
        self._lost("refused")

    def _lost(self, reason: str) -> None:
        if self._peer.observed is not None:
            self._peer.observed.pop(self._action.token, None)
        self._layer.events.append(NotificationRejected(self._action.handle, self._peer.id, self._action.token, reason))


class Guard(Protocol):
    """Who reads protected requests."""

    def receive_request(self, inbound: Inbound, payload: bytes, now: float) -> None:
        """One came, whose options outside are understood and whose body is whole."""
        ...


class Serving:
    """Requests from all peers."""

    def __init__(self, layer: MessageLayer, questions: Questions, bodies: Bodies) -> None:
        self._layer = layer
        self._questions = questions
        self._bodies = bodies
        self._open: dict[int, Inbound] = {}
        self.freshness = Freshness(layer.entropy)
        self.guard: Guard | None = None
        """Who reads protected requests; None where they are not spoken."""

    # --- requests ------------------------------------------------------------------------------------------------

    def receive(self, peer: Peer, message: Message, datagram: bytes, now: float) -> None:
        """A CON or NON with a request code."""
        layer = self._layer
        inbound = layer.admit(peer, message, datagram, now)
        if inbound is None:
            return
        short = inbound.size - len(message.payload) <= _SHORT_BYTES
        view = inbound.view = layer.read_options(message.options, short)
        if view.refusal is not None:
            # Nothing that is not protected passes here: it costs the others nothing.
            if view.oscore is not None and self.guard is not None:
                if view.around is not None and (refusal := self._refusal_around(message.options)) is not None:
                    self._refuse_options(inbound, refusal, now)
                elif (payload := self._collect(inbound, now)) is not None:
                    self.guard.receive_request(inbound, payload, now)
            else:
                self._refuse_options(inbound, view.refusal, now)
            return
        if message.code > codes.IPATCH:
            self._refuse(inbound, codes.METHOD_NOT_ALLOWED, f"method {codes.dotted(message.code)} is unknown", now)
            return
        if view.echo is not None and not peer.verified and self.freshness.is_fresh(inbound.address, view.echo, now):
            layer.verify(peer)
        # Blocks before the last one have no effect that an earlier run could have had, so nobody is asked.
        has_effect = not (view.block1 is not None and view.block1.more) and not (
            view.block2 is not None and view.block2.number
        )
        if has_effect and layer.may_be_old(inbound, now):
            if self._questions.hold(inbound, self._proceed):
                layer.expect_answer(inbound, now)
                layer.events.append(RequestQuestion(inbound.number, peer.id, inbound.receipt))
            return
        self._proceed(inbound, now)

    def _proceed(self, inbound: Inbound, now: float) -> None:
        message, view, peer = inbound.message, inbound.view, inbound.peer
        assert message is not None
        assert view is not None
        payload = self._collect(inbound, now)
        if payload is None:
            return
        if view.block2 is not None and view.block2.number:
            part = self._bodies.next_block(peer, answer_key(message, view), view.block2, now)
            if part is not None:
                self._answer(inbound, part[0], part[1], part[2], now)
                return
            if message.code not in (codes.GET, codes.FETCH):
                # Only a safe method may run again for the rest of an answer that is not kept any more.
                self._refuse(inbound, codes.REQUEST_ENTITY_INCOMPLETE, "the answer is not kept any more", now)
                return
        self._open[inbound.number] = inbound
        self._layer.expect_answer(inbound, now)
        self._layer.events.append(
            RequestReceived(
                inbound.number,
                peer.id,
                message.code,
                view.path,
                view.query,
                view.content_format,
                view.accept,
                message.options,
                payload,
                inbound.receipt,
                inbound.confirmable,
                message.token,
                # Whoever has a connection has answered from its address.
                self._layer.ordered
                or (view.echo is not None and self.freshness.is_fresh(inbound.address, view.echo, now)),
            )
        )

    def _collect(self, inbound: Inbound, now: float) -> bytes | None:
        """The body of a request; None while blocks of it are missing, or when they do not fit, which is answered."""
        message, view = inbound.message, inbound.view
        assert message is not None
        assert view is not None
        if view.block1 is None:
            return message.payload
        outcome = self._bodies.collect(inbound.peer, message, view, view.block1, now)
        if not isinstance(outcome, Verdict):
            return outcome
        if codes.is_success(outcome.code):
            self._answer(inbound, outcome.code, outcome.options, b"", now)
        else:
            self._refuse(inbound, outcome.code, outcome.text, now, outcome.options)
        return None

    def _refusal_around(self, options: Options) -> tuple[int, str] | None:
        """RFC 8613 §8.2: around what is protected, options that belong inside say nothing."""
        return self._layer.read_options(tuple(each for each in options if each[0] not in _INSIDE), False).around

    def _refuse_options(self, inbound: Inbound, refusal: tuple[int, str], now: float) -> None:
        code, text = refusal
        if code == codes.BAD_OPTION and not inbound.confirmable:
            # RFC 7252 5.4.1: a NON is rejected without a word.
            self._layer.refuse(inbound.peer.id, codes.dotted(code), text)
            self._layer.reject(inbound, now)
        else:
            self._refuse(inbound, code, text, now)

    def _refuse(self, inbound: Inbound, code: int, text: str, now: float, options: Options = ()) -> None:
        self._layer.refuse(inbound.peer.id, codes.dotted(code), text)
        self._answer(inbound, code, options, text.encode(), now)

    def refuse_protected(
        self, inbound: Inbound, code: int, text: str, reason: str, now: float, context: int = 0, max_age_s: int = 0
    ) -> None:
        """A protected request cannot be read: say so unprotected, and to nobody who did not want an answer (RFC 8613
        §8.2). ``context``: the number of the one that it names; ``max_age_s``: when it may come again."""
        self._layer.events.append(Refused(inbound.peer.id, reason, text, context))
        if inbound.confirmable:
            # The same request may be served once its sender knows better.
            self._answer(inbound, code, ((MAX_AGE, encode_uint(max_age_s)),), text.encode(), now)
        else:
            self._layer.reject(inbound, now)

    # --- answers -------------------------------------------------------------------------------------------------

    def respond(self, action: Respond, now: float) -> None:
        """The answer from outside. One that comes for a request no longer open is ignored."""
        inbound = self._open.pop(action.exchange, None)
        if inbound is None:
            return
        options = action.options
        if action.ask_echo:
            options = sort_options([*options, (ECHO, self.freshness.value(inbound.address, now))])
        if action.location or action.content_format is not None:
            parts = [*options, *text_options(LOCATION_PATH, action.location)]
            if action.content_format is not None:
                parts.append((CONTENT_FORMAT, encode_uint(action.content_format)))
            options = sort_options(parts)
        view = inbound.view
        assert view is not None
        if action.payload or view.observe is not None or view.block1 is not None:
            self._complete(inbound, action.code, options, action.payload, now)
        else:
            self._answer(inbound, action.code, options, b"", now)

    def recall(self, inbound: Inbound, action: Recall, now: float) -> None:
        """The answer that was given before, again."""
        self._complete(inbound, action.code, tuple(text_options(LOCATION_PATH, action.location)), b"", now)

    def drop(self, exchange: int) -> bool:
        """Forget an open request without an answer; its next copy is new. False if it is not open."""
        inbound = self._open.pop(exchange, None)
        if inbound is None:
            return False
        self._layer.answers.forget(inbound)
        return True

    def reject(self, exchange: int, now: float) -> None:
        """Refuse an open request with RST, its duplicates too."""
        inbound = self._open.pop(exchange, None)
        if inbound is not None:
            self._layer.reject(inbound, now)

    def _complete(self, inbound: Inbound, code: int, options: Options, payload: bytes, now: float) -> None:
        message, view = inbound.message, inbound.view
        assert message is not None
        assert view is not None
        if view.observe is not None:
            self._note_observer(inbound, view.observe, code, options, answer_key(message, view))
        if payload and (view.block2 is not None or len(payload) > 16):
            code, options, payload = self._bodies.cut(
                inbound.peer, answer_key(message, view), code, options, payload, view.block2, now
            )
        if view.block1 is not None:
            # RFC 7959 2.3: the answer to the last block repeats its number and size.
            echo = encode_block(view.block1.number, False, view.block1.exponent)
            options = sort_options([*options, (BLOCK1, echo)])
        self._answer(inbound, code, options, payload, now)

    def _answer(self, inbound: Inbound, code: int, options: Options, payload: bytes, now: float) -> None:
        layer, peer = self._layer, inbound.peer
        encoded = encode_options(options) if options else b""
        if not peer.verified:
            assert inbound.message is not None
            token = inbound.message.token
            size = 5 + len(token) + len(encoded) + len(payload)
            # There is always room for a usual answer: nearly all pass without a closer look.
            if size > USUAL_ANSWER - 4 or size > layer.limits.amplification * inbound.size - 4:
                budget = layer.room_for_answer(inbound)
                if size > budget:
                    code, encoded, payload = self._cut_down(inbound, code, encoded, payload, budget, now)
            peer.credit -= 5 + len(token) + len(encoded) + len(payload)
        layer.answer(inbound, code, encoded, payload, now)

    # --- unverified peers ----------------------------------------------------------------------------------------

    def _cut_down(
        self, inbound: Inbound, code: int, options: bytes, payload: bytes, budget: int, now: float
    ) -> tuple[int, bytes, bytes]:
        """A truthful answer of at most ``budget`` bytes (design §7, contract §1.7)."""
        assert inbound.message is not None
        room = budget - 4 - len(inbound.message.token)
        if code >= codes.BAD_REQUEST:
            return code, options if len(options) <= room else b"", b""
        if not self._layer.limits.ask_echo:
            return codes.UNAUTHORIZED, b"", b""
        # RFC 9175 2.4: ask the peer to repeat its request with our Echo, which proves its address.
        echo = encode_options(((ECHO, self.freshness.value(inbound.address, now)),))
        return codes.UNAUTHORIZED, echo if len(echo) <= room else b"", b""

    # --- the observed side ---------------------------------------------------------------------------------------

    def _note_observer(self, inbound: Inbound, observe: int, code: int, options: Options, key: BodyKey) -> None:
        peer, message = inbound.peer, inbound.message
        assert message is not None
        stands = observe == 0 and codes.is_success(code) and any(number == OBSERVE for number, _ in options)
        if stands:
            if peer.observed is None:
                peer.observed = {}
            peer.observed.pop(message.token, None)
            while len(peer.observed) >= _OBSERVERS_PER_PEER:
                del peer.observed[next(iter(peer.observed))]
            peer.observed[message.token] = key
        elif peer.observed is not None:
            peer.observed.pop(message.token, None)

    def notify(self, action: SendNotification, peer: Peer, now: float) -> None:
        """Send a notification of ours; a large one starts with its first block (BLK-10)."""
        layer = self._layer
        parts: list[tuple[int, bytes]] = []
        if action.observe is not None:
            parts.append((OBSERVE, encode_uint(action.observe)))
        if action.content_format is not None:
            parts.append((CONTENT_FORMAT, encode_uint(action.content_format)))
        code, options, payload = action.code, sort_options(parts), action.payload
        key = peer.observed.get(action.token) if peer.observed is not None else None
        if payload:
            code, options, payload = self._bodies.cut(peer, key or (action.token,), code, options, payload, None, now)
        if not codes.is_success(code) and peer.observed is not None:
            peer.observed.pop(action.token, None)
        encoded = encode_options(options)
        if action.confirmable:
            owner = SentNotification(layer, peer, action)
            layer.send_confirmable(peer, code, action.token, encoded, payload, owner, now)
            return
        mid = layer.send_non_confirmable(peer, code, action.token, encoded, payload)
        if mid is None:
            return
        if peer.notified is None:
            peer.notified = {}
        peer.notified[mid] = (action.handle, action.token)
        if len(peer.notified) > _NOTIFIED_PER_PEER:
            del peer.notified[next(iter(peer.notified))]

    def reset(self, peer: Peer, mid: int) -> None:
        """A RST for one of our non-confirmable notifications: the observer does not want them."""
        known = peer.notified.pop(mid, None) if peer.notified is not None else None
        if known is None:
            return
        handle, token = known
        if peer.observed is not None:
            peer.observed.pop(token, None)
        self._layer.events.append(NotificationRejected(handle, peer.id, token, "reset"))
