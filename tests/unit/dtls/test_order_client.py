"""No order but the legal one, and no answer to what was not said: a client of ours and a server driven by hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import pytest
from order_lab import CLIENT_KEY, SERVER_KEY, SeededEntropy
from tests import dtls_hand as d
from tests.dtls_hand import DATA, HANDSHAKE, Hand

from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.failures import DROPS, REASONS
from stellwerk.dtls.parameters import ClientParameters

SERVER = PeerId("udp", "192.0.2.1", 5684, "192.0.2.9", 40_000)
HELLO, CERT, SKE, REQUEST, DONE = (
    d.SERVER_HELLO,
    d.CERTIFICATE,
    d.SERVER_KEY_EXCHANGE,
    d.CERTIFICATE_REQUEST,
    d.SERVER_HELLO_DONE,
)
HONEST = {"psk": (HELLO, DONE), "rpk": (HELLO, CERT, SKE, REQUEST, DONE)}
NAMES = {HELLO: "hello", CERT: "certificate", SKE: "exchange", REQUEST: "request", DONE: "done"}
PARAMETERS = {
    "psk": ClientParameters(psk_identity=b"device", psk=b"0123456789abcdef", suites=(d.PSK_CCM8,)),
    "rpk": ClientParameters(key=CLIENT_KEY, raw_keys=True, suites=(d.ECDHE_CCM8,)),
}
SUITES = {"psk": d.PSK_CCM8, "rpk": d.ECDHE_CCM8}
RPK_EXTENSIONS = {d.EXTENDED_MASTER: b"", d.CLIENT_TYPES: b"\2", d.SERVER_TYPES: b"\2"}


@dataclass
class Client:
    """A client of ours that connects at once, and the server's hand."""

    kind: str = "psk"
    parameters: ClientParameters | None = None
    told: list[events.Event] = field(default_factory=list)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.engine = Endpoint(SeededEntropy())
        self.hand = Hand(role="server", key=SERVER_KEY)
        self.engine.submit(actions.Connect(SERVER, self.parameters or PARAMETERS[self.kind]), self.now)
        self.settle()

    def settle(self) -> None:
        """Answer what is asked, and let the hand hear what is said."""
        while new := self.engine.take_events():
            for event in new:
                if isinstance(event, events.HandshakeFailed):
                    assert event.reason in REASONS
                elif isinstance(event, events.Dropped):
                    assert event.reason in DROPS
                elif isinstance(event, events.CertificateQuestion):
                    self.engine.submit(actions.AcceptPeer(event.handshake), self.now)
                self.told.append(event)
        for peer, datagram in self.engine.take_datagrams():
            assert peer == SERVER
            self.on_datagram(datagram)

    def on_datagram(self, datagram: bytes) -> None:
        """The server's side: keys are known once the client's key exchange was heard."""
        hand = self.hand
        for piece in d.split(datagram):
            if piece.kind == HANDSHAKE and piece.epoch == 0:
                for part in d.fragments(piece.fragment):
                    before = len(hand.heard)
                    hand._hear_fragment(*part)
                    if len(hand.heard) > before and hand.heard[-1][0] == d.CLIENT_KEY_EXCHANGE:
                        self.on_key_exchange()
            elif piece.epoch == 0:
                hand._hear_content(0, piece.kind, piece.fragment)
            elif hand.read is not None:
                hand.hear(d_record(piece))

    def on_key_exchange(self) -> None:
        hand = self.hand
        if self.kind == "psk":
            hand.premaster = d.vector(2, bytes(len(hand.psk))) + d.vector(2, hand.psk)
        else:
            hand.client_key_exchange()
        hand.derive()

    def feed(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.engine.feed(datagram, peer=SERVER, now=self.now)
            self.settle()

    def of(self, kind: type) -> list[events.Event]:
        return [each for each in self.told if type(each) is kind]

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.told if isinstance(each, events.HandshakeFailed)]

    def body(self, kind: int) -> bytes:
        hand = self.hand
        if kind == HELLO:
            return hand.server_hello(SUITES[self.kind], b"", RPK_EXTENSIONS if self.kind == "rpk" else None)
        if kind == CERT:
            return hand.certificate()
        if kind == SKE:
            return hand.server_key_exchange() if self.kind == "rpk" else b"\0\4hint"
        return b"\1\x40\0\2\4\3\0\0" if kind == REQUEST else b""

    def say(self, *order: int) -> None:
        for kind in order:
            self.feed(self.hand.say(kind, self.body(kind)))

    def finish(self) -> None:
        self.feed(self.hand.change(), self.hand.say_finished())


