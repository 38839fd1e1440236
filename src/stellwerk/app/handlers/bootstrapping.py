"""A device asks to be bootstrapped: who it is, whether it may, and what it gets (Core 1.2.2 §6.1; contract §5; device
platform §12).

The request is answered first (B-1), then `bootstrap_conversations` goes on step by step. Whatever comes of a request
has a name in the device's history, or where it concerns no device in the list of those that were refused.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.bootstrap_accounts import BootstrapAccounts, Given
from stellwerk.app.bootstrap_admission import Admitted, BootstrapAdmission
from stellwerk.app.bootstrap_history import BootstrapHistory
from stellwerk.app.committing import log_not_stored
from stellwerk.app.handlers.bootstrap_conversations import BootstrapConversations
from stellwerk.app.meters import BootstrapMeters
from stellwerk.app.ports import Acknowledgement, BootstrapLink, Clock, DecidingStore, DeviceAnswer, StoreTrouble
from stellwerk.app.records import AlreadyExists, CredentialChanged, DeviceGone
from stellwerk.app.speaking import Refusal
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import PeerError, StellwerkError, UserError
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.bootstrap.history import BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.device.bootstrap.pack import PackRefused, make_pack
from stellwerk.device.bootstrap.summaries import summarize
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.bootstrap import (
    ROOT,
    BootstrapPackRequest,
    BootstrapRequest,
    BootstrapUplink,
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

MOST_SESSIONS: Final = 10_000
COME_AGAIN_S: Final = 30
"""Max-Age of 5.03."""
INCOMPLETE: Final = "the configuration for this device is incomplete"
"""Short, since an answer to who is not proven is no more than three times its question. What is missing stands in the
device's log."""

Answer = Callable[[Acknowledgement], None]


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
        conversations: BootstrapConversations,
        meters: BootstrapMeters,
        most: int = MOST_SESSIONS,
        packs: bool = True,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._admission = admission
        self._accounts = accounts
        self.history = history
        self.conversations = conversations
        self._most = most
        self._packs = packs
        self._deciding = 0
        """Requests that are looked at."""
        self.listens_at: tuple[str, int] | None = None
        """The address and port without security that requests leave from; None where there are none."""
        meters.running = lambda: len(self.conversations)

    # -- up --

    def requested(self, uplink: BootstrapUplink, peer: PeerId, at: Instant, answer: Answer, fresh: bool) -> None:
        """A device asks to be bootstrapped, or for a pack: answers 2.04 or 2.05, else 4.00, 4.04, 4.05, 4.06, 4.15,
        5.01 or 5.03."""
        if len(self.conversations) + self._deciding >= self._most:
            answer(_come_again(f"{self._most} devices are being bootstrapped already"))
            return
        self._deciding += 1
        if not self._tasks.start("bootstrap request", self._decide(uplink, peer, at, answer)):
            self._deciding -= 1
            answer(_come_again("too much is going on"))

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        """What came of a step."""
        self.conversations.answered(answer)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The connection or secure session has ended."""
        self.conversations.lost(peer, why)

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
        except DeviceGone:
            if not has_answered:
                answer(Acknowledgement(Status.BAD_REQUEST, detail="the device is gone"))
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
        session = self.conversations.make(admitted, given, peer, trigger, at, pct=pct, version=version)
        if not await self.conversations.open(session, lambda: answer(Acknowledgement(Status.CHANGED))):
            answer(_come_again(session.kept.detail))

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
            try:
                await self._store.put_fresh_credential(record.device_id, given.fresh, basis=given.basis)
            except (AlreadyExists, CredentialChanged) as error:
                reason = "revoked" if isinstance(error, CredentialChanged) else "not-stored"
                refusal = Refusal(reason, Status.BAD_REQUEST, str(error), record)
                await self._refuse(refusal, admitted.endpoint, peer, trigger, at, answer)
                return
        self.conversations.replace(record.device_id, peer)
        step = StepRecord(at.wall_ms, "Bootstrap-Pack", "", summarize(pack.content, ROOT), int(Status.CONTENT))
        session = self.conversations.make(admitted, given, peer, trigger, at)
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
            if isinstance(admitted, Admitted) and await self.conversations.settle_spent(admitted.record.device_id):
                admitted = await self._admission.admit(name, peer)
        except UserError as error:
            # A credential that does not open with this master key: the text says what to do, and names no secret.
            log.error("bootstrap.not_readable", endpoint=name, detail=str(error))
            answer(_come_again("the server cannot read its credentials now"))
            return None
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
        if address is None and registration is not None and registration.peer.transport == "udp":
            address = registration.peer.remote_host, registration.peer.remote_port
        if peer is None and address is not None and self.listens_at is not None:
            peer = PeerId("udp", *address, *self.listens_at)
        if peer is None:
            raise CannotBegin(f"nobody knows where device {record.name!r} listens for the bootstrap server")
        admitted = await self._admission.admit_by_us(record, peer)
        if isinstance(admitted, Refusal):
            raise CannotBegin(admitted.detail)
        given = await self._accounts.gather(admitted, is_secure=peer.is_proven, now_ms=at.wall_ms)
        session = self.conversations.make(admitted, given, peer, BootstrapTrigger.SERVER, at, version="1.0")
        if not await self.conversations.open(session, lambda: None):
            raise CannotBegin(session.kept.detail)


class CannotBegin(UserError):
    """The server may not begin to bootstrap this device; the text says why."""


class _NothingToGive(StellwerkError):
    pass


_PACK_REFUSALS: Final[dict[type[Exception], tuple[str, Status]]] = {
    PackFormatUnsupported: ("accept", Status.NOT_ACCEPTABLE),
    _NothingToGive: ("nothing", Status.NOT_FOUND),
    PackRefused: ("pack-refused", Status.METHOD_NOT_ALLOWED),
}


def _come_again(why: str) -> Acknowledgement:
    return Acknowledgement(Status.SERVICE_UNAVAILABLE, detail=f"{why}; come again later", max_age_s=COME_AGAIN_S)
