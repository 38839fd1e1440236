"""Devices behind a gateway behave the same in every store."""

from typing import Any

import pytest

from stellwerk.app.changes import ChangeRegistration, DropRegistration, PutRegistration
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import AlreadyExists, DeviceChange, DeviceGone
from stellwerk.core.ids import DeviceId
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration, register_behind
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import INFINITE_MS
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.schema.library import Library

from .builders import NOW_MS, make_device, new_device, peer, registration, write
from .conftest import Stores

pytestmark = pytest.mark.anyio

GATEWAY_BODY = b'</lwm2m>;rt="oma.lwm2m";ct=110,</lwm2m/3/0>,</lwm2m/25>;ver="2.0"'
BODY = b'</3/0>,</3303/0>;ver="1.1"'


async def make_end_device(store: DecidingStore, gateway: DeviceRecord, name: str = "gw-d7", **more: Any) -> Any:
    new = new_device(name, gateway_id=gateway.device_id, gateway_prefix=more.pop("prefix", "d01"), **more)
    return await store.create_device(more.pop("tenant_id", gateway.tenant_id), new)


async def register_gateway(store: DecidingStore, gateway: DeviceRecord, **more: Any) -> Any:
    made = registration(gateway.device_id, more.pop("location", "gw"), body=GATEWAY_BODY, **more)
    await write(store, (), (PutRegistration(made, NOW_MS + 300_000),))
    return made


async def register_end_device(store: DecidingStore, gateway: Any, record: Any, location: str = "e1") -> Any:
    objects = decode_object_list(BODY)
    types = Library.builtin().for_device("1.1", {each: its.version for each, its in objects.objects.items()})
    made = register_behind(
        gateway,
        record,
        location=location,
        version="1.1",
        body=BODY,
        objects=objects,
        types=types,
        registered_ms=NOW_MS,
    )
    await write(store, (), (PutRegistration(made, made.deadline_ms(0)),))
    return made


