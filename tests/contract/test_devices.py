"""Tenants, devices and tree resources behave the same in every store."""

import pytest

from stellwerk.app.changes import PutObservation, PutRegistration
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import AlreadyExists
from stellwerk.core.ids import DeviceId

from .builders import (
    NOW_MS,
    make_commands,
    make_device,
    new_device,
    observation,
    peer,
    register,
    registration,
    send,
    tree_resource,
    write,
)
from .conftest import Stores

pytestmark = pytest.mark.anyio


async def test_a_tenant_is_made_once(store: DecidingStore) -> None:
    assert await store.tenant("default") is None
    assert await store.tenants() == []
    first = await store.ensure_tenant("default", NOW_MS)
    assert await store.ensure_tenant("default", NOW_MS + 1) == first
    assert await store.tenant("default") == first
    assert await store.ensure_tenant("other", NOW_MS) != first
    assert await store.ensure_tenant("Other", NOW_MS) != first
    assert await store.tenants() == ["Other", "default", "other"]


async def test_a_device_is_found_as_it_was_provisioned(store: DecidingStore) -> None:
    made = await make_device(
        store, "meter-1", node_id="urn:imei:1234", labels=("a", "b:c"), device_info=(("man", "ACME"), ("mod", "X"))
    )
    assert (made.name, made.node_id, made.tenant, made.labels) == ("meter-1", "urn:imei:1234", "default", ("a", "b:c"))
    assert made.device_info == (("man", "ACME"), ("mod", "X"))
    assert (made.created_ms, made.modified_ms, made.security) == (NOW_MS, NOW_MS, "nosec")
    assert await store.device(made.device_id) == made
    assert await store.device_by_name(made.tenant_id, "meter-1") == made
    assert await store.device(DeviceId(made.device_id + 1)) is None
    assert await store.device_by_name(made.tenant_id, "meter-2") is None


async def test_a_taken_name_or_node_id_is_refused_and_nothing_is_written(store: DecidingStore) -> None:
    first = await make_device(store, "one", node_id="urn:imei:1")
    other_tenant = await store.ensure_tenant("other", NOW_MS)
    with pytest.raises(AlreadyExists) as name_taken:
        await store.create_device(first.tenant_id, new_device("one", node_id="urn:imei:2"))
    assert (name_taken.value.what, name_taken.value.value) == ("device name", "one")
    with pytest.raises(AlreadyExists) as node_taken:
        await store.create_device(other_tenant, new_device("two", node_id="urn:imei:1"))
    assert (node_taken.value.what, node_taken.value.value) == ("node ID", "urn:imei:1")
    assert await store.devices(other_tenant, 10, 0) == []
    assert await store.device_by_endpoint("urn:imei:2") is None
    same_name = await store.create_device(other_tenant, new_device("one", node_id="urn:imei:3"))
    assert same_name.device_id != first.device_id


@pytest.mark.parametrize("endpoint_name", ["urn:imei:1234", "imei:1234", "1234", "meter"])
@pytest.mark.spec("D2C 6.6")
async def test_an_endpoint_name_means_a_device_by_any_of_its_aliases(store: DecidingStore, endpoint_name: str) -> None:
    made = await make_device(store, "meter", node_id="urn:imei:1234")
    assert await store.device_by_endpoint(endpoint_name) == made


@pytest.mark.spec("D2C 6.6")
async def test_the_lower_rank_decides_whose_alias_it_is(store: DecidingStore) -> None:
    by_name = await make_device(store, "1234", node_id="urn:imei:9")
    by_last_part = await make_device(store, "meter", node_id="urn:imei:1234")
    assert by_name.device_id < by_last_part.device_id
    assert await store.device_by_endpoint("1234") == by_last_part
    await store.remove_device(by_last_part.device_id)
    assert await store.device_by_endpoint("1234") == by_name


async def test_devices_of_a_tenant_come_in_pages_by_name(store: DecidingStore) -> None:
    for name in ("c", "a", "d", "b"):
        await make_device(store, name)
    await make_device(store, "x", tenant_id=await store.ensure_tenant("other", NOW_MS))
    tenant_id = await store.tenant("default")
    assert tenant_id is not None
    assert [each.name for each in await store.devices(tenant_id, 10, 0)] == ["a", "b", "c", "d"]
    assert [each.name for each in await store.devices(tenant_id, 2, 1)] == ["b", "c"]
    assert await store.devices(tenant_id, 2, 4) == []


