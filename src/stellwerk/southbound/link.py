"""One CoAP engine's meaning: its events become calls of `app`, and `app`'s wishes become its actions."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, assert_never

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.changes import Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import Acknowledgement, DeviceAnswer
from stellwerk.app.handlers.observations import MovedWithoutUpdate, Observations
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.meters import LEFT, STORED, SUCCESSES, Meters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.tasks import Tasks
from stellwerk.app.uplinks import Uplinks
from stellwerk.coap import actions, codes, events
from stellwerk.coap.options import read_options
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Deregister, Notify, Operation, Register, Send, Update, Uplink
from stellwerk.lwm2m.status import Status
from stellwerk.southbound.conversation import NO_COMPOSITE_PATIENCE_S, Circumstances, Conversation, converse
from stellwerk.southbound.format_choice import Memory, formats_for
from stellwerk.southbound.translate_bootstrap import asked_elsewhere
from stellwerk.southbound.translate_down import Down, translate_down
from stellwerk.southbound.translate_up import coap_code, respond, status_of, translate_up

log = structlog.get_logger(__name__)

TOKEN_BYTES: Final = 8
_KINDS: Final[dict[type[Uplink], str]] = {
    Register: "register",
    Update: "update",
    Deregister: "deregister",
    Send: "send",
}

Event = events.Event
ContextEvent = events.ContextQuestion | events.ContextState | events.ContextMoved | events.ContextRederived
Submit = Callable[[actions.Action], None]


class Reacted(Protocol):
    def __call__(self, handle: int, at: Instant, *, delivered: bool, heard: bool = True) -> None: ...


class Finished(Protocol):
    def __call__(self, answer: DeviceAnswer, at: Instant) -> None: ...


class ConnectionLost(Protocol):
    def __call__(self, peer: PeerId, why: str, at: Instant) -> None: ...


class ContextEvents(Protocol):
    """Who hears of an engine's OSCORE contexts."""

    def take(self, event: ContextEvent, at: Instant) -> None: ...
    def refused(self, event: events.Refused, at: Instant) -> None:
        """Something in the name of a context led to nothing."""
        ...

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """A connection or session is no more, that contexts may have been heard over, or a context is nowhere."""
        ...

    def may_reach(self, peer: PeerId) -> bool:
        """Whether it is known where the device of a context is."""
        ...


@dataclass(slots=True)
class _Pending:
    """An operation on its way. ``peer``: where its device was last; ``about``: what the conversation found out."""

    registration: Registration
    peer: PeerId
    proven: bool
    token: bytes | None
    about: Circumstances
    talk: Conversation
    ack_timeout_s: float | None = None


