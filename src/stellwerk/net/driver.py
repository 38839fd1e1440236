"""Runs one engine over sockets: the only place where an engine meets the event loop."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.clock import SystemClock
from stellwerk.net.udp import UdpSocket

BATCH: Final = 128
"""Datagrams read from one socket before others get their turn."""

E = TypeVar("E")
A = TypeVar("A", contravariant=True)


class Engine(Protocol[E, A]):
    """The six verbs."""

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None: ...
    def tick(self, now: float) -> None: ...
    def submit(self, action: A, now: float) -> None: ...
    def take_datagrams(self) -> list[tuple[PeerId, bytes]]: ...
    def take_events(self) -> list[E]: ...
    def deadline(self) -> float | None: ...


class Rounds(Generic[E, A]):
    """What running an engine means whatever carries its bytes: events go to ``handle`` with the round's time, what the
    engine gives in return leaves at the end of the round, and its timers are kept."""

    def __init__(self, engine: Engine[E, A], handle: Callable[[list[E], Instant], None], *, clock: SystemClock) -> None:
        self._engine = engine
        self._handle = handle
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._round_due = False
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def submit(self, action: A) -> None:
        """Hand ``action`` to the engine; what it causes leaves with the current or the next round."""
        self._engine.submit(action, self._clock.now())
        self._ask_for_round()

    def wake(self) -> None:
        """The engine has something to do that did not come by this driver."""
        self._ask_for_round()

    def _close_rounds(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _send(self) -> None:
        """Let leave what the engine has to send."""
        raise NotImplementedError

    def _ask_for_round(self) -> None:
        if not self._round_due and not self._closed:
            self._round_due = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._round_due = False
        if not self._closed:
            self._finish_round(self._clock.instant())

    def _tick(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        if not self._closed:
            instant = self._clock.instant()
            self._engine.tick(instant.now)
            self._finish_round(instant)

    def _finish_round(self, instant: Instant) -> None:
        events = self._engine.take_events()
        while events:
            self._handle(events, instant)
            events = self._engine.take_events()
        self._send()
        self._arm(instant.now)

    def _arm(self, now: float) -> None:
        deadline = self._engine.deadline()
        if deadline is None:
            return
        # A later timer than needed is harmless only if it is re-armed; an earlier one just finds nothing to do.
        if deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_later(max(0.0, deadline - now) + 0.0005, self._tick)


class Driver(Rounds[E, A]):
    """``handle`` gets the events of each round, in order, with the round's time; it may `submit` at once. What the
    engine gives in return leaves at the end of the round. ``on_lost`` counts datagrams that the kernel did not take."""

    def __init__(
        self,
        engine: Engine[E, A],
        handle: Callable[[list[E], Instant], None],
        *,
        clock: SystemClock,
        on_lost: Callable[[PeerId], None] | None = None,
    ) -> None:
        super().__init__(engine, handle, clock=clock)
        self._on_lost = on_lost
        self.received = 0
        """Datagrams read."""
        self.sent = 0
        """Datagrams that the kernel took."""
        self.lost = 0
        """Datagrams that it did not take."""
        self._sockets: dict[tuple[bool, int], UdpSocket] = {}
        self._by_address: dict[tuple[str, int], UdpSocket] = {}
        self._stopped = False

    def add(self, socket: UdpSocket) -> None:
        """Read from ``socket`` from now on."""
        self._by_address[socket.host, socket.port] = socket
        if socket.wildcard:
            self._sockets[socket.ipv6, socket.port] = socket
        self._loop.add_reader(socket.raw.fileno(), self._readable, socket)

    def remove(self, socket: UdpSocket) -> None:
        """Stop reading from ``socket`` and close it."""
        self._loop.remove_reader(socket.raw.fileno())
        self._by_address.pop((socket.host, socket.port), None)
        if socket.wildcard:
            self._sockets.pop((socket.ipv6, socket.port), None)
        socket.close()

    @property
    def is_reading(self) -> bool:
        """Whether there is a socket that datagrams are taken from."""
        return bool(self._by_address) and not self._stopped

    def stop_reading(self) -> None:
        """Take nothing more in, but keep sending: the first step of a clean stop."""
        self._stopped = True
        for socket in self._by_address.values():
            self._loop.remove_reader(socket.raw.fileno())

    def close(self) -> None:
        """Send what waits, then close every socket."""
        if self._closed:
            return
        self._send()
        self._close_rounds()
        for socket in list(self._by_address.values()):
            self.remove(socket)

    def _readable(self, socket: UdpSocket) -> None:
        instant = self._clock.instant()
        feed = self._engine.feed
        left = BATCH
        while left and (received := socket.receive()) is not None:
            left -= 1
            datagram, peer = received
            if peer.remote_port:
                feed(datagram, peer=peer, now=instant.now)
        self.received += BATCH - left
        self._finish_round(instant)

    def overflowed(self) -> int:
        """Datagrams that the kernel dropped since they came faster than they were read; 0 where it does not say."""
        return sum(socket.dropped() for socket in self._by_address.values())

    def _send(self) -> None:
        datagrams = self._engine.take_datagrams()
        self.sent += len(datagrams)
        for peer, datagram in datagrams:
            socket = self._by_address.get((peer.local_host, peer.local_port)) or self._sockets.get(
                (":" in peer.remote_host, peer.local_port)
            )
            if socket is None or not socket.send(datagram, peer):
                self.sent -= 1
                self.lost += 1
                if self._on_lost is not None:
                    self._on_lost(peer)
