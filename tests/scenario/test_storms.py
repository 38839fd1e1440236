"""Many at once, at the wrong time, from the wrong place: what is said to devices and applications stays true."""

from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.changes import CommandSent, PutObservation
from stellwerk.app.command_request import CommandRequest
from stellwerk.coap import codes
from stellwerk.coap.message import Message, encode_message
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.path import Path
from tests.scenario.stack import HOME, Stack, ack, after, con
from tests.scenario.test_commands import NOTIFICATION, SENML_MANUFACTURER, execute, path_of, read, status, write
from tests.scenario.test_registration import ELSEWHERE, LINKS, REGISTER, register
from tests.scenario.trouble import TroubledStore

SLEEPER = "/rd?ep=dev1&lt=3000&lwm2m=1.1&b=U&Q"
MAX_AGE = 14


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
def troubled(store: TroubledStore) -> Iterator[Stack]:
    made = Stack(store=store)
    yield made
    made.close()


def responses(stack: Stack, device: Any) -> list[tuple[int, str]]:
    found = [each for each in stack.received(device) if each["messageType"] == "response"]
    return [(each["status"]["code"], each["status"]["reason"]) for each in found]


def answer(stack: Stack, request: Message, peer: PeerId = HOME) -> None:
    stack << ack(
        codes.CONTENT,
        mid=request.mid,
        token=request.token,
        payload=SENML_MANUFACTURER,
        content_format=112,
        peer=peer,
    )


def sent_codes(stack: Stack) -> list[int]:
    found = [message.code for _, message in stack.out]
    stack.out.clear()
    return found


# -- a store that cannot take this --


@pytest.mark.parametrize(
    ("verb", "path", "kind", "reason"),
    [("observe", "/3303/0", PutObservation, "observe-store"), ("read", "/3/0/0", CommandSent, "adapter")],
)
@pytest.mark.spec("D2C 12")
def test_a_command_whose_sending_cannot_be_stored_ends_and_the_next_one_leaves(
    troubled: Stack, store: TroubledStore, verb: Any, path: str, kind: type[object], reason: str
) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    store.cannot = kind
    troubled.post(device, CommandRequest(verb, path, f"{verb} {path}"))
    assert responses(troubled, device) == []
    troubled << con(codes.POST, "/rd?ep=dev1&lwm2m=1.1&lt=300", mid=8, payload=b"</3/0>,</3303/0>", content_format=40)
    assert troubled.take().code == codes.CREATED
    store.cannot = None
    assert troubled.silent()
    assert responses(troubled, device) == [(500, reason)]
    troubled.post(device, read("/3/0/1"))
    assert path_of(troubled.take()) == "/3/0/1"


# -- a store that cannot take more --


