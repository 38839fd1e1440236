"""The queue of a device as rows: order, bound, and what gives way."""

from dataclasses import replace

import pytest

from stellwerk.app.changes import ChangeCommand, CommandNeverSent
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import ContainerFull, NewOutgoing, QueueFull
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import UNANSWERED, Command, Step

from .builders import NOW_MS, make_commands, make_device, new_outgoing, write
from .conftest import LIMITS, Stores

pytestmark = pytest.mark.anyio


def prioritised(device_id: DeviceId, name: str, *priorities: int) -> NewOutgoing:
    outgoing = new_outgoing(device_id, name, len(priorities))
    commands = (replace(each, priority=p) for each, p in zip(outgoing.commands, priorities, strict=True))
    return replace(outgoing, commands=tuple(commands))


def end(command: Command) -> JournalEntry:
    return JournalEntry(
        Kind.ANSWER, command.device_id, NOW_MS, path="/3/0/0", labels=command.labels, method="read", reason="superseded"
    )


@pytest.mark.spec("QM-5")
async def test_open_commands_of_a_device_come_by_priority_then_by_age(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    _, first = await store.post_outgoing(prioritised(device_id, "a", 0, 5, -1), 100)
    _, second = await store.post_outgoing(prioritised(device_id, "b", 5, 0), 100)
    assert [each.priority for each in first] == [0, 5, -1]
    wanted = [first[1], second[0], first[0], second[1], first[2]]
    assert await store.open_commands(device_id, 10) == wanted
    assert await store.open_commands(device_id, 2) == wanted[:2]
    assert await store.open_commands(None, 10) == [*first, *second]
    assert await store.queued_commands(device_id, 3) == [(each.command_id, each.outgoing_ri) for each in wanted[:3]]
    await write(store, (), [ChangeCommand(wanted[0].command_id, Step.SENT, NOW_MS)])
    assert (await store.queued_commands(device_id, 1))[0][0] == wanted[1].command_id


@pytest.mark.spec("QM-5")
async def test_a_queue_takes_no_more_than_its_length_and_says_how_many_wait(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await store.post_outgoing(new_outgoing(device_id, "a", 3), 100, 4)
    with pytest.raises(QueueFull, match="3 commands wait for the device already, 4 may; 2 more are too many"):
        await store.post_outgoing(new_outgoing(device_id, "b", 2), 100, 4)
    assert len(await store.open_commands(device_id, 10)) == 3
    assert len(await store.outgoing_messages(device_id, 10, 0)) == 1
    await store.post_outgoing(new_outgoing(device_id, "c", 1), 100, 4)
    other = (await make_device(store, "other")).device_id
    await store.post_outgoing(new_outgoing(other, "d", 4), 100, 4)


async def test_a_command_that_ended_makes_room_in_its_queue(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    (first,) = await make_commands(store, device_id, "a", 1)
    await write(store, (), [CommandNeverSent(first, Step.CANCELLED, NOW_MS)])
    await store.post_outgoing(new_outgoing(device_id, "b", 1), 100, 1)


@pytest.mark.spec("QM-5")
async def test_what_a_message_replaces_ends_with_it_and_makes_room(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    old = await make_commands(store, device_id, "old", 1)
    ended = (CommandNeverSent(old[0], Step.SUPERSEDED, NOW_MS),)
    outgoing = replace(new_outgoing(device_id, "new", 1), entries=(end(old[0]),), ended=ended)
    _, fresh = await store.post_outgoing(outgoing, 1, 1)
    assert await store.open_commands(device_id, 10) == fresh
    assert [each.resource_name for each in await store.outgoing_messages(device_id, 10, 0)] == ["new"]
    assert [each.step for each in await store.recent_commands(device_id, 10)] == [Step.QUEUED, Step.SUPERSEDED]
    await stores.settle()
    (message,) = await stores.projected.received_messages(device_id, 10, 0)
    assert message.labels == old[0].labels


async def test_a_message_that_is_refused_replaces_nothing(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    old = [*await make_commands(store, device_id, "old", 1), *await make_commands(store, device_id, "other", 1)]
    ended = (CommandNeverSent(old[0], Step.SUPERSEDED, NOW_MS),)
    outgoing = replace(new_outgoing(device_id, "new", 1), entries=(end(old[0]),), ended=ended)
    with pytest.raises(ContainerFull):
        await store.post_outgoing(outgoing, 1)
    with pytest.raises(QueueFull):
        await store.post_outgoing(outgoing, LIMITS.max_instances, 1)
    assert await store.open_commands(device_id, 10) == old
    assert len(await store.outgoing_messages(device_id, 10, 0)) == 2
    await stores.settle()
    assert await stores.projected.received_messages(device_id, 10, 0) == []


@pytest.mark.spec("QM-4")
async def test_a_command_tells_why_it_waits_again(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    (command,) = await make_commands(store, device_id, "a", 1)
    await write(store, (), [ChangeCommand(command.command_id, Step.SENT, NOW_MS, UNANSWERED, "no answer")])
    (found,) = await store.open_commands(device_id, 10)
    assert (found.step, found.reason, found.detail) == (Step.SENT, UNANSWERED, "no answer")
    await write(store, (), [ChangeCommand(command.command_id, Step.DELIVERED, NOW_MS)])
    (found,) = await store.open_commands(device_id, 10)
    assert (found.step, found.reason, found.detail) == (Step.DELIVERED, "", "")