@pytest.mark.spec("D2C 6.7")
async def test_a_removed_device_takes_all_of_its_own_with_it(stores: Stores) -> None:
    store, projected = stores.deciding, stores.projected
    gone, stays = await make_device(store, "gone"), await make_device(store, "stays")
    for number, record in enumerate((gone, stays)):
        device_id = record.device_id
        await write(
            store,
            [register(device_id, 2 * number), send(device_id, 2 * number + 1)],
            [
                PutRegistration(registration(device_id, f"loc{number}", peer=peer(1000 + number)), 1),
                PutObservation(observation(device_id, token=f"token-{number}".encode())),
            ],
        )
        await make_commands(store, device_id, f"msg-{number}")
    await stores.settle()
    assert await projected.received_messages(gone.device_id, 10, 0)
    assert await store.remove_device(gone.device_id)
    assert not await store.remove_device(gone.device_id)
    await stores.settle()
    assert await store.device(gone.device_id) is None
    assert await store.device_by_endpoint("urn:imei:gone") is None
    assert await store.registration_at("loc0") is None
    assert await store.registration_from(peer(1000)) is None
    assert await store.observations_of(gone.device_id) == []
    assert await store.outgoing_messages(gone.device_id, 10, 0) == []
    assert [each.device_id for each in await store.open_commands(None, 10)] == [stays.device_id]
    assert await projected.received_messages(gone.device_id, 10, 0) == []
    assert await projected.current_values(gone.device_id) == []
    assert await projected.state_of(gone.device_id) is None
    assert await projected.device_log(gone.device_id, 10) == []
    assert await store.registration_at("loc1") is not None
    assert await projected.received_messages(stays.device_id, 10, 0)


async def test_the_id_of_a_removed_device_is_never_given_again(store: DecidingStore) -> None:
    removed = await make_device(store, "one")
    await store.remove_device(removed.device_id)
    assert (await make_device(store, "one")).device_id > removed.device_id


async def test_a_tree_resource_is_found_as_it_was_written(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    resource = tree_resource(tenant_id)
    await store.create_resource(resource)
    assert await store.resource(tenant_id, "default", "app-1") == resource
    assert await store.resource(tenant_id, "default", "app-2") is None
    assert await store.resource(tenant_id, "elsewhere", "app-1") is None


async def test_children_of_a_parent_come_in_pages_oldest_first(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    for place, name in enumerate(("c", "a", "b")):
        await store.create_resource(tree_resource(tenant_id, name, created_ms=NOW_MS + place))
    await store.create_resource(tree_resource(tenant_id, "x", parent="elsewhere"))
    assert [each.resource_name for each in await store.resources(tenant_id, "default", 10, 0)] == ["c", "a", "b"]
    assert [each.resource_name for each in await store.resources(tenant_id, "default", 1, 1)] == ["a"]


async def test_a_name_is_taken_once_under_a_parent(store: DecidingStore) -> None:
    tenant_id = await store.ensure_tenant("default", NOW_MS)
    await store.create_resource(tree_resource(tenant_id))
    await store.create_resource(tree_resource(tenant_id, parent="elsewhere"))
    with pytest.raises(AlreadyExists):
        await store.create_resource(tree_resource(tenant_id, creator="CSomeoneElse"))
    kept = await store.resource(tenant_id, "default", "app-1")
    assert kept is not None
    assert kept.creator == "CAdmin"


async def test_a_store_that_works_says_so(store: DecidingStore) -> None:
    await store.check()


async def test_nobody_takes_a_device_away_from_another_tenant_by_an_endpoint_name(store: DecidingStore) -> None:
    theirs = await make_device(store, "meter-1", node_id="urn:gsma:imei:350001")
    other = await store.ensure_tenant("other", NOW_MS)
    # Each would be a better match for a name that means the first device: its node ID's parts, its resource name.
    for name, node_id in (("x1", "gsma:imei:350001"), ("x2", "350001"), ("x3", "meter-1"), ("x4", "urn:x:meter-1")):
        with pytest.raises(AlreadyExists) as taken:
            await store.create_device(other, new_device(name, node_id=node_id))
        assert taken.value.what == "endpoint name"
    for endpoint_name in ("urn:gsma:imei:350001", "gsma:imei:350001", "350001", "meter-1"):
        assert await store.device_by_endpoint(endpoint_name) == theirs
    assert await store.devices(other, 10, 0) == []
    # The same name in another tenant means the first one still; and within a tenant the better match counts.
    await store.create_device(other, new_device("meter-1", node_id="urn:gsma:imei:350002"))
    assert await store.device_by_endpoint("meter-1") == theirs
    better = await make_device(store, "better", node_id="350001")
    assert await store.device_by_endpoint("350001") == better


async def test_devices_and_applications_of_a_tenant_share_their_names(store: DecidingStore) -> None:
    device = await make_device(store, "same")
    with pytest.raises(AlreadyExists):
        await store.create_resource(tree_resource(device.tenant_id, "same", parent=device.tenant))
    await store.create_resource(tree_resource(device.tenant_id, "same", parent="device-group"))
    other = await store.ensure_tenant("other", NOW_MS)
    await store.create_resource(tree_resource(other, "same", parent="other", resource_id="b" * 24))
    await store.create_resource(tree_resource(device.tenant_id, "app", parent=device.tenant, resource_id="c" * 24))
    with pytest.raises(AlreadyExists):
        await make_device(store, "app", node_id="urn:dev:app")
    assert await store.device_by_name(device.tenant_id, "app") is None
