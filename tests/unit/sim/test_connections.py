"""Two drivers of one engine, and connections that are opened when a way asks for them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from stellwerk.core.ids import PeerId
from stellwerk.net.clock import SystemClock
from stellwerk.sim.bootstrap.connections import Connections, Fork
from stellwerk.sim.bootstrap.stream_ways import Connected, Unconnected


class Engine:
    """Notes what it is told, and sends what it is given to send."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.more = asyncio.Event()
        self.out: list[tuple[PeerId, bytes]] = []

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._note((peer, datagram))

    def tick(self, now: float) -> None: ...

    def submit(self, action: Any, now: float) -> None:
        self._note(action)

    def _note(self, told: Any) -> None:
        self.told.append(told)
        self.more.set()

    async def hears(self, fits: Callable[[Any], bool]) -> Any:
        """The first that fits of what it was told, or is told within seconds; no more among it then."""
        async with asyncio.timeout(5):
            while (found := next(filter(fits, self.told), None)) is None:
                self.more.clear()
                await self.more.wait()
        self.told.remove(found)
        return found

    def take_events(self) -> list[Any]:
        return []

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        out, self.out = self.out, []
        return out

    def deadline(self) -> float | None:
        return None


class Bench:
    def __init__(self, port: int) -> None:
        self.way = PeerId("tcp", "127.0.0.1", port, "10.0.0.2", 40_000)
        self.engine = Engine()
        self.fork = Fork(self.engine)
        self.connections = Connections(self.fork.streams, lambda events, at: None, clock=SystemClock())
        self.greetings: list[bytes] = []

    async def hears(self, told: Any) -> None:
        await self.engine.hears(lambda each: each == told)

    def sends(self, data: bytes) -> None:
        self.engine.out.append((self.way, data))
        self.connections.driver.wake()


def play(story: Callable[[Bench, list[asyncio.StreamWriter]], Awaitable[None]]) -> None:
    """With a server that says hello and echoes; who came is in the list."""

    async def main() -> None:
        came: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(writer)
            writer.write(b"hello")
            while data := await reader.read(100):
                writer.write(data.upper())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        bench = Bench(server.sockets[0].getsockname()[1])
        try:
            await story(bench, came)
        finally:
            bench.connections.close()
            for each in came:
                each.close()
            server.close()

    asyncio.run(main())


def test_bytes_come_and_go_under_the_name_of_the_way() -> None:
    async def story(bench: Bench, came: list[asyncio.StreamWriter]) -> None:
        bench.connections.ask(bench.way)
        await bench.hears(Connected(bench.way))
        # A server may speak first.
        await bench.hears((bench.way, b"hello"))
        bench.sends(b"abc")
        await bench.hears((bench.way, b"ABC"))
        came[0].close()
        await bench.hears((bench.way, b""))

    play(story)


def test_what_cannot_be_connected_is_told_and_may_be_asked_for_at_once() -> None:
    async def story(bench: Bench, came: list[asyncio.StreamWriter]) -> None:
        nowhere = bench.way._replace(remote_port=1)
        for _ in range(2):
            bench.connections.ask(nowhere)
            report = await bench.engine.hears(lambda each: True)
            assert isinstance(report, Unconnected)
            assert report.why

    play(story)


def test_a_connection_that_takes_the_place_of_another_is_opened_once_that_has_ended() -> None:
    async def story(bench: Bench, came: list[asyncio.StreamWriter]) -> None:
        bench.connections.ask(bench.way)
        await bench.hears(Connected(bench.way))
        # In one round: take leave, end it, want another.
        bench.engine.out += [(bench.way, b"bye"), (bench.way, b"")]
        bench.connections.ask(bench.way)
        bench.connections.driver.wake()
        await bench.hears(Connected(bench.way))
        assert len(came) == 2
        bench.sends(b"x")
        await bench.hears((bench.way, b"X"))
        # The same with one that is not open yet.
        bench.sends(b"")
        bench.connections.ask(bench.way)
        bench.engine.out.append((bench.way, b""))
        bench.connections.ask(bench.way)
        await bench.hears(Connected(bench.way))

    play(story)


def test_datagrams_and_streams_leave_by_their_own_drivers() -> None:
    engine = Engine()
    fork = Fork(engine)
    stream, datagram = PeerId("tcp", "127.0.0.1", 1), PeerId("udp", "127.0.0.1", 1)
    woken: list[str] = []
    fork.streams.wake, fork.datagrams.wake = lambda: woken.append("streams"), lambda: woken.append("datagrams")
    engine.out = [(stream, b"s"), (datagram, b"d")]
    assert fork.datagrams.take_datagrams() == [(datagram, b"d")]
    assert woken == ["streams"]
    assert fork.streams.take_datagrams() == [(stream, b"s")]
    assert woken == ["streams"]
