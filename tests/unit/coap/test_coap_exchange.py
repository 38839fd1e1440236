"""The client role: the three shapes of an answer, NSTART, tokens, bodies in both directions."""

import pytest
from coap_wire import DEVICE, MOVED, Bench, ack, con, non, rst

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import ACK, CON, RST, encode_message
from stellwerk.coap.options import BLOCK1, BLOCK2, ECHO, ETAG, OBSERVE, REQUEST_TAG, SIZE1, encode_block, read_options
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.reliability import MOST_GUESSES


def request(handle=1, token=b"tokn", code=codes.GET, **more):
    return actions.SendRequest(handle, DEVICE, code, token, ("3", "0"), **more)


def one(bench):
    (message,) = bench.sent()
    return message


# --- shapes of an answer -----------------------------------------------------------------------------------------


@pytest.mark.spec("MSG-4", "RFC 7252 5.2.1")
def test_a_piggybacked_answer():
    bench = Bench()
    bench.submit(request(accept=112))
    sent = one(bench)
    assert (sent.type, sent.options) == (CON, ((11, b"3"), (11, b"0"), (17, b"\x70")))
    bench.feed(ack(codes.CONTENT, sent.mid, b"tokn", content_format=112, payload=b"\x80"))
    got = bench.event(events.ResponseReceived)
    assert (got.handle, got.peer, got.token, got.code) == (1, DEVICE, b"tokn", codes.CONTENT)
    assert (got.content_format, got.payload, got.observe) == (112, b"\x80", None)
    bench.after(300)
    assert (bench.sent(), bench.events(), bench.engine.deadline()) == ([], [], None)


@pytest.mark.spec("MSG-4", "RFC 7252 5.2.2", "T-9")
@pytest.mark.parametrize("kind", [con, non])
def test_an_empty_acknowledgement_then_a_separate_answer(kind):
    bench = Bench()
    bench.submit(request())
    sent = one(bench)
    bench.feed(ack(0, sent.mid))
    bench.after(200)
    assert (bench.sent(), bench.events()) == ([], [])
    answer = kind(codes.CONTENT, 77, b"tokn", payload=b"1")
    bench.feed(answer)
    assert bench.event(events.ResponseReceived).payload == b"1"
    acknowledgements = [ack(0, 77)] if kind is con else []
    assert bench.sent() == acknowledgements
    bench.feed(answer)
    assert bench.sent() == acknowledgements
    assert bench.events() == []


