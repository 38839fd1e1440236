"""Secure sessions with the bootstrap server: whose each is. None is stored or resumed: each lives for as long as it is
of use, and whoever comes again later proves itself anew."""

import asyncio
from collections.abc import Callable
from itertools import takewhile
from typing import Final

import structlog

from stellwerk.app.bootstrap_identities import MANAGEMENT_PORTS, BootstrapIdentities
from stellwerk.app.device_ports import SecureLink
from stellwerk.app.failures import LONGEST_IDENTITY, Failures
from stellwerk.app.handlers.handshakes import Handshakes
from stellwerk.app.identities import Identities
from stellwerk.app.meters import SecureMeters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.session import SecureSession
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import CertificateIdentity, SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)

IDLE_S: Final = 600.0
"""How long a session may be that nothing goes on with: a device of LwM2M 1.0 may wait in it for the server to begin."""
LOOK_EVERY_S: Final = 30.0


class BootstrapSessions:
    """Implements `southbound.secure_peers.SessionKeeper`. ``link`` reaches the engine; ``per_tenant``: complete
    handshakes a second, 0 for no bound. ``is_used`` is set once there is who knows: whether a device is being
    bootstrapped."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: SecureLink,
        lines: RareLines,
        meters: SecureMeters,
        per_tenant: float = 0.0,
    ) -> None:
        self._link = link
        self._clock = clock
        self._meters = meters
        self.is_used: Callable[[DeviceId], bool] = lambda device_id: False
        self._since: dict[PeerId, float] = {}
        """When each session was made, or was last seen to be of use, longest ago first."""
        self.failures = Failures(tasks=tasks, lines=lines)
        """Handshakes that came to nothing."""
        self.handshakes = Handshakes(
            identities=BootstrapIdentities(store),
            tasks=tasks,
            link=link,
            lines=lines,
            meters=meters,
            per_tenant=per_tenant,
            failures=self.failures,
            elsewhere=(Identities(store), MANAGEMENT_PORTS),
        )
        self.devices: dict[PeerId, DeviceId] = {}
        """Whose each session in memory is."""
        self.identities: dict[PeerId, SecureIdentity] = {}
        """What it has proven."""
        self._addresses: dict[PeerId, PeerId] = {}
        """Where it was heard last."""

    def __len__(self) -> int:
        return len(self.devices)

    def whence(self, peer: PeerId) -> str:
        """A peer for people; of a session its address, too."""
        address = self._addresses.get(peer)
        return str(peer) if address is None else f"{address}, {peer}"

    async def run(self) -> None:
        """`look` now and then, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Close the sessions that are of no use any more."""
        now = self._clock.now()
        for peer, _ in list(takewhile(lambda each: each[1] <= now - IDLE_S, self._since.items())):
            del self._since[peer]
            if self.is_used(self.devices[peer]):
                self._since[peer] = now
            else:
                self._link.close(peer)

    def keys_changed(self) -> None:
        """Perhaps an authority is trusted no more: who came with a certificate has to show it anew."""
        for peer in [each for each, shown in self.identities.items() if isinstance(shown, CertificateIdentity)]:
            self._link.close(peer)

    def may_reach(self, peer: PeerId) -> bool:
        """Whether what is sent to the session may arrive."""
        return peer in self.devices

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
        self._meters.handshakes["full", ""] += 1
        self.handshakes.completed(device_id, at)
        self.devices[peer], self.identities[peer], self._addresses[peer] = device_id, identity, address
        self._since[peer] = at.now
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
        if peer in self.devices:
            self._addresses[peer] = new
        log.info("bootstrap_session.moved", peer=str(peer), old=str(old), new=str(new))

    def ended(self, peer: PeerId, reason: str, detail: str, at: Instant) -> None:
        """The session is no more."""
        self._meters.ended[reason] += 1
        self.devices.pop(peer, None)
        self.identities.pop(peer, None)
        self._addresses.pop(peer, None)
        self._since.pop(peer, None)
        if reason == "evicted":
            # It is stored nowhere, so there is no other end but this.
            self._link.lose(peer, "the secure session had to make room for others")

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone, or its credentials changed: nobody stays who came in with them."""
        self.handshakes.revisions += 1
        self._link.forget_handshakes(device_id)
        for peer in [each for each in self.identities if self.devices[each] == device_id]:
            self._link.close(peer)