class Link:
    """``submit`` reaches the engine (the driver's, or a test's). `connect` closes the circle with `app`."""

    def __init__(
        self,
        *,
        submit: Submit,
        store: DecidingStore,
        tasks: Tasks,
        entropy: Entropy,
        clock: Clock,
        brake: Brake,
        meters: Meters,
        reaches: Callable[[PeerId], bool] | None = None,
    ) -> None:
        """``reaches``: whether the engine has a connection to a peer; None where it needs none."""
        self.submit = self._submit = submit
        self._is_connected = reaches
        self._brake = brake
        self._meters = meters
        self._uplink_meters = {each: meters.uplinks[kind] for each, kind in _KINDS.items()}
        self._store = store
        self._tasks = tasks
        self._entropy = entropy
        self._clock = clock
        self._pending: dict[int, _Pending] = {}
        self._memory = Memory()
        self._uplinks: Uplinks
        self._observations: Observations
        self._finished: Finished
        self._reacted: Reacted
        self._connection_lost: ConnectionLost = _nobody
        self.oscore: ContextEvents | None = None
        """What the engine tells of OSCORE contexts; None where it speaks none."""
        self.refused: dict[str, int] = {}
        """Datagrams that led to nothing, by reason."""

    def connect(
        self,
        uplinks: Uplinks,
        observations: Observations,
        finished: Finished,
        reacted: Reacted,
        connection_lost: ConnectionLost | None = None,
    ) -> None:
        self._uplinks = uplinks
        self._observations = observations
        self._finished = finished
        self._reacted = reacted
        self._connection_lost = connection_lost or _nobody

    # -- down: the DeviceLink port --

    def draw_token(self) -> bytes:
        return self._entropy.take(TOKEN_BYTES)

    def choose_format(self, registration: Registration, operation: Operation) -> int:
        return formats_for(operation, registration, self._memory.of(registration.location))[0]

    def send(
        self,
        handle: int,
        registration: Registration,
        operation: Operation,
        token: bytes | None = None,
        ack_timeout_s: float | None = None,
    ) -> None:
        peer = registration.peer
        if (peer.is_session or peer.is_context) and not self.reaches(peer):
            # What is stored of it may be resumed; nothing that we send is to wake it.
            asyncio.get_running_loop().call_soon(self._refuse_unsent, handle, peer)
            return
        about = Circumstances(registration, self._memory, self._now_s)
        talk = converse(operation, about)
        self._pending[handle] = _Pending(
            registration, registration.peer, registration.proven, token, about, talk, ack_timeout_s
        )
        self._go_on(handle, None)

    def cancel(self, handle: int) -> None:
        self._submit(actions.CancelRequest(handle))

    def hold(self, handle: int) -> None:
        self._submit(actions.HoldRequest(handle))

    def repeat(self, handle: int) -> None:
        self._submit(actions.RepeatRequest(handle))

    def prove_peer(self, peer: PeerId) -> None:
        self._submit(actions.VerifyPeer(peer))

    def reaches(self, peer: PeerId) -> bool:
        if peer.is_context:
            return self.oscore is not None and self.oscore.may_reach(peer)
        return self._is_connected is None or self._is_connected(peer)

    def move_peer(self, old: PeerId, new: PeerId) -> None:
        self._submit(actions.MovePeer(old, new))

    def forget_peer(self, peer: PeerId) -> None:
        self._submit(actions.ForgetPeer(peer))

    def lose_peer(self, peer: PeerId, detail: str, *, unsent: bool = False) -> None:
        """The session that ``peer`` was is no more; ``unsent`` as in `coap.actions.LosePeer`."""
        self._submit(actions.LosePeer(peer, detail, unsent))

    def forget_observation(self, peer: PeerId, token: bytes) -> None:
        self._submit(actions.ForgetObservation(peer, token))

    def _now_s(self) -> float:
        return self._clock.wall_ms() / 1000

    def _go_on(self, handle: int, answer: DeviceAnswer | None) -> DeviceAnswer | None:
        """Send what the conversation asks next, given the answer to what it asked before; the answer that stands for
        the operation where it is over."""
        pending = self._pending[handle]
        try:
            down = next(pending.talk) if answer is None else pending.talk.send(answer)
        except StopIteration as end:
            final: DeviceAnswer = end.value
        except Exception as error:
            log.exception("conversation.failed", handle=handle)
            final = DeviceAnswer(handle, failure="refused", detail=f"internal error: {type(error).__name__}")
        else:
            self._transmit(handle, pending, down)
            return None
        final.handle = handle
        if answer is None:
            # Nothing was sent. Later, like every outcome: whoever called `send` has not returned yet.
            asyncio.get_running_loop().call_soon(self._end_unsent, handle, final)
            return None
        del self._pending[handle]
        self._write_down(pending)
        return final

    def _transmit(self, handle: int, pending: _Pending, down: Down) -> None:
        # The token names the relation, so only the request that sets it up or ends it has it.
        token = pending.token if down.observe is not None else None
        request = actions.SendRequest(
            handle,
            pending.peer,
            down.code,
            token or self.draw_token(),
            down.path,
            down.query,
            down.content_format,
            down.accept,
            down.observe,
            down.payload,
            once=not pending.proven,
            ack_timeout_s=pending.ack_timeout_s,
        )
        if down.code == codes.FETCH and pending.about.composites is None:
            request.patience_s = NO_COMPOSITE_PATIENCE_S
        self._submit(request)

    def _refuse_unsent(self, handle: int, peer: PeerId) -> None:
        detail = "the device was not heard yet" if peer.is_context else "the secure session has ended"
        answer = DeviceAnswer(handle, failure="unconnected", detail=detail)
        self._finished(answer, Instant(self._clock.now(), self._clock.wall_ms()))

    def _end_unsent(self, handle: int, final: DeviceAnswer) -> None:
        pending = self._pending.pop(handle, None)
        if pending is not None:
            self._write_down(pending)
            self._finished(final, Instant(self._clock.now(), self._clock.wall_ms()))

    def _write_down(self, pending: _Pending) -> None:
        """What the conversation found out, in the device's log."""
        if not pending.about.notes:
            return
        device_id, at_ms = pending.registration.device_id, self._clock.wall_ms()
        rows = [
            JournalEntry(Kind.LOG, device_id, at_ms, reason=event, detail=detail)
            for event, detail in pending.about.notes
        ]
        self._store.submit(Commit(rows, (), _log_failure, reserve=True))

    # -- up: events of the engine --

    def handle(self, batch: list[Event], at: Instant) -> None:
        """Take the events of one round of the driver. A mistake of ours with one of them does not touch the others."""
        for event in batch:
            try:
                self._handle_one(event, at)
            except Exception:
                log.exception("event.failed", event_type=type(event).__name__, peer=str(event.peer))
                if isinstance(event, events.RequestReceived):
                    self._submit(actions.Respond(event.exchange, codes.INTERNAL_SERVER_ERROR))
                elif isinstance(event, events.NotificationReceived | events.RequestQuestion | events.TokenQuestion):
                    # Forgotten, so that its repetition is not taken for a duplicate.
                    self._submit(actions.Drop(event.exchange))

    def _handle_one(self, event: Event, at: Instant) -> None:
        match event:
            case events.RequestReceived():
                self._request(event, at)
            case events.NotificationReceived():
                self._notification(event, at)
            case events.ResponseReceived():
                self._response(event, at)
            case events.RequestFailed():
                silent = event.detail == events.NO_ANSWER
                pending = self._pending.get(event.handle)
                if pending is not None:
                    # It may have moved since; what is asked instead goes there.
                    pending.peer = event.peer
                if event.reason == "unconnected" and event.peer.is_context and self.oscore is not None:
                    self.oscore.lost(event.peer, event.detail, at)
                answer = DeviceAnswer(event.handle, failure=event.reason, detail=event.detail, acknowledged=silent)
                self._answered(answer, at)
            case events.PeerReacted():
                self._reacted(event.handle, at, delivered=event.complete)
            case events.RequestQuestion():
                if self._store.may_recall(event.receipt):
                    self._question(f"recall {event.peer}", self._recall(event, at), event.exchange)
                else:
                    self._submit(actions.Proceed(event.exchange))
            case events.TokenQuestion():
                self._question(f"token {event.peer}", self._find_token(event), event.exchange)
            case events.ObservationLost():
                self._observations.lost(event.token, event.reason, at)
            case events.ConnectionLost():
                log.debug("connection.lost", peer=str(event.peer), reason=event.reason, detail=event.detail)
                if self.oscore is not None:
                    self.oscore.lost(event.peer, event.detail, at)
                if not event.peer.is_context:
                    self._connection_lost(event.peer, event.detail, at)
            case events.Refused():
                self._count(event.reason)
                log.debug("datagram.refused", peer=str(event.peer), reason=event.reason, detail=event.detail)
                if self.oscore is not None and event.context:
                    self.oscore.refused(event, at)
            case events.NotificationAcked() | events.NotificationRejected() | events.PeerProbed():
                pass
            case events.ContextQuestion() | events.ContextState() | events.ContextMoved() | events.ContextRederived():
                if self.oscore is not None:
                    self.oscore.take(event, at)
            case _:
                assert_never(event)

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _request(self, event: events.RequestReceived, at: Instant) -> None:
        exchange = event.exchange
        uplink = translate_up(event)
        if isinstance(uplink, int):
            self._count("path")
            path, detail = "/" + "/".join(event.path), asked_elsewhere(event.path)
            log.info("request.refused", peer=str(event.peer), code=codes.dotted(uplink), path=path, detail=detail)
            self._meters.uplinks["other"].answers[status_of(uplink)] += 1
            self._submit(actions.Respond(exchange, uplink))
            return
        meter = self._uplink_meters[type(uplink)]

        def answer(acknowledgement: Acknowledgement) -> None:
            status = acknowledgement.status
            if status < SUCCESSES and meter.at is not at:
                meter.arrived(at)
            meter.answers[status] += 1
            if status == Status.CHANGED:
                self._submit(actions.Respond(exchange, codes.CHANGED))
            else:
                self._submit(respond(exchange, acknowledgement))

        self._uplinks.receive(uplink, event.peer, event.receipt, at, answer, event.fresh)

    def _notification(self, event: events.NotificationReceived, at: Instant) -> None:
        if self._brake.level and self._brake.holds_notification(event.confirmable):
            self._drop_notification(event)
            return
        notify = Notify(event.token, status_of(event.code), event.content_format, event.payload)

        def accept(stored: bool) -> None:
            if stored:
                self._meters.notifications[_type(event), STORED] += 1
                self._submit(actions.AcceptNotification(event.exchange))
            else:
                self._drop_notification(event)

        self._observations.notified(notify, event.peer, event.receipt, at, accept)

    def _drop_notification(self, event: events.NotificationReceived) -> None:
        """As if it had not come: a confirmable one comes again, and is never reset, which would end the observation."""
        self._meters.notifications[_type(event), LEFT] += 1
        self._submit(actions.Drop(event.exchange))

    def _response(self, event: events.ResponseReceived, at: Instant) -> None:
        pending = self._pending.get(event.handle)
        if pending is not None:
            # It may have moved since it was asked; where it answered from, it is.
            pending.peer, pending.proven = event.peer, True
        answer = DeviceAnswer(
            event.handle,
            status_of(event.code),
            -1 if event.content_format is None else event.content_format,
            event.payload,
            location=_created(event, pending),
            observing=event.observe is not None,
        )
        self._answered(answer, at)

    def _answered(self, answer: DeviceAnswer, at: Instant) -> None:
        final = self._go_on(answer.handle, answer) if answer.handle in self._pending else answer
        if final is not None:
            self._finished(final, at)
        else:
            # The next part of the conversation is a request of its own, with its own time and its own repetitions.
            self._reacted(answer.handle, at, delivered=False, heard=not answer.failure)

    # -- what the engine asks --

    def _question(self, name: str, question: Coroutine[Any, Any, None], exchange: int) -> None:
        work = self._run(question, exchange)
        if not self._tasks.spawn(name, work):
            question.close()
            self._submit(actions.Drop(exchange))

    async def _run(self, question: Coroutine[Any, Any, None], exchange: int) -> None:
        """Run ``question``; when the store fails it, the message is forgotten and asked about again when it repeats."""
        try:
            await question
        except Exception:
            self._submit(actions.Drop(exchange))
            raise

    async def _recall(self, event: events.RequestQuestion, at: Instant) -> None:
        since_ms = at.wall_ms - int(EXCHANGE_LIFETIME_S * 1000)
        entry = await self._store.recall(event.receipt, since_ms)
        if entry is not None and entry.kind == Kind.REGISTER:
            # A client that restarts its message IDs repeats old bytes; a location that is gone is no answer to it.
            live = await self._store.registration_at(entry.location)
            entry = entry if live is not None else None
        if entry is None:
            self._submit(actions.Proceed(event.exchange))
            return
        location = ("rd", entry.location) if entry.status == Status.CREATED else ()
        # A notification's only answer is its acknowledgement, an empty code.
        code = coap_code(entry.status) if entry.answers_request else codes.EMPTY
        log.info("request.recalled", peer=str(event.peer), code=codes.dotted(code))
        self._submit(actions.Recall(event.exchange, code, location))

    async def _find_token(self, event: events.TokenQuestion) -> None:
        try:
            found = await self._observations.find(event.peer, event.token)
        except MovedWithoutUpdate as error:
            # Resetting would end the observation on the device; it will update its registration when it gets no answer.
            self._count("from-elsewhere")
            log.info("notification.from_elsewhere", detail=str(error))
            self._submit(actions.Drop(event.exchange))
            return
        if found is None:
            self._count("token")
            log.info("token.unknown", peer=str(event.peer))
            self._submit(actions.RejectToken(event.exchange))
        else:
            wanted, registration = found
            operation = replace(wanted.observed(), attributes=())
            down = translate_down(operation, registration, self.choose_format(registration, operation))
            # Its further blocks are fetched with the request as it was sent (BLK-10).
            request = actions.SendRequest(
                0,
                event.peer,
                down.code,
                event.token,
                down.path,
                content_format=down.content_format,
                accept=down.accept,
                payload=down.payload,
            )
            self._submit(actions.AdoptObservation(0, event.peer, event.token, event.exchange, request))


def _created(event: events.ResponseReceived, pending: _Pending | None) -> str:
    """The path of what a Create made, without the root the device's paths have (R-11); empty where it does not say."""
    if event.code != codes.CREATED or pending is None:
        return ""
    location = read_options(event.options).location
    root = tuple(each for each in pending.registration.objects.root.split("/") if each)
    if location[: len(root)] == root:
        location = location[len(root) :]
    return "/" + "/".join(location) if location else ""


def _nobody(peer: PeerId, why: str, at: Instant) -> None:
    pass


def _type(event: events.NotificationReceived) -> str:
    return "con" if event.confirmable else "non"


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "journal.entry_lost", error)
