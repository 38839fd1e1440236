"""Provisioning requests over HTTP and what becomes of them."""

import asyncio
from hashlib import sha3_256
from typing import Any

import pytest
from tests.credential_material import P384, b64, certificate, der, spki

from stellwerk.app.records import NewDevice
from stellwerk.device.key_material import read_certificate
from stellwerk.device.record import PSK, RPK, X509

REQUEST = "/device-provisioning/request"
RESPONSE = "/device-provisioning/response"
DEFINITION = "com.telekom.iot.orchestrator.nodeProvisioningRequest"


def item(name: str = "myLwM2M-Device01", **more: Any) -> dict[str, Any]:
    return {"ni": f"urn:gsma:imei:{name}", "noRNe": name, "profe": "SCS-LwM2M", **more}


def order(world: Any, *items: Any, **more: Any) -> dict[str, Any]:
    """Post a request; its stored form in short names."""
    body = {"dtiot:noPRt": {"cnd": DEFINITION, "opern": 1, "reqLt": list(items), **more}}
    answer = world.post(REQUEST, 28, body)
    assert answer.status_code == 201, answer.text
    return answer.json()["dtiot:noPRt"]


def result(world: Any, request: dict[str, Any]) -> dict[str, Any]:
    answer = world.get(f"{RESPONSE}/responseToRequest-{request['ri']}")
    assert answer.status_code == 200
    return answer.json()["flexContainer"]


@pytest.mark.spec("D2C 6.1", "D2C 6.2", "D2C 6.3")
def test_a_request_creates_devices_and_leaves_a_result(world: Any):
    first = item(
        lbl=["d2c:1.0", "d2c-uplink-property_Room:2035"],
        ICCID="89882280000004492060",
        ndvi={"rn": "device-info", "mgd": 1007, "man": "Maker", "dlb": ["My", "device"]},
    )
    stored = order(world, first, item("second"), rn="my-request")
    assert stored["reqLt"] == [first, item("second")]
    assert (stored["ty"], stored["cr"], stored["st"], stored["rn"]) == (28, "CTestApp", 0, "my-request")
    assert {"ri", "pi", "ct", "lt", "cnd", "opern"} <= set(stored)
    outcome = result(world, stored)
    assert outcome["reqRD"] == stored["ri"]
    assert (outcome["resSs"], outcome["inEMs"]) == (1, [])
    assert outcome["geEMe"] == "total: 2, processed: 2, errors: 0"
    assert outcome["cr"] == "CDevice-Provisioning"
    node = world.get("/myLwM2M-Device01").json()["node"]
    assert node["labels"] == [
        "d2c:1.0",
        "d2c-uplink-property_Room:2035",
        "profile:SCS-LwM2M",
        "ICCID:89882280000004492060",
    ]
    info = world.get("/myLwM2M-Device01/device-info").json()["deviceInfo"]
    assert (info["manufacturer"], info["deviceLabel"]) == ("Maker", "My device")
    assert world.get("/device-communication/second/received-msg").status_code == 200


@pytest.mark.spec("D2C 4.1", "D2C 6.1")
def test_long_names_in_a_request_mean_the_same(world: Any):
    body = {
        "dtiot:noPRt": {
            "operation": 1,
            "requestList": [
                {
                    "nodeID": "urn:gsma:imei:1",
                    "nodeResourceName": "long",
                    "profile": "scs-lwm2m",
                    "labels": ["a:b"],
                    "nodeDeviceInfo": {"manufacturer": "Maker", "firmwareVersion": "1.0"},
                }
            ],
        }
    }
    answer = world.post(REQUEST, 28, body, headers={"fullName": "true"})
    request = answer.json()["dtiot:noPRt"]
    assert request["requestList"][0]["nodeDeviceInfo"] == {"manufacturer": "Maker", "fwVersion": "1.0"}
    assert "resourceID" in request
    assert world.get("/long").json()["node"]["labels"] == ["a:b", "profile:scs-lwm2m"]
    assert world.get("/long/device-info").json()["deviceInfo"]["fwVersion"] == "1.0"


