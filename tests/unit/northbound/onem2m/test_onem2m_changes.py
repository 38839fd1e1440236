"""What people change of a device over HTTP: labels, keys, device-info."""

from typing import Any

import pytest
from tests.credential_material import b64, certificate, der, spki

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.device.record import NOSEC, PSK, RPK, X509, Credential

STRICT = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}
RECEIVED = "/device-communication/device001/received-msg"
OUTGOING = "/device-communication/device001/outgoing-msg"
KEY = {"m2m:crds": {"mgd": 1029, "crid": "id-1", "crse": "c2VjcmV0"}}


def put(world: Any, path: str, body: Any, **more: Any) -> Any:
    return world.call("PUT", path, json=body, **more)


def refused(answer: Any, status: int, rsc: int, says: str) -> None:
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (status, str(rsc)), answer.text
    assert says in answer.json()["m2m:dbg"]


# -- labels --


@pytest.mark.spec("D2C 8.1")
def test_a_client_that_rewrites_the_labels_loses_none_of_the_servers_own(world: Any):
    device = world.device(labels=("Room:1",))
    world.register(device)
    at_ms = 1_738_537_906_296
    world.commit((JournalEntry(Kind.REGISTER, device.device_id, at_ms, status=201, payload=b"</3/0>"),))
    answer = put(world, "/device001", {"node": {"labels": ["d2c:1.0", "updates_timestamp:5", "Floor:2"]}})
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (200, "2004")
    node = answer.json()["node"]
    assert node["labels"] == [
        "d2c:1.0",
        "Floor:2",
        f"updates_timestamp: {at_ms}",
        f"registrations_timestamp: {at_ms}",
    ]
    assert world.get("/device001").json()["node"] == node
    assert world.run(world.store.device(device.device_id)).labels == ("d2c:1.0", "Floor:2")
    emptied = put(world, "/device001", {"m2m:nod": {"lbl": None}}).json()["node"]["labels"]
    assert emptied == [f"updates_timestamp: {at_ms}", f"registrations_timestamp: {at_ms}"]
    assert world.run(world.store.device(device.device_id)).labels == ()


@pytest.mark.spec("D2C 8", "D2C 8.1")
def test_a_new_uplink_property_is_in_the_next_message_of_a_registered_device(world: Any):
    device = world.device(labels=("d2c-uplink-property_Room:old",))
    world.register(device)
    world.post(OUTGOING, 4, {"m2m:cin": {"con": "READ /3/0/0"}})
    put(world, "/device001", {"m2m:nod": {"lbl": ["d2c-uplink-property_Room:new", "UplinkProperty_Floor:2"]}})
    world.answer(205, b"ACME", 0)
    assert world.get(f"{RECEIVED}/la").json()["contentInstance"]["labels"][2:] == ["Room:new", "Floor:2"]
    known = world.registry.of(device.device_id)
    assert known.record.labels == ("d2c-uplink-property_Room:new", "UplinkProperty_Floor:2")


@pytest.mark.spec("D2C 7.3", "D2C 8")
def test_a_new_uplink_property_is_in_the_message_about_a_command_that_waits(world: Any):
    world.device(labels=("d2c-uplink-property_Room:old",))
    world.post(OUTGOING, 4, {"m2m:cin": {"con": "READ /3/0/0", "et": 60_000}})
    put(world, "/device001", {"m2m:nod": {"lbl": ["d2c-uplink-property_Room:new"]}})
    world.clock.ms += 60_001
    world.run(world.commands.delivery.look())
    world.settle()
    message = world.get(f"{RECEIVED}/la").json()["contentInstance"]
    assert message["content"]["status"]["code"] == 408
    assert message["labels"][2:] == ["Room:new"]


