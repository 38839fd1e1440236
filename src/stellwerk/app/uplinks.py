"""What a device tells us, from operation to acknowledgement: decide, commit, then change memory and answer.

Every path ends in exactly one call of ``answer``. Nothing is acknowledged that is not stored (design §3); when the
store cannot take it the device is told 5.03 with Max-Age and asked to come again.
"""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, Protocol

import structlog

from stellwerk.app.brake import Brake, Level
from stellwerk.app.changes import Change, ChangeRegistration, Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import Acknowledgement, DeviceLink
from stellwerk.app.handlers.deregistering import Deregistering
from stellwerk.app.handlers.moving import Moving
from stellwerk.app.handlers.registering import Answer, Registering, check_link_format, warnings_of
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.listener import Listener
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.app.registry import Known, KnownGateway, Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.core.sharing import share
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.formats import UnsupportedFormat, decode_content
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.operations import Deregister, Register, Send, Update, Uplink
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.profile_ids import UnknownProfile
from stellwerk.lwm2m.registration_parameters import UpdateParameters, decode_update, merge_extra
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

_LINK_FORMAT: Final = 40
_ROOT: Final = Path()
_PROFILE: Final = "pid"

_CHANGED: Final = Acknowledgement(Status.CHANGED)

_REFUSED_FROM: Final[dict[type[Uplink], Level]] = {
    Send: Level.SEND,
    Register: Level.REGISTER,
    Update: Level.UPDATE,
    Deregister: Level.UPDATE,
}
_KINDS: Final[dict[type[Uplink], str]] = {
    Send: "send",
    Register: "register",
    Update: "update",
    Deregister: "deregister",
}


class SendsOfGateways(Protocol):
    """A Send of a device that others are behind: it may speak of them too."""

    def send(self, uplink: Send, known: KnownGateway, receipt: bytes, at: Instant, answer: Answer) -> None: ...


