"""Devices that sleep: when they listen, what is said to them meanwhile, and what becomes of what waits (contract §3,
QM-1 to QM-8)."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.records import DeviceChange, QueueFull
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message
from stellwerk.device.command import UNANSWERED, Command, Step
from stellwerk.device.profile import PowerMode, Profile, ProfileRecord
from tests.scenario.stack import Stack, ack, after, con, rst
from tests.scenario.test_commands import execute, path_of, read, write
from tests.scenario.test_observations import establish, notification, observe
from tests.scenario.test_queue import answer, asleep, restarted, wake
from tests.scenario.test_registration import ELSEWHERE, register
from tests.scenario.test_storms import SLEEPER, responses

ZONE = "/3/0/15"


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(queue_s=6000)
    yield made
    made.close()


def give(stack: Stack, name: str = "SCS-LwM2M", **settings: Any) -> None:
    """Store a profile, which the server takes up."""
    assert stack.store is not None
    record = ProfileRecord(stack.tenant_id, name, Profile(**settings), 1, 1)
    stack.run(stack.store.put_profile(record))
    stack.run(stack._then_settle(stack.profiles.refresh()))


def seconds(stack: Stack, count: int) -> None:
    """Time passes as the server sees it, which looks around once a second."""
    for _ in range(count):
        stack << after(1)


def sent(stack: Stack) -> list[str]:
    """Paths of what was sent and not looked at yet."""
    paths = [path_of(message) for _, message in stack.out if message.type == CON]
    stack.out.clear()
    return paths


def commands(stack: Stack, device: Any) -> list[Command]:
    """The device's, oldest first."""
    assert stack.store is not None
    return list(reversed(stack.run(stack.store.recent_commands(device.device_id, 100))))


def steps(stack: Stack, device: Any) -> list[Step]:
    return [each.step for each in commands(stack, device)]


def value_of(request: Message) -> bytes:
    return request.payload


# -- QM-2: the awake window --


@pytest.mark.spec("QM-2", "QM-8", "READ-5")
def test_a_profile_says_how_long_a_sleeper_listens(stack: Stack) -> None:
    give(stack, awake_s=10.0)
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack << after(11)
    stack.post(device, read("/3/0/0"))
    assert stack.silent()
    wake(stack, location)
    assert sent(stack) == ["/3/0/0"]


@pytest.mark.spec("QM-2")
def test_a_window_that_is_not_over_yet_lets_a_command_through(stack: Stack) -> None:
    give(stack, awake_s=10.0)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack << after(9)
    stack.post(device, read("/3/0/0"))
    assert sent(stack) == ["/3/0/0"]


@pytest.mark.spec("QM-2")
@pytest.mark.parametrize("how", ["ack", "response", "notify", "undecodable", "refused send", "reset"])
def test_whatever_a_sleeper_says_opens_its_window_anew(stack: Stack, how: str) -> None:
    give(stack, awake_s=10.0)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << after(9)
    said = {
        "ack": lambda: ack(mid=request.mid),
        "response": lambda: ack(codes.NOT_FOUND, mid=request.mid, token=request.token),
        "notify": lambda: notification(token, mid=9, number=5),
        "undecodable": lambda: con(codes.CONTENT, mid=9, token=token, payload=b"\xff", content_format=112, observe=5),
        "refused send": lambda: con(codes.POST, "/dp", mid=9, payload=b"\xff", content_format=110),
        "reset": lambda: rst(mid=request.mid),
    }
    stack << said[how]()
    stack << after(9)
    known = stack.registry.of(device.device_id)
    assert known is not None
    assert stack.turns.listens(known, stack.clock.now())
    stack << after(2)
    assert not stack.turns.listens(known, stack.clock.now())


@pytest.mark.spec("QM-2")
@pytest.mark.parametrize(
    ("power_mode", "target", "waits"),
    [
        (PowerMode.PSM, "/rd?ep=dev1&lt=3000&lwm2m=1.1&b=U", True),
        (PowerMode.DRX, SLEEPER, False),
        (None, SLEEPER, True),
        (None, "/rd?ep=dev1&lt=3000&lwm2m=1.1&b=U", False),
    ],
)
def test_a_power_mode_counts_more_than_how_the_device_registered(
    stack: Stack, power_mode: PowerMode | None, target: str, waits: bool
) -> None:
    give(stack, power_mode=power_mode)
    device = stack.provision("dev1")
    register(stack, target=target)
    stack << after(100)
    stack.post(device, read("/3/0/0"))
    assert stack.silent() == waits


