"""The message layer: retransmission, acknowledgement, reset, ping and duplicates."""

import pytest
from coap_wire import DEVICE, MOVED, Bench, ack, con, non, rst
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import actions, codes, events
from stellwerk.coap.duplicates import EvictedMids, message_receipt
from stellwerk.coap.message import ACK, CON, NON, RST, encode_message
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, Limits, Parameters
from stellwerk.core.ids import PeerId


def read(handle=1, token=b"tokn", **more):
    return actions.SendRequest(handle, DEVICE, codes.GET, token, ("3", "0"), **more)


def serve(bench, mid, token=b"\x01\x02\x03\x04", payload=b"", kind=con):
    """One request, answered 2.04 at once."""
    bench.feed(kind(codes.POST, mid, token, path=("dp",), payload=payload))
    bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
    (answer,) = bench.sent()
    return answer


@pytest.mark.spec("RFC 7252 4.2")
@pytest.mark.parametrize("seed", range(5))
def test_a_request_is_sent_five_times_with_doubling_timeouts(seed):
    bench = Bench(seed)
    bench.submit(read())
    (first,) = bench.sent()
    assert first.type == CON
    times = []
    for _ in range(4):
        before = bench.now
        bench.after(bench.engine.deadline() - bench.now)
        assert bench.sent() == [first]
        times.append(bench.now - before)
    assert 2.0 <= times[0] <= 3.0
    assert times[1:] == pytest.approx([times[0] * 2, times[0] * 4, times[0] * 8])
    assert bench.events() == []
    bench.after(times[0] * 16)
    assert bench.sent() == []
    failed = bench.event(events.RequestFailed)
    assert (failed.handle, failed.reason) == (1, "timeout")
    assert 62 <= bench.now <= 93.1