class Uplinks:
    """``gateway_sends``: None takes a gateway's Send as any device's."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        library: Library,
        registering: Registering,
        tasks: Tasks,
        clock: Clock,
        link: DeviceLink,
        listener: Listener,
        brake: Brake,
        grace_s: float,
        gateway_sends: SendsOfGateways | None = None,
    ) -> None:
        self._gateway_sends = gateway_sends
        self._brake = brake
        self._store = store
        self._registry = registry
        self._library = library
        self._registering = registering
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._listener = listener
        self._grace_s = grace_s
        self.moving = Moving(
            store=store, registry=registry, registering=registering, link=link, listener=listener, grace_s=grace_s
        )
        self._deregistering = Deregistering(
            store=store, registry=registry, moving=self.moving, link=link, listener=listener, brake=brake
        )

    def receive(
        self, uplink: Uplink, peer: PeerId, receipt: bytes, at: Instant, answer: Answer, fresh: bool = False
    ) -> None:
        """Take one uplink. Known devices are decided at once; an unknown one is looked up in the store first. What the
        brake refuses costs no look at all. ``fresh``: who sent it has shown that it receives at ``peer``."""
        if self._brake.level and self._brake.level >= _REFUSED_FROM[type(uplink)]:
            answer(self._brake.refusal(_KINDS[type(uplink)]))
            return
        if isinstance(uplink, Send):
            known = self._registry.from_peer(peer)
            if known is not None:
                self._send(uplink, known, receipt, at, answer)
                return
            work = self._send_unknown(uplink, peer, receipt, at, answer)
        elif isinstance(uplink, Update):
            known = self._registry.at(uplink.location)
            if known is not None and not (uplink.query and any(map(_may_name_profile, uplink.query))):
                self._update(uplink, known, peer, receipt, at, answer, fresh)
                return
            work = self._update_later(uplink, peer, receipt, at, answer, fresh)
        elif isinstance(uplink, Register):
            work = self._registering.register(uplink, peer, receipt, at, answer, fresh)
        elif isinstance(uplink, Deregister):
            work = self._deregistering.deregister(uplink, peer, receipt, at, answer, fresh)
        else:
            raise TypeError(f"{type(uplink).__name__} is not answered here")
        kind = _KINDS[type(uplink)]
        if not self._tasks.start(kind, self._answered(kind, work, answer)):
            work.close()
            self._brake.count(kind, "tasks")
            answer(self._brake.come_again("too many requests are being looked up"))

    # -- Send (Core §6.4.6; contract §6) --

    async def _send_unknown(self, uplink: Send, peer: PeerId, receipt: bytes, at: Instant, answer: Answer) -> None:
        known = await self._registry.load_from_peer(peer, at.now)
        if known is None and peer.is_proven:
            known = await self.moving.take_over(peer, at)
        if known is None:
            log.info("send.refused", peer=str(peer), reason="nobody is registered from this address")
            answer(Acknowledgement(Status.NOT_FOUND, detail="not registered from this address"))
        else:
            self._send(uplink, known, receipt, at, answer)

    def _send(self, uplink: Send, known: Known, receipt: bytes, at: Instant, answer: Answer) -> None:
        if type(known) is KnownGateway and self._gateway_sends is not None:
            self._gateway_sends.send(uplink, known, receipt, at, answer)
            return
        registration = known.registration
        root = registration.objects.root
        try:
            content = decode_content(
                uplink.content_format, uplink.body, _ROOT, registration.types, now_s=at.wall_ms / 1000, root=root
            )
        except UnsupportedFormat as error:
            self._refuse(known, at, Status.UNSUPPORTED_CONTENT_FORMAT, "send-refused", str(error), answer)
            return
        except PeerError as error:
            self._refuse(known, at, Status.BAD_REQUEST, "send-refused", str(error), answer)
            return
        objects = registration.objects.objects
        seen: tuple[int, ...] = ()
        for entry in content.entries:
            place = entry[0][:2]
            if place == seen:
                continue
            seen = place
            object_id, instance_id = place
            listed = objects.get(object_id)
            # A device that lists no instance of the object does not say which ones it has.
            if listed is None or (listed.instances and instance_id not in listed.instances):
                what = f"object {object_id}" if listed is None else f"object instance /{object_id}/{instance_id}"
                text = f"{what} is not in the registration"
                self._refuse(known, at, Status.NOT_FOUND, "send-refused", text, answer)
                return
        row = JournalEntry(
            Kind.SEND,
            registration.device_id,
            at.wall_ms,
            receipt,
            Status.CHANGED,
            "/",
            -1 if uplink.content_format is None else uplink.content_format,
            uplink.body,
            known.uplink_labels,
            root=root,
        )

        def done(error: Exception | None) -> None:
            if error is not None:
                answer(self._not_stored("send", error))
                return
            answer(_CHANGED)
            self._heard(known, at)

        self._store.submit(Commit((row,), (), done))

    # -- Update (Core §6.2.2; contract §4) --

    async def _update_later(
        self, uplink: Update, peer: PeerId, receipt: bytes, at: Instant, answer: Answer, fresh: bool
    ) -> None:
        """An Update that needs the store: for a registration that is only there, or for what a profile ID means."""
        known = await self._registry.load_at(uplink.location, at.now)
        if known is None:
            log.info("update.refused", peer=str(peer), reason="unknown location", location=uplink.location)
            answer(Acknowledgement(Status.NOT_FOUND, detail="no such registration"))
            return
        taught = None
        registration = known.registration
        # Before anything is made of what it says: a stranger teaches nothing and is not the device that was heard.
        if self.moving.refuses("update", known, peer, at, answer, fresh):
            return
        try:
            profile_ids = self._parameters(uplink, registration).profile_ids
            if profile_ids:
                check_link_format(uplink.content_format)
                body, taught = await self._registering.lists.complete(
                    registration.endpoint_name, registration.device_id, profile_ids, uplink.body
                )
                uplink = replace(uplink, body=body)
        except UnknownProfile as error:
            self._refuse(known, at, Status.CONFLICT, "update-refused", str(error), answer)
            return
        except PeerError as error:
            self._refuse(known, at, Status.BAD_REQUEST, "update-refused", str(error), answer)
            return
        current = self._registry.at(uplink.location)
        if current is None:
            # It ended while we looked.
            answer(Acknowledgement(Status.NOT_FOUND, detail="no such registration"))
            return
        if self._update(uplink, current, peer, receipt, at, answer, fresh) and profile_ids:
            await self._registering.lists.learn(registration.endpoint_name, registration.device_id, taught, uplink.body)

    def _update(
        self,
        uplink: Update,
        known: Known,
        peer: PeerId,
        receipt: bytes,
        at: Instant,
        answer: Answer,
        fresh: bool = False,
    ) -> bool:
        """Whether it is taken, as far as the store takes it."""
        # An Update may come while another is being stored: it builds on that one, and repeats it should that one fail.
        pending = known.pending
        registration = pending or known.registration
        changes: tuple[Change, ...] = ()
        changed = None
        updated_ms = self._clock.lifetime_ms()
        moved = peer != registration.peer
        if moved and self.moving.refuses("update", known, peer, at, answer, fresh):
            return False
        if uplink.query or uplink.body or pending is not None or moved:
            try:
                changed = self._changed(uplink, registration, peer, updated_ms, fresh)
            except PeerError as error:
                self._refuse(known, at, Status.BAD_REQUEST, "update-refused", str(error), answer)
                return False
            known.pending = changed
            changes = (ChangeRegistration(changed, changed.deadline_ms(self._grace_s)),)
        row = JournalEntry(
            Kind.UPDATE,
            registration.device_id,
            at.wall_ms,
            receipt,
            Status.CHANGED,
            content_format=_LINK_FORMAT if uplink.body else -1,
            payload=uplink.body,
            labels=known.uplink_labels,
            location=registration.location,
            detail="" if changed is None else _describe(registration.peer, changed.peer, uplink),
        )
        rows = [row]
        told = None
        if changed is not None and uplink.body:
            told = warnings_of(changed)
            rows += self._registering.model_warnings.lines(registration.device_id, told, at)

        def done(error: Exception | None) -> None:
            known.updating -= 1
            current = self._registry.at(uplink.location)
            if current is not None and current.pending is changed:
                current.pending = None
            if error is not None:
                answer(self._not_stored("update", error))
                return
            if told is not None:
                self._registering.model_warnings.note(registration.device_id, told)
            if current is None:
                # It ended or was replaced while this was being stored; the device learns that with its next Update.
                answer(_CHANGED)
                return
            if changed is None:
                current.registration.updated_ms = updated_ms
                if not current.registration.proven:
                    current.registration.proven = True
                    self._link.prove_peer(peer)
                answer(_CHANGED)
            else:
                answer(_CHANGED)
                current = self.moving.apply(changed, current, at)
            self._heard(current, at)

        known.updating += 1
        self._store.submit(Commit(rows, changes, done))
        return True

    def _parameters(self, uplink: Update, registration: Registration) -> UpdateParameters:
        lenient = self._registering.tolerances.queue_in_binding
        return decode_update(uplink.query, registration.version, lenient_queue=lenient)

    def _changed(
        self, uplink: Update, registration: Registration, peer: PeerId, updated_ms: int, fresh: bool
    ) -> Registration:
        """Raises the decoders' PeerErrors."""
        parameters = self._parameters(uplink, registration)
        objects, types, body = registration.objects, registration.types, registration.body
        if uplink.body:
            check_link_format(uplink.content_format)
            objects = decode_object_list(uplink.body)
            types = self._registering.types_of(objects, registration.version, types.tenant)
            # A list without ct keeps the formats known before (contract R-13).
            if objects.content_formats is None:
                objects = replace(objects, content_formats=registration.objects.content_formats)
            body = share(uplink.body)
        return replace(
            registration,
            peer=peer,
            lifetime_s=registration.lifetime_s if parameters.lifetime_s is None else parameters.lifetime_s,
            binding=parameters.binding or registration.binding,
            queue_mode=registration.queue_mode if parameters.queue_mode is None else parameters.queue_mode,
            sms=parameters.sms or registration.sms,
            extra=merge_extra(registration.extra, parameters.extra),
            objects=objects,
            types=types,
            body=body,
            updated_ms=updated_ms,
            # Whoever knows the location received our 2.01; at a new address that is yet to be shown.
            proven=fresh or peer.is_proven or peer == registration.peer,
        )

    # -- shared --

    async def _answered(self, kind: str, work: Coroutine[Any, Any, None], answer: Answer) -> None:
        """Run ``work``; when the store fails it, the device is told to come again instead of being left without a
        word."""
        try:
            await work
        except StoreTrouble as error:
            answer(self._not_stored(kind, error))
        except Exception as error:
            answer(self._not_stored(kind, error))
            raise

    def _not_stored(self, kind: str, error: Exception) -> Acknowledgement:
        log_not_stored(log, "uplink.not_stored", error, kind=kind)
        return self._brake.not_stored(kind, error)

    def _heard(self, known: Known, at: Instant) -> None:
        known.last_heard = at.now
        self._listener.device_heard(known, at)

    def _refuse(self, known: Known, at: Instant, status: Status, event: str, detail: str, answer: Answer) -> None:
        """Answer and leave a line in the device's log; the answer does not wait for the line."""
        log.info("uplink.refused", endpoint_name=known.registration.endpoint_name, reason=event, detail=detail)
        answer(Acknowledgement(status, detail=detail))
        row = JournalEntry(Kind.LOG, known.registration.device_id, at.wall_ms, reason=event, detail=detail)
        self._store.submit(Commit((row,), (), _ignore))
        # What it said makes no sense, and it listens all the same (QM-2).
        self._heard(known, at)


def _may_name_profile(parameter: str) -> bool:
    return parameter.startswith(_PROFILE) or "%" in parameter


def _ignore(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "device_log.lost", error)


def _describe(old: PeerId, new: PeerId, uplink: Update) -> str:
    parts = list(uplink.query)
    if old != new:
        parts.append(f"address {old} -> {new}")
    if uplink.body:
        parts.append("new object list")
    return ", ".join(parts)
