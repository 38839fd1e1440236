"""Commits, registrations, observations and the journal behave the same in every store."""

import asyncio
from dataclasses import replace

import pytest

from stellwerk.app.changes import (
    ChangeRegistration,
    Commit,
    DropObservation,
    DropRegistration,
    PutObservation,
    PutRegistration,
)
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore, StoreOverloaded
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths

from .builders import (
    NOW_MS,
    make_device,
    observation,
    peer,
    receipt,
    register,
    registration,
    send,
    update,
    write,
)
from .conftest import Stores

pytestmark = pytest.mark.anyio


async def test_callbacks_run_in_order_and_not_inside_submit(store: DecidingStore) -> None:
    device = await make_device(store)
    seen: list[int] = []
    last = asyncio.Event()

    def done(number: int, error: Exception | None) -> None:
        assert error is None
        seen.append(number)
        if number == 1999:
            last.set()

    for number in range(2000):
        entry = update(device.device_id, NOW_MS + number, number)
        store.submit(Commit((entry,), (), lambda error, number=number: done(number, error)))  # type: ignore[misc]
    assert seen == []
    assert store.queue_length() == 2000
    await last.wait()
    assert seen == list(range(2000))
    assert store.queue_length() == 0


async def test_a_commit_learns_the_sequence_number_of_its_last_entry(store: DecidingStore) -> None:
    device = await make_device(store)
    finished = asyncio.Event()
    commits = [
        Commit([send(device.device_id, 1), send(device.device_id, 2)], (), lambda error: None),
        Commit([], (), lambda error: None),
        Commit([send(device.device_id, 3)], (), lambda error: finished.set()),
    ]
    for commit in commits:
        store.submit(commit)
    await finished.wait()
    assert [commit.seq for commit in commits] == [2, 0, 3]


async def test_a_failing_callback_does_not_keep_others_from_running(stores: Stores) -> None:
    if not stores.durable:
        pytest.skip("its callbacks are separate calls of the loop")
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    device = await make_device(stores.deciding)

    def fail(error: Exception | None) -> None:
        raise RuntimeError("a bug elsewhere")

    stores.deciding.submit(Commit((send(device.device_id, 1),), (), fail))
    await write(stores.deciding, [send(device.device_id, 2)])


async def test_a_full_queue_refuses_and_recovers(stores: Stores) -> None:
    await stores.close()
    await stores.open(queue_limit=3)
    store = stores.deciding
    device = await make_device(store)
    outcomes: list[Exception | None] = []
    for number in range(5):
        store.submit(Commit((send(device.device_id, number),), (), outcomes.append))
    await write_when_possible(store, send(device.device_id, 9))
    assert [type(each) for each in outcomes].count(StoreOverloaded) == 2
    assert outcomes.count(None) == 3
    assert await store.recall(receipt(2), 0) is not None
    assert await store.recall(receipt(3), 0) is None


async def write_when_possible(store: DecidingStore, entry: JournalEntry) -> None:
    while True:
        try:
            await write(store, [entry])
        except StoreOverloaded:
            continue
        return


