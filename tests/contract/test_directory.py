"""Devices are found in pages, the same way in every store."""

from collections.abc import AsyncIterator

import pytest

from stellwerk.app.reading_ports import DeviceDirectory
from stellwerk.core.ids import TenantId
from stellwerk.device.record import DeviceRecord
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.memory_directory import MemoryDirectory
from stellwerk.storage.sqlite.directory import SqliteDirectory

from .builders import NOW_MS, make_device
from .conftest import SqliteStores, Stores

pytestmark = pytest.mark.anyio


class Fleet:
    """``default`` has dev-a to dev-e, ``other`` has one device."""

    tenant_id: TenantId
    directory: DeviceDirectory


@pytest.fixture
async def fleet(stores: Stores) -> AsyncIterator[Fleet]:
    made = Fleet()
    store = stores.deciding
    made.tenant_id = await store.ensure_tenant("default", NOW_MS)
    other = await store.ensure_tenant("other", NOW_MS)
    for letter in "cabed":
        await make_device(store, f"dev-{letter}", labels=("Room:100%",) if letter == "b" else ())
    await make_device(store, "dev-a", node_id="urn:imei:elsewhere", tenant_id=other)
    if isinstance(stores, SqliteStores):
        directory = SqliteDirectory(stores.data_dir)
        made.directory = directory
        yield made
        await directory.close()
    else:
        assert isinstance(store, MemoryStore)
        made.directory = MemoryDirectory(store.all_devices)
        yield made


def names(found: object) -> list[str]:
    assert isinstance(found, list)
    return [each.name for each in found if isinstance(each, DeviceRecord)]


async def test_pages_follow_each_other_in_order_and_back(fleet: Fleet) -> None:
    page = fleet.directory.page
    first = list(await page(fleet.tenant_id, "", 2))
    second = list(await page(fleet.tenant_id, "", 2, after=first[-1]))
    last = list(await page(fleet.tenant_id, "", 2, after=second[-1]))
    assert [names(each) for each in (first, second, last)] == [["dev-a", "dev-b"], ["dev-c", "dev-d"], ["dev-e"]]
    assert names(list(await page(fleet.tenant_id, "", 2, before=last[0]))) == ["dev-c", "dev-d"]
    assert list(await page(fleet.tenant_id, "", 2, before=first[0])) == []


async def test_without_a_tenant_all_devices_are_found(fleet: Fleet) -> None:
    found = list(await fleet.directory.page(None, "", 10))
    assert [(each.tenant, each.name) for each in found][-2:] == [("default", "dev-e"), ("other", "dev-a")]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("DEV-C", ["dev-c"]),
        ("imei:dev-d", ["dev-d"]),
        ("100%", ["dev-b"]),
        ("room", ["dev-b"]),
        ("%", ["dev-b"]),
        ("_", []),
    ],
)
async def test_a_text_is_looked_for_in_name_node_and_labels_as_it_stands(
    fleet: Fleet, text: str, wanted: list[str]
) -> None:
    assert names(list(await fleet.directory.page(fleet.tenant_id, text, 10))) == wanted


async def test_counting_ends_where_it_is_told(fleet: Fleet) -> None:
    count = fleet.directory.count
    assert await count(fleet.tenant_id, "", 100) == 5
    assert await count(fleet.tenant_id, "", 3) == 3
    assert await count(fleet.tenant_id, "nothing like it", 100) == 0
