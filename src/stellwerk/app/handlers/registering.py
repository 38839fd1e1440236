"""Register: who the endpoint is, whether it may, and what it brings (Core 1.2.2 §6.2.1; contract §4, §13)."""

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Protocol

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.changes import Commit, PutRegistration
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import Acknowledgement, DeviceLink
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.meters import Meters
from stellwerk.app.model_warnings import ModelWarnings
from stellwerk.app.object_lists import ObjectLists
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.records import AlreadyExists, NewDevice
from stellwerk.app.registry import Known, Registry
from stellwerk.app.speaking import Refusal, Speaking
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.core.instant import Instant
from stellwerk.core.sharing import share
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import DEFAULT_LIFETIME_S, Registration
from stellwerk.lwm2m.link_format import ObjectList, decode_object_list
from stellwerk.lwm2m.operations import Register
from stellwerk.lwm2m.profile_ids import UnknownProfile
from stellwerk.lwm2m.registration_parameters import (
    DEFAULT_TOLERANCES,
    RegistrationParameters,
    Tolerances,
    VersionUnsupported,
    decode_registration,
    merge_extra,
)
from stellwerk.lwm2m.schema.library import DeviceTypes, Library
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

Answer = Callable[[Acknowledgement], None]
_LINK_FORMATS = (None, 40)
_WITHOUT_PROFILES = ("1.0", "1.1")
UNPROVEN = "the registration is at another address; repeat the request with the Echo"
_MANDATORY = (
    (1, "object 1 (Server) is not listed, which every device has"),
    (3, "object 3 (Device) is not listed, which every device has"),
)


class RegisterListener(Protocol):
    def device_registered(self, known: Known, at: Instant) -> None: ...
    def device_lost(self, device_id: DeviceId, at: Instant) -> None: ...