@pytest.mark.spec("QM-8")
def test_a_device_with_paging_windows_gets_one_request_outside_of_them(stack: Stack) -> None:
    give(stack, power_mode=PowerMode.E_DRX, paging_window_s=5.0, edrx_cycle_s=80.0)
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack << after(60)
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    assert sent(stack) == ["/3/0/0"]
    # The network keeps it until the next page: to repeat it would only fill that memory.
    seconds(stack, 79)
    assert sent(stack) == []
    seconds(stack, 2)
    (first, second) = commands(stack, device)
    assert (first.step, first.reason, second.step) == (Step.SENT, UNANSWERED, Step.QUEUED)
    seconds(stack, 100)
    assert sent(stack) == []
    wake(stack, location)
    assert sent(stack) == ["/3/0/0"]


@pytest.mark.spec("QM-8")
def test_a_page_that_is_answered_lets_the_rest_follow(stack: Stack) -> None:
    give(stack, power_mode=PowerMode.E_DRX, paging_window_s=5.0, edrx_cycle_s=80.0)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack << after(60)
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    seconds(stack, 70)
    answer(stack, stack.take())
    answer(stack, stack.take())
    assert responses(stack, device) == [(200, "ok"), (200, "ok")]


def test_a_profile_that_changes_holds_for_what_waits_already(stack: Stack) -> None:
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    assert stack.silent()
    give(stack, power_mode=PowerMode.DRX)
    assert sent(stack) == ["/3/0/0"]


def test_a_device_that_gets_another_profile_is_treated_by_it_at_once(stack: Stack) -> None:
    give(stack, "always", power_mode=PowerMode.DRX)
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    assert stack.store is not None
    stack.run(stack.store.change_device(device.device_id, DeviceChange(2, profile="always")))
    stack.run(stack._then_settle(stack.profiles.refresh()))
    assert sent(stack) == ["/3/0/0"]


# -- QM-4: asleep in the middle --


@pytest.mark.spec("QM-4")
def test_what_a_sleeper_did_not_acknowledge_is_not_repeated_while_it_sleeps(stack: Stack) -> None:
    give(stack, awake_s=5.0)
    device, location = asleep(stack)
    stack.post(device, execute("/3/0/4"))
    wake(stack, location)
    first = stack.take()
    seconds(stack, 5)
    stack.out.clear()
    seconds(stack, 50)
    assert stack.silent()
    # The same message: a device that did get it answers without doing it twice.
    wake(stack, location, mid=3)
    again = stack.take()
    assert (again.mid, again.token) == (first.mid, first.token)
    stack << ack(codes.CHANGED, mid=again.mid, token=again.token)
    assert responses(stack, device) == [(200, "ok")]


