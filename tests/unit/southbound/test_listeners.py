"""Where devices are listened to: one port number for every transport, or a word why not."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.scenario.stack import SeededEntropy

from stellwerk.app.brake import Brake
from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.app.meters import Meters
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls.tickets import TicketKey
from stellwerk.net.clock import SystemClock
from stellwerk.net.udp import CannotBind
from stellwerk.southbound import stream_listener
from stellwerk.southbound.listeners import Listeners
from stellwerk.southbound.secure_listener import SecureSettings
from stellwerk.southbound.stream_listener import StreamSettings, within_open_files

HELLO = bytes.fromhex("fefd") + bytes(32) + bytes.fromhex("00 00 0002 c0a8 01 00")
MESSAGE = bytes.fromhex("01") + len(HELLO).to_bytes(3, "big") + bytes(5) + len(HELLO).to_bytes(3, "big") + HELLO
CLIENT_HELLO = bytes.fromhex("16feff") + bytes(8) + len(MESSAGE).to_bytes(2, "big") + MESSAGE


class Uses:
    """What stands above, and is not needed."""

    def __init__(self) -> None:
        self.answers: list[DeviceAnswer] = []
        self.over: set[PeerId] = set()
        self.handshakes = Failed()

    def finished(self, answer: DeviceAnswer, at: Instant) -> None:
        self.answers.append(answer)

    def reacted(self, handle: int, at: Instant, *, delivered: bool) -> None: ...

    def lost(self, peer: PeerId, why: str, at: Instant) -> None: ...

    def may_reach(self, peer: PeerId) -> bool:
        return peer not in self.over


class Failed:
    """Handshakes that came to nothing."""

    def failed(self, *about: object) -> None: ...


class NoKeys:
    """A server that knows pre-shared keys alone."""

    identity = None
    anchors = ()


def with_listeners(
    work: Callable[[Listeners, Uses], Awaitable[None]],
    streams: StreamSettings | None,
    secure: SecureSettings | None = None,
    tls: StreamSettings | None = None,
) -> None:
    async def main() -> None:
        uses: Any = Uses()
        listeners = Listeners(
            store=uses,
            remembers=False,
            tasks=Tasks(),
            entropy=SeededEntropy(),
            clock=SystemClock(),
            brake=Brake(SeededEntropy()),
            meters=Meters(lambda: 0.0),
            streams=streams,
            secure=secure,
            keys=NoKeys(),
            ticket_key=TicketKey(bytes(16), bytes(32)),
            tls=tls,
        )
        listeners.connect(uses, uses, uses.finished, uses.reacted, uses.lost)
        try:
            await work(listeners, uses)
        finally:
            listeners.close()

    asyncio.run(main())


def test_every_transport_has_the_same_port() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        assert listeners.missing() == ["CoAP over TCP does not listen"]
        ((host, port),) = await listeners.listen("127.0.0.1", 0)
        assert listeners.missing() == []
        reader, writer = await asyncio.open_connection(host, port)
        assert await reader.readexactly(7) == bytes.fromhex("50e12301000020")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.setblocking(False)
            device.connect((host, port))
            device.send(bytes.fromhex("40001234"))
            assert await asyncio.get_running_loop().sock_recv(device, 100) == bytes.fromhex("70001234")
        figures = listeners.transport()
        assert (figures.received, figures.connections, figures.connections_opened) == (1, 1, 1)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        figures = listeners.transport()
        assert figures.connections == 0
        assert sum(figures.connections_ended.values()) == 1
        assert figures.stream_bytes["in"] == 18
        writer.close()

    with_listeners(work, StreamSettings())


def test_without_tcp_only_datagrams_are_taken() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        ((host, port),) = await listeners.listen("127.0.0.1", 0)
        assert listeners.missing() == []
        with pytest.raises(OSError):
            await asyncio.open_connection(host, port)
        connection = PeerId("tcp", "127.0.0.1", 40_000, host, port)
        assert not listeners.links.reaches(connection)
        assert listeners.links.reaches(connection._replace(transport="udp"))

    with_listeners(work, None)


def test_a_tcp_port_that_is_taken_is_an_error_and_binds_nothing() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        # A number that is free for datagrams, and taken for connections.
        with socket.socket() as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            taken.bind(("127.0.0.1", port))
            taken.listen()
            free.close()
            with pytest.raises(CannotBind, match=f"cannot listen on TCP 127.0.0.1:{port}"):
                await listeners.listen("127.0.0.1", port)
        # Free again, for both.
        assert await listeners.listen("127.0.0.1", port) == [("127.0.0.1", port)]

    with_listeners(work, StreamSettings())


def test_dtls_has_a_port_of_its_own() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        assert listeners.secure is not None
        listeners.secure.peers.connect(uses)  # type: ignore[arg-type]
        assert listeners.missing() == ["CoAP over DTLS does not listen"]
        ((host, port),) = await listeners.listen_secure("127.0.0.1", 0)
        assert listeners.missing() == []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.setblocking(False)
            device.connect((host, port))
            # A message without DTLS in front, and a ClientHello without cookie.
            device.send(bytes.fromhex("40001234"))
            device.send(CLIENT_HELLO)
            answer = await asyncio.get_running_loop().sock_recv(device, 1000)
        # A HelloVerifyRequest, and nothing is remembered.
        assert (answer[0], answer[13]) == (22, 3)
        figures = listeners.transport()
        assert (figures.received, figures.sent, figures.sessions, figures.handshakes) == (2, 1, 0, 0)
        assert sum(figures.records_dropped.values()) == 1
        session = PeerId("dtls", "00" * 8, 0)
        assert listeners.links.reaches(session)
        uses.over.add(session)
        assert not listeners.links.reaches(session)
        listeners.stop_reading()
        assert listeners.missing() == ["CoAP over DTLS does not listen"]

    with_listeners(work, None, SecureSettings())


def test_a_secure_port_that_is_taken_is_an_error() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(CannotBind, match=f"cannot listen on UDP 127.0.0.1:{port}.*STELLWERK_COAPS_PORT"):
                await listeners.listen_secure("127.0.0.1", port)

    with_listeners(work, None, SecureSettings())


@pytest.mark.spec("RFC 8323 8.2")
def test_tls_has_the_port_number_of_dtls() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        assert listeners.tls is not None
        listeners.tls.peers.connect(uses)  # type: ignore[arg-type]
        ((host, port),) = await listeners.listen_secure("127.0.0.1", 0)
        assert listeners.missing() == []
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        assert listeners.tls.offers() == "pre-shared keys"
        assert listeners.transport().tls_bytes["in"] == 18
        listeners.stop_reading()
        assert listeners.missing() == ["CoAP over DTLS does not listen"]
        writer.close()

    with_listeners(work, None, SecureSettings(), StreamSettings())


def test_a_port_that_is_taken_for_tls_is_an_error_and_leaves_nothing_bound() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        # A number that is free for datagrams, and taken for connections.
        with socket.socket() as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            taken.bind(("127.0.0.1", port))
            taken.listen()
            free.close()
            with pytest.raises(CannotBind, match=f"cannot listen on TCP 127.0.0.1:{port}.*STELLWERK_COAP_TLS"):
                await listeners.listen_secure("127.0.0.1", port)
        assert await listeners.listen_secure("127.0.0.1", port) == [("127.0.0.1", port)]

    with_listeners(work, None, SecureSettings(), StreamSettings())


def test_what_nothing_here_can_send_is_answered_and_not_lost() -> None:
    async def work(listeners: Listeners, uses: Uses) -> None:
        class Registered:
            peer = PeerId("tcp", "192.0.2.1", 40_000)

        listeners.links.send(7, Registered(), None)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        (answer,) = uses.answers
        assert (answer.handle, answer.failure, answer.detail) == (7, "unconnected", "nothing listens for tcp here")

    with_listeners(work, None)


def test_connections_are_as_many_as_open_files_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_listener, "raise_open_files", lambda wanted: 10)
    assert within_open_files(None, StreamSettings(60), StreamSettings(40)) == (
        None,
        StreamSettings(6),
        StreamSettings(4),
    )
    monkeypatch.setattr(stream_listener, "raise_open_files", lambda wanted: 1)
    (allowed,) = within_open_files(StreamSettings(connections=10))

    async def work(listeners: Listeners, uses: Uses) -> None:
        ((host, port),) = await listeners.listen("127.0.0.1", 0)
        first, writer = await asyncio.open_connection(host, port)
        await first.readexactly(7)
        second, other = await asyncio.open_connection(host, port)
        assert await second.read() == b""
        for each in (writer, other):
            each.close()

    with_listeners(work, allowed)