@pytest.mark.spec("D2C 6.2", "D2C 6.4", "D2C 6.5")
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"ni": "urn:x:1", "profe": "SCS-LwM2M"}, "nodeResourceName (noRNe) is missing"),
        (item("with blank"), "characters"),
        (item("slash/ed"), "characters"),
        (item("x" * 256), "characters"),
        (item("device-communication"), "reserved"),
        (item("la"), "reserved"),
        (item(7), "text"),
        ({"noRNe": "x", "profe": "SCS-LwM2M"}, "nodeID (ni) is missing"),
        ({**item(), "ni": "a b"}, "nodeID"),
        ({"noRNe": "x", "ni": "urn:x:1"}, "profile (profe) is missing"),
        ({**item(), "profe": "SCS-UDP"}, "not supported"),
        ({**item(), "profe": "nonsense"}, "SCS-LwM2M"),
        (item(lbl="a:b"), "list of texts"),
        (item(lbl=["a:b", 3]), "list of texts"),
        (item(nCr=["psk-id:x"]), "psk:<key> is missing"),
        (item(nCr=["psk:c2VjcmV0"]), "psk-id:<identity> is missing"),
        (item(nCr=["psk-id:x", "psk-hex:abc"]), "hex digits"),
        (item(nCr=["psk-id:x", "psk:a", "psk-text:b"]), "two keys"),
        (item(nCr=["password:x"]), "begin with"),
        (item(psk="c2VjcmV0"), "nodeCredentials"),
        (item(lbl=["psk:c2VjcmV0"]), "for all to read"),
        (item(nodeDeviceGroups=["somewhere"]), "unknown device group"),
        (item(ICCID=898), "ICCID"),
        (item(ndvi=[]), "nodeDeviceInfo"),
        (item(ndvi={"man": {"x": 1}}), "man"),
        (item(ndvi={"mgd": 1029}), "1007"),
        ("nothing", "object"),
        (None, "object"),
    ],
)
def test_a_bad_item_says_why_and_takes_no_other_with_it(world: Any, bad: Any, says: str):
    outcome = result(world, order(world, item("before"), bad, item("after")))
    assert outcome["resSs"] == 2
    assert outcome["geEMe"] == "total: 3, processed: 2, errors: 1"
    (message,) = outcome["inEMs"]
    assert message.startswith("item 2")
    assert says in message
    assert world.get("/before").status_code == world.get("/after").status_code == 200
    assert len(world.get("?rcn=8&ty=14").json()["m2m:cb"]["m2m:nod"]) == 2


@pytest.mark.spec("D2C 6.2")
def test_duplicates_are_errors_inside_a_request_and_across_requests(world: Any):
    outcome = result(world, order(world, item("twin"), item("twin"), {**item("other"), "ni": "urn:gsma:imei:twin"}))
    assert outcome["resSs"] == 2
    assert "device name 'twin' exists already" in outcome["inEMs"][0]
    assert "node ID 'urn:gsma:imei:twin' exists already" in outcome["inEMs"][1]
    again = result(world, order(world, item("twin")))
    assert (again["resSs"], again["geEMe"]) == (3, "total: 1, processed: 0, errors: 1")


@pytest.mark.spec("D2C 6.1", "D2C 9")
def test_what_a_client_leaves_empty_is_filled_by_the_device(world: Any):
    empty = {"rn": "device-info", "mgd": 1007, "lbl": ["d2c:1.0"], "dvnm": "", "man": "", "dlb": "", "ptl": []}
    order(world, item("one", ndvi=empty), item("two", ndvi={**empty, "ptl": ["coap"]}))
    assert world.get("/two/device-info").json()["deviceInfo"]["protocol"] == ["coap"]
    device = world.run(world.store.device_by_name(world.tenant_id, "one"))
    assert device.device_info == ()
    world.register(device)
    world.post("/device-communication/one/outgoing-msg", 4, {"m2m:cin": {"con": "READ /3/0/0"}})
    world.answer(205, b"Maker", 0)
    info = world.get("/one/device-info").json()["deviceInfo"]
    assert (info["manufacturer"], info["deviceName"], info["deviceLabel"]) == ("Maker", "Maker", "one")


