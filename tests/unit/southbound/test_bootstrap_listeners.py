"""The bootstrap server's sockets: what listens where, and what is counted."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.unit.southbound.test_listeners import CLIENT_HELLO

from stellwerk.app.device_ports import Acknowledgement, DeviceAnswer
from stellwerk.app.meters import Meters
from stellwerk.coap.codes import BAD_REQUEST, CONTINUE, POST, REQUEST_ENTITY_TOO_LARGE
from stellwerk.coap.message import CON, Message, decode_message, encode_message, encode_options
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame, encode_frame
from stellwerk.coap.tcp.signalling import CSM
from stellwerk.core.ids import PeerId, session_peer
from stellwerk.device.key_material import der_of
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.issuing import make_authority
from stellwerk.lwm2m.bootstrap import BootstrapFinish
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.net.udp import CannotBind
from stellwerk.southbound.bootstrap_listeners import BootstrapListeners
from stellwerk.southbound.secure_listener import SecureSettings
from stellwerk.southbound.stream_listener import StreamSettings


class Keys:
    identity: ServerIdentity | None = None
    anchors = ()


class Uses:
    """Stands above, refuses who asks, and is the keeper of sessions too."""

    def __init__(self) -> None:
        self.devices: dict[PeerId, int] = {}
        self.answers: list[DeviceAnswer] = []

    def requested(
        self, uplink: Any, peer: PeerId, at: Any, answer: Callable[[Acknowledgement], None], fresh: bool
    ) -> None:
        answer(Acknowledgement(400, detail="nobody"))

    def answered(self, answer: DeviceAnswer, at: Any) -> None:
        self.answers.append(answer)

    def lost(self, peer: PeerId, why: str, at: Any) -> None: ...

    def may_reach(self, peer: PeerId) -> bool:
        return peer in self.devices


def with_listeners(
    work: Callable[[BootstrapListeners, Uses], Awaitable[None]],
    streams: StreamSettings | None = None,
    keys: Keys | None = None,
) -> None:
    async def run() -> None:
        listeners = BootstrapListeners(
            entropy=SystemEntropy(),
            clock=SystemClock(),
            plain=True,
            secure=SecureSettings(),
            keys=keys or Keys(),
            meters=Meters(lambda: 0.0),
            streams=streams,
            tls=streams,
        )
        uses = Uses()
        listeners.connect(uses)
        assert listeners.secure is not None
        listeners.secure.peers.connect(uses)  # type: ignore[arg-type]
        if listeners.tls is not None:
            listeners.tls.peers.connect(uses)  # type: ignore[arg-type]
        try:
            await work(listeners, uses)
        finally:
            listeners.close()

    asyncio.run(run())


async def heard(port: int, *datagrams: bytes) -> bytes:
    """The first answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.setblocking(False)
        device.connect(("127.0.0.1", port))
        for each in datagrams:
            device.send(each)
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(device, 1000)


@pytest.mark.spec("Design 2")
def test_both_ports_answer_in_their_ways_and_are_counted_together() -> None:
    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        assert len(listeners.missing()) == 2
        ((_, port),) = await listeners.listen("127.0.0.1", 0)
        assert listeners.missing() == ["the bootstrap server does not listen for DTLS"]
        ((_, secure_port),) = await listeners.listen_secure("127.0.0.1", 0)
        assert listeners.missing() == []
        request = encode_message(Message(CON, POST, 7, b"t", ((11, b"bs"), (15, b"ep=x")), b""))
        answer = decode_message(await heard(port, request))
        assert (answer.code, answer.mid) == (BAD_REQUEST, 7)
        hello = await heard(secure_port, request, CLIENT_HELLO)
        assert (hello[0], hello[13]) == (22, 3)
        figures = listeners.transport()
        assert (figures.received, figures.sent, figures.handshakes) == (3, 2, 0)
        listeners.stop_reading()
        assert len(listeners.missing()) == 2

    with_listeners(work)


