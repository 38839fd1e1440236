"""Observing: relations, freshness, acknowledgement after storing, large notifications, moving and ending."""

import pytest
from coap_wire import DEVICE, MOVED, Bench, ack, con, non, rst

from stellwerk.coap import actions, codes, events
from stellwerk.coap.observe import Relation
from stellwerk.coap.options import BLOCK2, ETAG, OBSERVE, encode_block, encode_uint, read_options
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S

TOKEN = b"obs1"


def observe(handle=1, number=0, token=TOKEN):
    return actions.SendRequest(handle, DEVICE, codes.GET, token, ("3", "0", "9"), accept=112, observe=number)


def seq(number):
    return ((OBSERVE, encode_uint(number)),)


def notify(mid, number, payload=b"1", kind=con, code=codes.CONTENT, token=TOKEN, options=()):
    options = (*options, *(seq(number) if number is not None else ()))
    return kind(code, mid, token, content_format=112, options=options, payload=payload)


def observing(number=1, **how):
    """A bench with one relation, its request answered."""
    bench = Bench(**how)
    bench.submit(observe())
    (request,) = bench.sent()
    assert request.options[0] == (OBSERVE, b"")
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, options=seq(number), payload=b"0"))
    assert bench.event(events.ResponseReceived).observe == number
    return bench


@pytest.mark.spec("OB-1", "RFC 7641 3.1")
def test_an_answer_without_observe_is_no_relation():
    bench = Bench()
    bench.submit(observe())
    (request,) = bench.sent()
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, payload=b"0"))
    assert bench.event(events.ResponseReceived).observe is None
    bench.feed(notify(5, 2))
    assert bench.event(events.TokenQuestion).token == TOKEN


@pytest.mark.spec("OB-3", "RFC 7641 3.5")
def test_a_confirmable_notification_is_acknowledged_once_it_is_stored():
    bench = observing()
    bench.feed(notify(5, 2, b"two"))
    got = bench.event(events.NotificationReceived)
    assert (got.handle, got.peer, got.token, got.code, got.observe) == (1, DEVICE, TOKEN, codes.CONTENT, 2)
    assert (got.content_format, got.payload, got.confirmable) == (112, b"two", True)
    bench.after(2)
    bench.feed(notify(5, 2, b"two"))
    assert (bench.sent(), bench.events()) == ([], [])
    bench.submit(actions.AcceptNotification(got.exchange))
    assert bench.sent() == [ack(0, 5)]
    bench.feed(notify(5, 2, b"two"))
    assert bench.sent() == [ack(0, 5)]
    assert bench.events() == []


@pytest.mark.spec("MSG-14")
def test_a_dropped_notification_is_heard_again_when_it_is_repeated():
    bench = observing()
    bench.feed(notify(5, 2))
    bench.submit(actions.Drop(bench.event(events.NotificationReceived).exchange))
    assert bench.sent() == []
    bench.feed(notify(5, 2))
    bench.submit(actions.AcceptNotification(bench.event(events.NotificationReceived).exchange))
    assert bench.sent() == [ack(0, 5)]


@pytest.mark.spec("T-9")
def test_a_non_confirmable_notification_needs_no_acknowledgement():
    bench = observing()
    bench.feed(notify(5, 2, kind=non))
    got = bench.event(events.NotificationReceived)
    bench.submit(actions.AcceptNotification(got.exchange))
    bench.feed(notify(5, 2, kind=non))
    assert (bench.sent(), bench.events()) == ([], [])


@pytest.mark.spec("OB-2", "RFC 7641 3.4")
@pytest.mark.parametrize(
    ("seen", "number", "later", "fresh"),
    [
        (1, 2, 0, True),
        (2, 1, 0, False),
        (2, 2, 0, False),
        (0, (1 << 23) - 1, 0, True),
        (0, 1 << 23, 0, False),
        (0xFFFFFF, 0, 0, True),
        ((1 << 23) + 1, 0, 0, True),
        (1 << 23, 0, 0, False),
        (9, 3, 128, False),
        (9, 3, 128.1, True),
    ],
)
def test_freshness(seen, number, later, fresh):
    relation = Relation(1, TOKEN, None)
    relation.seen, relation.seen_at = seen, 10.0
    assert relation.is_fresh(number, 10.0 + later) is fresh


