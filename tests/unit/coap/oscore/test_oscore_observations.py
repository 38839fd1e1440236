"""Observations under OSCORE: which notifications are taken, in which order, and what is left of them."""

import pytest
from oscore_wire import (
    DEVICE_UDP,
    Talk,
    device_material,
    observed,
)

from stellwerk.coap import actions, codes, events
from stellwerk.coap.message import NON, Message, decode_message, encode_message
from stellwerk.coap.options import OBSERVE, OSCORE
from stellwerk.coap.oscore.context import Keys
from stellwerk.coap.oscore.protection import bind, seal_response


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
    talk = observed()
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
    talk = observed()
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


@pytest.mark.spec("RFC 7641 3.6")
def test_a_notification_that_nobody_wants_is_reset():
    talk = observed()
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
    talk = observed()
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
    talk = observed()
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


def test_nothing_is_left_of_tokens_whose_requests_are_over():
    talk = observed()
    talk.device.on_request = lambda event: []
    for handle in (10, 11):
        talk.ask_device(handle, until=300.0)
    assert {event.handle for event in talk.server.of(events.RequestFailed)} == {10, 11}
    carrier = talk.server.engine._base.peers.find(DEVICE_UDP)
    assert carrier is not None
    assert list(carrier.guarded or ()) == [b"observed"]
    talk.server.engine.submit(actions.ForgetPeer(talk.to_device), talk.now)
    assert carrier.guarded is None