@pytest.mark.spec("D2C 4.3", "D2C 8.1")
def test_a_strict_client_gets_what_changed_and_may_change_nothing_else(world: Any):
    world.device()
    answer = put(world, "/device001", {"m2m:nod": {"lbl": ["a:b"]}}, headers=STRICT)
    assert set(answer.json()["m2m:nod"]) == {"lbl", "lt"}
    whole = put(world, "/device001?rcn=1", {"m2m:nod": {"lbl": ["a:c"]}}, headers=STRICT).json()["m2m:nod"]
    assert (whole["rn"], whole["lbl"]) == ("device001", ["a:c"])
    nothing = put(world, "/device001?rcn=0", {"m2m:nod": {"lbl": ["a:d"]}}, headers=STRICT)
    assert (nothing.status_code, nothing.content) == (200, b"")
    for body in ({"ni": "x"}, {"lbl": ["x"], "rn": "other"}, {"lbl": ["x"], "nonsense": 1}):
        refused(put(world, "/device001", {"m2m:nod": body}, headers=STRICT), 400, 4000, "attribute")
    refused(put(world, "/device001?rcn=4", {"m2m:nod": {"lbl": ["x"]}}), 501, 5001, "rcn=4")
    assert world.get("/device001").json()["node"]["labels"] == ["a:d"]


@pytest.mark.spec("D2C 8.1")
def test_a_lenient_client_may_send_the_whole_node_back_but_something_has_to_change(world: Any):
    world.device()
    whole = world.get("/device001").json()["node"]
    answer = put(world, "/device001", {"node": {**whole, "labels": ["x:y"]}})
    assert answer.json()["node"]["labels"] == ["x:y"]
    refused(put(world, "/device001", {"node": whole}), 400, 4102, "lbl")
    refused(put(world, "/device001", {"node": {"nodeID": "urn:x:1"}}), 400, 4102, "lbl")


@pytest.mark.spec("D2C 4.5", "D2C 8.1")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"m2m:nod": {"lbl": "a:b"}}, "list of texts"),
        ({"m2m:nod": {"lbl": ["a:b", 5]}}, "list of texts"),
        ({"m2m:nod": {"lbl": ["x" * 1001]}}, "1000"),
        ({"m2m:nod": {"lbl": ["x"] * 201}}, "200"),
        ({"m2m:nod": {"lbl": ["psk:c2VjcmV0"]}}, "for all to read"),
        ({"m2m:nod": {"lbl": ["a"], "labels": ["b"]}}, "twice"),
        ({"m2m:ae": {"lbl": ["a"]}}, "ty=14"),
        ({"m2m:nod": []}, "object"),
        ([], "object"),
    ],
)
def test_labels_that_cannot_be_leave_the_old_ones(world: Any, body: Any, says: str):
    world.device(labels=("keep:me",))
    refused(put(world, "/device001", body), 400, 4000, says)
    assert world.get("/device001").json()["node"]["labels"] == ["keep:me"]


def test_an_update_has_to_be_json(world: Any):
    world.device()
    answer = world.call("PUT", "/device001", content=b"<x/>", headers={"Content-Type": "text/xml"})
    refused(answer, 415, 4015, "application/json")
    answer = world.call("PUT", "/device001", content=b"<x/>")
    refused(answer, 400, 4000, "not JSON")


@pytest.mark.spec("D2C 1")
def test_what_has_an_id_is_changed_and_deleted_by_it(world: Any):
    world.device()
    short = {"fullName": "false"}
    node = world.get("/device001", headers=short).json()["m2m:nod"]
    mount = "/device-management-orchestrator/v3/~/acme"
    answer = put(world, f"/{node['ri']}", {"m2m:nod": {"lbl": ["a:b"]}}, mount=mount, headers=short)
    assert answer.json()["m2m:nod"]["lbl"] == ["a:b"]
    made = world.post(RECEIVED, 4, {"m2m:cin": {"con": 1}}, headers=short).json()["m2m:cin"]
    assert world.call("DELETE", f"/{made['ri']}", mount=mount).headers["x-m2m-rsc"] == "2002"
    assert world.get(f"{RECEIVED}/la").status_code == 404
    key = world.post("/device001", 13, KEY, headers=short).json()["m2m:crds"]
    changed = {"m2m:crds": {"crid": "id-2"}}
    assert put(world, f"/{key['ri']}", changed, mount=mount, headers=short).json()["m2m:crds"]["crid"] == "id-2"
    container = world.get(RECEIVED).json()["m2m:cnt"]["ri"]
    posted = world.post(f"/{container}", 4, {"m2m:cin": {"con": 1, "rn": "mine"}}, mount=mount)
    assert posted.headers["content-location"] == f"/device-management-orchestrator/v3/acme{RECEIVED}/mine"
    assert world.call("DELETE", f"/{node['ri']}", mount=mount).headers["x-m2m-rsc"] == "2002"
    assert world.removed == ["device001"]


