"""Observations survive what devices, networks, stores and restarts do to them."""

import asyncio
from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import RST, Message
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.path import Path
from tests.scenario.stack import Stack, ack, after, con, non
from tests.scenario.test_commands import NOTIFICATION, path_of, read, status
from tests.scenario.test_registration import register
from tests.scenario.trouble import TroubledStore

VALUE = "/3303/0/5700"
PATH = Path.parse(VALUE)
QUEUED = "/rd?ep=dev1&lt=3000&lwm2m=1.1&b=U&Q"
OBSERVE_0 = (6, b"")
OBSERVE_1 = (6, b"\x01")


def observe(path: str = VALUE) -> CommandRequest:
    return CommandRequest("observe", path, f"OBSERVE {path}")


def unobserve(path: str = VALUE) -> CommandRequest:
    return CommandRequest("unobserve", path, f"UNOBSERVE {path}")


def notification(token: bytes, *, mid: int, number: int, payload: bytes = NOTIFICATION) -> Any:
    return con(codes.CONTENT, mid=mid, token=token, payload=payload, content_format=112, observe=number)


def establish(stack: Stack, request: Message, number: int = 1) -> bytes:
    """Answer an Observe so that its relation stands; gives the token."""
    assert OBSERVE_0 in request.options
    stack << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112, observe=number
    )
    return request.token


def is_reset(stack: Stack, mid: int) -> bool:
    return stack.out.pop(0)[1] == Message(RST, 0, mid)


@pytest.fixture
def device(stack: Stack) -> Any:
    made = stack.provision("dev1", ("d2c-uplink-property_Room:7",))
    register(stack)
    return made


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
def troubled(store: TroubledStore) -> Any:
    made = Stack(store=store)
    yield made
    made.close()


# -- commands that observe --


@pytest.mark.spec("OB-1", "D2C 7")
def test_an_observe_command_and_all_its_notifications_carry_one_pair_of_labels(stack: Stack, device: Any) -> None:
    outgoing = stack.post(device, observe())
    token = establish(stack, stack.take())
    assert status(stack, device) == (200, "ok")
    for number in (2, 3):
        stack << notification(token, mid=40 + number, number=number) >> ack(mid=40 + number)
    assert stack.store is not None
    records = stack.run(stack.store.projection.received_messages(device.device_id, 3, 0))
    assert [each["messageType"] for each in stack.received(device)[-3:]] == ["response", "notify", "notify"]
    assert {each.labels for each in records} == {records[0].labels}
    assert records[0].labels[0] == f"outgoing_msgRN:{outgoing.resource_name}"
    assert records[0].labels[2:] == ("Room:7",)


@pytest.mark.spec("OB-6")
def test_the_confirmable_notification_of_each_day_is_one_like_the_others(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack, target="/rd?ep=dev1&lt=0&lwm2m=1.1&b=U")
    stack.post(device, observe())
    token = establish(stack, stack.take())
    for day in range(1, 4):
        (
            stack
            << after(43_200)
            << non(codes.CONTENT, mid=40 + day, token=token, payload=NOTIFICATION, content_format=112, observe=2 * day)
        )
        assert stack.silent()
        daily = notification(token, mid=50 + day, number=2 * day + 1)
        stack << after(43_200) << daily >> ack(mid=50 + day)
        # Sent once more, since the acknowledgement was lost.
        stack << daily >> ack(mid=50 + day)
        assert stack.silent()
        assert len([each for each in stack.received(device) if each["messageType"] == "notify"]) == 2 * day


@pytest.mark.spec("OB-5", "READ-8")
def test_unobserve_cancels_with_the_token_of_the_relation_and_then_nothing_is_wanted(stack: Stack, device: Any) -> None:
    stack.post(device, observe())
    token = establish(stack, stack.take())
    stack.post(device, unobserve())
    cancel = stack.take()
    assert OBSERVE_1 in cancel.options
    assert (path_of(cancel), cancel.token) == (VALUE, token)
    stack << ack(codes.CONTENT, mid=cancel.mid, token=token, payload=NOTIFICATION, content_format=112)
    assert status(stack, device) == (200, "ok")
    stack << notification(token, mid=50, number=9)
    assert is_reset(stack, 50)
    stack.post(device, unobserve())
    assert status(stack, device) == (404, "no-observation")


@pytest.mark.spec("D2C 7")
def test_a_second_observe_of_a_path_is_a_conflict_even_in_the_same_message(stack: Stack, device: Any) -> None:
    stack.post(device, observe(), observe())
    assert status(stack, device) == (409, "conflict")
    establish(stack, stack.take())
    stack.post(device, observe())
    assert status(stack, device) == (409, "conflict")
    assert stack.silent()


