"""A bad network as a process: forwards UDP datagrams between devices and a server, some of them lost, twice or late."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from stellwerk.core.ids import PeerId
from stellwerk.net.udp import BUFFER_BYTES, UdpSocket
from stellwerk.sim.impairment import Conditions, Impairment, is_acknowledgement
from stellwerk.sim.reach import local_address

log = structlog.get_logger(__name__)

Address: TypeAlias = tuple[str, int]

_CLIENTS_AT_MOST: Final = 4_096
_BATCH: Final = 128


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """Where to listen, where the server is, and how bad each direction is. Port 0 takes a free one.

    ``control`` listens for orders as text datagrams: ``drop-ack up``, ``drop-ack down``, ``drop up``, ``drop down``,
    ``move`` and ``stats``; each is answered with one line. Whoever reaches it is obeyed, so keep it on loopback.
    Encrypted datagrams show no acknowledgements: over DTLS ``drop-ack`` waits in vain.
    """

    listen: Address
    server: Address
    up: Conditions = field(default_factory=Conditions)
    down: Conditions = field(default_factory=Conditions)
    seed: int = 1
    control: Address | None = None


class Relay:
    """One listening socket; for each client a socket of its own towards the server, as a NAT has.

    Binds at once and forwards while the running event loop turns. Raises `CannotBind`, `NoServer`.
    """

    def __init__(self, options: RelayOptions) -> None:
        self.options = options
        self.up = Impairment(options.up, options.seed)
        self.down = Impairment(options.down, options.seed + 1)
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(BUFFER_BYTES)
        self._local_host = local_address(*options.server)
        self._upstream: dict[PeerId, UdpSocket] = {}
        self._control: UdpSocket | None = None
        self._closed = False
        self._listening = self._listen(*options.listen, self._from_client)
        if options.control is not None:
            self._control = self._listen(*options.control, self._obey)

    @property
    def address(self) -> Address:
        """Where devices reach the relay."""
        return self._listening.host, self._listening.port

    @property
    def control_address(self) -> Address | None:
        """Where orders are heard."""
        return None if self._control is None else (self._control.host, self._control.port)

    def drop_next_ack(self, *, up: bool) -> None:
        """Lose the next acknowledgement towards the server (``up``) or towards the device."""
        (self.up if up else self.down).drop_next(is_acknowledgement)

    def move_clients(self) -> int:
        """Give every client a new port towards the server with its next datagram, as a NAT does that lost its table.
        How many will move."""
        moved = len(self._upstream)
        for each in self._upstream.values():
            self._shut(each)
        self._upstream.clear()
        return moved

    def close(self) -> None:
        """Close every socket; what was still on its way is lost."""
        if not self._closed:
            self._closed = True
            self.move_clients()
            self._shut(self._listening)
            if self._control is not None:
                self._shut(self._control)

    # -- both directions --

    def _from_client(self, datagram: bytes, client: PeerId) -> None:
        for delay in self.up.fate(datagram):
            self._after(delay, lambda: self._to_server(datagram, client))

    def _to_server(self, datagram: bytes, client: PeerId) -> None:
        upstream = self._upstream.get(client)
        if upstream is None:
            if len(self._upstream) >= _CLIENTS_AT_MOST:
                log.warning("relay.full", clients=len(self._upstream))
                return
            upstream = self._listen(self._local_host, 0, lambda answer, _: self._from_server(answer, client))
            self._upstream[client] = upstream
        upstream.send(datagram, PeerId("udp", *self.options.server, upstream.host, upstream.port))

    def _from_server(self, datagram: bytes, client: PeerId) -> None:
        for delay in self.down.fate(datagram):
            self._after(delay, lambda: self._listening.send(datagram, client))

    def _after(self, delay: float, act: Callable[[], object]) -> None:
        if delay:
            self._loop.call_later(delay, self._unless_closed, act)
        else:
            act()

    def _unless_closed(self, act: Callable[[], object]) -> None:
        if not self._closed:
            act()

    # -- orders --

    def _obey(self, order: bytes, sender: PeerId) -> None:
        assert self._control is not None
        self._control.send(self._answer(order.decode("ascii", "replace").split()).encode(), sender)

    def _answer(self, words: list[str]) -> str:
        directions = {"up": self.up, "down": self.down}
        if words == ["move"]:
            return f"moved {self.move_clients()}"
        if words == ["stats"]:
            return " ".join(
                f"{name} delivered={each.delivered} lost={each.lost} duplicated={each.duplicated}"
                for name, each in directions.items()
            )
        if len(words) == 2 and words[0] in ("drop", "drop-ack") and words[1] in directions:
            directions[words[1]].drop_next(is_acknowledgement if words[0] == "drop-ack" else None)
            return "ok"
        return "unknown order; one of: drop-ack up|down, drop up|down, move, stats"

    # -- sockets --

    def _listen(self, host: str, port: int, receive: Callable[[bytes, PeerId], None]) -> UdpSocket:
        bound = UdpSocket(host, port, self._buffer)
        self._loop.add_reader(bound.raw.fileno(), self._readable, bound, receive)
        return bound

    def _readable(self, bound: UdpSocket, receive: Callable[[bytes, PeerId], None]) -> None:
        for _ in range(_BATCH):
            received = bound.receive()
            if received is None:
                return
            if received[1].remote_port:
                receive(*received)

    def _shut(self, bound: UdpSocket) -> None:
        self._loop.remove_reader(bound.raw.fileno())
        bound.close()


async def run_relay(options: RelayOptions, stop: asyncio.Event) -> None:
    """Relay until ``stop`` is set. Raises `CannotBind`, `NoServer`."""
    relay = Relay(options)
    try:
        log.info("relay.started", listen=relay.address, server=options.server, control=relay.control_address)
        await stop.wait()
    finally:
        relay.close()
