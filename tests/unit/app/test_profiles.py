"""Profiles are in memory, as new as the store, whoever changed them there."""

from pathlib import Path

import pytest
from tests.contract.builders import registration

from stellwerk.app.ports import DecidingStore
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import DeviceChange, NewDevice
from stellwerk.app.registry import NEVER, Known, Registry
from stellwerk.device.profile import PowerMode, Profile, ProfileRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.migrations import migrate
from stellwerk.storage.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def device(store: DecidingStore, profile: str = "meters") -> DeviceRecord:
    tenant_id = await store.ensure_tenant("default", 1)
    return await store.create_device(tenant_id, NewDevice("dev1", "urn:x:1", (), profile, (), 1))


def profiles(store: DecidingStore, registry: Registry | None = None) -> Profiles:
    registry = Registry(store) if registry is None else registry
    return Profiles(store=store, registry=registry, awake_s=93, queue_s=60.0, queue_length=50)


async def test_the_servers_settings_hold_where_a_profile_says_nothing(store: MemoryStore) -> None:
    record = await device(store)
    await store.put_profile(ProfileRecord(record.tenant_id, "meters", Profile(awake_s=10.0), 1, 1))
    made = profiles(store)
    assert await made.refresh()
    assert (made.window_s(record), made.queue_s(record), made.queue_length(record)) == (10.0, 60.0, 50)
    await store.put_profile(ProfileRecord(record.tenant_id, "meters", Profile(queue_s=5.0, queue_length=2), 1, 2))
    assert await made.refresh()
    assert (made.window_s(record), made.queue_s(record), made.queue_length(record)) == (93, 5.0, 2)


async def test_a_profile_of_another_tenant_is_not_a_devices(store: MemoryStore) -> None:
    record = await device(store)
    other = await store.ensure_tenant("other", 1)
    await store.put_profile(ProfileRecord(other, "meters", Profile(awake_s=10.0), 1, 1))
    made = profiles(store)
    await made.refresh()
    assert made.window_s(record) == 93


async def test_nothing_is_read_while_nothing_changed_and_whoever_waits_hears_of_changes(store: MemoryStore) -> None:
    record = await device(store)
    made, heard = profiles(store), []
    made.on_change = lambda: heard.append(made.window_s(record))
    await made.refresh()
    assert not await made.refresh()
    await store.put_profile(ProfileRecord(record.tenant_id, "meters", Profile(awake_s=10.0), 1, 1))
    assert await made.refresh()
    assert heard == [93, 10.0]


async def test_a_registered_device_that_gets_another_profile_has_it_after_the_next_look(store: MemoryStore) -> None:
    record = await device(store)
    await store.put_profile(ProfileRecord(record.tenant_id, "pumps", Profile(PowerMode.DRX), 1, 1))
    registry = Registry(store)
    made = profiles(store, registry)
    await made.refresh()
    known: Known = registry.put(registration(record.device_id, queue_mode=True), record, NEVER)
    assert made.sleeps(known)
    await store.change_device(record.device_id, DeviceChange(2, profile="pumps"))
    await made.refresh()
    assert not made.sleeps(known)


async def test_what_another_process_writes_is_taken_up(tmp_path: Path) -> None:
    migrate(tmp_path)
    running, beside = await SqliteStore.open(tmp_path), await SqliteStore.open(tmp_path)
    try:
        record = await device(running)
        made = profiles(running)
        await made.refresh()
        await beside.put_profile(ProfileRecord(record.tenant_id, "meters", Profile(awake_s=10.0), 1, 1))
        assert await made.refresh()
        assert made.window_s(record) == 10.0
    finally:
        await beside.close()
        await running.close()
