"""Nodes, device-info, the tenant and its fixed parts over HTTP."""

from typing import Any

import pytest

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.records import NewDevice

NOW_MS = 1_752_761_133_829


def registered(world: Any, device: Any, at_ms: int = NOW_MS) -> None:
    world.register(device)
    world.commit((JournalEntry(Kind.REGISTER, device.device_id, at_ms, status=201, path="/rd", payload=b"</3/0>"),))


@pytest.mark.spec("D2C 9", "D2C 14")
def test_a_node_shows_the_members_and_labels_of_the_sample(world: Any):
    labels = ("d2c-uplink-property_Room:2035", "profile:SCS-lwM2M", "ICCID:89882280000004492060")
    device = world.device(labels=labels)
    registered(world, device, 1_733_389_745_807)
    world.commit((JournalEntry(Kind.UPDATE, device.device_id, 1_738_537_906_296, status=204),))
    answer = world.get("/device001", headers={"fullName": "true"})
    assert answer.status_code == 200
    node = answer.json()["node"]
    assert list(node) == [
        "nodeID",
        "labels",
        "resourceName",
        "resourceType",
        "resourceID",
        "parentID",
        "creationTime",
        "lastModifiedTime",
    ]
    assert node["labels"] == [
        *labels,
        "updates_timestamp: 1738537906296",
        "registrations_timestamp: 1733389745807",
    ]
    assert (node["nodeID"], node["resourceName"]) == ("urn:gsma:imei:device001", "device001")
    assert (node["resourceType"], node["parentID"]) == (14, "acme")
    assert node["creationTime"] == "20250717T140533,829000"


@pytest.mark.spec("D2C 8.1")
def test_every_event_of_a_life_leaves_its_label_once(world: Any):
    device = world.device(labels=("updates_timestamp: 5",))
    registered(world, device, 1_000_000_000_001)
    for at_ms in (1_000_000_000_002, 1_000_000_000_003):
        world.commit((JournalEntry(Kind.UPDATE, device.device_id, at_ms, status=204),))
    world.commit((JournalEntry(Kind.DEREGISTER, device.device_id, 1_000_000_000_004, status=202),))
    world.commit((JournalEntry(Kind.EXPIRE, device.device_id, 1_000_000_000_005),))
    assert world.get("/device001").json()["node"]["labels"] == [
        "updates_timestamp: 1000000000003",
        "registrations_timestamp: 1000000000001",
        "deregistrations_timestamp: 1000000000004",
        "expirations_timestamp: 1000000000005",
    ]


@pytest.mark.spec("D2C 9", "D2C 14")
def test_the_details_below_a_node_are_asked_as_the_seed_does(world: Any):
    device = world.device(device_info=(("dlb", "My Demo Device"), ("cnty", "DE")))
    registered(world, device)
    world.post("/device-communication/device001/outgoing-msg", 4, {"m2m:cin": {"con": "READ /3/0/0; READ /3/0/13"}})
    world.answer(205, b"Demo Maker", 0)
    world.answer(205, b"1752761133", 0)
    answer = world.get("/device001?ty=13&rcn=8")
    assert list(answer.json()) == ["node"]
    assert list(answer.json()["node"]) == ["deviceInfo"]
    (info,) = answer.json()["node"]["deviceInfo"]
    assert list(info)[:8] == [
        "resourceName",
        "mgmtDefinition",
        "deviceLabel",
        "resourceType",
        "resourceID",
        "parentID",
        "creationTime",
        "lastModifiedTime",
    ]
    assert (info["resourceName"], info["mgmtDefinition"], info["resourceType"]) == ("device-info", 1007, 13)
    assert (info["deviceLabel"], info["country"]) == ("My Demo Device", "DE")
    assert (info["manufacturer"], info["deviceName"]) == ("Demo Maker", "Demo Maker")
    assert info["systemTime"] == "1752761133000"
    alone = world.get("/device001/device-info", headers={"fullName": "false"}).json()["m2m:dvi"]
    assert alone["man"] == "Demo Maker"
    assert alone["pi"] == world.get("/device001", headers={"fullName": "false"}).json()["m2m:nod"]["ri"]


@pytest.mark.spec("D2C 4.3")
def test_children_nest_by_type_and_only_the_wanted_types(world: Any):
    world.device()
    both = world.get("/device001?rcn=4", headers={"fullName": "false"}).json()["m2m:nod"]
    assert both["rn"] == "device001"
    assert [each["rn"] for each in both["m2m:dvi"]] == ["device-info"]
    assert world.get("/device001?rcn=8&ty=4").json() == {"node": {}}
    containers = world.get("/device-communication/device001?rcn=4").json()["m2m:cnt"]["m2m:cnt"]
    assert [each["rn"] for each in containers] == ["outgoing-msg", "sent-msg", "received-msg"]


