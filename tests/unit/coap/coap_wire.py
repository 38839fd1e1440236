"""Endpoints on the bench: one alone with its messages decoded, or two over a bad network with time as an argument."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import Event, PeerReacted
from stellwerk.coap.message import ACK, CON, NON, RST, Message, Options, decode_message, encode_message
from stellwerk.coap.options import CONTENT_FORMAT, URI_PATH, URI_QUERY, encode_uint
from stellwerk.core.ids import PeerId

DEVICE = PeerId("udp", "192.0.2.9", 40_000, "192.0.2.1", 5683)
MOVED = PeerId("udp", "192.0.2.9", 40_001, "192.0.2.1", 5683)
SERVER = PeerId("udp", "192.0.2.1", 5683, "192.0.2.9", 40_000)


class SeededEntropy:
    """Bytes that are the same in every run."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


def message(
    kind: int,
    code: int,
    mid: int,
    token: bytes = b"\x01\x02\x03\x04",
    path: tuple[str, ...] = (),
    query: tuple[str, ...] = (),
    content_format: int | None = None,
    options: Options = (),
    payload: bytes = b"",
) -> Message:
    parts = [*options, *((URI_PATH, part.encode()) for part in path), *((URI_QUERY, part.encode()) for part in query)]
    if content_format is not None:
        parts.append((CONTENT_FORMAT, encode_uint(content_format)))
    return Message(kind, code, mid, token, tuple(sorted(parts, key=lambda part: part[0])), payload)


def con(code: int, mid: int, token: bytes = b"\x01\x02\x03\x04", **more: Any) -> Message:
    return message(CON, code, mid, token, **more)


def non(code: int, mid: int, token: bytes = b"\x01\x02\x03\x04", **more: Any) -> Message:
    return message(NON, code, mid, token, **more)


def ack(code: int, mid: int, token: bytes = b"", **more: Any) -> Message:
    return message(ACK, code, mid, token, **more)


def rst(mid: int) -> Message:
    return Message(RST, 0, mid)


class Bench:
    """One endpoint, fed by hand."""

    def __init__(self, seed: int = 1, **how: Any) -> None:
        self.reactions: list[tuple[int, bool]] = []
        self.engine = Endpoint(SeededEntropy(seed), **how)
        self.now = 0.0

    def feed(self, *messages: Message | bytes, peer: PeerId = DEVICE) -> None:
        for item in messages:
            data = item if isinstance(item, bytes) else encode_message(item)
            self.engine.feed(data, peer=peer, now=self.now)

    def submit(self, *actions: Any) -> None:
        for action in actions:
            self.engine.submit(action, self.now)

    def sent(self) -> list[Message]:
        return [decode_message(data) for _, data in self.engine.take_datagrams()]

    def sent_to(self) -> list[tuple[PeerId, Message]]:
        return [(peer, decode_message(data)) for peer, data in self.engine.take_datagrams()]

    def events(self) -> list[Event]:
        """Without the reactions, which come beside every part of an answer; see `reactions`."""
        taken = self.engine.take_events()
        self.reactions += [(each.handle, each.complete) for each in taken if isinstance(each, PeerReacted)]
        return [each for each in taken if not isinstance(each, PeerReacted)]

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


class Wire:
    """A client and a server with a network between them that loses, doubles, delays and so reorders."""

    def __init__(
        self, client: Endpoint, server: Endpoint, seed: int, loss: float = 0.0, double: float = 0.0, delay: float = 0.05
    ) -> None:
        self.client, self.server = client, server
        self.now = 0.0
        self.lost_everything_from = float("inf")
        self._random = Random(seed)
        self._loss, self._double, self._delay = loss, double, delay
        self._flying: list[tuple[float, int, bool, bytes]] = []
        self._order = 0

    def run(self, until: float, on_client: Callable[[Event], None], on_server: Callable[[Event], None]) -> None:
        """Deliver and tick until nothing is left to do or the time has come."""
        while True:
            self._settle(on_client, on_server)
            times = [time for time in (self.client.deadline(), self.server.deadline()) if time is not None]
            if self._flying:
                times.append(self._flying[0][0])
            if not times or min(times) > until:
                self.now = until
                return
            self.now = max(self.now, min(times))
            while self._flying and self._flying[0][0] <= self.now:
                _, _, to_server, datagram = heappop(self._flying)
                if to_server:
                    self.server.feed(datagram, peer=DEVICE, now=self.now)
                else:
                    self.client.feed(datagram, peer=SERVER, now=self.now)
            self.client.tick(self.now)
            self.server.tick(self.now)

    def _settle(self, on_client: Callable[[Event], None], on_server: Callable[[Event], None]) -> None:
        busy = True
        while busy:
            busy = False
            for endpoint, handler in ((self.client, on_client), (self.server, on_server)):
                for event in endpoint.take_events():
                    busy = True
                    handler(event)
        for endpoint, to_server in ((self.client, True), (self.server, False)):
            for _, datagram in endpoint.take_datagrams():
                copies = 0 if self._random.random() < self._loss else 1
                copies += self._random.random() < self._double
                for _ in range(copies if self.now < self.lost_everything_from else 0):
                    self._order += 1
                    arrival = self.now + self._random.random() * self._delay
                    heappush(self._flying, (arrival, self._order, to_server, datagram))
