"""Live sessions, what happens beside them and what goes on from them: who says the wrong thing harms nobody."""

from collections.abc import Callable, Iterator

import pytest
from order_lab import CLIENT_KEY, DEVICE, OTHER, SeededEntropy, Server, answer_well, psk, rpk
from tests import dtls_hand as d
from tests.dtls_hand import ALERT, DATA, HANDSHAKE, Hand

from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.dtls.tickets import TicketKey

TICKET_KEY = TicketKey(b"name of the key.", bytes(32))
ANEW = bytes(range(60, 92))


class TicketServer(Server):
    """One that gives tickets."""

    def __post_init__(self) -> None:
        self.engine = Endpoint(SeededEntropy(), self.parameters, ticket_keys=(TICKET_KEY,))


def is_well(server: Server, hand: Hand, address: PeerId = DEVICE) -> None:
    """Data goes both ways in the session of ``hand``."""
    before = len(server.data)
    server.tell(hand, hand.sealed(DATA, b"up"), address=address)
    assert server.data[before:] == [b"up"]
    peer = next(each.peer for each in reversed(server.told) if isinstance(each, events.DataReceived))
    server.submit(actions.SendData(peer, b"down"))
    heard = len(hand.data)
    for datagram in server.settle(address):
        hand.hear(datagram)
    assert hand.data[heard:] == [b"down"]


# -- in epoch 0, beside a live session --


def say_in_the_clear(hand: Hand) -> dict[str, bytes]:
    return {
        "a fatal alert": hand.plain(ALERT, b"\2\x28"),
        "close_notify": hand.plain(ALERT, b"\1\0"),
        "a broken alert": hand.plain(ALERT, b"\2"),
        "data": hand.plain(DATA, b"let me in"),
        "a change of ciphers": hand.change(),
        "a Finished": hand.plain(HANDSHAKE, hand.message(d.FINISHED, bytes(12), counts=False)),
        "a HelloRequest": hand.plain(HANDSHAKE, hand.message(d.HELLO_REQUEST, b"", counts=False)),
        "a key exchange": hand.plain(HANDSHAKE, hand.message(d.CLIENT_KEY_EXCHANGE, b"\0\6device", 2, counts=False)),
        "a hello": psk(random=ANEW).first_hello(),
        "a hello with a made-up cookie": psk(random=ANEW, cookie=bytes(16)).second_hello(),
        "a record of an unknown type": hand.plain(99, b"?"),
        "an empty record": hand.plain(HANDSHAKE, b""),
        "another version": hand.plain(HANDSHAKE, b"\0" * 12, version=0x0303),
    }


@pytest.mark.parametrize("what", say_in_the_clear(psk()))
@pytest.mark.parametrize("cid", [None, b""], ids=["by address", "by connection ID"])
@pytest.mark.spec("RFC 6347 4.2.8", "LwM2M-contract 2.2", "LwM2M-contract 15")
def test_nothing_said_in_the_clear_harms_a_live_session(what: str, cid: bytes | None) -> None:
    server = Server()
    hand = server.connect(psk(own_cid=cid))
    is_well(server, hand)
    server.feed(*[say_in_the_clear(hand)[what]] * 3)
    server.wait(120)
    assert not server.of(events.SessionEnded)
    assert server.data == [b"up"]
    is_well(server, hand)


# -- under its keys --


@pytest.mark.spec("RFC 5746 4.4", "LwM2M-contract 2.2")
@pytest.mark.parametrize("kind", [d.CLIENT_HELLO, d.HELLO_REQUEST, d.CLIENT_KEY_EXCHANGE, d.FINISHED, d.SERVER_HELLO])
def test_renegotiation_is_refused_and_the_session_goes_on(kind: int) -> None:
    server = Server()
    hand = server.connect(psk())
    body = psk(random=ANEW).client_hello(b"") if kind == d.CLIENT_HELLO else b""
    server.tell(hand, hand.sealed(HANDSHAKE, d.fragment(kind, len(body), 0, 0, body)))
    server.tell(hand, hand.sealed(d.CCS, b"\1"))
    assert [kind for kind, _ in hand.heard].count(d.SERVER_HELLO) == 1
    assert {(epoch, level) for epoch, level, _ in hand.alerts} <= {(1, 1)}
    assert len(server.established) == 1
    is_well(server, hand)