def d_record(piece: d.Piece) -> bytes:
    return piece.kind.to_bytes(1, "big") + b"\xfe\xfd" + piece.number.to_bytes(8, "big") + d.vector(2, piece.fragment)


def show(order: tuple[int, ...]) -> str:
    return "-".join(NAMES[kind] for kind in order)


def refuse(client: Client, *datagrams: bytes) -> None:
    """After these the client is not connected, nor after all that the server might say then."""
    client.feed(*datagrams)
    hand = client.hand
    if hand.write is None:
        hand.premaster = hand.premaster or bytes(36)
        hand.suite = hand.suite or SUITES[client.kind]
        hand.derive()
    client.finish()
    client.feed(hand.sealed(DATA, b"listen"), hand.plain(DATA, b"listen"))
    assert not client.of(events.SessionEstablished)
    assert not client.of(events.DataReceived)


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("asked", [False, True], ids=["at once", "after a cookie"])
@pytest.mark.spec("RFC 5246 7.3", "RFC 6347 4.2.1")
def test_the_legal_order_is_established_and_carries_data(kind: str, asked: bool) -> None:
    client = Client(kind)
    if asked:
        client.feed(client.hand.plain(HANDSHAKE, d.fragment(d.HELLO_VERIFY_REQUEST, 7, 0, 0, b"\xfe\xff\4abcd")))
        hand = client.hand
        again = hand.heard[-1][1]
        assert b"\4abcd" in again
        # The first ClientHello and its answer stay out of the transcript.
        hand.transcript = bytearray(d.fragment(d.CLIENT_HELLO, len(again), 1, 0, again))
        hand.next_message = 1
    client.say(*HONEST[kind])
    assert client.hand.finished
    client.finish()
    assert client.of(events.SessionEstablished)
    client.feed(client.hand.sealed(DATA, b"hello"))
    assert [each.data for each in client.of(events.DataReceived)] == [b"hello"]  # type: ignore[attr-defined]


ORDERS = [
    ("psk", (DONE, HELLO)),
    ("psk", (HELLO,)),
    ("psk", (DONE,)),
    ("psk", (HELLO, HELLO, DONE)),
    ("psk", (HELLO, DONE, DONE)),
    ("psk", (HELLO, CERT, DONE)),
    ("psk", (HELLO, REQUEST, DONE)),
    ("psk", (HELLO, SKE, SKE, DONE)),
    *(
        ("rpk", tuple(each for each in HONEST["rpk"] if each != left))
        for left in HONEST["rpk"]
        if left not in (REQUEST,)
    ),
    *(
        ("rpk", (*HONEST["rpk"][:at], HONEST["rpk"][at + 1], HONEST["rpk"][at], *HONEST["rpk"][at + 2 :]))
        for at in range(4)
    ),
    *(("rpk", (*HONEST["rpk"][: at + 1], *HONEST["rpk"][at:])) for at in range(5)),
]


@pytest.mark.parametrize(("kind", "order"), ORDERS, ids=lambda value: value if isinstance(value, str) else show(value))
@pytest.mark.spec("RFC 5246 7.3", "LwM2M-contract 15")
def test_no_other_order_of_the_servers_flight_is_answered_with_a_session(kind: str, order: tuple[int, ...]) -> None:
    client = Client(kind)
    for each in order:
        client.say(each)
    refuse(client)


