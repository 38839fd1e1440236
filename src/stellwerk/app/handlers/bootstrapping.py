"""A device asks to be bootstrapped: who it is, what it gets, and the session in which it gets it (Core 1.2.2 §6.1;
contract §5; device platform §12).

One session per device: a new request ends the one before (B-16). The request is answered first (B-1), then the
conversation (`device.bootstrap.conversation`) goes on step by step, each sent once the one before has its answer. The
whole ends sooner than the client gives it up (B-3). Whatever happens in between has a name in the device's history.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from stellwerk.app.bootstrap_accounts import BootstrapAccounts, Given
from stellwerk.app.bootstrap_admission import Admitted, BootstrapAdmission
from stellwerk.app.bootstrap_history import BootstrapHistory
from stellwerk.app.committing import log_not_stored
from stellwerk.app.handlers.turns import Later, on_the_loop
from stellwerk.app.meters import BootstrapMeters
from stellwerk.app.ports import Acknowledgement, BootstrapLink, Clock, DecidingStore, DeviceAnswer, StoreTrouble
from stellwerk.app.records import AlreadyExists
from stellwerk.app.speaking import Refusal
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import PeerError, StellwerkError, UserError
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.bootstrap.conversation import About, Conversation, Outcome, converse, stop
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.device.bootstrap.pack import PackRefused, make_pack
from stellwerk.device.bootstrap.plan import make_correction, make_plan
from stellwerk.device.bootstrap.summaries import summarize
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.bootstrap import (
    ROOT,
    BootstrapDelete,
    BootstrapOperation,
    BootstrapPackRequest,
    BootstrapRequest,
    BootstrapUplink,
    BootstrapWrite,
    PackFormatUnsupported,
    PctUnsupported,
    decode_bootstrap_request,
    decode_pack_request,
    encode_pack,
    pack_format,
    write_format,
)
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

SESSION_S: Final = 230.0
"""A client gives a session up 247 s after its request (B-3); what it hears last should arrive before."""
MOST_SESSIONS: Final = 10_000
COME_AGAIN_S: Final = 30
"""Max-Age of 5.03."""
INCOMPLETE: Final = "the configuration for this device is incomplete"
"""Short, since an answer to who is not proven is no more than three times its question. What is missing stands in the
device's log."""

Answer = Callable[[Acknowledgement], None]


@dataclass(slots=True)
class _Session:
    """One under way. ``handle``: of the request of ours that is out, 0 for none."""

    record: DeviceRecord
    peer: PeerId
    kept: BootstrapSession
    given: Given
    about: About
    one_time: bool = False
    talk: Conversation | None = None
    handle: int = 0
    fresh_is_stored: bool = False
    is_stored: bool = False
    has_ended: bool = False


