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
    device_material,
    server_material,
)

from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import CON, NON, Message, decode_message, encode_message
from stellwerk.coap.options import ECHO, MAX_AGE, OBSERVE, OSCORE, REQUEST_TAG, URI_PATH, encode_block
from stellwerk.coap.oscore.context import Keys
from stellwerk.coap.oscore.option import OscoreOption, decode_option, encode_option
from stellwerk.coap.oscore.protection import bind, open_request, open_response, seal_request, seal_response
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, Limits, Parameters
from stellwerk.core.ids import PeerId, session_peer

BODY = bytes(range(256)) * 20


def deciphered(data: bytes, keys: Keys) -> Message:
    """The request in a datagram of the device, as ``keys`` of the server read it."""
    message = decode_message(data)
    option = decode_option(dict(message.options)[OSCORE])
    opened, _ = open_request(keys, option, message.options, message.payload)
    return Message(message.type, opened.code, message.mid, message.token, opened.options, opened.payload)


def alone(**how: object) -> End:
    """A server that is fed by hand."""
    return End(Endpoint(SeededEntropy(5), oscore=True, **how), server_material())  # type: ignore[arg-type]


def feed(end: End, data: bytes, now: float = 0.0, peer: PeerId = DEVICE_UDP) -> list[Message]:
    """What ``end`` sends when ``data`` came and its application has reacted."""
    end.engine.feed(data, peer=peer, now=now)  # type: ignore[attr-defined]
    return settle(end, now)


def settle(end: End, now: float) -> list[Message]:
    while found := end.engine.take_events():
        for event in found:
            end.handle(event, now)
    return [decode_message(data) for _, data in end.engine.take_datagrams()]


def protected(number: int, mid: int, kind: int = CON, kid: bytes = b"dev1", echo: bytes = b"") -> bytes:
    """A request of the device by hand."""
    options = ((URI_PATH, b"rd"), (ECHO, echo)) if echo else ((URI_PATH, b"rd"),)
    sealed, binding = seal_request(Keys(device_material()), number, codes.POST, options, b"x" * 30, None)
    value = encode_option(OscoreOption(binding.piv, kid))
    return encode_message(Message(kind, codes.POST, mid, b"tokn", ((OSCORE, value),), sealed.payload))


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
    echo = _echo_in(challenge, protected(5, 1))
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


def _echo_in(answer: Message, request: bytes, *, numbered: bool = True) -> bytes:
    """The Echo in a protected 4.01."""
    keys, message = Keys(device_material()), decode_message(request)
    piv = decode_option(dict(message.options)[OSCORE]).piv
    assert piv is not None
    option = decode_option(dict(answer.options)[OSCORE])
    assert (option.piv is not None) == numbered, "a replayed request would be answered twice with one nonce"
    opened = open_response(keys, bind(keys, b"dev1", piv), option, (), answer.payload)
    assert opened.code == codes.UNAUTHORIZED
    return dict(opened.options)[ECHO]


@pytest.mark.spec("RFC 7252 4.5", "LwM2M-contract 1.3")
def test_a_duplicate_gets_the_same_bytes_from_memory():
    server = alone()
    first = feed(server, protected(5, 1))
    assert feed(server, protected(5, 1)) == first
    echo = _echo_in(first[0], protected(5, 1))
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


@pytest.mark.spec("LwM2M-contract 15")
def test_a_flood_of_unknown_contexts_leaves_no_question_behind():
    server = alone(limits=Limits(questions_total=16))
    server.answers_questions = False
    for mid in range(40):
        feed(server, protected(1, mid, kid=b"%d" % mid))
    assert len(server.of(events.ContextQuestion)) == 16
    assert server.reasons() == ["questions_total"] * 24
    server.engine.tick(31.0)
    settle(server, 31.0)
    assert server.reasons()[24:] == ["oscore_question"] * 16
    # Its repetition is a new request then.
    server.answers_questions = True
    assert [each.code for each in feed(server, protected(1, 0, kid=b"0"), 32.0)] == [codes.UNAUTHORIZED]


@pytest.mark.spec("RFC 8613 8.2")
def test_requests_that_come_while_their_context_is_asked_for_wait_for_one_answer():
    server = alone()
    server.answers_questions = False
    for mid in (1, 2):
        assert feed(server, protected(mid, mid)) == []
    question = server.only(events.ContextQuestion)
    assert (question.kid, question.kid_context, question.peer) == (b"dev1", None, DEVICE_UDP)
    server.engine.submit(actions.GiveContext(question.question, server_material()), 0.5)
    assert len(settle(server, 0.5)) == 2


