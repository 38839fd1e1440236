"""Handshakes of both ends, and of clients by hand that do not keep to the rules."""

import random
from hashlib import sha256

import pytest
from dtls_by_hand import ByHand
from dtls_wire import (
    KEY,
    Bed,
    Seeded,
    address,
    bed,
    ec_key,
    keyed_server,
    mirrored,
    psk_client,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.identity import PskIdentity, RawKeyIdentity
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.fragments import Fragment, decode_fragments, encode_fragment
from stellwerk.dtls.messages import HandshakeType, encode_client_hello
from stellwerk.dtls.parameters import ClientParameters, Limits, ServerIdentity, ServerParameters
from stellwerk.dtls.prf import CLIENT_FINISHED, Prf, verify_data
from stellwerk.dtls.records import ContentType, encode_record, split_records
from stellwerk.dtls.suites import SUITES

RPK = {"key": ec_key(2), "raw_keys": True}


def client_of(suite: int, **changes: object) -> ClientParameters:
    """A client with one suite and what it needs."""
    needs = {"psk_identity": b"device-1", "psk": KEY} if SUITES[suite].exchange == "psk" else RPK
    return ClientParameters(**({"suites": (suite,)} | needs | changes))


def echoes(b: Bed) -> bool:
    """Whether data passes both ways."""
    b.up(b"from the device")
    b.down(b"from the server")
    return b.data()[-1:] == [b"from the device"] and b.client_data()[-1:] == [b"from the server"]


def failure(b: Bed) -> tuple[str, str]:
    """The server's reason, and the client's detail."""
    return b.of(events.HandshakeFailed)[-1].reason, b.client_of(events.HandshakeFailed)[-1].detail


# --- what is agreed on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("cid", [None, b"", b"abc"])
@pytest.mark.spec(
    "RFC 6347 4.2",
    "RFC 4279 2",
    "RFC 6655 3",
    "RFC 7251 2",
    "RFC 5487 2",
    "RFC 7250 3",
    "RFC 9146 3",
    "LwM2M-contract 2.2",
)
def test_every_suite_carries_data_both_ways_with_and_without_connection_ids(suite: int, cid: bytes | None) -> None:
    b = bed(keyed_server(cbc=True))
    b.connect(client_of(suite, cid=cid))
    assert (b.session().suite, b.session().has_cid) == (suite, cid is not None)
    assert echoes(b)
    assert b.drops() == []
    assert b.client_of(events.Dropped) == []


@pytest.mark.parametrize(
    "change", [{"extended_master_secret": False}, {"encrypt_then_mac": False}, {"server_name": "a.example"}]
)
@pytest.mark.parametrize("suite", [0xC0A8, 0x00AE])
def test_a_client_may_lack_what_is_only_preferred(suite: int, change: dict[str, object]) -> None:
    b = bed(keyed_server(cbc=True))
    b.connect(client_of(suite, **change))
    assert echoes(b)


@pytest.mark.spec("LwM2M-contract 2.2")
def test_cbc_is_refused_unless_it_is_switched_on() -> None:
    b = bed(keyed_server())
    b.connect(client_of(0x00AE))
    assert failure(b) == ("no-common-suite", "the peer ended the handshake with handshake_failure (40)")


@pytest.mark.parametrize(
    "change", [{"max_fragment_length": 1}, {"record_size_limit": 64}, {"record_size_limit": 200, "cid": b"c"}]
)
@pytest.mark.spec("RFC 6066 4", "RFC 8449 4", "LwM2M-contract 2.2")
def test_records_are_no_larger_than_the_client_takes(change: dict[str, object]) -> None:
    limit = 512 if "max_fragment_length" in change else int(str(change["record_size_limit"]))
    b = bed(keyed_server())
    b.connect(ClientParameters(**RPK, **change))
    handshake = [d for name, _, d in b.sent if name == "server"]
    assert all(
        len(r.fragment) <= max(limit, 64) + 12 + 24 for d in handshake for r in split_records(d, 1) if r.epoch == 0
    )
    # Who reads so little at once loses the end of a longer datagram.
    assert max(map(len, handshake)) <= limit + 13 + 24
    if "max_fragment_length" in change:
        assert max(len(d) for name, _, d in b.sent if name == "client") <= limit + 13 + 24
    b.down(b"x" * (limit + 1))
    assert b.client_data() == []
    assert b.drops() == ["size"]
    b.down(b"x" * (limit - 1))
    assert b.client_data() == [b"x" * (limit - 1)]


def test_datagrams_of_a_handshake_are_no_larger_than_the_path() -> None:
    b = bed(keyed_server(mtu=256))
    b.connect(ClientParameters(**RPK, mtu=200))
    assert max(len(d) for name, _, d in b.sent if name == "server") <= 256
    assert max(len(d) for name, _, d in b.sent if name == "client") <= 200
    assert echoes(b)


def test_a_server_without_a_key_has_psk_alone() -> None:
    b = bed()
    b.connect(ClientParameters(**RPK))
    assert failure(b) == ("no-common-suite", "the peer ended the handshake with handshake_failure (40)")


@pytest.mark.spec("RFC 7250 4.2")
def test_certificate_types_that_do_not_meet_are_told_apart_from_suites_that_do_not() -> None:
    b = bed(keyed_server())
    b.connect(ClientParameters(key=ec_key(2)))
    assert failure(b)[0] == "no-common-certificate-type"


# --- who the peer is ---------------------------------------------------------------------------------------------


@pytest.mark.spec("SEC-1", "RFC 7250 3")
def test_the_session_says_who_the_peer_has_proven_to_be() -> None:
    b = bed(keyed_server())
    b.connect()
    assert (b.session().identity, b.session().device) == (PskIdentity(b"device-1"), 7)
    b.connect(ClientParameters(**RPK))
    identity = b.session().identity
    assert isinstance(identity, RawKeyIdentity)
    assert b.session().device == 9
    assert [question.identity for question in b.of(events.CertificateQuestion)] == [identity]


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_wrong_key_and_an_unknown_identity_look_the_same_from_outside() -> None:
    told = []
    for parameters in (psk_client(psk=b"another key that"), psk_client(psk_identity=b"device-2")):
        b = bed()
        b.connect(parameters)
        told.append((b.of(events.HandshakeFailed)[0].reason, [len(d) for name, _, d in b.sent if name == "server"]))
        assert b.client_of(events.HandshakeFailed)[0].detail == "the peer ended the handshake with decrypt_error (51)"
        assert b.of(events.HandshakeFailed)[0].identity == PskIdentity(parameters.psk_identity)
        assert b.server.half_open == 0
    assert [reason for reason, _ in told] == ["wrong-key", "unknown-identity"]
    assert told[0][1] == told[1][1]


@pytest.mark.spec("RFC 5246 7.4.6", "LwM2M-contract 15")
def test_a_client_that_skips_its_certificate_does_not_get_in() -> None:
    b = bed(keyed_server())
    # X.509 for itself, and no chain: its Certificate is empty.
    b.server = Endpoint(
        Seeded(4), keyed_server(identity=ServerIdentity(ec_key(1), (b"no certificate, but one to send",)))
    )
    b.connect(ClientParameters(key=ec_key(2), raw_keys=False))
    assert b.client_of(events.HandshakeFailed)[0].reason == "bad-certificate"

    b = bed(keyed_server())
    handshake = _rpk_up_to_certificate(b, b"")
    assert handshake == ("no-client-certificate", 40)


def _rpk_up_to_certificate(b: Bed, spki: bytes) -> tuple[str, int]:
    """The reason and the alert of a raw-key client that sends ``spki``."""
    from stellwerk.dtls.extensions import Extensions
    from stellwerk.dtls.messages import encode_raw_key

    client = ByHand(b)
    client.hello.suites = (0xC0AE,)
    client.hello.extensions = Extensions(client_certificate_types=(2,), server_certificate_types=(2,))
    client.get_cookie()
    client.send(client.hello_record())
    [answer] = client.send(
        client.plain(ContentType.HANDSHAKE, client.message(HandshakeType.CERTIFICATE, encode_raw_key(spki))[0])
    )
    return b.of(events.HandshakeFailed)[0].reason, split_records(answer, 0)[0].fragment[1]


@pytest.mark.spec("LwM2M-contract 2.2")
def test_no_alert_of_ours_makes_a_client_give_its_configuration_up() -> None:
    reason, alert = _rpk_up_to_certificate(bed(keyed_server()), b"no key at all")
    assert reason == "bad-certificate"
    assert alert in {0, 10, 20, 21, 22, 40, 47, 50, 51, 70, 71, 86, 90, 100, 111}


def test_a_refused_certificate_ends_with_the_reason_and_alert_of_the_answer() -> None:
    b = bed(keyed_server())
    b.answer = lambda bed, event: (
        bed.server.submit(actions.RefusePeer(event.handshake, "unknown-identity", "nobody's", 48), bed.now)
        if isinstance(event, events.CertificateQuestion)
        else None
    )
    b.connect(ClientParameters(**RPK))
    assert failure(b) == ("unknown-identity", "the peer ended the handshake with unknown_ca (48)")


def test_a_client_may_refuse_its_server() -> None:
    b = bed(keyed_server())
    b.answer_client = lambda bed, event: (
        bed.client.submit(actions.RefusePeer(event.handshake, "untrusted-certificate", "not mine", 48), bed.now)
        if isinstance(event, events.CertificateQuestion)
        else None
    )
    b.connect(ClientParameters(**RPK))
    assert b.client_of(events.HandshakeFailed)[0].reason == "untrusted-certificate"
    assert b.of(events.HandshakeFailed)[0].detail == "the peer ended the handshake with unknown_ca (48)"


# --- cookies -----------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 6347 4.2.1", "LwM2M-contract 2.2", "LwM2M-contract 15")
def test_nothing_is_kept_or_computed_for_a_client_hello_without_a_cookie() -> None:
    b = bed()
    client = ByHand(b)
    client.sequence, client.message_seq = 41, 3
    hello = client.hello_record()
    [answer] = client.send(hello)
    [record] = split_records(answer, 0)
    [fragment] = decode_fragments(record.fragment)
    assert fragment.type == HandshakeType.HELLO_VERIFY_REQUEST
    assert (record.sequence, record.version, fragment.message_seq) == (41, 0xFEFF, 3)
    assert len(answer) <= 3 * len(hello)
    assert (b.server.half_open, b.server.deadline()) == (0, None)
    assert b.told == []


@pytest.mark.spec("RFC 6347 4.2.1")
def test_the_extensions_of_a_client_hello_are_looked_at_only_behind_its_cookie() -> None:
    b = bed()
    client = ByHand(b)
    client.hello.extensions.unknown = ((65_000, b""), (65_000, b""))
    client.get_cookie()
    assert b.told == []
    assert client.send(client.hello_record()) == []
    assert b.drops() == ["format"]
    assert b.server.half_open == 0


@pytest.mark.spec("RFC 6347 4.2.1")
@pytest.mark.parametrize("length", [0, 33, 34, 35, 38, 39])
def test_a_client_hello_that_ends_before_its_extensions_begin_gets_no_cookie(length: int) -> None:
    b = bed()
    client = ByHand(b)
    body = encode_client_hello(client.hello)[:length]
    assert client.send(client.plain(ContentType.HANDSHAKE, client.message(HandshakeType.CLIENT_HELLO, body)[0])) == []
    assert b.drops() == ["format"]


@pytest.mark.spec("RFC 6347 4.2.1")
def test_the_server_hello_goes_on_with_the_numbers_of_the_client_hello() -> None:
    client = ByHand(bed())
    client.sequence, client.message_seq = 41, 3
    [answer] = client.begin()
    first, second = split_records(answer, 0)
    assert (first.sequence, second.sequence) == (42, 43)
    assert [decode_fragments(record.fragment)[0].message_seq for record in (first, second)] == [4, 5]


@pytest.mark.spec("RFC 6347 4.2.1")
def test_a_cookie_is_good_for_its_address_its_hello_and_its_time_alone() -> None:
    b = bed()
    client = ByHand(b)
    client.get_cookie()
    stolen = ByHand(b, address("203.0.113.9"))
    stolen.hello.cookie = client.hello.cookie
    [answer] = stolen.send(stolen.hello_record())
    assert decode_fragments(split_records(answer, 0)[0].fragment)[0].type == HandshakeType.HELLO_VERIFY_REQUEST
    b.now += 1000
    [answer] = client.send(client.hello_record())
    assert decode_fragments(split_records(answer, 0)[0].fragment)[0].type == HandshakeType.HELLO_VERIFY_REQUEST
    assert b.drops() == ["cookie", "cookie"]
    assert b.server.half_open == 0
    client.begin()
    assert b.server.half_open == 1


@pytest.mark.spec("RFC 6347 4.2.1")
def test_a_fragmented_client_hello_is_dropped_and_counted() -> None:
    b = bed()
    client = ByHand(b)
    whole = client.message(HandshakeType.CLIENT_HELLO, b"x" * 90, size=60)
    assert client.send(*[client.plain(ContentType.HANDSHAKE, content) for content in whole]) == []
    assert b.drops() == ["fragmented"]


@pytest.mark.spec("RFC 6347 4.1")
def test_a_client_hello_may_come_in_a_record_of_version_1_0_and_no_other_record_of_any_other() -> None:
    b = bed()
    client = ByHand(b)
    hello = client.hello_record()
    assert client.send(hello[:1] + b"\xfe\xff" + hello[3:]) != []
    assert client.send(hello[:1] + b"\x03\x03" + hello[3:]) == []
    assert b.drops() == ["version"]


def test_a_client_of_dtls_1_0_is_told_so_once_its_cookie_is_right() -> None:
    b = bed()
    client = ByHand(b)
    client.hello.version = 0xFEFF
    client.get_cookie()
    [answer] = client.send(client.hello_record())
    assert split_records(answer, 0)[0].fragment == b"\x02\x46"
    assert b.of(events.HandshakeFailed)[0].reason == "version"


# --- order -------------------------------------------------------------------------------------------------------


def test_a_client_by_hand_that_keeps_to_the_rules_gets_in() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange(), client.change(), *client.finished())
    assert b.session().device == 7
    client.send(client.data(b"hello"))
    assert b.data() == [b"hello"]