class Bootstrapping:
    """Implements `southbound.bootstrap_link.Bootstrapping`. ``link`` is the way down; ``most``: sessions at once;
    ``packs``: whether Bootstrap-Pack-Requests are answered."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: BootstrapLink,
        admission: BootstrapAdmission,
        accounts: BootstrapAccounts,
        history: BootstrapHistory,
        meters: BootstrapMeters,
        most: int = MOST_SESSIONS,
        packs: bool = True,
        session_s: float = SESSION_S,
        later: Later = on_the_loop,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._admission = admission
        self._accounts = accounts
        self.history = history
        self._most = most
        self._packs = packs
        self._session_s = session_s
        self._later = later
        self._handles = 0
        self._deciding = 0
        """Requests that are looked at."""
        self._by_device: dict[DeviceId, _Session] = {}
        self._by_handle: dict[int, _Session] = {}
        self._by_peer: dict[PeerId, _Session] = {}
        self._spent: set[DeviceId] = set()
        """Whose one-time credential was used up, which the store could not be told."""
        meters.running = lambda: len(self._by_device)

    def __len__(self) -> int:
        return len(self._by_device)

    # -- up --

    def requested(self, uplink: BootstrapUplink, peer: PeerId, at: Instant, answer: Answer, fresh: bool) -> None:
        """A device asks to be bootstrapped, or for a pack: answers 2.04 or 2.05, else 4.00, 4.04, 4.05, 4.06, 4.15,
        5.01 or 5.03."""
        if len(self._by_device) + self._deciding >= self._most:
            answer(_come_again(f"{self._most} devices are being bootstrapped already"))
            return
        self._deciding += 1
        if not self._tasks.start("bootstrap request", self._decide(uplink, peer, at, answer)):
            self._deciding -= 1
            answer(_come_again("too much is going on"))

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        """What came of a step."""
        session = self._by_handle.pop(answer.handle, None)
        if session is not None:
            session.handle = 0
            self._go_on(session, answer)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The connection or secure session has ended."""
        session = self._by_peer.get(peer)
        if session is not None:
            self._end(session, Outcome(BootstrapState.LOST, "lost", why))

    def device_gone(self, device_id: DeviceId) -> None:
        """The device was removed: there is no history any more that could tell."""
        session = self._by_device.get(device_id)
        if session is not None:
            self._end(session, Outcome(BootstrapState.REPLACED, "removed", "the device was removed"))

    # -- requests --

    async def _decide(self, uplink: BootstrapUplink, peer: PeerId, at: Instant, answer: Answer) -> None:
        has_answered = False

        def answer_once(acknowledgement: Acknowledgement) -> None:
            nonlocal has_answered
            has_answered = True
            answer(acknowledgement)

        try:
            if isinstance(uplink, BootstrapPackRequest):
                await self._pack(uplink, peer, at, answer_once)
            else:
                await self._bootstrap(uplink, peer, at, answer_once)
        except StoreTrouble as error:
            log_not_stored(log, "bootstrap.not_stored", error)
            if not has_answered:
                answer(_come_again("the store cannot take this now"))
        except Exception:
            if not has_answered:
                answer(Acknowledgement(Status.INTERNAL_SERVER_ERROR))
            raise
        finally:
            self._deciding -= 1

    async def _bootstrap(self, request: BootstrapRequest, peer: PeerId, at: Instant, answer: Answer) -> None:
        trigger = BootstrapTrigger.CLIENT
        try:
            name, pct = decode_bootstrap_request(request.query)
        except PeerError as error:
            await self._refuse(Refusal("parameters", Status.BAD_REQUEST, str(error)), None, peer, trigger, at, answer)
            return
        admitted = await self._admit(name, peer, trigger, at, answer)
        if admitted is None:
            return
        try:
            write_format(pct)
        except PctUnsupported as error:
            refusal = Refusal("pct", Status.UNSUPPORTED_CONTENT_FORMAT, str(error), admitted.record)
            await self._refuse(refusal, admitted.endpoint, peer, trigger, at, answer)
            return
        given = await self._gather(admitted, peer, trigger, at, answer)
        if given is None:
            return
        registration = await self._store.registration_of(admitted.record.device_id)
        version = None if registration is None else registration.version
        session = self._make(admitted, given, peer, trigger, at, pct=pct, version=version)
        await self._open(session, lambda: answer(Acknowledgement(Status.CHANGED)), at)

    async def _pack(self, request: BootstrapPackRequest, peer: PeerId, at: Instant, answer: Answer) -> None:
        trigger = BootstrapTrigger.PACK
        if not self._packs:
            answer(Acknowledgement(Status.NOT_IMPLEMENTED, detail="no packs are given here; ask with POST /bs"))
            return
        try:
            name, own_account = decode_pack_request(request.query)
        except PeerError as error:
            await self._refuse(Refusal("parameters", Status.BAD_REQUEST, str(error)), None, peer, trigger, at, answer)
            return
        admitted = await self._admit(name, peer, trigger, at, answer)
        if admitted is None:
            return
        record = admitted.record
        given = await self._gather(admitted, peer, trigger, at, answer)
        if given is None:
            return
        try:
            content_format = pack_format(request.accept)
            if not given.configuration.servers:
                raise _NothingToGive(f"the profile of device {record.name!r} gives it no server")
            if admitted.blocks.one_time:
                raise PackRefused("nobody knows whether a pack arrived, and the credential is for one time")
            pack = make_pack(given.configuration, given.accounts, own_account)
            payload = encode_pack(pack.content, content_format)
        except (PackFormatUnsupported, _NothingToGive, PackRefused) as error:
            refusal = Refusal(*_PACK_REFUSALS[type(error)], str(error), record)
            await self._refuse(refusal, admitted.endpoint, peer, trigger, at, answer)
            return
        if given.fresh is not None:
            await self._store.put_fresh_credential(record.device_id, given.fresh)
        before = self._by_device.get(record.device_id)
        if before is not None:
            self._end(before, _replaced(peer))
        step = StepRecord(at.wall_ms, "Bootstrap-Pack", "", summarize(pack.content, ROOT), int(Status.CONTENT))
        session = self._make(admitted, given, peer, trigger, at)
        session.about.steps.append(step)
        kept = replace(
            session.kept,
            state=BootstrapState.CONFIGURED,
            ended_ms=self._clock.wall_ms(),
            detail="; ".join(pack.warnings),
            steps=(step,),
        )
        kept = replace(kept, number=await self._store.put_bootstrap_session(kept))
        self.history.began(kept)
        self.history.step(record.device_id, step)
        answer(Acknowledgement(Status.CONTENT, payload=payload, content_format=content_format))
        self.history.ended(kept)
        self._link.end(peer)

    async def _admit(
        self, name: str | None, peer: PeerId, trigger: BootstrapTrigger, at: Instant, answer: Answer
    ) -> Admitted | None:
        try:
            admitted = await self._admission.admit(name, peer)
        except UserError as error:
            # A credential that does not open with this master key: the text says what to do, and names no secret.
            log.error("bootstrap.not_readable", endpoint=name, detail=str(error))
            answer(_come_again("the server cannot read its credentials now"))
            return None
        if isinstance(admitted, Admitted) and admitted.record.device_id in self._spent:
            text = f"the bootstrap credential of device {admitted.record.name!r} was for one time and was used up"
            admitted = Refusal("spent", Status.BAD_REQUEST, text, admitted.record)
        if isinstance(admitted, Refusal):
            await self._refuse(admitted, name, peer, trigger, at, answer)
            return None
        return admitted

    async def _gather(
        self, admitted: Admitted, peer: PeerId, trigger: BootstrapTrigger, at: Instant, answer: Answer
    ) -> Given | None:
        try:
            return await self._accounts.gather(admitted, is_secure=peer.is_proven, now_ms=at.wall_ms)
        except UserError as error:
            refusal = Refusal("configuration", Status.BAD_REQUEST, str(error), admitted.record)
            await self._refuse(refusal, admitted.endpoint, peer, trigger, at, answer, INCOMPLETE)
            return None

    async def _refuse(
        self,
        refusal: Refusal,
        name: str | None,
        peer: PeerId,
        trigger: BootstrapTrigger,
        at: Instant,
        answer: Answer,
        told: str | None = None,
    ) -> None:
        """``told``: what the device learns, where that is not all."""
        answer(Acknowledgement(refusal.status, detail=refusal.detail if told is None else told))
        await self.history.refused(refusal, name, peer, trigger, at)

    # -- the server begins --

    async def begin(self, record: DeviceRecord, address: PeerId | None, at: Instant) -> None:
        """Bootstrap a device that did not ask (B-11), which only LwM2M 1.0 has. ``address``: where it listens, from the
        bootstrap server's own port; None: it has a secure session with the bootstrap server. Returns once the session
        is stored and begins. Raises `CannotBegin`, `UserError` for what people have to mend, `StoreTrouble`."""
        if len(self._by_device) + self._deciding >= self._most:
            raise CannotBegin(f"{self._most} devices are being bootstrapped already; try again soon")
        configuration = await self._accounts.configuration_of(record)
        if not configuration.server_initiated:
            raise CannotBegin(f"profile {record.profile!r} does not let the server begin (serverInitiated)")
        registration = await self._store.registration_of(record.device_id)
        if registration is not None and registration.version != "1.0":
            raise CannotBegin(
                f"device {record.name!r} speaks LwM2M {registration.version}, where only the device begins; "
                "Execute /1/x/9 asks it to"
            )
        peer = address if address is not None else self._admission.session_of(record.device_id)
        if peer is None:
            raise CannotBegin(f"device {record.name!r} has no session with the bootstrap server; say where it listens")
        admitted = await self._admission.admit_by_us(record, peer)
        if isinstance(admitted, Refusal):
            raise CannotBegin(admitted.detail)
        given = await self._accounts.gather(admitted, is_secure=peer.is_proven, now_ms=at.wall_ms)
        session = self._make(admitted, given, peer, BootstrapTrigger.SERVER, at, version="1.0")
        await self._open(session, lambda: None, at)

    # -- sessions --

    def _make(
        self,
        admitted: Admitted,
        given: Given,
        peer: PeerId,
        trigger: BootstrapTrigger,
        at: Instant,
        *,
        pct: int | None = None,
        version: str | None = None,
    ) -> _Session:
        configuration, accounts = given.configuration, given.accounts
        about = About(
            plan_of=lambda held: make_plan(configuration, accounts, held, pct=pct, version=version),
            correction_of=lambda held, servers: make_correction(
                configuration, accounts, held, servers, pct=pct, version=version
            ),
            now_ms=self._clock.wall_ms,
            version=version,
            on_step=lambda step: self.history.step(admitted.record.device_id, step),
        )
        kept = BootstrapSession(
            0,
            admitted.record.device_id,
            admitted.endpoint,
            str(peer),
            trigger,
            BootstrapState.RUNNING,
            at.wall_ms,
        )
        return _Session(admitted.record, peer, kept, given, about, admitted.blocks.one_time)

    async def _open(self, session: _Session, answer: Callable[[], None], at: Instant) -> None:
        """Begin, and call ``answer`` in between: once it is stored, before the first step. Raises `StoreTrouble`; then
        there is no session."""
        device_id = session.record.device_id
        for before in (self._by_device.get(device_id), self._by_peer.get(session.peer)):
            if before is not None:
                self._end(before, _replaced(session.peer), keep=session.peer)
        self._by_device[device_id] = self._by_peer[session.peer] = session
        try:
            number = await self._store.put_bootstrap_session(session.kept)
        except BaseException:
            self._forget(session)
            raise
        session.kept = replace(session.kept, number=number)
        session.is_stored = True
        self.history.began(session.kept)
        answer()
        if session.has_ended:
            # Another request was quicker.
            self._tell_end(session)
            return
        deadline_s = self._session_s - (self._clock.now() - at.now)
        # Whoever waits that long keeps no keys.
        self._later(deadline_s, lambda: self._overtime(device_id, number))
        session.talk = converse(session.about)
        self._go_on(session, None)

    def _overtime(self, device_id: DeviceId, number: int) -> None:
        session = self._by_device.get(device_id)
        if session is not None and session.kept.number == number:
            text = f"{self._session_s:g} s after its request the device was about to give up"
            self._end(session, Outcome(BootstrapState.OVERTIME, "time", text))

    def _go_on(self, session: _Session, answer: DeviceAnswer | None) -> None:
        """The next step, given the answer to the one before."""
        talk = session.talk
        if talk is None:
            return
        try:
            operation = next(talk) if answer is None else talk.send(answer)
        except StopIteration as end:
            session.talk = None
            self._end(session, end.value)
            return
        except Exception as error:
            session.talk = None
            log.exception("bootstrap.failed", device_id=session.record.device_id)
            self._end(session, Outcome(BootstrapState.STEP_FAILED, "internal", type(error).__name__))
            return
        changes = isinstance(operation, BootstrapDelete | BootstrapWrite)
        if changes and session.given.fresh is not None and not session.fresh_is_stored:
            self._tasks.start("fresh keys", self._store_fresh(session, operation))
        else:
            self._send(session, operation)

    def _send(self, session: _Session, operation: BootstrapOperation) -> None:
        self._handles += 1
        session.handle = self._handles
        self._by_handle[session.handle] = session
        self._link.send(session.handle, session.peer, operation)

    async def _store_fresh(self, session: _Session, operation: BootstrapOperation) -> None:
        """Before anything changes: the device may use its new key as soon as it has it."""
        try:
            await self._store.put_fresh_credential(session.record.device_id, session.given.fresh)
        except (StoreTrouble, AlreadyExists) as error:
            text = f"the fresh keys could not be stored: {error}"
            self._end(session, Outcome(BootstrapState.STEP_FAILED, "not-stored", text))
            return
        session.fresh_is_stored = True
        if not session.has_ended:
            self._send(session, operation)

    def _forget(self, session: _Session) -> None:
        session.has_ended = True
        if self._by_device.get(session.record.device_id) is session:
            del self._by_device[session.record.device_id]
        if self._by_peer.get(session.peer) is session:
            del self._by_peer[session.peer]
        if session.handle:
            self._by_handle.pop(session.handle, None)
            self._link.cancel(session.handle)
            session.handle = 0

    def _end(self, session: _Session, outcome: Outcome, keep: PeerId | None = None) -> None:
        """``keep``: the peer of the session that takes its place."""
        if session.has_ended:
            return
        self._forget(session)
        if session.talk is not None:
            talk, session.talk = session.talk, None
            stop(talk, outcome)
        session.kept = replace(
            session.kept,
            state=outcome.state,
            ended_ms=self._clock.wall_ms(),
            reason=outcome.reason,
            detail=outcome.detail,
            steps=tuple(session.about.steps),
        )
        if session.peer != keep:
            self._link.end(session.peer)
        if session.is_stored:
            self._tell_end(session)

    def _tell_end(self, session: _Session) -> None:
        self.history.ended(session.kept)
        if not self._tasks.start("bootstrap ended", self._store_end(session)):
            log.warning("bootstrap.history_lost", device_id=session.record.device_id, why="too much is going on")

    async def _store_end(self, session: _Session) -> None:
        device_id = session.record.device_id
        if session.one_time and session.kept.state is BootstrapState.CONFIGURED:
            self._spent.add(device_id)
            await self._store.spend_bootstrap_credential(device_id, session.kept.ended_ms)
            self._spent.discard(device_id)
        await self._store.put_bootstrap_session(session.kept)


class CannotBegin(UserError):
    """The server may not begin to bootstrap this device; the text says why."""


class _NothingToGive(StellwerkError):
    pass


_PACK_REFUSALS: Final[dict[type[Exception], tuple[str, Status]]] = {
    PackFormatUnsupported: ("accept", Status.NOT_ACCEPTABLE),
    _NothingToGive: ("nothing", Status.NOT_FOUND),
    PackRefused: ("pack-refused", Status.METHOD_NOT_ALLOWED),
}


def _replaced(peer: PeerId) -> Outcome:
    return Outcome(BootstrapState.REPLACED, "another-request", f"the device asked again, from {peer}")


def _come_again(why: str) -> Acknowledgement:
    return Acknowledgement(Status.SERVICE_UNAVAILABLE, detail=f"{why}; come again later", max_age_s=COME_AGAIN_S)
