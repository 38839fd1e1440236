"""The server role: rules for options, blocks that arrive, large answers, unverified peers, being observed."""

import tracemalloc

import pytest
from coap_wire import DEVICE, Bench, ack, con, non, rst

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import ACK, CON, NON, Message, encode_message
from stellwerk.coap.options import (
    BLOCK1,
    BLOCK2,
    ECHO,
    ETAG,
    OBSERVE,
    REQUEST_TAG,
    SIZE1,
    SIZE2,
    encode_block,
    read_options,
)
from stellwerk.coap.parameters import Limits, Parameters


def value(message: Message, number: int) -> bytes | None:
    return next((value for found, value in message.options if found == number), None)


def block(message: Message, number: int) -> tuple[int, bool, int] | None:
    view = read_options(message.options)
    return view.block1 if number == BLOCK1 else view.block2


def verified(**how) -> Bench:
    bench = Bench(**how)
    bench.submit(actions.VerifyPeer(DEVICE))
    return bench


# --- requests and their options ----------------------------------------------------------------------------------


def test_a_request_is_told_whole():
    bench = Bench()
    bench.feed(con(codes.POST, 9, b"tk", path=("rd", "k7x"), query=("lt=60", "Q"), content_format=40, payload=b"</3>"))
    got = bench.event(events.RequestReceived)
    assert (got.peer, got.code, got.path, got.query) == (DEVICE, codes.POST, ("rd", "k7x"), ("lt=60", "Q"))
    assert (got.content_format, got.accept, got.payload, got.token, got.confirmable) == (40, None, b"</3>", b"tk", True)


def test_a_non_confirmable_request_gets_a_non_confirmable_answer():
    bench = Bench()
    bench.feed(non(codes.POST, 9, b"", path=("dp",), payload=b"x"))
    got = bench.event(events.RequestReceived)
    assert (got.token, got.confirmable) == (b"", False)
    bench.submit(actions.Respond(got.exchange, codes.CHANGED))
    (answer,) = bench.sent()
    assert (answer.type, answer.code, answer.token) == (NON, codes.CHANGED, b"")
    bench.after(5)
    assert bench.sent() == []


@pytest.mark.spec("RFC 7252 5.4.1")
def test_an_unknown_critical_option_is_refused_by_name():
    bench = verified()
    request = con(codes.POST, 7, path=("rd",), options=((65, b"x"),))
    bench.feed(request)
    (answer,) = bench.sent()
    assert (answer.type, answer.code, answer.payload) == (ACK, codes.BAD_OPTION, b"option 65 unknown")
    assert bench.event(events.Refused).reason == "4.02"
    bench.feed(request)
    assert bench.sent() == [answer]
    assert bench.events() == []


@pytest.mark.spec("RFC 7252 5.4.1")
def test_an_unknown_critical_option_in_a_non_confirmable_request_is_met_with_silence():
    bench = verified()
    bench.feed(non(codes.POST, 7, path=("rd",), options=((65, b"x"),)))
    assert bench.sent() == []
    assert bench.event(events.Refused).reason == "4.02"


@pytest.mark.spec("RFC 7252 5.4.1")
def test_an_unknown_elective_option_is_ignored():
    bench = Bench()
    bench.feed(con(codes.POST, 7, path=("rd",), options=((66, b"x"), (258, b""))))
    assert bench.event(events.RequestReceived).path == ("rd",)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (((35, b"coap://x/"),), codes.PROXYING_NOT_SUPPORTED),
        (((39, b"coap"),), codes.PROXYING_NOT_SUPPORTED),
        (((1, b"e"),), codes.PRECONDITION_FAILED),
        (((5, b""),), codes.PRECONDITION_FAILED),
        (((17, b"\x28"), (17, b"\x29")), codes.BAD_OPTION),
        (((11, b"\xff"),), codes.BAD_OPTION),
        (((27, b"\x07"),), codes.BAD_REQUEST),
    ],
)
@pytest.mark.spec("RFC 7252 5.10")
def test_requests_that_cannot_be_served_say_why(options, code):
    bench = Bench()
    bench.feed(con(codes.POST, 7, options=options))
    assert bench.sent()[0].code == code


