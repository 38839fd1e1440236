"""TCP connections for an engine over streams: bytes in, bytes out, and the end of a connection as empty bytes.

A connection that does not take what is sent to it is ended: what waits for it is bounded, and so is the time that it
may wait. Connections that have more to say than fits into a round wait for the next ones, in turn: however many of them
there are, everybody else is heard in between.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar, cast

from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Engine, Rounds
from stellwerk.net.udp import CannotBind

WRITE_BYTES: Final = 256 * 1024
"""What may wait for one connection; more ends it."""
_SLOW_BYTES: Final = 64 * 1024
_SLOW_S: Final = 30.0
"""How long more than `_SLOW_BYTES` may wait for one connection."""
_LINGER_S: Final = 5.0
_TURN_BYTES: Final = 32 * 1024
"""Most bytes of one reading."""
_ROUND_BYTES: Final = 64 * 1024
"""Bytes read from all connections before what they caused is dealt with and others get their turn. A connection that
has said little is read in any case."""
_LEAST_BYTES: Final = 1024
"""Bytes read from one connection where the round has no room left."""
_RESUMED: Final = 4
"""How many of those that wait go on with each round."""
_BACKLOG: Final = 1024

E = TypeVar("E")
A = TypeVar("A")


class StreamDriver(Rounds[E, A]):
    """Runs one engine over TCP connections. ``adopt`` makes the action that tells the engine of a connection;
    ``handle`` as for `driver.Driver`. ``on_closed`` is told of each that is gone, after the engine. ``is_full`` says of
    whom nothing more shall be read before the engine has dealt with what it has; asked after each reading and round."""

    def __init__(
        self,
        engine: Engine[E, A],
        handle: Callable[[list[E], Instant], None],
        *,
        clock: SystemClock,
        adopt: Callable[[PeerId, bool], A],
        on_closed: Callable[[PeerId], None] | None = None,
        is_full: Callable[[PeerId], bool] = lambda peer: False,
        transport: str = "tcp",
    ) -> None:
        """``transport``: of the peers that connections are."""
        super().__init__(engine, handle, clock=clock)
        self._adopt = adopt
        self._on_closed = on_closed
        self._is_full = is_full
        self.transport = transport
        self._connections: dict[PeerId, _Connection] = {}
        self._servers: list[asyncio.Server] = []
        # All connections are read by this thread alone, one piece at a time: one buffer serves them all.
        self.buffer = memoryview(bytearray(_TURN_BYTES))
        self.room = _ROUND_BYTES
        """Bytes that may still be read in this round."""
        self._held: deque[_Connection] = deque()
        """Connections that have more to say and wait for their turn."""
        self._full: dict[_Connection, None] = {}
        """Connections of which the engine has enough for now."""
        self._stopped = False
        self.received = 0
        """Bytes read."""
        self.sent = 0
        """Bytes handed to the system."""
        self.slow = 0
        """Connections that were ended since they did not take what was sent."""

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Take connections from now on; the address and port that it became. Raises `CannotBind`."""
        bound = _bind(host, port)
        server = await self._loop.create_server(lambda: _Connection(self, True), sock=bound, backlog=_BACKLOG)
        self._servers.append(server)
        name = bound.getsockname()
        return name[0], name[1]

    async def connect(self, host: str, port: int) -> PeerId:
        """Open a connection; who it leads to. Raises OSError."""
        _, connection = await self._loop.create_connection(lambda: _Connection(self, False), host, port)
        return connection.peer

    @property
    def is_listening(self) -> bool:
        """Whether new connections are taken."""
        return any(each.is_serving() for each in self._servers)

    def stop_listening(self) -> None:
        """Take no new connections."""
        for server in self._servers:
            server.close()
        self._servers = []

    def stop_reading(self) -> None:
        """Take nothing more in, but keep sending: the first step of a clean stop."""
        self.stop_listening()
        self._stopped = True
        self._held.clear()
        self._full.clear()
        for connection in self._connections.values():
            connection.pause()

    def disconnect(self, peer: PeerId) -> None:
        """Let the connection of ``peer`` go without a word."""
        connection = self._connections.get(peer)
        if connection is not None:
            connection.abort()

    def close(self) -> None:
        """Send what waits, then close every connection."""
        if self._closed:
            return
        self._send()
        self._close_rounds()
        for connection in list(self._connections.values()):
            connection.close()
        self.stop_listening()

    # -- what connections tell --

    def opened(self, connection: "_Connection", accepted: bool) -> None:
        """A connection stands."""
        if self._closed:
            connection.abort()
            return
        before = self._connections.get(connection.peer)
        self._connections[connection.peer] = connection
        if before is not None:
            # The same two ends have met again: what still waits of the older one is not the newer one's.
            before.abort()
        self._engine.submit(self._adopt(connection.peer, accepted), self._clock.now())
        self._ask_for_round()

    def feed(self, connection: "_Connection", data: bytes, more: bool) -> None:
        """``data`` came; ``more``: there was no room for more of it, so some may wait."""
        self.received += len(data)
        self.room -= len(data)
        self._engine.feed(data, peer=connection.peer, now=self._clock.now())
        # What comes over many connections at once is handled together.
        self._ask_for_round()
        if self._stopped:
            return
        if self._is_full(connection.peer):
            connection.pause()
            self._full[connection] = None
        elif more and self.room <= 0:
            # An event loop may read one connection many times before it looks at another.
            connection.pause()
            self._held.append(connection)

    def ended(self, connection: "_Connection") -> None:
        """A connection is gone."""
        self._full.pop(connection, None)
        # The same two ends may have met again already.
        if self._connections.get(connection.peer) is connection:
            del self._connections[connection.peer]
            if not self._closed:
                self._engine.feed(b"", peer=connection.peer, now=self._clock.now())
                self._ask_for_round()
            if self._on_closed is not None:
                self._on_closed(connection.peer)

    def _finish_round(self, instant: Instant) -> None:
        super()._finish_round(instant)
        self.room = _ROUND_BYTES
        for connection in [each for each in self._full if not self._is_full(each.peer)]:
            del self._full[connection]
            self._held.append(connection)
        for _ in range(min(_RESUMED, len(self._held))):
            self._held.popleft().resume()
        if self._held:
            self._ask_for_round()

    def _send(self) -> None:
        for peer, data in self._engine.take_datagrams():
            connection = self._connections.get(peer)
            if connection is None:
                continue
            if data:
                self.sent += len(data)
                connection.write(data)
            else:
                del self._connections[peer]
                connection.close()
                if self._on_closed is not None:
                    self._on_closed(peer)


