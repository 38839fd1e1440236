"""What strangers can cause who know the names of contexts: little is kept, little is sent, nothing is believed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oscore_wire import (
    DEVICE_UDP,
    MOVED,
    alone,
    echo_in,
    feed,
    protected,
    server_material,
    settle,
)

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import encode_message
from stellwerk.coap.options import MAX_AGE, OSCORE
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, Limits
from stellwerk.core.ids import PeerId


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


def test_idle_contexts_make_room_and_come_back_with_a_new_window():
    server = alone(limits=Limits(contexts_total=1))
    (challenge,) = feed(server, protected(5, 1))
    echo = echo_in(challenge, protected(5, 1))
    feed(server, protected(6, 2, echo=echo))
    assert len(server.of(events.RequestReceived)) == 1
    other = server_material(unused=0)
    server.material = replace(other, number=8, recipient_id=b"dev2")
    feed(server, protected(1, 3, kid=b"dev2"))
    server.material = server_material(unused=256, ceiling=512)
    # The Echo of before serves no more: what was served with it could be replayed.
    (again,) = feed(server, protected(6, 4, echo=echo))
    assert echo_in(again, protected(6, 4)) != echo
    assert len(server.of(events.RequestReceived)) == 1


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_datagram_is_survived_and_serves_nothing(at: int, bit: int):
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    good = protected(6, 2, echo=echo_in(challenge, protected(5, 1)))
    header = 8
    changed = bytearray(good)
    changed[header + at % (len(good) - header)] ^= 1 << bit
    feed(server, bytes(changed))
    # Without its option it is a plain request.
    assert not any(event.peer.is_context for event in server.of(events.RequestReceived))
    feed(server, good, EXCHANGE_LIFETIME_S / 10)
    assert [event.peer.is_context for event in server.of(events.RequestReceived)][-1]


@pytest.mark.spec("LwM2M-contract 1.7", "LwM2M-contract 15")
def test_a_large_answer_goes_only_to_an_address_that_has_repeated_an_echo():
    server = alone()
    server.on_request = lambda event: [actions.Respond(event.exchange, codes.CONTENT, payload=b"x" * 900)]
    (challenge,) = feed(server, protected(5, 1))
    feed(server, protected(6, 2, echo=echo_in(challenge, protected(5, 1))))
    thief = PeerId("udp", "203.0.113.1", 999, "192.0.2.1", 5683)
    (answer,) = feed(server, protected(7, 3), peer=thief)
    assert len(answer.payload) < 40
    echo = echo_in(answer, protected(7, 3), numbered=False)
    (answer,) = feed(server, protected(8, 4, echo=echo), peer=thief)
    assert len(answer.payload) > 900


@pytest.mark.spec("LwM2M-contract 15")
def test_an_address_where_a_context_was_heard_gets_no_more_unasked_than_its_bytes_pay_for():
    server = alone()
    (challenge,) = feed(server, protected(5, 1))
    feed(server, protected(6, 2, echo=echo_in(challenge, protected(5, 1))))
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
