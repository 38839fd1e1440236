"""An engine over real TCP connections of this machine, on both event loops."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net import tcp
from stellwerk.net.clock import SystemClock
from stellwerk.net.tcp import StreamDriver
from stellwerk.net.udp import CannotBind

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Script:
    """An engine that says what it is told to and remembers what it got."""

    def __init__(self) -> None:
        self.fed: list[tuple[PeerId, bytes]] = []
        self.adopted: list[tuple[PeerId, bool]] = []
        self.reply: Callable[[bytes], list[bytes]] = lambda data: []
        self.ticks = 0
        self.due: float | None = None
        self.stirred = asyncio.Event()
        self._out: list[tuple[PeerId, bytes]] = []

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self.fed.append((peer, datagram))
        self._out += [(peer, each) for each in self.reply(datagram)]
        self.stirred.set()

    def tick(self, now: float) -> None:
        self.ticks += 1
        self.due = None
        self.stirred.set()

    def submit(self, action: Any, now: float) -> None:
        if len(action) == 2 and isinstance(action[1], bool):
            self.adopted.append(action)
        else:
            self._out.append(action)
        self.stirred.set()

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        taken, self._out = self._out, []
        return taken

    def take_events(self) -> list[Any]:
        return []

    def deadline(self) -> float | None:
        return self.due

    def heard(self, peer: PeerId) -> bytes:
        return b"".join(data for each, data in self.fed if each == peer)


class Bench:
    def __init__(self) -> None:
        self.engine = Script()
        self.full: set[PeerId] = set()
        self.closed: list[PeerId] = []
        self.driver: StreamDriver[Any, Any] = StreamDriver(
            self.engine,
            _ignore,
            clock=SystemClock(),
            adopt=lambda peer, accepted: (peer, accepted),
            on_closed=self._close,
            is_full=lambda peer: peer in self.full,
        )
        self.address = ("", 0)

    async def open(self) -> "Bench":
        self.address = await self.driver.listen("127.0.0.1", 0)
        return self

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        count = len(self.engine.adopted)
        reader, writer = await asyncio.open_connection(*self.address)
        await self.until(lambda: len(self.engine.adopted) > count)
        return reader, writer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.engine.stirred.clear()
                await self.engine.stirred.wait()

    def _close(self, peer: PeerId) -> None:
        self.closed.append(peer)
        self.engine.stirred.set()


def _ignore(events: list[Any], at: Instant) -> None: ...


@pytest.fixture(params=LOOPS)
def on_a_bench(request: pytest.FixtureRequest) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    def run(work: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            bench = await Bench().open()
            try:
                await work(bench)
            finally:
                bench.driver.close()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


def test_bytes_go_in_and_out_and_the_peer_names_both_ends(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        bench.engine.reply = lambda data: [b"<", data, b">"] if data else []
        reader, writer = await bench.dial()
        local = writer.get_extra_info("sockname")
        peer = PeerId("tcp", local[0], local[1], *bench.address)
        assert bench.engine.adopted == [(peer, True)]
        writer.write(b"hello")
        assert await reader.readexactly(7) == b"<hello>"
        assert (bench.driver.received, bench.driver.sent) == (5, 7)
        writer.close()
        await bench.until(lambda: (peer, b"") in bench.engine.fed)
        assert bench.closed == [peer]

    on_a_bench(work)


def test_a_busy_connection_has_its_turn_and_no_more(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        _, writer = await bench.dial()
        data = bytes(range(256)) * 2000
        writer.write(data)
        await bench.until(lambda: bench.driver.received == len(data))
        assert b"".join(each for _, each in bench.engine.fed) == data
        assert max(len(each) for _, each in bench.engine.fed) <= 32 * 1024

    on_a_bench(work)


def test_empty_bytes_of_the_engine_close_the_connection_after_what_was_said(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        bench.engine.reply = lambda data: [b"bye", b""] if data else []
        reader, writer = await bench.dial()
        writer.write(b"x")
        assert await reader.read() == b"bye"
        assert len(bench.closed) == 1
        # The engine said it itself, and is not told.
        assert [data for _, data in bench.engine.fed] == [b"x"]
        writer.close()

    on_a_bench(work)


def test_whoever_does_not_read_is_ended_before_much_waits_for_him(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        _, writer = await bench.dial()
        ((peer, _),) = bench.engine.adopted
        for _ in range(400):
            if (peer, b"") in bench.engine.fed:
                break
            bench.driver.submit((peer, b"x" * 32_768))
            await asyncio.sleep(0)
        await bench.until(lambda: (peer, b"") in bench.engine.fed)
        assert bench.driver.slow == 1
        assert bench.closed == [peer]
        writer.close()

    on_a_bench(work)


def test_whoever_reads_too_slowly_is_ended_in_time(on_a_bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_SLOW_S", 0.02)
    monkeypatch.setattr(tcp, "WRITE_BYTES", 1 << 30)

    async def work(bench: Bench) -> None:
        _, writer = await bench.dial()
        ((peer, _),) = bench.engine.adopted
        for _ in range(200):
            bench.driver.submit((peer, b"x" * 32_768))
        await bench.until(lambda: (peer, b"") in bench.engine.fed)
        assert bench.driver.slow == 1
        writer.close()

    on_a_bench(work)


def test_a_connection_of_ours_is_one_like_the_others(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        peer = await bench.driver.connect(*bench.address)
        assert (peer.remote_host, peer.remote_port) == bench.address
        await bench.until(lambda: len(bench.engine.adopted) == 2)
        assert (peer, False) in bench.engine.adopted
        (other,) = (each for each, accepted in bench.engine.adopted if accepted)
        bench.driver.submit((peer, b"from us"))
        await bench.until(lambda: bench.engine.heard(other) == b"from us")
        bench.driver.disconnect(peer)
        await bench.until(lambda: (other, b"") in bench.engine.fed and (peer, b"") in bench.engine.fed)

    on_a_bench(work)


def test_time_is_told_to_the_engine(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        bench.engine.due = SystemClock().now() + 0.01
        await bench.dial()
        await bench.until(lambda: bench.engine.ticks == 1)

    on_a_bench(work)


def test_stopping_takes_nothing_more_in_and_still_sends(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        reader, writer = await bench.dial()
        ((peer, _),) = bench.engine.adopted
        assert bench.driver.is_listening
        bench.driver.stop_reading()
        assert not bench.driver.is_listening
        writer.write(b"too late")
        bench.driver.submit((peer, b"still"))
        assert await reader.readexactly(5) == b"still"
        bench.driver.submit((peer, b"last"))
        bench.driver.close()
        # What we did not read lets the system answer with a reset; what was sent before it may be lost with it.
        assert bench.engine.fed == []
        with pytest.raises(OSError):
            await asyncio.open_connection(*bench.address)
        writer.close()

    on_a_bench(work)


def test_a_port_that_is_taken_is_said_with_its_protocol(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        with pytest.raises(CannotBind, match=f"cannot listen on TCP 127.0.0.1:{bench.address[1]}"):
            await bench.driver.listen(*bench.address)

    on_a_bench(work)


def test_however_much_waits_in_many_connections_a_round_takes_little_and_all_go_on(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        each_bytes, several = 200_000, 8
        writers = [(await bench.dial())[1] for _ in range(several)]
        for connection in bench.driver._connections.values():
            connection.pause()
        for writer in writers:
            writer.write(b"x" * each_bytes)
        rounds = [0]
        take_events = bench.engine.take_events

        def round_ends() -> list[Any]:
            rounds.append(0)
            return take_events()

        def counted(data: bytes) -> list[bytes]:
            rounds[-1] += len(data)
            return []

        bench.engine.reply, bench.engine.take_events = counted, round_ends  # type: ignore[method-assign]
        for connection in bench.driver._connections.values():
            connection.resume()
        await bench.until(lambda: sum(rounds) == each_bytes * several)
        assert max(rounds) <= tcp._ROUND_BYTES + tcp._TURN_BYTES + several * tcp._LEAST_BYTES

    on_a_bench(work)


def test_who_has_said_enough_is_read_again_when_the_engine_has_dealt_with_it(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        _, full = await bench.dial()
        _, other = await bench.dial()
        peer = bench.engine.adopted[0][0]
        bench.full.add(peer)
        full.write(b"1")
        await bench.until(lambda: bench.engine.heard(peer) == b"1")
        full.write(b"2")
        for count in range(1, 4):
            other.write(b"x")
            await bench.until(lambda count=count: len(bench.engine.heard(bench.engine.adopted[1][0])) == count)
        assert bench.engine.heard(peer) == b"1"
        bench.full.clear()
        # Whatever the engine decides is a wish to it, and ends a round.
        bench.driver.submit((peer, b"decided"))
        await bench.until(lambda: bench.engine.heard(peer) == b"12")

    on_a_bench(work)


def test_who_goes_while_it_is_not_read_leaves_nothing_behind(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        _, writer = await bench.dial()
        peer = bench.engine.adopted[0][0]
        bench.full.add(peer)
        writer.write(b"1")
        await bench.until(lambda: bench.engine.heard(peer) == b"1")
        writer.close()
        bench.full.clear()
        bench.driver.submit((peer, b"decided"))
        await bench.until(lambda: bench.closed == [peer])
        assert not bench.driver._full
        assert not bench.driver._held

    on_a_bench(work)


def test_what_waits_of_a_connection_that_is_gone_is_not_taken_for_its_successors(on_a_bench) -> None:
    async def work(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.setblocking(False)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            await loop.sock_connect(first, bench.address)
            await bench.until(lambda: len(bench.engine.adopted) == 1)
            peer = bench.engine.adopted[0][0]
            # So much that some of it waits where nobody reads it.
            bench.full.add(peer)
            first.send(b"said by who is gone" * 10_000)
            await bench.until(lambda: bool(bench.engine.fed))
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            second.bind(("127.0.0.1", port))
            await loop.sock_connect(second, bench.address)
            await bench.until(lambda: len(bench.engine.adopted) == 2)
            assert bench.engine.adopted[1][0] == peer
            bench.engine.fed.clear()
            bench.full.clear()
            bench.driver.wake()
            await loop.sock_sendall(second, b"said by who came")
            await bench.until(lambda: b"came" in bench.engine.heard(peer))
            assert bench.engine.heard(peer) == b"said by who came"

    on_a_bench(work)
