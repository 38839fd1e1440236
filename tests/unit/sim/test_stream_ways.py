"""Ways over connections: opened when there is something to say, and what becomes of it when they end."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import Respond, SendRequest
from stellwerk.coap.events import RequestReceived, ResponseReceived
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.tcp.endpoint import AdoptConnection, CloseConnection, StreamEndpoint
from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.net.tls import TlsStack
from stellwerk.net.tls_client import TlsClients
from stellwerk.sim.bootstrap.orders import CloseWay, DropWay, MoveWays, OpenWay, WayFailed, WayLost, WayUp
from stellwerk.sim.bootstrap.stream_ways import Connected, StreamWays, Unconnected
from stellwerk.sim.bootstrap.ways import Ways
from stellwerk.sim.security import PreSharedKey, RawKey, Security, one_for_all
from stellwerk.sim.sessions import client_endpoint

from .conftest import SeededEntropy

KEY = bytes(range(16))
PLAIN = PeerId("tcp", "10.0.0.1", 5687, "10.0.0.2", 40_000)
BEHIND_TLS = PLAIN._replace(transport="tls", remote_port=5688)


class Wire:
    """A device's `Ways` and a server that answers every request, wired when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wanted: list[PeerId] = []
        self.wired: set[PeerId] = set()
        self.heard: list[Any] = []
        self.received: list[RequestReceived] = []
        self.responses: list[ResponseReceived] = []
        """What the server was answered."""
        self.answers = True
        security = Security(one_for_all(None))  # type: ignore[arg-type]
        self.ways = Ways(
            StreamEndpoint(SeededEntropy(1)),
            client_endpoint(security, 10, SeededEntropy(2)),
            entropy=SeededEntropy(3),
            utc_offset_s=0.0,
            streams=lambda judge: StreamWays(
                StreamEndpoint(SeededEntropy(4), Limits(), Parameters()),
                TlsClients(StreamEndpoint(SeededEntropy(5)), SeededEntropy(6)),
                connect=self.wanted.append,
                judge=judge,
                entropy=SeededEntropy(7),
            ),
        )
        self.plain = StreamEndpoint(SeededEntropy(8))
        self.secure: Any = TlsStack(StreamEndpoint(SeededEntropy(9)), SeededEntropy(10), None)
        self._handles = 0

    def server(self, peer: PeerId) -> Any:
        return self.plain if peer.transport == "tcp" else self.secure

    def ask(self, peer: PeerId = PLAIN) -> int:
        self._handles += 1
        self.ways.submit(SendRequest(self._handles, peer, codes.POST, b"t%d" % self._handles, ("bs",)), self.now)
        self.run()
        return self._handles

    def order(self, order: Any) -> None:
        self.ways.submit(order, self.now)
        self.run()

    def connect(self, peer: PeerId = PLAIN) -> None:
        self.wired.add(peer)
        self.server(peer).submit(AdoptConnection(peer), self.now)
        self.ways.submit(Connected(peer), self.now)
        self.run()

    def hang_up(self, peer: PeerId = PLAIN) -> None:
        """The server closes."""
        self.server(peer).submit(CloseConnection(peer, "enough"), self.now)
        self.run()

    def run(self) -> None:
        busy = True
        while busy:
            busy = False
            for peer, data in self.ways.take_datagrams():
                if peer in self.wired:
                    busy = True
                    self.server(peer).feed(data, peer=peer, now=self.now)
                    self._unwire(peer, data)
            for server in (self.plain, self.secure):
                for event in server.take_events():
                    busy = True
                    self._serve(server, event)
                for peer, data in server.take_datagrams():
                    if peer in self.wired:
                        busy = True
                        self._unwire(peer, data)
                        self.ways.feed(data, peer=peer, now=self.now)
            found = self.ways.take_events()
            self.heard += found
            busy = busy or bool(found)

    def told(self, *kinds: type) -> list[Any]:
        return [each for each in self.heard if isinstance(each, kinds)]

    def _unwire(self, peer: PeerId, data: bytes) -> None:
        if not data:
            self.wired.discard(peer)

    def _serve(self, server: Any, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.received.append(event)
            if self.answers:
                server.submit(Respond(event.exchange, codes.CHANGED), self.now)
        elif isinstance(event, ResponseReceived):
            self.responses.append(event)
        elif isinstance(event, events.PskQuestion):
            known = event.identity == b"bs-1"
            refusal = actions.RefusePeer(event.handshake, "unknown-identity", "nobody")
            server.submit(actions.GivePsk(event.handshake, KEY) if known else refusal, self.now)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def opened(credentials: Any, peer: PeerId = BEHIND_TLS) -> OpenWay:
    return OpenWay(peer, "dev-1", credentials, Security(one_for_all(credentials)), lambda: None)


def test_what_is_to_be_said_opens_a_connection_and_waits_for_it(wire: Wire) -> None:
    handles = [wire.ask(), wire.ask()]
    assert (wire.wanted, wire.received) == ([PLAIN], [])
    wire.connect()
    assert [each.handle for each in wire.told(ResponseReceived)] == handles
    assert {each.peer for each in wire.told(ResponseReceived)} == {PLAIN}
    wire.ask()
    assert wire.wanted == [PLAIN]


def test_a_connection_that_cannot_be_opened_is_told_and_asked_for_again(wire: Wire) -> None:
    wire.ask()
    wire.order(Unconnected(PLAIN, "Connection refused"))
    assert wire.heard == [WayFailed(PLAIN, "unconnected", "Connection refused")]
    wire.ask()
    assert wire.wanted == [PLAIN, PLAIN]
    wire.connect()
    # What was to be said before is forgotten.
    assert [each.handle for each in wire.told(ResponseReceived)] == [2]


def test_a_connection_that_ends_is_told_once_and_the_next_request_opens_another(wire: Wire) -> None:
    wire.ask()
    wire.connect()
    wire.answers = False
    wire.ask()
    wire.heard.clear()
    wire.hang_up()
    (lost,) = wire.heard
    assert isinstance(lost, WayLost)
    assert lost.peer == PLAIN
    wire.answers = True
    wire.ask()
    wire.connect()
    assert [each.handle for each in wire.told(ResponseReceived)] == [3]


def test_a_server_that_hangs_up_without_a_word_has_not_let_the_device_in(wire: Wire) -> None:
    wire.answers = False
    wire.ask()
    wire.connect()
    wire.hang_up()
    assert [type(each) for each in wire.heard] == [WayFailed]


@pytest.mark.parametrize("order", [DropWay(PLAIN), DropWay(PLAIN, tells=True), CloseWay(PLAIN)])
def test_a_way_that_is_given_up_ends_its_connection_and_nobody_is_told(wire: Wire, order: Any) -> None:
    wire.ask()
    wire.connect()
    wire.heard.clear()
    wire.order(order)
    assert (wire.wired, wire.heard, wire.plain.peers) == (set(), [], 0)


def test_a_connection_that_nobody_wants_any_more_is_closed(wire: Wire) -> None:
    wire.ask()
    wire.order(CloseWay(PLAIN))
    wire.connect()
    assert (wire.wired, wire.heard) == (set(), [])


def test_each_connection_that_is_asked_for_and_given_up_has_its_end(wire: Wire) -> None:
    wire.ask()
    wire.connect()
    wire.run()
    for _ in range(2):
        wire.ways.submit(DropWay(PLAIN), wire.now)
        wire.ways.submit(SendRequest(70, PLAIN, codes.POST, b"t", ("bs",)), wire.now)
    assert wire.wanted == [PLAIN] * 3
    assert [each for each in wire.ways.take_datagrams() if not each[1]] == [(PLAIN, b"")] * 2


def test_from_another_address_it_is_another_connection(wire: Wire) -> None:
    wire.ask()
    wire.connect()
    wire.order(MoveWays(("10.0.0.2", 40_000), ("10.0.0.2", 40_001)))
    assert wire.wired == set()
    moved = PLAIN._replace(local_port=40_001)
    wire.ask(moved)
    wire.connect(moved)
    assert wire.told(ResponseReceived)[-1].peer == moved


def test_what_the_server_asks_is_answered_over_its_connection(wire: Wire) -> None:
    wire.ask()
    wire.connect()
    wire.plain.submit(SendRequest(70, PLAIN, codes.GET, b"q", ("3",)), wire.now)
    wire.run()
    (request,) = wire.told(RequestReceived)
    wire.order(Respond(request.exchange, codes.CONTENT, payload=b"x"))
    assert [(each.handle, each.payload) for each in wire.responses] == [(70, b"x")]


def test_behind_tls_the_device_proves_itself_first(wire: Wire) -> None:
    wire.order(opened(PreSharedKey(b"bs-1", KEY)))
    wire.ask(BEHIND_TLS)
    wire.connect(BEHIND_TLS)
    assert [type(each) for each in wire.heard] == [WayUp, ResponseReceived]
    assert wire.told(WayUp)[0].suite


@pytest.mark.parametrize("credentials", [PreSharedKey(b"bs-1", bytes(16)), PreSharedKey(b"nobody", KEY)])
def test_behind_tls_a_handshake_that_fails_is_told(wire: Wire, credentials: Any) -> None:
    wire.order(opened(credentials))
    wire.ask(BEHIND_TLS)
    wire.connect(BEHIND_TLS)
    (failed,) = wire.heard
    assert isinstance(failed, WayFailed)
    assert wire.wired == set()


def test_behind_tls_there_are_no_raw_public_keys(wire: Wire) -> None:
    wire.order(opened(RawKey(None)))  # type: ignore[arg-type]
    wire.ask(BEHIND_TLS)
    wire.connect(BEHIND_TLS)
    assert [each.reason for each in wire.told(WayFailed)] == ["no-credentials"]