@pytest.mark.spec("D-12")
def test_a_request_may_wait_less_long_for_an_answer_after_its_acknowledgement():
    bench = Bench()
    bench.submit(request(patience_s=30.0))
    bench.feed(ack(0, one(bench).mid))
    bench.after(29)
    assert bench.events() == []
    bench.after(2)
    failed = bench.event(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("timeout", events.NO_ANSWER)


@pytest.mark.spec("MSG-4")
@pytest.mark.parametrize("kind", [con, non])
def test_an_answer_that_overtakes_its_acknowledgement_counts_as_it(kind):
    bench = Bench()
    bench.submit(request())
    sent = one(bench)
    bench.feed(kind(codes.CONTENT, 77, b"tokn"))
    assert bench.event(events.ResponseReceived)
    bench.sent()
    bench.feed(ack(0, sent.mid))
    bench.after(100)
    assert (bench.sent(), bench.events()) == ([], [])


@pytest.mark.spec("MSG-4", "RFC 7252 4.8.2")
def test_an_acknowledged_request_waits_no_longer_than_one_exchange():
    bench = Bench()
    bench.submit(request())
    bench.feed(ack(0, one(bench).mid))
    bench.after(246)
    assert bench.events() == []
    bench.after(2)
    assert bench.event(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("MSG-7", "RFC 7252 5.3.2")
def test_an_acknowledgement_with_a_foreign_token_changes_nothing():
    bench = Bench()
    bench.submit(request())
    sent = one(bench)
    bench.feed(ack(codes.CONTENT, sent.mid, b"nope"))
    assert bench.event(events.Refused).reason == "mismatch"
    bench.feed(ack(codes.CONTENT, sent.mid, b"tokn"), peer=MOVED)
    assert bench.events() == []
    bench.feed(ack(codes.CONTENT, sent.mid, b"tokn"))
    assert bench.event(events.ResponseReceived)


@pytest.mark.spec("RFC 7252 5.4.1")
def test_an_answer_with_an_unknown_critical_option_is_rejected():
    bench = Bench(parameters=Parameters(nstart=2))
    bench.submit(request(1, b"aaaa"), request(2, b"bbbb"))
    first, _ = bench.sent()
    bench.feed(ack(codes.CONTENT, first.mid, b"aaaa", options=((65, b""),)))
    assert bench.event(events.RequestFailed).reason == "malformed"
    assert bench.sent() == []
    bench.feed(con(codes.CONTENT, 9, b"bbbb", options=((65, b""),)))
    assert bench.event(events.RequestFailed).reason == "malformed"
    assert one(bench) == rst(9)


@pytest.mark.spec("OB-5", "RFC 7641 3.6")
def test_a_notification_that_nobody_wants_is_reset_even_where_none_is_confirmable():
    bench = Bench()
    notification = non(codes.CONTENT, 9, b"gone", options=((OBSERVE, b"\x05"),))
    bench.feed(notification)
    bench.submit(actions.RejectToken(bench.event(events.TokenQuestion).exchange))
    assert one(bench) == rst(9)
    bench.feed(notification)
    assert one(bench) == rst(9)


@pytest.mark.spec("MSG-7")
@pytest.mark.parametrize("kind", [con, non])
def test_an_answer_nobody_waits_for_is_asked_about_and_then_reset(kind):
    bench = Bench()
    answer = kind(codes.CONTENT, 9, b"gone")
    bench.feed(answer, answer)
    question = bench.event(events.TokenQuestion)
    assert (question.peer, question.token) == (DEVICE, b"gone")
    assert bench.sent() == []
    bench.submit(actions.RejectToken(question.exchange))
    expected = [rst(9)] if kind is con else []
    assert bench.sent() == expected
    bench.feed(answer)
    assert bench.sent() == expected
    assert bench.events() == []


@pytest.mark.spec("RFC 9175 2.3")
def test_a_peer_that_wants_an_echo_gets_it_once():
    bench = Bench()
    bench.submit(request(code=codes.POST))
    bench.feed(ack(codes.UNAUTHORIZED, one(bench).mid, b"tokn", options=((ECHO, b"fresh?"),)))
    again = one(bench)
    assert (ECHO, b"fresh?") in again.options
    bench.feed(ack(codes.UNAUTHORIZED, again.mid, b"tokn", options=((ECHO, b"fresh?"),)))
    assert bench.event(events.ResponseReceived).code == codes.UNAUTHORIZED


# --- turns and bounds --------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7252 4.7")
def test_one_request_at_a_time_until_it_is_acknowledged():
    bench = Bench()
    bench.submit(request(1, b"aaaa"), request(2, b"bbbb"), request(3, b"cccc"))
    first = one(bench)
    assert first.token == b"aaaa"
    bench.feed(ack(codes.CONTENT, first.mid, b"aaaa"))
    second = one(bench)
    assert second.token == b"bbbb"
    bench.feed(ack(0, second.mid))
    third = one(bench)
    assert third.token == b"cccc"
    bench.feed(non(codes.CONTENT, 5, b"bbbb"), ack(codes.CONTENT, third.mid, b"cccc"))
    assert [event.handle for event in bench.events()] == [1, 2, 3]


def test_a_dead_peer_does_not_slow_another():
    bench = Bench()
    bench.submit(request(1, b"aaaa"), actions.SendRequest(2, MOVED, codes.GET, b"bbbb", ("3",)))
    assert [peer for peer, _ in bench.sent_to()] == [DEVICE, MOVED]


def test_too_many_requests_and_live_tokens_are_refused():
    bench = Bench(limits=Limits(requests_per_peer=3))
    bench.submit(*(request(number, bytes([number]) * 4) for number in range(4)))
    failed = bench.event(events.RequestFailed)
    assert (failed.handle, failed.reason, failed.detail) == (3, "refused", "requests_per_peer")
    bench = Bench()
    bench.submit(request(1, b"same"), request(2, b"same"), request(1, b"else"))
    assert [(event.handle, event.detail) for event in bench.events()] == [
        (2, "the token is in use"),
        (1, "the handle is in use"),
    ]


def test_a_cancelled_request_ends_and_gives_way():
    bench = Bench()
    bench.submit(request(1, b"aaaa"), request(2, b"bbbb"), request(3, b"cccc"))
    one(bench)
    bench.submit(actions.CancelRequest(2), actions.CancelRequest(1))
    assert [(event.handle, event.reason) for event in bench.events()] == [(2, "cancelled"), (1, "cancelled")]
    assert one(bench).token == b"cccc"


def test_a_forgotten_peer_ends_all_its_requests():
    bench = Bench()
    bench.submit(request(1, b"aaaa"), request(2, b"bbbb"), actions.ForgetPeer(DEVICE))
    assert [(event.handle, event.reason) for event in bench.events()] == [(1, "cancelled"), (2, "cancelled")]
    assert [message.token for message in bench.sent()] == [b"aaaa"]
    bench.after(300)
    assert (bench.sent(), bench.events()) == ([], [])


def test_to_an_address_whose_bytes_are_forgotten_no_more_goes_than_the_shortest_register_pays_for():
    bench = Bench()
    bench.submit(request(once=True))
    first = one(bench)
    bench.after(100)
    assert sum(len(encode_message(each)) for each in (first, *bench.sent())) <= 40
    assert bench.event(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("Design 7", "RFC 9175 2.6")
@pytest.mark.parametrize("reaction", [rst, lambda mid: ack(0, mid)])
def test_a_request_that_an_unproven_address_has_not_paid_for_waits_for_the_answer_to_a_ping(reaction):
    bench = Bench()
    bench.submit(request(once=True, payload=bytes(500)))
    ping = one(bench)
    assert (ping.type, ping.code, ping.token) == (CON, codes.EMPTY, b"")
    bench.after(3.5)
    assert all(each == ping for each in bench.sent())
    bench.feed(reaction(ping.mid))
    held = one(bench)
    assert held.payload == bytes(500)
    bench.after(8)
    assert held in bench.sent()
    bench.feed(ack(codes.CHANGED, held.mid, b"tokn"))
    assert bench.event(events.ResponseReceived).code == codes.CHANGED


def test_a_ping_that_nobody_answers_leaves_the_request_to_its_own_time():
    bench = Bench()
    bench.submit(request(once=True, payload=bytes(500)))
    bench.after(100)
    assert {each.code for each in bench.sent()} == {codes.EMPTY}
    assert bench.event(events.RequestFailed).reason == "timeout"
    assert bench.engine._layer.peers.find(DEVICE).sent is None


def test_where_nothing_is_left_for_repetitions_pings_ask_for_the_proof_that_pays_for_them():
    bench = Bench()
    bench.submit(request(code=codes.PUT, payload=bytes(40)))
    bench.sent()
    bench.feed(con(codes.POST, 2, path=("rd", "2faaef4025174436")), peer=MOVED)
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    bench.sent()
    bench.submit(actions.MovePeer(DEVICE, MOVED))
    moved = one(bench)
    assert moved.code == codes.PUT
    bench.after(10)
    pings = bench.sent()
    assert {each.code for each in pings} == {codes.EMPTY}
    assert len(pings) > 1
    bench.feed(rst(pings[-1].mid), peer=MOVED)
    assert one(bench) == moved
    bench.feed(ack(codes.CHANGED, moved.mid, b"tokn"), peer=MOVED)
    assert bench.event(events.ResponseReceived).code == codes.CHANGED


@pytest.mark.spec("Design 7")
def test_a_request_does_not_follow_a_forged_move_beyond_what_the_forgery_paid():
    bench = Bench()
    bench.feed(con(codes.POST, 1, path=("rd",), payload=bytes(500)))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CREATED, ("rd", "k7x")))
    bench.submit(request(code=codes.PUT, payload=bytes(900)))
    bench.sent()
    forged = con(codes.POST, 2, path=("rd", "k7x"))
    bench.feed(forged, peer=MOVED)
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    bench.submit(actions.MovePeer(DEVICE, MOVED))
    bench.after(100)
    sent = [encode_message(message) for peer, message in bench.sent_to() if peer == MOVED]
    assert sum(map(len, sent)) <= 3 * len(encode_message(forged))


def moved_unpaid(bench, size=200):
    """A request that follows a device to `MOVED`, which has not paid for it; the ping that asks there for a proof."""
    bench.submit(request(code=codes.PUT, payload=bytes(size)))
    bench.sent()
    updated(bench, MOVED)
    bench.submit(actions.MovePeer(DEVICE, MOVED))
    return one(bench)


def updated(bench, peer, size=0):
    bench.feed(con(codes.POST, 2, path=("rd", "2faaef4025174436"), payload=bytes(size)), peer=peer)
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    bench.sent()


@pytest.mark.spec("Design 7")
def test_what_waited_for_a_proof_leaves_once_where_a_third_address_has_paid_for_it():
    bench = Bench()
    moved_unpaid(bench)
    third = MOVED._replace(remote_port=40_002)
    updated(bench, third, 300)
    bench.submit(actions.MovePeer(MOVED, third))
    assert [(peer, each.code) for peer, each in bench.sent_to()] == [(third, codes.PUT)]
    bench.submit(actions.VerifyPeer(third))
    assert bench.sent() == []


def test_what_waited_for_a_proof_does_not_leave_once_it_is_cancelled():
    bench = Bench()
    ping = moved_unpaid(bench)
    bench.submit(actions.CancelRequest(1))
    bench.feed(rst(ping.mid), peer=MOVED)
    assert bench.sent() == []


@pytest.mark.spec("Design 7")
@pytest.mark.parametrize("reaction", [rst, lambda mid: ack(0, mid)])
def test_who_guesses_message_ids_proves_no_address(reaction):
    bench = Bench()
    ping = moved_unpaid(bench)
    for wrong in range(MOST_GUESSES):
        bench.feed(reaction(ping.mid + 1 + wrong & 0xFFFF), peer=MOVED)
    assert [each.reason for each in bench.events()] == ["guess"] * MOST_GUESSES
    bench.feed(reaction(ping.mid), peer=MOVED)
    bench.after(100)
    assert all(each.code == codes.EMPTY for each in bench.sent())
    assert bench.event(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("Design 7")
def test_where_message_ids_prove_nothing_any_more_a_token_still_does():
    bench = Bench()
    ping = moved_unpaid(bench, 0)
    assert ping.code == codes.PUT
    for wrong in range(MOST_GUESSES):
        bench.feed(rst(ping.mid + 1 + wrong & 0xFFFF), peer=MOVED)
    bench.feed(ack(codes.CHANGED, ping.mid, b"tokn"), peer=MOVED)
    assert bench.engine._layer.peers.find(MOVED).verified


@pytest.mark.spec("Design 7")
@pytest.mark.parametrize("junk", [con, non])
def test_what_is_reset_pays_for_its_reset_too(junk):
    bench = Bench()
    # Each is an answer to nothing, or a notification of nothing.
    forged = [junk(codes.CONTENT, mid, b"", options=((OBSERVE, b"\x01"),)) for mid in range(40)]
    for each in forged:
        bench.feed(each)
        bench.submit(actions.RejectToken(bench.event(events.TokenQuestion).exchange))
    resets = bench.sent()
    assert [each.type for each in resets] == [RST] * 40
    paid, spent = (sum(len(encode_message(each)) for each in some) for some in (forged, resets))
    bench.submit(request(once=True, payload=bytes(3 * paid - spent)))
    bench.after(100)
    assert spent + sum(len(encode_message(each)) for each in bench.sent()) <= 3 * paid


# --- Request-Tag -------------------------------------------------------------------------------------------------


def tags(messages):
    return [value for message in messages for number, value in message.options if number == REQUEST_TAG]


@pytest.mark.spec("RFC 9175 3.3", "LwM2M-contract 1.7")
def test_every_body_in_blocks_and_every_attempt_has_a_request_tag_of_its_own():
    bench = Bench(parameters=Parameters(block_size=16, request_tag=True))
    bench.submit(request(1, b"aaaa", code=codes.PUT, payload=bytes(40)))
    first = one(bench)
    bench.feed(ack(codes.CONTINUE, first.mid, b"aaaa", options=((BLOCK1, encode_block(0, True, 0)),)))
    second = one(bench)
    assert tags([first]) == tags([second]) != []
    bench.feed(ack(codes.REQUEST_ENTITY_INCOMPLETE, second.mid, b"aaaa"))
    again = one(bench)
    assert again.payload == first.payload
    bench.feed(ack(codes.NOT_FOUND, again.mid, b"aaaa"))
    bench.submit(request(2, b"bbbb", code=codes.PUT, payload=bytes(40)))
    assert len({*tags([first, again]), *tags([one(bench)])}) == 3


@pytest.mark.spec("RFC 9175 3.3")
def test_without_security_no_request_tag_is_sent():
    bench = Bench(parameters=Parameters(block_size=16))
    bench.submit(request(1, b"aaaa", code=codes.PUT, payload=bytes(40)))
    assert tags([one(bench)]) == []


@pytest.mark.parametrize("size", [0, 4, 10, 40, 400])
def test_to_an_unproven_address_no_more_than_three_times_its_bytes_are_sent(size):
    bench = Bench()
    question = con(codes.POST, 5, path=("rd",), payload=bytes(size))
    bench.feed(question)
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CREATED, ("rd", "k7x")))
    answer = one(bench)
    bench.submit(request(once=True))
    first = one(bench)
    bench.after(100)
    later = bench.sent()
    again = [each for each in later if each == first]
    assert all(each == first or each.code == codes.EMPTY for each in later)
    spent = sum(len(encode_message(each)) for each in (answer, first, *later))
    assert spent <= 3 * len(encode_message(question))
    assert len(again) == 4 if size >= 40 else len(again) < 4
    assert bench.event(events.RequestFailed).reason == "timeout"