def test_commands_of_one_message_find_what_the_earlier_ones_leave(stack: Stack, device: Any) -> None:
    stack.post(device, observe(), unobserve(), observe())
    token = establish(stack, stack.take())
    cancel = stack.take()
    assert OBSERVE_1 in cancel.options
    stack << ack(codes.CONTENT, mid=cancel.mid, token=token, payload=NOTIFICATION, content_format=112)
    fresh = establish(stack, stack.take())
    assert fresh != token
    found = [each["status"]["code"] for each in stack.received(device) if each["messageType"] == "response"]
    assert found == [200, 200, 200]


@pytest.mark.spec("D2C 7", "QM-3")
def test_of_two_observes_that_wait_for_a_sleeper_the_second_is_the_conflict(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=QUEUED)
    stack << after(100)
    stack.post(device, observe())
    stack.post(device, observe(), read("/3/0/0"))
    assert stack.silent()
    stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    establish(stack, stack.take())
    assert path_of(stack.take()) == "/3/0/0"
    assert status(stack, device) == (409, "conflict")
    assert stack.observations.of(device.device_id, PATH) is not None


@pytest.mark.spec("OB-1")
def test_a_plain_answer_to_an_observe_leaves_no_relation(stack: Stack, device: Any) -> None:
    stack.post(device, observe())
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112)
    assert stack.received(device)[-1]["messageType"] == "response"
    assert stack.observations.of(device.device_id, PATH) is None
    assert stack.store is not None
    assert stack.run(stack.store.observations_of(device.device_id)) == []


@pytest.mark.parametrize("code", [codes.NOT_FOUND, codes.METHOD_NOT_ALLOWED])
def test_a_refused_observe_is_not_wanted_any_more(stack: Stack, device: Any, code: int) -> None:
    stack.post(device, observe())
    request = stack.take()
    stack << ack(code, mid=request.mid, token=request.token)
    assert status(stack, device)[0] == {codes.NOT_FOUND: 404, codes.METHOD_NOT_ALLOWED: 405}[code]
    assert stack.store is not None
    assert stack.run(stack.store.observations_of(device.device_id)) == []


# -- notifications --


def wanted(stack: Stack, device: Any) -> bytes:
    """Want the value observed, let the device agree; gives the token."""
    stack.run(stack._then_settle(stack.observations.observe(device.device_id, PATH)))
    return establish(stack, stack.take())