@pytest.mark.spec("LwM2M-contract 15", "SEC-1")
def test_data_before_the_handshake_is_over_goes_nowhere_and_data_behind_it_waits_for_it() -> None:
    b = bed()
    client = ByHand(b)
    client.send(client.plain(ContentType.APPLICATION_DATA, b"plain"))
    client.begin()
    client.send(client.plain(ContentType.APPLICATION_DATA, b"plain"))
    exchange, change = client.key_exchange(), client.change()
    [finished] = client.finished()
    early = client.data(b"early")
    client.send(exchange, change, early)
    client.send(early)
    assert b.data() == []
    client.send(finished)
    assert b.data() == [b"early"]
    client.send(client.plain(ContentType.APPLICATION_DATA, b"plain"))
    assert b.data() == [b"early"]
    assert set(b.drops()) == {"plaintext", "replayed"}


@pytest.mark.spec("RFC 6347 4.2.4", "LwM2M-contract 15")
def test_a_finished_that_overtakes_the_key_exchange_waits_for_it() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    exchange, change = client.key_exchange(), client.change()
    client.send(*client.finished())
    client.send(exchange)
    assert b.of(events.SessionEstablished) == []
    client.send(change)
    assert b.session().device == 7


def test_data_right_behind_a_finished_is_not_lost_when_both_wait() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    exchange, change = client.key_exchange(), client.change()
    client.send(*client.finished(), client.data(b"behind"))
    client.send(exchange, change)
    assert b.data() == [b"behind"]


