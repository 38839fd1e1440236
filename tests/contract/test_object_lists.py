"""What a device's profile IDs stand for is kept the same in every store."""

import pytest

from stellwerk.app.ports import OBJECT_LISTS_KEPT, DecidingStore

from .builders import NOW_MS, make_device

pytestmark = pytest.mark.anyio


@pytest.mark.spec("LwM2M-contract 4")
async def test_a_list_is_kept_for_its_device_alone_and_may_change(store: DecidingStore) -> None:
    one, other = [await make_device(store, name) for name in ("dev-1", "dev-2")]
    await store.put_object_list(one.device_id, "6:aa", b"</1/0>", NOW_MS)
    await store.put_object_list(one.device_id, "oma:x y", b"</3/0>", NOW_MS)
    await store.put_object_list(one.device_id, "6:aa", b"</4/0>", NOW_MS)
    assert await store.object_lists_of(one.device_id) == {"6:aa": b"</4/0>", "oma:x y": b"</3/0>"}
    assert await store.object_lists_of(other.device_id) == {}


@pytest.mark.spec("LwM2M-contract 15")
async def test_only_the_newest_are_kept_whatever_the_clock_says(store: DecidingStore) -> None:
    device, other = [await make_device(store, name) for name in ("dev-1", "dev-2")]
    await store.put_object_list(other.device_id, "v:0", b"</1>", NOW_MS - 10)
    for each in range(OBJECT_LISTS_KEPT + 3):
        await store.put_object_list(device.device_id, f"v:{each}", b"</1>", NOW_MS - each)
    newest = {f"v:{each}" for each in range(3, OBJECT_LISTS_KEPT + 3)}
    assert set(await store.object_lists_of(device.device_id)) == newest
    assert set(await store.object_lists_of(other.device_id)) == {"v:0"}


async def test_the_lists_go_with_their_device_and_with_no_other(store: DecidingStore) -> None:
    # Device 1 and device 10 and above begin with the same digit.
    devices = [await make_device(store, f"dev-{each}") for each in range(12)]
    for each in devices:
        await store.put_object_list(each.device_id, "v:0", b"</1>", NOW_MS)
    await store.remove_device(devices[0].device_id)
    assert await store.object_lists_of(devices[0].device_id) == {}
    assert all([await store.object_lists_of(each.device_id) for each in devices[1:]])