@pytest.mark.spec("OB-2", "OB-3")
def test_a_stale_notification_is_acknowledged_and_counted():
    bench = observing(number=7)
    bench.feed(notify(5, 6))
    assert bench.event(events.Refused).reason == "stale"
    assert bench.sent() == [ack(0, 5)]
    bench.after(129)
    bench.feed(notify(6, 6))
    assert bench.event(events.NotificationReceived).observe == 6


@pytest.mark.spec("OB-4", "RFC 7641 3.2")
def test_an_error_is_told_and_ends_the_relation():
    bench = observing()
    bench.feed(notify(5, None, b"", code=codes.NOT_FOUND))
    got, lost = bench.events()
    assert (got.code, got.handle) == (codes.NOT_FOUND, 1)
    assert (lost.handle, lost.token, lost.reason) == (1, TOKEN, "4.04")
    bench.submit(actions.AcceptNotification(got.exchange))
    assert bench.sent() == [ack(0, 5)]
    bench.feed(notify(6, 9))
    assert bench.event(events.TokenQuestion)


@pytest.mark.spec("OB-5", "RFC 7641 3.6")
def test_an_active_cancellation_has_the_same_token():
    bench = observing()
    bench.submit(observe(handle=2, number=1))
    (request,) = bench.sent()
    assert (request.token, request.options[0]) == (TOKEN, (OBSERVE, b"\x01"))
    # A last notification on its way is still one.
    bench.feed(notify(5, 2, b"late"))
    assert bench.event(events.NotificationReceived).payload == b"late"
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, payload=b"now"))
    got = bench.event(events.ResponseReceived)
    assert (got.handle, got.observe, got.payload) == (2, None, b"now")
    bench.feed(notify(6, 3))
    assert bench.event(events.TokenQuestion)


@pytest.mark.spec("OB-3", "OB-5", "RFC 7641 3.6")
def test_a_forgotten_relation_ends_by_reset():
    bench = observing()
    bench.submit(actions.ForgetObservation(DEVICE, TOKEN))
    bench.feed(notify(5, 2))
    bench.submit(actions.RejectToken(bench.event(events.TokenQuestion).exchange))
    assert bench.sent() == [rst(5)]


@pytest.mark.spec("OB-7")
def test_a_forgotten_peer_has_no_relations():
    bench = observing()
    bench.submit(actions.ForgetPeer(DEVICE))
    bench.feed(notify(5, 2, kind=non))
    bench.submit(actions.RejectToken(bench.event(events.TokenQuestion).exchange))
    assert bench.sent() == [rst(5)]


@pytest.mark.spec("MSG-12")
def test_a_reset_renewal_loses_the_relation():
    bench = observing()
    bench.submit(observe(handle=2))
    (request,) = bench.sent()
    bench.feed(rst(request.mid))
    failed, lost = bench.events()
    assert (failed.handle, failed.reason) == (2, "reset")
    assert (lost.handle, lost.reason) == (1, "reset")


@pytest.mark.spec("OB-1")
def test_a_renewal_answered_plainly_loses_the_relation():
    bench = observing()
    bench.submit(observe(handle=2))
    (request,) = bench.sent()
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, payload=b"0"))
    assert {type(event) for event in bench.events()} == {events.ObservationLost, events.ResponseReceived}


@pytest.mark.spec("RFC 7641 3.1")
def test_a_notification_may_overtake_the_first_answer():
    bench = Bench()
    bench.submit(observe())
    (request,) = bench.sent()
    bench.feed(notify(5, 4, b"new"))
    got = bench.event(events.ResponseReceived)
    assert (got.payload, got.observe) == (b"new", 4)
    assert bench.sent() == [ack(0, 5)]
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, options=seq(3), payload=b"old"))
    assert bench.events() == []
    bench.feed(notify(6, 3))
    assert bench.event(events.Refused).reason == "stale"