@pytest.mark.slow
@pytest.mark.spec("RFC 5246 7.3")
def test_of_all_orders_of_a_flight_with_certificate_one_is_answered() -> None:
    for order in permutations(HONEST["rpk"]):
        if order != HONEST["rpk"]:
            client = Client("rpk")
            client.say(*order)
            refuse(client)


def end(client: Client) -> Hand:
    client.say(*HONEST[client.kind])
    assert client.hand.finished
    return client.hand


ENDS: dict[str, Callable[[Hand], list[bytes]]] = {
    "no change": lambda hand: [hand.say_finished()],
    "no finished": lambda hand: [hand.change()],
    "finished in the clear": lambda hand: [hand.change(), hand.say(d.FINISHED, hand.verify_data())],
    "a wrong finished": lambda hand: [hand.change(), hand.say_finished(bytes(12))],
    "its own finished": lambda hand: [hand.change(), hand.say_finished(hand.verify_data("client"))],
    "a short finished": lambda hand: [hand.change(), hand.say_finished(hand.verify_data()[:11])],
    "an unwanted ticket": lambda hand: [
        hand.say(d.NEW_SESSION_TICKET, b"\0\0\0\1\0\1x"),
        hand.change(),
        hand.say_finished(),
    ],
    "data first": lambda hand: [hand.change(), hand.sealed(DATA, b"early"), hand.sealed(DATA, b"early")],
}


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("story", ENDS)
@pytest.mark.spec("RFC 5246 7.4.9", "LwM2M-contract 15")
def test_no_other_end_is_taken(kind: str, story: str) -> None:
    client = Client(kind)
    hand = end(client)
    client.feed(*ENDS[story](hand))
    assert not client.of(events.SessionEstablished)
    assert not client.of(events.DataReceived)


# -- answers to what was not said --


def hello(client: Client, **change: Any) -> bytes:
    """A ServerHello with something in it changed."""
    hand, kind = client.hand, client.kind
    body = bytearray(hand.server_hello(change.get("suite", SUITES[kind]), change.get("session_id", b""), {}))
    if "version" in change:
        body[:2] = change["version"]
    if "compression" in change:
        body[-1] = 1
    found = dict(RPK_EXTENSIONS if kind == "rpk" else {d.EXTENDED_MASTER: b""}) | change.get("extensions", {})
    return bytes(body) + d.extensions(found)


WRONG_HELLOS: dict[str, dict[str, Any]] = {
    "another suite": {"suite": d.PSK_GCM},
    "a suite of nobody": {"suite": 0x1234},
    "no suite": {"suite": 0x00FF},
    "version 1.0": {"version": b"\xfe\xff"},
    "version 1.3": {"version": b"\xfe\xfc"},
    "TLS": {"version": b"\3\3"},
    "compression": {"compression": True},
    "a connection ID": {"extensions": {d.CID: b"\4abcd"}},
    "a ticket": {"extensions": {d.TICKET: b""}},
    "a limit": {"extensions": {28: b"\4\0"}},
    "a fragment length": {"extensions": {1: b"\1"}},
    "encrypt-then-MAC": {"extensions": {22: b""}},
    "heartbeat": {"extensions": {15: b"\1"}},
    "a broken extension": {"extensions": {d.EXTENDED_MASTER: b"\0"}},
    "renegotiation": {"extensions": {d.RENEGOTIATION: b"\1x"}},
}


@pytest.mark.parametrize("change", WRONG_HELLOS)
@pytest.mark.spec("RFC 5246 7.4.1.3", "RFC 5246 7.4.1.4")
def test_a_hello_that_answers_something_else_is_refused(change: str) -> None:
    client = Client()
    client.feed(client.hand.say(HELLO, hello(client, **WRONG_HELLOS[change])))
    assert len(client.reasons) == 1
    client.say(DONE)
    refuse(client)


