"""Observing resources of peers (RFC 7641; contract OB-1 to OB-9): relations, notifications, freshness.

A notification is acknowledged only when the outside has stored it. What no relation here knows - after a restart, or
because nobody wants it any more - is asked for.
"""

from typing import TYPE_CHECKING

from stellwerk.coap import codes
from stellwerk.coap.actions import AdoptObservation, SendRequest
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import NotificationReceived, ObservationLost, RequestQuestion, TokenQuestion
from stellwerk.coap.layer import MessageLayer
from stellwerk.coap.message import Message, Options
from stellwerk.coap.options import (
    ACCEPT,
    CONTENT_FORMAT,
    OBSERVE,
    URI_PATH,
    OptionView,
    encode_uint,
    sort_options,
    text_options,
)
from stellwerk.coap.peers import Peer

if TYPE_CHECKING:
    from stellwerk.coap.exchange import Exchange
    from stellwerk.coap.requests import Requests
    from stellwerk.coap.serving import Questions

_FRESH_AGAIN_S = 128.0
_HALF_RANGE = 1 << 23


class Relation:
    """One observation: notifications with ``token`` belong to ``handle``."""

    __slots__ = ("fetch", "first_answer", "handle", "request", "retry", "seen", "seen_at", "token")

    def __init__(self, handle: int, token: bytes, request: SendRequest | None) -> None:
        self.handle = handle
        self.token = token
        self.request = request
        self.seen: int | None = None
        """The newest Observe number so far, and when it came."""
        self.seen_at = 0.0
        self.retry = False
        """The newest notification was dropped unacknowledged: its repetition counts as fresh."""
        self.fetch: Exchange | None = None
        """The rest of a large notification under way."""
        self.first_answer: Exchange | None = None
        """The rest of the large answer that set the relation up, under way."""

    def is_fresh(self, number: int, now: float) -> bool:
        """RFC 7641 §3.4, with the 24-bit numbers of which only the order counts."""
        seen = self.seen
        if seen is None or now > self.seen_at + _FRESH_AGAIN_S:
            return True
        if number == seen:
            return self.retry
        if seen < number:
            return number - seen < _HALF_RANGE
        return seen - number > _HALF_RANGE


def cancellation_options(request: SendRequest) -> Options:
    """What ends the observation that ``request`` began: the same with Observe 1 (RFC 7641 §3.6)."""
    parts = [*text_options(URI_PATH, request.path), (OBSERVE, encode_uint(1))]
    if request.accept is not None:
        parts.append((ACCEPT, encode_uint(request.accept)))
    if request.content_format is not None:
        parts.append((CONTENT_FORMAT, encode_uint(request.content_format)))
    return sort_options(parts)