@pytest.mark.spec("D2C 6.2", "D2C 6.5")
def test_a_device_made_with_a_key_has_it_and_no_other_gets_its_identity(world: Any):
    key = ["psk-id:id-1", "psk:dGVzdDEyMw=="]
    stored = order(world, item("one", nCr=key), item("two", nodeCredentials=key), item("three", nCr=[]))
    outcome = result(world, stored)
    assert outcome["geEMe"] == "total: 3, processed: 2, errors: 1"
    assert outcome["inEMs"] == ["item 2 (two): PSK identity 'id-1' exists already; choose another"]
    device = world.run(world.store.device_by_name(world.tenant_id, "one"))
    assert device.security == PSK
    credential = world.run(world.store.credential_of(device.device_id))
    assert (credential.identity, credential.secret, credential.key) == ("id-1", "dGVzdDEyMw==", b"test123")
    assert "dGVzdDEyMw" not in str(world.run(world.store.resources(world.tenant_id, REQUEST.removeprefix("/"), 9, 0)))
    assert world.get("/one/credentials").json()["credentials"]["credentialSecret"] == "dGVzdDEyMw=="
    assert world.get("/two").status_code == world.get("/three/credentials").status_code == 404


@pytest.mark.spec("D2C 6.5", "Platform 4")
def test_devices_are_made_with_raw_keys_certificates_and_names_of_certificates(world: Any):
    cert = b64(der(certificate()))
    outcome = result(
        world,
        order(
            world,
            item("one", nCr=[f"rpk:{b64(spki())}"]),
            item("two", nCr=[f"x509:{cert}"]),
            item("three", nCr=["x509-cn:three"]),
            item("four", nCr=[f"rpk:{b64(spki())}"]),
            item("five", nCr=[f"rpk:{b64(spki(P384))}"]),
            item("six", nCr=["x509-cn:one"]),
        ),
    )
    assert outcome["geEMe"] == "total: 6, processed: 3, errors: 3"
    four, five, six = outcome["inEMs"]
    assert four.startswith("item 4 (four): public key 'rpk:")
    assert "nodeCredentials (nCr), rpk: the curve secp384r1 is not spoken here" in five
    assert "'one' does not mean this device" in six
    found = [world.run(world.store.device_by_name(world.tenant_id, each)) for each in ("one", "two", "three")]
    assert [each.security for each in found] == [RPK, X509, X509]
    shown = [world.get(f"/{each}/credentials").json()["credentials"] for each in ("one", "two", "three")]
    assert [each["credentialSecret"] for each in shown] == [f"rpk:{b64(spki())}", f"x509:{cert}", "x509-cn:three"]
    assert (shown[0]["credentialID"], shown[2]["credentialID"]) == ("urn:gsma:imei:one", "three")
    assert shown[1]["credentialID"] == sha3_256(der(read_certificate(cert))).hexdigest()


@pytest.mark.spec("D2C 6.1")
def test_the_stored_request_never_holds_a_key_wherever_it_stood(world: Any):
    places = [
        {"nodeCredentials": ["psk-id:a", "psk-text:hidden-key"]},
        {"nCr": {"psk": "hidden-key"}},
        {"password": "hidden-key"},
        {"lbl": ["psk:hidden-key"]},
        {"ndvi": {"dc": "psk:hidden-key"}},
        {"comment": ["x", "psk-hex:hidden-key"]},
        {"nested": {"deep": ["psk:hidden-key"]}},
        {"nCr": ["rpk:hidden-key"]},
        {"nCr": ["x509:hidden-key"]},
        {"comment": "-----BEGIN PRIVATE KEY-----hidden-key"},
    ]
    stored = order(world, *(item(f"device{number}", **place) for number, place in enumerate(places)))
    everything = str(world.run(world.store.resources(world.tenant_id, REQUEST.removeprefix("/"), 9, 0)))
    assert "hidden-key" not in everything + str(stored) + str(result(world, stored))


@pytest.mark.spec("D2C 6.5")
def test_a_server_may_refuse_devices_without_a_key(world: Any):
    world.provisioning._allow_nosec = False
    outcome = result(world, order(world, item("open"), item("safe", nCr=["psk-id:x", "psk:c2VjcmV0"])))
    assert outcome["resSs"] == 2
    assert "devices without a key are not allowed here" in outcome["inEMs"][0]
    assert world.get("/safe").status_code == 200


@pytest.mark.spec("D2C 6.1", "D2C 6.2")
def test_a_thousand_devices_are_one_request(world: Any):
    items = [item(f"bulk-{number}", nCr=[f"psk-id:{number}", f"psk:key-{number}"]) for number in range(999)]
    stored = order(world, *items, item("bulk-7"))
    while world.get(f"{RESPONSE}/responseToRequest-{stored['ri']}").status_code == 404:
        world.run(asyncio.sleep(0.002))
    outcome = result(world, stored)
    assert outcome["geEMe"] == "total: 1000, processed: 999, errors: 1"
    assert outcome["inEMs"] == ["item 1000 (bulk-7): device name 'bulk-7' exists already; choose another"]
    assert len(stored["reqLt"]) == 1000


