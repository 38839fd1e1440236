"""Simulated devices over TCP: each has a connection of its own, and comes back when it is lost (RFC 8323)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from stellwerk.coap.events import ConnectionLost, Event
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.tcp.connection import Role, StreamLimits
from stellwerk.coap.tcp.endpoint import AdoptConnection, ReleaseConnections, StreamAction, StreamEndpoint
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.clock import SystemClock
from stellwerk.net.tcp import StreamDriver
from stellwerk.sim.happenings import Happening
from stellwerk.sim.population import Order, Population

RECONNECT_S: Final = 1.0
"""From the loss of a connection to the next, where the server says nothing else."""
_AGAIN_S: Final = 5.0
_LARGEST: Final = 1_000_000


class _Engine:
    """A `StreamEndpoint` that remembers for how long its peers want to be left alone (Hold-Off)."""

    def __init__(self, engine: StreamEndpoint) -> None:
        self._engine = engine
        self.hold_offs: dict[PeerId, int] = {}

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._engine.feed(datagram, peer=peer, now=now)

    def tick(self, now: float) -> None:
        self._engine.tick(now)

    def submit(self, action: StreamAction, now: float) -> None:
        self._engine.submit(action, now)

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        return self._engine.take_datagrams()

    def take_events(self) -> list[Event]:
        events = self._engine.take_events()
        for event in events:
            if isinstance(event, ConnectionLost) and event.hold_off_s:
                self.hold_offs[event.peer] = event.hold_off_s
        return events

    def deadline(self) -> float | None:
        return self._engine.deadline()


class StreamPopulation(Population):
    """Devices on an engine over streams. A sleeper's radio keeps its connection: what comes while it sleeps is not
    lost."""

    def __init__(self, engine: StreamEndpoint) -> None:
        self._noting = _Engine(engine)
        super().__init__(self._noting)

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._now = now
        self._noting.feed(datagram, peer=peer, now=now)
        self._run()

    def submit(self, action: Order | AdoptConnection | ReleaseConnections, now: float) -> None:
        if isinstance(action, AdoptConnection | ReleaseConnections):
            self._noting.submit(action, now)
        else:
            super().submit(action, now)

    def take_hold_off(self, peer: PeerId) -> int:
        """For how many seconds whoever was behind ``peer`` wants to be left alone."""
        return self._noting.hold_offs.pop(peer, 0)


class StreamBearer:
    """The connections of a fleet to ``host``:``port``. ``on_moved`` is told the old and the new peer when a lost
    connection has a successor."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        entropy: Entropy,
        clock: SystemClock,
        limits: Limits,
        parameters: Parameters,
        handle: Callable[[list[Happening], Instant], None],
        on_moved: Callable[[PeerId, PeerId], None],
    ) -> None:
        self._address = host, port
        self._entropy = entropy
        self._on_moved = on_moved
        self._tell = handle
        self._index_of: dict[PeerId, int] = {}
        streams = StreamLimits(
            connections_total=_LARGEST,
            connections_per_address=_LARGEST,
            half_open=_LARGEST,
            ping_after_s=None,
        )
        self.population = StreamPopulation(StreamEndpoint(entropy, limits, parameters, streams))
        self._gone: asyncio.Queue[PeerId] = asyncio.Queue()
        self.driver = self._make_driver(clock)

    def _make_driver(self, clock: SystemClock) -> StreamDriver[Any, Any]:
        return StreamDriver(self.population, self._tell, clock=clock, adopt=adopt, on_closed=self._lost)

    async def connect(self, index: int) -> PeerId:
        """A connection for the device with ``index``. Raises OSError."""
        peer = await self.driver.connect(*self._address)
        self._index_of[peer] = index
        return peer

    async def reconnect_for_ever(self) -> None:
        """Give every lost connection a successor."""
        while True:
            old = await self._gone.get()
            index = self._index_of.pop(old, None)
            if index is None:
                continue
            await asyncio.sleep(self.pause_s(old))
            while True:
                try:
                    new = await self.connect(index)
                    break
                except OSError:
                    await asyncio.sleep(_AGAIN_S)
            self._on_moved(old, new)

    def pause_s(self, peer: PeerId) -> float:
        """How long to wait for the successor of ``peer``."""
        return max(RECONNECT_S, self.population.take_hold_off(peer))

    def _lost(self, peer: PeerId) -> None:
        self._gone.put_nowait(peer)


def adopt(peer: PeerId, accepted: bool) -> AdoptConnection:
    """What tells the engine of a connection."""
    return AdoptConnection(peer, Role.ACCEPTED if accepted else Role.INITIATED)