def test_a_forged_record_before_the_change_cipher_spec_ends_nothing() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(encode_record(ContentType.HANDSHAKE, 1, 77, b"forged" * 8))
    client.send(client.key_exchange())
    client.send(client.change(), *client.finished())
    assert b.session().device == 7


@pytest.mark.spec("RFC 5246 7.4.9", "LwM2M-contract 15")
def test_behind_the_change_cipher_spec_nothing_is_taken_without_protection() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange())
    verify = verify_data(Prf(client.master), CLIENT_FINISHED, sha256(client.transcript).digest())
    [content] = client.message(HandshakeType.FINISHED, verify)
    client.send(client.change(), client.plain(ContentType.HANDSHAKE, content))
    assert b.of(events.SessionEstablished) == []
    client.send(client.seal(ContentType.HANDSHAKE, content))
    assert b.session().device == 7


@pytest.mark.spec("RFC 6347 4.2.3", "LwM2M-contract 15")
def test_no_message_is_partly_without_protection() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.message_seq += 1
    exchange_seq = client.message_seq - 1
    client.send(client.plain(ContentType.HANDSHAKE, encode_fragment(Fragment(20, 12, client.message_seq, 0, b"?" * 6))))
    client.message_seq = exchange_seq
    client.send(client.key_exchange())
    client.send(client.change())
    first, second = client.finished(size=6)
    client.send(second)
    assert (b.of(events.SessionEstablished), b.of(events.HandshakeFailed)) == ([], [])
    client.send(first)
    assert b.session().device == 7


