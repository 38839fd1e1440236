"""Imported models in the projector: payloads are understood by the models of their time, in the journal's order."""

from pathlib import Path

import pytest
from tests.contract.builders import NOW_MS, make_device, register, write

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.records import NewModel
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.model import ObjectModel, ResourceModel
from stellwerk.lwm2m.value import ResourceType
from stellwerk.storage.projector import Projector
from stellwerk.storage.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio

INTEGER, STRING = ResourceType.INTEGER, ResourceType.STRING
MODELS = JournalEntry(Kind.MODELS, 0, NOW_MS)


def model(kind: ResourceType, tenant: str = "") -> NewModel:
    resource = ResourceModel.define(1, "Level", "RW", multiple=False, mandatory=True, type=kind)
    made = ObjectModel.define(30000, "Tank", "1.0", [resource], multiple=True, mandatory=False)
    return NewModel(tenant, 30000, "1.0", "Tank", "30000.xml", encode_ddf(made))


def registered(device_id: DeviceId) -> JournalEntry:
    return register(device_id, body=b"</1/0>,</3/0>,</30000/0>")


def notified(device_id: DeviceId, text: bytes) -> JournalEntry:
    return JournalEntry(Kind.NOTIFY, device_id, NOW_MS, status=205, path="/30000/0/1", content_format=0, payload=text)


async def values(store: SqliteStore, device_id: DeviceId) -> list[str]:
    found = await store.projection.value_history(device_id, "/30000/0/1", 100)
    return [each.value for each in reversed(found)]


async def test_what_came_before_an_import_is_understood_as_it_was_then(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    projector = Projector(data_dir)
    await write(store, [registered(device_id), notified(device_id, b"1")])
    projector.run_all()
    # The server has taken nothing up yet: what it acknowledges meanwhile is understood as it understood it.
    await store.put_object_models([model(INTEGER)], NOW_MS)
    await write(store, [notified(device_id, b"2"), MODELS, notified(device_id, b"3")])
    projector.run_all()
    await store.put_object_models([model(STRING)], NOW_MS)
    await write(store, [notified(device_id, b"4"), MODELS, notified(device_id, b"5")])
    projector.run_all()
    await store.remove_object_models([("", 30000, "1.0")])
    await write(store, [MODELS, notified(device_id, b"6")])
    projector.run_all()
    projector.close()
    assert await values(store, device_id) == ['"1"', '"2"', "3", "4", '"5"', '"6"']
    assert store.projection.failures() == 0
    await store.close()


async def test_a_projector_that_starts_knows_what_is_imported_and_of_which_tenant(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    other_tenant = await store.ensure_tenant("other", NOW_MS)
    other_id = (await make_device(store, "dev-2", tenant_id=other_tenant)).device_id
    await store.put_object_models([model(STRING), model(INTEGER, "other")], NOW_MS)
    await write(store, [registered(device_id), registered(other_id)])
    for text in (b"1", b"2"):
        await write(store, [notified(device_id, text), notified(other_id, text)])
        # Another one each time: the second reads the devices' object lists from what the first one wrote.
        projector = Projector(data_dir)
        projector.run_all()
        projector.close()
    assert await values(store, device_id) == ['"1"', '"2"']
    assert await values(store, other_id) == ["1", "2"]
    await store.close()