@pytest.mark.spec("RFC 7252 4.8")
def test_a_peer_may_have_its_own_timeouts():
    bench = Bench()
    bench.submit(actions.SetParameters(DEVICE, Parameters(ack_timeout_s=15, ack_random_factor=1, max_retransmit=1)))
    bench.submit(read())
    assert len(bench.sent()) == 1
    bench.after(14.9)
    assert bench.sent() == []
    bench.after(0.1)
    assert len(bench.sent()) == 1
    bench.after(30)
    assert bench.event(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("MSG-8", "RFC 7252 4.4")
def test_message_ids_count_up_from_a_start_nobody_can_guess():
    starts = set()
    for seed in range(8):
        bench = Bench(seed, parameters=Parameters(nstart=4))
        bench.submit(read(1, b"aaaa"), read(2, b"bbbb"), read(3, b"cccc"))
        mids = [message.mid for message in bench.sent()]
        assert mids == [(mids[0] + step) & 0xFFFF for step in range(3)]
        starts.add(mids[0])
    assert len(starts) == 8


@pytest.mark.spec("MSG-10", "RFC 7252 4.3")
def test_a_ping_is_answered_with_reset_and_leaves_no_trace():
    bench = Bench()
    bench.feed(bytes.fromhex("40001234"))
    assert bench.sent() == [rst(0x1234)]
    bench.feed(bytes.fromhex("50001234"), bytes.fromhex("60001234"), bytes.fromhex("70001234"))
    assert bench.sent() == []
    assert bench.events() == []
    assert bench.engine.deadline() is None


@pytest.mark.spec("RFC 7252 4.2", "RFC 7252 4.3")
def test_only_a_broken_confirmable_message_is_reset():
    bench = Bench()
    bench.feed(bytes.fromhex("49011234"))
    assert bench.sent() == [rst(0x1234)]
    assert bench.event(events.Refused).reason == "format"
    for first in ("59", "69", "79", "09", "89", "c9"):
        bench.feed(bytes.fromhex(first + "011234"))
        assert bench.sent() == []


@pytest.mark.spec("RFC 7252 12.1")
@pytest.mark.parametrize("code", [0x20, 0x3F, 0x60, 0x7F, 0xC0, 0xE1])
def test_reserved_code_classes_are_reset_or_ignored(code):
    bench = Bench()
    bench.feed(con(code, 7))
    assert bench.sent() == [rst(7)]
    bench.feed(non(code, 8), ack(code, 9))
    assert bench.sent() == []


@pytest.mark.spec("MSG-12", "RFC 7252 4.2")
def test_a_reset_ends_a_request():
    bench = Bench()
    bench.submit(read())
    (request,) = bench.sent()
    bench.feed(rst(request.mid + 1))
    assert bench.event(events.Refused).reason == "guess"
    bench.feed(rst(request.mid))
    assert bench.event(events.RequestFailed).reason == "reset"
    bench.after(100)
    assert bench.sent() == []


@pytest.mark.spec("MSG-1", "RFC 7252 4.5")
def test_a_duplicate_confirmable_request_gets_the_first_answer():
    bench = Bench()
    answer = serve(bench, 7)
    assert (answer.type, answer.code, answer.mid, answer.token) == (ACK, codes.CHANGED, 7, b"\x01\x02\x03\x04")
    for wait in (2, 4, 200):
        bench.after(wait)
        bench.feed(con(codes.POST, 7, path=("dp",)))
        assert bench.sent() == [answer]
        assert bench.events() == []


@pytest.mark.spec("MSG-1", "RFC 7252 4.5")
def test_after_the_exchange_lifetime_a_message_id_is_new():
    bench = Bench()
    serve(bench, 7)
    bench.after(EXCHANGE_LIFETIME_S + 0.1)
    serve(bench, 7)


@pytest.mark.spec("MSG-1", "RFC 7252 4.5")
def test_a_duplicate_non_confirmable_request_is_dropped():
    bench = Bench()
    answer = serve(bench, 7, kind=non)
    assert answer.type == NON
    bench.after(144)
    bench.feed(non(codes.POST, 7, path=("dp",)))
    assert (bench.sent(), bench.events()) == ([], [])
    bench.after(2)
    serve(bench, 7, kind=non)


@pytest.mark.spec("MSG-1")
def test_duplicates_of_an_undecided_request_are_swallowed():
    bench = Bench()
    request = con(codes.POST, 7, path=("dp",))
    bench.feed(request)
    received = bench.event(events.RequestReceived)
    bench.feed(request, request)
    assert (bench.sent(), bench.events()) == ([], [])
    bench.submit(actions.Respond(received.exchange, codes.CHANGED))
    assert len(bench.sent()) == 1


@pytest.mark.spec("RFC 7252 4.5")
def test_a_rebooted_client_that_restarts_its_message_ids_is_heard():
    bench = Bench()
    serve(bench, 7, b"old!")
    assert serve(bench, 7, b"new!").token == b"new!"


@pytest.mark.spec("RFC 7252 4.5")
def test_what_a_rebooted_client_has_forgotten_is_not_answered():
    bench = Bench()
    bench.feed(con(codes.POST, 7, b"old!", path=("dp",)))
    old = bench.event(events.RequestReceived)
    bench.feed(con(codes.POST, 7, b"new!", path=("dp",)))
    new = bench.event(events.RequestReceived)
    bench.submit(actions.Respond(old.exchange, codes.CHANGED))
    assert bench.sent() == []
    bench.submit(actions.Respond(new.exchange, codes.CHANGED))
    assert bench.sent() == [ack(codes.CHANGED, 7, b"new!")]


@pytest.mark.spec("MSG-1")
def test_another_address_is_another_peer():
    bench = Bench()
    serve(bench, 7)
    bench.feed(con(codes.POST, 7, path=("dp",)), peer=MOVED)
    assert bench.event(events.RequestReceived).peer == MOVED


def test_a_receipt_names_peer_and_bytes():
    data = encode_message(con(codes.POST, 7))
    assert message_receipt(DEVICE, data).hex() == "5db1ceb85efc050f"
    assert message_receipt(DEVICE, data) == message_receipt(DEVICE._replace(local_host="elsewhere"), data)
    assert message_receipt(DEVICE, data) != message_receipt(MOVED, data)
    assert message_receipt(DEVICE, data) != message_receipt(DEVICE, data + b"x")


# --- the ring and what it evicts ---------------------------------------------------------------------------------


@pytest.mark.spec("MSG-3")
def test_an_evicted_message_id_is_asked_about():
    bench = Bench(limits=Limits(ring_per_peer=4))
    for mid in range(10):
        serve(bench, mid)
    bench.feed(con(codes.POST, 9, path=("dp",)))
    assert (len(bench.sent()), bench.events()) == (1, [])
    bench.feed(con(codes.POST, 2, path=("dp",)))
    question = bench.event(events.RequestQuestion)
    assert question.receipt == message_receipt(DEVICE, encode_message(con(codes.POST, 2, path=("dp",))))
    bench.feed(con(codes.POST, 2, path=("dp",)))
    assert (bench.sent(), bench.events()) == ([], [])
    bench.submit(actions.Recall(question.exchange, codes.CREATED, ("rd", "k7x")))
    (answer,) = bench.sent()
    assert (answer.type, answer.code, answer.mid, answer.options) == (
        ACK,
        codes.CREATED,
        2,
        ((8, b"rd"), (8, b"k7x")),
    )
    assert bench.events() == []
    bench.feed(con(codes.POST, 2, path=("dp",)))
    assert bench.sent() == [answer]


@pytest.mark.spec("MSG-3")
def test_a_question_may_end_as_a_new_request():
    bench = Bench(limits=Limits(ring_per_peer=2))
    for mid in range(6):
        serve(bench, mid)
    bench.feed(con(codes.POST, 0, path=("dp",), payload=b"other"))
    question = bench.event(events.RequestQuestion)
    bench.submit(actions.Proceed(question.exchange))
    received = bench.event(events.RequestReceived)
    assert (received.payload, received.receipt) == (b"other", question.receipt)


@pytest.mark.spec("MSG-3")
def test_evicted_ids_are_forgotten_after_two_lifetimes():
    bench = Bench(limits=Limits(ring_per_peer=2))
    for mid in range(6):
        serve(bench, mid)
    bench.after(EXCHANGE_LIFETIME_S - 1)
    bench.feed(con(codes.POST, 0, path=("dp",), payload=b"other"))
    bench.submit(actions.Drop(bench.event(events.RequestQuestion).exchange))
    bench.after(EXCHANGE_LIFETIME_S + 2)
    serve(bench, 0)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 65_535), max_size=60))