@pytest.mark.spec("LwM2M-contract 2.2")
def test_an_unknown_identity_is_refused_no_sooner_than_a_wrong_key() -> None:
    b = bed()
    client = ByHand(b, identity=b"nobody")
    client.begin()
    assert client.send(client.key_exchange()) == []
    assert b.of(events.HandshakeFailed) == []
    [alert] = client.send(client.change(), *client.finished())
    assert split_records(alert, 0)[0].fragment == b"\x02\x33"


@pytest.mark.spec("RFC 6347 4.2.3")
def test_a_finished_may_come_in_several_records() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange(), client.change())
    for record in reversed(client.finished(size=5)):
        client.send(record)
    assert b.session().device == 7


@pytest.mark.spec("RFC 5246 7.4.9", "LwM2M-contract 15")
def test_an_early_change_cipher_spec_changes_nothing() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    early = client.change()
    client.send(early)
    exchange = client.key_exchange()
    [finished] = client.finished()
    client.send(exchange, finished)
    assert b.of(events.SessionEstablished) == []
    client.send(client.change())
    assert b.session().device == 7


@pytest.mark.spec("RFC 5246 7.4.9", "LwM2M-contract 15")
def test_a_finished_without_protection_ends_the_handshake() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange())
    client.send(client.plain(ContentType.HANDSHAKE, client.message(HandshakeType.FINISHED, b"f" * 12)[0]))
    assert b.of(events.HandshakeFailed)[0].reason == "unexpected-message"


