"""What is projected of the journal looks the same in every store."""

import json

import pytest

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.records import ContainerState, StoredValue
from stellwerk.core.ids import DeviceId

from .builders import NOW_MS, make_device, register, send, update, write
from .conftest import Stores

pytestmark = pytest.mark.anyio


async def project(stores: Stores, *entries: JournalEntry) -> None:
    """Commit them one by one, then project."""
    for entry in entries:
        await write(stores.deciding, [entry])
    await stores.settle()


def measured(device_id: DeviceId, number: int, value: float, age_s: int | None = None) -> JournalEntry:
    """A Send of one value, received at ``number`` and measured ``age_s`` before."""
    time = "" if age_s is None else f',"t":{-age_s}'
    return send(device_id, number, f'[{{"n":"/3303/0/5700","v":{value}{time}}}]'.encode())


@pytest.mark.spec("D2C 8")
async def test_a_send_becomes_a_message_with_frozen_labels(stores: Stores) -> None:
    device = await make_device(stores.deciding, "meter")
    await project(stores, register(device.device_id), send(device.device_id, 7, labels=("Room:1", "Floor:ü")))
    message, registered = await stores.projected.received_messages(device.device_id, 10, 0)
    assert json.loads(message.content) == {
        "nodeResourceName": "meter",
        "time": NOW_MS + 7,
        "messageType": "send",
        "data": {"3303/0/5700": 21.5, "3303/0/5601": 1.0},
    }
    assert " " not in message.content
    assert message.content_size == len(message.content.encode())
    assert (message.content_info, message.creator) == ("application/json:0", "CNI-IPE")
    assert message.labels == ("Room:1", "Floor:ü")
    assert (message.state_tag, registered.state_tag) == (2, 1)
    assert message.created_ms == NOW_MS + 7
    assert len(bytes.fromhex(message.resource_id)) == 12
    assert message.resource_id != registered.resource_id
    assert message.resource_name != registered.resource_name
    size = message.content_size + registered.content_size
    assert await stores.projected.received_state(device.device_id) == ContainerState(2, 2, size, NOW_MS + 7)