@pytest.mark.spec("D2C 6.7")
def test_a_request_removes_devices_by_name_or_by_node_id(world: Any):
    order(world, item("one"), item("two"), item("three"))
    outcome = result(
        world,
        order(world, {"noRNe": "one"}, {"ni": "urn:gsma:imei:two"}, {"noRNe": "four"}, {}, {"noRNe": 3}, opern=2),
    )
    assert outcome["geEMe"] == "total: 5, processed: 2, errors: 3"
    assert world.removed == ["one", "two"]
    assert [each["rn"] for each in world.get("?rcn=8&ty=14").json()["m2m:cb"]["m2m:nod"]] == ["three"]
    mismatch = result(world, order(world, {"noRNe": "three", "ni": "urn:gsma:imei:two"}, opern=2))
    assert mismatch["resSs"] == 3
    assert world.get("/three").status_code == 200


@pytest.mark.spec("D2C 6.7")
def test_a_tenant_cannot_remove_a_device_of_another(world: Any):
    order(world, item("mine"))
    body = {"dtiot:noPRt": {"opern": 2, "reqLt": [{"ni": "urn:gsma:imei:mine"}]}}
    mount = "/device-management-orchestrator/v3/other"
    foreign = {"Authorization": "Bearer foreign"}
    request = world.post(REQUEST, 28, body, mount=mount, headers=foreign).json()["dtiot:noPRt"]
    answer = world.get(f"{RESPONSE}/responseToRequest-{request['ri']}", mount=mount, headers=foreign)
    assert answer.json()["flexContainer"]["resSs"] == 3
    assert world.get("/mine").status_code == 200


@pytest.mark.spec("D2C 6.1")
def test_key_material_is_neither_echoed_nor_stored(world: Any):
    stored = order(world, item(nCr=["psk-id:me", "psk:c2VjcmV0", 5]))
    assert stored["reqLt"][0]["nCr"] == ["psk-id:me", "***", "***"]
    listed = world.get(f"{REQUEST}?rcn=4").text
    assert "c2VjcmV0" not in listed
    assert "psk-id:me" in listed


@pytest.mark.spec("D2C 6.2")
def test_requests_and_results_are_listed_under_their_containers(world: Any):
    stored = order(world, item())
    listed = world.get(f"{RESPONSE}?rcn=4").json()["m2m:cnt"]
    assert [each["reqRD"] for each in listed["dtiot:prRRe"]] == [stored["ri"]]
    assert listed["dtiot:prRRe"][0]["pi"] == listed["ri"]
    requests = world.get(f"{REQUEST}?rcn=8").json()["m2m:cnt"]["dtiot:noPRt"]
    assert [each["ri"] for each in requests] == [stored["ri"]]
    assert world.get(f"{REQUEST}/{stored['rn']}").json()["dtiot:noPRt"]["ri"] == stored["ri"]