@pytest.mark.spec("RFC 7252 5.8")
@pytest.mark.parametrize("code", [8, 31])
def test_an_unknown_method_is_not_allowed(code):
    bench = Bench()
    bench.feed(con(code, 7, path=("rd",)))
    assert bench.sent()[0].code == codes.METHOD_NOT_ALLOWED


@pytest.mark.spec("RFC 7252 4.2")
def test_a_request_that_is_rejected_gets_a_reset_and_so_do_its_repetitions():
    bench = Bench()
    for _ in range(2):
        bench.feed(con(codes.GET, 7, path=("3", "0")))
        for received in bench.events():
            bench.submit(actions.RejectRequest(received.exchange))
        assert bench.sent() == [rst(7)]


def test_an_answer_to_nothing_open_is_ignored():
    bench = Bench()
    bench.submit(actions.Respond(99, codes.CHANGED), actions.Proceed(99), actions.Recall(99, codes.CHANGED))
    bench.submit(actions.Drop(99), actions.AcceptNotification(99), actions.RejectToken(99), actions.CancelRequest(99))
    bench.submit(actions.RejectRequest(99))
    assert (bench.sent(), bench.events()) == ([], [])


def test_a_dropped_request_is_new_when_it_comes_again():
    bench = Bench()
    bench.feed(con(codes.POST, 7, path=("dp",)))
    first = bench.event(events.RequestReceived)
    bench.submit(actions.Drop(first.exchange))
    bench.feed(con(codes.POST, 7, path=("dp",)))
    assert bench.event(events.RequestReceived).receipt == first.receipt
    assert bench.sent() == []


# --- bodies in blocks (Block1) -----------------------------------------------------------------------------------


def part(mid, number, more, exponent=2, size=None, body=None, path=("rd",), extra=(), token=b"t"):
    data = bytes([number & 0xFF]) * (size if size is not None else 16 << exponent) if body is None else body
    options = ((BLOCK1, encode_block(number, more, exponent)), *extra)
    return con(codes.POST, mid, token, path=path, content_format=40, options=options, payload=data)


@pytest.mark.spec("BLK-1", "BLK-3", "BLK-7", "RFC 7959 2.5")
def test_a_body_in_blocks_arrives_once_and_whole():
    bench = Bench()
    bench.feed(part(1, 0, True))
    (answer,) = bench.sent()
    assert (answer.type, answer.code, block(answer, BLOCK1)) == (ACK, codes.CONTINUE, (0, True, 2))
    bench.feed(part(2, 1, True))
    assert bench.sent()[0].code == codes.CONTINUE
    assert bench.events() == []
    last = part(3, 2, False, size=5)
    bench.feed(last)
    got = bench.event(events.RequestReceived)
    assert got.payload == bytes([0]) * 64 + bytes([1]) * 64 + bytes([2]) * 5
    bench.submit(actions.Respond(got.exchange, codes.CREATED, ("rd", "1")))
    (answer,) = bench.sent()
    assert (answer.code, block(answer, BLOCK1)) == (codes.CREATED, (2, False, 2))
    bench.feed(last)
    assert bench.sent() == [answer]


@pytest.mark.spec("BLK-3")
def test_a_single_block_is_a_whole_body():
    bench = Bench()
    bench.feed(part(1, 0, False, size=5))
    got = bench.event(events.RequestReceived)
    assert got.payload == bytes(5)
    bench.submit(actions.Respond(got.exchange, codes.CHANGED))
    assert block(bench.sent()[0], BLOCK1) == (0, False, 2)