async def test_a_registration_is_found_as_it_was_put(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    made = registration(device_id, queue_mode=True, sms="+49", binding="UQ", extra=(("a", "1"), ("b", "ü")))
    await write(store, [register(device_id)], [PutRegistration(made, NOW_MS + 5)])
    for found in (
        await store.registration_of(device_id),
        await store.registration_at("loc1"),
        await store.registration_from(peer()),
    ):
        assert found == made
    assert await store.registration_of(DeviceId(device_id + 1)) is None
    assert await store.registration_at("loc2") is None
    assert await store.registration_from(peer(9)) is None


async def test_what_a_reader_does_to_a_registration_stays_with_the_reader(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await write(store, [], [PutRegistration(registration(device_id), 1)])
    found = await store.registration_of(device_id)
    assert found is not None
    found.lifetime_s = 1
    again = await store.registration_of(device_id)
    assert again is not None
    assert again.lifetime_s == 300


async def test_object_lists_and_types_are_shared_between_alike_devices(stores: Stores) -> None:
    if not stores.durable:
        pytest.skip("it keeps what it was given")
    store = stores.deciding
    one, two = await make_device(store, "one"), await make_device(store, "two")
    for number, device in enumerate((one, two)):
        put = PutRegistration(registration(device.device_id, f"loc{number}", peer=peer(number)), 1)
        await write(store, [], [put])
    first, second = await store.registration_of(one.device_id), await store.registration_of(two.device_id)
    assert first is not None
    assert second is not None
    assert first.objects is second.objects
    assert first.types is second.types
    assert first.body is second.body


@pytest.mark.spec("R-13")
async def test_content_formats_known_before_an_update_are_kept(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    made = registration(device_id)
    made.objects = replace(made.objects, content_formats=(110, 112))
    await write(store, [], [PutRegistration(made, 1)])
    found = await store.registration_of(device_id)
    assert found is not None
    assert found.objects == made.objects


@pytest.mark.spec("R-9")
async def test_a_new_registration_replaces_the_old_one(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await write(store, [], [PutRegistration(registration(device_id, "old"), 1)])
    await write(store, [], [PutRegistration(registration(device_id, "new", peer=peer(7)), 2)])
    assert await store.registration_at("old") is None
    assert await store.registration_from(peer()) is None
    found = await store.registration_at("new")
    assert found == registration(device_id, "new", peer=peer(7))


async def test_an_update_changes_only_the_registration_it_belongs_to(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await write(store, [], [PutRegistration(registration(device_id, "new"), 1)])
    await write(store, [], [ChangeRegistration(registration(device_id, "old", lifetime_s=1), 2)])
    assert await store.registration_of(device_id) == registration(device_id, "new")
    await write(store, [], [ChangeRegistration(registration(device_id, "new", lifetime_s=7, peer=peer(8)), 2)])
    assert await store.registration_from(peer(8)) == registration(device_id, "new", lifetime_s=7, peer=peer(8))


async def test_an_update_does_not_bring_an_ended_registration_back(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await write(store, [], [PutRegistration(registration(device_id), 1)])
    await write(store, [], [DropRegistration(device_id, "loc1")])
    await write(store, [], [ChangeRegistration(registration(device_id), 2)])
    assert await store.registration_of(device_id) is None


async def test_a_drop_ends_only_the_registration_it_names(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await write(store, [], [PutRegistration(registration(device_id, "new"), 1)])
    await write(store, [], [DropRegistration(device_id, "old")])
    assert await store.registration_of(device_id) is not None
    await write(store, [], [DropRegistration(device_id, "new")])
    assert await store.registration_of(device_id) is None


ORDERS = {
    "put, drop": (["put a", "drop a"], None),
    "drop, put": (["drop a", "put b"], "b"),
    "put, drop of the one before": (["put b", "drop a"], "b"),
    "put, put": (["put b", "put c"], "c"),
    "put, change": (["put b", "change b"], "b changed"),
    "change, change of another": (["change a", "change x"], "a changed"),
    "put, drop, change": (["put b", "drop b", "change b"], None),
    "change, drop": (["change a", "drop a"], None),
    "put, drop, put": (["put b", "drop b", "put c"], "c"),
}


@pytest.mark.parametrize(("steps", "left"), ORDERS.values(), ids=ORDERS)
async def test_changes_in_one_group_act_in_order(store: DecidingStore, steps: list[str], left: str | None) -> None:
    device_id = (await make_device(store)).device_id
    await write(store, [], [PutRegistration(registration(device_id, "a"), 1)])
    changes: list[PutRegistration | ChangeRegistration | DropRegistration] = []
    for step in steps:
        verb, location = step.split()
        if verb == "put":
            changes.append(PutRegistration(registration(device_id, location), 1))
        elif verb == "change":
            changes.append(ChangeRegistration(registration(device_id, location, sms="changed"), 1))
        else:
            changes.append(DropRegistration(device_id, location))
    for change in changes:
        store.submit(Commit((), (change,), lambda error: None))
    await write(store, [], [])
    found = await store.registration_of(device_id)
    if left is None:
        assert found is None
    else:
        assert found is not None
        assert f"{found.location} {found.sms}".strip() == left


async def test_due_registrations_come_soonest_first_and_with_their_stored_deadline(store: DecidingStore) -> None:
    for number in (3, 1, 2, 4):
        device_id = (await make_device(store, f"dev-{number}")).device_id
        made = registration(device_id, f"loc{number}", peer=peer(number))
        await write(store, [], [PutRegistration(made, NOW_MS + number)])
    due = await store.registrations_due(NOW_MS + 4, 2)
    assert [(each.location, deadline_ms - NOW_MS) for each, deadline_ms in due] == [("loc1", 1), ("loc2", 2)]
    due = await store.registrations_due(NOW_MS + 4, 9)
    assert [each.location for each, _ in due] == ["loc1", "loc2", "loc3"]


@pytest.mark.spec("R-6")
async def test_a_plain_update_is_seen_though_it_changes_no_row(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    await write(store, [register(device_id)], [PutRegistration(registration(device_id), NOW_MS + 1)])
    await write(store, [update(device_id, NOW_MS + 50_000, 1)])
    assert [each.updated_ms for each, _ in await store.registrations_due(NOW_MS + 2, 9)] == [NOW_MS + 50_000]
    await stores.settle()
    await write(store, [update(device_id, NOW_MS + 60_000, 2)])
    found = await store.registration_of(device_id)
    assert found is not None
    assert found.updated_ms == NOW_MS + 60_000


async def test_an_update_is_seen_after_a_restart_before_and_after_projection(stores: Stores) -> None:
    if not stores.durable:
        pytest.skip("keeps nothing")
    device_id = (await make_device(stores.deciding)).device_id
    await write(stores.deciding, [register(device_id)], [PutRegistration(registration(device_id), NOW_MS + 1)])
    await write(stores.deciding, [update(device_id, NOW_MS + 50_000, 1)])
    for settled in (False, True):
        if settled:
            await stores.settle()
        await stores.close()
        # Long after: only the projector's lag, not the age of an entry, says whether it must be read.
        await stores.open(now_ms=NOW_MS + 10_000_000)
        found = await stores.deciding.registration_of(device_id)
        assert found is not None
        assert found.updated_ms == NOW_MS + 50_000


async def test_an_observation_is_found_as_it_was_put(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    made = observation(device_id)
    await write(store, [], [PutObservation(made)])
    assert await store.observations_of(device_id) == [made]
    assert await store.observation_by_token(made.token) == made
    assert await store.observation_by_token(b"another!") is None


@pytest.mark.spec("OB-8", "OB-9")
async def test_the_observation_of_a_list_stands_beside_those_of_its_paths(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    one = observation(device_id, "/3/0/9", b"one")
    alone = replace(observation(device_id, token=b"alone", created_ms=NOW_MS + 1), path=Paths([Path(3, 0, 9)]))
    listed = replace(
        observation(device_id, token=b"listed", created_ms=NOW_MS + 2), path=Paths([Path(3, 0, 9), Path(1, 0, 1)])
    )
    await write(store, [], [PutObservation(one), PutObservation(alone), PutObservation(listed)])
    assert await store.observations_of(device_id) == [one, alone, listed]
    assert await store.observation_by_token(b"listed") == listed
    again = replace(listed, token=b"again", path=Paths([Path(1, 0, 1), Path(3, 0, 9)]))
    await write(store, [], [PutObservation(again), DropObservation(device_id, Path(3, 0, 9))])
    assert await store.observations_of(device_id) == [alone, again]
    assert await store.observation_by_token(b"listed") is None
    await write(store, [], [DropObservation(device_id, again.path)])
    assert await store.observations_of(device_id) == [alone]


async def test_there_is_one_observation_per_path_of_a_device(store: DecidingStore) -> None:
    one, two = await make_device(store, "one"), await make_device(store, "two")
    await write(store, [], [PutObservation(observation(one.device_id, token=b"first"))])
    other = observation(two.device_id, token=b"other")
    below = observation(one.device_id, "/3303/0/5700", b"below", created_ms=NOW_MS + 1)
    second = observation(one.device_id, token=b"second", accept=None)
    await write(store, [], [PutObservation(other), PutObservation(below), PutObservation(second)])
    assert await store.observations_of(one.device_id) == [second, below]
    assert await store.observation_by_token(b"first") is None
    await write(store, [], [DropObservation(one.device_id, Path(3303, 0)), DropObservation(one.device_id, Path(9))])
    assert await store.observations_of(one.device_id) == [below]
    assert await store.observations_of(two.device_id) == [other]


BROKEN = {
    "a location of another device": lambda other, device_id: PutRegistration(registration(device_id, "taken"), 1),
    "a token of another observation": lambda other, device_id: PutObservation(observation(device_id, token=b"taken")),
    "a device that is not there": lambda other, device_id: PutRegistration(registration(DeviceId(999), "x"), 1),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_commit_that_cannot_be_stored_leaves_nothing_and_harms_no_other(stores: Stores, broken: object) -> None:
    store = stores.deciding
    other, device = await make_device(store, "other"), await make_device(store, "dev-1")
    device_id = device.device_id
    await write(
        store,
        [],
        [
            PutRegistration(registration(other.device_id, "taken", peer=peer(1)), 1),
            PutObservation(observation(other.device_id, token=b"taken")),
        ],
    )
    outcomes: dict[str, Exception | None] = {}
    finished = asyncio.Event()

    def finish(error: Exception | None) -> None:
        outcomes["after"] = error
        finished.set()

    changes = [
        PutObservation(observation(device_id, "/1", b"mine")),
        PutRegistration(registration(device_id, "mine"), 1),
        broken(other.device_id, device_id),  # type: ignore[operator]
    ]
    before = Commit((send(device_id, 1),), (), lambda error: outcomes.update(before=error))
    culprit = Commit((send(device_id, 2),), changes, lambda error: outcomes.update(culprit=error))
    after = Commit((send(device_id, 3),), (PutObservation(observation(device_id, "/5", b"later")),), finish)
    for commit in (before, culprit, after):
        store.submit(commit)
    await finished.wait()
    assert outcomes["before"] is None
    assert outcomes["after"] is None
    assert isinstance(outcomes["culprit"], Exception)
    assert await store.registration_of(device_id) is None
    assert [each.token for each in await store.observations_of(device_id)] == [b"later"]
    assert await store.recall(receipt(1), 0) is not None
    assert await store.recall(receipt(2), 0) is None
    assert await store.recall(receipt(3), 0) is not None
    await stores.settle()
    assert [each.created_ms - NOW_MS for each in await stores.projected.received_messages(device_id, 9, 0)] == [3, 1]
    assert await stores.projected.projected_seq() == after.seq


async def test_a_receipt_leads_to_its_entry(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    entries = [send(device_id, number) for number in range(600)]
    await write(store, entries)
    await write(store, [JournalEntry(Kind.LOG, device_id, NOW_MS, reason="x")])
    assert await store.recall(receipt(7), NOW_MS) == entries[7]
    assert await store.recall(receipt(7), NOW_MS + 8) is None
    assert await store.recall(receipt(601), 0) is None
    assert await store.recall(b"", 0) is None


async def test_a_receipt_is_recalled_after_a_restart_while_a_retransmission_may_come(stores: Stores) -> None:
    if not stores.durable:
        pytest.skip("keeps nothing")
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    old, young = send(device_id, 1), send(device_id, 2, time_ms=NOW_MS + 300_000)
    await write(store, [old])
    await write(store, [young, update(device_id, NOW_MS + 300_000, 3)])
    await stores.close()
    await stores.open(now_ms=NOW_MS + 310_000)
    assert await stores.deciding.recall(receipt(2), NOW_MS + 63_000) == young
    assert await stores.deciding.recall(receipt(1), NOW_MS + 63_000) is None
    await write(stores.deciding, [send(device_id, 4, time_ms=NOW_MS + 311_000)])
    assert await stores.deciding.recall(receipt(3), NOW_MS + 63_000) is not None
    assert await stores.deciding.recall(receipt(4), NOW_MS + 63_000) is not None