@pytest.mark.spec("RFC 6347 4.1.2.7")
def test_records_with_a_flipped_bit_are_dropped_in_silence() -> None:
    server = Server()
    hand = server.connect(psk(own_cid=b""))
    for bit in range(8 * len(hand.sealed(DATA, b"important", 77))):
        record = bytearray(hand.sealed(DATA, b"important", 100 + bit))
        record[bit // 8] ^= 1 << bit % 8
        assert server.feed(bytes(record)) == []
        server.wait(11)
    assert server.data == []
    assert not server.of(events.SessionEnded)
    hand.sequence[1] = 5000
    is_well(server, hand)


@pytest.mark.spec("RFC 6347 4.1.2.6")
@pytest.mark.parametrize("cid", [None, b""], ids=["by address", "by connection ID"])
def test_a_record_is_taken_once(cid: bytes | None) -> None:
    server = Server()
    hand = server.connect(psk(own_cid=cid))
    records = [hand.sealed(DATA, b"%d" % number) for number in range(100)]
    server.feed(*records, *records)
    server.feed(b"".join(records[:9]))
    assert server.data == [b"%d" % number for number in range(100)]
    late = psk(own_cid=cid)
    del late
    far = hand.sealed(DATA, b"far", 10_000)
    server.feed(far, hand.sealed(DATA, b"too old", 10_000 - 64), hand.sealed(DATA, b"just", 10_000 - 63), far)
    assert server.data[100:] == [b"far", b"just"]


@pytest.mark.parametrize("alert", [b"\2\x28", b"\2\0", b"\1\0"], ids=bytes.hex)
@pytest.mark.spec("RFC 5246 7.2")
def test_an_alert_under_its_keys_ends_a_session_and_no_other(alert: bytes) -> None:
    server = Server()
    hand = server.connect(psk())
    other = server.connect(psk(identity=b"another", psk=b"fedcba9876543210", random=ANEW), OTHER)
    server.feed(hand.sealed(ALERT, alert))
    assert len(server.of(events.SessionEnded)) == 1
    server.feed(hand.sealed(DATA, b"I am back"))
    assert server.data == []
    is_well(server, other, OTHER)


@pytest.mark.parametrize("content", [b"", b"\2", b"\2\x28\0", b"\7\x28", b"\1\x64"], ids=bytes.hex)
def test_an_alert_that_is_none_or_only_warns_ends_nothing(content: bytes) -> None:
    server = Server()
    hand = server.connect(psk())
    server.feed(hand.sealed(ALERT, content))
    assert not server.of(events.SessionEnded)
    is_well(server, hand)


# -- a handshake that fails beside it --


def with_wrong_key(hand: Hand) -> Iterator[bytes]:
    hand.psk = b"guessed guessed!"
    yield from hand.last_flight()


def with_wrong_finished(hand: Hand) -> Iterator[bytes]:
    *before, _, _ = hand.last_flight()
    yield from (*before, hand.change(), hand.say_finished(bytes(12)))


def with_nobodys_name(hand: Hand) -> Iterator[bytes]:
    hand.identity = b"nobody"
    yield from hand.last_flight()


def with_garbage(hand: Hand) -> Iterator[bytes]:
    yield hand.plain(HANDSHAKE, hand.message(d.CLIENT_KEY_EXCHANGE, b"\xff\xff" + bytes(40)))


def with_an_alert(hand: Hand) -> Iterator[bytes]:
    yield hand.plain(ALERT, b"\2\x28")


def with_silence(hand: Hand) -> Iterator[bytes]:
    yield from ()


def out_of_order(hand: Hand) -> Iterator[bytes]:
    hand.client_key_exchange()
    yield hand.change()
    yield hand.say(d.CERTIFICATE_VERIFY, b"\4\3\0\0")


FAILURES = [
    with_wrong_key,
    with_wrong_finished,
    with_nobodys_name,
    with_garbage,
    with_an_alert,
    with_silence,
    out_of_order,
]


@pytest.mark.parametrize("story", FAILURES, ids=lambda story: story.__name__)
@pytest.mark.parametrize("cid", [None, b""], ids=["by address", "by connection ID"])
@pytest.mark.spec("RFC 6347 4.2.8", "LwM2M-contract 2.2", "LwM2M-contract 15")
def test_a_handshake_that_fails_beside_a_live_session_does_not_harm_it(
    story: Callable[[Hand], Iterator[bytes]], cid: bytes | None
) -> None:
    server = Server()
    hand = server.connect(psk(own_cid=cid))
    is_well(server, hand)
    intruder = psk(random=ANEW, own_cid=cid)
    for datagram in server.feed(intruder.first_hello()):
        intruder.hear(datagram)
    is_well(server, hand)
    for datagram in server.feed(intruder.second_hello()):
        intruder.hear(datagram)
    is_well(server, hand)
    for record in story(intruder):
        server.feed(record)
        # Whatever comes from that address now, the session is the one that is alive.
        is_well(server, hand)
    server.wait(400)
    assert len(server.established) == 1
    assert not server.of(events.SessionEnded)
    assert server.engine.half_open == 0
    is_well(server, hand)
    server.connect(psk(random=bytes(range(90, 122)), own_cid=cid))
    assert [each.reason for each in server.told if isinstance(each, events.SessionEnded)] == ["replaced"]


@pytest.mark.spec("RFC 6347 4.2.8")
def test_one_that_succeeds_replaces_it_and_its_records_are_nobodys() -> None:
    server = Server()
    hand = server.connect(psk())
    again = server.connect(psk(random=ANEW))
    assert server.established[1].replaced == server.established[0].peer
    server.feed(hand.sealed(DATA, b"still here"))
    assert server.data == []
    is_well(server, again)


# -- going on from a session --


def resumable(server: Server, **more: object) -> tuple[Hand, bytes]:
    """A session and its master secret."""
    hand = server.connect(psk(**more))
    return hand, hand.master


def resume(server: Server, hand: Hand, master: bytes, address: PeerId = DEVICE) -> Hand:
    """An honest client that goes on; the server may make it a full handshake instead."""
    server.greet(hand, address)
    return hand


def flight_of_resumed(hand: Hand) -> list[bytes]:
    return [hand.change(), hand.say_finished()]


class Resuming(Hand):
    """Derives keys at the ServerHello, from the master secret it has."""

    old_master: bytes = b""

    def _hear_message(self, kind: int, number: int, body: bytes) -> None:
        super()._hear_message(kind, number, body)
        if kind == d.SERVER_HELLO and self.old_master and self.is_resumed:
            self.derive(resume=self.old_master)

    @property
    def is_resumed(self) -> bool:
        return bool(self.session_id) and self.peer_session_id == self.session_id


def resuming(first: Hand, **more: object) -> Resuming:
    hand = Resuming(
        **{  # type: ignore[arg-type]
            "suites": first.suites,
            "random": ANEW,
            "session_id": first.peer_session_id,
            "own_cid": first.own_cid,
            **more,
        }
    )
    hand.old_master = first.master
    return hand


@pytest.mark.spec("RFC 5246 7.3", "LwM2M-contract 2.2")
def test_a_session_is_resumed_by_its_id() -> None:
    server = Server()
    first = server.connect(psk())
    assert first.peer_session_id
    hand = resuming(first)
    server.greet(hand)
    assert hand.is_resumed
    assert hand.finished
    server.tell(hand, *flight_of_resumed(hand))
    assert server.established[1].resumed == server.established[0].peer
    is_well(server, hand)


REFUSED: dict[str, dict[str, object]] = {
    "another suite": {"suites": (d.PSK_GCM,)},
    "an id with another end": {"end": b"12345678"},
    "an id of nobody": {"all": bytes(16)},
    "a shorter id": {"cut": 8},
    "a longer id": {"more": bytes(16)},
}


@pytest.mark.parametrize("change", REFUSED)
@pytest.mark.spec("RFC 5246 7.3", "RFC 7627 5.3")
def test_what_is_not_that_session_becomes_a_full_handshake(change: str) -> None:
    server = Server()
    first = server.connect(psk())
    wanted = REFUSED[change]
    session_id = first.peer_session_id
    if "end" in wanted:
        session_id = session_id[:8] + wanted["end"]  # type: ignore[operator]
    elif "all" in wanted:
        session_id = wanted["all"]  # type: ignore[assignment]
    elif "cut" in wanted:
        session_id = session_id[:8]
    elif "more" in wanted:
        session_id += wanted["more"]  # type: ignore[operator]
    hand = resuming(first, session_id=session_id, suites=wanted.get("suites", first.suites))
    server.greet(hand)
    assert not hand.is_resumed
    server.tell(hand, *hand.last_flight())
    assert hand.finished
    assert server.established[1].resumed is None


@pytest.mark.spec("RFC 7627 5.3", "LwM2M-contract 2.2")
def test_a_session_with_extended_master_secret_is_not_resumed_without_it() -> None:
    server = Server()
    first = server.connect(psk())
    hand = resuming(first, extended=False)
    server.greet(hand)
    assert server.reasons == ["bad-message"]
    assert not hand.count(d.SERVER_HELLO)
    is_well(server, first)


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.spec("RFC 7627 5.3")
def test_a_session_without_extended_master_secret_is_never_resumed(extended: bool) -> None:
    server = Server()
    first = server.connect(psk(extended=False))
    hand = resuming(first, extended=extended)
    server.greet(hand)
    assert not hand.is_resumed
    server.tell(hand, *hand.last_flight())
    assert server.established[1].resumed is None


@pytest.mark.spec("RFC 5246 7.3", "SEC-9")
def test_who_may_not_come_in_any_more_does_not_by_resuming() -> None:
    revoked = False

    def answer(server: Server, event: events.Event) -> None:
        if revoked and isinstance(event, events.ResumptionQuestion | events.PskQuestion):
            server.submit(actions.RefusePeer(event.handshake, "unknown-identity", "its key was taken away"))
        else:
            answer_well(server, event)

    server = Server(answer=answer)
    first = server.connect(psk())
    revoked = True
    hand = resuming(first)
    server.greet(hand)
    assert not hand.is_resumed
    server.feed(*hand.last_flight())
    assert len(server.established) == 1


@pytest.mark.spec("RFC 5246 7.3")
def test_knowing_only_the_id_of_a_session_is_of_no_use() -> None:
    server = Server()
    first = server.connect(psk())
    thief = resuming(first)
    thief.old_master = bytes(48)
    for datagram in server.feed(thief.first_hello()):
        thief.hear(datagram)
    for datagram in server.feed(thief.second_hello()):
        # Its Finished is one that the thief can neither read nor make.
        with pytest.raises(AssertionError, match="does not verify"):
            thief.hear(datagram)
    server.feed(thief.change(), thief.sealed(HANDSHAKE, thief.message(d.FINISHED, bytes(12))))
    server.feed(thief.plain(HANDSHAKE, thief.message(d.FINISHED, bytes(12))))
    assert len(server.established) == 1
    assert not server.of(events.SessionEnded)
    is_well(server, first)


ORDERS = {
    "no change": lambda hand: [hand.say_finished()],
    "no finished": lambda hand: [hand.change()],
    "a key exchange": lambda hand: [hand.say(d.CLIENT_KEY_EXCHANGE, b"\0\6device"), hand.change(), hand.say_finished()],
    "a clear finished": lambda hand: [hand.change(), hand.say(d.FINISHED, hand.verify_data())],
    "a wrong finished": lambda hand: [hand.change(), hand.say_finished(bytes(12))],
    "a server's finished": lambda hand: [hand.change(), hand.say_finished(hand.verify_data("server"))],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.spec("RFC 5246 7.3", "LwM2M-contract 15")
def test_no_other_order_of_a_resumed_handshake_is_established(order: str) -> None:
    server = Server()
    first = server.connect(psk(own_cid=b""))
    hand = resuming(first)
    server.greet(hand)
    assert hand.finished
    server.feed(*ORDERS[order](hand))
    server.feed(hand.sealed(DATA, b"let me in", 50), hand.plain(DATA, b"let me in"))
    server.wait(0.1)
    assert len(server.established) == 1
    assert server.data == []
    is_well(server, first)


# -- tickets --


def ticketed(server: Server) -> tuple[Hand, bytes]:
    hand = server.connect(psk(ticket=b""))
    assert hand.given_ticket
    return hand, hand.given_ticket


def with_ticket(first: Hand, ticket: bytes, **more: object) -> Resuming:
    return resuming(first, ticket=ticket, session_id=bytes(range(32)), **more)


@pytest.mark.spec("RFC 5077 3.4", "LwM2M-contract 2.2")
def test_a_session_is_resumed_by_its_ticket() -> None:
    server = TicketServer()
    first, ticket = ticketed(server)
    hand = with_ticket(first, ticket)
    server.greet(hand)
    assert hand.is_resumed
    server.tell(hand, *flight_of_resumed(hand))
    assert len(server.established) == 2
    is_well(server, hand)


@pytest.mark.spec("RFC 5077 5.1", "LwM2M-contract 15")
def test_a_forged_ticket_is_nobodys() -> None:
    server = TicketServer()
    first, ticket = ticketed(server)
    forged = [ticket[:-1], ticket[:16], ticket + b"\0", bytes(len(ticket)), b"x", bytes(900)]
    forged += [bytes([*ticket[:at], ticket[at] ^ 1, *ticket[at + 1 :]]) for at in range(0, len(ticket), 11)]
    for number, each in enumerate(forged):
        hand = with_ticket(first, each, random=number.to_bytes(32, "big"))
        server.greet(hand)
        assert not hand.is_resumed, each.hex()
    assert len(server.established) == 1
    is_well(server, first)


@pytest.mark.spec("RFC 5077 3.4", "RFC 7627 5.3")
def test_a_ticket_is_of_no_use_with_another_suite_or_without_extended_master_secret() -> None:
    server = TicketServer()
    first, ticket = ticketed(server)
    other = with_ticket(first, ticket, suites=(d.PSK_GCM,))
    server.greet(other)
    assert not other.is_resumed
    plain = with_ticket(first, ticket, extended=False, random=bytes(range(1, 33)))
    server.greet(plain)
    assert not plain.count(d.SERVER_HELLO)
    assert server.reasons[-1] == "bad-message"


@pytest.mark.spec("RFC 5077 5.5")
def test_a_ticket_of_another_server_is_of_no_use() -> None:
    first, ticket = ticketed(TicketServer())
    other = TicketServer()
    other.engine = Endpoint(SeededEntropy(), ServerParameters(), ticket_keys=(TicketKey(TICKET_KEY.name, b"k" * 32),))
    hand = with_ticket(first, ticket)
    other.greet(hand)
    assert not hand.is_resumed


def test_a_session_made_with_a_raw_public_key_is_not_resumed_as_another() -> None:
    server = Server()
    first = server.connect(rpk())
    other = resuming(first, suites=(d.ECDHE_CCM8,), key=CLIENT_KEY)
    server.greet(other)
    assert other.is_resumed
    server.tell(other, *flight_of_resumed(other))
    assert server.established[1].identity == server.established[0].identity
