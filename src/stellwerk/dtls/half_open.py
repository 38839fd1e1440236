"""Handshakes under way, bounded so that nobody's flood is everybody's (RFC 6347 §4.2.1 gives the rest: whoever is
here has shown that it receives at its address).

One network (an IPv4 address, an IPv6 /64) has at most ``per_network`` of them. When that is reached, its oldest makes
room if it has been waiting for its peer for a while; otherwise the newcomer comes too early. When ``total`` is reached,
the oldest of the network with the most makes room, so that a network with few is never the one to lose.
"""

from typing import Final, Generic, Protocol, TypeVar

from stellwerk.core.ids import PeerId

_NETWORK_GROUPS: Final = 4


class HalfOpenHandshake(Protocol):
    """What is bounded."""

    address: PeerId
    began: float


H = TypeVar("H", bound=HalfOpenHandshake)


def network_of(address: PeerId) -> str:
    """Who has to share: an IPv4 address, or the /64 of an IPv6 address."""
    host = address.remote_host
    if ":" not in host:
        return host
    host = host.split("%", 1)[0]
    if host.lower().startswith("::ffff:") and "." in host:
        return host[7:]
    head, gap, tail = host.partition("::")
    groups = head.split(":") if head else []
    if gap:
        # The last two groups may be written as an IPv4 address.
        after = tail.split(":") if tail else []
        written = len(groups) + len(after) + (1 if "." in tail else 0)
        groups += ["0"] * (8 - written) + after
    return ":".join(group.lstrip("0").lower() or "0" for group in groups[:_NETWORK_GROUPS]) + "::/64"


class HalfOpen(Generic[H]):
    """All handshakes of one endpoint by address, in the order in which they began."""

    __slots__ = ("_by_address", "_levels", "_most", "_networks", "_patience", "_per_network", "_total")

    def __init__(self, total: int, per_network: int, patience_s: float) -> None:
        self._total = total
        self._per_network = per_network
        self._patience = patience_s
        self._by_address: dict[PeerId, H] = {}
        self._networks: dict[str, dict[PeerId, H]] = {}
        # Networks by how many handshakes they have, for finding the one with the most without a search.
        self._levels: list[dict[str, None]] = [{} for _ in range(per_network + 1)]
        self._most = 0

    def __len__(self) -> int:
        return len(self._by_address)

    def find(self, address: PeerId) -> H | None:
        """The handshake with ``address``."""
        return self._by_address.get(address)

    def all(self) -> list[H]:
        """Every handshake."""
        return list(self._by_address.values())

    def make_room(self, address: PeerId, now: float) -> tuple[bool, H | None]:
        """Whether a newcomer from ``address`` may come in, and who has to go for it (end it, then `add`)."""
        mine = self._networks.get(network_of(address), {})
        if len(mine) >= self._per_network:
            oldest = next(iter(mine.values()))
            return (True, oldest) if now - oldest.began >= self._patience else (False, None)
        if len(self._by_address) < self._total:
            return True, None
        largest = next(iter(self._levels[self._most]))
        if self._most <= len(mine):
            return (False, None) if not mine else (True, next(iter(mine.values())))
        return True, next(iter(self._networks[largest].values()))

    def add(self, handshake: H) -> None:
        """Take in a handshake at an address that has none."""
        network = network_of(handshake.address)
        mine = self._networks.get(network)
        if mine is None:
            mine = self._networks[network] = {}
        else:
            del self._levels[len(mine)][network]
        mine[handshake.address] = self._by_address[handshake.address] = handshake
        self._levels[len(mine)][network] = None
        self._most = max(self._most, len(mine))

    def drop(self, handshake: H) -> None:
        """Forget a handshake; nothing happens to one that is not here."""
        address = handshake.address
        if self._by_address.get(address) is not handshake:
            return
        del self._by_address[address]
        network = network_of(address)
        mine = self._networks[network]
        del self._levels[len(mine)][network]
        del mine[address]
        if mine:
            self._levels[len(mine)][network] = None
        else:
            del self._networks[network]
        while self._most and not self._levels[self._most]:
            self._most -= 1