def test_a_proven_address_gets_the_repetitions_that_were_left_out():
    bench = Bench()
    bench.submit(request(once=True))
    first = one(bench)
    bench.submit(actions.VerifyPeer(DEVICE))
    bench.after(4)
    assert one(bench) == first


def test_no_empty_path_segment_ever_leaves():
    bench = Bench()
    bench.submit(actions.SendRequest(1, DEVICE, codes.FETCH, b"tokn", ("",), content_format=112, payload=b"\x80"))
    assert one(bench).options == ((12, b"\x70"),)


# --- moving ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7252 4.5")
def test_requests_follow_a_device_as_the_same_messages():
    bench = Bench()
    bench.submit(request(1, b"aaaa"), request(2, b"bbbb"))
    first = one(bench)
    bench.feed(con(codes.POST, 5, path=("rd", "1")), peer=MOVED)
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    bench.submit(actions.MovePeer(DEVICE, MOVED))
    answer, (peer, moved) = bench.sent_to()
    assert (answer[1].code, peer, moved) == (codes.CHANGED, MOVED, first)
    # Unproven until it answers: repeated only as far as its own bytes pay for it.
    bench.after(40)
    later = bench.sent()
    assert all(each == first or each.code == codes.EMPTY for each in later)
    spent = sum(len(encode_message(each)) for each in [answer[1], first, *later])
    assert spent <= 3 * len(encode_message(con(codes.POST, 5, path=("rd", "1"))))
    bench.feed(ack(codes.CONTENT, first.mid, b"aaaa"), peer=MOVED)
    bench.event(events.ResponseReceived)
    ((peer, second),) = bench.sent_to()
    assert (peer, second.token) == (MOVED, b"bbbb")
    assert (second.mid - 1) & 0xFFFF in {each.mid for each in [first, *later]}
    bench.after(3)
    assert bench.sent_to() == [(MOVED, second)]