@pytest.mark.spec("RFC 5246 7.4.9")
def test_a_finished_over_other_messages_is_not_a_wrong_key() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange(), client.change(), *client.finished(verify=b"v" * 12))
    assert b.of(events.HandshakeFailed)[0].reason == "bad-finished"


@pytest.mark.parametrize("type", [*HandshakeType, 99])
def test_no_message_but_the_right_one_is_taken_after_a_client_hello(type: int) -> None:
    if type == HandshakeType.CLIENT_KEY_EXCHANGE:
        return
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.plain(ContentType.HANDSHAKE, client.message(type, b"\0\0\0\0")[0]))
    if type == HandshakeType.CLIENT_HELLO:
        # That is another handshake, without a cookie.
        assert b.drops() == ["format"]
    else:
        assert b.of(events.HandshakeFailed)[0].reason == "unexpected-message"
        assert b.server.half_open == 0


def test_a_malformed_message_ends_the_handshake_with_a_readable_reason() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.plain(ContentType.HANDSHAKE, client.message(HandshakeType.CLIENT_KEY_EXCHANGE, b"\0\x40")[0]))
    [failed] = b.of(events.HandshakeFailed)
    assert failed.reason == "bad-message"
    assert failed.detail == "ClientKeyExchange: a PSK identity with a wrong length"


def test_what_waits_for_keys_is_bounded() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(*[encode_record(ContentType.HANDSHAKE, 1, number, b"x" * 40) for number in range(30)])
    assert b.drops() == ["room"] * 14


# --- questions ---------------------------------------------------------------------------------------------------


