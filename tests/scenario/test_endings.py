"""Every command ends once, and what is wanted is asked for again, whatever goes wrong in between."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.changes import Commit, DropObservation
from stellwerk.app.ports import StoreOverloaded
from stellwerk.coap import codes
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import execute, path_of, read, write
from tests.scenario.test_observations import OBSERVE_0, PATH, VALUE, establish, notification, observe, wanted
from tests.scenario.test_registration import ELSEWHERE, LINKS, register
from tests.scenario.test_storms import SLEEPER, answer, catch_up, feed, responses, sent_codes
from tests.scenario.trouble import TroubledStore


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
def troubled(store: TroubledStore) -> Iterator[Stack]:
    made = Stack(store=store)
    yield made
    made.close()


def open_commands(stack: Stack) -> list[Any]:
    assert stack.store is not None
    return list(stack.run(stack.store.open_commands(None, 10)))


# -- commands --


@pytest.mark.spec("D2C 7")
def test_commands_that_never_left_end_although_the_store_is_full_at_first(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    location = register(troubled, target=SLEEPER)
    troubled << after(100)
    troubled.post(device, read("/3/0/0"))
    troubled.commands.delivery._outcomes._again_s = 0.0
    lost = troubled.commands.device_lost

    def lost_while_full(*parameters: Any) -> None:
        store.refuse_next = 2
        lost(*parameters)

    troubled.commands.device_lost = lost_while_full  # type: ignore[method-assign]
    troubled << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    assert responses(troubled, device) == [(408, "timeout-binding")]
    assert open_commands(troubled) == []


@pytest.mark.spec("D2C 7")
def test_an_observe_that_failed_after_a_restart_is_not_wanted_any_more() -> None:
    before = Stack()
    device = before.provision("dev1")
    register(before, target=SLEEPER)
    before.post(device, observe())
    assert OBSERVE_0 in before.take().options
    stack = Stack(store=before.store, clock=before.clock, seed=1, ask_for_s=247)
    stack.run(stack._then_settle(stack.commands.recover()))
    stack << after(3001)
    assert responses(stack, device) == [(408, "timeout-binding")]
    assert stack.store is not None
    assert stack.run(stack.store.observations_of(device.device_id)) == []
    register(stack, mid=9)
    assert stack.silent()
    before.close()
    stack.close()


def test_a_command_that_could_not_be_marked_sent_ends_with_its_registration(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    store.slow = True
    troubled.post(device, read("/3/0/0"))
    (held,), store._held = store._held, []
    store.slow = False
    troubled << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)

    async def fail() -> None:
        held.done(StoreOverloaded(1))
        await troubled._settle()

    troubled.run(fail())
    assert responses(troubled, device) == [(408, "timeout-binding")]
    assert open_commands(troubled) == []


def test_a_mistake_of_ours_with_an_answer_ends_its_command_and_lets_the_next_one_go(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, read("/3/0/0"), execute("/3/0/4"))
    request = stack.take()
    known = stack.registry.of(device.device_id)
    assert known is not None
    known.registration = replace(known.registration, types=None)  # type: ignore[arg-type]
    answer(stack, request)
    assert responses(stack, device) == [(500, "adapter")]
    assert path_of(stack.take()) == "/3/0/4"


@pytest.mark.spec("D-2", "R-14")
def test_another_format_is_tried_where_the_device_is_now(stack: Stack) -> None:
    device = stack.provision("dev1")
    links = LINKS.replace(b"ct=112", b'ct="112 110"')
    stack << con(codes.POST, "/rd?ep=dev1&lt=300&lwm2m=1.1", mid=1, payload=links, content_format=40)
    location = "/" + "/".join(value.decode() for number, value in stack.take().options if number == 8)
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << con(codes.POST, location, mid=2, peer=ELSEWHERE)
    stack.out.clear()
    stack << ack(codes.NOT_ACCEPTABLE, mid=request.mid, token=request.token, peer=ELSEWHERE)
    peer, again = stack.out.pop(0)
    assert (peer, path_of(again)) == (ELSEWHERE, "/3/0/0")
    assert (17, b"\x6e") in again.options


# -- observations --


@pytest.mark.spec("OB-7", "Design 7")
def test_an_observe_that_was_lost_is_asked_again_when_the_device_is_heard(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack.run(stack._then_settle(stack.observations.observe(device.device_id, PATH)))
    lost = stack.take()
    stack << after(300)
    stack.out.clear()
    assert "observe-failed" in stack.log(device)
    stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    again = stack.take()
    assert (path_of(again), again.token) == (VALUE, lost.token)
    establish(stack, again)
    stack << con(codes.POST, location, mid=3) >> ack(codes.CHANGED, mid=3)
    assert stack.silent()
    stack << notification(again.token, mid=50, number=2) >> ack(mid=50)


@pytest.mark.spec("OB-7")
def test_what_the_store_could_not_take_after_a_register_is_asked_for_when_the_device_is_heard(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    old = wanted(troubled, device)
    restore = troubled.observations.restore

    async def restore_while_full(known: Any) -> None:
        store.refuse_next = 1
        await restore(known)

    troubled.observations.restore = restore_while_full  # type: ignore[method-assign]
    location = register(troubled, mid=2)
    assert troubled.silent()
    troubled.observations.restore = restore  # type: ignore[method-assign]
    troubled << con(codes.POST, location, mid=3) >> ack(codes.CHANGED, mid=3)
    assert establish(troubled, troubled.take()) != old


@pytest.mark.spec("OB-7")
def test_an_observation_given_up_while_it_is_being_restored_stays_given_up(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    wanted(troubled, device)
    known = troubled.registry.of(device.device_id)
    assert known is not None
    store.slow = True

    async def give_up_meanwhile() -> None:
        assert troubled.tasks.spawn("restore", troubled.observations.restore(known))
        for _ in range(5):
            await asyncio.sleep(0)
        store.submit(Commit((), (DropObservation(device.device_id, PATH),), lambda error: None))
        troubled.observations.dropped(device.device_id, PATH)
        store.catch_up()

    troubled.run(troubled._then_settle(give_up_meanwhile()))
    assert troubled.silent()
    assert troubled.observations.of(device.device_id, PATH) is None


# -- updates that overlap --


@pytest.mark.spec("R-14")
def test_an_update_behind_one_that_was_not_stored_brings_what_that_one_brought(
    troubled: Stack, store: TroubledStore
) -> None:
    troubled.provision("dev1")
    location = register(troubled)
    store.refuse_next = 1
    feed(
        troubled,
        con(codes.POST, location, mid=2, peer=ELSEWHERE),
        con(codes.POST, location, mid=3, peer=ELSEWHERE),
    )
    assert sent_codes(troubled) == [codes.SERVICE_UNAVAILABLE, codes.CHANGED]
    known = troubled.registry.at(location.removeprefix("/rd/"))
    assert known is not None
    assert known.registration.peer == ELSEWHERE


# -- registrations --


@pytest.mark.spec("R-1")
def test_a_deregister_that_is_asked_for_again_while_it_is_stored_is_one(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    store.slow = True
    troubled << con(codes.DELETE, location, mid=2) << con(codes.DELETE, location, mid=3)
    troubled << after(0.5)
    troubled.clock.at += 301
    troubled.run(troubled._then_settle(troubled.expiry.look()))
    catch_up(troubled, store)
    assert sent_codes(troubled) == [codes.DELETED] * 2
    kinds = [each["messageType"] for each in troubled.received(device)]
    assert kinds == ["registration", "deregistration"]


@pytest.mark.spec("R-1", "MSG-14")
def test_a_deregister_that_was_not_stored_may_be_asked_for_again(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    store.refuse_next = 1
    troubled << con(codes.DELETE, location, mid=2)
    assert sent_codes(troubled) == [codes.SERVICE_UNAVAILABLE]
    troubled << con(codes.DELETE, location, mid=3) >> ack(codes.DELETED, mid=3)
    assert [each["messageType"] for each in troubled.received(device)] == ["registration", "deregistration"]


# -- lifetimes that we write --


def written(stack: Stack, device: Any, path: str, value: str, code: int = codes.CHANGED) -> None:
    stack.post(device, write(path, value))
    request = stack.take()
    stack << ack(code, mid=request.mid, token=request.token)


@pytest.mark.spec("R-8", "T-3")
def test_a_lifetime_that_the_device_took_from_us_holds_from_then_on(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack << after(200)
    written(stack, device, "/1/0/1", "60")
    assert "lifetime-changed" in stack.log(device)
    stack << after(59)
    assert stack.registrations() == ["dev1"]
    stack << after(2)
    assert stack.registrations() == []


@pytest.mark.spec("R-8")
def test_a_longer_lifetime_that_the_device_took_survives_a_restart(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    written(stack, device, "/1/0/1", "3000")
    stack << con(codes.POST, location, mid=5) >> ack(codes.CHANGED, mid=5)
    again = Stack(store=stack.store, clock=stack.clock, seed=1)
    again << after(2999)
    again << con(codes.POST, location, mid=6) >> ack(codes.CHANGED, mid=6)
    again << after(3001)
    again << con(codes.POST, location, mid=7) >> ack(codes.NOT_FOUND, mid=7)
    again.close()


@pytest.mark.spec("R-8", "R-18")
@pytest.mark.parametrize("case", ["refused", "another resource", "several accounts"])
def test_other_writes_leave_the_lifetime_alone(stack: Stack, case: str) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    if case == "several accounts":
        stack << con(codes.POST, location, mid=2, payload=b"</1/0>,</1/1>,</3/0>") >> ack(codes.CHANGED, mid=2)
    path = "/1/0/2" if case == "another resource" else "/1/0/1"
    written(stack, device, path, "60", codes.UNAUTHORIZED if case == "refused" else codes.CHANGED)
    stack << after(250)
    assert stack.registrations() == ["dev1"]
    stack << after(60)
    assert stack.registrations() == []


@pytest.mark.spec("R-8")
def test_a_lifetime_that_could_not_be_stored_at_once_does_not_undo_an_update(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    troubled.post(device, write("/1/0/1", "60"))
    request = troubled.take()
    troubled.commands.delivery._outcomes._again_s = 0.0
    store.refuse_next = 1
    feed(
        troubled,
        ack(codes.CHANGED, mid=request.mid, token=request.token),
        con(codes.POST, location + "?b=UQ", mid=5),
    )
    known = troubled.registry.of(device.device_id)
    assert known is not None
    assert (known.registration.lifetime_s, known.registration.queue_mode, known.pending) == (60, True, None)
    assert store.queue_length() == 0
    stored = troubled.run(store.registration_of(device.device_id))
    assert (stored.lifetime_s, stored.queue_mode) == (60, True)
