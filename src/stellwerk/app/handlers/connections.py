"""Connections and secure sessions of devices that end (contract §1.8, BIN-4): downlink waits, the registration stays.

A device behind a lost one is offline until it is heard again, over whatever it then speaks; its lifetime runs
on. Its observations died with the connection and are asked for again when it is heard, since it has moved then.
"""

from collections.abc import Callable
from dataclasses import replace

import structlog

from stellwerk.app.changes import ChangeRegistration, Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import DeviceLink
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import Known, Registry
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)


class Connections:
    """``grace_s``: what a registration stays beyond its lifetime. ``device_of``: who has proven to be at the other end
    of a connection behind TLS."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        link: DeviceLink,
        grace_s: float = 0.0,
        device_of: Callable[[PeerId], DeviceId | None],
    ) -> None:
        self._grace_s = grace_s
        self._device_of = device_of
        self._store = store
        self._registry = registry
        self._link = link

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The connection or session of ``peer`` stands no more; tell it of every device that was registered there."""
        for known in self._registry.disconnect(peer):
            self._tell(known, peer, why, at)

    def _tell(self, known: Known, peer: PeerId, why: str, at: Instant) -> None:
        registration = known.registration
        detail = f"{why}; what is to be sent waits until the device is heard again"
        log.info("registration.disconnected", endpoint_name=registration.endpoint_name, peer=str(peer), detail=why)
        reason = "session-ended" if peer.is_session else "connection-lost"
        row = JournalEntry(Kind.LOG, registration.device_id, at.wall_ms, reason=reason, detail=detail)
        self._store.submit(Commit((row,), self._without(peer, known), _log_failure))

    def _without(self, peer: PeerId, known: Known) -> tuple[ChangeRegistration, ...]:
        """What tells a later run that nothing is to be sent to the session, though it may be kept and resumed. Of a
        connection it knows that anyway."""
        newest = known.pending or known.registration
        if not peer.is_session or newest.peer not in (peer, peer.ended()):
            return ()
        changed = replace(newest, peer=peer.ended())
        return (ChangeRegistration(changed, changed.deadline_ms(self._grace_s)),)

    def settled(self, known: Known, at: Instant) -> None:
        """The device registered or moved; its connection may have ended while that was being stored."""
        # Devices behind a gateway speak over its connection.
        known = known.household or known
        peer = known.registration.peer
        if not peer.is_channel or peer.has_ended:
            return
        if not self._link.reaches(peer):
            self.lost(peer, "it ended at once", at)
        elif peer.transport == "tls" and self._device_of(peer) != known.registration.device_id:
            # The same two ends have met again, and it is somebody else now: what is to be sent is not for him.
            self._registry.part(known)
            self._tell(known, peer, "it ended at once", at)


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "device_log.lost", error)