def test_an_answer_may_come_later_and_the_peer_repeats_at_no_cost_meanwhile() -> None:
    b = bed()
    questions: list[events.PskQuestion] = []
    b.answer = lambda bed, event: questions.append(event) if isinstance(event, events.PskQuestion) else None
    b.connect()
    sent = sum(name == "server" for name, _, _ in b.sent)
    b.wait(5.0)
    assert sum(name == "client" for name, _, _ in b.sent) > 3
    assert sum(name == "server" for name, _, _ in b.sent) == sent
    [question] = questions
    b.server.submit(actions.GivePsk(question.handshake, KEY, 7), b.now)
    b.settle()
    assert b.session().device == 7
    assert echoes(b)


def test_a_question_without_answer_fails_by_itself() -> None:
    b = bed()
    b.answer = lambda bed, event: None
    b.connect()
    b.wait(11.0)
    [failed] = b.of(events.HandshakeFailed)
    assert (failed.reason, b.server.half_open) == ("not-answered", 0)
    b.server.submit(actions.GivePsk(b.of(events.PskQuestion)[0].handshake, KEY, 7), b.now)
    assert b.of(events.SessionEstablished) == []


@pytest.mark.spec("SEC-9")
def test_handshakes_of_a_device_end_when_its_credentials_change() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange())
    b.server.submit(actions.ForgetHandshakes(8), b.now)
    assert b.server.half_open == 1
    b.server.submit(actions.ForgetHandshakes(7), b.now)
    client.send(client.change(), *client.finished())
    assert b.of(events.HandshakeFailed)[0].reason == "credentials-changed"
    assert b.of(events.SessionEstablished) == []


# --- time and loss -----------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 6347 4.2.4", "RFC 7925 11")
def test_a_flight_is_repeated_with_doubled_timeouts_until_the_handshake_is_given_up() -> None:
    b = bed(ServerParameters(first_timeout_s=9.0, repetitions=2))
    client = ByHand(b)
    client.begin()
    times = []
    while (due := b.server.deadline()) is not None:
        b.now = due
        b.server.tick(due)
        times.append((due - 100.0, len(b.server.take_datagrams())))
        b._hear("server", b.server)
    assert times == [(9.0, 1), (27.0, 1), (63.0, 0)]
    assert b.of(events.HandshakeFailed)[0].reason == "timeout"


@pytest.mark.spec("RFC 6347 4.2.4")
def test_repeated_flights_are_answered_again_but_not_in_the_same_moment() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    hello = client.plain(ContentType.HANDSHAKE, _same_hello(client))
    assert client.send(hello, hello) == []
    b.now += 1.0
    assert len(client.send(hello, hello)) == 1
    assert b.server.half_open == 1
    last = client.key_exchange(), client.change(), *client.finished()
    client.send(*last)
    b.now += 1.0
    # The server's last flight is sent again for each repetition, until data comes.
    again = client.plain(ContentType.HANDSHAKE, split_records(last[0], 0)[0].fragment)
    assert len(client.send(again)) == 1
    b.now += 1.0
    client.message_seq -= 1
    client.send(*client.finished(verify=b"again and ag"))
    assert [type for type, _ in client.opened()] == [ContentType.HANDSHAKE]
    b.now += 1.0
    client.send(client.data(b"x"))
    assert client.send(again) == []
    assert b.of(events.SessionEnded) == []


def _same_hello(client: ByHand) -> bytes:
    transcript = client.transcript
    client.message_seq -= 1
    content = split_records(client.hello_record(), 0)[0].fragment
    client.transcript = transcript
    return content


def test_a_client_hello_that_comes_late_begins_nothing_but_may_come_again_after_a_while() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    hello = client.plain(ContentType.HANDSHAKE, _same_hello(client))
    client.send(client.key_exchange(), client.change(), *client.finished())
    client.send(client.data(b"x"))
    assert client.send(hello) == []
    assert b.server.half_open == 0
    b.now += 61.0
    assert len(client.send(hello)) == 1


def test_a_last_flight_that_nobody_needs_is_forgotten_in_time() -> None:
    b = bed()
    b.connect()
    assert b.server.deadline() == 340.0
    b.wait(241.0)
    assert b.server.deadline() is None
    assert echoes(b)


