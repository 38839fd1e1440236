"""What a client says in the clear, read along."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tls_client import V12, V13, OpenSslClient, PskClient, TlsClient

from stellwerk.dtls.vectors import numbers, vector
from stellwerk.net.tls_hello import NOTHING, Overhearing, Said


def record(*messages: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + vector(2, b"".join(messages))


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + vector(3, body)


def hello(*suites: int, extensions: bytes = b"") -> bytes:
    return message(1, b"\x03\x03" + bytes(32) + b"\x00" + numbers(2, suites) + b"\x01\x00" + vector(2, extensions))


def psk_extension(identity: bytes, age: int = 0, before: bytes = b"") -> bytes:
    offered = vector(2, before + vector(2, identity) + age.to_bytes(4, "big")) + vector(2, vector(1, bytes(32)))
    return (41).to_bytes(2, "big") + vector(2, offered)


def heard(*records: bytes) -> list[Said]:
    follows = Overhearing()
    return [follows.read(each) for each in records]


@pytest.mark.spec("RFC 4279 2")
def test_the_identity_of_tls_1_2_stands_in_the_key_exchange() -> None:
    said = heard(record(hello(0xC0A8)), record(message(16, vector(2, b"id"))))
    assert said == [Said(True, True), Said(identity=b"id")]


@pytest.mark.spec("RFC 8446 4.2.11")
def test_the_identity_of_tls_1_3_stands_in_the_hello_and_a_ticket_is_none() -> None:
    assert heard(record(hello(0x1301, extensions=psk_extension(b"id")))) == [Said(True, False, b"id")]
    assert heard(record(hello(0x1301, extensions=psk_extension(b"ticket", 12)))) == [Said(True, False)]
    assert heard(record(hello(0x1301, extensions=psk_extension(b"i" * 129)))) == [Said(True, False)]


@pytest.mark.spec("RFC 8446 4.2.11")
def test_a_key_that_is_offered_behind_tickets_is_heard() -> None:
    tickets = vector(2, b"one") + b"\0\0\0\7" + vector(2, b"two") + b"\0\1\0\0"
    assert heard(record(hello(0x1301, extensions=psk_extension(b"id", before=tickets)))) == [Said(True, False, b"id")]


def test_whoever_offers_public_keys_besides_costs_what_they_cost() -> None:
    assert heard(record(hello(0xC0A8, 0x00A8, 0x00FF)))[0].is_psk_only
    assert not heard(record(hello(0xC0A8, 0xC02B)))[0].is_psk_only


def test_after_a_certificate_there_is_nothing_more_to_hear() -> None:
    follows = Overhearing()
    follows.read(record(hello(0xC0A8, 0xC02B)))
    assert follows.read(record(message(11, b"\0\0\0"), message(16, vector(2, b"id")))) == NOTHING
    assert follows.is_over


def test_messages_may_be_cut_into_records_anywhere() -> None:
    whole = hello(0xC0A8) + message(16, vector(2, b"id"))
    said = heard(*(record(whole[place : place + 1]) for place in range(len(whole))))
    assert [each for each in said if each != NOTHING] == [Said(True, True), Said(identity=b"id")]


def test_a_record_waits_until_it_is_whole() -> None:
    follows, data = Overhearing(), record(hello(0xC0A8))
    assert all(follows.cut(data[:size]) is None for size in range(len(data)))
    assert follows.cut(data + b"more") == data


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"\x17\x03\x03\x00\x01", b"\x16\x03\x03\xff\xff", b"\x50"])
def test_what_is_no_handshake_is_handed_on_as_it_is(data: bytes) -> None:
    follows = Overhearing()
    assert follows.cut(data) == data
    assert follows.is_over


@pytest.mark.parametrize(
    ("client", "wanted"),
    [
        (TlsClient(V12), Said(True, False)),
        (OpenSslClient(V13), Said(True, False)),
        (PskClient(b"id", bytes(16), V12), Said(True, True)),
        (PskClient(b"id", bytes(16), V13), Said(True, False, b"id")),
    ],
    ids=["certificates 1.2", "certificates 1.3", "psk 1.2", "psk 1.3"],
)
def test_real_clients_are_understood(client: TlsClient | OpenSslClient, wanted: Said) -> None:
    assert heard(client.take()) == [wanted]


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_are_heard_without_harm(pieces: list[bytes]) -> None:
    follows = Overhearing()
    for each in pieces:
        if (found := follows.cut(record(each))) is not None:
            follows.read(found)


@given(st.binary(max_size=60))
def test_any_hello_is_heard_without_harm(body: bytes) -> None:
    heard(record(message(1, body)), record(message(16, body)))