# -- keys --


@pytest.mark.spec("D2C 6.5")
def test_a_key_is_given_read_by_those_who_may_write_and_taken_away(world: Any):
    device = world.device()
    answer = world.post("/device001", 13, KEY)
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (201, "2001")
    assert answer.headers["content-location"].endswith("/acme/device001/credentials")
    shown = answer.json()["credentials"]
    assert (shown["credentialID"], shown["description"], shown["resourceName"]) == ("id-1", "cred", "credentials")
    assert (shown["resourceType"], shown["mgmtDefinition"]) == (13, 1029)
    stored = world.run(world.store.credential_of(device.device_id))
    assert stored is not None
    assert (stored.identity, stored.key) == ("id-1", b"secret")
    assert world.get("/device001/credentials").json()["credentials"]["credentialSecret"] == "c2VjcmV0"
    reader = {"Authorization": "Bearer reader"}
    assert "c2VjcmV0" not in world.get("/device001/credentials", headers=reader).text
    assert world.call("DELETE", "/device001/credentials").headers["x-m2m-rsc"] == "2002"
    assert world.run(world.store.credential_of(device.device_id)) is None
    assert world.get("/device001/credentials").status_code == 404
    assert world.call("DELETE", "/device001/credentials").status_code == 404


@pytest.mark.spec("D2C 6.5")
def test_a_registration_without_the_key_ends_when_the_device_gets_one(world: Any):
    device = world.device()
    world.register(device)
    assert world.run(world.registry.load_of(device.device_id)) is not None
    world.post("/device001", 13, KEY)
    assert world.registry.of(device.device_id) is None
    assert world.run(world.store.registration_of(device.device_id)) is None
    assert world.run(world.store.device(device.device_id)).security == PSK
    message = world.get(f"{RECEIVED}/la").json()["contentInstance"]["content"]
    assert message["messageType"] == "registration-expire"
    log = world.run(world.store.projection.device_log(device.device_id, 10))
    assert any("must use those" in line.detail for line in log)


@pytest.mark.spec("D2C 6.5")
def test_a_register_that_was_let_in_just_before_the_key_came_ends_too(world: Any):
    device = world.device()
    submit = world.store.submit

    def late(commit: Any) -> None:
        # The Register is in the queue behind the first look.
        world.store.submit = submit
        submit(commit)
        submit(world.registering(device))

    world.store.submit = late
    world.post("/device001", 13, KEY)
    assert world.run(world.store.registration_of(device.device_id)) is None


@pytest.mark.spec("D2C 6.5")
def test_a_key_is_changed_in_place_and_keeps_its_envelope(world: Any):
    device = world.device()
    body = {"dcfg:crds": KEY["m2m:crds"]}
    assert list(world.post("/device001", 13, body, headers=STRICT).json()) == ["dcfg:crds"]
    world.clock.ms += 1000
    changed = put(world, "/device001/credentials", {"credentials": {"credentialSecret": "psk-hex:00ff"}})
    assert changed.headers["x-m2m-rsc"] == "2004"
    stored = world.run(world.store.credential_of(device.device_id))
    assert (stored.identity, stored.key, stored.envelope) == ("id-1", b"\x00\xff", "dcfg:crds")
    assert stored.modified_ms == stored.created_ms + 1000
    short = {"fullName": "false"}
    assert list(world.get("/device001/credentials", headers=short).json()) == ["dcfg:crds"]


@pytest.mark.spec("D2C 6.5", "Platform 4")
def test_a_key_of_one_kind_is_changed_to_another(world: Any):
    device = world.device()
    world.post("/device001", 13, KEY)

    def change(**attributes: Any) -> Any:
        return put(world, "/device001/credentials", {"m2m:crds": attributes})

    def kept() -> tuple[str, str, str]:
        found = world.run(world.store.credential_of(device.device_id))
        return found.kind, found.identity, found.envelope

    assert change(crse=f"rpk:{b64(spki())}").status_code == 200
    assert kept() == (RPK, device.node_id, "m2m:crds")
    assert change(crid="device001").status_code == 200
    assert kept()[1] == "device001"
    refused(change(crid="device002"), 400, 4000, "does not mean this device")
    assert change(crse="x509-cn:").status_code == 200
    assert kept()[:2] == (X509, device.node_id)
    assert change(crid="device001").status_code == 200
    assert kept()[:2] == (X509, "device001")
    assert change(crse=f"x509:{b64(der(certificate()))}").status_code == 200
    refused(change(crid="mine"), 400, 4000, "the identity (crid) of a certificate is")
    refused(change(crse="psk-hex:00ff"), 400, 4000, "needs an identity")
    assert change(crid="id-9", crse="psk-hex:00ff").status_code == 200
    assert kept()[:2] == (PSK, "id-9")
    assert world.run(world.store.device(device.device_id)).security == PSK