@pytest.mark.spec("D2C 2", "D2C 4.3")
def test_the_tenant_lists_its_fixed_parts_and_its_devices(world: Any):
    for number in range(3):
        world.device(f"dev-{number}")
    base = world.get("").json()["m2m:cb"]
    assert (base["rn"], base["csi"], base["ty"], base["ri"]) == ("acme", "/acme", 5, "acme")
    everything = world.get("?rcn=4").json()["m2m:cb"]
    assert [each["rn"] for each in everything["m2m:ae"]] == ["NI-IPE", "device-provisioning", "device-group"]
    assert [each["rn"] for each in everything["m2m:cnt"]] == ["device-communication"]
    assert [each["rn"] for each in everything["m2m:nod"]] == ["dev-0", "dev-1", "dev-2"]
    pages = []
    offset: str | None = "0"
    while offset is not None:
        answer = world.get(f"?rcn=8&limit=2&offset={offset}")
        pages.append([each["rn"] for children in answer.json()["m2m:cb"].values() for each in children])
        offset = answer.headers.get("x-m2m-cto")
    assert pages == [
        ["NI-IPE", "device-provisioning"],
        ["device-group", "device-communication"],
        ["dev-0", "dev-1"],
        ["dev-2"],
    ]
    nodes = world.get("?rcn=8&ty=14&limit=2&offset=1").json()["m2m:cb"]["m2m:nod"]
    assert [each["rn"] for each in nodes] == ["dev-1", "dev-2"]


@pytest.mark.spec("D2C 2")
@pytest.mark.parametrize(
    ("path", "envelope", "parent"),
    [
        ("/NI-IPE", "m2m:ae", ""),
        ("/device-provisioning", "m2m:ae", ""),
        ("/device-provisioning/request", "m2m:cnt", "/device-provisioning"),
        ("/device-provisioning/response", "m2m:cnt", "/device-provisioning"),
        ("/device-group", "m2m:ae", ""),
        ("/device-communication", "m2m:cnt", ""),
    ],
)
def test_the_parts_that_clients_check_for_exist_under_their_names(world: Any, path: str, envelope: str, parent: str):
    resource = world.get(path).json()[envelope]
    assert resource["rn"] == path.rpartition("/")[2]
    (above,) = world.get(parent).json().values()
    assert resource["pi"] == above["ri"]


@pytest.mark.spec("D2C 6.7", "D2C 2")
def test_deleting_a_node_removes_the_device_and_its_data(world: Any):
    world.device()
    assert world.call("DELETE", "/device001", headers={"Authorization": "Bearer reader"}).status_code == 403
    answer = world.call("DELETE", "/device001")
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (200, "2002")
    assert world.removed == ["device001"]
    for path in ("/device001", "/device-communication/device001", "/device-communication/device001/received-msg/la"):
        assert world.get(path).status_code == 404
    assert world.call("DELETE", "/device001").status_code == 404


def test_a_device_made_anew_under_an_old_name_is_another_resource(world: Any):
    world.device()
    before = world.get("/device001").json()["node"]["resourceID"]
    world.call("DELETE", "/device001")
    world.clock.ms += 1
    item = {"noRNe": "device001", "ni": "urn:x:1", "profe": "SCS-LwM2M"}
    world.post("/device-provisioning/request", 28, {"dtiot:noPRt": {"opern": 1, "reqLt": [item]}})
    assert world.get("/device001").json()["node"]["resourceID"] != before


@pytest.mark.spec("D2C 4.3")
@pytest.mark.parametrize("parted", ["14+2", "14%2B2", "14&ty=2"])
def test_several_types_of_children_may_be_asked_for(world: Any, parted: str):
    world.device()
    found = world.get(f"?rcn=8&ty={parted}").json()["m2m:cb"]
    assert set(found) == {"m2m:ae", "m2m:nod"}


def behind(world: Any, name: str = "gw-d7") -> Any:
    gateway = world.device("gw")
    new = NewDevice(name, f"urn:{name}", ("Room:7",), "SCS-LwM2M", (), NOW_MS, None, gateway.device_id, "d01")
    return world.run(world.store.create_device(world.tenant_id, new))


@pytest.mark.spec("LwM2M-contract 12")
def test_the_node_of_an_end_device_names_its_gateway_and_its_prefix_whatever_people_write(world: Any) -> None:
    behind(world)
    kept = ["gateway:gw", "gateway_prefix:d01"]
    assert world.get("/gw-d7").json()["node"]["labels"] == ["Room:7", *kept]
    changed = world.call("PUT", "/gw-d7", json={"m2m:nod": {"lbl": ["gateway:other", "Room:8"]}})
    assert changed.status_code == 200, changed.text
    assert world.get("/gw-d7").json()["node"]["labels"] == ["Room:8", *kept]
    assert world.get("/gw").json()["node"].get("labels") is None


@pytest.mark.spec("LwM2M-contract 12", "SEC-6")
def test_an_end_device_gets_no_key_and_goes_with_its_gateway(world: Any) -> None:
    device = behind(world)
    body = {"m2m:crds": {"crid": "id-1", "crse": "psk-hex:00112233445566778899aabbccddeeff"}}
    refused = world.post("/gw-d7", 13, body)
    assert refused.status_code == 400
    assert "gateway 'gw'" in refused.text
    assert world.run(world.store.credential_of(device.device_id)) is None
    assert world.call("DELETE", "/gw").headers["x-m2m-rsc"] == "2002"
    assert world.get("/gw-d7").status_code == 404
    assert world.removed == ["gw-d7", "gw"]