@pytest.mark.parametrize("types", [{d.CLIENT_TYPES: b"\0"}, {d.SERVER_TYPES: b"\0"}, {d.SERVER_TYPES: b"\1"}])
@pytest.mark.spec("RFC 7250 4.2")
def test_certificate_types_that_were_not_offered_are_refused(types: dict[int, bytes]) -> None:
    client = Client("rpk")
    client.feed(client.hand.say(HELLO, hello(client, extensions=types)))
    assert len(client.reasons) == 1


@pytest.mark.spec("RFC 6347 4.2.1")
def test_a_server_that_asks_for_cookies_for_ever_is_left() -> None:
    client = Client()
    for number in range(20):
        body = b"\xfe\xff\4" + number.to_bytes(4, "big")
        client.feed(client.hand.plain(HANDSHAKE, d.fragment(d.HELLO_VERIFY_REQUEST, len(body), number, 0, body)))
    assert len(client.reasons) == 1
    assert client.hand.count(d.CLIENT_HELLO) < 8


def exchanges(client: Client) -> dict[str, bytes]:
    """ServerKeyExchange with something wrong."""
    good = client.hand.server_key_exchange()
    params, signature = good[:69], good[69:]
    other = replace(client.hand, random=bytes(32)).server_key_exchange()
    return {
        "another group": b"\3\0\x18" + good[3:],
        "an explicit curve": b"\1" + good[1:],
        "a point off the curve": params[:68] + bytes([params[68] ^ 1]) + signature,
        "a compressed point": b"\3\0\x17\x21\2" + params[5:37] + signature,
        "no point": b"\3\0\x17\0" + signature,
        "a flipped signature": good[:-1] + bytes([good[-1] ^ 1]),
        "no signature": params + b"\4\3\0\0",
        "a signature of another handshake": other,
        "another scheme": params + b"\2\3" + signature[2:],
        "cut": good[:-1],
        "more": good + b"\0",
        "nothing": b"",
    }


@pytest.mark.parametrize("wrong", exchanges(Client("rpk")))
@pytest.mark.spec("RFC 8422 5.4", "LwM2M-contract 15")
def test_a_key_exchange_that_the_server_did_not_sign_is_refused(wrong: str) -> None:
    client = Client("rpk")
    client.say(HELLO, CERT)
    client.feed(client.hand.say(SKE, exchanges(client)[wrong]))
    assert len(client.reasons) == 1
    client.say(REQUEST, DONE)
    refuse(client)


@pytest.mark.spec("RFC 5246 7.4.1.1")
def test_a_request_for_another_handshake_changes_nothing() -> None:
    client = Client()
    ask = d.fragment(d.HELLO_REQUEST, 0, 9, 0, b"")
    hand = end(client)
    client.finish()
    hellos = hand.count(d.CLIENT_HELLO)
    client.feed(hand.sealed(HANDSHAKE, ask), hand.plain(HANDSHAKE, ask), hand.sealed(HANDSHAKE, ask))
    assert hand.count(d.CLIENT_HELLO) == hellos
    client.feed(hand.sealed(DATA, b"well"))
    assert client.of(events.DataReceived)
    assert not client.of(events.SessionEnded)


def flip_all(kind: str, every: int) -> Iterator[Client]:
    """Each ``every``-th bit of the server's last flight is flipped, one in each handshake."""
    bit = 0
    while True:
        client = Client(kind)
        hand = end(client)
        flight = hand.change() + hand.say_finished()
        if bit >= len(flight) * 8:
            return
        changed = bytearray(flight)
        changed[bit // 8] ^= 1 << bit % 8
        client.feed(bytes(changed))
        yield client
        bit += every


@pytest.mark.spec("LwM2M-contract 15")
def test_a_flipped_bit_in_the_servers_last_flight_makes_no_session() -> None:
    # Nothing depends on the record number of a ChangeCipherSpec, nor on whether its version is 1.2 or 1.0.
    free = {*range(5 * 8, 11 * 8), 2 * 8 + 1}
    for bit, client in enumerate(flip_all("psk", 1)):
        if bit not in free:
            assert not client.of(events.SessionEstablished), bit
