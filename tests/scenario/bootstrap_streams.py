"""The bootstrap server's ports for connections, over TCP and TLS, and a device on the other side that a test plays."""

from typing import Any

from stellwerk.app.handlers.bootstrap_connections import BootstrapConnections
from stellwerk.app.rare_lines import RareLines
from stellwerk.coap.codes import POST
from stellwerk.coap.events import Event
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.tcp.endpoint import AdoptConnection, CloseConnection, StreamAction, StreamEndpoint
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame, encode_frame
from stellwerk.coap.tcp.signalling import Capabilities, encode_csm
from stellwerk.core.ids import PeerId
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.net.tls import TlsStack
from stellwerk.southbound.bootstrap_link import BootstrapLink
from stellwerk.southbound.tls_peers import TlsPeers
from tests.scenario.bootstrap_port import EMPTY, BootstrapPort, Client
from tests.scenario.stack import SeededEntropy, Trusted, con
from tests.scenario.tls_device import TlsDevice

CONNECTION = PeerId("tcp", "192.0.2.1", 50_001, "192.0.2.100", 5687)
_SIGNALS = 7


class OverTcp:
    """What of a `BootstrapPort` speaks CoAP over TCP."""

    transport = "tcp"

    def __init__(self, port: BootstrapPort) -> None:
        clock = port.clock
        self._port = port
        self.engine = StreamEndpoint(SeededEntropy(78), oscore=True)
        self.link = BootstrapLink(
            submit=lambda action: self.engine.submit(action, clock.now()),
            entropy=SeededEntropy(79),
            clock=clock,
            reaches=self.engine.is_connected,
            close=lambda peer, why: self.engine.submit(CloseConnection(peer, why), clock.now()),
        )
        self.out: list[tuple[PeerId, bytes]] = []

    def pump(self) -> bool:
        told = self.engine.take_events()
        if told:
            self.link.handle(told, self._port.clock.instant())
        out = self.engine.take_datagrams()
        self.out += out
        return bool(told or out)

    # -- what a device does, as `stack.BehindTls` has it --

    def begin(self, peer: PeerId) -> None:
        self._port.calls(lambda: self.link.opened(peer))
        self.engine.submit(AdoptConnection(peer), self._port.clock.now())
        self._port.settle()

    def feed(self, peer: PeerId, data: bytes) -> None:
        self.engine.feed(data, peer=peer, now=self._port.clock.now())
        self._port.settle()

    def take(self, peer: PeerId) -> list[bytes]:
        self._port.settle()
        found = [data for to, data in self.out if to == peer]
        self.out = [each for each in self.out if each[0] != peer]
        return found


class OverTls:
    """What of it speaks CoAP over TLS and shows ``identity``."""

    transport = "tls"

    def __init__(self, port: BootstrapPort, identity: ServerIdentity) -> None:
        clock, stack = port.clock, port.stack
        assert stack.store is not None
        self._port = port
        coap = StreamEndpoint(SeededEntropy(80), oscore=True)
        self.engine: TlsStack[Event, StreamAction] = TlsStack(coap, SeededEntropy(81), identity, is_full=coap.is_full)
        self.stack = self.engine

        def submit(action: Any) -> None:
            self.engine.submit(action, clock.now())

        self.link = BootstrapLink(
            submit=submit,
            entropy=SeededEntropy(82),
            clock=clock,
            reaches=coap.is_connected,
            close=lambda peer, why: self.peers.close(peer, why),
        )
        self.peers = TlsPeers(submit=submit, link=self.link, trust=Trusted(port.trusted), check_dates=True)
        self.connections = BootstrapConnections(
            store=stack.store,
            tasks=stack.tasks,
            clock=clock,
            link=self.peers,
            lines=RareLines(stack.store),
            meters=stack.meters.tls,
            table=port.table,
        )
        self.peers.connect(self.connections)
        self.out: list[tuple[PeerId, bytes]] = []

    def pump(self) -> bool:
        told = self.engine.take_events()
        if told:
            self.peers.handle(told, self._port.clock.instant())
        out = self.engine.take_datagrams()
        self.out += out
        return bool(told or out)

    def begin(self, peer: PeerId) -> None:
        self.engine.submit(AdoptConnection(peer), self._port.clock.now())
        self._port.settle()

    feed = OverTcp.feed
    take = OverTcp.take


class StreamClient(Client):
    """A device over TCP, as `Client`."""

    def __init__(self, port: BootstrapPort, peer: PeerId = CONNECTION, holds: str = EMPTY, **csm: Any) -> None:
        """``csm``: of `Capabilities`, what it can take."""
        super().__init__(port, peer, holds)
        self._server = port.streams[peer.transport]
        self._csm = Capabilities(csm.get("message_bytes", 65_536), csm.get("block_wise", True))
        self._decoder = FrameDecoder(1 << 20)
        self._heard: list[Message] = []
        self.signals: list[Message] = []
        self.was_closed = False

    def connect(self) -> "StreamClient":
        self._server.begin(self.peer)
        self._server.feed(self.peer, encode_csm(self._csm))
        return self

    def hang_up(self) -> None:
        """The connection breaks."""
        self._server.feed(self.peer, b"")

    def ask(self, target: str = "/bs?ep=urn:dev:os:dev1", code: int = POST, **more: Any) -> Message:
        self._say(con(code, target, mid=1, token=b"ask!", peer=self.peer, **more).message)
        return self._take(lambda each: each.token == b"ask!")

    def _say(self, message: Message) -> None:
        frame = encode_frame(message.code, message.token, encode_options(message.options), message.payload)
        self._send(frame)

    def _send(self, frame: bytes) -> None:
        self._server.feed(self.peer, frame)

    def _receive(self) -> bytes:
        data = b""
        for each in self._server.take(self.peer):
            data += each
            self.was_closed = self.was_closed or not each
        return data

    def listen(self) -> None:
        """Hear what was said so far."""
        self._decoder.append(self._receive())
        while (frame := self._decoder.next()) is not None:
            message = decode_frame(frame)
            (self.signals if message.code >> 5 == _SIGNALS else self._heard).append(message)

    def _take(self, is_it: Any = lambda each: True) -> Message:
        self.listen()
        found = next((each for each in self._heard if is_it(each)), None)
        assert found is not None, "nothing of the kind was said"
        self._heard.remove(found)
        return found

    def _has_any(self) -> bool:
        self.listen()
        return bool(self._heard)


class TlsBootstrapClient(StreamClient):
    """The same behind TLS: ``device`` makes its handshake with that port."""

    def __init__(self, port: BootstrapPort, device: TlsDevice, holds: str = EMPTY) -> None:
        super().__init__(port, device.peer, holds)
        self.device = device

    def connect(self) -> "TlsBootstrapClient":
        self.device.connect()
        return self

    def hang_up(self) -> None:
        self.device.hang_up()

    def _send(self, frame: bytes) -> None:
        self.device.say(frame)

    def listen(self) -> None:
        self.device.listen()
        self._heard += self.device._heard
        self.signals, self.was_closed = self.device.signals, self.device.was_closed
        self.device._heard = []