@pytest.mark.spec("QM-3")
def test_what_left_a_moment_ago_is_not_doubled_because_the_device_spoke(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    wake(stack, location)
    stack.take()
    wake(stack, location, mid=3)
    assert stack.silent()


@pytest.mark.spec("QM-4", "QM-5")
def test_a_command_that_went_unanswered_says_so_while_it_waits_again(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    wake(stack, location)
    seconds(stack, 120)
    (command,) = commands(stack, device)
    assert (command.step, command.reason) == (Step.SENT, UNANSWERED)
    assert "1 of 3 tries made, the next when the device is heard" in command.detail
    stack.out.clear()
    wake(stack, location, mid=3)
    answer(stack, stack.take())
    (command,) = commands(stack, device)
    assert (command.step, command.reason) == (Step.SUCCEEDED, "ok")


@pytest.mark.spec("QM-4")
def test_an_answer_is_given_up_in_the_time_of_the_profile(stack: Stack) -> None:
    give(stack, request_timeout_s=20.0)
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, execute("/3/0/4"))
    stack << ack(mid=stack.take().mid)
    seconds(stack, 19)
    assert responses(stack, device) == []
    seconds(stack, 2)
    assert responses(stack, device) == [(408, "timeout")]


@pytest.mark.spec("RFC 7252 4.8.1", "T-9")
def test_a_profile_gives_devices_an_ack_timeout_of_their_own(stack: Stack) -> None:
    give(stack, ack_timeout_s=15.0)
    device = stack.provision("dev1")
    register(stack)
    stack << con(codes.POST, "/dp", mid=7, payload=b'[{"n":"/3/0/0","vs":"x"}]', content_format=110)
    stack.out.clear()
    stack.post(device, read("/3/0/0"))
    stack.take()
    stack << after(14)
    assert stack.silent()


@pytest.mark.spec("QM-5")
def test_a_command_that_is_acknowledged_and_not_answered_yet_is_delivered(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, execute("/3/0/4"))
    request = stack.take()
    stack << ack(mid=request.mid)
    assert steps(stack, device) == [Step.SENT]
    seconds(stack, 1)
    assert steps(stack, device) == [Step.DELIVERED]
    stack << con(codes.CHANGED, mid=77, token=request.token)
    assert steps(stack, device) == [Step.SUCCEEDED]


@pytest.mark.spec("QM-5", "Design 3")
@pytest.mark.parametrize(("made", "after_start"), [(read("/3/0/0"), ["/3/0/0"]), (execute("/3/0/4"), [])])
def test_a_delivered_command_is_repeated_after_a_restart_only_where_that_is_harmless(
    stack: Stack, made: Any, after_start: list[str]
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, made)
    stack << ack(mid=stack.take().mid)
    seconds(stack, 1)
    again = restarted(stack)
    assert sent(again) == after_start
    assert responses(again, device) == ([] if after_start else [(408, "outcome-unknown")])
    again.close()


@pytest.mark.spec("QM-4", "BLK-12")
def test_a_body_in_blocks_goes_on_beyond_the_window_as_long_as_blocks_are_taken(stack: Stack) -> None:
    give(stack, awake_s=5.0)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack.post(device, write("/3/0/15", "x" * 2500))
    # Whether it receives there is asked first: so many bytes nobody has paid for.
    stack << rst(mid=stack.take().mid)
    blocks = 0
    while not responses(stack, device):
        request = stack.take()
        (block,) = [value for number, value in request.options if number == 27]
        blocks += 1
        seconds(stack, 4)
        code = codes.CONTINUE if block[-1] & 8 else codes.CHANGED
        stack.out.clear()
        stack << ack(code, mid=request.mid, token=request.token, extra=[(27, block)])
    assert blocks == 3
    assert responses(stack, device) == [(200, "ok")]


# -- QM-3, QM-6: one at a time, a little later --


@pytest.mark.spec("QM-6")
def test_nothing_is_asked_of_a_sleeper_before_the_gap_is_over() -> None:
    stack = Stack(gap_s=0.1, reads=(3,), queue_s=600)
    device = stack.provision("dev1")
    stack.post(device, read("/3/0/1"))
    stack << con(codes.POST, SLEEPER, mid=1, payload=b"</1/0>,</3/0>", content_format=40)
    assert stack.take().code == codes.CREATED
    stack << after(0.09)
    assert stack.silent()
    stack << after(0.02)
    assert sent(stack) == ["/3/0/1"]
    stack.close()


@pytest.mark.spec("QM-3", "QM-6")
def test_a_sleeper_has_one_request_of_ours_at_a_time_whoever_asks() -> None:
    stack = Stack(gap_s=0.1, reads=(3,), queue_s=600)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack << after(1)
    stack << rst(mid=stack.take().mid)
    for path in ("/3303/0/5700", "/3303/0"):
        stack.post(device, observe(path))
        establish(stack, stack.take())
    stack << after(94)
    stack.out.clear()
    stack.post(device, read("/3/0/1"), read("/3/0/2"))
    stack << con(codes.POST, SLEEPER, mid=5, payload=b"</1/0>,</3/0>,</3303/0>", content_format=40)
    assert stack.take().code == codes.CREATED
    stack << after(1)
    order = []
    while stack.out:
        request = stack.take()
        order.append(path_of(request))
        # Also where the acknowledgement comes before the answer, the next one waits for the answer (QM-3).
        stack << ack(mid=request.mid)
        assert stack.silent()
        stack << con(codes.NOT_FOUND, mid=500 + len(order), token=request.token)
        stack.take()
    # What is observed first, then what somebody waits for, then what nobody asked for.
    assert order[2:] == ["/3/0/1", "/3/0/2", "/3"]
    assert sorted(order[:2]) == ["/3303/0", "/3303/0/5700"]
    stack.close()


@pytest.mark.spec("QM-3", "OB-7")
def test_observations_that_did_not_get_their_turn_are_asked_for_when_the_sleeper_is_heard(stack: Stack) -> None:
    give(stack, awake_s=5.0)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    for path in ("/3303/0/5700", "/3303/0"):
        stack.post(device, observe(path))
        establish(stack, stack.take())
    location = register(stack, mid=5, target=SLEEPER)
    first = path_of(stack.take())
    seconds(stack, 120)
    stack.out.clear()
    wake(stack, location, mid=6)
    request = stack.take()
    assert stack.silent()
    establish(stack, request)
    establish(stack, stack.take())
    assert {first, path_of(request)} <= {"/3303/0/5700", "/3303/0"}


@pytest.mark.spec("QM-3")
def test_an_awake_device_is_not_slowed_by_rules_for_sleepers() -> None:
    stack = Stack(gap_s=0.1, queue_s=600)
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, read("/3/0/0"))
    assert sent(stack) == ["/3/0/0"]
    stack.close()