@pytest.mark.spec("RFC 7252 4.4")
def test_to_a_device_that_moves_there_and_back_no_message_id_is_used_twice():
    bench = Bench()
    used = []
    for handle, (old, new) in enumerate([(None, DEVICE), (DEVICE, MOVED), (MOVED, DEVICE)], 1):
        if old is not None:
            bench.submit(actions.MovePeer(old, new))
        bench.submit(actions.VerifyPeer(new))
        for again in range(2):
            token = bytes((handle, again))
            bench.submit(actions.SendRequest(10 * handle + again, new, codes.GET, token, ("3", "0")))
            sent = one(bench)
            used.append(sent.mid)
            bench.feed(ack(codes.CONTENT, sent.mid, token), peer=new)
            bench.event(events.ResponseReceived)
    assert len(set(used)) == len(used)


def test_duplicates_stay_with_the_old_address():
    bench = Bench()
    bench.feed(con(codes.POST, 5, path=("rd", "1")))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    bench.submit(actions.MovePeer(DEVICE, MOVED))
    bench.sent()
    bench.feed(con(codes.POST, 5, path=("rd", "1")))
    assert one(bench).type == ACK
    assert bench.events() == []


# --- bodies on their way out (Block1) ----------------------------------------------------------------------------

BODY = bytes(range(250)) * 10


