"""What is found by ID or name, changed and removed one by one behaves the same in every store."""

import json

import pytest

from stellwerk.app.changes import ChangeCommand, CommandNeverSent, CommandSent, DropRegistration, PutRegistration
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import DeviceChange
from stellwerk.app.resource_ids import device_key, device_resource_id
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Step

from .builders import NOW_MS, make_commands, make_device, peer, register, registration, send, tree_resource, write
from .conftest import LIMITS, Stores

pytestmark = pytest.mark.anyio

LABELS = ("outgoing_msgRN:m", "requestId:r")


async def send_commands(store: DecidingStore, device_id: DeviceId, count: int) -> None:
    for number in range(count):
        (command,) = await make_commands(store, device_id, f"msg-{number}")
        await write(store, [], [CommandSent(command, NOW_MS + number, LABELS)])


# -- devices --


@pytest.mark.spec("D2C 1")
async def test_a_device_and_its_parts_are_found_by_resource_id_in_their_tenant_only(store: DecidingStore) -> None:
    device = await make_device(store, "meter")
    other = await store.ensure_tenant("other", NOW_MS)
    for part in ("", "device-info", "communication/received-msg"):
        resource_id = device_resource_id("default", "meter", NOW_MS, part)
        assert await store.device_by_resource_id(device.tenant_id, resource_id) == (device, part)
        assert await store.device_by_resource_id(other, resource_id) is None
    for unknown in ("", "0" * 24, device_key("default", "meter", NOW_MS) + "ff", "meter"):
        assert await store.device_by_resource_id(device.tenant_id, unknown) is None


async def test_a_change_of_a_device_leaves_what_it_does_not_name(store: DecidingStore) -> None:
    device = await make_device(store, "meter", labels=("a:1",), device_info=(("man", "ACME"),))
    relabelled = await store.change_device(device.device_id, DeviceChange(NOW_MS + 1, labels=("b:2", "c")))
    assert relabelled is not None
    assert (relabelled.labels, relabelled.device_info, relabelled.modified_ms) == (
        ("b:2", "c"),
        (("man", "ACME"),),
        NOW_MS + 1,
    )
    informed = await store.change_device(device.device_id, DeviceChange(NOW_MS + 2, device_info=()))
    assert informed is not None
    assert (informed.labels, informed.device_info) == (("b:2", "c"), ())
    assert await store.device(device.device_id) == informed
    assert await store.change_device(DeviceId(999), DeviceChange(NOW_MS)) is None


# -- commands --


async def test_devices_with_open_commands_say_which_cannot_wait_until_they_are_heard(store: DecidingStore) -> None:
    kinds = ("awake", "asleep", "asleep-sent", "away", "done")
    devices = {kind: (await make_device(store, kind)).device_id for kind in kinds}
    for place, (kind, device_id) in enumerate(devices.items()):
        made = registration(device_id, kind, queue_mode=kind.startswith("asleep"), peer=peer(1000 + place))
        await write(store, [], [PutRegistration(made, NOW_MS)])
        first, second = await make_commands(store, device_id, f"of-{kind}", 2)
        if kind == "asleep-sent":
            await write(store, [], [CommandSent(first, NOW_MS, LABELS)])
        if kind == "away":
            await write(store, [], [DropRegistration(device_id, kind)])
        if kind == "done":
            ends = [CommandNeverSent(each, Step.CANCELLED, NOW_MS) for each in (first, second)]
            await write(store, [], ends)
    found = dict(await store.devices_with_open_commands())
    assert {kind: found.get(device_id) for kind, device_id in devices.items()} == {
        "awake": True,
        "asleep": False,
        "asleep-sent": True,
        "away": True,
        "done": None,
    }


