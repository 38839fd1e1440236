"""A device asks to be bootstrapped: who it is, whether it may, and what it gets (Core 1.2.2 §6.1; contract §5; device
platform §12).

The request is answered first (B-1), then `bootstrap_conversations` goes on step by step. Whatever comes of a request
has a name in the device's history, or where it concerns no device in the list of those that were refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from stellwerk.app.bootstrap_accounts import BootstrapAccounts, Given
from stellwerk.app.bootstrap_admission import Admitted, BootstrapAdmission
from stellwerk.app.bootstrap_history import BootstrapHistory
from stellwerk.app.brake import Brake, Level
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import Acknowledgement, BootstrapLink, DeviceAnswer
from stellwerk.app.handlers.bootstrap_conversations import BootstrapConversations
from stellwerk.app.handlers.enrolling import Enrolling
from stellwerk.app.handlers.registering import may_be_forged
from stellwerk.app.meters import BootstrapMeters
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.app.records import DeviceGone
from stellwerk.app.speaking import Refusal
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import PeerError, StellwerkError, UserError
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.bootstrap.history import MAX_TEXT, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.device.bootstrap.pack import Pack, PackRefused, make_pack
from stellwerk.device.bootstrap.summaries import summarize
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.bootstrap import (
    ROOT,
    BootstrapPackRequest,
    BootstrapRequest,
    BootstrapUplink,
    EstRequest,
    PackFormatUnsupported,
    PctUnsupported,
    decode_bootstrap_request,
    decode_pack_request,
    encode_pack,
    pack_format,
    write_format,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

MOST_SESSIONS: Final = 10_000
COME_AGAIN_S: Final = 30
"""Max-Age of 5.03."""
STARTS_PER_S: Final = 0.2
STARTS_AT_ONCE: Final = 30
"""Sessions and packs of one device: so many, and then one more every few seconds."""
UNPROVEN: Final = "a session goes on with another address; repeat the request with the Echo"
INCOMPLETE: Final = "the configuration for this device is incomplete"
"""Short, since an answer to who is not proven is no more than three times its question. What is missing stands in the
device's log."""

Answer = Callable[[Acknowledgement], None]


@dataclass(slots=True)
class _Asked:
    """A request. ``fresh``: its sender has shown that it receives at ``peer``. ``lost``: why ``peer`` is no more, empty
    while it is there; whoever has its name then may be somebody else."""

    peer: PeerId
    trigger: BootstrapTrigger
    at: Instant
    tell: Answer
    fresh: bool
    has_answer: bool = False
    lost: str = ""

    def answer(self, acknowledgement: Acknowledgement) -> None:
        self.has_answer = True
        self.tell(acknowledgement)


