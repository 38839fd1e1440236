"""The brake on the wire: who is answered 5.03, who is left without a word, and who is not touched."""

import pytest
from structlog.testing import capture_logs

from stellwerk.app.brake import HOLD_S, Bounds, Brake, Level, Strain
from stellwerk.coap import codes
from stellwerk.coap.message import ACK, Message
from stellwerk.coap.options import MAX_AGE
from stellwerk.lwm2m.path import Path
from tests.scenario.stack import SeededEntropy, Stack, ack, after, con, non
from tests.scenario.test_commands import NOTIFICATION, read
from tests.scenario.test_observations import VALUE, establish, notification, observe
from tests.scenario.test_registration import LINKS, REGISTER, register
from tests.scenario.trouble import TroubledStore


def press(stack: Stack, level: Level) -> None:
    """Set the brake as a queue of that length does."""
    queue = {Level.NONE: 0, Level.SEND: 1, Level.REGISTER: 2, Level.UPDATE: 4}[level] * Bounds().queue
    stack.clock.at += HOLD_S
    stack.brake.measure(Strain(queue=queue), stack.clock.now())
    assert stack.brake.level is level


def max_age(answer: Message) -> int:
    assert (answer.type, answer.code) == (ACK, codes.SERVICE_UNAVAILABLE)
    (seconds,) = [int.from_bytes(value, "big") for number, value in answer.options if number == MAX_AGE]
    return seconds


@pytest.mark.spec("MSG-14")
@pytest.mark.parametrize("level", list(Level))
def test_sends_are_refused_first_then_registers_and_updates_last(stack: Stack, level: Level) -> None:
    stack.provision("dev1")
    stack.provision("dev2")
    location = register(stack)
    press(stack, level)
    for threshold, code, target, payload in (
        (Level.SEND, codes.POST, "/dp", NOTIFICATION),
        (Level.REGISTER, codes.POST, REGISTER.replace("dev1", "dev2"), LINKS),
        (Level.UPDATE, codes.POST, location, b""),
        (Level.UPDATE, codes.DELETE, location, b""),
    ):
        content_format = {"/dp": 112, location: None}.get(target, 40)
        stack << con(code, target, mid=20 + len(stack.brake.refused), payload=payload, content_format=content_format)
        answer = stack.take()
        if level >= threshold:
            assert max_age(answer) >= 2
            assert answer.payload == b"overloaded; come again later"
        else:
            assert answer.code < codes.BAD_REQUEST, answer
        stack.clock.at += 0.1
    expected = {("send", 1), ("register", 2), ("update", 3), ("deregister", 3)}
    assert stack.brake.refused == {(what, "queue"): 1 for what, least in expected if level >= least}


@pytest.mark.spec("MSG-14")
def test_what_is_refused_is_not_even_looked_at(stack: Stack) -> None:
    press(stack, Level.UPDATE)
    for mid, target in enumerate(("/dp", "/rd?ep=", "/rd/nobody"), 1):
        stack << con(codes.POST, target, mid=mid, payload=b"\xff\xff", content_format=112)
        assert max_age(stack.take()) >= 2
    stack << con(codes.GET, "/3/0", mid=9) >> ack(codes.NOT_FOUND, mid=9)


