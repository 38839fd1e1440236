"""Commands for devices that sleep, fall silent, restart or are away: each is delivered once or ended truthfully
(contract §3 queue mode; Device to Cloud §7.3)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.core.ids import PeerId
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_commands import execute, path_of, read, status, write
from tests.scenario.test_observations import establish, notification, observe
from tests.scenario.test_registration import ELSEWHERE, register
from tests.scenario.test_storms import SLEEPER, responses

BODY = b"</1/0>,</3/0>,</3303/0>"


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(queue_s=600)
    yield made
    made.close()


@pytest.fixture
def unlimited() -> Iterator[Stack]:
    """Commands wait as long as the registration lasts."""
    made = Stack()
    yield made
    made.close()


def asleep(stack: Stack) -> tuple[Any, str]:
    """A registered sleeper whose awake window is over, with its location."""
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack << after(94)
    return device, location


def answer(stack: Stack, request: Message, peer: PeerId = HOME) -> None:
    """A text in what was asked for, as SenML CBOR, or Changed for a Write."""
    path = path_of(request).encode()
    if request.code == codes.PUT:
        stack << ack(codes.CHANGED, mid=request.mid, token=request.token, peer=peer)
        return
    senml = b"\x81\xa2\x21" + bytes([0x60 + len(path)]) + path + b"\x03\x64ACME"
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=senml, content_format=112, peer=peer)


def wake(stack: Stack, location: str, mid: int = 2) -> None:
    stack << con(codes.POST, location, mid=mid) >> ack(codes.CHANGED, mid=mid)


def restarted(stack: Stack) -> Stack:
    again = Stack(store=stack.store, clock=stack.clock, seed=stack.seed + 1, queue_s=stack.queue_s)
    again.run(again._then_settle(again.commands.recover()))
    return again


def waiting(stack: Stack, device: Any) -> int:
    assert stack.store is not None
    return len(stack.run(stack.store.outgoing_messages(device.device_id, 100, 0)))


# -- asleep --


@pytest.mark.spec("QM-3", "D2C 7.3")
def test_commands_wait_in_outgoing_until_the_sleeper_is_heard_and_leave_in_order(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack.post(device, read("/3/0/1"))
    assert stack.silent()
    assert waiting(stack, device) == 2
    wake(stack, location)
    for path in ("/3/0/0", "/3/0/1"):
        request = stack.take()
        assert path_of(request) == path
        assert stack.silent()
        answer(stack, request)
    assert responses(stack, device) == [(200, "ok"), (200, "ok")]
    assert waiting(stack, device) == 0


@pytest.mark.spec("QM-3")
@pytest.mark.parametrize("uplink", ["update", "send", "register", "notify"])
def test_any_uplink_wakes_the_queue_after_it_has_been_answered(stack: Stack, uplink: str) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack << after(94)
    stack.post(device, read("/3/0/0"))
    assert stack.silent()
    senml = b'[{"n":"/3303/0/5700","v":1}]'
    uplinks: dict[str, Callable[[], Any]] = {
        "update": lambda: con(codes.POST, location, mid=9),
        "send": lambda: con(codes.POST, "/dp", mid=9, payload=senml, content_format=110),
        "register": lambda: con(codes.POST, SLEEPER, mid=9, payload=BODY, content_format=40),
        "notify": lambda: notification(token, mid=9, number=5),
    }
    stack << uplinks[uplink]()
    assert stack.take().mid == 9
    paths = [path_of(each) for _, each in stack.out if each.code == codes.GET]
    assert "/3/0/0" in paths


@pytest.mark.spec("QM-4")
def test_a_sleeper_that_falls_asleep_before_it_answers_is_asked_again_when_it_wakes(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    wake(stack, location)
    first = stack.take()
    stack << after(120)
    assert {path_of(each) for _, each in stack.out} == {"/3/0/0"}
    stack.out.clear()
    assert responses(stack, device) == []
    wake(stack, location, mid=3)
    again = stack.take()
    assert (path_of(again), again.mid != first.mid) == ("/3/0/0", True)
    answer(stack, again)
    answer(stack, stack.take())
    assert responses(stack, device) == [(200, "ok"), (200, "ok")]
    assert stack.store is not None
    assert len(stack.run(stack.store.sent_messages(device.device_id, 10, 0))) == 2


@pytest.mark.spec("QM-4")
def test_an_execute_that_went_unanswered_is_never_sent_twice(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, execute("/3/0/4"), read("/3/0/1"))
    wake(stack, location)
    assert path_of(stack.take()) == "/3/0/4"
    stack << after(120)
    stack.out.clear()
    assert responses(stack, device) == [(408, "timeout-binding")]
    wake(stack, location, mid=3)
    assert path_of(stack.take()) == "/3/0/1"


@pytest.mark.spec("QM-4")
def test_a_read_that_is_never_answered_ends_after_three_tries(unlimited: Stack) -> None:
    stack = unlimited
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    for mid in (2, 3, 4):
        assert responses(stack, device) == []
        wake(stack, location, mid)
        assert path_of(stack.take()) == "/3/0/0"
        stack << after(120)
        stack.out.clear()
    assert responses(stack, device) == [(408, "timeout-binding")]


@pytest.mark.spec("D2C 7.3", "QM-5")
def test_a_command_whose_time_is_over_is_answered_and_leaves_outgoing(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack << after(599)
    assert responses(stack, device) == []
    stack << after(2)
    assert responses(stack, device) == [(408, "timeout-binding")]
    detail = stack.received(device)[-1]["status"]["detail"]
    assert "not heard within the command's time" in detail
    assert waiting(stack, device) == 0
    wake(stack, location)
    assert stack.silent()


@pytest.mark.spec("D2C 7.3", "QM-5")
def test_an_application_says_itself_how_long_its_command_may_wait(unlimited: Stack) -> None:
    stack = unlimited
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"), expires_ms=stack.clock.wall_ms() + 30_000)
    stack << after(31)
    assert responses(stack, device) == [(408, "timeout-binding")]


@pytest.mark.spec("D2C 7.3")
def test_without_a_time_of_its_own_a_command_waits_for_the_rest_of_the_lifetime(unlimited: Stack) -> None:
    stack = unlimited
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack << after(2900)
    assert responses(stack, device) == []
    stack << after(100)
    assert responses(stack, device) == [(408, "timeout-binding")]
    assert "before the command could be sent" in stack.received(device)[-1]["status"]["detail"]


# -- away --


@pytest.mark.spec("D2C 7.3")
def test_a_command_for_a_device_that_is_not_registered_waits_where_a_time_is_set(stack: Stack) -> None:
    device = stack.provision("dev1")
    stack.post(device, read("/3/0/0"))
    assert responses(stack, device) == []
    register(stack)
    request = stack.take()
    answer(stack, request)
    assert responses(stack, device) == [(200, "ok")]


@pytest.mark.spec("D2C 7.3")
def test_without_a_time_it_is_answered_at_once(unlimited: Stack) -> None:
    device = unlimited.provision("dev1")
    unlimited.post(device, read("/3/0/0"))
    assert responses(unlimited, device) == [(408, "timeout-binding")]


@pytest.mark.spec("D2C 7.3")
def test_a_command_with_time_left_outlives_the_registration(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack << con(codes.DELETE, location, mid=3) >> ack(codes.DELETED, mid=3)
    assert responses(stack, device) == []
    stack << con(codes.POST, SLEEPER, mid=4, payload=BODY, content_format=40)
    assert stack.take().code == codes.CREATED
    answer(stack, stack.take())
    assert responses(stack, device) == [(200, "ok")]


# -- registering anew, moving --


@pytest.mark.spec("QM-5", "R-9", "T-4", "READ-7")
def test_what_waits_survives_a_new_registration_from_another_address(stack: Stack) -> None:
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack << con(codes.POST, SLEEPER, mid=9, payload=BODY, content_format=40, peer=ELSEWHERE)
    created, request = stack.out.pop(0), stack.out.pop(0)
    assert (created[0], created[1].code) == (ELSEWHERE, codes.CREATED)
    assert (request[0], path_of(request[1])) == (ELSEWHERE, "/3/0/0")


@pytest.mark.spec("QM-5", "R-9")
@pytest.mark.parametrize(
    ("command", "comes_again", "ends"),
    [(read("/3/0/0"), True, []), (execute("/3/0/4"), False, [(408, "timeout-binding")])],
)
def test_a_command_on_its_way_while_the_device_registers_anew_is_repeated_only_where_that_is_harmless(
    stack: Stack, command: CommandRequest, comes_again: bool, ends: list[Any]
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, command)
    stack.take()
    stack << con(codes.POST, SLEEPER, mid=9, payload=BODY, content_format=40, peer=ELSEWHERE)
    assert stack.take().code == codes.CREATED
    assert bool(stack.out) is comes_again
    assert responses(stack, device) == ends


# -- restarts --


@pytest.mark.spec("QM-5", "D2C 7.3")
def test_a_sleepers_commands_of_before_and_after_a_restart_leave_in_the_order_of_their_posting(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    again = restarted(stack)
    again.post(device, read("/3/0/1"))
    assert again.silent()
    wake(again, location)
    for path in ("/3/0/0", "/3/0/1"):
        request = again.take()
        assert path_of(request) == path
        answer(again, request)
    assert responses(again, device) == [(200, "ok"), (200, "ok")]
    again.close()


@pytest.mark.spec("QM-5")
def test_a_command_that_was_sent_before_a_restart_keeps_its_place_and_is_sent_once_more(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"), write("/1/0/1", "300"))
    wake(stack, location)
    stack.take()
    again = restarted(stack)
    assert again.silent()
    wake(again, location, mid=5)
    request = again.take()
    assert path_of(request) == "/3/0/0"
    answer(again, request)
    assert path_of(again.take()) == "/1/0/1"
    again.close()


@pytest.mark.spec("QM-5", "D2C 7.3")
def test_a_commands_time_runs_on_while_the_server_is_away(stack: Stack) -> None:
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack.clock.at += 700
    again = restarted(stack)
    again << after(1)
    assert responses(again, device) == [(408, "timeout-binding")]
    again.close()


# -- cancelling --


@pytest.mark.spec("QM-5")
def test_a_cancelled_command_is_answered_and_never_sent(stack: Stack) -> None:
    device, location = asleep(stack)
    message = stack.post(device, read("/3/0/0"), read("/3/0/1"))
    stack.post(device, read("/3/0/2"))
    assert stack.run(stack._then_settle(stack.commands.cancel(device, message)))
    assert responses(stack, device) == [(408, "cancelled"), (408, "cancelled")]
    assert waiting(stack, device) == 1
    wake(stack, location)
    assert path_of(stack.take()) == "/3/0/2"
    assert not stack.run(stack._then_settle(stack.commands.cancel(device, message)))


@pytest.mark.spec("QM-5")
def test_a_command_of_an_earlier_run_can_be_cancelled(stack: Stack) -> None:
    device, location = asleep(stack)
    message = stack.post(device, read("/3/0/0"))
    again = restarted(stack)
    assert again.run(again._then_settle(again.commands.cancel(device, message)))
    assert responses(again, device) == [(408, "cancelled")]
    wake(again, location)
    assert again.silent()
    again.close()


def test_what_was_sent_cannot_be_cancelled(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    message = stack.post(device, read("/3/0/0"))
    stack.take()
    assert not stack.run(stack._then_settle(stack.commands.cancel(device, message)))
    assert responses(stack, device) == []


# -- silence --


@pytest.mark.spec("QM-4")
def test_a_dead_device_does_not_slow_another(stack: Stack) -> None:
    dead = stack.provision("dev1")
    register(stack)
    other = PeerId("udp", "192.0.2.9", 41000, HOME.local_host, HOME.local_port)
    alive = stack.provision("dev2")
    register(stack, mid=2, target="/rd?ep=dev2&lwm2m=1.1&lt=300", peer=other)
    for number in range(5):
        stack.post(dead, read(f"/3/0/{number}"))
    stack.out.clear()
    stack.post(alive, read("/3/0/0"))
    answer(stack, stack.take(), peer=other)
    assert status(stack, alive) == (200, "ok")