@pytest.mark.spec("BLK-5", "RFC 7959 2.9.2")
def test_a_gap_is_answered_incomplete_and_ends_the_transfer():
    bench = Bench()
    bench.feed(part(1, 3, True))
    assert bench.sent()[0].code == codes.REQUEST_ENTITY_INCOMPLETE
    bench.feed(part(2, 0, True), part(3, 2, True))
    assert [message.code for message in bench.sent()] == [codes.CONTINUE, codes.REQUEST_ENTITY_INCOMPLETE]
    bench.feed(part(4, 1, True))
    assert bench.sent()[0].code == codes.REQUEST_ENTITY_INCOMPLETE
    assert {event.reason for event in bench.events()} == {"4.08"}


@pytest.mark.spec("BLK-7", "BLK-12")
def test_block_0_starts_anew():
    bench = Bench()
    bench.feed(part(1, 0, True), part(2, 1, True), part(3, 0, True, body=b"n" * 64), part(4, 1, False, size=1))
    assert bench.event(events.RequestReceived).payload == b"n" * 64 + b"\x01"


def test_the_last_block_may_come_again_under_a_new_message_id():
    bench = Bench()
    bench.feed(part(1, 0, True), part(2, 1, True), part(3, 1, True), part(4, 2, False, size=1))
    assert len(bench.event(events.RequestReceived).payload) == 129


@pytest.mark.spec("RFC 7959 2.2")
def test_a_block_that_is_not_full_is_refused():
    bench = Bench()
    bench.feed(part(1, 0, True, size=63))
    assert bench.sent()[0].code == codes.BAD_REQUEST


@pytest.mark.spec("BLK-6", "BLK-11", "RFC 7959 2.9.3")
def test_a_body_over_the_bound_of_its_path_is_too_large():
    bench = Bench(limits=Limits(body_bytes=1000), body_bytes_by_path={("rd",): 100, ("rd", "big"): 200})
    bench.feed(part(1, 0, True), part(2, 1, True))
    answer = bench.sent()[1]
    assert (answer.code, value(answer, SIZE1)) == (codes.REQUEST_ENTITY_TOO_LARGE, b"\x64")
    bench.feed(part(3, 0, True, path=("rd", "big"), extra=((SIZE1, b"\x01\x00"),)))
    assert bench.sent()[0].code == codes.REQUEST_ENTITY_TOO_LARGE
    bench.feed(part(4, 0, True, path=("rd", "big"), extra=((SIZE1, b"\xc8"),)))
    assert bench.sent()[0].code == codes.CONTINUE
    bench.feed(part(5, 0, True, path=("dp",), extra=((SIZE1, b"\x03\xe8"),)))
    assert bench.sent()[0].code == codes.CONTINUE


@pytest.mark.spec("BLK-4", "RFC 7959 2.5")
def test_we_may_ask_for_smaller_blocks_and_the_client_goes_on_at_the_same_byte():
    bench = Bench(parameters=Parameters(block_size=32))
    bench.feed(part(1, 0, True))
    assert block(bench.sent()[0], BLOCK1) == (0, True, 1)
    bench.feed(part(2, 2, True, exponent=1), part(3, 3, False, exponent=1, size=3))
    assert bench.event(events.RequestReceived).payload == bytes(64) + b"\x02" * 32 + b"\x03" * 3


@pytest.mark.spec("RFC 9175 3.3")
def test_transfers_with_different_tags_do_not_mix():
    bench = Bench()
    one, two = ((REQUEST_TAG, b"1"),), ((REQUEST_TAG, b"2"),)
    bench.feed(part(1, 0, True, extra=one), part(2, 0, True, body=b"b" * 64, extra=two))
    bench.feed(part(3, 1, False, size=1, extra=one))
    assert bench.event(events.RequestReceived).payload == bytes(64) + b"\x01"
    bench.feed(part(4, 1, False, size=1, extra=two))
    assert bench.event(events.RequestReceived).payload == b"b" * 64 + b"\x01"