def upload(bench, body=BODY, **more):
    bench.submit(request(code=codes.PUT, content_format=42, payload=body, **more))
    return one(bench)


def block1(message):
    return read_options(message.options).block1


def go_on(message, exponent=None, code=codes.CONTINUE, more=None):
    sent = block1(message)
    value = encode_block(
        sent.number, sent.more if more is None else more, sent.exponent if exponent is None else exponent
    )
    return ack(code, message.mid, message.token, options=((BLOCK1, value),))


@pytest.mark.spec("MSG-9", "RFC 7252 4.6")
@pytest.mark.parametrize("block_size", [16, 512, 1024])
def test_no_datagram_outgrows_the_path_whatever_the_body(block_size):
    bench = Bench()
    bench.submit(actions.SetParameters(DEVICE, Parameters(block_size=block_size)))
    sent = upload(bench, bytes(5000), query=("a" * 60,))
    while True:
        assert len(encode_message(sent)) <= 1152
        assert len(sent.payload) <= block_size
        if not block1(sent).more:
            break
        bench.feed(go_on(sent))
        sent = one(bench)


@pytest.mark.spec("BLK-2", "BLK-3", "RFC 7959 2.3")
@pytest.mark.parametrize("middle", [codes.CONTINUE, codes.CHANGED])
def test_a_large_body_leaves_in_blocks(middle):
    bench = Bench()
    sent = upload(bench)
    assert (SIZE1, b"\x09\xc4") in sent.options
    parts = []
    while block1(sent).more:
        parts.append(sent.payload)
        bench.feed(go_on(sent, code=middle))
        assert bench.events() == []
        sent = one(bench)
        assert read_options(sent.options).content_format == 42
    parts.append(sent.payload)
    assert b"".join(parts) == BODY
    assert [len(item) for item in parts] == [1024, 1024, 452]
    bench.feed(go_on(sent, code=codes.CHANGED))
    assert bench.event(events.ResponseReceived).code == codes.CHANGED


