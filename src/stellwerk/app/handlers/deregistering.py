"""De-register: a device says that it goes, and those behind it go too (Core 1.2.2 §6.2.3; contract §4)."""

from typing import Final

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.changes import Commit, DropRegistration
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import Acknowledgement, DeviceLink
from stellwerk.app.end_devices import ends_behind
from stellwerk.app.handlers.moving import Moving
from stellwerk.app.handlers.registering import Answer
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.listener import Listener
from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import Registry
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Deregister
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

_DELETED: Final = Acknowledgement(Status.DELETED)


class Deregistering:
    """``moving``: says who may."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        moving: Moving,
        link: DeviceLink,
        listener: Listener,
        brake: Brake,
    ) -> None:
        self._store = store
        self._registry = registry
        self._moving = moving
        self._link = link
        self._listener = listener
        self._brake = brake

    async def deregister(
        self, uplink: Deregister, peer: PeerId, receipt: bytes, at: Instant, answer: Answer, fresh: bool
    ) -> None:
        """Answers 2.02, or 4.00, 4.01, 4.04, 5.03. Raises what the store raised."""
        known = await self._registry.load_at(uplink.location, at.now)
        if known is None:
            log.info("deregister.refused", peer=str(peer), reason="unknown location", location=uplink.location)
            answer(Acknowledgement(Status.NOT_FOUND, detail="no such registration"))
            return
        if self._moving.refuses("deregister", known, peer, at, answer, fresh):
            return
        ends = await ends_behind(
            self._store, known.registration, Kind.DEREGISTER, at, f"gateway {known.record.name} de-registered"
        )
        # It may have been replaced meanwhile: by itself as an Update left it, or by nothing.
        current = self._registry.at(uplink.location)
        if current is None:
            answer(Acknowledgement(Status.NOT_FOUND, detail="no such registration"))
            return
        known = current
        if known.leaving is not None:
            # Its end is being stored; whoever asks again hears of the same one.
            known.leaving.append(answer)
            return
        waiting = known.leaving = [answer]
        registration = known.registration
        row = JournalEntry(
            Kind.DEREGISTER,
            registration.device_id,
            at.wall_ms,
            receipt,
            Status.DELETED,
            labels=known.uplink_labels,
            location=registration.location,
        )

        def done(error: Exception | None) -> None:
            if error is not None:
                log_not_stored(log, "uplink.not_stored", error, kind="deregister")
            acknowledgement = _DELETED if error is None else self._brake.not_stored("deregister", error)
            for each in waiting:
                each(acknowledgement)
            if error is not None:
                current = self._registry.at(registration.location)
                if current is not None:
                    current.leaving = None
                return
            log.info("registration.ended", endpoint_name=registration.endpoint_name, location=registration.location)
            for ended in (registration, *ends.registrations):
                forget_registration(self._registry, self._link, self._listener, ended, at)

        drop = DropRegistration(registration.device_id, registration.location)
        self._store.submit(Commit((row, *ends.entries), (drop, *ends.changes), done))


def forget_registration(
    registry: Registry, link: DeviceLink, listener: Listener, registration: Registration, at: Instant
) -> None:
    """``registration`` ended, and that is stored: let go of what memory and engine hold for it."""
    known = registry.of(registration.device_id)
    if known is not None and known.registration.location != registration.location:
        # The device registered anew while the end of the old registration was being stored.
        return
    # An Update may have moved it meanwhile.
    peer = registration.peer if known is None else known.registration.peer
    registry.drop(registration.device_id)
    if registry.from_peer(peer) is None:
        link.forget_peer(peer)
    listener.device_lost(registration.device_id, at)