@pytest.mark.spec("D2C 4.4")
async def test_received_messages_obey_the_count_exactly(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    for start in (0, 7, 30):
        await project(stores, *(update(device_id, NOW_MS + number, number) for number in range(start, start + 7)))
        found = await stores.projected.received_messages(device_id, 100, 0)
        newest = found[0].state_tag
        assert [each.state_tag for each in found] == list(range(newest, newest - 5, -1))
    assert newest == 21
    assert [each.state_tag for each in await stores.projected.received_messages(device_id, 2, 1)] == [20, 19]
    assert [each.state_tag for each in await stores.projected.received_messages(device_id, 9, 4)] == [17]
    assert await stores.projected.received_messages(device_id, 9, 5) == []
    assert (await stores.projected.received_state(device_id)).count == 5


@pytest.mark.spec("D2C 4.4")
async def test_received_messages_obey_the_bytes_and_the_newest_always_stays(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    medium = f'[{{"n":"/3303/0/5750","vs":"{"x" * 300}"}}]'.encode()
    large = f'[{{"n":"/3303/0/5750","vs":"{"x" * 3000}"}}]'.encode()
    await project(stores, *(send(device_id, number, medium) for number in range(4)))
    found = await stores.projected.received_messages(device_id, 9, 0)
    assert [each.state_tag for each in found] == [4, 3]
    assert (await stores.projected.received_state(device_id)).bytes == sum(each.content_size for each in found) <= 1000
    await project(stores, send(device_id, 9, large))
    assert [each.state_tag for each in await stores.projected.received_messages(device_id, 9, 0)] == [5]


@pytest.mark.spec("D2C 8")
async def test_an_injected_message_keeps_what_its_originator_said(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    fields = {"labels": ("x",), "location": "my-name", "method": "text/plain:0", "detail": "CApp"}
    await project(
        stores,
        JournalEntry(Kind.INJECTED, device_id, NOW_MS, payload='"hä"'.encode(), **fields),  # type: ignore[arg-type]
        JournalEntry(Kind.INJECTED, device_id, NOW_MS, payload=b'{ "a": [1, true] }'),
    )
    second, first = await stores.projected.received_messages(device_id, 9, 0)
    assert (first.resource_name, first.content_info, first.creator) == ("my-name", "text/plain:0", "CApp")
    assert (first.content, first.content_size, first.labels) == ('"hä"', 3, ("x",))
    assert (second.content, second.content_size, second.content_info) == ('{"a":[1,true]}', 14, None)
    assert len(second.resource_name) == 36


async def test_a_devices_state_follows_its_registrations(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    assert await stores.projected.state_of(device_id) is None
    await project(stores, register(device_id), update(device_id, NOW_MS + 10, 1), send(device_id, 20))
    state = await stores.projected.state_of(device_id)
    assert state is not None
    assert (state.status, state.registered_ms, state.updated_ms) == ("registered", NOW_MS, NOW_MS + 10)
    assert (state.last_seen_ms, state.deregistered_ms, state.expired_ms) == (NOW_MS + 20, 0, 0)
    await project(stores, JournalEntry(Kind.EXPIRE, device_id, NOW_MS + 90))
    state = await stores.projected.state_of(device_id)
    assert state is not None
    assert (state.status, state.expired_ms, state.last_seen_ms) == ("expired", NOW_MS + 90, NOW_MS + 20)
    await project(stores, register(device_id, 100))
    await project(stores, JournalEntry(Kind.DEREGISTER, device_id, NOW_MS + 110, b"", 202))
    state = await stores.projected.state_of(device_id)
    assert state is not None
    assert (state.status, state.deregistered_ms, state.registered_ms) == ("deregistered", NOW_MS + 110, NOW_MS + 100)


async def test_the_newest_value_by_the_devices_time_is_the_current_one(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    await project(stores, register(device_id), measured(device_id, 50_000, 1.5))
    await project(stores, measured(device_id, 60_000, 2.5, age_s=20), measured(device_id, 61_000, 3.5, age_s=15))
    assert await stores.projected.current_values(device_id) == [StoredValue("/3303/0/5700", "1.5", NOW_MS + 50_000, 2)]
    await project(stores, measured(device_id, 70_000, 4.5, age_s=20), measured(device_id, 70_000, 5.5, age_s=20))
    assert await stores.projected.current_values(device_id) == [StoredValue("/3303/0/5700", "5.5", NOW_MS + 50_000, 6)]
    history = await stores.projected.value_history(device_id, "/3303/0/5700", 10)
    assert [(each.value, each.time_ms - NOW_MS) for each in history] == [
        ("5.5", 50_000),
        ("4.5", 50_000),
        ("1.5", 50_000),
        ("3.5", 46_000),
        ("2.5", 40_000),
    ]
    assert await stores.projected.value_history(device_id, "/3303/0/5700", 2) == history[:2]
    assert await stores.projected.value_history(device_id, "/3303/0/5701", 2) == []


async def test_history_finds_old_values_in_a_late_report(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    late = ",".join(f'{{"n":"/3303/0/5700","v":{age}.5,"t":-{age}}}' for age in (1, 40, 20))
    await project(stores, measured(device_id, 30_000, 7.0), send(device_id, 60_000, f"[{late}]".encode()))
    history = await stores.projected.value_history(device_id, "/3303/0/5700", 3)
    assert [each.value for each in history] == ["1.5", "20.5", "7.0"]
    history = await stores.projected.value_history(device_id, "/3303/0/5700", 9)
    assert [each.value for each in history] == ["1.5", "20.5", "7.0", "40.5"]


@pytest.mark.spec("D-15")
async def test_every_time_of_a_path_is_kept_also_within_one_millisecond(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    times = (1_700_000_000.0001, 1_700_000_000.0002, 1_700_000_000.001)
    records = ",".join(f'{{"n":"/3303/0/5700","v":{place}.5,"t":{time!r}}}' for place, time in enumerate(times))
    await project(stores, send(device_id, 60_000, f"[{records}]".encode()))
    history = await stores.projected.value_history(device_id, "/3303/0/5700", 9)
    assert [(each.value, each.time_ms) for each in history] == [
        ("2.5", 1_700_000_000_001),
        ("1.5", 1_700_000_000_000),
        ("0.5", 1_700_000_000_000),
    ]
    assert [each.value for each in await stores.projected.current_values(device_id)] == ["2.5"]


@pytest.mark.spec("D-15")
async def test_a_clock_that_is_ahead_holds_up_no_later_value(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    await project(stores, measured(device_id, 1000, 1.5, age_s=-86_400))
    assert await stores.projected.current_values(device_id) == [StoredValue("/3303/0/5700", "1.5", NOW_MS + 1000, 1)]
    await project(stores, measured(device_id, 2000, 2.5))
    assert await stores.projected.current_values(device_id) == [StoredValue("/3303/0/5700", "2.5", NOW_MS + 2000, 2)]
    history = await stores.projected.value_history(device_id, "/3303/0/5700", 9)
    assert [(each.value, each.time_ms - NOW_MS) for each in history] == [("1.5", 86_401_000), ("2.5", 2000)]


async def test_current_values_come_by_path_and_of_one_device(stores: Stores) -> None:
    one, two = await make_device(stores.deciding, "one"), await make_device(stores.deciding, "two")
    await project(stores, send(one.device_id, 1), measured(two.device_id, 2, 9.0))
    found = await stores.projected.current_values(one.device_id)
    assert [(each.path, each.value) for each in found] == [("/3303/0/5601", "1"), ("/3303/0/5700", "21.5")]
    assert [each.value for each in await stores.projected.current_values(two.device_id)] == ["9.0"]


async def test_the_device_log_says_why(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    lines = [JournalEntry(Kind.LOG, device_id, NOW_MS + n, reason="refused", detail=f"why {n}") for n in range(3)]
    await project(stores, *lines)
    found = await stores.projected.device_log(device_id, 2)
    assert [(each.seq, each.time_ms, each.event, each.detail) for each in found] == [
        (3, NOW_MS + 2, "refused", "why 2"),
        (2, NOW_MS + 1, "refused", "why 1"),
    ]


async def test_the_device_log_keeps_its_newest_lines(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    lines = [JournalEntry(Kind.LOG, device_id, NOW_MS, reason="refused", detail=str(n)) for n in range(450)]
    await write(stores.deciding, lines[:301])
    await stores.settle()
    await write(stores.deciding, lines[301:])
    await stores.settle()
    found = await stores.projected.device_log(device_id, 1000)
    assert [int(each.detail) for each in found] == list(range(449, 249, -1))


BAD_ENTRIES = {
    "an unknown kind": JournalEntry(99, 1, NOW_MS),
    "a path that is none": JournalEntry(Kind.NOTIFY, 1, NOW_MS, status=205, path="nonsense", payload=b"1"),
    "an answer without reason": JournalEntry(Kind.ANSWER, 1, NOW_MS, status=205, path="/3", reason="no such word"),
    "an injected text that is no JSON": JournalEntry(Kind.INJECTED, 1, NOW_MS, payload=b"{"),
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
async def test_an_entry_that_cannot_be_projected_leaves_a_line_and_stops_nobody(
    stores: Stores, bad: JournalEntry
) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    await write(stores.deciding, [send(device_id, 1), bad, send(device_id, 2)])
    await stores.settle()
    assert [each.state_tag for each in await stores.projected.received_messages(device_id, 9, 0)] == [2, 1]
    (line,) = await stores.projected.device_log(device_id, 9)
    assert (line.event, line.seq) == ("projection-failed", 2)
    assert stores.failures() == 1
    assert await stores.projected.projected_seq() == 3


HOSTILE = {
    "a time beyond 64 bits": b'[{"n":"/3303/0/5700","v":1,"t":1e30}]',
    "an endless time": b'[{"n":"/3303/0/5700","v":1,"t":1e999}]',
    "half a surrogate pair": rb'[{"n":"/3303/0/5750","vs":"\ud800"}]',
    "a number of 400 digits": b'[{"n":"/3303/0/5700","v":' + b"9" * 400 + b"}]",
    "no JSON at all": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
async def test_no_payload_stops_the_projection(stores: Stores, payload: bytes) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    await write(stores.deciding, [register(device_id), send(device_id, 1, payload), send(device_id, 2)])
    await stores.settle()
    assert await stores.projected.projected_seq() == 3
    newest = (await stores.projected.received_messages(device_id, 9, 0))[0]
    assert newest.created_ms == NOW_MS + 2


async def test_entries_of_no_device_are_passed_over(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    await write(stores.deciding, [send(DeviceId(77), 1), send(device_id, 2)])
    await stores.deciding.remove_device(device_id)
    await write(stores.deciding, [send(device_id, 3)])
    await stores.settle()
    assert await stores.projected.projected_seq() == 3
    assert await stores.projected.received_messages(device_id, 9, 0) == []
    assert await stores.projected.state_of(DeviceId(77)) is None
    assert stores.failures() == 0


async def test_values_take_the_types_that_the_device_registered(stores: Stores) -> None:
    device_id = (await make_device(stores.deciding)).device_id
    current_time = send(device_id, 5, b'[{"n":"/3/0/13","v":1760000000}]')
    await project(stores, register(device_id), current_time)
    assert [each.value for each in await stores.projected.current_values(device_id)] == ["1760000000000"]
