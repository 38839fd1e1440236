"""Secure sessions of DTLS with the bootstrap server: whose each is. What they have in common with connections behind
TLS is in `bootstrap_channels`."""

import structlog

from stellwerk.app.device_ports import SecureLink
from stellwerk.app.failures import LONGEST_IDENTITY
from stellwerk.app.handlers.bootstrap_channels import BootstrapChannels, ChannelTable
from stellwerk.app.meters import SecureMeters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.session import SecureSession
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)


class BootstrapSessions(BootstrapChannels):
    """Implements `southbound.secure_peers.SessionKeeper`. ``link`` reaches the engine."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: SecureLink,
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
        self.devices = table.devices
        """Whose each session in memory is."""

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

    def _forget_handshakes(self, device_id: DeviceId) -> None:
        self._link.forget_handshakes(device_id)
