"""Connections behind TLS with the bootstrap server: whose each is."""

import structlog

from stellwerk.app.failures import LONGEST_IDENTITY
from stellwerk.app.handlers.bootstrap_channels import BootstrapChannels
from stellwerk.app.handlers.tls_connections import TlsLink
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)


class BootstrapConnections(BootstrapChannels[TlsLink]):
    """Implements `southbound.tls_peers.ConnectionKeeper`."""

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