@pytest.mark.spec("BLK-11", "BLK-12")
def test_a_peer_has_few_bodies_and_the_oldest_makes_room():
    bench = Bench(limits=Limits(bodies_per_peer=2))
    bench.feed(*(part(mid, 0, True, path=(str(mid),)) for mid in (1, 2, 3)))
    assert [message.code for message in bench.sent()] == [codes.CONTINUE] * 3
    bench.feed(*(part(10 + mid, 1, True, path=(str(mid),)) for mid in (1, 2, 3)))
    assert [message.code for message in bench.sent()] == [codes.REQUEST_ENTITY_INCOMPLETE, *[codes.CONTINUE] * 2]


@pytest.mark.spec("BLK-11")
def test_all_bodies_together_are_bounded():
    bench = Bench(limits=Limits(bodies_total_bytes=128, bodies_per_peer=9))
    bench.feed(*(part(mid, 0, True, path=(str(mid),)) for mid in (1, 2, 3)))
    assert [message.code for message in bench.sent()] == [*[codes.CONTINUE] * 2, codes.SERVICE_UNAVAILABLE]
    bench.after(93.1)
    bench.feed(part(4, 0, True))
    assert bench.sent()[0].code == codes.CONTINUE


@pytest.mark.spec("BLK-11")
def test_a_transfer_that_is_begun_over_and_over_holds_no_more_than_one_body():
    bench = Bench()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for mid in range(5_000):
        bench.feed(part(mid, 0, True, exponent=6))
        bench.sent()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 256 * 1024


@pytest.mark.spec("BLK-11", "BLK-12")
def test_the_idle_time_counts_from_the_last_block():
    bench = Bench(limits=Limits(block_idle_s=50))
    bench.feed(part(1, 0, True))
    bench.after(49)
    bench.feed(part(2, 1, True))
    bench.after(49)
    bench.feed(part(3, 2, True))
    bench.after(51)
    bench.feed(part(4, 3, True))
    codes_sent = [message.code for message in bench.sent()]
    assert codes_sent == [codes.CONTINUE] * 3 + [codes.REQUEST_ENTITY_INCOMPLETE]


@pytest.mark.spec("MSG-1", "BLK-7")
def test_after_a_restart_only_the_last_block_is_asked_about():
    bench = Bench(ask_until=100.0)
    bench.feed(part(1, 0, True))
    assert bench.sent()[0].code == codes.CONTINUE
    bench.feed(part(9, 5, False, size=3))
    question = bench.event(events.RequestQuestion)
    bench.submit(actions.Recall(question.exchange, codes.CREATED, ("rd", "1")))
    (answer,) = bench.sent()
    assert (answer.code, block(answer, BLOCK1)) == (codes.CREATED, (5, False, 2))
    bench.feed(part(10, 5, False, size=3))
    bench.submit(actions.Proceed(bench.event(events.RequestQuestion).exchange))
    assert bench.sent()[0].code == codes.REQUEST_ENTITY_INCOMPLETE


# --- large answers (Block2) --------------------------------------------------------------------------------------


def get(mid, number=None, exponent=6, code=codes.GET, token=b"t", payload=b"", path=("big",)):
    options = () if number is None else ((BLOCK2, encode_block(number, False, exponent)),)
    return con(code, mid, token, path=path, options=options, payload=payload)


@pytest.mark.spec("BLK-1", "RFC 7959 2.4")
def test_a_large_answer_is_served_block_by_block():
    bench = verified()
    body = bytes(range(256)) * 10
    bench.feed(get(1))
    got = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(got.exchange, codes.CONTENT, content_format=42, payload=body))
    (answer,) = bench.sent()
    assert (answer.payload, block(answer, BLOCK2)) == (body[:1024], (0, True, 6))
    assert value(answer, SIZE2) == b"\x0a\x00"
    etag = value(answer, ETAG)
    assert etag
    bench.feed(get(2, 1), get(3, 2))
    second, third = bench.sent()
    assert (second.payload, block(second, BLOCK2), value(second, ETAG)) == (body[1024:2048], (1, True, 6), etag)
    assert (third.payload, block(third, BLOCK2), value(third, ETAG)) == (body[2048:], (2, False, 6), etag)
    bench.feed(get(4, 3))
    assert bench.sent()[0].code == codes.BAD_REQUEST
    assert bench.events() == []