@pytest.mark.spec("BLK-4", "RFC 7959 2.3")
def test_smaller_blocks_go_on_at_the_same_byte():
    bench = Bench()
    sent = upload(bench)
    bench.feed(go_on(sent, exponent=5))
    sent = one(bench)
    assert (block1(sent), sent.payload) == ((2, True, 5), BODY[1024:1536])


@pytest.mark.spec("BLK-6", "RFC 7959 2.9.3")
def test_too_large_is_tried_smaller():
    bench = Bench()
    sent = upload(bench)
    bench.feed(go_on(sent, exponent=4, code=codes.REQUEST_ENTITY_TOO_LARGE))
    sent = one(bench)
    assert (block1(sent), sent.payload) == ((0, True, 4), BODY[:256])
    bench.feed(go_on(sent, code=codes.REQUEST_ENTITY_TOO_LARGE))
    assert bench.event(events.ResponseReceived).code == codes.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.spec("BLK-6")
def test_a_body_sent_whole_is_cut_when_the_peer_hints_at_it():
    bench = Bench()
    bench.submit(request(code=codes.PUT, content_format=42, payload=BODY[:600]))
    sent = one(bench)
    assert block1(sent) is None
    hint = ((BLOCK1, encode_block(0, False, 4)),)
    bench.feed(ack(codes.REQUEST_ENTITY_TOO_LARGE, sent.mid, b"tokn", options=hint))
    sent = one(bench)
    assert (block1(sent), len(sent.payload)) == ((0, True, 4), 256)