async def test_an_end_device_knows_its_gateway_and_is_listed_with_it(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    made = await make_end_device(store, gateway)
    assert isinstance(made, EndDeviceRecord)
    assert (made.gateway_id, made.gateway, made.prefix) == (gateway.device_id, "gw", "d01")
    assert await store.device(made.device_id) == made
    assert list(await store.devices(gateway.tenant_id, 10, 0)) == [gateway, made]
    assert list(await store.end_devices(gateway.device_id)) == [(made, None)]
    assert list(await store.end_devices(made.device_id)) == []
    assert not isinstance(await store.device(gateway.device_id), EndDeviceRecord)


async def test_a_gateway_is_a_device_of_the_tenant_that_is_behind_none_itself(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    made = await make_end_device(store, gateway)
    other = await store.ensure_tenant("other", NOW_MS)
    for tenant_id, gateway_id in ((gateway.tenant_id, 99), (gateway.tenant_id, made.device_id), (other, 1)):
        with pytest.raises(DeviceGone):
            await store.create_device(tenant_id, new_device("x", gateway_id=DeviceId(gateway_id), gateway_prefix="p"))
    assert len(await store.devices(gateway.tenant_id, 10, 0)) == 2


async def test_a_name_that_may_mean_an_end_device_or_another_means_the_other(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    made = await make_end_device(store, gateway, "gw-d7", node_id="d7")
    assert await store.device_by_endpoint("d7") == made
    other_tenant = await store.ensure_tenant("other", NOW_MS)
    # Nothing is taken away from whoever owns the end device: nobody registers under its name.
    device = await store.create_device(other_tenant, new_device("one", node_id="urn:dev:os:d7"))
    assert await store.device_by_endpoint("d7") == device
    with pytest.raises(AlreadyExists):
        await store.create_device(other_tenant, new_device("two", node_id="d7"))
    await store.remove_device(device.device_id)
    await store.remove_device(made.device_id)
    assert await store.device_by_endpoint("d7") is None


async def test_its_registration_follows_that_of_its_gateway(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    record = await make_end_device(store, gateway)
    registered = await register_gateway(store, gateway, queue_mode=True, lifetime_s=60)
    await register_end_device(store, registered, record)
    found = await store.registration_of(record.device_id)
    assert isinstance(found, EndDeviceRegistration)
    assert (found.peer, found.queue_mode, found.lifetime_s) == (registered.peer, True, 60)
    assert (found.objects.root, found.objects.content_formats) == ("/lwm2m/d01", (110,))
    assert found.objects.version(3303) == "1.1"
    assert found.types.choices[3303].wanted == "1.1"
    assert (found.gateway_id, found.deadline_ms(93.0)) == (gateway.device_id, INFINITE_MS)
    assert list(await store.end_devices(gateway.device_id)) == [(record, found)]
    # A move of the gateway is one of all behind it, whatever their rows say.
    await register_gateway(store, gateway, peer=peer(7000), location="gw2")
    moved = await store.registration_of(record.device_id)
    assert moved is not None
    assert (moved.peer, moved.queue_mode, moved.location) == (peer(7000), False, "e1")


async def test_nobody_finds_it_by_location_or_address_and_it_never_expires_by_itself(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    record = await make_end_device(store, gateway)
    registered = await register_gateway(store, gateway)
    await register_end_device(store, registered, record)
    assert await store.registration_at("e1") is None
    at_peer = await store.registration_from(registered.peer)
    assert at_peer is not None
    assert at_peer.device_id == gateway.device_id
    due = await store.registrations_due(NOW_MS + 10**12, 10)
    assert [each.device_id for each, _ in due] == [gateway.device_id]


async def test_it_has_none_without_its_gateways(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    record = await make_end_device(store, gateway)
    registered = await register_gateway(store, gateway)
    made = await register_end_device(store, registered, record)
    await write(store, (), (DropRegistration(gateway.device_id, "gw"),))
    assert await store.registration_of(record.device_id) is None
    assert list(await store.end_devices(gateway.device_id)) == [(record, None)]
    await register_gateway(store, gateway)
    await write(store, (), (DropRegistration(record.device_id, made.location),))
    assert await store.registration_of(record.device_id) is None


async def test_another_prefix_and_other_objects_hold_at_once(store: DecidingStore) -> None:
    gateway = await make_device(store, "gw")
    record = await make_end_device(store, gateway)
    registered = await register_gateway(store, gateway)
    made = await register_end_device(store, registered, record)
    changed = await store.change_device(record.device_id, DeviceChange(NOW_MS + 5, behind=(gateway.device_id, "x9")))
    assert isinstance(changed, EndDeviceRecord)
    assert (changed.prefix, changed.labels, changed.modified_ms) == ("x9", record.labels, NOW_MS + 5)
    made.body = b"</3300/0>"
    made.objects = decode_object_list(made.body)
    await write(store, (), (ChangeRegistration(made, INFINITE_MS),))
    found = await store.registration_of(record.device_id)
    assert found is not None
    assert (set(found.objects.objects), found.objects.root) == ({3300}, "/lwm2m/x9")


async def test_it_may_change_its_gateway(store: DecidingStore) -> None:
    first, second = await make_device(store, "gw"), await make_device(store, "gw2")
    record = await make_end_device(store, first)
    moved = await store.change_device(record.device_id, DeviceChange(NOW_MS, behind=(second.device_id, "z")))
    assert isinstance(moved, EndDeviceRecord)
    assert (moved.gateway, moved.prefix, moved.name) == ("gw2", "z", record.name)
    assert list(await store.end_devices(first.device_id)) == []
    assert list(await store.end_devices(second.device_id)) == [(moved, None)]


async def test_it_goes_with_its_gateway(stores: Stores) -> None:
    store = stores.deciding
    gateway = await make_device(store, "gw")
    record = await make_end_device(store, gateway)
    registered = await register_gateway(store, gateway)
    await register_end_device(store, registered, record)
    assert await store.remove_device(gateway.device_id)
    assert await store.device(record.device_id) is None
    assert await store.registration_of(record.device_id) is None
    assert await store.device_by_endpoint(record.node_id) is None
    assert not await store.remove_device(record.device_id)
    # The names are free again.
    again = await make_device(store, "gw")
    await make_end_device(store, again)