def test_no_evicted_id_is_ever_denied(mids):
    evicted = EvictedMids(0.0)
    for mid in mids:
        evicted.add(mid, 1.0)
    assert all(evicted.covers(mid, 2.0) for mid in mids)
    assert len(evicted._current) <= 8


@pytest.mark.spec("MSG-3")
def test_the_noisiest_peer_gives_up_its_oldest_answer_first():
    bench = Bench(limits=Limits(answers_total=6))
    quiet, noisy = DEVICE, MOVED

    def exchange(peer, mid):
        bench.feed(con(codes.POST, mid, path=("dp",)), peer=peer)
        bench.submit(actions.Respond(bench.event(events.RequestReceived).exchange, codes.CHANGED))
        bench.sent()

    exchange(quiet, 1)
    for mid in range(10, 15):
        exchange(noisy, mid)
    exchange(quiet, 2)
    bench.feed(con(codes.POST, 1, path=("dp",)), con(codes.POST, 2, path=("dp",)), peer=quiet)
    assert len(bench.sent()) == 2
    bench.feed(con(codes.POST, 10, path=("dp",)), peer=noisy)
    assert bench.event(events.RequestQuestion).peer == noisy


@pytest.mark.spec("MSG-3")
def test_undecided_messages_of_one_peer_are_bounded():
    bench = Bench(limits=Limits(pending_per_peer=3))
    for mid in range(5):
        bench.feed(con(codes.POST, mid, path=("dp",)))
    happened = bench.events()
    assert [type(event) for event in happened[:3]] == [events.RequestReceived] * 3
    assert [event.reason for event in happened[3:]] == ["pending_per_peer"] * 2
    bench.submit(actions.Respond(happened[0].exchange, codes.CHANGED))
    bench.feed(con(codes.POST, 4, path=("dp",)))
    assert bench.event(events.RequestReceived)


def test_a_request_nobody_ever_answers_is_given_up():
    bench = Bench()
    bench.feed(non(codes.POST, 1, path=("dp",)))
    received = bench.event(events.RequestReceived)
    bench.after(2 * EXCHANGE_LIFETIME_S)
    assert bench.event(events.Refused).reason == "undecided"
    bench.submit(actions.Respond(received.exchange, codes.CHANGED))
    assert bench.sent() == []
    assert bench.engine.deadline() is None


# --- after a restart ---------------------------------------------------------------------------------------------


@pytest.mark.spec("MSG-1")
def test_after_a_start_every_unknown_request_is_asked_about_for_one_lifetime():
    bench = Bench(ask_until=EXCHANGE_LIFETIME_S)
    bench.feed(con(codes.POST, 7, path=("dp",)))
    question = bench.event(events.RequestQuestion)
    bench.submit(actions.Proceed(question.exchange))
    assert bench.event(events.RequestReceived).exchange == question.exchange
    bench.submit(actions.Respond(question.exchange, codes.CHANGED))
    assert len(bench.sent()) == 1
    bench.after(EXCHANGE_LIFETIME_S + 1)
    bench.feed(con(codes.POST, 8, path=("dp",)))
    assert bench.event(events.RequestReceived)


