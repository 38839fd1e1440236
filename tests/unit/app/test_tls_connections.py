"""Whose connections behind TLS are, and which have to end."""

from stellwerk.app.handlers.tls_connections import TOO_MANY, TlsConnections
from stellwerk.app.live_peers import MOST_PER_DEVICE
from stellwerk.app.meters import SecureMeters
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.identity import PskIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.storage.memory import MemoryStore

NOW = Instant(1000.0, 1_790_000_000_000)
DEVICE = DeviceId(7)


class Wire:
    """The link, as a list of what it was told to close."""

    def __init__(self) -> None:
        self.closed: list[tuple[PeerId, str]] = []

    def close(self, peer: PeerId, why: str, *, is_abort: bool = False) -> None:
        self.closed.append((peer, why))

    def give_key(self, handshake: int, key: bytes, device_id: DeviceId) -> None: ...

    def accept(self, handshake: int, device_id: DeviceId) -> None: ...

    def refuse(self, handshake: int, reason: str, detail: str) -> None: ...

    def forget_handshakes(self, device_id: DeviceId) -> None: ...


def test_connections_that_come_faster_than_others_end_are_bounded_all_the_same() -> None:
    wire = Wire()
    store = MemoryStore()
    connections = TlsConnections(store=store, tasks=Tasks(), link=wire, lines=RareLines(store), meters=SecureMeters())
    peers = [PeerId("tls", "192.0.2.7", number, "192.0.2.1", 5684) for number in range(MOST_PER_DEVICE + 3)]
    for each in peers:
        connections.established(each, PskIdentity(b"id"), DEVICE, NOW)
    assert set(wire.closed) == {(each, TOO_MANY) for each in peers[:3]}
    for each in peers[:3]:
        connections.ended(each, "closed", "")
    wire.closed.clear()
    connections.established(peers[0]._replace(remote_port=99), PskIdentity(b"id"), DEVICE, NOW)
    assert wire.closed == [(peers[3], TOO_MANY)]