@pytest.mark.spec("D2C 6.2")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"dtiot:noPRt": {"opern": 3, "reqLt": [item()]}}, "opern"),
        ({"dtiot:noPRt": {"opern": True, "reqLt": [item()]}}, "opern"),
        ({"dtiot:noPRt": {"opern": 1}}, "reqLt"),
        ({"dtiot:noPRt": {"opern": 1, "reqLt": []}}, "reqLt"),
        ({"dtiot:noPRt": {"opern": 1, "reqLt": item()}}, "reqLt"),
        ({"dtiot:noPRt": {"opern": 1, "reqLt": [item()], "cnd": "x"}}, "cnd"),
        ({"dtiot:noPRt": {"opern": 1, "operation": 1, "reqLt": [item()]}}, "twice"),
        ({"dtiot:noPRt": {"opern": 1, "reqLt": [item()], "rn": "a/b"}}, "rn"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_as_a_whole(world: Any, body: dict[str, Any], says: str):
    answer = world.post(REQUEST, 28, body)
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (400, "4000")
    assert says in answer.json()["m2m:dbg"]
    assert world.get(f"{REQUEST}?rcn=8").json() == {"m2m:cnt": {}}


@pytest.mark.spec("D2C 6.2")
def test_old_requests_and_their_results_can_be_deleted_and_not_changed(world: Any):
    stored = order(world, item())
    response = f"{RESPONSE}/responseToRequest-{stored['ri']}"
    for path in (f"{REQUEST}/{stored['rn']}", response):
        changed = world.call("PUT", path, json={"dtiot:noPRt": {"lbl": ["x"]}})
        assert (changed.status_code, changed.headers["x-m2m-rsc"]) == (405, "4005")
        assert world.call("DELETE", path).headers["x-m2m-rsc"] == "2002"
        assert world.call("DELETE", path).headers["x-m2m-rsc"] == "4004"
    assert world.get("/myLwM2M-Device01").status_code == 200


def test_a_request_name_that_is_taken_is_a_conflict(world: Any):
    order(world, item("one"), rn="same")
    answer = world.post(REQUEST, 28, {"dtiot:noPRt": {"opern": 1, "rn": "same", "reqLt": [item("two")]}})
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (409, "4105")
    assert world.get("/two").status_code == 404


@pytest.mark.spec("D2C 6.2")
def test_a_store_that_fails_for_one_item_leaves_a_result_all_the_same(world: Any):
    create = world.store.create_device

    async def failing(tenant_id: Any, device: Any) -> Any:
        if device.name == "unlucky":
            raise OSError("disk full")
        return await create(tenant_id, device)

    world.store.create_device = failing
    outcome = result(world, order(world, item("unlucky"), item("lucky")))
    assert outcome["resSs"] == 2
    assert "internal error" in outcome["inEMs"][0]
    assert "disk" not in outcome["inEMs"][0]


@pytest.mark.spec("D2C 6.2")
def test_a_request_that_a_stop_left_half_done_is_finished_after_the_restart(world: Any):
    stopped: list[Any] = []
    world.provisioning._spawn = stopped.append
    stored = order(world, item("one"), item("two"))
    stopped.pop().close()
    assert world.get(f"{RESPONSE}/responseToRequest-{stored['ri']}").status_code == 404
    done = NewDevice("one", "urn:gsma:imei:one", (), "SCS-LwM2M", (), world.clock.wall_ms())
    world.run(world.store.create_device(world.tenant_id, done))
    assert world.run(world.provisioning.resume(world.tenant_id)) == 1
    assert result(world, stored)["geEMe"] == "total: 2, processed: 2, errors: 0"
    assert world.get("/two").status_code == 200
    assert world.run(world.provisioning.resume(world.tenant_id)) == 0


@pytest.mark.spec("D2C 6.2")
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"lbl": ["d2c-uplink-property_a:" + "x" * 1000]}, "1000 characters"),
        ({"lbl": ["x"] * 200}, "200 labels"),
        ({"ICCID": "8" * 65}, "ICCID"),
        ({"ndvi": {"man": "x" * 2049}}, "2048 characters"),
    ],
)
def test_what_is_said_of_a_device_has_bounds_since_it_goes_with_every_message(world: Any, more: Any, says: str):
    outcome = result(world, order(world, item("huge", **more)))
    assert outcome["resSs"] == 3
    assert says in outcome["inEMs"][0]
    assert world.get("/huge").status_code == 404


@pytest.mark.spec("D2C 6.1")
def test_a_request_with_more_devices_than_are_worked_off_at_once_is_refused(world: Any):
    answer = world.post(REQUEST, 28, {"dtiot:noPRt": {"reqLt": [{}] * 10_001}})
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (400, "4000")
    assert "10000 is the most" in answer.json()["m2m:dbg"]
    assert world.get(f"{REQUEST}?rcn=8").json() == {"m2m:cnt": {}}


@pytest.mark.spec("D2C 6.1", "D2C 6.5")
@pytest.mark.parametrize("member", ["ni", "noRNe", "profe", "ICCID", "lbl", "nDGr", "nCr", "ndvi", "psk", "anything"])
@pytest.mark.parametrize("whole", [str, lambda key: [key], lambda key: {"man": key}, lambda key: [[{"a": key}]]])
def test_a_key_in_the_wrong_place_is_neither_stored_nor_repeated(world: Any, member: str, whole: Any):
    misplaced = {**item("wrong"), member: whole("psk:S3CRET")}
    outcome = order(world, misplaced)
    assert "S3CRET" not in str(outcome)
    for path in (f"{RESPONSE}?rcn=8", f"{REQUEST}?rcn=8", "?rcn=4&lvl=9", "?rcn=4&ty=14"):
        assert "S3CRET" not in world.get(path, headers={"Authorization": "Bearer reader"}).text
