"""The driver: bytes and time into an engine, meaning and bytes out of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.net.driver import BATCH, Driver
from stellwerk.net.udp import UdpSocket


class Script:
    """An engine that does what it is told: echoes datagrams as events, submitted pairs as datagrams; its deadline is
    set from outside."""

    def __init__(self) -> None:
        self.fed: list[tuple[bytes, PeerId, float]] = []
        self.ticks: list[float] = []
        self.due: float | None = None
        self.stirred = asyncio.Event()
        self._events: list[bytes] = []
        self._out: list[tuple[PeerId, bytes]] = []

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self.fed.append((datagram, peer, now))
        self._events.append(datagram)
        self.stirred.set()

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        self.stirred.set()
        if self.due is not None and self.due <= now:
            self.due = None

    def submit(self, action: tuple[PeerId, bytes], now: float) -> None:
        self._out.append(action)

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        taken, self._out = self._out, []
        return taken

    def take_events(self) -> list[bytes]:
        taken, self._events = self._events, []
        return taken

    def deadline(self) -> float | None:
        return self.due


class Bench:
    def __init__(self) -> None:
        self.engine = Script()
        self.handled: list[tuple[list[bytes], Instant]] = []
        self.lost: list[PeerId] = []
        self.answer: Callable[[bytes], None] = lambda datagram: None
        self.driver: Driver[bytes, tuple[PeerId, bytes]] = Driver(
            self.engine, self._handle, clock=SystemClock(), on_lost=self._lose
        )
        self.server = UdpSocket("127.0.0.1", 0)
        self.device = UdpSocket("127.0.0.1", 0)
        self.driver.add(self.server)

    @property
    def device_peer(self) -> PeerId:
        return PeerId("udp", "127.0.0.1", self.device.port, "127.0.0.1", self.server.port)

    def say(self, datagram: bytes) -> None:
        assert self.device.send(datagram, PeerId("udp", "127.0.0.1", self.server.port, "127.0.0.1", self.device.port))

    async def heard(self) -> bytes:
        """The next datagram that reached the device."""
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.device.raw.fileno(), arrived.set)
        try:
            async with asyncio.timeout(5):
                await arrived.wait()
        finally:
            loop.remove_reader(self.device.raw.fileno())
        found = self.device.receive()
        assert found is not None
        return found[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.engine.stirred.clear()
                await self.engine.stirred.wait()

    def close(self) -> None:
        self.driver.close()
        self.device.close()

    def _lose(self, peer: PeerId) -> None:
        self.lost.append(peer)
        self.engine.stirred.set()

    def _handle(self, events: list[bytes], at: Instant) -> None:
        self.handled.append((events, at))
        for each in events:
            self.answer(each)


def on_a_bench(work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        try:
            await work(bench)
        finally:
            bench.close()

    asyncio.run(main())


def test_what_is_read_reaches_the_engine_with_its_time_and_what_is_answered_leaves_in_the_same_round() -> None:
    async def work(bench: Bench) -> None:
        bench.answer = lambda datagram: bench.driver.submit((bench.device_peer, b"re: " + datagram))
        bench.say(b"hello")
        assert await bench.heard() == b"re: hello"
        (datagram, peer, now) = bench.engine.fed[0]
        assert (datagram, peer) == (b"hello", bench.device_peer)
        ((events, at),) = bench.handled
        assert (events, at.now) == ([b"hello"], now)

    on_a_bench(work)


def test_a_wish_from_outside_a_round_leaves_with_the_next() -> None:
    async def work(bench: Bench) -> None:
        bench.driver.submit((bench.device_peer, b"wish"))
        assert await bench.heard() == b"wish"

    on_a_bench(work)


def test_a_flood_is_read_in_batches_and_nothing_of_it_is_lost() -> None:
    async def work(bench: Bench) -> None:
        for number in range(BATCH + 20):
            bench.say(str(number).encode())
        await bench.until(lambda: len(bench.engine.fed) == BATCH + 20)
        assert [int(datagram) for datagram, _, _ in bench.engine.fed] == list(range(BATCH + 20))
        assert max(len(events) for events, _ in bench.handled) <= BATCH
        await bench.until(lambda: bench.driver.received == BATCH + 20)
        assert bench.driver.overflowed() == 0

    on_a_bench(work)


def test_the_engine_is_ticked_when_its_deadline_comes_and_not_before() -> None:
    async def work(bench: Bench) -> None:
        due = SystemClock().now() + 0.03
        bench.engine.due = due
        bench.driver.submit((bench.device_peer, b"x"))
        await bench.until(lambda: bool(bench.engine.ticks))
        assert len(bench.engine.ticks) == 1
        assert bench.engine.ticks[0] >= due

    on_a_bench(work)


def test_an_earlier_deadline_replaces_a_later_timer() -> None:
    async def work(bench: Bench) -> None:
        now = SystemClock().now()
        bench.engine.due = now + 3600
        bench.driver.submit((bench.device_peer, b"x"))
        await asyncio.sleep(0)
        bench.engine.due = now + 0.01
        bench.driver.submit((bench.device_peer, b"y"))
        await bench.until(lambda: bool(bench.engine.ticks))

    on_a_bench(work)


def test_a_deadline_that_moved_away_ticks_early_once_and_is_armed_again() -> None:
    async def work(bench: Bench) -> None:
        bench.engine.due = SystemClock().now() + 0.01
        bench.driver.submit((bench.device_peer, b"x"))
        await asyncio.sleep(0)
        later = bench.engine.due = SystemClock().now() + 0.04
        await bench.until(lambda: bench.engine.due is None)
        assert bench.engine.ticks[-1] >= later

    on_a_bench(work)


def test_a_datagram_that_no_socket_can_send_is_counted() -> None:
    async def work(bench: Bench) -> None:
        nobody = bench.device_peer._replace(local_port=1)
        bench.driver.submit((nobody, b"x"))
        bench.driver.submit((bench.device_peer, b"x" * 70_000))
        await bench.until(lambda: len(bench.lost) == 2)
        assert bench.lost == [nobody, bench.device_peer]

    on_a_bench(work)


@pytest.mark.spec("MSG-11")
def test_a_stored_peer_of_a_wildcard_is_reached_through_the_socket_of_its_port() -> None:
    async def work(bench: Bench) -> None:
        wildcard = UdpSocket("0.0.0.0", 0)
        bench.driver.add(wildcard)
        peer = bench.device_peer._replace(local_port=wildcard.port)
        bench.driver.submit((peer, b"after a restart"))
        assert await bench.heard() == b"after a restart"
        assert bench.lost == []

    on_a_bench(work)


def test_a_stopping_driver_reads_no_more_but_sends_what_waits() -> None:
    async def work(bench: Bench) -> None:
        bench.driver.stop_reading()
        bench.say(b"too late")
        bench.engine.submit((bench.device_peer, b"last words"), 0.0)
        bench.driver.close()
        assert await bench.heard() == b"last words"
        assert bench.engine.fed == []
        assert bench.server.raw.fileno() == -1
        bench.driver.close()

    on_a_bench(work)


def test_a_removed_socket_is_closed_and_the_others_go_on() -> None:
    async def work(bench: Bench) -> None:
        other = UdpSocket("127.0.0.1", 0)
        bench.driver.add(other)
        bench.driver.remove(other)
        assert other.raw.fileno() == -1
        bench.say(b"hello")
        await bench.until(lambda: bool(bench.engine.fed))

    on_a_bench(work)


class Wall(SystemClock):
    """A clock whose wall time can be set."""

    def __init__(self, ms: int) -> None:
        self.ms = ms
        super().__init__()

    def wall_ms(self) -> int:
        return self.ms


@pytest.mark.spec("Design 7")
def test_a_step_of_the_wall_clock_does_not_move_lifetimes() -> None:
    clock = Wall(1_000_000)
    before = clock.lifetime_ms()
    clock.ms += 86_400_000
    assert 0 <= clock.lifetime_ms() - before < 60_000
    assert abs(before - 1_000_000) < 60_000


def test_the_two_readings_of_an_instant_are_those_of_the_clock() -> None:
    clock = SystemClock()
    before, at, after = clock.now(), clock.instant(), clock.now()
    assert before <= at.now <= after
    assert abs(at.wall_ms - clock.wall_ms()) < 60_000


def test_entropy_gives_as_many_bytes_as_asked_and_never_the_same() -> None:
    entropy: Any = SystemEntropy()
    drawn = {entropy.take(8) for _ in range(50)}
    assert len(drawn) == 50
    assert {len(each) for each in drawn} == {8}