@pytest.mark.spec("BLK-4", "RFC 7959 2.4")
def test_the_client_chooses_smaller_blocks():
    bench = verified()
    bench.feed(get(1, 0, exponent=1))
    got = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(got.exchange, codes.CONTENT, payload=bytes(range(80))))
    bench.feed(get(2, 1, exponent=1), get(3, 4, exponent=0))
    answers = bench.sent()
    assert [answer.payload for answer in answers] == [bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 80))]


def test_a_short_answer_to_a_sized_request_says_that_it_is_all():
    bench = verified()
    bench.feed(get(1, 0, exponent=2))
    got = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(got.exchange, codes.CONTENT, payload=b"short but not tiny"))
    assert block(bench.sent()[0], BLOCK2) == (0, False, 2)


def test_a_block_nobody_kept_is_asked_of_the_handler():
    bench = verified()
    bench.feed(get(1, 2, exponent=0))
    got = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(got.exchange, codes.CONTENT, payload=bytes(range(40))))
    (answer,) = bench.sent()
    assert (answer.payload, block(answer, BLOCK2)) == (bytes(range(32, 40)), (2, False, 0))


def test_a_post_never_runs_again_for_the_rest_of_its_answer():
    bench = verified()
    bench.feed(get(1, 1, code=codes.POST))
    assert bench.sent()[0].code == codes.REQUEST_ENTITY_INCOMPLETE
    assert bench.event(events.Refused).reason == "4.08"


@pytest.mark.spec("BLK-9", "RFC 7959 2.7")
@pytest.mark.parametrize("repeated", [b"", b"q" * 20])
def test_a_fetch_goes_on_with_or_without_its_body(repeated):
    bench = verified()
    bench.feed(get(1, code=codes.FETCH, payload=b"q" * 20))
    got = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(got.exchange, codes.CONTENT, payload=bytes(1500)))
    bench.feed(get(2, 1, code=codes.FETCH, payload=repeated))
    assert len(bench.sent()[1].payload) == 476


@pytest.mark.spec("BLK-11")
def test_a_kept_answer_is_forgotten_when_nobody_asks_on():
    bench = verified(limits=Limits(block_idle_s=10))
    bench.feed(get(1))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(1500)))
    bench.after(11)
    bench.feed(get(2, 1))
    assert bench.event(events.RequestReceived)