@pytest.mark.spec("Platform 4")
def test_a_device_that_only_a_bootstrap_server_has_something_for_has_no_credentials(world: Any):
    device = world.device()
    nosec = Credential(device.node_id, "", kind=NOSEC, endpoint=device.node_id, bootstrap="{}")
    world.run(world.store.set_credential(device.device_id, nosec))
    assert world.get("/device001/credentials").status_code == 404
    assert world.call("DELETE", "/device001/credentials").status_code == 404
    assert world.post("/device001", 13, KEY).status_code == 201
    assert world.run(world.store.credential_of(device.device_id)).bootstrap == "{}"


@pytest.mark.spec("D2C 6.5")
def test_an_identity_belongs_to_one_device(world: Any):
    world.device()
    world.device("second")
    world.post("/device001", 13, KEY)
    refused(world.post("/second", 13, KEY), 409, 4105, "PSK identity 'id-1'")
    refused(world.post("/device001", 13, KEY), 409, 4105, "credentials")
    other = {"m2m:crds": {**KEY["m2m:crds"], "crid": "id-2"}}
    assert world.post("/second", 13, other).status_code == 201
    refused(put(world, "/second/credentials", KEY), 409, 4105, "PSK identity 'id-1'")
    assert world.get("/second/credentials").json()["credentials"]["credentialID"] == "id-2"


@pytest.mark.spec("D2C 6.5", "D2C 4.5")
@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"crse": "c2VjcmV0"}, "crid"),
        ({"crid": "x"}, "crse"),
        ({"crid": "x", "crse": 5}, "crse"),
        ({"crid": "x", "crse": ""}, "1 to 64 bytes"),
        ({"crid": "x", "crse": "psk-hex:xyz"}, "hex digits"),
        ({"crid": "x", "crse": "k" * 65}, "1 to 64 bytes"),
        ({"crid": " x", "crse": "c2VjcmV0"}, "blank"),
        ({"crid": "x" * 129, "crse": "c2VjcmV0"}, "128"),
        ({"crid": 5, "crse": "c2VjcmV0"}, "crid"),
        ({"crid": "x", "crse": "c2VjcmV0", "mgd": 1007}, "1029"),
        ({"crid": "x", "crse": "c2VjcmV0", "rn": "my-key"}, "credentials"),
        ({"crid": "x", "crse": "c2VjcmV0", "cr": "CMe"}, "cr"),
    ],
)
def test_a_key_that_cannot_be_is_refused_and_never_repeated(world: Any, attributes: Any, says: str):
    device = world.device()
    answer = world.post("/device001", 13, {"m2m:crds": attributes})
    refused(answer, 400, 4000, says)
    assert "c2VjcmV0" not in answer.text
    assert world.run(world.store.credential_of(device.device_id)) is None


@pytest.mark.spec("D2C 4.5")
@pytest.mark.parametrize(
    ("ty", "body", "rsc"),
    [
        (13, {"m2m:fwr": {"mgd": 1001}}, 5001),
        (13, {"m2m:bat": {"mgd": 1006}}, 5001),
        (13, {"m2m:crds": {"crid": "x", "crtk": "y"}}, 5001),
        (13, {"m2m:cin": {"con": 1}}, 4000),
        (4, {"m2m:cin": {"con": 1}}, 4108),
        (3, {"m2m:cnt": {}}, 4108),
    ],
)
def test_other_things_below_a_node_are_refused(world: Any, ty: int, body: Any, rsc: int):
    world.device()
    answer = world.post("/device001", ty, body)
    assert answer.headers["x-m2m-rsc"] == str(rsc)
    assert len(answer.json()["m2m:dbg"]) > 20