@pytest.mark.spec("MSG-14")
def test_a_register_that_cannot_be_stored_is_told_when_to_come_again(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    store.full = True
    troubled << con(codes.POST, REGISTER, mid=1, token=b"t", payload=LINKS, content_format=40)
    refusal = troubled.take()
    assert refusal.code == codes.SERVICE_UNAVAILABLE
    (max_age,) = [int.from_bytes(value, "big") for number, value in refusal.options if number == MAX_AGE]
    assert 2 <= max_age <= 4
    assert troubled.brake.refused == {("register", "queue-full"): 1}
    assert troubled.registrations() == []
    store.full = False
    register(troubled, mid=2)
    assert [each["messageType"] for each in troubled.received(device)] == ["registration"]


@pytest.mark.spec("MSG-14", "T-5")
def test_update_send_and_deregister_that_cannot_be_stored_change_nothing(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    store.full = True
    troubled << con(codes.POST, location + "?lt=900", mid=2)
    troubled << con(codes.POST, "/dp", mid=3, payload=NOTIFICATION, content_format=112)
    troubled << con(codes.DELETE, location, mid=4)
    assert sent_codes(troubled) == [codes.SERVICE_UNAVAILABLE] * 3
    store.full = False
    assert troubled.registry.at(location.removeprefix("/rd/")).registration.lifetime_s == 300  # type: ignore[union-attr]
    troubled << con(codes.POST, location, mid=5) >> ack(codes.CHANGED, mid=5)
    assert [each["messageType"] for each in troubled.received(device)] == ["registration", "update"]


@pytest.mark.spec("MSG-14")
@pytest.mark.parametrize(
    ("code", "target"),
    [(codes.POST, REGISTER), (codes.POST, "/rd/abcdefgh"), (codes.DELETE, "/rd/abcdefgh")],
)
def test_a_device_is_told_to_come_again_when_nobody_can_look_it_up(
    troubled: Stack, store: TroubledStore, code: int, target: str
) -> None:
    store.broken = True
    troubled << con(code, target, mid=1, payload=LINKS if target == REGISTER else b"")
    assert sent_codes(troubled) == [codes.SERVICE_UNAVAILABLE]


def test_the_outcome_of_a_command_waits_for_a_store_that_is_full(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    register(troubled)
    troubled.commands.delivery._outcomes._again_s = 0.0
    troubled.post(device, read("/3/0/0"), read("/3/0/1"))
    request = troubled.take()
    store.refuse_next = 3
    answer(troubled, request)
    assert responses(troubled, device) == [(200, "ok")]
    assert path_of(troubled.take()) == "/3/0/1"


def test_a_command_that_could_not_be_marked_sent_leaves_with_the_next_uplink(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    store.full = True
    troubled.post(device, read("/3/0/0"))
    assert troubled.silent()
    store.full = False
    troubled << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    answer(troubled, troubled.take())
    assert responses(troubled, device) == [(200, "ok")]


# -- a store that is slow: what overlaps --


def feed(stack: Stack, *steps: Any) -> None:
    """All of them in one round of the driver."""
    for step in steps:
        stack.engine.feed(encode_message(step.message), peer=step.peer, now=stack.clock.now())
    stack.run(stack._settle())


def catch_up(stack: Stack, store: TroubledStore) -> None:
    async def work() -> None:
        store.catch_up()
        await stack._settle()

    stack.run(work())


@pytest.mark.spec("R-9")
def test_an_update_of_the_old_registration_does_not_bring_it_back(troubled: Stack, store: TroubledStore) -> None:
    troubled.provision("dev1")
    old = register(troubled)
    store.slow = True
    feed(troubled, con(codes.POST, REGISTER, mid=2, token=b"t", payload=LINKS, content_format=40))
    feed(troubled, con(codes.POST, old + "?lt=600", mid=3))
    assert troubled.silent()
    catch_up(troubled, store)
    created = troubled.take()
    new = "/" + "/".join(value.decode() for number, value in created.options if number == 8)
    assert troubled.take().code == codes.CHANGED
    troubled << con(codes.POST, new, mid=4) >> ack(codes.CHANGED, mid=4)
    troubled << con(codes.POST, old, mid=5) >> ack(codes.NOT_FOUND, mid=5)


def test_an_update_behind_a_deregister_does_not_bring_the_registration_back(
    troubled: Stack, store: TroubledStore
) -> None:
    troubled.provision("dev1")
    location = register(troubled)
    store.slow = True
    feed(troubled, con(codes.DELETE, location, mid=2))
    feed(troubled, con(codes.POST, location + "?lt=600", mid=3))
    catch_up(troubled, store)
    assert troubled.registrations() == []
    troubled << con(codes.POST, location, mid=4)
    assert sent_codes(troubled)[-1] == codes.NOT_FOUND


@pytest.mark.spec("R-7", "R-14")
def test_updates_that_overlap_build_on_each_other(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1")
    location = register(troubled)
    store.slow = True
    feed(
        troubled,
        con(codes.POST, location + "?lt=600", mid=2),
        con(codes.POST, location, mid=3, payload=b"</1/0>,</3/0>", content_format=40),
        con(codes.POST, location, mid=4, peer=ELSEWHERE),
    )
    catch_up(troubled, store)
    assert sent_codes(troubled) == [codes.CHANGED] * 3
    known = troubled.registry.of(device.device_id)
    assert known is not None
    assert known.pending is None
    stored = troubled.run(store.registration_of(device.device_id))
    for registration in (known.registration, stored):
        assert registration.lifetime_s == 600
        assert sorted(registration.objects.objects) == [1, 3]
        assert registration.peer == ELSEWHERE


def test_a_deregister_that_lost_the_race_against_a_register_ends_no_command(
    troubled: Stack, store: TroubledStore
) -> None:
    device = troubled.provision("dev1")
    old = register(troubled, target=SLEEPER)
    troubled << after(100)
    troubled.post(device, read("/3/0/0"))
    store.slow = True
    feed(
        troubled,
        con(codes.POST, SLEEPER, mid=2, token=b"t", payload=LINKS, content_format=40),
        con(codes.DELETE, old, mid=3),
    )
    catch_up(troubled, store)
    sent = [message for _, message in troubled.out]
    assert [each.code for each in sent] == [codes.CREATED, codes.DELETED, codes.GET]
    answer(troubled, sent[2])
    assert responses(troubled, device) == [(200, "ok")]


@pytest.mark.spec("R-6")
def test_a_registration_expires_once_however_long_that_takes_to_store(troubled: Stack, store: TroubledStore) -> None:
    device = troubled.provision("dev1", ("d2c-uplink-property_Room:7",))
    register(troubled)
    troubled.clock.at += 400
    store.slow = True
    for _ in range(3):
        troubled.run(troubled.expiry.look())
    catch_up(troubled, store)
    assert [each["messageType"] for each in troubled.received(device)] == ["registration", "registration-expire"]
    assert troubled.registrations() == []


# -- registrations come, go and move --


@pytest.mark.spec("R-6", "D2C 8")
def test_a_registration_that_nobody_heard_of_in_this_run_expires_with_its_labels() -> None:
    before = Stack()
    device = before.provision("dev1", ("d2c-uplink-property_Room:7",))
    register(before)
    stack = Stack(store=before.store, clock=before.clock, seed=1)
    stack << after(301)
    assert stack.store is not None
    newest = stack.run(stack.store.projection.received_messages(device.device_id, 1, 0))[0]
    assert '"registration-expire"' in newest.content
    assert newest.labels == ("Room:7",)
    assert stack.run(stack.store.registration_of(device.device_id)) is None
    before.close()
    stack.close()


@pytest.mark.spec("R-17")
def test_two_hundred_devices_in_one_batch_all_register_each_under_its_own_location() -> None:
    stack = Stack(auto_provision=("load-*",))
    peers = [PeerId("udp", "192.0.2.1", 20_000 + each, "192.0.2.100", 5683) for each in range(200)]
    steps = [
        con(codes.POST, f"/rd?ep=load-{each}&lt=300&lwm2m=1.1", mid=7, token=b"t", payload=LINKS, peer=peer)
        for each, peer in enumerate(peers)
    ]
    # Each is said twice: the repetition is swallowed or gets the same answer, never a second registration.
    feed(stack, *steps, *steps)
    locations = {message.options for _, message in stack.out}
    assert {message.code for _, message in stack.out} == {codes.CREATED}
    assert len(locations) == 200
    assert len(stack.registrations()) == 200
    assert {peer for peer, _ in stack.out} == set(peers)
    stack.close()


@pytest.mark.spec("R-9")
def test_a_device_that_registers_from_elsewhere_in_mid_command_ends_it_once_and_gets_the_next_there(
    stack: Stack,
) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, execute("/3/0/4"), read("/3/0/0"))
    assert path_of(stack.take()) == "/3/0/4"
    register(stack, mid=2, peer=ELSEWHERE)
    assert responses(stack, device) == [(408, "timeout-binding")]
    peer, request = stack.out.pop(0)
    assert (peer, path_of(request)) == (ELSEWHERE, "/3/0/0")
    answer(stack, request, ELSEWHERE)
    stack << after(300)
    assert responses(stack, device) == [(408, "timeout-binding"), (200, "ok")]


@pytest.mark.spec("R-14", "QM-7")
def test_a_request_follows_a_device_whose_address_changes_in_mid_command(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << con(codes.POST, location, mid=9, peer=ELSEWHERE)
    sent = [(peer, message) for peer, message in stack.out]
    stack.out.clear()
    assert all(peer == ELSEWHERE for peer, _ in sent)
    again = next(message for _, message in sent if message.code == codes.GET)
    assert (again.mid, again.token) == (request.mid, request.token)
    answer(stack, again, ELSEWHERE)
    assert responses(stack, device) == [(200, "ok")]


@pytest.mark.spec("Design 7")
def test_an_address_that_is_not_proven_gets_its_request_repeated_within_three_times_its_bytes(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, read("/3/0/0"))
    first = stack.take()
    stack << after(120)
    again = [message for _, message in stack.out]
    assert again == [first] * 4
    assert 5 * len(encode_message(first)) < 3 * len(LINKS)
    assert responses(stack, device) == [(408, "timeout")]


@pytest.mark.spec("Design 7")
@pytest.mark.parametrize("proof", ["update", "answer"])
def test_a_proven_address_gets_its_request_repeated(stack: Stack, proof: str) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    if proof == "update":
        stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    else:
        stack.post(device, read("/3/0/0"))
        answer(stack, stack.take())
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << after(4)
    assert stack.take() == request


@pytest.mark.spec("Design 7")
def test_a_new_address_has_to_be_proven_again(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    stack << con(codes.POST, location, mid=3, peer=ELSEWHERE) >> ack(codes.CHANGED, mid=3, peer=ELSEWHERE)
    stack.post(device, read("/3/0/0"))
    peer, request = stack.out.pop(0)
    assert peer == ELSEWHERE
    stack << after(60)
    # An empty Update paid for its answer and two requests, not for five; what is left of it asks by pings.
    asked = [each.code for _, each in stack.out]
    assert asked.count(codes.GET) <= 2
    assert set(asked) <= {codes.GET, codes.EMPTY}
    stack.out.clear()
    answer(stack, request, ELSEWHERE)
    assert responses(stack, device) == [(200, "ok")]


# -- sleepers --


@pytest.mark.spec("QM-2", "QM-3", "QM-6", "Transport 1.2.2 6.5")
def test_a_sleeper_gets_its_commands_after_the_answer_to_its_next_uplink_one_by_one(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack << after(94)
    stack.post(device, read("/3/0/0"), read("/3/0/1"))
    assert stack.silent()
    stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    first = stack.take()
    assert path_of(first) == "/3/0/0"
    assert stack.silent()
    answer(stack, first)
    assert path_of(stack.take()) == "/3/0/1"


@pytest.mark.spec("QM-2")
def test_a_sleeper_that_was_heard_a_moment_ago_gets_its_command_at_once(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack << after(92)
    stack.post(device, read("/3/0/0"))
    assert path_of(stack.take()) == "/3/0/0"


@pytest.mark.spec("QM-3", "QM-5")
def test_after_a_restart_a_sleeper_is_left_asleep_until_it_is_heard() -> None:
    before = Stack()
    device = before.provision("dev1")
    location = register(before, target=SLEEPER)
    before << after(1000)
    before.post(device, read("/3/0/0"))
    stack = Stack(store=before.store, clock=before.clock, seed=1)
    stack.run(stack._then_settle(stack.commands.recover()))
    stack.post(device, read("/3/0/1"))
    assert stack.silent()
    stack << con(codes.POST, location, mid=2) >> ack(codes.CHANGED, mid=2)
    assert path_of(stack.take()) == "/3/0/0"
    before.close()
    stack.close()


@pytest.mark.spec("QM-5", "READ-7")
def test_commands_that_wait_survive_a_new_register(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack << after(100)
    stack.post(device, read("/3/0/0"))
    register(stack, mid=2, target=SLEEPER)
    assert path_of(stack.take()) == "/3/0/0"


@pytest.mark.spec("D2C 7", "D2C 8")
def test_a_deregister_ends_what_waits_and_what_is_out_as_408_with_all_labels(stack: Stack) -> None:
    device = stack.provision("dev1", ("d2c-uplink-property_Room:7",))
    location = register(stack)
    stack.post(device, read("/3/0/0"), read("/3/0/1"), write("/1/0/1", "60"))
    stack.take()
    stack << con(codes.DELETE, location, mid=2) >> ack(codes.DELETED, mid=2)
    assert responses(stack, device) == [(408, "timeout-binding")] * 3
    assert stack.silent()
    assert stack.store is not None
    records = stack.run(stack.store.projection.received_messages(device.device_id, 4, 0))
    assert all("Room:7" in each.labels for each in records)
    assert stack.run(stack.store.outgoing_messages(device.device_id, 10, 0)) == []
    assert len(stack.run(stack.store.sent_messages(device.device_id, 10, 0))) == 1
    assert stack.run(stack.store.open_commands(None, 10)) == []


# -- devices behind one address --


@pytest.fixture
def twins(stack: Stack) -> tuple[Any, Any, str, str]:
    """Two devices that registered from the same address, and their locations."""
    one, two = stack.provision("dev1"), stack.provision("dev2")
    first = register(stack, mid=1)
    second = register(stack, mid=2, target="/rd?ep=dev2&lt=300&lwm2m=1.1")
    return one, two, first, second


def test_the_end_of_one_device_does_not_end_the_command_of_another_at_its_address(
    stack: Stack, twins: tuple[Any, Any, str, str]
) -> None:
    one, two, first, _ = twins
    stack.post(two, read("/3/0/0"))
    request = stack.take()
    stack.post(one, read("/3/0/0"))
    stack << con(codes.DELETE, first, mid=3) >> ack(codes.DELETED, mid=3)
    assert responses(stack, one) == [(408, "timeout-binding")]
    answer(stack, request)
    assert responses(stack, two) == [(200, "ok")]


def test_the_device_that_was_heard_last_speaks_for_an_address_and_after_it_the_other(
    stack: Stack, twins: tuple[Any, Any, str, str]
) -> None:
    one, two, first, second = twins
    stack << con(codes.POST, "/dp", mid=3, payload=NOTIFICATION, content_format=112) >> ack(codes.CHANGED, mid=3)
    assert len(stack.values(two, "/3303/0/5700")) == 1
    stack << con(codes.DELETE, second, mid=4) >> ack(codes.DELETED, mid=4)
    stack << con(codes.POST, "/dp", mid=5, payload=NOTIFICATION, content_format=112) >> ack(codes.CHANGED, mid=5)
    assert len(stack.values(one, "/3303/0/5700")) == 1
    stack << con(codes.DELETE, first, mid=6) >> ack(codes.DELETED, mid=6)
    stack << con(codes.POST, "/dp", mid=7, payload=NOTIFICATION, content_format=112) >> ack(codes.NOT_FOUND, mid=7)


def test_a_registration_that_is_only_loaded_does_not_take_an_address_from_who_was_heard_there_later() -> None:
    before = Stack()
    stale, fresh = before.provision("dev1"), before.provision("dev2")
    register(before, mid=1)
    before << after(50)
    location = register(before, mid=2, target="/rd?ep=dev2&lt=300&lwm2m=1.1")
    stack = Stack(store=before.store, clock=before.clock, seed=1)
    stack << con(codes.POST, location, mid=3) >> ack(codes.CHANGED, mid=3)
    stack.post(stale, read("/3/0/0"))
    stack.out.clear()
    stack << con(codes.POST, "/dp", mid=4, payload=NOTIFICATION, content_format=112) >> ack(codes.CHANGED, mid=4)
    assert len(stack.values(fresh, "/3303/0/5700")) == 1
    assert stack.values(stale, "/3303/0/5700") == []
    before.close()
    stack.close()


# -- formats and tokens --


@pytest.mark.spec("D-2")
def test_what_has_no_format_to_choose_is_not_tried_again_in_another(stack: Stack) -> None:
    device = stack.provision("dev1")
    stack << con(codes.POST, "/rd?ep=dev1&lwm2m=1.1&lt=300", mid=1, payload=b"</3/0>", content_format=40)
    stack.take()
    stack.post(device, CommandRequest("execute", "/3/0/4", "EXECUTE /3/0/4?0='x'", arguments="0='x'"))
    request = stack.take()
    stack << ack(codes.UNSUPPORTED_CONTENT_FORMAT, mid=request.mid, token=request.token)
    assert responses(stack, device) == [(415, "device-format")]
    assert stack.silent()


@pytest.mark.spec("MSG-6")
def test_no_two_requests_of_a_conversation_share_a_token(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    tokens = set()
    for _ in range(20):
        stack.post(device, read("/3/0/0"))
        request = stack.take()
        tokens.add(request.token)
        answer(stack, request)
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 4


def test_an_answer_that_comes_twice_or_late_ends_the_command_once(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack)
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    for _ in range(2):
        answer(stack, request)
    late = con(codes.CONTENT, mid=70, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    stack << late
    assert stack.out.pop(0)[1] == Message(3, 0, 70)
    assert responses(stack, device) == [(200, "ok")]
    assert status(stack, device) == (200, "ok")
    assert stack.observations.wanted_paths(device.device_id) == {}.keys()
    assert Path.parse("/3/0/0") not in stack.observations.wanted_paths(device.device_id)