@pytest.mark.spec("BLK-5", "RFC 7959 2.9.2")
def test_lost_state_restarts_once():
    bench = Bench()
    sent = upload(bench)
    bench.feed(go_on(sent))
    bench.feed(ack(codes.REQUEST_ENTITY_INCOMPLETE, one(bench).mid, b"tokn"))
    sent = one(bench)
    assert block1(sent) == (0, True, 6)
    bench.feed(go_on(sent))
    bench.feed(ack(codes.REQUEST_ENTITY_INCOMPLETE, one(bench).mid, b"tokn"))
    assert bench.event(events.ResponseReceived).code == codes.REQUEST_ENTITY_INCOMPLETE


@pytest.mark.spec("BLK-3")
@pytest.mark.parametrize(
    "answer",
    [
        lambda sent: ack(codes.CHANGED, sent.mid, sent.token),
        lambda sent: ack(codes.CONTINUE, sent.mid, sent.token, options=((BLOCK1, encode_block(5, True, 6)),)),
    ],
)
def test_a_peer_that_confuses_blocks_is_not_believed(answer):
    bench = Bench()
    bench.feed(answer(upload(bench)))
    assert bench.event(events.RequestFailed).reason == "malformed"


def test_continue_without_blocks_is_not_believed():
    bench = Bench()
    bench.submit(request(code=codes.PUT, payload=b"short"))
    bench.feed(ack(codes.CONTINUE, one(bench).mid, b"tokn"))
    assert bench.event(events.RequestFailed).reason == "malformed"


def test_each_block_may_be_answered_separately():
    bench = Bench()
    sent = upload(bench, BODY[:1100])
    bench.feed(ack(0, sent.mid))
    bench.feed(con(codes.CONTINUE, 50, b"tokn", options=((BLOCK1, encode_block(0, True, 6)),)))
    acknowledged, sent = bench.sent()
    assert (acknowledged, len(sent.payload)) == (ack(0, 50), 76)
    bench.feed(go_on(sent, code=codes.CHANGED))
    assert bench.event(events.ResponseReceived)


# --- bodies on their way in (Block2) -----------------------------------------------------------------------------


def piece(message, number, more, payload, exponent=6, etag=b"e1", code=codes.CONTENT, **more_options):
    options = [(BLOCK2, encode_block(number, more, exponent))]
    if etag:
        options.append((ETAG, etag))
    return ack(code, message.mid, message.token, options=tuple(options), payload=payload, **more_options)


@pytest.mark.spec("BLK-2", "RFC 7959 2.4")
def test_a_large_answer_is_fetched_whole():
    bench = Bench()
    bench.submit(request(accept=112))
    sent = one(bench)
    bench.feed(piece(sent, 0, True, BODY[:1024], content_format=112))
    sent = one(bench)
    view = read_options(sent.options)
    assert (view.block2, view.path, view.accept) == ((1, False, 6), ("3", "0"), 112)
    assert sent.token != b"tokn"
    bench.feed(piece(sent, 1, True, BODY[1024:2048]))
    sent = one(bench)
    bench.feed(piece(sent, 2, False, BODY[2048:]))
    got = bench.event(events.ResponseReceived)
    assert (got.token, got.payload, got.content_format, got.code) == (b"tokn", BODY, 112, codes.CONTENT)