@pytest.mark.spec("OB-8")
def test_after_a_restart_an_observation_is_adopted_and_its_notification_asked_about():
    bench = Bench(ask_until=EXCHANGE_LIFETIME_S)
    bench.feed(notify(5, 9, b"x"))
    question = bench.event(events.TokenQuestion)
    bench.submit(actions.AdoptObservation(42, DEVICE, TOKEN, question.exchange))
    asked = bench.event(events.RequestQuestion)
    bench.submit(actions.Proceed(asked.exchange))
    got = bench.event(events.NotificationReceived)
    assert (got.handle, got.payload, got.receipt) == (42, b"x", asked.receipt)
    bench.submit(actions.AcceptNotification(got.exchange))
    assert bench.sent() == [ack(0, 5)]


@pytest.mark.spec("MSG-1")
def test_a_notification_stored_before_the_restart_is_only_acknowledged():
    bench = Bench(ask_until=EXCHANGE_LIFETIME_S)
    bench.submit(actions.AdoptObservation(42, DEVICE, TOKEN))
    bench.feed(notify(5, 9))
    bench.submit(actions.Recall(bench.event(events.RequestQuestion).exchange, codes.CONTENT))
    assert bench.sent() == [ack(0, 5)]
    assert bench.events() == []


def test_relations_follow_a_device_that_moves():
    bench = observing()
    bench.submit(actions.MovePeer(DEVICE, MOVED))
    bench.feed(notify(5, 2), peer=MOVED)
    got = bench.event(events.NotificationReceived)
    assert (got.peer, got.handle) == (MOVED, 1)
    bench.feed(notify(6, 3))
    assert bench.event(events.TokenQuestion).peer == DEVICE


@pytest.mark.spec("RFC 7252 5.4.1")
def test_a_notification_with_an_unknown_critical_option_is_rejected():
    bench = observing()
    bench.feed(notify(5, 2, options=((65, b""),)))
    assert bench.sent() == [rst(5)]
    assert bench.event(events.Refused).reason == "malformed"


# --- large notifications (BLK-10) --------------------------------------------------------------------------------


def blocks(number, more, etag=b"e1"):
    return ((BLOCK2, encode_block(number, more, 0)), (ETAG, etag))


@pytest.mark.spec("BLK-10", "RFC 7959 2.6")
def test_the_rest_of_a_large_notification_is_fetched_without_observe():
    bench = observing()
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    (fetch,) = bench.sent()
    view = read_options(fetch.options)
    assert (view.block2, view.observe, view.path, view.accept) == ((1, False, 0), None, ("3", "0", "9"), 112)
    assert fetch.token != TOKEN
    bench.feed(ack(codes.CONTENT, fetch.mid, fetch.token, options=blocks(1, False), payload=b"end"))
    got = bench.event(events.NotificationReceived)
    assert (got.payload, got.observe, got.content_format) == (bytes(16) + b"end", 2, 112)
    bench.submit(actions.AcceptNotification(got.exchange))
    assert bench.sent() == [ack(0, 5)]


@pytest.mark.spec("BLK-10", "RFC 8132 2.1")
def test_the_rest_of_a_notification_about_a_list_is_fetched_with_the_list():
    bench = Bench()
    bench.submit(
        actions.SendRequest(1, DEVICE, codes.FETCH, TOKEN, content_format=112, accept=112, observe=0, payload=b"list")
    )
    (request,) = bench.sent()
    # Further blocks of the answer itself belong to this request, which has said it (BLK-9).
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, options=(*seq(1), *blocks(0, True)), payload=bytes(16)))
    (first,) = bench.sent()
    assert (first.payload, read_options(first.options).content_format) == (b"", None)
    bench.feed(ack(codes.CONTENT, first.mid, first.token, options=blocks(1, False), payload=b"1"))
    assert bench.event(events.ResponseReceived).observe == 1
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    (fetch,) = bench.sent()
    view = read_options(fetch.options)
    assert (fetch.code, fetch.payload, view.content_format, view.observe) == (codes.FETCH, b"list", 112, None)