# --- unverified peers --------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9175 2.4", "RFC 7252 11.3")
def test_a_large_answer_waits_until_the_address_is_proven():
    bench = Bench()
    bench.feed(get(1))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    (answer,) = bench.sent()
    assert (answer.code, answer.payload) == (codes.UNAUTHORIZED, b"")
    echo = value(answer, ECHO)
    assert echo is not None
    bench.feed(con(codes.GET, 2, path=("big",), options=((ECHO, b"wrong!!!"),)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    assert bench.sent()[0].code == codes.UNAUTHORIZED
    bench.feed(con(codes.GET, 3, path=("big",), options=((ECHO, echo),)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    assert len(bench.sent()[0].payload) == 900


@pytest.mark.spec("RFC 9175 2.3")
def test_an_echo_grows_old_and_belongs_to_one_address():
    bench = Bench()
    bench.feed(get(1))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    echo = value(bench.sent()[0], ECHO)
    bench.after(180)
    bench.feed(con(codes.GET, 3, path=("big",), options=((ECHO, echo),)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    assert bench.sent()[0].code == codes.UNAUTHORIZED


def test_a_refusal_loses_its_words_before_it_grows_too_large():
    bench = Bench()
    bench.feed(Message(CON, codes.GET, 1, b"", ((9, b""),)))
    (answer,) = bench.sent()
    assert (answer.code, answer.payload) == (codes.BAD_OPTION, b"")


def test_a_separate_answer_to_an_unproven_address_is_not_repeated_beyond_the_bound():
    bench = Bench()
    request = con(codes.POST, 7, path=("dp",))
    bench.feed(request)
    received = bench.event(events.RequestReceived)
    bench.after(1)
    bench.submit(actions.Respond(received.exchange, codes.CHANGED))
    bench.after(100)
    sent = sum(len(encode_message(message)) for message in bench.sent())
    assert sent <= 3 * len(encode_message(request))


def test_whoever_answers_us_is_proven():
    bench = Bench()
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, b"tokn", ("3",)))
    (request,) = bench.sent()
    bench.feed(ack(codes.CONTENT, request.mid, b"tokn"))
    bench.events()
    bench.feed(get(1))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    assert bench.sent()[0].code == codes.CONTENT


def test_whoever_acknowledges_us_is_proven():
    bench = Bench()
    bench.submit(actions.SendRequest(1, DEVICE, codes.GET, b"tokn", ("3",)))
    bench.feed(ack(0, bench.sent()[0].mid), get(1))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CONTENT, payload=bytes(900)))
    assert bench.sent()[0].code == codes.CONTENT


# --- being observed ----------------------------------------------------------------------------------------------


def observed(bench, token=b"obs1"):
    bench.feed(con(codes.GET, 1, token, path=("3",), options=((OBSERVE, b""),)))
    got = bench.event(events.RequestReceived)
    assert read_options(got.options).observe == 0
    bench.submit(actions.Respond(got.exchange, codes.CONTENT, content_format=0, options=((OBSERVE, b"\x01"),)))
    bench.sent()


def notification(handle=5, confirmable=True, payload=b"21", token=b"obs1"):
    return actions.SendNotification(handle, DEVICE, token, codes.CONTENT, 7, 0, payload, confirmable)


@pytest.mark.spec("RFC 7641 4.2")
def test_a_confirmable_notification_is_repeated_until_acknowledged():
    bench = verified()
    observed(bench)
    bench.submit(notification())
    (sent,) = bench.sent()
    assert (sent.type, sent.code, sent.token, sent.payload) == (CON, codes.CONTENT, b"obs1", b"21")
    assert sent.options == ((OBSERVE, b"\x07"), (12, b""))
    bench.after(3)
    assert bench.sent() == [sent]
    bench.feed(ack(0, sent.mid))
    got = bench.event(events.NotificationAcked)
    assert (got.handle, got.peer, got.token) == (5, DEVICE, b"obs1")


@pytest.mark.spec("RFC 7641 4.5", "RFC 7641 3.6")
@pytest.mark.parametrize("confirmable", [True, False])
def test_a_reset_rejects_a_notification(confirmable):
    bench = verified()
    observed(bench)
    bench.submit(notification(confirmable=confirmable))
    (sent,) = bench.sent()
    bench.feed(rst(sent.mid), rst(sent.mid))
    got = bench.event(events.NotificationRejected)
    assert (got.handle, got.token, got.reason) == (5, b"obs1", "reset")


@pytest.mark.spec("RFC 7641 4.5")
def test_an_observer_that_is_silent_is_gone():
    bench = verified()
    observed(bench)
    bench.submit(notification())
    bench.after(100)
    assert bench.event(events.NotificationRejected).reason == "timeout"


@pytest.mark.spec("BLK-10")
def test_a_large_notification_is_fetched_by_the_path_it_observes():
    bench = verified()
    observed(bench)
    bench.submit(notification(payload=bytes(range(250)) * 6))
    (sent,) = bench.sent()
    assert block(sent, BLOCK2) == (0, True, 6)
    bench.feed(ack(0, sent.mid), get(9, 1, token=b"other", path=("3",)))
    assert bench.sent()[0].payload == (bytes(range(250)) * 6)[1024:]
