"""No order but the legal one: a server and a client that says every message, only not when it should."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations

import pytest
from order_lab import HANDS, OTHER, SERVER_KEY, Server, psk, rpk
from tests import dtls_hand as d
from tests.dtls_hand import CCS, DATA, HANDSHAKE, Hand

from stellwerk.dtls import events

CKE, CERT, VERIFY, FINISHED = d.CLIENT_KEY_EXCHANGE, d.CERTIFICATE, d.CERTIFICATE_VERIFY, d.FINISHED
CHANGE = -1
HONEST = {"psk": (CKE, CHANGE, FINISHED), "rpk": (CERT, CKE, VERIFY, CHANGE, FINISHED)}
# The network may turn these two around: a Finished that overtakes the ChangeCipherSpec waits for it.
OVERTAKEN = {kind: (*order[:-2], FINISHED, CHANGE) for kind, order in HONEST.items()}
LEGAL = {*HONEST.values(), *OVERTAKEN.values()}
NAMES = {CKE: "key", CERT: "certificate", VERIFY: "verify", FINISHED: "finished", CHANGE: "change"}


def body_of(hand: Hand, kind: int) -> bytes:
    """As somebody would say it who follows the order that he made up."""
    if kind == CKE:
        return hand.client_key_exchange()
    if kind == CERT:
        return hand.certificate()
    if kind == VERIFY:
        return hand.certificate_verify()
    return hand.verify_data()


def need_keys(hand: Hand) -> None:
    if hand.write is None:
        if not hand.premaster:
            hand.client_key_exchange()
        hand.derive()


def said(hand: Hand, order: tuple[int, ...]) -> Iterator[bytes]:
    """Records in this order, each message numbered and counted as it is said."""
    for kind in order:
        if kind == CHANGE:
            yield hand.change()
        elif kind == FINISHED:
            need_keys(hand)
            yield hand.say_finished()
        else:
            yield hand.say(kind, body_of(hand, kind))
            if kind == CKE:
                hand.derive()


def show(order: tuple[int, ...]) -> str:
    return "-".join(NAMES[kind] for kind in order)


def refuse(kind: str, records: Callable[[Hand], Iterator[bytes]], server: Server | None = None) -> Server:
    """The story of `records` never ends in a session, nothing said under its keys is taken, and whoever begins anew at
    that address gets in."""
    server = server or Server()
    hand = HANDS[kind]()
    server.greet(hand)
    for record in records(hand):
        for datagram in server.feed(record):
            # Its Finished would have to verify; alerts may be under keys that the peer never had.
            for piece in d.split(datagram):
                assert piece.epoch == 0 or piece.kind == d.ALERT, "it went on"
    if hand.write is None:
        need_keys(hand)
    server.feed(hand.sealed(DATA, b"let me in"), hand.plain(DATA, b"let me in"))
    assert server.established == []
    assert server.data == []
    again = HANDS[kind](random=bytes(range(100, 132)))
    server.connect(again)
    server.tell(again, again.sealed(DATA, b"well"))
    assert server.data == [b"well"]
    return server


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("SEC-1", "RFC 5246 7.3", "RFC 6347 4.2.4")
def test_the_legal_order_is_established_and_carries_data(kind: str) -> None:
    server, hand = Server(), HANDS[kind]()
    server.connect(hand)
    server.tell(hand, hand.sealed(DATA, b"hello"))
    assert server.data == [b"hello"]
    assert server.reasons == []
    assert not hand.alerts


@pytest.mark.parametrize("order", [each for each in permutations(HONEST["psk"]) if each not in LEGAL], ids=show)
@pytest.mark.spec("SEC-1", "RFC 5246 7.3", "LwM2M-contract 15")
def test_no_other_order_of_a_psk_flight_is_established(order: tuple[int, ...]) -> None:
    refuse("psk", lambda hand: said(hand, order))


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("RFC 6347 4.2.4")
def test_a_finished_that_overtakes_the_change_of_ciphers_waits_for_it(kind: str) -> None:
    server, hand = Server(), HANDS[kind]()
    server.greet(hand)
    *before, change = said(hand, OVERTAKEN[kind])
    server.tell(hand, *before)
    assert server.established == []
    server.tell(hand, change)
    assert hand.finished


SWAPS = [
    (*HONEST["rpk"][:at], HONEST["rpk"][at + 1], HONEST["rpk"][at], *HONEST["rpk"][at + 2 :])
    for at in range(len(HONEST["rpk"]) - 2)
]
FINISHED_FIRST = [
    (CERT, CKE, CHANGE, FINISHED, VERIFY),
    (CHANGE, FINISHED, CERT, CKE, VERIFY),
    (CHANGE, CERT, CKE, VERIFY, FINISHED),
]


@pytest.mark.parametrize("order", [*SWAPS, *FINISHED_FIRST], ids=show)
@pytest.mark.spec("SEC-1", "RFC 5246 7.3", "LwM2M-contract 15")
def test_no_other_order_of_a_flight_with_certificate_is_established(order: tuple[int, ...]) -> None:
    refuse("rpk", lambda hand: said(hand, order))


@pytest.mark.slow
@pytest.mark.spec("SEC-1", "RFC 5246 7.3")
def test_of_all_orders_of_a_flight_with_certificate_one_is_established() -> None:
    for order in permutations(HONEST["rpk"]):
        if order not in LEGAL:
            refuse("rpk", lambda hand, order=order: said(hand, order))  # type: ignore[misc]


LEFT_OUT = [(kind, left) for kind, order in HONEST.items() for left in order]


@pytest.mark.parametrize(
    ("kind", "left"), LEFT_OUT, ids=lambda value: value if isinstance(value, str) else NAMES[value]
)
@pytest.mark.spec("SEC-1", "RFC 5246 7.3", "LwM2M-contract 15")
def test_a_flight_without_one_of_its_messages_is_not_established(kind: str, left: int) -> None:
    refuse(kind, lambda hand: said(hand, tuple(each for each in HONEST[kind] if each != left)))


def test_a_client_may_skip_neither_certificate_nor_its_proof() -> None:
    refuse("rpk", lambda hand: said(hand, (CKE, CHANGE, FINISHED)))


@pytest.mark.parametrize(
    ("kind", "left"), LEFT_OUT, ids=lambda value: value if isinstance(value, str) else NAMES[value]
)
@pytest.mark.spec("SEC-1", "RFC 6347 4.1", "LwM2M-contract 15")
def test_nor_is_it_when_all_of_it_is_said_in_the_clear(kind: str, left: int) -> None:
    def records(hand: Hand) -> Iterator[bytes]:
        order = [each for each in HONEST[kind] if each not in (left, FINISHED)]
        yield from said(hand, tuple(order))
        need_keys(hand)
        yield hand.say(FINISHED, hand.verify_data())

    refuse(kind, records)


def proofs(hand: Hand) -> dict[str, bytes]:
    """CertificateVerify with something wrong; ``hand`` has said everything before it."""
    good = hand.certificate_verify()
    return {
        "of another key": replace(hand, key=SERVER_KEY).certificate_verify(),
        "of other words": hand.certificate_verify(b"other words"),
        "of fewer words": hand.certificate_verify(bytes(hand.transcript[:-1])),
        "with a flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "of another scheme": b"\2\3" + good[2:],
        "empty": b"\4\3\0\0",
        "cut": good[:-1],
        "of zeros": b"\4\3\0\x08\x30\6\2\1\0\2\1\0",
        "nothing": b"",
    }


PROOFS = ["of another key", "of other words", "of fewer words", "with a flipped bit", "of another scheme"]


@pytest.mark.parametrize("wrong", [*PROOFS, "empty", "cut", "of zeros", "nothing"])
@pytest.mark.spec("SEC-1", "RFC 5246 7.4.8", "LwM2M-contract 15")
def test_a_client_that_does_not_prove_its_key_is_refused(wrong: str) -> None:
    def records(hand: Hand) -> Iterator[bytes]:
        yield from said(hand, (CERT, CKE))
        yield hand.say(VERIFY, proofs(hand)[wrong])
        yield from said(hand, (CHANGE, FINISHED))

    server = refuse("rpk", records)
    assert server.reasons[0] in ("bad-signature", "bad-message")
    assert len(server.of(events.CertificateQuestion)) == 1


@pytest.mark.parametrize("body", [b"\0\0\0", b"", b"\0\0\3\0\0\0", b"\0\0\1", b"\xff\xff\xff"], ids=bytes.hex)
@pytest.mark.spec("RFC 5246 7.4.6", "LwM2M-contract 15")
def test_an_empty_certificate_is_refused_by_name(body: bytes) -> None:
    def records(hand: Hand) -> Iterator[bytes]:
        yield hand.say(CERT, body)
        yield from said(hand, (CKE, CHANGE, FINISHED))

    server = refuse("rpk", records)
    assert server.reasons[0] in ("no-client-certificate", "bad-certificate", "bad-message")


DOUBLED = [(kind, twice) for kind, order in HONEST.items() for twice in order]


@pytest.mark.parametrize(
    ("kind", "twice"), DOUBLED, ids=lambda value: value if isinstance(value, str) else NAMES[value]
)
@pytest.mark.spec("RFC 6347 4.2.4")
def test_a_record_that_comes_twice_changes_nothing(kind: str, twice: int) -> None:
    server, hand = Server(), HANDS[kind]()
    server.greet(hand)
    for each, record in zip(HONEST[kind], list(said(hand, HONEST[kind])), strict=True):
        server.tell(hand, *([record, record] if each == twice else [record]))
    assert hand.finished
    assert len(server.established) == 1
    server.tell(hand, hand.sealed(DATA, b"hello"))
    assert server.data == [b"hello"]


@pytest.mark.parametrize(
    ("kind", "twice"),
    [each for each in DOUBLED if each[1] not in (CHANGE, FINISHED)],
    ids=lambda value: value if isinstance(value, str) else NAMES[value],
)
@pytest.mark.spec("RFC 5246 7.3", "LwM2M-contract 15")
def test_a_message_said_twice_is_refused(kind: str, twice: int) -> None:
    order: list[int] = []
    for each in HONEST[kind]:
        order += [each, each] if each == twice else [each]
    refuse(kind, lambda hand: said(hand, tuple(order)))


def test_a_second_change_of_ciphers_changes_nothing() -> None:
    server, hand = Server(), psk()
    server.greet(hand)
    server.tell(hand, *said(hand, (CKE, CHANGE, CHANGE)))
    server.tell(hand, hand.say_finished(), hand.change())
    server.tell(hand, hand.sealed(DATA, b"hello"), hand.sealed(CCS, b"\1"), hand.sealed(DATA, b"again"))
    assert server.data == [b"hello", b"again"]
    assert len(server.established) == 1


# -- messages of others, and of other times --


@pytest.mark.parametrize(("kind", "at"), [("psk", 2), ("rpk", 1), ("rpk", 2), ("rpk", 4)])
@pytest.mark.spec("SEC-1", "LwM2M-contract 15")
def test_a_record_of_an_earlier_handshake_is_of_no_use(kind: str, at: int) -> None:
    # The others are the same words in every handshake: they prove nothing.
    server, first = Server(), HANDS[kind]()
    server.greet(first)
    earlier = list(said(first, HONEST[kind]))
    server.tell(first, *earlier)
    hand = HANDS[kind](random=bytes(range(50, 82)))
    server.greet(hand, OTHER)
    own = list(said(hand, HONEST[kind]))
    own[at] = earlier[at]
    server.feed(*own, address=OTHER)
    assert len(server.established) == 1


@pytest.mark.spec("SEC-1", "LwM2M-contract 15")
def test_a_whole_handshake_said_again_is_of_no_use() -> None:
    server, first = Server(), psk()
    hellos = [first.first_hello()]
    for datagram in server.feed(*hellos):
        first.hear(datagram)
    hellos.append(first.second_hello())
    for datagram in server.feed(hellos[1]):
        first.hear(datagram)
    flight = first.last_flight()
    server.tell(first, *flight)
    assert len(server.established) == 1
    server.tell(first, first.sealed(DATA, b"mine"))
    before = len(server.told)
    server.feed(*hellos, *flight)
    server.wait(0.1)
    assert not [each for each in server.told[before:] if isinstance(each, events.SessionEstablished)]
    server.tell(first, first.sealed(DATA, b"still mine"))
    assert server.data == [b"mine", b"still mine"]


# -- epochs --


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("RFC 6347 4.1", "LwM2M-contract 15")
def test_a_finished_without_protection_is_refused(kind: str) -> None:
    def records(hand: Hand) -> Iterator[bytes]:
        yield from said(hand, HONEST[kind][:-1])
        yield hand.say(FINISHED, hand.verify_data())

    refuse(kind, records)


@pytest.mark.parametrize(
    ("kind", "early"), [(kind, at) for kind, order in HONEST.items() for at in range(len(order) - 1)]
)
@pytest.mark.spec("RFC 6347 4.1")
def test_what_belongs_into_epoch_0_is_refused_in_epoch_1(kind: str, early: int) -> None:
    def records(hand: Hand) -> Iterator[bytes]:
        yield from said(hand, HONEST[kind][:early])
        if hand.write is None:
            need_keys(hand)
        left = HONEST[kind][early]
        yield (
            hand.sealed(CCS, b"\1")
            if left == CHANGE
            else hand.sealed(HANDSHAKE, hand.message(left, body_of(hand, left)))
        )
        yield from said(hand, HONEST[kind][early + 1 :])

    refuse(kind, records)


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("SEC-1", "LwM2M-contract 15")
def test_no_data_is_taken_before_the_end_of_a_handshake(kind: str) -> None:
    server, hand = Server(), HANDS[kind]()
    server.feed(hand.plain(DATA, b"before all"))
    server.greet(hand)
    for record in said(hand, HONEST[kind]):
        server.feed(hand.plain(DATA, b"plain"))
        if hand.write is not None:
            # It may have overtaken the Finished: then it waits for it.
            server.feed(hand.sealed(DATA, b"sealed", 99))
        assert server.data == []
        server.tell(hand, record)
    assert hand.finished
    assert server.data in ([], [b"sealed"])
    server.feed(hand.plain(DATA, b"plain"))
    assert b"plain" not in server.data


@pytest.mark.parametrize("epoch", [2, 3, 0xFFFF])
@pytest.mark.spec("RFC 6347 4.1")
def test_records_of_epochs_that_never_were_are_dropped(epoch: int) -> None:
    server, hand = Server(), psk()
    server.connect(hand)
    server.feed(hand.sealed(DATA, b"later", 9, epoch=epoch))
    server.tell(hand, hand.sealed(DATA, b"now"))
    assert server.data == [b"now"]
    assert {each.reason for each in server.told if isinstance(each, events.Dropped)} <= {"epoch", "mac"}


# -- what is said of lengths --


def lies(body: bytes) -> dict[str, list[bytes]]:
    """Fragments of message 2, a ClientKeyExchange of this body."""
    size = len(body)
    f = d.fragment
    return {
        "longer than it is": [f(CKE, size, 2, 0, body, size + 1)],
        "beyond the message": [f(CKE, size, 2, 1, body)],
        "a huge message": [f(CKE, 0xFFFFFF, 2, 0, body)],
        "a huge message, its end": [f(CKE, 0xFFFFFF, 2, 0xFFFFFF - size, body)],
        "a huge fragment": [f(CKE, 0xFFFFFF, 2, 0, body, 0xFFFFFF)],
        "nothing of something": [f(CKE, size, 2, 0, b"")] * 5,
        "another length": [f(CKE, size, 2, 0, body[:4]), f(CKE, size + 9, 2, 4, body[4:])],
        "another type": [f(CKE, size, 2, 0, body[:4]), f(CERT, size, 2, 4, body[4:])],
        "only its end": [f(CKE, size, 2, 2, body[2:])],
        "a gap": [f(CKE, size, 2, 0, body[:2]), f(CKE, size, 2, 4, body[4:])],
        "cut": [f(CKE, size, 2, 0, body)[:-1]],
        "a header cut": [f(CKE, size, 2, 0, body)[:11]],
        "empty": [b""],
        "more behind it": [f(CKE, size, 2, 0, body + b"\0")],
        "a message of tomorrow": [f(CKE, size, 9, 0, body)],
        "far too many parts": [f(CKE, 0x7000, 2, at, b"x") for at in range(0, 0x7000, 97)],
    }


@pytest.mark.parametrize("lie", lies(b"\0\6device"))
@pytest.mark.spec("RFC 6347 4.2.3", "LwM2M-contract 15")
def test_a_lie_about_lengths_is_never_believed(lie: str) -> None:
    def records(hand: Hand) -> Iterator[bytes]:
        body = hand.client_key_exchange()
        hand.message(CKE, body)
        hand.derive()
        for part in lies(body)[lie]:
            yield hand.plain(HANDSHAKE, part)
        yield from said(hand, (CHANGE, FINISHED))

    refuse("psk", records)


@pytest.mark.spec("RFC 6347 4.2.3")
def test_parts_that_overlap_and_agree_are_one_message() -> None:
    server, hand = Server(), psk()
    server.greet(hand)
    body = hand.client_key_exchange()
    hand.message(CKE, body)
    hand.derive()
    parts = [(3, 8), (0, 2), (1, 5), (0, 2)]
    server.tell(hand, *(hand.plain(HANDSHAKE, d.fragment(CKE, len(body), 2, a, body[a:b])) for a, b in parts))
    server.tell(hand, *said(hand, (CHANGE, FINISHED)))
    assert hand.finished
    assert len(server.established) == 1


@pytest.mark.spec("RFC 6347 4.2.3")
def test_parts_that_overlap_and_differ_never_make_a_session_of_what_was_not_said() -> None:
    server, hand = Server(), psk(identity=b"another")
    server.greet(hand)
    body, other = hand.client_key_exchange(), b"\0\7aXXXXXX"
    hand.message(CKE, body)
    hand.derive()
    for at, piece in ((0, other[:5]), (2, body[2:9]), (0, body[:4])):
        server.feed(hand.plain(HANDSHAKE, d.fragment(CKE, len(body), 2, at, piece)))
    server.feed(*said(hand, (CHANGE, FINISHED)))
    assert server.established == []


# -- hellos in the middle --


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("RFC 6347 4.2.1", "LwM2M-contract 15")
def test_a_hello_with_another_random_and_the_old_cookie_gets_a_new_cookie_and_harms_nobody(kind: str) -> None:
    server, hand = Server(), HANDS[kind]()
    server.greet(hand)
    records = said(hand, HONEST[kind])
    intruder = HANDS[kind](random=bytes(32), cookie=hand.cookie)
    for record in records:
        for datagram in server.feed(intruder.second_hello()):
            assert {piece.fragment[0] for piece in d.split(datagram) if piece.epoch == 0} == {d.HELLO_VERIFY_REQUEST}
        server.tell(hand, record)
    assert hand.finished


CHANGED_HELLOS: dict[str, dict[str, object]] = {
    "random": {"random": bytes(32)},
    "suites": {"suites": (d.PSK_GCM,)},
    "session id": {"session_id": bytes(32)},
}


@pytest.mark.parametrize("change", CHANGED_HELLOS)
@pytest.mark.spec("RFC 6347 4.2.1")
def test_a_cookie_is_worth_nothing_with_another_hello(change: str) -> None:
    server, hand = Server(), psk()
    for datagram in server.feed(hand.first_hello()):
        hand.hear(datagram)
    other = psk(cookie=hand.cookie, **CHANGED_HELLOS[change])
    for datagram in server.feed(other.second_hello()):
        other.hear(datagram)
    assert [kind for kind, _ in other.heard] == [d.HELLO_VERIFY_REQUEST]


@pytest.mark.spec("RFC 6347 4.2.1")
def test_a_cookie_is_worth_nothing_at_another_address_nor_when_one_bit_of_it_is_another() -> None:
    server, hand = Server(), psk()
    for datagram in server.feed(hand.first_hello()):
        hand.hear(datagram)
    cookie = hand.cookie
    for datagram in server.feed(hand.second_hello(), address=OTHER):
        hand.hear(datagram)
    assert [kind for kind, _ in hand.heard] == [d.HELLO_VERIFY_REQUEST] * 2
    for bit in range(len(cookie) * 8):
        forged = bytearray(cookie)
        forged[bit // 8] ^= 1 << bit % 8
        other = psk(cookie=bytes(forged))
        for datagram in server.feed(other.second_hello()):
            other.hear(datagram)
        assert [kind for kind, _ in other.heard] == [d.HELLO_VERIFY_REQUEST]
    assert server.established == []


# -- bits --


def flips(kind: str, every: int) -> None:
    """Each ``every``-th bit of a client's second hello and its last flight is flipped, one in each handshake. It is
    established only if both ends have seen the same words."""
    server = Server()
    plain_length = 0
    bit = 0
    while not plain_length or bit < plain_length * 8:
        hand = HANDS[kind](random=bit.to_bytes(32, "big"))
        for datagram in server.feed(hand.first_hello()):
            hand.hear(datagram)
        before = len(server.established)
        at = bit
        hello = hand.second_hello()
        if at < len(hello) * 8:
            hello, at = flipped(hello, at), -1
        else:
            at -= len(hello) * 8
        for datagram in server.feed(hello):
            hand.hear(datagram)
        if d.SERVER_HELLO_DONE in (kind for kind, _ in hand.heard):
            flight = hand.last_flight()
            plain_length = len(hello) + sum(map(len, flight))
            for record in flight:
                touched = record
                if 0 <= at < len(record) * 8:
                    touched = flipped(record, at)
                at -= len(record) * 8
                for datagram in server.feed(touched):
                    # It is established if our Finished verifies, which covers every word of both.
                    if any(piece.epoch and piece.kind == HANDSHAKE for piece in d.split(datagram)):
                        hand.hear(datagram)
            assert len(server.established) == before + hand.finished
        bit += every
    assert server.data == []


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.spec("SEC-1", "LwM2M-contract 15")
def test_a_flipped_bit_makes_no_session_of_what_was_not_said() -> None:
    flips("psk", 13)


@pytest.mark.slow
@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("SEC-1", "LwM2M-contract 15")
def test_no_flipped_bit_makes_a_session_of_what_was_not_said(kind: str) -> None:
    flips(kind, 1)


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.spec("RFC 6347 4.1.2.7", "LwM2M-contract 15")
def test_cut_records_lead_to_nothing(kind: str) -> None:
    server, hand = Server(), HANDS[kind]()
    for datagram in server.feed(hand.first_hello()):
        hand.hear(datagram)
    hello = hand.second_hello()
    for length in range(0, len(hello), 3):
        server.feed(hello[:length])
    for datagram in server.feed(hello):
        hand.hear(datagram)
    for record in hand.last_flight():
        for length in range(0, len(record), 7):
            server.feed(record[:length])
        server.tell(hand, record)
    assert hand.finished
    assert server.data == []


def test_nobody_else_can_go_on_with_a_handshake() -> None:
    server, hand = Server(), rpk()
    server.greet(hand)
    server.feed(*hand.last_flight(), address=OTHER)
    assert server.established == []
