"""Two things at once about one command: each still ends exactly once, in its place, with its labels."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.changes import ChangeRegistration, PutObservation
from stellwerk.app.command_request import CommandRequest
from stellwerk.app.ports import StoreOverloaded
from stellwerk.coap import codes
from stellwerk.coap.message import encode_message
from stellwerk.lwm2m.path import Path
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import execute, path_of, read, write
from tests.scenario.test_observations import OBSERVE_1, PATH, establish, observe, unobserve
from tests.scenario.test_queue import BODY, answer, asleep, restarted, wake
from tests.scenario.test_registration import REGISTER, register
from tests.scenario.test_storms import SLEEPER, responses
from tests.scenario.trouble import TroubledStore


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
def stack(store: TroubledStore) -> Iterator[Stack]:
    made = Stack(store=store, queue_s=600)
    yield made
    made.close()


def then(stack: Stack, work: Any) -> Any:
    return stack.run(stack._then_settle(work))


def message(content: str, *requests: CommandRequest) -> dict[str, Any]:
    return {
        "name": None,
        "content": content,
        "content_info": None,
        "creator": "CTestApp",
        "labels": (),
        "requests": requests,
    }


def paths_asked(stack: Stack) -> list[str]:
    found = [path_of(message) for _, message in stack.out if message.code == codes.GET]
    stack.out.clear()
    return found


def observed(stack: Stack) -> list[str]:
    """Accept every Observe that comes, one after the other; which those were."""
    found = []
    while stack.out:
        request = stack.take()
        if request.code == codes.GET:
            found.append(path_of(request))
            establish(stack, request)
    return sorted(found)


def labels_of_last(stack: Stack, device: Any) -> tuple[str, ...]:
    assert stack.store is not None
    labels: tuple[str, ...] = stack.run(stack.store.projection.received_messages(device.device_id, 1, 0))[0].labels
    return labels


# -- ends --


@pytest.mark.spec("D2C 7")
def test_a_command_that_ends_while_the_rows_of_an_earlier_run_are_being_read_ends_once(store: TroubledStore) -> None:
    before = Stack(store=store)
    device, _ = asleep(before)
    before.post(device, read("/3/0/0"))
    stack = restarted(before)

    async def lost_at_once() -> None:
        await stack.commands.post(device, **message("READ /3/0/1", read("/3/0/1")))
        store.slow = True
        stack.registry.drop(device.device_id)
        store._registrations.pop(device.device_id)
        stack.commands.device_lost(device.device_id, stack.clock.instant())
        await stack._settle()
        store.catch_up()
        await stack._settle()

    stack.run(lost_at_once())
    assert responses(stack, device) == [(408, "timeout-binding")] * 2
    before.close()
    stack.close()


@pytest.mark.spec("D2C 8")
def test_a_command_of_an_earlier_run_ends_with_the_labels_of_its_device() -> None:
    before = Stack(queue_s=600)
    device = before.provision("dev1", ("d2c-uplink-property_Room:7",))
    register(before, target=SLEEPER)
    before << after(94)
    before.post(device, read("/3/0/0"))
    stack = restarted(before)
    stack << after(601)
    assert responses(stack, device) == [(408, "timeout-binding")]
    assert labels_of_last(stack, device)[2:] == ("Room:7",)
    before.close()
    stack.close()


@pytest.mark.spec("D2C 12")
def test_an_end_that_the_tables_do_not_take_is_told_as_such_and_the_next_command_leaves(
    stack: Stack, store: TroubledStore
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.commands.delivery._outcomes._again_s = 0.0
    store.cannot = ChangeRegistration
    stack.post(device, write("/1/0/1", "900"), read("/3/0/0"))
    request = stack.take()
    stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
    assert responses(stack, device) == [(500, "adapter")]
    assert path_of(stack.take()) == "/3/0/0"


# -- removed --


@pytest.mark.parametrize("registered", [True, False])
def test_nothing_of_a_removed_device_stays_in_memory(stack: Stack, store: TroubledStore, registered: bool) -> None:
    device = stack.provision("dev1")
    if registered:
        register(stack)
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    delivery = stack.commands.delivery
    assert len(delivery) == 2

    async def remove() -> None:
        await store.remove_device(device.device_id)
        known = stack.registry.of(device.device_id)
        if known is not None:
            stack.registry.drop(device.device_id)
        stack.commands.device_removed(device.device_id, stack.clock.instant())

    then(stack, remove())
    assert (len(delivery), delivery.in_flight, delivery._lanes.tries) == (0, 0, {})


# -- cancelled --


@pytest.mark.spec("QM-5")
def test_a_cancel_that_could_not_be_stored_leaves_its_command_in_its_place(stack: Stack, store: TroubledStore) -> None:
    device, location = asleep(stack)
    message = stack.post(device, read("/3/0/0"))
    stack.post(device, read("/3/0/1"))
    store.full = True
    with pytest.raises(StoreOverloaded):
        then(stack, stack.commands.cancel(device, message))
    store.full = False
    wake(stack, location)
    for path in ("/3/0/0", "/3/0/1"):
        request = stack.take()
        assert path_of(request) == path
        answer(stack, request)


@pytest.mark.spec("QM-5")
def test_a_cancel_whose_caller_goes_away_is_not_undone_in_memory_alone(stack: Stack, store: TroubledStore) -> None:
    device, location = asleep(stack)
    message = stack.post(device, read("/3/0/0"))
    store.slow = True

    async def give_up() -> None:
        task = asyncio.ensure_future(stack.commands.cancel(device, message))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        store.catch_up()
        await stack._settle()

    stack.run(give_up())
    assert responses(stack, device) == [(408, "cancelled")]
    wake(stack, location)
    assert stack.silent()


# -- order --


@pytest.mark.spec("QM-5")
def test_a_row_that_is_read_before_its_post_has_returned_keeps_its_place(store: TroubledStore) -> None:
    before = Stack(store=store, queue_s=600)
    device, location = asleep(before)
    before.post(device, read("/3/0/0"))
    stack = restarted(before)
    delivery, opened = stack.commands.delivery, store.open_commands
    told: list[Any] = []

    async def meanwhile(*given: Any) -> Any:
        # In the tables, and whoever posted it has not been told yet.
        add, delivery.add = delivery.add, lambda *given: told.append(given)  # type: ignore[method-assign]
        await stack.commands.post(device, **message("READ /3/0/2", read("/3/0/2")))
        delivery.add = add  # type: ignore[method-assign]
        return await opened(*given)

    store.open_commands = meanwhile  # type: ignore[method-assign]
    stack.post(device, read("/3/0/1"))

    async def tell() -> None:
        delivery.add(*told[0])

    then(stack, tell())
    wake(stack, location)
    for path in ("/3/0/0", "/3/0/1", "/3/0/2"):
        request = stack.take()
        assert path_of(request) == path
        answer(stack, request)
    assert stack.silent()
    before.close()
    stack.close()


def test_rows_that_cannot_be_read_at_once_are_read_again(store: TroubledStore) -> None:
    before = Stack(store=store, queue_s=600)
    device = before.provision("dev1")
    register(before)
    before.post(device, execute("/3/0/4"), read("/3/0/0"))
    opened = store.open_commands
    failures = 2

    async def failing(*given: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("the disk is gone")
        return await opened(*given)

    store.open_commands = failing  # type: ignore[method-assign]
    stack = Stack(store=store, clock=before.clock, seed=1, queue_s=600)
    stack.commands.delivery._lanes._again_s = 0.0
    then(stack, stack.commands.recover())
    stack << after(1)
    assert paths_asked(stack) == ["/3/0/0"]
    assert responses(stack, device) == [(408, "outcome-unknown")]
    before.close()
    stack.close()


# -- what is wanted --


@pytest.mark.spec("OB-7")
def test_an_observe_that_waited_through_a_new_register_does_not_hide_what_else_is_wanted(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    establish(stack, stack.take())
    stack << after(94)
    stack.post(device, observe("/3/0/1"))
    stack << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    stack << con(codes.POST, SLEEPER, mid=3, payload=BODY, content_format=40)
    assert observed(stack) == ["/3/0/1", "/3303/0/5700"]


@pytest.mark.spec("D2C 7.2")
def test_an_unobserve_that_waited_through_a_new_register_finds_its_observation(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    # With attributes, which have to be taken back, so that it is not ended without the device.
    stack.post(device, replace(observe(), attributes=(("pmin", "5"),)))
    attributes = stack.take()
    stack << ack(codes.CHANGED, mid=attributes.mid, token=attributes.token)
    establish(stack, stack.take())
    stack << after(94)
    stack.post(device, unobserve())
    stack << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    stack << con(codes.POST, SLEEPER, mid=3, payload=BODY, content_format=40)
    assert any(OBSERVE_1 in message.options for _, message in stack.out)
    assert responses(stack, device) == [(200, "ok")]


@pytest.mark.spec("OB-7")
def test_an_observation_whose_end_is_being_stored_is_not_stored_again_by_a_register(
    stack: Stack, store: TroubledStore
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, observe())
    establish(stack, stack.take())
    stack.post(device, unobserve())
    request = stack.take()
    known = stack.registry.of(device.device_id)
    assert known is not None

    async def both() -> None:
        store.slow = True
        stack.engine.feed(
            _encoded(ack(codes.CONTENT, mid=request.mid, token=request.token)), peer=known.registration.peer, now=1000.0
        )
        stack.link.handle(stack.engine.take_events(), stack.clock.instant())
        restoring = asyncio.ensure_future(stack.observations.restore(known))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        store.catch_up()
        await restoring
        await stack._settle()

    stack.run(both())
    assert responses(stack, device)[-1] == (200, "ok")
    assert stack.observations.of(device.device_id, PATH) is None
    assert stack.run(store.observations_of(device.device_id)) == []


def _encoded(step: Any) -> bytes:
    return encode_message(step.message)


@pytest.mark.spec("OB-7")
def test_an_observation_wanted_while_the_registration_ends_does_not_hide_the_others(
    stack: Stack, store: TroubledStore
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, observe())
    establish(stack, stack.take())
    store.slow = True

    async def wanted_meanwhile() -> None:
        work = asyncio.ensure_future(stack.observations.observe(device.device_id, Path.parse("/3/0/1")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store._held
        stack.registry.drop(device.device_id)
        stack.observations.forget_device(device.device_id)
        store.catch_up()
        await work
        await stack._settle()

    stack.run(wanted_meanwhile())
    observed(stack)
    stack << con(codes.POST, REGISTER, mid=9, payload=BODY, content_format=40)
    assert observed(stack) == ["/3/0/1", "/3303/0/5700"]


def test_an_observe_whose_next_try_cannot_be_stored_leaves_memory_as_the_rows_are(
    stack: Stack, store: TroubledStore
) -> None:
    device, location = asleep(stack)
    stack.post(device, observe())
    wake(stack, location)
    first = stack.take()
    stack << after(120)
    stack.out.clear()
    store.cannot = PutObservation
    wake(stack, location, mid=3)
    assert stack.silent()
    (row,) = stack.run(store.observations_of(device.device_id))
    assert row.token == first.token
    assert stack.observations.of(device.device_id, PATH) == row


# -- expiry --


@pytest.mark.spec("R-6")
def test_a_registration_does_not_expire_while_its_update_is_being_stored(stack: Stack, store: TroubledStore) -> None:
    stack.provision("dev1")
    location = register(stack)
    stack.clock.at += 299
    store.slow = True
    stack << con(codes.POST, location, mid=2)
    assert stack.silent()
    stack.clock.at += 2
    stack.run(stack.expiry.look())
    stack.run(_catch_up(stack, store))
    assert stack.take().code == codes.CHANGED
    assert stack.registrations() == ["dev1"]


async def _catch_up(stack: Stack, store: TroubledStore) -> None:
    store.catch_up()
    await stack._settle()