async def test_commands_whose_time_is_over_come_soonest_first(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    first, second = await make_commands(store, device_id, "msg", 2)
    due_ms = first.expires_ms
    assert await store.commands_due(due_ms, 10) == []
    assert await store.commands_due(due_ms + 1, 10) == [first, second]
    assert await store.commands_due(due_ms + 1, 1) == [first]
    await write(store, [], [ChangeCommand(first.command_id, Step.SUCCEEDED, NOW_MS)])
    assert await store.commands_due(due_ms + 1, 10) == [second]


async def test_all_commands_of_a_message_are_known_whatever_their_step(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    first, second = await make_commands(store, device_id, "msg", 2)
    await write(store, [], [CommandSent(first, NOW_MS, LABELS)])
    found = await store.commands_of_message(first.outgoing_ri)
    assert [(each.command_id, each.step) for each in found] == [
        (first.command_id, Step.SENT),
        (second.command_id, Step.QUEUED),
    ]
    assert await store.commands_of_message("0" * 24) == []


# -- messages --


async def test_outgoing_and_sent_messages_are_found_by_name_and_by_id(store: DecidingStore) -> None:
    device = await make_device(store)
    other = await store.ensure_tenant("other", NOW_MS)
    await make_commands(store, device.device_id, "waits")
    await send_commands(store, device.device_id, 1)
    for container, messages in (
        ("outgoing-msg", await store.outgoing_messages(device.device_id, 9, 0)),
        ("sent-msg", await store.sent_messages(device.device_id, 9, 0)),
    ):
        (message,) = messages
        name, resource_id = message.resource_name, message.resource_id
        assert await store.find_message(device.device_id, container, name=name) == message
        assert await store.find_message(device.device_id, container, resource_id=resource_id) == message
        assert await store.find_message(device.device_id, container, name="else", resource_id=resource_id) is None
        assert await store.find_message(DeviceId(999), container, name=name) is None
        assert await store.message_by_resource_id(device.tenant_id, resource_id) == (device, container, message)
        assert await store.message_by_resource_id(other, resource_id) is None
    with pytest.raises(ValueError):
        await store.find_message(device.device_id, "sent-msg")


@pytest.mark.spec("D2C 4.4")
async def test_what_is_evicted_is_not_found_any_more(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await send_commands(store, device_id, 1)
    (first,) = await store.sent_messages(device_id, 9, 0)
    for number in range(1, LIMITS.max_instances + 1):
        (command,) = await make_commands(store, device_id, f"more-{number}")
        await write(store, [], [CommandSent(command, NOW_MS + number, LABELS)])
    assert await store.find_message(device_id, "sent-msg", name=first.resource_name) is None


async def test_a_removed_sent_message_is_gone_and_brings_no_older_one_back(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await send_commands(store, device_id, LIMITS.max_instances + 3)
    kept = list(await store.sent_messages(device_id, 99, 0))
    assert len(kept) == LIMITS.max_instances
    assert await store.remove_sent_message(device_id, kept[1].resource_id)
    assert not await store.remove_sent_message(device_id, kept[1].resource_id)
    assert await store.sent_messages(device_id, 99, 0) == [kept[0], *kept[2:]]
    state = await store.container_state(device_id, "sent-msg")
    assert (state.count, state.bytes) == (len(kept) - 1, sum(each.content_size for each in (kept[0], *kept[2:])))


async def test_received_messages_are_found_by_name_id_and_the_entry_they_came_from(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    for number in (1, 2, 3):
        await write(stores.deciding, [send(device_id, number)])
    await stores.settle()
    _, second, _ = await stores.projected.received_messages(device_id, 9, 0)
    for wanted in ({"name": second.resource_name}, {"resource_id": second.resource_id}, {"seq": 2}):
        assert await stores.projected.find_received(device_id, **wanted) == second
        assert await stores.projected.find_received(DeviceId(999), **wanted) is None
    assert await stores.projected.received_by_resource_id(second.resource_id) == (device_id, second)
    for unknown in ("", "z" * 24, "0" * 24, second.resource_id[:-1] + "?"):
        assert await stores.projected.received_by_resource_id(unknown) is None
    with pytest.raises(ValueError):
        await stores.projected.find_received(device_id)


@pytest.mark.parametrize("together", [True, False])
async def test_a_removed_received_message_is_gone_and_brings_no_older_one_back(stores: Stores, together: bool) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    for number in range(LIMITS.max_instances + 2):
        await write(stores.deciding, [send(device_id, number)])
    await stores.settle()
    kept = list(await stores.projected.received_messages(device_id, 99, 0))
    gone = kept.pop(1)
    removal = JournalEntry(Kind.MESSAGE_REMOVED, device_id, NOW_MS + 90, location=gone.resource_id)
    later = [send(device_id, 91), JournalEntry(Kind.MESSAGE_REMOVED, device_id, NOW_MS + 92, location="unknown")]
    if together:
        await write(stores.deciding, [removal, *later])
    else:
        for entry in (removal, *later):
            await write(stores.deciding, [entry])
            await stores.settle()
    await stores.settle()
    newest, *rest = await stores.projected.received_messages(device_id, 99, 0)
    assert newest.created_ms == NOW_MS + 91
    assert rest == kept[: LIMITS.max_instances - 1]
    assert await stores.projected.find_received(device_id, resource_id=gone.resource_id) is None
    state = await stores.projected.received_state(device_id)
    assert (state.count, state.bytes) == (1 + len(rest), sum(each.content_size for each in (newest, *rest)))
    assert state.state_tag == newest.state_tag == LIMITS.max_instances + 3
    for number in range(93, 93 + 3 * LIMITS.max_instances):
        await write(stores.deciding, [send(device_id, number)])
    await stores.settle()
    assert len(await stores.projected.received_messages(device_id, 99, 0)) == LIMITS.max_instances


@pytest.mark.spec("D2C 8")
async def test_an_injected_message_is_kept_as_it_was_posted(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    entry = JournalEntry(
        Kind.INJECTED,
        device_id,
        NOW_MS,
        payload=json.dumps("plain text: ü").encode(),
        labels=("x:1",),
        location="my-name",
        method="text/plain:0",
        detail="CTestApp",
    )
    await write(stores.deciding, [entry])
    await stores.settle()
    (message,) = await stores.projected.received_messages(device_id, 9, 0)
    assert json.loads(message.content) == "plain text: ü"
    assert (message.resource_name, message.content_info, message.creator) == ("my-name", "text/plain:0", "CTestApp")
    assert (message.labels, message.content_size) == (("x:1",), len("plain text: ü".encode()))
    assert await stores.projected.find_received(device_id, seq=1) == message


@pytest.mark.spec("D2C 9")
async def test_the_name_a_device_registered_with_outlives_the_registration(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    left = JournalEntry(Kind.DEREGISTER, device_id, NOW_MS + 2, status=202, location="loc1")
    await write(stores.deciding, [register(device_id, 1), left])
    await stores.settle()
    state = await stores.projected.state_of(device_id)
    assert state is not None
    assert (state.status, state.endpoint_name) == ("deregistered", "urn:imei:dev-1")
    await write(stores.deciding, [send(device_id, 3)])
    await stores.settle()
    state = await stores.projected.state_of(device_id)
    assert state is not None
    assert state.endpoint_name == "urn:imei:dev-1"


async def test_the_states_of_many_devices_come_at_once(stores: Stores) -> None:
    ids = [(await make_device(stores.deciding, f"dev-{n}")).device_id for n in range(3)]
    for device_id in ids[:2]:
        await write(stores.deciding, [send(device_id, device_id)])
    await stores.settle()
    found = await stores.projected.recent_states([ids[2], ids[1], ids[0], DeviceId(999)])
    assert {each.device_id: each.last_seen_ms for each in found} == {each: NOW_MS + each for each in ids[:2]}


# -- tree --


async def test_a_tree_resource_changes_in_the_parts_that_are_named(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    made = tree_resource(tenant_id)
    await store.create_resource(made)
    labelled = await store.change_resource(tenant_id, "default", "app-1", modified_ms=NOW_MS + 1, labels=())
    assert labelled is not None
    assert (labelled.labels, labelled.attributes, labelled.state_tag) == ((), made.attributes, 1)
    rewritten = await store.change_resource(tenant_id, "default", "app-1", modified_ms=NOW_MS + 2, attributes={"a": 1})
    assert rewritten is not None
    assert (rewritten.attributes, rewritten.modified_ms, rewritten.state_tag) == ({"a": 1}, NOW_MS + 2, 2)
    assert await store.resource(tenant_id, "default", "app-1") == rewritten
    assert await store.change_resource(tenant_id, "default", "none", modified_ms=NOW_MS) is None


async def test_a_removed_tree_resource_takes_all_below_with_it(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    top, child, below, beside = ("a" * 24, "b" * 24, "c" * 24, "d" * 24)
    for name, parent, resource_id in (
        ("top", "default", top),
        ("child", top, child),
        ("below", child, below),
        ("beside", "default", beside),
    ):
        await store.create_resource(tree_resource(tenant_id, name, parent, resource_id=resource_id))
    assert await store.remove_resource(tenant_id, "default", "top")
    assert not await store.remove_resource(tenant_id, "default", "top")
    for gone in (top, child, below):
        assert await store.resource_by_id(tenant_id, gone) is None
    left = await store.resource_by_id(tenant_id, beside)
    assert left is not None
    assert left.resource_name == "beside"
    assert await store.resource_by_id(await store.ensure_tenant("other", NOW_MS), beside) is None


async def test_what_hangs_below_a_device_in_the_tree_goes_with_it(store: DecidingStore) -> None:
    gone, stays = await make_device(store, "gone"), await make_device(store, "stays")
    for device, resource_id in ((gone, "a" * 24), (stays, "b" * 24)):
        parent = device_resource_id("default", device.name, NOW_MS, "communication/received-msg")
        await store.create_resource(tree_resource(device.tenant_id, "sub", parent, resource_id=resource_id))
        await store.create_resource(tree_resource(device.tenant_id, "sub2", resource_id, resource_id="c" + resource_id))
    await store.remove_device(gone.device_id)
    assert await store.resource_by_id(gone.tenant_id, "a" * 24) is None
    assert await store.resource_by_id(gone.tenant_id, "c" + "a" * 24) is None
    assert await store.resource_by_id(gone.tenant_id, "b" * 24) is not None
    assert await store.resource_by_id(gone.tenant_id, "c" + "b" * 24) is not None
