"""Connections behind TLS: whose each is, and which have to end (contract §1.8, §2; decision 0015).

The same rules as for secure sessions of DTLS say who may come in. A connection is not stored and not resumed: it ends
with its stream, and its device makes another one.
"""

from typing import Final, Protocol

import structlog

from stellwerk.app.bootstrap_identities import BOOTSTRAP_PORTS, BootstrapIdentities
from stellwerk.app.failures import LONGEST_IDENTITY, Failures
from stellwerk.app.handlers.handshakes import HandshakeLink, Handshakes
from stellwerk.app.handlers.promoting import Promoting
from stellwerk.app.identities import Identities
from stellwerk.app.live_peers import LivePeers
from stellwerk.app.meters import SecureMeters
from stellwerk.app.ports import DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.record import NOSEC, DeviceRecord

log = structlog.get_logger(__name__)

REPLACED: Final = "the credentials of this device were replaced"
TAKEN: Final = "the credentials of this device were taken away"
SUPERSEDED: Final = "the device speaks over another connection now"
TOO_MANY: Final = "the device has too many connections"


class TlsLink(HandshakeLink, Protocol):
    """Southbound: what connections behind TLS are told."""

    def close(self, peer: PeerId, why: str, *, is_abort: bool = False) -> None:
        """End a connection; its device is told ``why``. ``is_abort``: not in peace."""
        ...


class TlsConnections:
    """``link`` reaches the engine. ``per_tenant``: complete handshakes a second, 0 for no bound."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        link: TlsLink,
        lines: RareLines,
        meters: SecureMeters,
        per_tenant: float = 0.0,
        devices: dict[PeerId, DeviceId] | None = None,
        failures: Failures | None = None,
        promoting: Promoting | None = None,
    ) -> None:
        """``devices`` as for `LivePeers`, ``failures`` as for `Handshakes`, ``promoting`` as for `SecureSessions`."""
        self._link = link
        self._meters = meters
        self.handshakes = Handshakes(
            identities=Identities(store),
            tasks=tasks,
            link=link,
            lines=lines,
            meters=meters,
            per_tenant=per_tenant,
            failures=failures,
            elsewhere=(BootstrapIdentities(store), BOOTSTRAP_PORTS),
        )
        self._live = LivePeers(devices)
        self.promoting = Promoting(store, tasks) if promoting is None else promoting
        self.promoting.hearers.append(self._promoted)

    def established(self, peer: PeerId, identity: SecureIdentity, device_id: DeviceId, at: Instant) -> None:
        """A handshake is complete; the connection is that device's. Its registration moves there with what it says."""
        self._meters.handshakes["full", ""] += 1
        shows_fresh = self.handshakes.completed(device_id, at, identity)
        log.info(
            "connection.secured", device_id=device_id, identity=str(identity)[:LONGEST_IDENTITY], address=str(peer)
        )
        for old in self._live.add(peer, device_id):
            self._link.close(old, TOO_MANY)
        if shows_fresh:
            self.promoting.used(peer, identity, device_id)

    def ended(self, peer: PeerId, reason: str, detail: str) -> None:
        """The connection is no more."""
        self._meters.ended[reason] += 1
        device_id = self._live.remove(peer)
        if device_id is not None:
            log.info("connection.ended", device_id=device_id, address=str(peer), reason=reason, detail=detail)

    def superseded(self, peer: PeerId) -> None:
        """The device is registered over another connection or session than ``peer`` now."""
        if peer.transport == "tls" and not peer.has_ended and peer in self._live:
            self._link.close(peer, SUPERSEDED)

    # -- revocation (SEC-9) --

    def revoked(self, device: DeviceRecord) -> None:
        """The device's credentials changed: nobody who came in with what they were stays."""
        self._end_all(device.device_id, TAKEN if device.security == NOSEC else REPLACED)

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone with all that was stored of it."""
        self._end_all(device_id, TAKEN)

    async def _promoted(self, device: DeviceRecord, peer: PeerId) -> None:
        """Of the device's connections only ``peer`` stays, and no handshake goes on that was begun with what it had."""
        self.handshakes.revisions += 1
        self._link.forget_handshakes(device.device_id)
        for other in self._live.of(device.device_id):
            if other != peer:
                self._link.close(other, REPLACED)

    def _end_all(self, device_id: DeviceId, why: str) -> None:
        self.handshakes.revisions += 1
        self._link.forget_handshakes(device_id)
        for peer in self._live.of(device_id):
            self._link.close(peer, why, is_abort=True)