@pytest.mark.spec("RFC 8613 3.3")
def test_material_that_makes_no_context_counts_as_none_and_is_told():
    server = alone()
    server.material = server_material(aead=99)
    assert feed(server, protected(1, 1))[0].payload == b"Security context not found"
    assert server.reasons() == ["oscore_material", "oscore_context"]


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


@pytest.mark.spec("RFC 8613 4.1.3.5", "RFC 7641 3.1", "LwM2M-contract 1.6")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("confirmable", [False, True])
def test_notifications_come_protected_in_order_until_they_are_cancelled(stream: bool, confirmable: bool):
    talk = Talk(stream=stream)
    talk.ask_server()
    talk.device.on_request = lambda event: [
        actions.Respond(event.exchange, codes.CONTENT, options=((OBSERVE, b"\1"),), payload=b"first")
    ]
    talk.ask_device(5, observe=0, token=b"observed")
    answer = talk.server.only(events.ResponseReceived)
    assert answer.observe is not None
    assert answer.binding
    outer = decode_message(talk.sent_by_server[-1]) if not stream else None
    if outer is not None:
        assert any(decode_message(data).code == codes.FETCH for data in talk.sent_by_server)
    for count in range(3):
        talk.device.engine.submit(
            actions.SendNotification(
                count,
                talk.to_server,
                b"observed",
                codes.CONTENT,
                count + 2,
                payload=b"n%d" % count,
                confirmable=confirmable,
            ),
            talk.now,
        )
        talk.run(5.0)
    found = talk.server.of(events.NotificationReceived)
    assert [event.payload for event in found] == [b"n0", b"n1", b"n2"]
    assert {event.peer for event in found} == {talk.to_device}
    assert {event.handle for event in found} == {5}
    if confirmable:
        assert len(talk.device.of(events.NotificationAcked)) == 3
    talk.device.on_request = lambda event: [actions.Respond(event.exchange, codes.CONTENT, payload=b"last")]
    talk.ask_device(6, observe=1, token=b"observed")
    assert talk.server.of(events.ResponseReceived)[-1].payload == b"last"


@pytest.mark.spec("RFC 8613 7.4.1", "RFC 8613 8.4")
def test_a_notification_that_is_older_than_one_before_is_not_told():
    talk = _observed()
    sent = len(talk.recorded)
    talk.loss = 1.0
    for count in range(2):
        talk.device.engine.submit(
            actions.SendNotification(count, talk.to_server, b"observed", codes.CONTENT, count, payload=b"n%d" % count),
            talk.now,
        )
        talk.run(0.1)
    talk.loss = 0.0
    older, newer = talk.recorded[sent:]
    for data in (newer, older, newer):
        talk.feed(True, data)
    talk.run(1.0)
    assert [event.payload for event in talk.server.of(events.NotificationReceived)] == [b"n1"]
    assert "stale" in talk.server.reasons()


@pytest.mark.spec("RFC 8613 7.4.1", "RFC 8613 8.4")
def test_only_one_answer_comes_with_the_nonce_of_the_request_and_it_is_the_oldest():
    talk = _observed()
    first = talk.server.only(events.ResponseReceived)
    request = decode_message(talk.sent_by_server[-1])
    keys = Keys(device_material())
    binding = bind(keys, b"srv", first.binding)
    assert request.token == b"observed"
    for mid in (1, 2):
        sealed = seal_response(keys, binding, None, codes.CONTENT, ((OBSERVE, b""),), b"%d" % mid)
        options = ((OBSERVE, b""), (OSCORE, b""))
        talk.feed(True, encode_message(Message(NON, sealed.code, mid, request.token, options, sealed.payload)))
        talk.run(1.0)
    assert [event.payload for event in talk.server.of(events.NotificationReceived)] == [b"1"]
    assert talk.server.reasons() == ["stale"]


def _observed() -> Talk:
    talk = Talk()
    talk.ask_server()
    talk.device.on_request = lambda event: [
        actions.Respond(event.exchange, codes.CONTENT, options=((OBSERVE, b"\1"),), payload=b"first")
    ]
    talk.ask_device(5, observe=0, token=b"observed")
    return talk