class Registering:
    """``auto_provision``: endpoint patterns that may register over NoSec without being provisioned, into ``tenant``.
    ``tolerances``: what is taken although a standard forbids it. ``prove_moves``: a registration without security is
    replaced from another address only by whoever shows that it receives there (decision 0011). ``speaking``: who may
    speak for whom; None where there are no secure sessions."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        library: Library,
        clock: Clock,
        entropy: Entropy,
        link: DeviceLink,
        listener: RegisterListener,
        brake: Brake,
        meters: Meters,
        grace_s: float,
        auto_provision: tuple[str, ...],
        tenant_id: TenantId,
        tolerances: Tolerances = DEFAULT_TOLERANCES,
        prove_moves: bool = False,
        speaking: Speaking | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._library = library
        self._clock = clock
        self._entropy = entropy
        self._link = link
        self._listener = listener
        self._brake = brake
        self._meters = meters
        self._grace_s = grace_s
        self._auto_provision = auto_provision
        self._tenant_id = tenant_id
        self.model_warnings = ModelWarnings()
        self.tolerances = tolerances
        self.prove_moves = prove_moves
        self.lists = ObjectLists(store, clock)
        self.lines = RareLines(store)
        self.speaking = Speaking(store) if speaking is None else speaking
        self.superseded: Callable[[PeerId], None] = _nobody
        """Told of the peer that a device was registered at when it is registered at another."""

    def await_promotion(self, settled: Callable[[DeviceId], Awaitable[None]]) -> None:
        """``settled`` returns when a fresh credential that a device has just shown is the one that holds."""
        self.speaking.settled = settled

    def types_of(self, objects: ObjectList, version: str, tenant: str) -> DeviceTypes:
        """What ``objects`` are made of for a client of LwM2M ``version`` that belongs to ``tenant``."""
        versions = {each: listed.version for each, listed in objects.objects.items()}
        return self._library.for_device(version, versions, tenant)

    async def register(
        self, uplink: Register, peer: PeerId, receipt: bytes, at: Instant, answer: Answer, fresh: bool = False
    ) -> None:
        """Decide on a Register; answers 2.01 with the location, or 4.00, 4.01, 4.03, 4.09, 4.12, 5.03. ``fresh``: who
        sent it receives at ``peer``."""
        try:
            parameters = decode_registration(
                uplink.query,
                lenient_version=self.tolerances.missing_version,
                lenient_queue=self.tolerances.queue_in_binding,
            )
            check_link_format(uplink.content_format)
        except VersionUnsupported as error:
            self._refuse("version", peer, Status.PRECONDITION_FAILED, str(error), answer)
            await self._note_for_named(uplink, peer, str(error), at)
            return
        except PeerError as error:
            reason = "format" if isinstance(error, NotLinkFormat) else "parameters"
            self._refuse(reason, peer, Status.BAD_REQUEST, str(error), answer)
            await self._note_for_named(uplink, peer, str(error), at)
            return
        # The body is read only for whom we know: it may be long, and anybody may send it.
        registrant = await self.speaking.registrant(parameters.endpoint_name, peer)
        if isinstance(registrant, Refusal):
            self._refuse(registrant.reason, peer, registrant.status, registrant.detail, answer, noted=registrant.noted)
            self._note(registrant.record, peer, registrant.noted, at)
            return
        record, endpoint_name = registrant
        if record is None and not any(fnmatchcase(endpoint_name, each) for each in self._auto_provision):
            text = f"endpoint {endpoint_name!r} is not provisioned"
            self._refuse("not-provisioned", peer, Status.FORBIDDEN, text, answer)
            return
        if self.prove_moves and not fresh and record is not None:
            known = await self._registry.load_of(record.device_id)
            if known is not None and known.registration.peer != peer and may_be_forged(peer):
                self._refuse("unproven-move", peer, Status.UNAUTHORIZED, UNPROVEN, answer, prove=True)
                return
        body, taught = uplink.body, None
        try:
            if parameters.profile_ids:
                device_id = None if record is None else record.device_id
                body, taught = await self.lists.complete(endpoint_name, device_id, parameters.profile_ids, body)
            objects = decode_object_list(body)
            if not objects.objects and parameters.version not in _WITHOUT_PROFILES:
                raise UnknownProfile(parameters.profile_ids)
        except UnknownProfile as error:
            self._refuse("profile", peer, Status.CONFLICT, str(error), answer)
            self._note(record, peer, str(error), at)
            return
        except PeerError as error:
            self._refuse("objects", peer, Status.BAD_REQUEST, str(error), answer)
            self._note(record, peer, str(error), at)
            return
        record = record or await self._provision(endpoint_name, at)
        # Somebody else may have made it meanwhile, and given it a key.
        if record is None or isinstance(record, EndDeviceRecord) or not self.speaking.may_speak(peer, record):
            self._refuse("name-taken", peer, Status.FORBIDDEN, "the name is another device's", answer)
            return
        types = self.types_of(objects, parameters.version, record.tenant)
        registration = self._registration(
            parameters, endpoint_name, record, peer, body, objects, types, fresh or peer.is_proven
        )
        self._commit(registration, record, uplink, receipt, at, answer)
        if parameters.profile_ids:
            await self.lists.learn(endpoint_name, record.device_id, taught, body)

    def _commit(
        self,
        registration: Registration,
        record: DeviceRecord,
        uplink: Register,
        receipt: bytes,
        at: Instant,
        answer: Answer,
    ) -> None:
        detail = "&".join(uplink.query)
        rows = [
            JournalEntry(
                Kind.REGISTER,
                record.device_id,
                at.wall_ms,
                receipt,
                Status.CREATED,
                content_format=40,
                payload=registration.body,
                labels=record.uplink_labels,
                location=registration.location,
                method=registration.endpoint_name,
                detail=f"{detail} from {registration.peer}",
            )
        ]
        warnings = warnings_of(registration)
        rows += self.model_warnings.lines(record.device_id, warnings, at)

        def done(error: Exception | None) -> None:
            if error is not None:
                log_not_stored(log, "register.not_stored", error, endpoint_name=registration.endpoint_name)
                answer(self._brake.not_stored("register", error))
                return
            self.model_warnings.note(record.device_id, warnings)
            before = self._registry.of(record.device_id)
            known = self._registry.put(registration, record, at.now)
            if before is not None and self._registry.from_peer(before.registration.peer) is None:
                self._link.forget_peer(before.registration.peer)
            if before is not None and before.registration.peer != registration.peer:
                self.superseded(before.registration.peer)
            # The answer is on its way before anything we ask of the device.
            answer(Acknowledgement(Status.CREATED, location=registration.location))
            log.info(
                "registration.created",
                endpoint_name=registration.endpoint_name,
                location=registration.location,
                lifetime_s=registration.lifetime_s,
                version=registration.version,
                peer=str(registration.peer),
            )
            self._listener.device_registered(known, at)

        change = PutRegistration(registration, registration.deadline_ms(self._grace_s))
        self._store.submit(Commit(rows, (change,), done))

    def _registration(
        self,
        parameters: RegistrationParameters,
        endpoint_name: str,
        record: DeviceRecord,
        peer: PeerId,
        body: bytes,
        objects: ObjectList,
        types: DeviceTypes,
        proven: bool,
    ) -> Registration:
        now_ms = self._clock.lifetime_ms()
        lifetime_s = DEFAULT_LIFETIME_S if parameters.lifetime_s is None else parameters.lifetime_s
        return Registration(
            location=self._entropy.take(8).hex(),
            device_id=record.device_id,
            endpoint_name=endpoint_name,
            peer=peer,
            version=share(parameters.version),
            lifetime_s=share(lifetime_s),
            binding=share(parameters.binding),
            queue_mode=parameters.queue_mode,
            body=share(body),
            objects=objects,
            types=types,
            registered_ms=now_ms,
            updated_ms=now_ms,
            sms=parameters.sms or "",
            extra=merge_extra((), parameters.extra) if parameters.extra else (),
            proven=proven,
        )

    async def _provision(self, endpoint_name: str, at: Instant) -> DeviceRecord | None:
        new = NewDevice(endpoint_name, endpoint_name, (), "SCS-LwM2M", (), at.wall_ms)
        try:
            return await self._store.create_device(self._tenant_id, new)
        except AlreadyExists:
            return await self._store.device_by_endpoint(endpoint_name)

    def _refuse(
        self,
        reason: str,
        peer: PeerId,
        status: Status,
        detail: str,
        answer: Answer,
        *,
        prove: bool = False,
        noted: str = "",
    ) -> None:
        """``noted``: what the log says, where that is more than the device learns."""
        self._meters.registers_refused[reason] += 1
        log.info("register.refused", peer=str(peer), status=int(status), reason=reason, detail=noted or detail)
        answer(Acknowledgement(status, detail=detail, prove=prove))

    def refuse_other(self, what: str, peer: PeerId, record: DeviceRecord, detail: str, at: Instant) -> None:
        """``peer`` said something in the name of ``record``, whose identity it has not proven: count it and say so."""
        self._meters.identities_refused[what] += 1
        log.info("identity.refused", what=what, peer=str(peer), device=record.name, detail=detail)
        self.lines.write(record.device_id, "identity-refused", f"{what} from {peer}: {detail}", at)

    async def _note_for_named(self, uplink: Register, peer: PeerId, detail: str, at: Instant) -> None:
        """`_note` for whom the query names, as far as it can be read."""
        name = next((each[3:] for each in uplink.query if each.startswith("ep=")), "")
        try:
            record = await self._store.device_by_endpoint(name) if name else None
        except Exception as error:
            # It has its answer already.
            _log_failure(error)
            return
        self._note(record, peer, detail, at)

    def _note(self, record: DeviceRecord | None, peer: PeerId, detail: str, at: Instant) -> None:
        """A line in the device's log that its Register was refused. Anybody may send bad ones in its name."""
        if record is not None:
            self.lines.write(record.device_id, "register-refused", f"{detail}, from {peer}", at)


def _nobody(peer: PeerId) -> None:
    pass


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "device_log.lost", error)


def check_link_format(content_format: int | None) -> None:
    """Raises `NotLinkFormat` for a body that says it is something else; nothing said means link-format (R-13)."""
    if content_format not in _LINK_FORMATS:
        raise NotLinkFormat(content_format)


def may_be_forged(peer: PeerId) -> bool:
    """Whether anybody can write this address on a datagram: UDP without security. A connection or a session proves."""
    return peer.transport == "udp"


def warnings_of(registration: Registration) -> tuple[str, ...]:
    """What a person should know of the object list: what every device has to have but this one does not list (R-12),
    and where models fell back."""
    listed = registration.objects.objects
    missing = tuple(text for object_id, text in _MANDATORY if object_id not in listed)
    return missing + registration.types.warnings


class NotLinkFormat(PeerError):
    """The body of a Register or Update is in ``content_format``; it must be link-format (40)."""

    def __init__(self, content_format: int | None) -> None:
        self.content_format = content_format
        super().__init__(f"the object list is in Content-Format {content_format}; it must be link-format (40)")