@pytest.mark.spec("OB-3")
def test_a_notification_that_cannot_be_stored_is_left_unacknowledged_until_its_repetition_can(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    token = wanted(troubled, device)
    before = troubled.values(device, VALUE)
    store.full = True
    troubled << notification(token, mid=50, number=2)
    assert troubled.silent()
    store.full = False
    troubled << after(2.5) << notification(token, mid=50, number=2) >> ack(mid=50)
    assert troubled.values(device, VALUE) == [*before, "21.5"]


def test_a_token_is_asked_about_again_after_the_store_failed(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    token = wanted(troubled, device)
    again = Stack(store=store, clock=troubled.clock, seed=1)
    store.broken = True
    again << notification(token, mid=50, number=2)
    assert again.silent()
    store.broken = False
    again << after(2.5) << notification(token, mid=50, number=2) >> ack(mid=50)
    again.close()


@pytest.mark.spec("OB-3")
def test_a_notification_that_does_not_decode_is_acknowledged_and_said_so(stack: Stack, device: Any) -> None:
    token = wanted(stack, device)
    values = stack.values(device, VALUE)
    stack << notification(token, mid=50, number=2, payload=b"\x81\xa2") >> ack(mid=50)
    assert stack.values(device, VALUE) == values
    assert stack.log(device)[-1] == "notification-undecodable"


@pytest.mark.spec("OB-4", "OB-7")
def test_an_error_ends_the_relation_and_the_next_register_asks_again(stack: Stack, device: Any) -> None:
    token = wanted(stack, device)
    stack << con(codes.NOT_FOUND, mid=50, token=token, observe=2) >> ack(mid=50)
    assert "observation-lost" in stack.log(device)
    stack << notification(token, mid=51, number=3)
    stack.out.clear()
    register(stack, mid=3)
    fresh = stack.take()
    assert OBSERVE_0 in fresh.options
    assert fresh.token != token


@pytest.mark.spec("OB-7")
def test_after_a_deregister_old_notifications_are_reset_and_a_new_register_observes_again(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    token = wanted(stack, device)
    stack << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    stack << notification(token, mid=50, number=2)
    assert is_reset(stack, 50)
    register(stack, mid=3)
    assert establish(stack, stack.take()) != token


@pytest.mark.spec("QM-3", "D2C 7")
@pytest.mark.parametrize("say", [con, non])
def test_a_notification_lets_the_commands_of_a_sleeper_go(stack: Stack, say: Any) -> None:
    device = stack.provision("dev1")
    register(stack, target=QUEUED)
    token = wanted(stack, device)
    stack << after(100)
    stack.post(device, read("/3/0/0"))
    assert stack.silent()
    stack << say(codes.CONTENT, mid=50, token=token, payload=NOTIFICATION, content_format=112, observe=2)
    if say is con:
        assert stack.take() == Message(2, 0, 50)
    assert path_of(stack.take()) == "/3/0/0"


# -- restoring --


@pytest.mark.spec("OB-7")
def test_an_update_before_the_fresh_tokens_are_stored_does_not_stop_the_observing(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    wanted(troubled, device)
    location = register(troubled, mid=2)
    establish(troubled, troubled.take())
    known = troubled.registry.of(device.device_id)
    assert known is not None
    store.slow = True

    async def restore_behind_an_update() -> None:
        work = troubled.observations.restore(known)
        assert troubled.tasks.spawn("restore", work)
        await _breathe()
        store.slow = False
        troubled.registry.put(known.registration, known.record, troubled.clock.now())
        store.catch_up()

    troubled.run(troubled._then_settle(restore_behind_an_update()))
    troubled << con(codes.POST, location, mid=4)
    assert OBSERVE_0 in troubled.take().options


async def _breathe() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.spec("OB-8")
def test_after_a_restart_a_waiting_observe_joins_the_relations_that_stand(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=QUEUED)
    token = wanted(stack, device)
    stack << after(100)
    stack.post(device, observe("/3303/0/5601"))
    again = Stack(store=stack.store, clock=stack.clock, seed=1, ask_for_s=247)
    again.run(again._then_settle(again.commands.recover()))
    assert again.silent()
    again << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    assert path_of(again.take()) == "/3303/0/5601"
    again << notification(token, mid=50, number=2) >> ack(mid=50)
    assert set(again.observations.wanted_paths(device.device_id)) == {PATH, Path.parse("/3303/0/5601")}
    again.close()


@pytest.mark.spec("OB-8", "BLK-10")
def test_after_a_restart_the_rest_of_a_large_notification_is_fetched(stack: Stack, device: Any) -> None:
    token = wanted(stack, device)
    again = Stack(store=stack.store, clock=stack.clock, seed=1, ask_for_s=247)
    entries = ",".join(f'{{"n":"/3303/0/5700","t":{1_700_000_000 + each},"v":{each}}}' for each in range(40))
    body = f"[{entries}]".encode()
    assert len(body) > 1024
    etag = (4, b"\x01")
    again << con(
        codes.CONTENT,
        mid=50,
        token=token,
        payload=body[:1024],
        content_format=110,
        observe=2,
        extra=[(23, b"\x0e"), etag],
    )
    request = again.take()
    assert path_of(request) == VALUE
    assert (23, b"\x16") in request.options
    assert all(number != 6 for number, _ in request.options)
    again << ack(
        codes.CONTENT,
        mid=request.mid,
        token=request.token,
        payload=body[1024:],
        content_format=110,
        extra=[(23, b"\x16"), etag],
    )
    assert again.take() == Message(2, 0, 50)
    assert len(again.values(device, VALUE)) == 41
    again.close()


@pytest.mark.spec("OB-8", "MSG-6")
def test_a_token_that_another_observation_has_is_not_used(stack: Stack, device: Any) -> None:
    other = stack.provision("dev2")
    elsewhere = PeerId("udp", "192.0.2.2", 40001, "192.0.2.100", 5683)
    location = register(stack, mid=2, target="/rd?ep=dev2&lwm2m=1.1&lt=3000", peer=elsewhere)
    token = wanted(stack, device)
    draw, drawn = stack.link.draw_token, [token]
    stack.link.draw_token = lambda: drawn.pop() if drawn else draw()  # type: ignore[method-assign]
    stack.post(other, observe())
    assert stack.silent()
    stack << con(codes.POST, location, mid=3, peer=elsewhere) >> ack(codes.CHANGED, mid=3, peer=elsewhere)
    request = stack.take()
    assert OBSERVE_0 in request.options
    assert request.token != token