class Observing:
    """The relations with all peers."""

    def __init__(self, layer: MessageLayer, questions: "Questions", requests: "Requests") -> None:
        self._layer = layer
        self._questions = questions
        self._requests = requests
        self._open: dict[int, Inbound] = {}
        requests.observing = self

    # --- relations -----------------------------------------------------------------------------------------------

    def settle(self, exchange: "Exchange", code: int, view: OptionView, now: float) -> int | None:
        """The answer to a request with Observe came: the number of the relation that stands now, None for none."""
        peer, action = exchange.peer, exchange.action
        if action.observe == 0 and codes.is_success(code) and view.observe is not None:
            relation = Relation(action.handle, action.token, action)
            relation.seen, relation.seen_at = view.observe, now
            if view.block2 is not None and view.block2.more:
                relation.first_answer = exchange
            if peer.relations is None:
                peer.relations = {}
            peer.relations[action.token] = relation
            return view.observe
        relation_before = self._remove(peer, action.token)
        # OB-1: no Observe in the answer means no relation, and the end of one that stood.
        if relation_before is not None and action.observe == 0:
            self._lost(peer, relation_before, "not observed")
        return None

    def failed(self, exchange: "Exchange", reason: str) -> None:
        """A request with Observe ended without an answer; RST says that the relation is gone."""
        relation = (exchange.peer.relations or {}).get(exchange.action.token)
        if relation is None:
            return
        if reason == "reset":
            self._remove(exchange.peer, exchange.action.token)
            self._lost(exchange.peer, relation, "reset")
        elif exchange.observe is not None:
            # It stood already, but the outside hears of a failure; so its next notification shall be asked about.
            self._remove(exchange.peer, exchange.action.token)

    def first_answer_ended(self, exchange: "Exchange") -> None:
        """The request that set up a relation is over, so no newer notification can become its answer."""
        relation = (exchange.peer.relations or {}).get(exchange.action.token)
        if relation is not None and relation.first_answer is exchange:
            relation.first_answer = None

    def adopt(self, action: AdoptObservation, peer: Peer, now: float) -> None:
        """Know a relation that an earlier run set up; a notification that waits for it goes on."""
        if peer.relations is None:
            peer.relations = {}
        if action.token not in peer.relations:
            peer.relations[action.token] = Relation(action.handle, action.token, action.request)
        if action.exchange is not None:
            held = self._questions.take(action.exchange)
            if held is not None:
                self._known(peer.relations[action.token], held[0], now)

    def forget(self, peer: Peer, token: bytes, now: float) -> None:
        """Drop a relation here; the peer learns of it by RST to its next notification."""
        relation = self._remove(peer, token)
        if relation is not None:
            self._abort(relation, now)

    def forget_all(self, peer: Peer, now: float) -> None:
        """Drop all relations with ``peer``."""
        for token in list(peer.relations or ()):
            self.forget(peer, token, now)

    def move_all(self, old: Peer, new: Peer) -> None:
        """All relations with ``old`` go on with ``new``."""
        relations, old.relations = old.relations, None
        if relations:
            new.relations = {**(new.relations or {}), **relations}

    def _remove(self, peer: Peer, token: bytes) -> Relation | None:
        if peer.relations is None:
            return None
        relation = peer.relations.pop(token, None)
        if not peer.relations:
            peer.relations = None
        self._layer.release_token(peer, token)
        return relation

    def _lost(self, peer: Peer, relation: Relation, reason: str) -> None:
        self._layer.events.append(ObservationLost(relation.handle, peer.id, relation.token, reason))

    # --- notifications -------------------------------------------------------------------------------------------

    def receive(self, peer: Peer, inbound: Inbound, message: Message, now: float) -> None:
        """A CON or NON response that answers no request of ours."""
        inbound.view = self._layer.read_options(message.options, False)
        relation = peer.relations.get(message.token) if peer.relations is not None else None
        if relation is not None:
            self._known(relation, inbound, now)
        elif self._questions.hold(inbound, self._reject):
            self._layer.events.append(TokenQuestion(inbound.number, peer.id, message.token))

    def _reject(self, inbound: Inbound, now: float) -> None:
        self._layer.reject(inbound, now)

    def _known(self, relation: Relation, inbound: Inbound, now: float) -> None:
        inbound.about = relation
        if self._layer.may_be_old(inbound, now):
            if self._questions.hold(inbound, self._proceed):
                self._layer.events.append(RequestQuestion(inbound.number, inbound.peer.id, inbound.receipt))
            return
        self._proceed(inbound, now)

    def _proceed(self, inbound: Inbound, now: float) -> None:
        layer, peer, relation, view = self._layer, inbound.peer, inbound.about, inbound.view
        message = inbound.message
        assert isinstance(relation, Relation)
        assert view is not None
        assert message is not None
        if view.unknown is not None or (view.refusal is not None and view.refusal[0] == codes.BAD_REQUEST):
            layer.reject(inbound, now)
            layer.refuse(peer.id, "malformed", view.unknown or "a block size that is reserved")
            return
        if view.observe is not None:
            if not layer.sorts_notifications and not relation.is_fresh(view.observe, now):
                self._settle(inbound, now)
                layer.refuse(peer.id, "stale", f"notification {view.observe} after {relation.seen}")
                return
            relation.seen, relation.seen_at, relation.retry = view.observe, now, False
        first_answer = relation.first_answer
        self._abort(relation, now)
        if first_answer is not None and codes.is_success(message.code):
            # BLK-10 while the first answer is still being fetched: the newer body becomes that answer.
            self._settle(inbound, now)
            self._requests.restart(first_answer, message, view, now)
            return
        if codes.is_success(message.code) and view.block2 is not None and view.block2.more:
            if relation.request is None:
                self._settle(inbound, now)
                layer.refuse(peer.id, "notification_incomplete", "blocks of an adopted observation without its request")
                return
            # The rest takes round trips; the peer should not take us for dead meanwhile.
            layer.expect_answer(inbound, now)
            relation.fetch = self._requests.fetch_rest(peer, relation.request, message, inbound, now)
            return
        self._deliver(inbound, message.payload)

    def _deliver(self, inbound: Inbound, payload: bytes) -> None:
        peer, relation, view, message = inbound.peer, inbound.about, inbound.view, inbound.message
        assert isinstance(relation, Relation)
        assert view is not None
        assert message is not None
        self._open[inbound.number] = inbound
        self._layer.events.append(
            NotificationReceived(
                inbound.number,
                relation.handle,
                peer.id,
                message.token,
                message.code,
                view.content_format,
                message.options,
                payload,
                view.observe,
                inbound.receipt,
                inbound.confirmable,
            )
        )
        # OB-4: an error ends the relation, and so does an answer that is no notification any more.
        ended = not codes.is_success(message.code) or view.observe is None
        if ended and self._remove(peer, message.token) is not None:
            self._lost(peer, relation, codes.dotted(message.code))

    def complete(self, inbound: Inbound, code: int, payload: bytes, now: float) -> None:
        """All blocks of a notification are here."""
        relation = inbound.about
        assert isinstance(relation, Relation)
        relation.fetch = None
        if not codes.is_success(code):
            self.incomplete(inbound, f"{codes.dotted(code)} to a further block", now)
            return
        if not self._layer.answers.holds(inbound):
            self._layer.refuse(inbound.peer.id, "superseded", "its sender has forgotten the notification")
            self._layer.answers.forget(inbound)
            return
        self._deliver(inbound, payload)

    def incomplete(self, inbound: Inbound, detail: str, now: float) -> None:
        """The rest of a notification cannot be had: what is lost is said, the relation stays."""
        relation = inbound.about
        assert isinstance(relation, Relation)
        relation.fetch = None
        self._layer.refuse(inbound.peer.id, "notification_incomplete", detail)
        self._settle(inbound, now)

    def accept(self, exchange: int, now: float) -> None:
        """The notification is stored: acknowledge it."""
        inbound = self._open.pop(exchange, None)
        if inbound is not None:
            self._settle(inbound, now)

    def recall(self, inbound: Inbound, now: float) -> None:
        """The notification was stored before: acknowledge it again."""
        self._settle(inbound, now)

    def drop(self, exchange: int) -> bool:
        """Leave a notification unacknowledged; its repetition is new. False if it is not open."""
        inbound = self._open.pop(exchange, None)
        if inbound is None:
            return False
        relation, view = inbound.about, inbound.view
        if isinstance(relation, Relation) and view is not None and relation.seen == view.observe:
            relation.retry = True
        self._layer.answers.forget(inbound)
        return True

    def _settle(self, inbound: Inbound, now: float) -> None:
        self._layer.acknowledge(inbound)
        self._layer.answers.decided(inbound, now)

    def _abort(self, relation: Relation, now: float) -> None:
        fetch, relation.fetch = relation.fetch, None
        relation.first_answer = None
        if fetch is None:
            return
        self._requests.abort(fetch, now)
        if fetch.notification is not None:
            self._layer.refuse(
                fetch.peer.id, "superseded", "a newer notification came while fetching the blocks of one"
            )
            self._settle(fetch.notification, now)
