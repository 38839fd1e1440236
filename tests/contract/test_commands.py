"""Commands, outgoing and sent messages behave the same in every store."""

from dataclasses import replace

import pytest

from stellwerk.app.changes import ChangeCommand, CommandNeverSent, CommandSent
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import (
    AlreadyExists,
    ContainerFull,
    ContainerState,
    DeviceGone,
    NewCommand,
    NewOutgoing,
    QueueFull,
)
from stellwerk.device.command import Command, Step
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.operations import Execute, Write
from stellwerk.lwm2m.path import Path

from .builders import NOW_MS, make_commands, make_device, new_outgoing, receipt, send, write
from .conftest import Stores

pytestmark = pytest.mark.anyio

LABELS = ("outgoing_msgRN:msg-1", "requestId:msg-1-0", "Room:1")


async def test_an_outgoing_message_is_found_as_it_was_posted(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    content = Content((Entry(Path(3, 0, 14), "+02:00"), Entry(Path(3, 0, 15), 1.5)))
    outgoing = replace(
        new_outgoing(device_id),
        content='[{"method":"WRITE"}]',
        content_info="application/json:0",
        commands=(
            NewCommand("id-1", "write", Write(Path(3, 0), content, replace=False), '{"a":1}', "application/json:0", 7),
            NewCommand("id-2", "exec", Execute(Path(3, 0, 4), "5"), '"EXEC /3/0/4"', None, 8),
        ),
    )
    message, commands = await store.post_outgoing(outgoing, 100)
    assert (message.resource_id, message.resource_name) == (outgoing.resource_id, "msg-1")
    assert (message.state_tag, message.created_ms, message.labels) == (1, NOW_MS, ("a:b",))
    assert (message.content, message.content_info) == (outgoing.content, "application/json:0")
    assert await store.outgoing_messages(device_id, 10, 0) == [message]
    assert [each.request_id for each in commands] == ["id-1", "id-2"]
    assert [each.operation for each in commands] == [each.operation for each in outgoing.commands]
    assert all(each.step is Step.QUEUED and each.outgoing_rn == "msg-1" for each in commands)
    assert await store.open_commands(device_id, 10) == commands
    assert await store.container_state(device_id, "outgoing-msg") == ContainerState(1, 1, 11, NOW_MS)


async def test_open_commands_come_oldest_first_of_one_device_or_of_all(store: DecidingStore) -> None:
    one, two = (await make_device(store, "one")).device_id, (await make_device(store, "two")).device_id
    first = await make_commands(store, one, "a", 2)
    second = await make_commands(store, two, "b", 1)
    third = await make_commands(store, one, "c", 1)
    assert await store.open_commands(None, 10) == [*first, *second, *third]
    assert await store.open_commands(one, 10) == [*first, *third]
    assert await store.open_commands(None, 2) == first


async def test_the_last_commands_of_a_device_come_newest_first_whatever_their_step(store: DecidingStore) -> None:
    one, two = (await make_device(store, "one")).device_id, (await make_device(store, "two")).device_id
    first, second = await make_commands(store, one, "a", 2)
    await make_commands(store, two, "b", 1)
    (third,) = await make_commands(store, one, "c", 1)
    await write(store, (), [CommandNeverSent(first, Step.CANCELLED, NOW_MS, "cancelled", "taken back")])
    found = await store.recent_commands(one, 10)
    assert [each.command_id for each in found] == [third.command_id, second.command_id, first.command_id]
    assert [each.step for each in found] == [Step.QUEUED, Step.QUEUED, Step.CANCELLED]
    assert [(each.reason, each.detail) for each in found] == [("", ""), ("", ""), ("cancelled", "taken back")]
    assert await store.recent_commands(one, 1) == [third]


async def test_a_message_of_which_nothing_waits_is_not_kept_but_counted(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    failed = send(device_id, 1)
    message, commands = await store.post_outgoing(new_outgoing(device_id, commands=0, entries=(failed,)), 100)
    assert message.state_tag == 1
    assert commands == []
    assert await store.outgoing_messages(device_id, 10, 0) == []
    assert (await store.container_state(device_id, "outgoing-msg")).state_tag == 1
    assert await store.recall(receipt(1), 0) == failed
    await stores.settle()
    assert len(await stores.projected.received_messages(device_id, 10, 0)) == 1


@pytest.mark.spec("D2C 4.4")
async def test_a_full_container_refuses_and_keeps_what_waits(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    for name in ("a", "b"):
        await store.post_outgoing(new_outgoing(device_id, name), 2)
    before = await store.container_state(device_id, "outgoing-msg")
    with pytest.raises(ContainerFull) as full:
        await store.post_outgoing(new_outgoing(device_id, "c", entries=(send(device_id, 1),)), 2)
    assert (full.value.count, full.value.limit) == (2, 2)
    assert await store.container_state(device_id, "outgoing-msg") == before
    assert [each.outgoing_rn for each in await store.open_commands(device_id, 10)] == ["a", "b"]
    assert await store.recall(receipt(1), 0) is None
    await stores.settle()
    assert await stores.projected.received_messages(device_id, 10, 0) == []


async def test_a_resource_name_is_taken_once_in_a_container(store: DecidingStore) -> None:
    one, two = (await make_device(store, "one")).device_id, (await make_device(store, "two")).device_id
    await store.post_outgoing(new_outgoing(one, "a"), 9)
    await store.post_outgoing(new_outgoing(two, "a"), 9)
    with pytest.raises(AlreadyExists):
        await store.post_outgoing(new_outgoing(one, "a"), 9)
    assert len(await store.open_commands(None, 9)) == 2


@pytest.mark.spec("D2C 7.1")
async def test_a_sent_command_moves_its_message_when_it_was_the_last(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    first, second = await make_commands(store, device_id, count=2)
    await write(store, [], [CommandSent(first, NOW_MS + 1, LABELS)])
    (sent,) = await store.sent_messages(device_id, 10, 0)
    assert (sent.content, sent.content_info, sent.creator, sent.labels) == ('"READ /3/0/0"', None, "CNI-IPE", LABELS)
    assert (sent.state_tag, sent.created_ms, sent.content_size) == (1, NOW_MS + 1, len("READ /3/0/0"))
    assert len(await store.outgoing_messages(device_id, 10, 0)) == 1
    assert [each.step for each in await store.open_commands(device_id, 10)] == [Step.SENT, Step.QUEUED]
    await write(store, [], [CommandSent(second, NOW_MS + 2, ())])
    assert await store.outgoing_messages(device_id, 10, 0) == []
    assert await store.container_state(device_id, "outgoing-msg") == ContainerState(1, 0, 0, NOW_MS + 2)
    newest, oldest = await store.sent_messages(device_id, 10, 0)
    assert oldest == sent
    assert (newest.content, newest.state_tag) == ('"READ /3/0/1"', 2)
    assert newest.resource_id != oldest.resource_id
    assert len(newest.resource_id) == 24
    assert await store.container_state(device_id, "sent-msg") == ContainerState(2, 2, 22, NOW_MS + 2)


async def test_a_command_sent_again_after_a_restart_is_no_second_message(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    (command,) = await make_commands(store, device_id)
    await write(store, [], [CommandSent(command, NOW_MS + 1, LABELS)])
    before = await store.sent_messages(device_id, 10, 0)
    await write(store, [], [ChangeCommand(command.command_id, Step.QUEUED, NOW_MS + 2)])
    assert [each.step for each in await store.open_commands(device_id, 10)] == [Step.QUEUED]
    await write(store, [], [CommandSent(command, NOW_MS + 3, LABELS)])
    assert await store.sent_messages(device_id, 10, 0) == before
    assert (await store.container_state(device_id, "sent-msg")).state_tag == 1


async def test_a_command_that_ends_unsent_frees_its_message_and_leaves_no_sent_one(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    first, second = await make_commands(store, device_id, count=2)
    await write(store, [], [CommandNeverSent(first, Step.EXPIRED, NOW_MS + 1)])
    assert [each.command_id for each in await store.open_commands(device_id, 10)] == [second.command_id]
    assert len(await store.outgoing_messages(device_id, 10, 0)) == 1
    await write(store, [], [CommandNeverSent(second, Step.CANCELLED, NOW_MS + 2)])
    assert await store.open_commands(None, 10) == []
    assert await store.outgoing_messages(device_id, 10, 0) == []
    assert await store.sent_messages(device_id, 10, 0) == []
    assert await store.container_state(device_id, "sent-msg") == ContainerState(0, 0, 0, 0)


@pytest.mark.parametrize("step", [Step.DELIVERED, Step.SUCCEEDED, Step.REFUSED, Step.TIMED_OUT, Step.OUTCOME_UNKNOWN])
async def test_a_finished_command_is_not_open_any_more(store: DecidingStore, step: Step) -> None:
    device_id = (await make_device(store)).device_id
    (command,) = await make_commands(store, device_id)
    await write(store, [], [CommandSent(command, NOW_MS, ())])
    await write(store, [send(device_id, 1)], [ChangeCommand(command.command_id, step, NOW_MS, "timeout", "why")])
    left = [each.step for each in await store.open_commands(device_id, 10)]
    assert left == ([Step.DELIVERED] if step is Step.DELIVERED else [])


async def test_the_last_step_of_a_command_in_a_group_counts(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    one, two = await make_commands(store, device_id, count=2)
    changes = [
        CommandSent(one, NOW_MS, ()),
        CommandSent(two, NOW_MS, ()),
        ChangeCommand(two.command_id, Step.DELIVERED, NOW_MS),
        ChangeCommand(one.command_id, Step.SUCCEEDED, NOW_MS),
        ChangeCommand(999, Step.SUCCEEDED, NOW_MS),
    ]
    await write(store, [], changes)
    assert await store.open_commands(device_id, 10) == [replace(two, step=Step.DELIVERED)]


@pytest.mark.spec("D2C 4.4")
async def test_sent_messages_obey_the_count(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    commands = [command for n in range(4) for command in await make_commands(store, device_id, f"m{n}", 10)]
    for start in range(0, 40, 4):
        await write(store, [], [CommandSent(command, NOW_MS, ()) for command in commands[start : start + 4]])
        found = await store.sent_messages(device_id, 100, 0)
        newest = start + 4
        assert [each.state_tag for each in found] == list(range(newest, max(0, newest - 5), -1))
    assert [each.state_tag for each in await store.sent_messages(device_id, 2, 1)] == [39, 38]
    assert [each.state_tag for each in await store.sent_messages(device_id, 9, 4)] == [36]
    assert await store.sent_messages(device_id, 9, 5) == []
    state = await store.container_state(device_id, "sent-msg")
    assert (state.state_tag, state.count) == (40, 5)


@pytest.mark.spec("D2C 4.4")
async def test_sent_messages_obey_the_bytes_and_the_newest_always_stays(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id

    async def send_text(size: int, name: str) -> None:
        (command,) = await post(store, new_outgoing(device_id, name), f'"{"x" * size}"')
        await write(store, [], [CommandSent(command, NOW_MS, ())])

    for number in range(3):
        await send_text(400, f"m{number}")
    assert [each.state_tag for each in await store.sent_messages(device_id, 9, 0)] == [3, 2]
    assert await store.container_state(device_id, "sent-msg") == ContainerState(3, 2, 800, NOW_MS)
    await send_text(2000, "large")
    assert [each.state_tag for each in await store.sent_messages(device_id, 9, 0)] == [4]


async def post(store: DecidingStore, outgoing: NewOutgoing, content: str) -> list[Command]:
    changed = tuple(replace(each, content=content) for each in outgoing.commands)
    return list((await store.post_outgoing(replace(outgoing, commands=changed), 100))[1])


async def test_there_are_two_containers_and_no_third(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    assert await store.container_state(device_id, "sent-msg") == ContainerState(0, 0, 0, 0)
    with pytest.raises(ValueError, match="received-msg"):
        await store.container_state(device_id, "received-msg")


async def test_a_device_that_was_removed_is_told_nothing_more(store: DecidingStore) -> None:
    device = await make_device(store)
    await store.remove_device(device.device_id)
    with pytest.raises(DeviceGone):
        await store.post_outgoing(new_outgoing(device.device_id), 100)
    assert await store.outgoing_messages(device.device_id, 10, 0) == []


async def test_a_command_without_a_message_is_a_row_and_nothing_in_the_containers(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await store.post_outgoing(new_outgoing(device_id, "a"), 1)
    before = await store.container_state(device_id, "outgoing-msg")
    alone = replace(new_outgoing(device_id, "b"), resource_name="", resource_id="b" * 24)
    # The container is full, and that is none of its business.
    _, (command,) = await store.post_outgoing(alone, 1)
    assert (command.outgoing_ri, command.outgoing_rn) == ("b" * 24, "")
    assert command.labels == (f"requestId:{command.request_id}",)
    assert await store.commands_of_message("b" * 24) == [command]
    await write(store, [], [CommandSent(command, NOW_MS + 1, command.labels)])
    assert [each.step for each in await store.commands_of_message("b" * 24)] == [Step.SENT]
    await write(store, [], [ChangeCommand(command.command_id, Step.SUCCEEDED, NOW_MS + 2, "ok", "")])
    assert await store.container_state(device_id, "outgoing-msg") == before
    assert await store.sent_messages(device_id, 10, 0) == []
    assert (await store.container_state(device_id, "sent-msg")).state_tag == 0
    # And any number may be without a name.
    again = replace(alone, resource_id="c" * 24)
    await store.post_outgoing(again, 1)
    await store.post_outgoing(replace(again, resource_id="d" * 24), 1)


async def test_only_commands_without_a_message_are_counted_by_the_queue_alone(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    alone = replace(new_outgoing(device_id, "b"), resource_name="", resource_id="b" * 24)
    await store.post_outgoing(alone, 1, 1)
    with pytest.raises(QueueFull):
        await store.post_outgoing(replace(alone, resource_id="c" * 24), 1, 1)
    assert await store.commands_of_message("c" * 24) == []