KINDS = [
    ({}, {}),
    ({"cid": b"c"}, {}),
    ({"cid": b"", "tickets": True, "mtu": 150}, {"mtu": 200}),
    ({"psk_identity": b"", **RPK, "cid": b"abcd", "mtu": 250}, {"mtu": 300}),
    ({"resume": True}, {}),
    ({"resume": True, "tickets": True, "cid": b"c"}, {"mtu": 200}),
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from(KINDS))
@pytest.mark.spec("RFC 6347 4.2.4")
def test_handshakes_end_well_over_links_that_lose_double_and_reorder(
    seed: int, kind: tuple[dict[str, object], dict[str, int]]
) -> None:
    _over_a_bad_link(seed, kind)


@pytest.mark.slow
@pytest.mark.spec("RFC 6347 4.2.4")
def test_thousands_of_handshakes_end_well_over_bad_links() -> None:
    for seed in range(2000):
        _over_a_bad_link(seed, KINDS[seed % len(KINDS)])


def _over_a_bad_link(seed: int, kind: tuple[dict[str, object], dict[str, int]]) -> None:
    changes, server = kind
    patient = Limits(handshake_s=600.0)
    b = bed(keyed_server(first_timeout_s=1.0, repetitions=12, **server), patient, seed=seed % 1000)
    b.client = Endpoint(Seeded(seed % 1000 + 1), limits=patient)
    chance = random.Random(seed)
    link: list[tuple[float, int, str, object, bytes]] = []
    to = mirrored(address())
    wants_resumption = "resume" in changes
    parameters = psk_client(
        **({"first_timeout_s": 1.0, "repetitions": 12} | {name: changes[name] for name in changes if name != "resume"})
    )
    state = None
    if wants_resumption:
        b.connect(parameters)
        b.up(b"the session before")
        state = b.client_of(events.SessionState)[0].state
        b.told.clear()
        b.client_told.clear()
    b.client.submit(actions.Connect(to, parameters, state), b.now)
    ended = b.now + 500.0
    order = 0
    while b.now < ended:
        for name, here in (("client", b.client), ("server", b.server)):
            b._hear(name, here)
            for peer, datagram in here.take_datagrams():
                for _ in range(chance.choices((0, 1, 2), (15, 70, 15))[0]):
                    order += 1
                    link.append((b.now + chance.random() * 1.5, order, name, peer, datagram))
        established = b.of(events.SessionEstablished), b.client_of(events.SessionEstablished)
        if all(established) and not link:
            break
        dues = [due for due in (b.server.deadline(), b.client.deadline()) if due is not None]
        if link and min(link)[0] <= min(dues, default=ended):
            arriving = min(link)
            link.remove(arriving)
            b.now, _, name, peer, datagram = arriving
            (b.server if name == "client" else b.client).feed(datagram, peer=mirrored(peer), now=b.now)
        elif dues:
            b.now = min(dues)
            b.server.tick(b.now)
            b.client.tick(b.now)
        else:
            break
    assert b.of(events.HandshakeFailed) == []
    assert b.client_of(events.HandshakeFailed) == []
    assert [session.resumed is not None for session in b.of(events.SessionEstablished)] == [wants_resumption]
    assert echoes(b)


# --- beside a live session ---------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 6347 4.2.8", "LwM2M-contract 2.2")
def test_a_new_handshake_runs_beside_the_old_session_and_replaces_it_at_its_end() -> None:
    b = bed()
    b.connect()
    old = b.session().peer
    client = ByHand(b)
    client.begin()
    exchange, change, finished = client.key_exchange(), client.change(), client.finished()
    client.send(exchange)
    b.up(b"still here", b.client_session().peer)
    assert b.data() == [b"still here"]
    client.send(change, *finished)
    assert b.session().replaced == old
    assert [(ended.peer, ended.reason) for ended in b.of(events.SessionEnded)] == [(old, "replaced")]
    assert b.server.sessions == 1


