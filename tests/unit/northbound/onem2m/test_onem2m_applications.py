"""Applications that register, change and leave."""

import asyncio
from typing import Any

import pytest

STRICT = {"X-M2M-RVI": "4"}
BODY = {"rn": "myApplication", "api": "NmyApplication", "lbl": ["type:d2c", "d2c:1.0", "EndpointType:WebHook"]}
FULL = {**BODY, "rr": True, "srv": ["4"]}


def register(world: Any, origin: str = "CmyApplication", strict: bool = False, **more: Any) -> Any:
    headers = {"X-M2M-Origin": origin, **(STRICT if strict else {})}
    attributes = {**(FULL if strict else BODY), **more}
    return world.post("", 2, {"m2m:ae": {k: v for k, v in attributes.items() if v != "absent"}}, headers=headers)


def refused(answer: Any, status: int, rsc: int, says: str) -> None:
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (status, str(rsc)), answer.text
    assert says in answer.json()["m2m:dbg"]


@pytest.mark.spec("D2C 5")
def test_an_application_registers_under_its_originator_and_is_shown(world: Any):
    answer = register(world, poa=["https://example.com/hook"], poah=["Authorization: Basic eDp5"])
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (201, "2001")
    assert answer.headers["content-location"].endswith("/acme/myApplication")
    ae = answer.json()["m2m:ae"]
    assert {"api", "poa", "rn", "ty", "ri", "aei", "pi", "ct", "lt"} <= set(ae)
    assert (ae["aei"], ae["pi"], ae["ty"], ae["rn"]) == ("CmyApplication", "acme", 2, "myApplication")
    assert (ae["poa"], ae["lbl"]) == (["https://example.com/hook"], BODY["lbl"])
    assert world.get("/myApplication").json()["m2m:ae"] == ae


@pytest.mark.spec("D2C 5")
def test_an_application_without_an_endpoint_says_null_to_lenient_clients_alone(world: Any):
    assert register(world).json()["m2m:ae"]["poa"] is None
    assert "poa" not in register(world, "Cstrict", strict=True, rn="strict").json()["m2m:ae"]


@pytest.mark.spec("D2C 5", "D2C 14")
def test_an_originator_registers_once(world: Any):
    register(world)
    refused(register(world, rn="other"), 403, 4117, "myApplication")
    refused(register(world, "Cother"), 409, 4105, "myApplication")
    world.device("a-device")
    refused(register(world, "Cother", rn="a-device"), 409, 4105, "a-device")
    assert register(world, "Cother", rn="other").status_code == 201
    for system in ("CAdmin", "CNI-IPE", "CDevice-Provisioning"):
        refused(register(world, system, rn="third"), 403, 4117, "system")