def test_questions_are_bounded():
    bench = Bench(ask_until=100.0, limits=Limits(questions_total=2))
    for mid in range(3):
        bench.feed(con(codes.POST, mid, path=("dp",)))
    first, second, refused = bench.events()
    assert isinstance(first, events.RequestQuestion)
    assert isinstance(second, events.RequestQuestion)
    assert refused.reason == "questions_total"
    assert bench.sent() == []
    bench.submit(actions.Proceed(first.exchange))
    bench.events()
    # The dropped one left no trace: its repetition is asked about.
    bench.feed(con(codes.POST, 2, path=("dp",)))
    assert bench.event(events.RequestQuestion)


@pytest.mark.spec("MSG-5")
def test_a_question_that_takes_long_is_acknowledged_and_recalled_separately():
    bench = Bench(ask_until=100.0)
    bench.feed(con(codes.POST, 7, path=("rd",)))
    question = bench.event(events.RequestQuestion)
    bench.after(1.0)
    assert bench.sent() == [ack(0, 7)]
    bench.submit(actions.Recall(question.exchange, codes.CREATED, ("rd", "1")))
    (answer,) = bench.sent()
    assert (answer.type, answer.code, answer.token) == (CON, codes.CREATED, b"\x01\x02\x03\x04")


# --- separate answers --------------------------------------------------------------------------------------------


@pytest.mark.spec("MSG-5", "RFC 7252 5.2.2")
def test_a_late_answer_follows_an_empty_acknowledgement():
    bench = Bench()
    request = con(codes.POST, 7, path=("dp",), payload=bytes(40))
    bench.feed(request)
    received = bench.event(events.RequestReceived)
    bench.after(0.99)
    assert bench.sent() == []
    bench.after(0.01)
    assert bench.sent() == [ack(0, 7)]
    bench.feed(request)
    assert bench.sent() == [ack(0, 7)]
    bench.submit(actions.Respond(received.exchange, codes.CHANGED))
    (answer,) = bench.sent()
    assert (answer.type, answer.code, answer.token) == (CON, codes.CHANGED, b"\x01\x02\x03\x04")
    bench.feed(request)
    assert bench.sent() == [ack(0, 7)]
    bench.after(3)
    assert bench.sent() == [answer]
    bench.feed(ack(0, answer.mid))
    bench.after(100)
    assert (bench.sent(), bench.events()) == ([], [])


def test_a_peer_may_have_its_own_patience():
    bench = Bench()
    bench.submit(actions.SetParameters(DEVICE, Parameters(separate_after_s=0.25)))
    bench.feed(con(codes.POST, 7, path=("dp",)))
    bench.after(0.25)
    assert bench.sent() == [ack(0, 7)]


def test_a_late_answer_that_is_reset_is_only_counted():
    bench = Bench()
    bench.feed(con(codes.POST, 7, path=("dp",)))
    received = bench.event(events.RequestReceived)
    bench.after(1)
    bench.submit(actions.Respond(received.exchange, codes.CHANGED))
    answer = bench.sent()[-1]
    bench.feed(rst(answer.mid))
    assert bench.event(events.Refused).reason == "answer_reset"
    assert answer.type == CON != RST


# --- room --------------------------------------------------------------------------------------------------------


def test_idle_peers_are_forgotten():
    bench = Bench()
    serve(bench, 7)
    bench.after(3 * EXCHANGE_LIFETIME_S)
    assert bench.engine.deadline() is None


def test_who_is_not_known_is_forgotten_without_a_trace():
    bench = Bench()
    bench.submit(actions.ForgetPeer(DEVICE), actions.ForgetObservation(DEVICE, b"token"))
    assert bench.engine.deadline() is None
    assert bench.events() == []


def test_a_full_table_refuses_newcomers_but_makes_room_from_idle_ones():
    bench = Bench(limits=Limits(peers_total=2))
    for port in (1, 2):
        bench.feed(con(codes.POST, 1, path=("dp",)), peer=PeerId("udp", "h", port))
    bench.events()
    third = PeerId("udp", "h", 3)
    bench.feed(con(codes.POST, 1, path=("dp",)), peer=third)
    assert bench.event(events.Refused).reason == "peers_total"
    bench.submit(read())
    assert bench.event(events.RequestFailed).detail == "peers_total"

    bench = Bench(limits=Limits(peers_total=1))
    bench.submit(actions.VerifyPeer(DEVICE))
    bench.feed(con(codes.POST, 1, path=("dp",)), peer=third)
    assert bench.event(events.RequestReceived).peer == third
