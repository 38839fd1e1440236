"""A gateway and the devices behind it are one client: one radio, one turn, one lifetime."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.records import DeviceChange
from stellwerk.coap.message import CON
from stellwerk.device.profile import PowerMode
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.stack import Stack
from tests.scenario.test_commands import execute, path_of, read, status
from tests.scenario.test_gateways import device
from tests.scenario.test_observations import observe
from tests.scenario.test_queue_mode import give, seconds
from tests.scenario.test_storms import responses


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(end_devices=5, queue_s=6000)
    yield made
    made.close()


def sleeping(stack: Stack, **more: Any) -> Gateway:
    stack.provision("gw1")
    gateway = Gateway(stack, queue="&Q", behind=[Behind("d7", "d01"), Behind("d8", "d02")], **more)
    gateway.register()
    return gateway


def sent(stack: Stack) -> list[str]:
    paths = [path_of(message) for _, message in stack.out if message.type == CON and message.code < 32]
    stack.out.clear()
    return paths


@pytest.mark.spec("QM-3", "LwM2M-contract 12")
def test_nothing_leaves_for_a_household_once_its_window_is_over(stack: Stack) -> None:
    gateway = sleeping(stack)
    gateway.silent = True
    gateway.register()
    # It is being read, and says nothing.
    stack.post(device(stack, "gw1-d8"), execute("/3303/0/5605"))
    seconds(stack, 94)
    sent(stack)
    seconds(stack, 190)
    assert sent(stack) == []
    gateway.silent = False
    gateway.update()
    assert responses(stack, device(stack, "gw1-d8")) == [(200, "ok")]


@pytest.mark.spec("QM-3", "LwM2M-contract 12")
def test_a_household_that_sleeps_has_one_request_at_a_time_whoever_of_it_is_asked(stack: Stack) -> None:
    gateway = sleeping(stack)
    stack.post(device(stack, "gw1-d7"), observe("/3303/0/5700"))
    gateway.pump()
    gateway.silent = True
    gateway.register()
    # The gateway's own first: its Observe of /25.
    assert len(stack.turns._out) == 1
    stack.post(device(stack, "gw1-d8"), read("/3/0/0"))
    stack.post(device(stack, "gw1"), read("/3/0/0"))
    assert len(stack.turns._out) == 1
    asked = len(gateway.asked)
    gateway.silent = False
    gateway.pump()
    assert {path for _, path in gateway.asked[asked:]} >= {"/d01/3303/0/5700", "/d02/3/0/0", "/3/0/0", "/25"}
    assert not stack.turns._out
    assert not stack.turns._current


@pytest.mark.spec("QM-8", "LwM2M-contract 12")
def test_those_behind_a_gateway_sleep_as_its_profile_says(stack: Stack) -> None:
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind("d7", "d01")])
    gateway.register()
    target = device(stack, "gw1-d7")
    give(stack, "sleeper", power_mode=PowerMode.PSM, awake_s=10.0)

    assert stack.store is not None
    gw = device(stack, "gw1")
    stack.run(stack.store.change_device(gw.device_id, DeviceChange(2, profile="sleeper")))
    give(stack, "other", power_mode=PowerMode.PSM, awake_s=10.0)
    seconds(stack, 11)
    stack.post(target, read("/3303/0/5700"))
    assert sent(stack) == []
    gateway.update()
    assert status(stack, target) == (200, "ok")


@pytest.mark.spec("R-7", "LwM2M-contract 12")
def test_whatever_is_heard_of_a_household_prolongs_its_gateways_lifetime() -> None:
    stack = Stack(end_devices=5, uplinks_extend=True)
    stack.provision("gw1")
    gateway = Gateway(stack, behind=[Behind("d7", "d01")])
    gateway.register()
    stack.post(device(stack, "gw1-d7"), observe("/3303/0/5700"))
    gateway.pump()
    seconds(stack, 200)
    gateway.notify("/d01/3303/0/5700", b'[{"n":"/d01/3303/0/5700","v":22}]')
    seconds(stack, 200)
    assert stack.registrations() == ["gw1", "urn:dev:os:gw1:d7"]
    seconds(stack, 200)
    assert stack.registrations() == []
    stack.close()
