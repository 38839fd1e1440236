"""Requests to a peer that sleeps: held, repeated when it is heard, and never beyond what its memory of them allows."""

import pytest
from tests.unit.coap.coap_wire import DEVICE, Bench, ack

from stellwerk.coap import actions, codes, events


def request(handle: int = 1, **fields) -> actions.SendRequest:
    return actions.SendRequest(handle, DEVICE, codes.GET, b"tok" + bytes([handle]), ("3",), **fields)


@pytest.mark.spec("QM-2", "QM-4")
def test_a_held_request_is_not_repeated_and_still_ends_in_its_time() -> None:
    bench = Bench()
    bench.submit(request())
    assert len(bench.sent()) == 1
    bench.submit(actions.HoldRequest(1))
    bench.after(61)
    assert (bench.sent(), bench.events()) == ([], [])
    bench.after(33)
    assert bench.event(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("QM-3", "RFC 7252 4.5")
def test_a_held_request_is_repeated_at_once_with_its_message_id_when_the_peer_is_heard() -> None:
    bench = Bench()
    bench.submit(request())
    (first,) = bench.sent()
    bench.submit(actions.HoldRequest(1))
    bench.after(10)
    bench.submit(actions.RepeatRequest(1))
    assert bench.sent() == [first]
    bench.feed(ack(codes.CONTENT, first.mid, first.token))
    assert bench.event(events.ResponseReceived).handle == 1


def test_what_has_just_left_is_not_repeated() -> None:
    bench = Bench()
    bench.submit(request())
    bench.sent()
    bench.after(0.2)
    bench.submit(actions.RepeatRequest(1))
    assert bench.sent() == []


def test_what_left_within_its_own_ack_timeout_is_not_repeated() -> None:
    bench = Bench()
    bench.submit(request(ack_timeout_s=15))
    bench.sent()
    bench.after(10)
    bench.submit(actions.RepeatRequest(1))
    assert bench.sent() == []
    # It may have been missed, though: the next repetition leaves, held or not.
    bench.submit(actions.HoldRequest(1))
    bench.after(13)
    assert len(bench.sent()) == 1


@pytest.mark.spec("RFC 7252 4.8.2")
def test_nothing_is_repeated_after_the_peer_may_have_forgotten_its_message_id() -> None:
    bench = Bench()
    bench.submit(request(ack_timeout_s=30))
    bench.sent()
    bench.submit(actions.HoldRequest(1))
    bench.after(248)
    bench.submit(actions.RepeatRequest(1))
    assert bench.sent() == []
    bench.after(1200)
    assert bench.event(events.RequestFailed).reason == "timeout"


@pytest.mark.spec("RFC 7252 4.8.1")
def test_a_request_may_have_an_ack_timeout_of_its_own() -> None:
    bench = Bench()
    bench.submit(request(ack_timeout_s=15))
    bench.sent()
    bench.after(14)
    assert bench.sent() == []
    bench.after(9)
    assert len(bench.sent()) == 1


@pytest.mark.spec("QM-2")
def test_an_empty_acknowledgement_is_told_before_the_answer() -> None:
    bench = Bench()
    bench.submit(request())
    (sent,) = bench.sent()
    bench.feed(ack(0, sent.mid))
    assert (bench.events(), bench.reactions) == ([], [(1, True)])


@pytest.mark.spec("QM-2")
def test_each_block_that_is_taken_shows_that_the_peer_is_there() -> None:
    bench = Bench()
    bench.submit(actions.SendRequest(1, DEVICE, codes.PUT, b"tokn", ("5", "0", "0"), payload=bytes(2500)))
    for number in range(2):
        (sent,) = bench.sent()
        more = number << 4 | 0x0E
        bench.feed(ack(codes.CONTINUE, sent.mid, sent.token, options=[(27, bytes([more]))]))
        assert (bench.events(), bench.reactions) == ([], [(1, False)] * (number + 1))


def test_a_request_that_is_over_is_neither_held_nor_repeated() -> None:
    bench = Bench()
    bench.submit(actions.HoldRequest(9))
    bench.submit(actions.RepeatRequest(9))
    assert (bench.sent(), bench.events()) == ([], [])


@pytest.mark.spec("QM-3")
def test_what_had_just_left_is_repeated_once_although_the_peer_sleeps_again_by_then() -> None:
    bench = Bench()
    bench.submit(request())
    (first,) = bench.sent()
    bench.after(0.2)
    bench.submit(actions.RepeatRequest(1))
    bench.submit(actions.HoldRequest(1))
    bench.after(3)
    assert bench.sent() == [first]
    bench.after(50)
    assert bench.sent() == []
