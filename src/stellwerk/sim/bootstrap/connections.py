"""The sockets of devices that speak over datagrams and over connections at once: one engine, two drivers."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from stellwerk.coap.tcp.endpoint import AdoptConnection
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Engine
from stellwerk.net.tcp import StreamDriver
from stellwerk.sim.bootstrap.stream_ways import Connected, Unconnected
from stellwerk.sim.streams import adopt

_CONNECT_S: Final = 20.0
"""How long a server may take to accept a connection."""


class Fork:
    """``engine`` for two drivers: each gives and takes the bytes of its kind, and the first one that asks gets the
    events. ``wake`` of each lets the other send what it has caused."""

    def __init__(self, engine: Engine[Any, Any]) -> None:
        self.engine = engine
        self.datagrams = _Face(self, is_stream=False)
        self.streams = _Face(self, is_stream=True)

    def sort(self) -> None:
        """Lay what the engine has to send before the driver that can."""
        for peer, data in self.engine.take_datagrams():
            (self.streams if peer.is_connection else self.datagrams).out.append((peer, data))


class _Face:
    """One side of a `Fork`, an engine for a driver."""

    def __init__(self, fork: Fork, *, is_stream: bool) -> None:
        self._fork = fork
        self._is_stream = is_stream
        self.out: list[tuple[PeerId, bytes]] = []
        self.wake: Callable[[], None] = lambda: None

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._fork.engine.feed(datagram, peer=peer, now=now)

    def tick(self, now: float) -> None:
        self._fork.engine.tick(now)

    def submit(self, action: Any, now: float) -> None:
        self._fork.engine.submit(action, now)

    def take_events(self) -> list[Any]:
        return self._fork.engine.take_events()

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        self._fork.sort()
        other = self._fork.datagrams if self._is_stream else self._fork.streams
        if other.out:
            other.wake()
        out, self.out = self.out, []
        return out

    def deadline(self) -> float | None:
        return self._fork.engine.deadline()


class Connections:
    """The connections of devices whose engine is behind ``face``: opened when a way asks for one (`ask`), and known to
    the engine under the name of the way."""

    def __init__(self, face: _Face, handle: Callable[[list[Any], Instant], None], *, clock: SystemClock) -> None:
        self._face = face
        self._clock = clock
        self._ways: dict[PeerId, PeerId] = {}
        """By connection."""
        self._connections: dict[PeerId, PeerId] = {}
        """By way."""
        self._early: dict[PeerId, list[bytes]] = {}
        """What connections said before anybody knew whose they are."""
        self._opening: dict[PeerId, asyncio.Task[None]] = {}
        self._again: dict[PeerId, int] = {}
        """How often a way wanted another connection in the place of one whose end is on its way here."""
        self.driver: StreamDriver[Any, Any] = StreamDriver(self, handle, clock=clock, adopt=adopt)
        face.wake = self.driver.wake

    def ask(self, way: PeerId) -> None:
        """Open a connection for ``way``."""
        if way in self._connections or way in self._opening:
            self._again[way] = self._again.get(way, 0) + 1
        else:
            self._opening[way] = asyncio.get_running_loop().create_task(self._open(way), name=f"connect {way}")

    def disconnect(self, local: tuple[str, int]) -> None:
        """End every connection of the device at ``local`` without a word."""
        for way in [each for each in self._connections if (each.local_host, each.local_port) == local]:
            self.driver.disconnect(self._connections[way])

    def close(self) -> None:
        """Send what waits, close everything."""
        for task in list(self._opening.values()):
            task.cancel()
        self.driver.close()

    async def _open(self, way: PeerId) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                connection = await self.driver.connect(way.remote_host, way.remote_port)
        except (OSError, TimeoutError) as error:
            self._opening.pop(way, None)
            why = getattr(error, "strerror", None) or str(error) or f"no answer within {_CONNECT_S:g} s"
            self.driver.submit(Unconnected(way, why))
            return
        self._opening.pop(way, None)
        self._ways[connection], self._connections[way] = way, connection
        self.driver.submit(Connected(way))
        for data in self._early.pop(connection, ()):
            self.feed(data, peer=connection, now=self._clock.now())

    # -- the six verbs, as the driver of the connections sees them --

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        way = self._ways.get(peer)
        if way is None:
            if peer in self._early:
                self._early[peer].append(datagram)
            return
        if not datagram:
            self._forget(peer)
        self._face.feed(datagram, peer=way, now=now)

    def tick(self, now: float) -> None:
        self._face.tick(now)

    def submit(self, action: Any, now: float) -> None:
        if isinstance(action, AdoptConnection):
            # Whose it is, is known in a moment.
            self._early[action.peer] = []
        else:
            self._face.submit(action, now)

    def take_events(self) -> list[Any]:
        return self._face.take_events()

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        out: list[tuple[PeerId, bytes]] = []
        for way, data in self._face.take_datagrams():
            connection = self._connections.get(way)
            if connection is not None:
                out.append((connection, data))
            if not data:
                self._end(way, connection)
        return out

    def deadline(self) -> float | None:
        return self._face.deadline()

    def _end(self, way: PeerId, connection: PeerId | None) -> None:
        """The engine has ended what there is of ``way``."""
        opening = self._opening.pop(way, None)
        if opening is not None:
            opening.cancel()
        if connection is not None:
            self._forget(connection)
        again = self._again.pop(way, 0) - 1
        if again > 0:
            # The next one has been ended, too.
            self._again[way] = again
        elif again == 0:
            self.ask(way)

    def _forget(self, connection: PeerId) -> None:
        way = self._ways.pop(connection, None)
        if way is not None and self._connections.get(way) == connection:
            del self._connections[way]
