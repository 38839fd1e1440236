"""Engines over streams on the bench: one alone with its frames decoded, or two with a line between them that cuts the
bytes wherever it likes."""

from collections.abc import Callable
from random import Random
from typing import Any

from stellwerk.coap.events import Event, PeerReacted
from stellwerk.coap.message import Message, Options, encode_options
from stellwerk.coap.options import CONTENT_FORMAT, URI_PATH, URI_QUERY, encode_uint
from stellwerk.coap.tcp.connection import Role
from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamEndpoint
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame, encode_frame
from stellwerk.core.ids import PeerId

DEVICE = PeerId("tcp", "192.0.2.9", 40_000, "192.0.2.1", 5683)
OTHER = PeerId("tcp", "192.0.2.10", 40_000, "192.0.2.1", 5683)
SERVER = PeerId("tcp", "192.0.2.1", 5683, "192.0.2.9", 40_000)

CSM = bytes.fromhex("50e1 23010000 20")
"""65,536 bytes and block-wise transfers."""
PLAIN_CSM = bytes.fromhex("00e1")
"""Nothing said: 1152 bytes."""


def frame(
    code: int,
    token: bytes = b"\x01\x02\x03\x04",
    path: tuple[str, ...] = (),
    query: tuple[str, ...] = (),
    content_format: int | None = None,
    options: Options = (),
    payload: bytes = b"",
) -> bytes:
    parts = [*options, *((URI_PATH, part.encode()) for part in path), *((URI_QUERY, part.encode()) for part in query)]
    if content_format is not None:
        parts.append((CONTENT_FORMAT, encode_uint(content_format)))
    return encode_frame(code, token, encode_options(tuple(sorted(parts, key=lambda part: part[0]))), payload)


def messages(data: bytes) -> list[Message]:
    """All of ``data``, which has to be whole frames."""
    decoder = FrameDecoder(1 << 24)
    decoder.append(data)
    found = []
    while (each := decoder.next()) is not None:
        found.append(decode_frame(each))
    assert decoder.held == 0
    return found


class SeededEntropy:
    """Bytes that are the same in every run."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


class StreamBench:
    """One engine, fed by hand."""

    def __init__(self, **how: Any) -> None:
        self.engine = StreamEndpoint(SeededEntropy(1), **how)
        self.now = 0.0

    def connect(self, peer: PeerId = DEVICE, csm: bytes = CSM, role: Role = Role.ACCEPTED) -> None:
        """A connection that stands, with the CSMs exchanged and looked away from."""
        self.engine.submit(AdoptConnection(peer, role), self.now)
        self.feed(csm, peer=peer)
        self.engine.take_datagrams()

    def feed(self, *parts: bytes, peer: PeerId = DEVICE) -> None:
        for part in parts:
            self.engine.feed(part, peer=peer, now=self.now)

    def submit(self, *actions: Any) -> None:
        for action in actions:
            self.engine.submit(action, self.now)

    def sent(self, peer: PeerId = DEVICE) -> list[Message]:
        """What went to ``peer`` since the last look; what went to others is lost."""
        return messages(b"".join(data for to, data in self.engine.take_datagrams() if to == peer))

    def one(self, peer: PeerId = DEVICE) -> Message:
        (message,) = self.sent(peer)
        return message

    def events(self) -> list[Event]:
        """What happened since the last look, but for parts that the peer took of what we send."""
        return [each for each in self.engine.take_events() if not isinstance(each, PeerReacted)]

    def event(self, kind: type) -> Any:
        """The one event there is, which must be of ``kind``."""
        (event,) = self.events()
        assert isinstance(event, kind), event
        return event

    def after(self, seconds: float) -> None:
        """Let time pass, ticking whenever the engine wants to be ticked."""
        end = self.now + seconds
        while (due := self.engine.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.engine.tick(self.now)
        self.now = end
        self.engine.tick(end)

    def ended(self, peer: PeerId = DEVICE) -> tuple[list[Message], bool]:
        """What went to ``peer``, and whether the connection was closed after it."""
        out = [data for to, data in self.engine.take_datagrams() if to == peer]
        return messages(b"".join(out)), bool(out) and out[-1] == b""


class Line:
    """A client and a server, and between them a stream each way that arrives in pieces of any size."""

    def __init__(
        self, client: StreamEndpoint, server: StreamEndpoint, seed: int = 1, largest_piece: int = 1500
    ) -> None:
        self.client, self.server = client, server
        self.now = 0.0
        self._random = Random(seed)
        self._largest = largest_piece
        client.submit(AdoptConnection(SERVER, Role.INITIATED), 0.0)
        server.submit(AdoptConnection(DEVICE), 0.0)
        self.carried = 0

    def run(self, on_client: Callable[[Event], None], on_server: Callable[[Event], None]) -> None:
        """Until both have nothing to say."""
        busy = True
        while busy:
            busy = False
            for engine, handler in ((self.client, on_client), (self.server, on_server)):
                for event in engine.take_events():
                    busy = True
                    handler(event)
            for engine, other, sender in ((self.client, self.server, DEVICE), (self.server, self.client, SERVER)):
                data = b"".join(each for _, each in engine.take_datagrams())
                self.carried += len(data)
                busy = busy or bool(data)
                while data:
                    size = self._random.randint(1, self._largest)
                    other.feed(data[:size], peer=sender, now=self.now)
                    data = data[size:]
