"""Secure sessions of DTLS with the bootstrap server: whose each is. What they have in common with connections behind
TLS is in `bootstrap_channels`."""

import structlog

from stellwerk.app.device_ports import SecureLink
from stellwerk.app.failures import LONGEST_IDENTITY
from stellwerk.app.handlers.bootstrap_channels import BootstrapChannels
from stellwerk.app.session import SecureSession
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)


class BootstrapSessions(BootstrapChannels[SecureLink]):
    """Implements `southbound.secure_peers.SessionKeeper`."""

    @property
    def devices(self) -> dict[PeerId, DeviceId]:
        """Whose each session in memory is."""
        return self._table.devices

    def may_reach(self, peer: PeerId) -> bool:
        """Whether what is sent to the session may arrive."""
        return peer in self._since

    def keep(self, session: SecureSession) -> None:
        """Nothing is stored: a restart ends the session, so no number of it is ever used twice."""
        self._link.stored(session.session_id, session.ceiling)

    def asked_to_resume(
        self, handshake: int, identity: SecureIdentity, device_id: DeviceId, session_id: bytes, at: Instant
    ) -> None:
        """No session is resumed."""
        self._link.refuse(handshake, "unknown-identity", f"the session of the {identity} is not kept any more")

    def asked_for_session(self, question: int, session_id: bytes | None, address: PeerId | None, at: Instant) -> None:
        """None is stored."""
        self._link.no_session(question)

    def established(
        self,
        peer: PeerId,
        address: PeerId,
        identity: SecureIdentity,
        device_id: DeviceId,
        at: Instant,
        *,
        resumed: PeerId | None = None,
    ) -> None:
        """A handshake is complete."""
        self._note(peer, identity, device_id, at)
        self._table.addresses[peer] = address
        log.info(
            "bootstrap_session.established",
            device_id=device_id,
            identity=str(identity)[:LONGEST_IDENTITY],
            peer=str(peer),
            address=str(address),
        )

    def moved(self, peer: PeerId, old: PeerId, new: PeerId) -> None:
        """The session is heard from another address; what is under way goes on there."""
        self._meters.moved += 1
        if peer in self._since:
            self._table.addresses[peer] = new
        log.info("bootstrap_session.moved", peer=str(peer), old=str(old), new=str(new))

    def ended(self, peer: PeerId, reason: str, detail: str, at: Instant) -> None:
        """The session is no more."""
        self._drop(peer, reason)
        if reason == "evicted":
            # It is stored nowhere, so there is no other end but this.
            self._link.lose(peer, "the secure session had to make room for others")

    def _close(self, peer: PeerId, why: str) -> None:
        self._link.close(peer)
