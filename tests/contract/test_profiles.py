"""Profiles behave the same in every store."""

from dataclasses import replace

import pytest

from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import DeviceChange, ProfileInUse
from stellwerk.device.profile import PowerMode, Profile, ProfileRecord

from .builders import NOW_MS, make_device

pytestmark = pytest.mark.anyio

FULL = Profile(PowerMode.E_DRX, 10.0, 20.5, 81.92, 15.0, 120.0, 86_400.0, 50, -5, False)


async def test_a_profile_is_read_as_it_was_written(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    record = ProfileRecord(tenant_id, "meters", FULL, NOW_MS, NOW_MS)
    await store.put_profile(record)
    assert await store.profile(tenant_id, "meters") == record
    assert await store.profile(tenant_id, "pumps") is None


async def test_a_profile_that_is_written_again_keeps_when_it_was_made(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    await store.put_profile(ProfileRecord(tenant_id, "meters", FULL, NOW_MS, NOW_MS))
    await store.put_profile(ProfileRecord(tenant_id, "meters", Profile(), NOW_MS + 9, NOW_MS + 9))
    assert await store.profiles() == [ProfileRecord(tenant_id, "meters", Profile(), NOW_MS, NOW_MS + 9)]


async def test_profiles_are_listed_by_name_and_belong_to_their_tenant(store: DecidingStore) -> None:
    one, two = await store.ensure_tenant("one", NOW_MS), await store.ensure_tenant("two", NOW_MS)
    made = [ProfileRecord(tenant, name, FULL, 1, 1) for tenant, name in ((two, "a"), (one, "b"), (one, "a"))]
    for each in made:
        await store.put_profile(each)
    assert await store.profiles(one) == [made[2], made[1]]
    assert len(await store.profiles()) == 3


async def test_a_profile_that_a_device_has_is_not_removed(store: DecidingStore) -> None:
    device = await make_device(store, profile="meters")
    tenant_id = device.tenant_id
    await store.put_profile(ProfileRecord(tenant_id, "meters", FULL, 1, 1))
    with pytest.raises(ProfileInUse, match="one device has the profile 'meters'"):
        await store.remove_profile(tenant_id, "meters")
    await store.change_device(device.device_id, DeviceChange(NOW_MS, profile="other"))
    assert await store.remove_profile(tenant_id, "meters")
    assert not await store.remove_profile(tenant_id, "meters")
    assert await store.profiles() == []


async def test_a_device_that_gets_another_profile_says_so_in_its_label_too(store: DecidingStore) -> None:
    device = await make_device(store, profile="old", labels=("Room:1", "profile:old"))
    changed = await store.change_device(device.device_id, DeviceChange(NOW_MS + 1, profile="new"))
    assert changed == replace(device, profile="new", labels=("Room:1", "profile:new"), modified_ms=NOW_MS + 1)
    assert await store.device(device.device_id) == changed


async def test_every_change_of_profiles_gives_another_version(store: DecidingStore) -> None:
    device = await make_device(store)
    seen = [await store.profiles_version()]
    await store.put_profile(ProfileRecord(device.tenant_id, "meters", FULL, 1, 1))
    seen.append(await store.profiles_version())
    await store.change_device(device.device_id, DeviceChange(2, profile="meters"))
    seen.append(await store.profiles_version())
    await store.change_device(device.device_id, DeviceChange(3, profile="pumps"))
    seen.append(await store.profiles_version())
    await store.remove_profile(device.tenant_id, "meters")
    seen.append(await store.profiles_version())
    assert len(set(seen)) == len(seen)
    await store.change_device(device.device_id, DeviceChange(4, labels=("a:b",)))
    assert await store.profiles_version() == seen[-1]
