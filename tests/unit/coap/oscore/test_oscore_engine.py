"""Two engines that speak OSCORE: requests, answers, blocks and notifications, over datagrams and streams."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oscore_wire import (
    DEVICE_UDP,
    MOVED,
    NUMBER,
    SERVER_UDP,
    End,
    SeededEntropy,
    Talk,
    alone,
    echo_in,
    feed,
    protected,
    server_material,
    settle,
)

from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import CON, NON, Message, decode_message, encode_message
from stellwerk.coap.options import MAX_AGE, OSCORE, REQUEST_TAG, encode_block
from stellwerk.coap.oscore.context import Keys
from stellwerk.coap.oscore.option import OscoreOption, decode_option
from stellwerk.coap.oscore.protection import open_request
from stellwerk.coap.parameters import Parameters
from stellwerk.coap.tcp.signalling import ReleaseNotice, encode_release
from stellwerk.core.ids import PeerId, session_peer

BODY = bytes(range(256)) * 20


def deciphered(data: bytes, keys: Keys) -> Message:
    """The request in a datagram of the device, as ``keys`` of the server read it."""
    message = decode_message(data)
    option = decode_option(dict(message.options)[OSCORE])
    opened, _ = open_request(keys, option, message.options, message.payload)
    return Message(message.type, opened.code, message.mid, message.token, opened.options, opened.payload)


@pytest.mark.spec("RFC 8613 B.1.2", "RFC 9175 2.3", "LwM2M-contract 1.7", "LwM2M-contract 2.6")
@pytest.mark.parametrize("stream", [False, True])
def test_the_first_request_of_a_context_is_served_only_when_it_repeats_a_protected_echo(stream: bool):
    talk = Talk(stream=stream)
    talk.ask_server()
    answer = talk.device.only(events.ResponseReceived)
    assert (answer.code, answer.payload) == (codes.CONTENT, b"a/b")
    request = talk.server.only(events.RequestReceived)
    assert request.peer == talk.to_device
    assert request.path == ("a", "b")
    assert request.fresh
    assert talk.server.only(events.ContextMoved).carrier == talk.at_server
    # Nothing of it was to be seen on the way.
    assert not any(b"a/b" in data for data in talk.recorded + talk.sent_by_server)
    talk.ask_server(2)
    assert len(talk.server.of(events.RequestReceived)) == 2
    assert len(talk.server.of(events.ContextQuestion)) == 1


@pytest.mark.spec("RFC 8613 4.2", "LwM2M-contract 2.6")
def test_the_outer_messages_are_post_and_changed():
    talk = Talk()
    talk.ask_server(code=codes.PUT, payload=b"secret")
    outer = [decode_message(data) for data in (*talk.recorded, *talk.sent_by_server)]
    assert {message.code for message in outer} == {codes.POST, codes.CHANGED}
    assert {number for message in outer for number, _ in message.options} == {OSCORE}
    assert decode_option(outer[0].options[0][1]) == OscoreOption(b"\0", b"dev1")


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 3.1")
@pytest.mark.parametrize("stream", [False, True])
def test_the_server_asks_the_device_under_the_context_in_which_it_was_heard(stream: bool):
    talk = Talk(stream=stream)
    talk.ask_device(until=1.0)
    failed = talk.server.only(events.RequestFailed)
    assert (failed.reason, failed.peer) == ("unconnected", talk.to_device)
    talk.ask_server()
    talk.ask_device(2)
    answer = talk.server.only(events.ResponseReceived)
    assert (answer.peer, answer.payload) == (talk.to_device, b"3/0")
    assert talk.device.only(events.RequestReceived).peer == talk.to_server


@pytest.mark.spec("RFC 8613 7.4", "RFC 8613 8.2")
def test_a_replayed_request_is_answered_with_unauthorized_and_has_no_effect():
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    echo = echo_in(challenge, protected(5, 1))
    assert len(feed(server, protected(6, 2, echo=echo))) == 1
    assert len(server.of(events.RequestReceived)) == 1
    for number in (6, 5, 0):
        (answer,) = feed(server, protected(number, 100 + number))
        assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"Replay detected")
        assert answer.options == ((MAX_AGE, b""),)
    assert len(feed(server, protected(9, 3))) == 1
    assert len(feed(server, protected(8, 4))) == 1
    assert feed(server, protected(8, 5))[0].code == codes.UNAUTHORIZED
    assert len(server.of(events.RequestReceived)) == 3
    assert server.reasons() == ["oscore_replay"] * 4


@pytest.mark.spec("RFC 7252 4.5", "LwM2M-contract 1.3")
def test_a_duplicate_gets_the_same_bytes_from_memory():
    server = alone()
    first = feed(server, protected(5, 1))
    assert feed(server, protected(5, 1)) == first
    echo = echo_in(first[0], protected(5, 1))
    answer = feed(server, protected(6, 2, echo=echo))
    assert feed(server, protected(6, 2, echo=echo)) == answer
    assert len(server.of(events.RequestReceived)) == 1
    assert server.reasons() == []


@pytest.mark.spec("RFC 8613 8.2")
def test_what_cannot_be_read_is_answered_unprotected_and_a_non_confirmable_one_not_at_all():
    server = alone()
    (answer,) = feed(server, protected(1, 1, kid=b"who"))
    assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"Security context not found")
    assert answer.options == ((MAX_AGE, b""),)
    broken = bytearray(protected(1, 2))
    broken[-1] ^= 1
    assert feed(server, bytes(broken))[0].code == codes.BAD_REQUEST
    for value in (b"", b"\x29\1dev1", b"\x08dev1", b"\1\1", b"\x19\1\xff"):
        message = Message(CON, codes.POST, 50 + len(value), b"t", ((OSCORE, value),), b"ciphertext")
        assert feed(server, encode_message(message))[0].code == codes.BAD_OPTION
    empty = Message(CON, codes.POST, 90, b"t", ((OSCORE, b"\x09\1dev1"),))
    assert feed(server, encode_message(empty))[0].code == codes.BAD_OPTION
    assert server.reasons() == ["oscore_context", "oscore_decryption", *["oscore_option"] * 6]
    for data in (protected(1, 3, NON, kid=b"who"), bytes(broken[:2]) + b"\0\\9" + bytes(broken[4:])):
        quiet = bytearray(data)
        quiet[0] = quiet[0] & 0xCF | NON << 4
        assert feed(server, bytes(quiet)) == []
    assert server.of(events.RequestReceived) == []


@pytest.mark.spec("RFC 8613 8.2", "RFC 7252 5.4.1")
def test_where_it_is_not_spoken_the_option_is_an_unknown_critical_one():
    server = End(Endpoint(SeededEntropy(1)), server_material())
    assert feed(server, protected(1, 1))[0].code == codes.BAD_OPTION
    assert feed(server, protected(1, 2, NON)) == []
    assert server.of(events.ContextQuestion) == []


@pytest.mark.spec("RFC 7252 5.4.1", "RFC 8613 8.2")
def test_another_unknown_critical_option_outside_is_refused_before_anything_is_read():
    server = alone()
    message = decode_message(protected(1, 1))
    message.options = (*message.options, (9_999, b"?"))
    (answer,) = feed(server, encode_message(message))
    assert (answer.code, answer.payload) == (codes.BAD_OPTION, b"option 9999 unknown")
    assert server.of(events.ContextQuestion) == []


@pytest.mark.spec("RFC 7252 4.2", "LwM2M-contract 1.3")
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_a_bad_network_loses_no_request_and_runs_none_twice(seed: int):
    talk = Talk(seed=seed, loss=0.2, double=0.3)
    for handle in range(1, 6):
        talk.ask_server(handle, until=200.0, payload=bytes((handle,)), code=codes.POST)
    heard = [event.payload[0] for event in talk.server.of(events.RequestReceived)]
    answered = [event.handle for event in talk.device.of(events.ResponseReceived)]
    assert len(set(heard)) == len(heard)
    assert set(answered) <= set(heard)
    assert len(answered) + len(talk.device.of(events.RequestFailed)) == 5


@pytest.mark.spec("RFC 7959 2.9", "RFC 8613 4.1.3.4", "RFC 9175 3.3", "LwM2M-contract 1.5")
@pytest.mark.parametrize("stream", [False, True])
def test_bodies_of_five_kilobytes_go_both_ways_in_blocks_inside(stream: bool):
    talk = Talk(stream=stream)
    talk.server.on_request = lambda event: [actions.Respond(event.exchange, codes.CONTENT, payload=event.payload[::-1])]
    talk.device.on_request = talk.server.on_request
    talk.ask_server(code=codes.FETCH, content_format=42, payload=BODY)
    assert talk.device.only(events.ResponseReceived).payload == BODY[::-1]
    assert talk.server.only(events.RequestReceived).payload == BODY
    talk.ask_device(code=codes.FETCH, content_format=42, payload=BODY)
    assert talk.server.only(events.ResponseReceived).payload == BODY[::-1]
    if not stream:
        assert max(len(data) for data in talk.recorded + talk.sent_by_server) < 1152
        # The first block has met the challenge, so the second is the third request.
        block = deciphered(talk.recorded[2], Keys(server_material()))
        assert REQUEST_TAG in dict(block.options)


@pytest.mark.spec("RFC 8613 4.1.3.4.2")
def test_blocks_outside_are_put_together_before_anything_is_read():
    server = alone()
    message = decode_message(protected(1, 1))
    whole, size = message.payload, 16
    for number in range(-(-len(whole) // size)):
        more = (number + 1) * size < len(whole)
        block = encode_block(number, more, 0)
        part = Message(
            CON, codes.POST, 10 + number, b"t", (*message.options, (27, block)), whole[number * size :][:size]
        )
        (answer,) = feed(server, encode_message(part))
        assert answer.code == (codes.CONTINUE if more else codes.CHANGED)
    assert OSCORE in dict(answer.options)


@pytest.mark.spec("RFC 8613 8.4", "RFC 8613 D.4")
def test_a_forged_answer_ends_no_request_and_the_true_one_still_counts():
    talk = Talk()
    talk.ask_server()
    talk.loss = 1.0
    talk.ask_device(4, until=0.1)
    talk.loss = 0.0
    request = decode_message(talk.sent_by_server[-1])
    for kind, mid in ((2, request.mid), (NON, 77), (CON, 78)):
        forged = Message(kind, codes.CHANGED, mid, request.token, ((OSCORE, b""),), b"not the ciphertext")
        talk.feed(True, encode_message(forged))
        plain = Message(kind, codes.CONTENT, mid, request.token, (), b"plain")
        talk.feed(True, encode_message(plain))
    talk.run(10.0)
    assert talk.server.only(events.ResponseReceived).payload == b"3/0"
    assert talk.server.reasons().count("oscore_response") == 6


@pytest.mark.spec("RFC 8613 8.2")
def test_a_device_that_knows_the_context_no_more_fails_the_request_with_what_it_said():
    talk = Talk()
    talk.ask_server()
    talk.device = End(talk.engine(99), None)
    talk.ask_device(4)
    failed = talk.server.only(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("unprotected", "4.01 Security context not found")


@pytest.mark.spec("RFC 8613 8.4")
def test_what_anybody_says_without_protection_is_shown_as_harmless_text():
    talk = Talk()
    talk.ask_server()
    talk.loss = 1.0
    talk.ask_device(4, until=0.1)
    request = decode_message(talk.sent_by_server[-1])
    said = b"\x1b[2J\r\nerror: all is lost\xff" + b"!" * 200
    talk.feed(True, encode_message(Message(2, codes.UNAUTHORIZED, request.mid, request.token, (), said)))
    talk.run(0.0)
    failed = talk.server.only(events.RequestFailed)
    assert failed.reason == "unprotected"
    assert failed.detail.isprintable()
    assert len(failed.detail) < 80


@pytest.mark.spec("LwM2M-contract 2.1", "RFC 8613 8.1")
def test_a_device_that_moves_is_asked_where_its_newest_verified_message_came_from():
    talk = Talk()
    talk.ask_server()
    old = talk.recorded[-1]
    talk.at_server = MOVED
    talk.ask_server(2)
    moves = [event.carrier for event in talk.server.of(events.ContextMoved)]
    assert moves == [DEVICE_UDP, MOVED]
    # What is replayed from elsewhere moves nothing.
    talk.feed(True, old, PeerId("udp", "203.0.113.1", 1))
    talk.ask_device(3)
    assert talk.server.only(events.ResponseReceived).payload == b"3/0"
    assert len(talk.server.of(events.ContextMoved)) == 2


@pytest.mark.spec("RFC 8323 3.4")
def test_with_its_connection_a_context_is_unreachable_and_its_requests_are_lost():
    talk = Talk(stream=True)
    talk.ask_server()
    talk.device.on_request = lambda event: []
    talk.ask_device(3, until=1.0)
    talk.feed(True, b"")
    talk.run()
    assert talk.server.only(events.RequestFailed).reason == "lost"
    assert [event.peer for event in talk.server.of(events.ConnectionLost)] == [talk.at_server, talk.to_device]
    talk.ask_device(4, until=1.0)
    assert talk.server.of(events.RequestFailed)[-1].reason == "unconnected"


@pytest.mark.spec("LwM2M-contract 2.1")
def test_a_context_that_is_dropped_is_asked_for_again_and_its_requests_are_lost():
    talk = Talk()
    talk.ask_server()
    talk.device.on_request = lambda event: []
    talk.ask_device(3, until=1.0)
    talk.server.engine.submit(actions.DropContext(NUMBER), talk.now)
    talk.server.material = None
    talk.run()
    assert talk.server.only(events.RequestFailed).reason == "lost"
    talk.ask_server(2)
    assert talk.device.only(events.RequestFailed).reason == "unprotected"
    assert len(talk.server.of(events.RequestReceived)) == 1


@pytest.mark.spec("RFC 8613 8.2", "RFC 8613 4.1")
@pytest.mark.parametrize(
    ("around", "code"),
    [
        ((1, b"etag"), None),
        ((17, b"\1\2\3"), None),
        ((35, b"coap://elsewhere"), codes.PROXYING_NOT_SUPPORTED),
        ((OSCORE, b"twice"), codes.BAD_OPTION),
    ],
)
def test_what_belongs_inside_is_passed_over_outside(around: tuple[int, bytes], code: int | None):
    server = alone()
    message = decode_message(protected(5, 1))
    options = tuple(sorted((*message.options, around), key=lambda option: option[0]))
    (answer,) = feed(server, encode_message(replace(message, options=options)))
    if code is None:
        # The Echo of a first contact, protected.
        assert [number for number, _ in answer.options] == [OSCORE]
    else:
        assert answer.code == code


@pytest.mark.spec("RFC 8613 B.1.2", "RFC 8613 7.4")
def test_what_was_answered_with_an_echo_is_not_served_when_an_earlier_one_repeats_its_echo_late():
    server = alone()
    (challenge,) = feed(server, protected(0, 1))
    echo = echo_in(challenge, protected(0, 1))
    # Held back on the way: meanwhile its sender asks something else, and is asked for that once more.
    (second,) = feed(server, protected(2, 3))
    assert echo_in(second, protected(2, 3))
    assert len(feed(server, protected(1, 2, echo=echo))) == 1
    assert len(server.of(events.RequestReceived)) == 1
    (answer,) = feed(server, protected(2, 4))
    assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"Replay detected")
    feed(server, protected(3, 5, echo=echo))
    assert len(server.of(events.RequestReceived)) == 2
    (answer,) = feed(server, protected(1, 6, echo=echo))
    assert answer.payload == b"Replay detected"


@pytest.mark.spec("SEC-9")
def test_what_was_asked_under_a_context_that_is_dropped_is_not_answered():
    talk = Talk()
    talk.ask_server()
    held: list[int] = []
    talk.server.on_request = lambda event: held.append(event.exchange) or []
    talk.ask_server(2, until=1.5)
    sent = len(talk.sent_by_server)
    talk.server.engine.submit(actions.DropContext(NUMBER), talk.now)
    talk.server.engine.submit(actions.Respond(held[0], codes.CONTENT, payload=b"secret"), talk.now)
    talk.run(5.0)
    assert len(talk.sent_by_server) == sent


def test_plain_and_protected_requests_of_one_address_do_not_meet():
    talk = Talk()
    talk.ask_server()
    talk.device.engine.submit(actions.SendRequest(50, SERVER_UDP, codes.GET, b"plainest", ("p",)), talk.now)
    talk.ask_server(2)
    peers = [(event.peer, event.path) for event in talk.server.of(events.RequestReceived)]
    assert sorted(peers[1:]) == sorted([(DEVICE_UDP, ("p",)), (talk.to_device, ("a", "b"))])
    assert {event.handle for event in talk.device.of(events.ResponseReceived)} == {1, 2, 50}


@pytest.mark.spec("RFC 7252 5.2.2", "LwM2M-contract 1.3")
def test_a_late_answer_comes_separately_and_protected():
    talk = Talk()
    talk.ask_server()
    held: list[int] = []
    talk.server.on_request = lambda event: held.append(event.exchange) or []
    talk.ask_server(2, until=1.5)
    assert decode_message(talk.sent_by_server[-1]).code == codes.EMPTY
    talk.server.engine.submit(actions.Respond(held[0], codes.CHANGED), talk.now)
    talk.run(10.0)
    assert talk.device.of(events.ResponseReceived)[-1].code == codes.CHANGED
    separate = decode_message(talk.sent_by_server[-1])
    assert (separate.type, separate.code) == (CON, codes.CHANGED)
    assert OSCORE in dict(separate.options)


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_context_inside_a_secure_session_is_unreachable_when_that_ends():
    session = session_peer(b"sessions")
    server = alone(verified=True)
    (challenge,) = feed(server, protected(5, 1), peer=session)
    feed(server, protected(6, 2, echo=echo_in(challenge, protected(5, 1))), peer=session)
    context = server.only(events.RequestReceived).peer
    assert (context.carrier, context.is_session) == ("dtls", False)
    asked = actions.SendRequest(1, context, codes.GET, b"tokn", ("3",))
    server.engine.submit(asked, 0.0)
    server.engine.submit(actions.LosePeer(session, "closed"), 0.0)
    server.engine.submit(replace(asked, handle=2), 0.0)
    settle(server, 0.0)
    assert [event.reason for event in server.of(events.RequestFailed)] == ["lost", "unconnected"]


def test_parameters_of_a_context_hold_where_it_is_and_where_it_moves():
    talk = Talk()
    talk.ask_server()
    slow = Parameters(ack_timeout_s=10.0, ack_random_factor=1.0, block_size=64)
    talk.server.engine.submit(actions.SetParameters(talk.to_device, slow), talk.now)
    talk.at_server = MOVED
    talk.ask_server(2)
    talk.loss = 1.0
    sent = len(talk.sent_by_server)
    talk.ask_device(3, until=9.0, code=codes.PUT, payload=b"x" * 100)
    assert len(talk.sent_by_server) == sent + 1
    assert len(talk.sent_by_server[-1]) < 64 + 60
    talk.loss = 0.0
    talk.run(60.0)
    whole = talk.device.only(events.RequestReceived)
    assert whole.payload == b"x" * 100
    assert REQUEST_TAG in dict(whole.options)


@pytest.mark.spec("RFC 8613 7.4")
def test_a_message_that_was_overtaken_is_served_and_moves_nothing():
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    feed(server, protected(6, 2, echo=echo_in(challenge, protected(5, 1))))
    feed(server, protected(9, 3), peer=MOVED)
    assert len(feed(server, protected(8, 4))) == 1
    assert [event.carrier for event in server.of(events.ContextMoved)] == [DEVICE_UDP, MOVED]
    assert len(server.of(events.RequestReceived)) == 3


@pytest.mark.spec("LwM2M-contract 4")
def test_a_request_that_waits_for_our_answers_follows_a_separate_protected_one():
    talk = Talk()
    talk.ask_server()
    held: list[int] = []
    talk.server.on_request = lambda event: held.append(event.exchange) or []
    talk.ask_server(2, until=1.5)
    talk.loss = 1.0
    talk.server.engine.submit(actions.Respond(held[0], codes.CHANGED), talk.now)
    asked = actions.SendRequest(3, talk.to_device, codes.GET, b"tokn", ("3",), after_answers=True)
    talk.server.engine.submit(asked, talk.now)
    sent = len(talk.sent_by_server)
    talk.run(0.1)
    assert len(talk.sent_by_server) == sent + 1
    talk.loss = 0.0
    talk.run(10.0)
    assert talk.device.of(events.ResponseReceived)[-1].handle == 2
    assert talk.server.only(events.ResponseReceived).handle == 3


@pytest.mark.spec("RFC 8323 5.5")
def test_over_a_connection_that_its_peer_releases_what_was_asked_ends_in_peace_and_nothing_new_begins():
    talk = Talk(stream=True)
    talk.ask_server()
    held: list[int] = []
    talk.device.on_request = lambda event: held.append(event.exchange) or []
    talk.ask_device(2, until=0.1)
    talk.ask_device(3, until=0.1)
    talk.feed(True, encode_release(ReleaseNotice()))
    talk.ask_device(4, until=1.0)
    assert [(event.handle, event.reason) for event in talk.server.of(events.RequestFailed)] == [
        (3, "unconnected"),
        (4, "unconnected"),
    ]
    talk.device.engine.submit(actions.Respond(held[0], codes.CONTENT, payload=b"late"), talk.now)
    talk.run(1.0)
    assert talk.server.only(events.ResponseReceived).payload == b"late"
    assert [event.peer for event in talk.server.of(events.ConnectionLost)] == [talk.at_server, talk.to_device]