class _Connection(asyncio.BufferedProtocol):
    """One connection. Its peer is known once it stands."""

    def __init__(self, driver: "StreamDriver[E, A]", accepted: bool) -> None:
        self._driver = driver
        self._accepted = accepted
        self._transport: asyncio.Transport
        self._slow: asyncio.TimerHandle | None = None
        self._offered = 0
        self.peer = PeerId(driver.transport, "", 0)

    # -- asyncio.BufferedProtocol --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one by behaviour, not by class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_SLOW_BYTES)
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not remote or not local:
            # It was gone before we looked.
            self._transport.abort()
            return
        self.peer = PeerId(self._driver.transport, remote[0], remote[1], local[0], local[1])
        self._driver.opened(self, self._accepted)

    def get_buffer(self, sizehint: int) -> memoryview:
        self._offered = min(_TURN_BYTES, max(_LEAST_BYTES, self._driver.room))
        return self._driver.buffer[: self._offered]

    def buffer_updated(self, nbytes: int) -> None:
        self._driver.feed(self, bytes(self._driver.buffer[:nbytes]), nbytes == self._offered)

    def pause_writing(self) -> None:
        self._slow = asyncio.get_running_loop().call_later(_SLOW_S, self._too_slow)

    def resume_writing(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        self._driver.ended(self)

    # -- the driver --

    def write(self, data: bytes) -> None:
        """Send ``data``, or end the connection where too much waits already."""
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > WRITE_BYTES:
            self._too_slow()

    def pause(self) -> None:
        """Read nothing more."""
        with contextlib.suppress(RuntimeError):
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        with contextlib.suppress(RuntimeError):
            self._transport.resume_reading()

    def close(self) -> None:
        """End it when all is sent, or soon."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    def _too_slow(self) -> None:
        if not self._transport.is_closing():
            self._driver.slow += 1
        self._transport.abort()


def _bind(host: str, port: int) -> socket.socket:
    ipv6 = ":" in host
    bound = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        # Connections of an earlier run may still be closing.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if ipv6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        bound.close()
        raise CannotBind(host, port, getattr(error, "strerror", None) or str(error), "TCP") from error
    return bound