@pytest.mark.spec("RFC 7641 3.6")
def test_a_notification_that_nobody_wants_is_reset():
    talk = _observed()
    talk.server.engine.submit(actions.ForgetObservation(talk.to_device, b"observed"), talk.now)
    notification = actions.SendNotification(
        1, talk.to_server, b"observed", codes.CONTENT, 2, payload=b"n", confirmable=True
    )
    talk.device.engine.submit(notification, talk.now)
    talk.run(5.0)
    assert talk.server.only(events.TokenQuestion).peer == talk.to_device
    assert talk.device.only(events.NotificationRejected).reason == "reset"
    assert talk.server.of(events.NotificationReceived) == []


@pytest.mark.spec("LwM2M-contract 1.6", "RFC 8613 8.4")
def test_after_a_restart_a_notification_is_verified_with_the_binding_that_was_stored():
    talk = _observed()
    binding = talk.server.only(events.ResponseReceived).binding
    talk.restart_server()
    talk.ask_server(2)
    request = actions.SendRequest(5, talk.to_device, codes.GET, b"observed", ("3", "0"), observe=0)
    notify = actions.SendNotification(1, talk.to_server, b"observed", codes.CONTENT, 2, payload=b"n", confirmable=True)
    talk.device.engine.submit(notify, talk.now)
    talk.server.handle = _adopting(talk, request, binding)  # type: ignore[method-assign]
    talk.run(5.0)
    found = talk.server.only(events.NotificationReceived)
    assert (found.payload, found.handle, found.peer) == (b"n", 5, talk.to_device)


@pytest.mark.spec("RFC 8613 7.5", "RFC 8613 B.1.3")
def test_after_a_restart_no_notification_of_before_is_taken_again():
    talk = _observed()
    binding = talk.server.only(events.ResponseReceived).binding

    def notify(count: int) -> bytes:
        notification = actions.SendNotification(
            count, talk.to_server, b"observed", codes.CONTENT, count, payload=b"n%d" % count, confirmable=True
        )
        talk.device.engine.submit(notification, talk.now)
        talk.run(5.0)
        return next(data for data in reversed(talk.recorded) if decode_message(data).code == codes.CONTENT)

    old = notify(1)
    talk.restart_server()
    talk.ask_server(2)
    request = actions.SendRequest(5, talk.to_device, codes.GET, b"observed", ("3", "0"), observe=0)
    talk.server.handle = _adopting(talk, request, binding)  # type: ignore[method-assign]
    for _ in range(2):
        talk.feed(True, old)
        talk.run(1.0)
    assert talk.server.of(events.NotificationReceived) == []
    assert "stale" in talk.server.reasons()
    notify(2)
    assert talk.server.only(events.NotificationReceived).payload == b"n2"


def _adopting(talk: Talk, request: actions.SendRequest, binding: bytes):  # type: ignore[no-untyped-def]
    handle, end = talk.server.handle, talk.server

    def adopt(event: events.Event, now: float) -> None:
        if isinstance(event, events.TokenQuestion):
            end.known_tokens[event.token] = actions.AdoptObservation(
                5, event.peer, event.token, event.exchange, request, binding
            )
        handle(event, now)

    return adopt


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


def test_idle_contexts_make_room_and_come_back_with_a_new_window():
    server = alone(limits=Limits(contexts_total=1))
    (challenge,) = feed(server, protected(5, 1))
    echo = _echo_in(challenge, protected(5, 1))
    feed(server, protected(6, 2, echo=echo))
    assert len(server.of(events.RequestReceived)) == 1
    other = server_material(unused=0)
    server.material = replace(other, number=8, recipient_id=b"dev2")
    feed(server, protected(1, 3, kid=b"dev2"))
    server.material = server_material(unused=256, ceiling=512)
    # The Echo of before serves no more: what was served with it could be replayed.
    (again,) = feed(server, protected(6, 4, echo=echo))
    assert _echo_in(again, protected(6, 4)) != echo
    assert len(server.of(events.RequestReceived)) == 1


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_datagram_is_survived_and_serves_nothing(at: int, bit: int):
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    good = protected(6, 2, echo=_echo_in(challenge, protected(5, 1)))
    header = 8
    changed = bytearray(good)
    changed[header + at % (len(good) - header)] ^= 1 << bit
    feed(server, bytes(changed))
    # Without its option it is a plain request.
    assert not any(event.peer.is_context for event in server.of(events.RequestReceived))
    feed(server, good, EXCHANGE_LIFETIME_S / 10)
    assert [event.peer.is_context for event in server.of(events.RequestReceived)][-1]


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