class Bootstrapping:
    """Implements `southbound.bootstrap_link.Bootstrapping`. ``link`` is the way down; ``most``: sessions at once;
    ``packs``: whether Bootstrap-Pack-Requests are answered; ``prove_moves``: a session without security is ended by a
    request from another address only where its sender shows that it receives there (decision 0011)."""

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
        conversations: BootstrapConversations,
        enrolling: Enrolling,
        meters: BootstrapMeters,
        brake: Brake,
        most: int = MOST_SESSIONS,
        packs: bool = True,
        prove_moves: bool = False,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._admission = admission
        self._accounts = accounts
        self.history = history
        self.conversations = conversations
        self._enrolling = enrolling
        self._most = most
        self._packs = packs
        self._brake = brake
        self._prove_moves = prove_moves
        self._starts: TokenBuckets[DeviceId] = TokenBuckets(STARTS_PER_S, STARTS_AT_ONCE)
        self._deciding = 0
        """Requests that are looked at."""
        self._asked: dict[PeerId, list[_Asked]] = {}
        """These, by who asked."""
        self.listens_at: tuple[str, int] | None = None
        """The address and port without security that requests leave from; None where there are none."""
        meters.running = lambda: len(self.conversations)

    # -- up --

    def requested(self, uplink: BootstrapUplink, peer: PeerId, at: Instant, answer: Answer, fresh: bool) -> None:
        """A device asks to be bootstrapped, for a pack or for certificates: answers 2.04 or 2.05, else 4.00, 4.03,
        4.04, 4.05, 4.06, 4.13, 4.15, 5.01 or 5.03."""
        if self._brake.level >= Level.REGISTER:
            answer(self._brake.refusal("bootstrap"))
            return
        if len(self.conversations) + self._deciding >= self._most:
            answer(_come_again(f"{self._most} devices are being bootstrapped already"))
            return
        trigger = BootstrapTrigger.PACK if isinstance(uplink, BootstrapPackRequest) else BootstrapTrigger.CLIENT
        asked = _Asked(peer, trigger, at, answer, fresh)
        # At once: it may be over before the task has begun.
        self._note(asked)
        if not self._tasks.start("bootstrap request", self._decide(uplink, asked)):
            self._forget(asked)
            answer(_come_again("too much is going on"))

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        """What came of a step."""
        self.conversations.answered(answer)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The connection or secure session has ended."""
        for asked in self._asked.get(peer, ()):
            asked.lost = why or "it has ended"
        self.conversations.lost(peer, why)

    # -- requests --

    def _note(self, asked: _Asked) -> None:
        self._deciding += 1
        self._asked.setdefault(asked.peer, []).append(asked)

    def _forget(self, asked: _Asked) -> None:
        self._deciding -= 1
        rest = [each for each in self._asked.pop(asked.peer) if each is not asked]
        if rest:
            self._asked[asked.peer] = rest

    async def _decide(self, uplink: BootstrapUplink, asked: _Asked) -> None:
        try:
            if isinstance(uplink, BootstrapPackRequest):
                await self._pack(uplink, asked)
            elif isinstance(uplink, EstRequest):
                await self._enrol(uplink, asked)
            else:
                await self._bootstrap(uplink, asked)
        except DeviceGone:
            if not asked.has_answer:
                asked.answer(Acknowledgement(Status.BAD_REQUEST, detail="the device is gone"))
        except StoreTrouble as error:
            log_not_stored(log, "bootstrap.not_stored", error)
            if not asked.has_answer:
                asked.answer(_come_again("the store cannot take this now"))
        except Exception:
            if not asked.has_answer:
                asked.answer(Acknowledgement(Status.INTERNAL_SERVER_ERROR))
            raise
        finally:
            self._forget(asked)

    async def _bootstrap(self, request: BootstrapRequest, asked: _Asked) -> None:
        try:
            name, pct = decode_bootstrap_request(request.query)
        except PeerError as error:
            await self._refuse(Refusal("parameters", Status.BAD_REQUEST, str(error)), None, asked)
            return
        admitted = await self._admit(name, asked)
        if admitted is None:
            return
        try:
            write_format(pct)
        except PctUnsupported as error:
            refusal = Refusal("pct", Status.UNSUPPORTED_CONTENT_FORMAT, str(error), admitted.record)
            await self._refuse(refusal, admitted.endpoint, asked)
            return
        registration = await self._store.registration_of(admitted.record.device_id)
        version = None if registration is None else registration.version
        given = await self._gather(admitted, asked)
        if given is None:
            return
        session = self.conversations.make(
            admitted, given, asked.peer, asked.trigger, asked.at, pct=pct, version=version
        )
        if not await self.conversations.open(session, lambda: asked.answer(Acknowledgement(Status.CHANGED))):
            asked.answer(_come_again(session.kept.detail))

    async def _pack(self, request: BootstrapPackRequest, asked: _Asked) -> None:
        if not self._packs:
            asked.answer(Acknowledgement(Status.NOT_IMPLEMENTED, detail="no packs are given here; ask with POST /bs"))
            return
        try:
            name, own_account = decode_pack_request(request.query)
        except PeerError as error:
            await self._refuse(Refusal("parameters", Status.BAD_REQUEST, str(error)), None, asked)
            return
        admitted = await self._admit(name, asked)
        if admitted is None:
            return
        given = await self._gather(admitted, asked)
        if given is None:
            return
        try:
            content_format = pack_format(request.accept)
            pack = _pack_of(admitted, given, own_account)
            payload = encode_pack(pack.content, content_format)
        except (PackFormatUnsupported, _NothingToGive, PackRefused) as error:
            refusal = Refusal(*_PACK_REFUSALS[type(error)], str(error), admitted.record)
            await self._refuse(refusal, admitted.endpoint, asked)
            return
        not_kept = None if given.fresh is None else await self._accounts.keep_fresh(admitted, given.fresh)
        if not_kept is not None:
            await self._refuse(not_kept, admitted.endpoint, asked)
            return
        device_id = admitted.record.device_id
        self.conversations.replace(device_id, asked.peer)
        step = StepRecord(asked.at.wall_ms, "Bootstrap-Pack", "", summarize(pack.content, ROOT), int(Status.CONTENT))
        kept = replace(
            self.conversations.make(admitted, given, asked.peer, asked.trigger, asked.at).kept,
            state=BootstrapState.CONFIGURED,
            ended_ms=self._clock.wall_ms(),
            detail="; ".join(pack.warnings),
            steps=(step,),
        )
        kept = replace(kept, number=await self._store.put_bootstrap_session(kept))
        self.history.began(kept)
        self.history.step(device_id, step)
        asked.answer(Acknowledgement(Status.CONTENT, payload=payload, content_format=content_format))
        self.history.ended(kept)
        if not asked.lost:
            self._link.end(asked.peer)

    async def _enrol(self, request: EstRequest, asked: _Asked) -> None:
        admitted = await self._admit(None, asked)
        if admitted is None:
            return
        device_id = admitted.record.device_id
        enrolled = await self._enrolling.answer(request, admitted, asked.at.wall_ms)
        name, path = f"EST-{request.function}", f"/.well-known/est/{request.function}"
        if isinstance(enrolled, Refusal):
            detail = enrolled.detail[:MAX_TEXT]
            step = StepRecord(asked.at.wall_ms, name, path, "", int(enrolled.status), detail=detail)
            self.conversations.note(device_id, step)
            if enrolled.status is Status.SERVICE_UNAVAILABLE:
                asked.answer(_come_again(enrolled.detail))
                await self.history.refused(enrolled, admitted.endpoint, asked.peer, asked.trigger, asked.at)
            else:
                await self._refuse(enrolled, admitted.endpoint, asked)
        else:
            step = StepRecord(asked.at.wall_ms, name, path, enrolled.summary, int(enrolled.status))
            if not self.conversations.note(device_id, step):
                self.history.step(device_id, step)
            asked.answer(
                Acknowledgement(enrolled.status, payload=enrolled.payload, content_format=enrolled.content_format)
            )
        if not self.conversations.runs_for(device_id):
            # It stays open for a while: for the next request, and for the answer where that has to be repeated.
            self._link.end(asked.peer)

    async def _admit(self, name: str | None, asked: _Asked) -> Admitted | None:
        peer = asked.peer
        try:
            admitted = await self._admission.admit(name, peer)
            if isinstance(admitted, Admitted) and await self.conversations.settle_spent(admitted.record.device_id):
                admitted = await self._admission.admit(name, peer)
        except UserError as error:
            # A credential that does not open with this master key: the text says what to do, and names no secret.
            log.error("bootstrap.not_readable", endpoint=name, detail=str(error))
            asked.answer(_come_again("the server cannot read its credentials now"))
            return None
        if isinstance(admitted, Refusal):
            await self._refuse(admitted, name, asked)
            return None
        record = admitted.record
        if self._prove_moves and not asked.fresh and may_be_forged(peer):
            under_way = self.conversations.peer_of(record.device_id)
            if under_way is not None and under_way != peer:
                asked.answer(Acknowledgement(Status.UNAUTHORIZED, detail=UNPROVEN, prove=True))
                return None
        if not self._starts.take(record.device_id, asked.at.now):
            # Each is stored, and without security anybody may ask in its name.
            text = f"device {record.name!r} asks too often"
            asked.answer(_come_again(text))
            refusal = Refusal("rate", Status.SERVICE_UNAVAILABLE, text, record)
            await self.history.refused(refusal, name, peer, asked.trigger, asked.at)
            return None
        return admitted

    async def _gather(self, admitted: Admitted, asked: _Asked) -> Given | None:
        try:
            given = await self._given(admitted, asked.peer, asked.at)
        except UserError as error:
            refusal = Refusal("configuration", Status.BAD_REQUEST, str(error), admitted.record)
            await self._refuse(refusal, admitted.endpoint, asked, INCOMPLETE)
            return None
        if asked.lost:
            # What was gathered is for who asked, and not for whoever came after him over the same two ends.
            refusal = Refusal("lost", Status.SERVICE_UNAVAILABLE, asked.lost, admitted.record)
            await self._refuse(refusal, admitted.endpoint, asked)
            return None
        return given

    async def _given(self, admitted: Admitted, peer: PeerId, at: Instant) -> Given:
        return await self._accounts.gather(
            admitted,
            is_secure=peer.is_proven,
            now_ms=at.wall_ms,
            may_enrol=peer.carrier == "dtls",
            transport="tcp" if peer.is_over_tcp else "udp",
        )

    async def _refuse(self, refusal: Refusal, name: str | None, asked: _Asked, told: str | None = None) -> None:
        """``told``: what the device learns, where that is not all."""
        asked.answer(Acknowledgement(refusal.status, detail=refusal.detail if told is None else told))
        await self.history.refused(refusal, name, asked.peer, asked.trigger, asked.at)

    # -- the server begins --

    async def begin(self, record: DeviceRecord, address: tuple[str, int] | None, at: Instant) -> None:
        """Bootstrap a device that did not ask (B-11), which only LwM2M 1.0 has. ``address``: host and port where it
        listens; None: over its secure session with the bootstrap server, else where it is registered over UDP. Returns
        once the session is stored and begins. Raises `CannotBegin`, `UserError` for what people have to mend,
        `StoreTrouble`."""
        if len(self.conversations) + self._deciding >= self._most:
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
        peer = self._admission.session_of(record.device_id) if address is None else None
        if peer is None and self.listens_at is not None:
            local_host, local_port = self.listens_at
            if address is not None:
                peer = PeerId("udp", *address, local_host, local_port)
            elif registration is not None and registration.peer.transport == "udp":
                # It answers the address that it knows us by; where we listen may be every address.
                peer = registration.peer._replace(local_port=local_port)
        if peer is None:
            raise CannotBegin(f"nobody knows where device {record.name!r} listens for the bootstrap server")
        await self.conversations.settle_spent(record.device_id)
        admitted = await self._admission.admit_by_us(record, peer)
        if isinstance(admitted, Refusal):
            raise CannotBegin(admitted.noted)
        given = await self._given(admitted, peer, at)
        session = self.conversations.make(admitted, given, peer, BootstrapTrigger.SERVER, at, version="1.0")
        if not await self.conversations.open(session, lambda: None):
            raise CannotBegin(session.kept.detail)


class CannotBegin(UserError):
    """The server may not begin to bootstrap this device; the text says why."""


class _NothingToGive(StellwerkError):
    """The profile has no server for this device."""


def _pack_of(admitted: Admitted, given: Given, own_account: tuple[Path, ...] | None) -> Pack:
    """``own_account``: the instances that are the device's bootstrap account, as it says. Raises `_NothingToGive`,
    `PackRefused`."""
    if not given.configuration.servers:
        raise _NothingToGive(f"the profile of device {admitted.record.name!r} gives it no server")
    if admitted.blocks.one_time:
        raise PackRefused("nobody knows whether a pack arrived, and the credential is for one time")
    return make_pack(given.configuration, given.accounts, own_account)


_PACK_REFUSALS: Final[dict[type[Exception], tuple[str, Status]]] = {
    PackFormatUnsupported: ("accept", Status.NOT_ACCEPTABLE),
    _NothingToGive: ("nothing", Status.NOT_FOUND),
    PackRefused: ("pack-refused", Status.METHOD_NOT_ALLOWED),
}


def _come_again(why: str) -> Acknowledgement:
    return Acknowledgement(Status.SERVICE_UNAVAILABLE, detail=f"{why}; come again later", max_age_s=COME_AGAIN_S)