@pytest.mark.spec("MSG-14")
def test_a_repetition_gets_the_refusal_and_a_new_try_gets_through(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    press(stack, Level.SEND)
    for _ in range(2):
        stack << con(codes.POST, "/dp", mid=7, payload=NOTIFICATION, content_format=112)
        assert max_age(stack.take()) >= 2
    press(stack, Level.NONE)
    stack << con(codes.POST, "/dp", mid=8, payload=NOTIFICATION, content_format=112) >> ack(codes.CHANGED, mid=8)
    assert len(stack.values(device, VALUE)) == 1


@pytest.mark.spec("MSG-14")
@pytest.mark.spec("OB-8")
def test_a_confirmable_notification_is_left_without_a_word_and_its_repetition_is_stored(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    before = len(stack.values(device, VALUE))
    press(stack, Level.SEND)
    repeated = notification(token, mid=50, number=2)
    stack << repeated << after(2.0) << repeated
    assert stack.silent()
    press(stack, Level.NONE)
    stack << repeated >> ack(mid=50)
    assert len(stack.values(device, VALUE)) == before + 1
    assert stack.observations.of(device.device_id, Path.parse(VALUE)) is not None
    assert stack.brake.refused == {("notification-left", "queue"): 2}
    assert stack.meters.notifications == {("con", "left"): 2, ("con", "stored"): 1}


@pytest.mark.parametrize(("level", "kept"), [(Level.SEND, 1), (Level.REGISTER, 0), (Level.UPDATE, 0)])
def test_a_notification_that_asks_for_no_answer_is_dropped_later_and_counted(
    stack: Stack, level: Level, kept: int
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    before = len(stack.values(device, VALUE))
    press(stack, level)
    stack << non(codes.CONTENT, mid=50, token=token, payload=NOTIFICATION, content_format=112, observe=2)
    assert stack.silent()
    assert len(stack.values(device, VALUE)) == before + kept
    assert stack.brake.refused == ({} if kept else {("notification-dropped", "queue"): 1})


def test_a_notification_that_the_store_does_not_take_is_counted_as_left() -> None:
    store = TroubledStore()
    stack = Stack(store)
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    store.full = True
    stack << notification(token, mid=50, number=2)
    assert stack.silent()
    assert stack.meters.notifications == {("con", "left"): 1}
    store.full = False
    stack << notification(token, mid=50, number=2) >> ack(mid=50)
    stack.close()


def test_answers_to_our_own_requests_are_taken_while_everything_else_is_refused(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    press(stack, Level.UPDATE)
    stack.post(device, read(VALUE))
    asked = stack.take()
    stack << ack(codes.CONTENT, mid=asked.mid, token=asked.token, payload=b"20.5", content_format=0)
    assert stack.received(device)[-1]["status"]["code"] == 200
    assert stack.meters.commands["succeeded"].count == 1


def test_what_came_of_our_own_requests_uses_the_reserve_of_a_full_queue() -> None:
    class Narrow(TroubledStore):
        """Takes only what may use the reserve."""

        narrow = False

        def submit(self, commit):  # type: ignore[no-untyped-def]
            self.full = self.narrow and not commit.reserve
            super().submit(commit)

    store = Narrow()
    stack = Stack(store)
    device = stack.provision("dev1")
    location = register(stack)
    stack.post(device, read(VALUE))
    asked = stack.take()
    store.narrow = True
    stack << con(codes.POST, location, mid=30)
    assert max_age(stack.take()) >= 2
    stack << ack(codes.CONTENT, mid=asked.mid, token=asked.token, payload=b"20.5", content_format=0)
    assert stack.received(device)[-1]["status"]["code"] == 200
    stack.close()


def test_uplinks_are_counted_by_kind_and_answer(stack: Stack) -> None:
    stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    stack << con(codes.POST, location, mid=3) >> ack(codes.CHANGED, mid=3)
    stack << con(codes.POST, "/dp", mid=4, payload=b"\xff", content_format=112) >> ack(codes.BAD_REQUEST, mid=4)
    stack << con(codes.GET, "/", mid=5) >> ack(codes.NOT_FOUND, mid=5)
    stack << con(codes.POST, "/rd?ep=stranger&lt=60&lwm2m=1.1", mid=6, payload=LINKS) >> ack(codes.FORBIDDEN, mid=6)
    stack << con(codes.POST, "/rd?lt=60&lwm2m=1.1", mid=7, payload=LINKS) >> ack(codes.BAD_REQUEST, mid=7)
    stack << con(codes.DELETE, location, mid=8) >> ack(codes.DELETED, mid=8)
    counted = {kind: dict(meter.answers) for kind, meter in stack.meters.uplinks.items()}
    assert counted == {
        "register": {201: 1, 403: 1, 400: 1},
        "update": {204: 2},
        "deregister": {202: 1},
        "send": {400: 1},
        "other": {404: 1},
    }
    assert stack.meters.registers_refused == {"not-provisioned": 1, "no-name": 1}
    assert {kind: meter.seconds.count for kind, meter in stack.meters.uplinks.items()} == {
        "register": 1, "update": 2, "deregister": 1, "send": 0, "other": 0
    }  # fmt: skip


def test_the_engine_counts_what_came_twice_and_what_it_sent_twice(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    for _ in range(3):
        stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    stack.post(device, read(VALUE))
    stack << after(12.0)
    assert (stack.engine.duplicates, stack.engine.retransmissions) == (2, 2)
    assert stack.engine.peers == 1


def test_a_brake_has_bounds_that_a_writer_keeps_room_above() -> None:
    from stellwerk.storage.sqlite.store import QUEUE_LIMIT
    from stellwerk.storage.sqlite.writer import QUEUE_BYTES

    tried = Brake(SeededEntropy())
    tried.measure(Strain(queue=QUEUE_LIMIT), 0.0)
    assert tried.level is Level.UPDATE
    tried = Brake(SeededEntropy())
    tried.measure(Strain(queue_bytes=QUEUE_BYTES), 0.0)
    assert tried.level is Level.UPDATE


@pytest.mark.spec("R-6")
def test_nobody_expires_for_an_update_that_was_refused(stack: Stack) -> None:
    stack.provision("dev1")
    location = register(stack)
    stack << after(290)
    press(stack, Level.UPDATE)
    stack << con(codes.POST, location, mid=30)
    assert max_age(stack.take()) >= 2
    for _ in range(10):
        stack << after(50)
        stack.brake.measure(Strain(failing="the disk is full"), stack.clock.now())
    press(stack, Level.NONE)
    stack << after(55)
    assert stack.registrations() == ["dev1"]
    stack << con(codes.POST, location, mid=31) >> ack(codes.CHANGED, mid=31)
    stack << after(290)
    assert stack.registrations() == ["dev1"]
    stack << after(20)
    assert stack.registrations() == []


def test_what_a_full_store_costs_is_not_said_for_each_message() -> None:
    store = TroubledStore()
    stack = Stack(store)
    device = stack.provision("dev1")
    location = register(stack)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    store.full = True
    with capture_logs() as lines:
        stack << con(codes.POST, location, mid=30)
        stack << con(codes.POST, "/dp", mid=31, payload=NOTIFICATION, content_format=112)
        stack << con(codes.POST, REGISTER, mid=32, payload=LINKS, content_format=40)
        stack << notification(token, mid=33, number=2)
        stack.post(device, read(VALUE))
        stack << after(100)
    assert {each["event"] for each in lines if each["log_level"] not in ("debug", "info")} == set()
    stack.close()