@pytest.mark.spec("LwM2M-contract 1.7", "LwM2M-contract 15")
def test_a_large_answer_goes_only_to_an_address_that_has_repeated_an_echo():
    server = alone()
    server.on_request = lambda event: [actions.Respond(event.exchange, codes.CONTENT, payload=b"x" * 900)]
    (challenge,) = feed(server, protected(5, 1))
    feed(server, protected(6, 2, echo=_echo_in(challenge, protected(5, 1))))
    thief = PeerId("udp", "203.0.113.1", 999, "192.0.2.1", 5683)
    (answer,) = feed(server, protected(7, 3), peer=thief)
    assert len(answer.payload) < 40
    echo = _echo_in(answer, protected(7, 3), numbered=False)
    (answer,) = feed(server, protected(8, 4, echo=echo), peer=thief)
    assert len(answer.payload) > 900


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_context_inside_a_secure_session_is_unreachable_when_that_ends():
    session = session_peer(b"sessions")
    server = alone(verified=True)
    (challenge,) = feed(server, protected(5, 1), peer=session)
    feed(server, protected(6, 2, echo=_echo_in(challenge, protected(5, 1))), peer=session)
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


def test_nothing_is_left_of_tokens_whose_requests_are_over():
    talk = _observed()
    talk.device.on_request = lambda event: []
    for handle in (10, 11):
        talk.ask_device(handle, until=300.0)
    assert {event.handle for event in talk.server.of(events.RequestFailed)} == {10, 11}
    carrier = talk.server.engine._base.peers.find(DEVICE_UDP)
    assert carrier is not None
    assert list(carrier.guarded or ()) == [b"observed"]
    talk.server.engine.submit(actions.ForgetPeer(talk.to_device), talk.now)
    assert carrier.guarded is None


@pytest.mark.spec("RFC 8613 7.4")
def test_a_message_that_was_overtaken_is_served_and_moves_nothing():
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    feed(server, protected(6, 2, echo=_echo_in(challenge, protected(5, 1))))
    feed(server, protected(9, 3), peer=MOVED)
    assert len(feed(server, protected(8, 4))) == 1
    assert [event.carrier for event in server.of(events.ContextMoved)] == [DEVICE_UDP, MOVED]
    assert len(server.of(events.RequestReceived)) == 3


@pytest.mark.spec("LwM2M-contract 15")
def test_an_address_where_a_context_was_heard_gets_no_more_unasked_than_its_bytes_pay_for():
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    feed(server, protected(6, 2, echo=_echo_in(challenge, protected(5, 1))))
    request = protected(7, 3)
    feed(server, request, peer=MOVED)
    context = server.of(events.RequestReceived)[0].peer
    server.engine.submit(actions.SendRequest(1, context, codes.PUT, b"tokn", ("5", "0", "0"), payload=b"x" * 900), 0.0)
    sent = settle(server, 0.0)
    while (due := server.engine.deadline()) is not None and due < 100.0:
        server.engine.tick(due)
        sent += settle(server, due)
    assert sum(len(encode_message(message)) for message in sent) <= 3 * len(request)
    assert server.only(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("LwM2M-contract 15")
def test_no_more_than_a_few_requests_wait_for_one_context():
    server = alone()
    server.answers_questions = False
    for mid in range(12):
        feed(server, protected(mid, mid))
    assert server.reasons() == ["questions_total"] * 4
    server.engine.submit(actions.NoContext(server.only(events.ContextQuestion).question), 1.0)
    assert len(settle(server, 1.0)) == 8


@pytest.mark.spec("MSG-14", "RFC 8613 B.2.1")
def test_while_nobody_can_look_for_a_context_a_request_is_put_off():
    server = alone()
    server.answers_questions = False
    feed(server, protected(1, 1))
    server.engine.submit(actions.NoContext(server.only(events.ContextQuestion).question, is_busy=True), 1.0)
    (answer,) = settle(server, 1.0)
    assert (answer.code, dict(answer.options)[MAX_AGE]) == (codes.SERVICE_UNAVAILABLE, b"\5")
    server.answers_questions = True
    (challenge,) = feed(server, protected(2, 2), now=6.0)
    assert OSCORE in dict(challenge.options)


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