@pytest.mark.spec("BLK-4")
def test_a_wish_for_small_blocks_is_said_in_the_first_request():
    bench = Bench(parameters=Parameters(block_size=256))
    bench.submit(request())
    sent = one(bench)
    assert read_options(sent.options).block2 == (0, False, 4)
    bench.feed(piece(sent, 0, True, BODY[:512], exponent=5))
    assert read_options(one(bench).options).block2 == (2, False, 4)


@pytest.mark.spec("BLK-8")
@pytest.mark.parametrize("etag", [b"e2", b""])
def test_a_body_that_changes_is_fetched_anew_once(etag):
    bench = Bench()
    bench.submit(request())
    bench.feed(piece(one(bench), 0, True, BODY[:1024]))
    bench.feed(piece(one(bench), 1, False, b"other", etag=etag))
    sent = one(bench)
    assert read_options(sent.options).block2 == (0, False, 6)
    bench.feed(piece(sent, 0, True, BODY[1:1025], etag=etag))
    bench.feed(piece(one(bench), 1, False, b"end", etag=b"e3"))
    failed = bench.event(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("malformed", "the body keeps changing")


@pytest.mark.spec("BLK-8")
def test_an_error_in_the_middle_is_the_answer():
    bench = Bench()
    bench.submit(request())
    bench.feed(piece(one(bench), 0, True, BODY[:1024]))
    bench.feed(ack(codes.NOT_FOUND, (sent := one(bench)).mid, sent.token))
    assert bench.event(events.ResponseReceived).code == codes.NOT_FOUND


@pytest.mark.spec("BLK-11")
def test_an_answer_body_is_bounded():
    bench = Bench(limits=Limits(response_body_bytes=1500))
    bench.submit(request())
    bench.feed(piece(one(bench), 0, True, BODY[:1024]))
    bench.feed(piece(one(bench), 1, True, BODY[:1024]))
    failed = bench.event(events.RequestFailed)
    assert (failed.reason, failed.detail) == ("oversized", "response_body_bytes")


@pytest.mark.parametrize(
    "answer",
    [
        lambda sent: piece(sent, 0, True, b"not full"),
        lambda sent: piece(sent, 4, True, BODY[:1024]),
        lambda sent: ack(codes.CONTENT, sent.mid, sent.token, options=((BLOCK2, b"\x07"),)),
    ],
)
def test_broken_blocks_end_a_request(answer):
    bench = Bench()
    bench.submit(request())
    bench.feed(answer(one(bench)))
    assert bench.event(events.RequestFailed).reason == "malformed"


@pytest.mark.spec("BLK-9", "RFC 7959 2.7")
def test_fetch_finishes_its_body_before_it_reads_the_answer():
    bench = Bench()
    bench.submit(request(code=codes.FETCH, content_format=112, accept=112, payload=BODY[:1200]))
    sent = one(bench)
    bench.feed(go_on(sent))
    sent = one(bench)
    bench.feed(
        ack(
            codes.CONTENT,
            sent.mid,
            sent.token,
            options=((BLOCK2, encode_block(0, True, 6)), (BLOCK1, encode_block(1, False, 6))),
            payload=BODY[:1024],
        )
    )
    sent = one(bench)
    view = read_options(sent.options)
    assert (sent.code, sent.payload, view.block1, view.block2) == (codes.FETCH, b"", None, (1, False, 6))
    bench.feed(piece(sent, 1, False, b"end", etag=b""))
    assert bench.event(events.ResponseReceived).payload == BODY[:1024] + b"end"


@pytest.mark.spec("BLK-13")
def test_quick_blocks_are_not_spoken():
    bench = Bench()
    bench.feed(con(codes.PUT, 5, path=("x",), options=((19, b"\x08"),)))
    assert one(bench).code == codes.BAD_OPTION
    assert RST != ACK