# -- device-info --


@pytest.mark.spec("D2C 6.5", "D2C 9")
def test_what_people_know_of_a_device_is_deleted_and_posted_anew_as_the_client_does(world: Any):
    world.device(device_info=(("man", "Old"), ("dlb", "label")))
    new = {"m2m:dvi": {"rn": "device-info", "mgd": 1007, "man": "New", "dlb": ["My", "device"], "cnty": "DE"}}
    refused(world.post("/device001", 13, new), 409, 4105, "device-info")
    assert world.call("DELETE", "/device001/device-info").headers["x-m2m-rsc"] == "2002"
    info = world.get("/device001/device-info").json()["deviceInfo"]
    assert "manufacturer" not in info
    answer = world.post("/device001", 13, new)
    assert (answer.status_code, answer.json()["deviceInfo"]["deviceLabel"]) == (201, "My device")
    assert answer.headers["content-location"].endswith("/device001/device-info")
    assert world.get("/device001/device-info").json()["deviceInfo"]["manufacturer"] == "New"


@pytest.mark.spec("D2C 9")
def test_device_info_is_changed_in_part_and_null_takes_away(world: Any):
    world.device(device_info=(("man", "Old"), ("mod", "M1")))
    answer = put(world, "/device001/device-info", {"m2m:dvi": {"man": None, "firmwareVersion": "1.2"}})
    info = answer.json()["deviceInfo"]
    assert (info["model"], info["fwVersion"]) == ("M1", "1.2")
    assert "manufacturer" not in info
    strict = put(world, "/device001/device-info", {"m2m:dvi": {"mod": "M2"}}, headers=STRICT)
    assert set(strict.json()["m2m:dvi"]) == {"mod", "lt"}
    refused(put(world, "/device001/device-info", {"m2m:dvi": {"man": 5}}), 400, 4000, "text")
    refused(put(world, "/device001/device-info", {"m2m:dvi": {"x": "5"}}), 400, 4102, "man")
    refused(put(world, "/device001/device-info", KEY), 400, 4000, "device-info")
    refused(put(world, "/device001/credentials", {"m2m:dvi": {"man": "x"}}), 400, 4000, "credentials")
    assert world.get("/device001/device-info").json()["deviceInfo"]["model"] == "M2"


@pytest.mark.spec("D2C 6.1", "D2C 9")
def test_a_client_that_sends_all_attributes_leaves_empty_what_it_does_not_know(world: Any):
    device = world.device(device_info=(("man", "Old"), ("cnty", "DE")))
    body = {"m2m:dvi": {"man": "", "ptl": ["coap", "lwm2m"], "mod": "M1", "cnty": [], "lbl": ["d2c:1.0"], "osv": ""}}
    info = put(world, "/device001/device-info", body).json()["deviceInfo"]
    assert (info["model"], info["protocol"]) == ("M1", ["coap", "lwm2m"])
    assert not {"manufacturer", "country", "osVersion"} & set(info)
    stored = world.run(world.store.device(device.device_id))
    assert dict(stored.device_info) == {"ptl": "coap lwm2m", "mod": "M1"}


@pytest.mark.spec("D2C 9")
def test_what_the_device_reports_itself_stays(world: Any):
    device = world.device()
    world.register(device)
    world.post(OUTGOING, 4, {"m2m:cin": {"con": "READ /3/0/0"}})
    world.answer(205, b"Reported", 0)
    put(world, "/device001/device-info", {"m2m:dvi": {"man": "Written", "cnty": "DE"}})
    info = world.get("/device001/device-info").json()["deviceInfo"]
    assert (info["manufacturer"], info["country"]) == ("Reported", "DE")
    world.call("DELETE", "/device001/device-info")
    info = world.get("/device001/device-info").json()["deviceInfo"]
    assert info["manufacturer"] == "Reported"
    assert "country" not in info


def test_a_device_that_goes_while_it_is_changed_is_not_found(world: Any):
    device = world.device()
    change = world.store.change_device

    async def gone(*arguments: Any) -> Any:
        await world.store.remove_device(device.device_id)
        return await change(*arguments)

    world.store.change_device = gone
    refused(put(world, "/device001", {"m2m:nod": {"lbl": ["a"]}}), 404, 4004, "gone")
