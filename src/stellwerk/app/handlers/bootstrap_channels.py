"""What secure sessions of DTLS and connections behind TLS have in common at the bootstrap server: whose each is, and
for how long it may be. None is stored or resumed: each lives for as long as it is of use, and whoever comes again later
proves itself anew."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, Generic, TypeVar

from stellwerk.app.bootstrap_identities import MANAGEMENT_PORTS, BootstrapIdentities
from stellwerk.app.failures import Failures
from stellwerk.app.handlers.handshakes import HandshakeLink, Handshakes
from stellwerk.app.identities import Identities
from stellwerk.app.live_peers import LivePeers
from stellwerk.app.meters import SecureMeters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import CertificateIdentity, SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant

IDLE_S: Final = 600.0
"""How long a channel may be that nothing goes on with: a device of LwM2M 1.0 may wait in it for the server to begin."""
LOOK_EVERY_S: Final = 30.0

L = TypeVar("L", bound=HandshakeLink)


@dataclass(slots=True)
class ChannelTable:
    """Of every kind of channel, for those who look only."""

    failures: Failures
    """Handshakes that came to nothing."""
    devices: dict[PeerId, DeviceId] = field(default_factory=dict)
    """Whose each channel is, and each OSCORE context."""
    identities: dict[PeerId, SecureIdentity] = field(default_factory=dict)
    """What a channel has proven."""
    addresses: dict[PeerId, PeerId] = field(default_factory=dict)
    """Where a session was heard last."""

    def whence(self, peer: PeerId) -> str:
        """A peer for people; of a session its address, too."""
        address = self.addresses.get(peer)
        return str(peer) if address is None else f"{address}, {peer}"


class BootstrapChannels(Generic[L]):
    """One kind of them. ``link`` reaches the engine; ``per_tenant``: complete handshakes a second, 0 for
    no bound. ``is_used`` is set once there is who knows: whether a device is being bootstrapped."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: L,
        lines: RareLines,
        meters: SecureMeters,
        table: ChannelTable,
        per_tenant: float = 0.0,
    ) -> None:
        self._clock = clock
        self._link = link
        self._meters = meters
        self._table = table
        self._live = LivePeers(table.devices)
        self.is_used: Callable[[DeviceId], bool] = lambda device_id: False
        self._since: dict[PeerId, float] = {}
        """When each channel was made, or was last seen to be of use, longest ago first."""
        self.handshakes = Handshakes(
            identities=BootstrapIdentities(store),
            tasks=tasks,
            link=link,
            lines=lines,
            meters=meters,
            per_tenant=per_tenant,
            failures=table.failures,
            elsewhere=(Identities(store), MANAGEMENT_PORTS),
        )

    def __len__(self) -> int:
        return len(self._since)

    async def run(self) -> None:
        """`look` now and then, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Close those that are of no use any more."""
        now = self._clock.now()
        for peer, _ in list(takewhile(lambda each: each[1] <= now - IDLE_S, self._since.items())):
            del self._since[peer]
            # Where its end is told only later, it is looked at again.
            self._since[peer] = now
            if not self.is_used(self._table.devices[peer]):
                self._close(peer, "nothing was done with it for a while")

    def keys_changed(self) -> None:
        """Perhaps an authority is trusted no more: who came with a certificate has to show it anew."""
        self.handshakes.trusts += 1
        for peer in [each for each in self._since if isinstance(self._table.identities[each], CertificateIdentity)]:
            self._close(peer, "what the server trusts has changed")

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone, or its credentials changed: nobody stays who came in with them."""
        self.handshakes.revisions += 1
        self._link.forget_handshakes(device_id)
        for peer in self._live.of(device_id):
            self._close(peer, "the credentials of this device changed")

    def _note(self, peer: PeerId, identity: SecureIdentity, device_id: DeviceId, at: Instant) -> None:
        """A handshake is complete."""
        self._meters.handshakes["full", ""] += 1
        self.handshakes.completed(device_id, at)
        self._table.identities[peer] = identity
        self._since[peer] = at.now
        for old in self._live.add(peer, device_id):
            self._close(old, "the device has too many with the bootstrap server")

    def _drop(self, peer: PeerId, reason: str) -> None:
        """The channel is no more."""
        self._meters.ended[reason] += 1
        self._live.remove(peer)
        self._table.identities.pop(peer, None)
        self._table.addresses.pop(peer, None)
        self._since.pop(peer, None)

    def _close(self, peer: PeerId, why: str) -> None:
        raise NotImplementedError
