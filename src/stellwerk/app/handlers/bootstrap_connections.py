"""Connections behind TLS with the bootstrap server: whose each is."""

import structlog

from stellwerk.app.failures import LONGEST_IDENTITY
from stellwerk.app.handlers.bootstrap_channels import BootstrapChannels, ChannelTable
from stellwerk.app.handlers.tls_connections import TlsLink
from stellwerk.app.meters import SecureMeters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)


class BootstrapConnections(BootstrapChannels):
    """Implements `southbound.tls_peers.ConnectionKeeper`. ``link`` reaches the engine."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: TlsLink,
        lines: RareLines,
        meters: SecureMeters,
        table: ChannelTable,
        per_tenant: float = 0.0,
    ) -> None:
        super().__init__(
            store=store,
            tasks=tasks,
            clock=clock,
            link=link,
            lines=lines,
            meters=meters,
            table=table,
            per_tenant=per_tenant,
        )
        self._link = link

    def established(self, peer: PeerId, identity: SecureIdentity, device_id: DeviceId, at: Instant) -> None:
        """A handshake is complete."""
        self._note(peer, identity, device_id, at)
        log.info(
            "bootstrap_session.established",
            device_id=device_id,
            identity=str(identity)[:LONGEST_IDENTITY],
            peer=str(peer),
        )

    def ended(self, peer: PeerId, reason: str, detail: str) -> None:
        """The connection is no more."""
        self._drop(peer, reason)

    def _close(self, peer: PeerId, why: str) -> None:
        self._link.close(peer, why)

    def _forget_handshakes(self, device_id: DeviceId) -> None:
        self._link.forget_handshakes(device_id)