# -- QM-5: the queue --


@pytest.mark.spec("QM-5")
def test_the_higher_priority_leaves_first_and_equals_in_the_order_of_posting(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack.post(device, read("/3/0/1"), priority=5)
    stack.post(device, read("/3/0/2"), priority=-1)
    stack.post(device, read("/3/0/3"), priority=5)
    wake(stack, location)
    order = []
    while stack.out:
        request = stack.take()
        order.append(path_of(request))
        answer(stack, request)
    assert order == ["/3/0/1", "/3/0/3", "/3/0/0", "/3/0/2"]


@pytest.mark.spec("QM-5")
def test_priorities_outlive_a_restart(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack.post(device, read("/3/0/1"), priority=5)
    again = restarted(stack)
    wake(again, location)
    assert sent(again) == ["/3/0/1"]
    again.close()


@pytest.mark.spec("QM-5")
def test_a_full_queue_refuses_and_says_how_many_wait(stack: Stack) -> None:
    give(stack, queue_length=2)
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    with pytest.raises(QueueFull, match="2 commands wait for the device already, 2 may"):
        stack.post(device, read("/3/0/2"))
    assert steps(stack, device) == [Step.QUEUED, Step.QUEUED]


@pytest.mark.spec("QM-5")
def test_a_newer_write_takes_the_place_of_one_that_waits_and_both_applications_hear_of_it(stack: Stack) -> None:
    device, location = asleep(stack)
    old = stack.post(device, write(ZONE, "old"))
    stack.post(device, write(ZONE, "new"))
    assert responses(stack, device) == [(409, "superseded")]
    assert steps(stack, device) == [Step.SUPERSEDED, Step.QUEUED]
    assert stack.store is not None
    (message,) = stack.run(stack.store.projection.received_messages(device.device_id, 1, 0))
    assert f"outgoing_msgRN:{old.resource_name}" in message.labels
    wake(stack, location)
    request = stack.take()
    assert b"new" in value_of(request)
    answer(stack, request)
    assert stack.silent()
    assert responses(stack, device)[-1] == (200, "ok")


@pytest.mark.spec("QM-5")
def test_a_write_of_an_earlier_run_gives_way_too(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, write(ZONE, "old"))
    again = restarted(stack)
    again.post(device, write(ZONE, "new"))
    assert steps(again, device) == [Step.SUPERSEDED, Step.QUEUED]
    wake(again, location)
    assert b"new" in value_of(again.take())
    again.close()


@pytest.mark.spec("QM-5")
@pytest.mark.parametrize("between", [execute("/3/0/4"), read(ZONE), read("/3"), observe(ZONE)])
def test_a_write_does_not_give_way_across_what_might_see_it(stack: Stack, between: Any) -> None:
    device, _ = asleep(stack)
    stack.post(device, write(ZONE, "old"))
    stack.post(device, between)
    stack.post(device, write(ZONE, "new"))
    assert steps(stack, device) == [Step.QUEUED] * 3


@pytest.mark.spec("QM-5")
def test_writes_of_one_message_are_all_sent(stack: Stack) -> None:
    device, _ = asleep(stack)
    stack.post(device, write(ZONE, "on"), write(ZONE, "off"))
    assert steps(stack, device) == [Step.QUEUED] * 2


@pytest.mark.spec("QM-5")
def test_an_awake_device_sees_every_write(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    for value in ("one", "two", "three"):
        stack.post(device, write(ZONE, value))
    seen = []
    while stack.out:
        request = stack.take()
        seen.append(value_of(request))
        answer(stack, request)
    assert len(seen) == 3
    assert steps(stack, device) == [Step.SUCCEEDED] * 3


def test_a_profile_may_want_every_write_sent(stack: Stack) -> None:
    give(stack, coalesce=False)
    device, _ = asleep(stack)
    stack.post(device, write(ZONE, "old"))
    stack.post(device, write(ZONE, "new"))
    assert steps(stack, device) == [Step.QUEUED] * 2


@pytest.mark.spec("QM-5")
def test_a_write_that_was_sent_and_waits_again_does_not_give_way(stack: Stack) -> None:
    device, location = asleep(stack)
    stack.post(device, write(ZONE, "old"))
    wake(stack, location)
    seconds(stack, 120)
    stack.out.clear()
    stack.post(device, write(ZONE, "new"))
    assert steps(stack, device) == [Step.SENT, Step.QUEUED]


@pytest.mark.spec("QM-5", "R-9")
def test_what_waits_through_a_register_is_in_the_devices_log_with_what_changed(stack: Stack) -> None:
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    stack << con(codes.POST, SLEEPER, mid=9, payload=b"</1/0>,</3/0>,</5/0>", content_format=40)
    assert stack.store is not None
    lines = stack.run(stack.store.projection.device_log(device.device_id, 100))
    (line,) = [each for each in lines if each.event == "commands-kept"]
    assert line.detail.startswith("1 command that waits was posted before this Register and is kept; the object list")
    assert "with /5 now" in line.detail
    assert sent(stack)[-1:] == ["/3/0/0"]


@pytest.mark.spec("QM-5")
def test_the_default_time_and_priority_of_commands_are_the_profiles(stack: Stack) -> None:
    give(stack, queue_s=100.0, priority=7)
    device, _ = asleep(stack)
    stack.post(device, read("/3/0/0"))
    (command,) = commands(stack, device)
    assert command.priority == 7
    stack << after(101)
    assert responses(stack, device) == [(408, "timeout-binding")]


@pytest.mark.spec("QM-5", "D2C 7.3")
def test_whoever_asks_is_told_where_its_message_stands_and_what_for(stack: Stack) -> None:
    device, location = asleep(stack)
    posted = [stack.post(device, read(f"/3/0/{n}"), priority=n) for n in range(3)]
    places = stack.run(stack.commands.places(device))
    assert [places[each.resource_id].position for each in posted] == [3, 2, 1]
    assert {(each.count, each.waits_for) for each in places.values()} == {(3, "wake")}
    wake(stack, location)
    places = stack.run(stack.commands.places(device))
    assert {(each.count, each.waits_for) for each in places.values()} == {(2, "turn")}
    stack << con(codes.DELETE, location, mid=8)
    places = stack.run(stack.commands.places(device))
    assert {each.waits_for for each in places.values()} == {"registration"}


# -- QM-7 --


@pytest.mark.spec("QM-7")
def test_a_notification_from_elsewhere_neither_moves_a_sleeper_nor_wakes_its_queue(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack << after(94)
    stack.post(device, read("/3/0/0"))
    moved = notification(token, mid=9, number=5)
    moved.peer = ELSEWHERE
    stack << moved
    assert [path_of(message) for peer, message in stack.out if message.type == CON] == []
    stack.out.clear()
    stack << con(codes.POST, location, mid=10, peer=ELSEWHERE)
    found = {(peer, path_of(message)) for peer, message in stack.out if message.type == CON}
    assert found == {(ELSEWHERE, "/3/0/0")}