@pytest.mark.spec("D2C 5")
def test_two_registrations_of_one_originator_at_once_are_one(world: Any):
    find = world.store.device_by_name

    async def slow(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return await find(*arguments)

    world.store.device_by_name = slow

    async def both() -> list[Any]:
        made = [
            world.services.applications.register(
                world.tenant_id, "acme", name=name, ae_id="Cone", creator="", labels=(), attributes={}
            )
            for name in ("a", "b")
        ]
        return await asyncio.gather(*made, return_exceptions=True)

    assert sorted(type(each).__name__ for each in world.run(both())) == ["AlreadyRegistered", "TreeResource"]


@pytest.mark.spec("D2C 5")
def test_the_server_chooses_an_ae_id_and_a_name_where_it_is_asked_to(world: Any):
    ae = register(world, "C", strict=True, rn="absent").json()["m2m:ae"]
    assert ae["aei"].startswith("C")
    assert len(ae["aei"]) > 8
    assert len(ae["rn"]) == 36


@pytest.mark.spec("D2C 3", "D2C 5", "D2C 14")
def test_a_strict_client_has_to_be_registered_and_then_is(world: Any):
    headers = {**STRICT, "X-M2M-Origin": "CmyApplication"}
    refused(world.get("", headers=headers), 403, 4103, "registered AE")
    assert register(world, strict=True).status_code == 201
    assert world.get("", headers=headers).status_code == 200
    foreign = {**STRICT, "X-M2M-Origin": "CmyApplication", "Authorization": "Bearer foreign"}
    other = "/device-management-orchestrator/v3/other"
    refused(world.get("", headers=foreign, mount=other), 403, 4103, "registered AE")
    assert world.call("DELETE", "/myApplication", headers=headers).headers["x-m2m-rsc"] == "2002"
    refused(world.get("", headers=headers), 403, 4103, "registered AE")


@pytest.mark.spec("D2C 5")
def test_who_is_registered_is_known_after_a_restart(world: Any):
    register(world, strict=True)
    world.services.applications._names.clear()
    headers = {**STRICT, "X-M2M-Origin": "CmyApplication"}
    assert world.get("", headers=headers).status_code == 200
    refused(register(world, rn="again"), 403, 4117, "myApplication")


@pytest.mark.spec("D2C 5", "D2C 4.5")
@pytest.mark.parametrize(
    ("attributes", "strict", "says"),
    [
        ({"api": "absent"}, True, "api"),
        ({"rr": "absent"}, True, "rr"),
        ({"srv": "absent"}, True, "srv"),
        ({"api": "XmyApplication"}, True, "N"),
        ({"aei": "Cme"}, True, "aei"),
        ({"nonsense": 1}, True, "nonsense"),
        ({"srv": []}, True, "srv"),
        ({"rr": "true"}, False, "rr"),
        ({"api": 5}, False, "api"),
        ({"poa": "https://example.com"}, False, "poa"),
        ({"poa": [5]}, False, "poa"),
        ({"poa": ["x"] * 17}, False, "16"),
        ({"poah": ["no colon"]}, False, "poah"),
        ({"poah": ["X: a\r\nY: b"]}, False, "poah"),
        ({"lbl": "x"}, False, "lbl"),
        ({"rn": "a/b"}, False, "rn"),
        ({"rn": "la"}, False, "rn"),
        ({"rn": "device-communication"}, False, "reserved"),
        ({"rn": "-"}, False, "reserved"),
        ({"apn": ""}, False, "apn"),
        ({"loc": "x" * 3000}, False, "loc"),
    ],
)
def test_a_registration_that_cannot_be_makes_nothing(world: Any, attributes: Any, strict: bool, says: str):
    refused(register(world, strict=strict, **attributes), 400, 4000, says)
    assert world.run(world.store.resources(world.tenant_id, "acme", 10, 0)) == []


@pytest.mark.spec("D2C 4.3", "D2C 5")
def test_an_application_changes_what_it_may(world: Any):
    before = register(world, apn="First").json()["m2m:ae"]
    world.clock.ms += 1000
    body = {"m2m:ae": {"lbl": ["x:y"], "poa": ["https://example.com/2"], "apn": None, "pointless": 1}}
    answer = world.call("PUT", "/myApplication", json=body)
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (200, "2004")
    ae = answer.json()["m2m:ae"]
    assert (ae["lbl"], ae["poa"], ae["api"]) == (["x:y"], ["https://example.com/2"], "NmyApplication")
    assert "apn" not in ae
    assert ae["ri"] == before["ri"]
    assert ae["lt"] > before["lt"]
    assert world.get("/myApplication").json()["m2m:ae"] == ae
    refused(world.call("PUT", "/myApplication", json={"m2m:ae": {"api": "Nother"}}), 400, 4102, "poa")
    refused(world.call("PUT", "/myApplication", json={"m2m:ae": {"poa": 5}}), 400, 4000, "poa")
    refused(world.call("PUT", "/myApplication", json={"m2m:nod": {"lbl": ["x"]}}), 400, 4000, "ty=2")
    assert world.get("/myApplication").json()["m2m:ae"] == ae


@pytest.mark.spec("D2C 5", "D2C 14")
def test_a_strict_client_changes_and_deletes_its_own_application_alone(world: Any):
    register(world, strict=True)
    register(world, "Cother", strict=True, rn="other")
    body = {"m2m:ae": {"apn": "x"}}
    other = {**STRICT, "X-M2M-Origin": "Cother"}
    refused(world.call("PUT", "/myApplication", json=body, headers=other), 403, 4103, "Cother")
    refused(world.call("DELETE", "/myApplication", headers=other), 403, 4103, "Cother")
    own = {**STRICT, "X-M2M-Origin": "CmyApplication"}
    answer = world.call("PUT", "/myApplication", json=body, headers=own)
    assert set(answer.json()["m2m:ae"]) == {"apn", "lt"}
    refused(world.call("PUT", "/myApplication", json={"m2m:ae": {"rn": "x"}}, headers=own), 400, 4000, "rn")
    refused(world.call("PUT", "/myApplication", json={"m2m:ae": {"api": "Nx"}}, headers=own), 400, 4000, "api")
    admin = {**STRICT, "X-M2M-Origin": "CAdmin"}
    assert world.call("DELETE", "/other", headers=admin).status_code == 200


@pytest.mark.spec("D2C 5")
def test_a_deleted_application_is_gone_with_its_name(world: Any):
    register(world)
    assert world.call("DELETE", "/myApplication").headers["x-m2m-rsc"] == "2002"
    assert world.get("/myApplication").status_code == 404
    assert world.call("DELETE", "/myApplication").status_code == 404
    assert register(world).status_code == 201


@pytest.mark.spec("D2C 5")
@pytest.mark.parametrize("name", ["NI-IPE", "device-provisioning", "device-group"])
def test_the_systems_own_applications_stay(world: Any, name: str):
    refused(world.call("DELETE", f"/{name}"), 405, 4005, "system")
    refused(world.call("PUT", f"/{name}", json={"m2m:ae": {"apn": "x"}}), 405, 4005, "system")


@pytest.mark.spec("D2C 6.2")
def test_a_device_does_not_get_an_applications_name(world: Any):
    register(world)
    item = {"noRNe": "myApplication", "ni": "urn:x:1", "profe": "SCS-LwM2M"}
    order = world.post("/device-provisioning/request", 28, {"dtiot:noPRt": {"opern": 1, "reqLt": [item]}})
    name = f"responseToRequest-{order.json()['dtiot:noPRt']['ri']}"
    result = world.get(f"/device-provisioning/response/{name}").json()["flexContainer"]
    assert result["resSs"] == 3
    assert "'myApplication' exists already" in result["inEMs"][0]


@pytest.mark.spec("D2C 4.3")
def test_a_create_answers_the_address_where_it_is_asked_for(world: Any):
    headers = {"X-M2M-Origin": "Cone"}
    one = world.post("?rcn=2", 2, {"m2m:ae": {"rn": "one", "api": "N1"}}, headers=headers)
    assert one.json() == {"m2m:uri": "acme/one"}
    both = world.post("?rcn=3", 2, {"m2m:ae": {"rn": "two", "api": "N2"}}, headers={"X-M2M-Origin": "Ctwo"})
    assert both.json()["m2m:rce"]["uri"] == "acme/two"
    assert both.json()["m2m:rce"]["m2m:ae"]["rn"] == "two"
    none = world.post("?rcn=0", 2, {"m2m:ae": {"rn": "three", "api": "N3"}}, headers={"X-M2M-Origin": "Cthree"})
    assert (none.status_code, none.content) == (201, b"")


@pytest.mark.spec("D2C 6.5", "D2C 11")
def test_passwords_for_calls_to_an_application_are_shown_to_those_who_may_write_alone(world: Any):
    register(world, poa=["https://example.com/hook"], poah=["Authorization: Basic eDp5"])
    reader = {"Authorization": "Bearer reader"}
    for path in ("/myApp", "?rcn=4&ty=2", "?fu=1&rcn=4&ty=2", "/device-group?fu=1&rcn=4"):
        assert "eDp5" not in world.get(path, headers=reader).text
    assert world.get("?fu=1&poah=*eDp5", headers=reader).json() == {"m2m:uril": []}
    assert "eDp5" in world.get("?rcn=4&ty=2").text


@pytest.mark.spec("D2C 4.1")
@pytest.mark.parametrize("labels", [["x"] * 201, ["x" * 1001]])
def test_labels_have_bounds(world: Any, labels: Any):
    answer = world.post("", 2, {"m2m:ae": {"rn": "myApp", "api": "N1", "lbl": labels}})
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (400, "4000")
    assert "at most" in answer.json()["m2m:dbg"]