@pytest.mark.parametrize("key", [b"another key that", KEY])
@pytest.mark.spec("RFC 6347 4.2.8", "LwM2M-contract 15")
def test_a_failed_handshake_never_harms_the_session_beside_it(key: bytes) -> None:
    b = bed()
    b.connect()
    client = ByHand(b, key=key)
    client.begin()
    if key == KEY:
        client.send(client.key_exchange(), client.change(), *client.finished(verify=b"tampered wit"))
    else:
        client.send(client.key_exchange(), client.change(), *client.finished())
    assert len(b.of(events.HandshakeFailed)) == 1
    for record in (
        client.plain(ContentType.ALERT, b"\x02\x28"),
        client.plain(ContentType.ALERT, b"\x01\x00"),
        client.plain(ContentType.CHANGE_CIPHER_SPEC, b"\x01"),
        client.plain(ContentType.HANDSHAKE, client.message(HandshakeType.CERTIFICATE, b"\0\0\0")[0]),
        client.plain(ContentType.APPLICATION_DATA, b"plain"),
        encode_record(ContentType.ALERT, 1, 900, b"\x02\x28" + b"x" * 16),
    ):
        client.send(record)
    assert b.of(events.SessionEnded) == []
    assert echoes(b)


@pytest.mark.spec("RFC 6347 4.2.8")
def test_records_of_the_old_session_do_not_disturb_the_new_handshake() -> None:
    b = bed()
    b.connect()
    b.client.submit(actions.SendData(b.client_session().peer, b"old"), b.now)
    [(_, record)] = b.client.take_datagrams()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange(), client.change())
    b.server.feed(record, peer=address(), now=b.now)
    # Records of the old session that look like the Finished of the new one are not taken for a wrong key.
    client.send(*client.finished())
    assert b.data() == [] or b.data() == [b"old"]
    b._hear("server", b.server)
    assert b.data() == [b"old"]
    assert b.session().replaced is not None


@pytest.mark.spec("RFC 5246 7.2.2", "RFC 5746 4.5", "LwM2M-contract 2.2")
def test_renegotiation_is_refused_with_a_warning() -> None:
    b = bed()
    client = ByHand(b)
    client.begin()
    client.send(client.key_exchange(), client.change(), *client.finished())
    hello = client.message(HandshakeType.CLIENT_HELLO, b"whatever it says")
    client.send(client.seal(ContentType.HANDSHAKE, hello[0]))
    assert client.opened() == [(ContentType.ALERT, b"\x01\x64")]
    client.send(client.data(b"goes on"))
    assert b.data() == [b"goes on"]


# --- rooms -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("LwM2M-contract 15")
def test_a_flood_with_valid_cookies_from_one_address_leaves_room_for_others() -> None:
    b = bed(limits=Limits(half_open=10, half_open_per_address=8))
    for port in range(30):
        ByHand(b, address("203.0.113.1", 1000 + port)).begin()
    assert b.server.half_open == 8
    assert b.drops() == ["room"] * 22
    others = [ByHand(b, address(f"198.51.100.{n}")) for n in range(4)]
    for other in others:
        other.begin()
    for other in others:
        other.send(other.key_exchange(), other.change(), *other.finished())
    assert len(b.of(events.SessionEstablished)) == 4
    assert {failed.address.remote_host for failed in b.of(events.HandshakeFailed)} == {"203.0.113.1"}
    assert {failed.reason for failed in b.of(events.HandshakeFailed)} == {"room"}


def test_a_client_that_begins_anew_at_its_address_takes_its_own_place() -> None:
    b = bed()
    first = ByHand(b)
    first.begin()
    second = ByHand(b)
    second.hello.random = b"R" * 32
    second.begin()
    assert b.server.half_open == 1
    second.send(second.key_exchange(), second.change(), *second.finished())
    assert b.session().device == 7


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([20, 21, 22, 23, 25, 26]), st.integers(0, 2), st.booleans())
def test_any_bytes_are_understood_or_dropped(content: bytes, type: int, epoch: int, whole: bool) -> None:
    b = bed()
    b.connect(psk_client(cid=b"c"))
    client = ByHand(b, address("203.0.113.1"))
    client.begin()
    record = encode_record(type, epoch, 5, content) if whole else content
    for peer in (address(), client.peer, address("203.0.113.77")):
        b.server.feed(record, peer=peer, now=b.now)
        b.client.feed(record, peer=mirrored(peer), now=b.now)
    b.settle()
    assert echoes(b)