@pytest.mark.spec("LwM2M-contract 1.8", "RFC 8323 5.3")
def test_both_ports_take_connections_with_the_same_number() -> None:
    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        assert len(listeners.missing()) == 4
        ((_, port),) = await listeners.listen("127.0.0.1", 0)
        ((_, secure_port),) = await listeners.listen_secure("127.0.0.1", 0)
        assert listeners.missing() == []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        frame = encode_frame(POST, b"t", encode_options(((11, b"bs"), (15, b"ep=x"))), b"")
        writer.write(bytes.fromhex("50e12301000020") + frame)
        assert await reader.readexactly(7) == bytes.fromhex("50e12301000020")
        answer = decode_frame(await reader.readexactly(10))
        assert (answer.code, answer.token, answer.payload) == (BAD_REQUEST, b"t", b"nobody")
        silent, other = await asyncio.open_connection("127.0.0.1", secure_port)
        other.write(bytes(5))
        await silent.read()
        figures = listeners.transport()
        assert (figures.connections, figures.connections_opened, figures.tls_opened) == (1, 1, 0)
        # The server takes leave of who is there.
        listeners.close()
        assert (await reader.read())[1:2] == b"\xe4"
        for each in (writer, other):
            each.close()

    with_listeners(work, StreamSettings())


@pytest.mark.spec("SEC-8")
def test_keys_that_are_replaced_are_shown_from_then_on() -> None:
    keys = Keys()

    def made() -> bytes:
        issued = make_authority("bootstrap")
        shown = der_of(issued.chain[0])
        keys.identity = ServerIdentity(issued.key, (shown,))
        return shown

    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        ((_, port),) = await listeners.listen_secure("127.0.0.1", 0)

        async def seen() -> bytes:
            return ssl.PEM_cert_to_DER_cert(await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)))

        assert await seen() == first
        second = made()
        listeners.replace_identity()
        assert await seen() == second

    first = made()
    with_listeners(work, StreamSettings(), keys)


def taken_over_tcp() -> socket.socket:
    """Listens at a port that nobody has for UDP."""
    for _ in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                taken.bind(free.getsockname())
            except OSError:
                taken.close()
                continue
            taken.listen()
            return taken
    raise AssertionError("no port is free")


def test_a_tcp_port_that_is_taken_is_an_error_too() -> None:
    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        with taken_over_tcp() as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CannotBind, match=f"{port}.*STELLWERK_BOOTSTRAP_COAP_PORT") as caught:
                await listeners.listen("127.0.0.1", port)
        assert caught.value.protocol == "TCP"
        assert "the bootstrap server does not listen" in listeners.missing()

    with_listeners(work, StreamSettings())


def test_what_is_asked_over_a_session_that_is_gone_was_not_sent() -> None:
    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        listeners.links.send(1, session_peer(bytes(8)), BootstrapFinish())
        await asyncio.sleep(0)
        assert [(each.handle, each.failure) for each in uses.answers] == [(1, "unconnected")]

    with_listeners(work)


@pytest.mark.parametrize(("secure", "setting"), [(False, "BOOTSTRAP_COAP_PORT"), (True, "BOOTSTRAP_COAPS_PORT")])
def test_a_taken_port_is_an_error_that_names_the_setting(secure: bool, setting: str) -> None:
    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(CannotBind, match=f"{port}.*STELLWERK_{setting}"):
                await (listeners.listen_secure if secure else listeners.listen)("127.0.0.1", port)

    with_listeners(work)


@pytest.mark.spec("LwM2M-contract 1.8", "Design 7")
def test_over_a_connection_too_nobody_says_much_or_stays_for_nothing() -> None:
    async def work(listeners: BootstrapListeners, uses: Uses) -> None:
        ((_, port),) = await listeners.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes.fromhex("50e12301000020"))
        for block in (b"\x0e", b"\x1e"):
            # Two blocks of 1024 bytes, and more to come.
            options = encode_options(((11, b"anything"), (27, block)))
            writer.write(encode_frame(POST, b"t", options, bytes(1024)))
        decoder, said = FrameDecoder(1 << 16), []
        async with asyncio.timeout(5):
            while len(said) < 3:
                decoder.append(await reader.read(100))
                while (frame := decoder.next()) is not None:
                    said.append(decode_frame(frame).code)
        assert said == [CSM, CONTINUE, REQUEST_ENTITY_TOO_LARGE]
        assert listeners.streams is not None
        (peer,) = listeners.streams.link.closing
        assert peer.remote_port == writer.get_extra_info("sockname")[1]
        # Nothing goes on behind a server that has closed.
        (timer,) = listeners.streams.link.closing.values()
        listeners.close()
        assert timer.cancelled()
        writer.close()

    with_listeners(work, StreamSettings())