@pytest.mark.spec("BLK-10")
def test_while_fetching_takes_long_the_notification_is_acknowledged():
    bench = observing()
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    bench.sent()
    bench.after(1)
    assert bench.sent() == [ack(0, 5)]


@pytest.mark.spec("BLK-10", "MSG-3")
def test_a_first_block_that_breaks_the_rules_is_settled_once():
    bench = observing()
    for number in range(2, 40):
        bench.feed(notify(number, number, b"short", options=blocks(0, True)))
        assert [event.reason for event in bench.events()] == ["notification_incomplete"]
    assert len(bench.sent()) == 38
    bench.after(3 * 247)
    answers = bench.engine._layer.answers
    assert answers.total == 0
    assert bench.engine._layer.peers.find(DEVICE).pending == 0


@pytest.mark.spec("BLK-10")
def test_a_newer_notification_ends_the_fetch_of_an_older():
    bench = observing()
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    (fetch,) = bench.sent()
    bench.feed(notify(6, 3, b"small"))
    refused, got = bench.events()
    assert refused.reason == "superseded"
    assert (got.payload, got.observe) == (b"small", 3)
    assert bench.sent() == [ack(0, 5)]
    bench.feed(ack(codes.CONTENT, fetch.mid, fetch.token, options=blocks(1, False), payload=b"end"))
    assert bench.events() == []
    bench.after(100)
    assert bench.sent() == []


@pytest.mark.spec("BLK-10")
@pytest.mark.parametrize("payload", [b"small", bytes(16)])
def test_a_newer_notification_replaces_a_first_answer_still_being_fetched(payload):
    bench = Bench()
    bench.submit(observe())
    (request,) = bench.sent()
    bench.feed(ack(codes.CONTENT, request.mid, TOKEN, options=(*blocks(0, True), *seq(1)), payload=bytes(16)))
    bench.sent()
    large = len(payload) == 16
    bench.feed(notify(6, 3, payload, options=blocks(0, True, b"e2") if large else ()))
    if large:
        acknowledged, fetch = bench.sent()
        bench.feed(ack(codes.CONTENT, fetch.mid, fetch.token, options=blocks(1, False, b"e2"), payload=b"!"))
        payload += b"!"
    else:
        (acknowledged,) = bench.sent()
    assert acknowledged == ack(0, 6)
    got = bench.event(events.ResponseReceived)
    assert (got.payload, got.observe) == (payload, 3)
    bench.feed(notify(7, 4, b"next"))
    assert bench.event(events.NotificationReceived).payload == b"next"


@pytest.mark.spec("BLK-10", "OB-3")
def test_a_rest_that_cannot_be_had_is_said_and_the_relation_stays():
    bench = observing()
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    (fetch,) = bench.sent()
    bench.feed(ack(codes.NOT_FOUND, fetch.mid, fetch.token))
    assert bench.event(events.Refused).reason == "notification_incomplete"
    assert bench.sent() == [ack(0, 5)]
    bench.feed(notify(6, 3))
    assert bench.event(events.NotificationReceived)


@pytest.mark.spec("BLK-10", "OB-8")
def test_an_adopted_observation_fetches_with_the_request_it_was_given():
    bench = Bench()
    bench.submit(actions.AdoptObservation(42, DEVICE, TOKEN, None, observe()))
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    (fetch,) = bench.sent()
    assert read_options(fetch.options).path == ("3", "0", "9")
    bench = Bench()
    bench.submit(actions.AdoptObservation(42, DEVICE, TOKEN))
    bench.feed(notify(5, 2, bytes(16), options=blocks(0, True)))
    assert bench.event(events.Refused).reason == "notification_incomplete"
