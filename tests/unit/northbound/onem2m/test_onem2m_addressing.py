"""One resource, many addresses; and none of another tenant."""

from typing import Any

import pytest

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.records import NewDevice, TreeResource
from stellwerk.device.record import Credential
from stellwerk.northbound.auth import EVERYTHING, Access, Tokens

NOW_MS = 1_752_761_133_829
ROOT = "/onem2m"
PATHS = [
    "/NI-IPE",
    "/device-provisioning",
    "/device-provisioning/request",
    "/device-provisioning/response/some",
    "/device-group",
    "/device-group/all",
    "/device-communication",
    "/device-communication/device001",
    "/device-communication/device001/outgoing-msg",
    "/device-communication/device001/outgoing-msg/la",
    "/device-communication/device001/outgoing-msg/protocol-adapter-subscription",
    "/device-communication/device001/sent-msg",
    "/device-communication/device001/sent-msg/la",
    "/device-communication/device001/received-msg",
    "/device-communication/device001/received-msg/la",
    "/device-communication/device001/received-msg/route",
    "/device001",
    "/device001/device-info",
    "/device001/credentials",
    "/device001/device-update-subscription",
    "/app",
    "/app/connector-logs",
    "/app/connector-logs/deep",
]


def written(world: Any, parent: str, name: str, envelope: str, ty: int, **attributes: Any) -> TreeResource:
    resource = TreeResource(
        world.tenant_id,
        world.entropy.take(12).hex(),
        name,
        parent,
        ty,
        envelope,
        "CTestApp",
        ("d2c:1.0",),
        NOW_MS,
        NOW_MS,
        0,
        attributes,
    )
    world.run(world.store.create_resource(resource))
    return resource


@pytest.fixture
def tree(world: Any) -> Any:
    """A tenant with one of everything."""
    device = world.device()
    world.register(device)
    world.run(world.store.set_credential(device.device_id, Credential("identity", "secret", created_ms=NOW_MS)))
    for _ in range(2):
        world.post("/device-communication/device001/outgoing-msg", 4, {"m2m:cin": {"con": "READ /3"}})
    world.commit((JournalEntry(Kind.UPDATE, device.device_id, NOW_MS, status=204),))
    app = written(world, "acme", "app", "m2m:ae", 2, api="Napp", aei="Capp")
    logs = written(world, app.resource_id, "connector-logs", "m2m:cnt", 3)
    written(world, logs.resource_id, "deep", "m2m:cnt", 3)
    written(world, "device-group", "all", "dtiot:devGr", 28, nds=["device001"])
    written(world, "device-provisioning/response", "some", "dtiot:prRRe", 28, resSs=1)
    received = world.get("/device-communication/device001/received-msg").json()["m2m:cnt"]["ri"]
    written(world, received, "route", "m2m:sub", 23, nu=["acme/app"])
    return world


def short(world: Any, address: str, **more: Any) -> dict[str, Any]:
    answer = world.get(address, mount=ROOT, **more)
    assert answer.status_code == 200, (address, answer.text)
    (resource,) = answer.json().values()
    return resource


@pytest.mark.spec("D2C 1", "D2C 2")
@pytest.mark.parametrize("path", PATHS)
def test_a_resource_answers_to_every_form_of_its_address(tree: Any, path: str):
    resource = short(tree, f"/acme{path}")
    ri = resource["ri"]
    addresses = [
        f"/-{path}",
        f"/acme/-{path}",
        f"/~/acme/acme{path}",
        f"/~/acme/-{path}",
        f"/~/acme{path}",
        f"/_/example.org/acme/acme{path}",
        f"/_/example.org/acme/-{path}",
        f"/~/acme/{ri}",
        f"/acme/{ri}",
        f"/{ri}",
        f"/_/example.org/acme/{ri}",
    ]
    for address in addresses:
        assert short(tree, address) == resource, address
    v3 = tree.get(f"/device-management-orchestrator/v3/~/acme/{ri}", mount="", headers={"fullName": "false"})
    assert list(v3.json().values()) == [resource]


@pytest.mark.spec("D2C 1")
def test_the_tenant_itself_answers_to_its_name_and_to_its_id(tree: Any):
    base = short(tree, "/acme")
    for address in ("/-", "/~/acme/acme", "/~/acme/-", "/_/sp/acme/acme", "/~/acme", "/acme/-"):
        assert short(tree, address) == base, address


@pytest.mark.spec("D2C 1")
def test_a_path_goes_on_behind_a_resource_id(tree: Any):
    container = short(tree, "/acme/device-communication/device001/received-msg")["ri"]
    newest = short(tree, "/acme/device-communication/device001/received-msg/la")
    assert short(tree, f"/~/acme/{container}/la") == newest
    assert short(tree, f"/{container}/{newest['rn']}") == newest
    app = short(tree, "/acme/app")["ri"]
    assert short(tree, f"/acme/{app}/connector-logs/deep")["rn"] == "deep"


@pytest.mark.spec("D2C 1", "D2C 7.1")
def test_a_command_is_posted_to_a_container_by_its_id(tree: Any):
    container = short(tree, "/acme/device-communication/device001/outgoing-msg")["ri"]
    answer = tree.post(f"/~/acme/{container}", 4, {"m2m:cin": {"con": "READ /3", "rn": "mine"}}, mount=ROOT)
    assert answer.status_code == 201
    assert answer.headers["content-location"] == "/onem2m/acme/device-communication/device001/outgoing-msg/mine"


@pytest.mark.spec("D2C 1", "D2C 2")
@pytest.mark.parametrize("path", PATHS)
def test_no_id_opens_another_tenant(tree: Any, path: str):
    ri = short(tree, f"/acme{path}")["ri"]
    foreign = {"Authorization": "Bearer foreign"}
    for address in (f"/~/other/{ri}", f"/other/{ri}", f"/{ri}", f"/_/sp/other/{ri}", f"/-/{ri}"):
        answer = tree.get(address, mount=ROOT, headers=foreign)
        assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (404, "4004"), address
    for address in (f"/~/acme/{ri}", f"/acme/{ri}", f"/~/acme/-{path}"):
        assert tree.get(address, mount=ROOT, headers=foreign).status_code == 403, address


@pytest.mark.spec("D2C 1")
def test_a_token_of_several_tenants_finds_an_id_in_its_own(tree: Any):
    other = tree.run(tree.store.tenant("other"))
    new = NewDevice("elsewhere", "urn:x:elsewhere", (), "SCS-LwM2M", (), NOW_MS)
    tree.run(tree.store.create_device(other, new))
    object.__setattr__(tree.services, "tokens", Tokens({"both": Access(frozenset({"acme", "other"}))}))
    both = {"Authorization": "Bearer both"}
    for tenant, name in (("acme", "device001"), ("other", "elsewhere")):
        node = short(tree, f"/{tenant}/{name}", headers=both)
        assert short(tree, f"/{node['ri']}", headers=both) == node
    assert tree.get("/-/device001", mount=ROOT, headers=both).status_code == 404


@pytest.mark.spec("D2C 1")
def test_where_no_tokens_are_asked_for_the_configured_tenant_is_meant(tree: Any):
    tree.services.tokens.access = lambda *arguments, **more: EVERYTHING
    ri = short(tree, "/acme/device001")["ri"]
    assert tree.get(f"/{ri}", mount=ROOT).status_code == 404
    object.__setattr__(tree.services, "tenant", "acme")
    assert short(tree, f"/{ri}")["rn"] == "device001"
    assert short(tree, "/-/device001")["rn"] == "device001"


@pytest.mark.spec("D2C 1")
def test_a_name_comes_before_an_id_of_the_same_letters(tree: Any):
    ri = short(tree, "/acme/app")["ri"]
    tree.device(ri)
    assert short(tree, f"/acme/{ri}")["ty"] == 14


@pytest.mark.parametrize(
    "address",
    [
        *("/~", "/~/", "/_", "/_/sp", "/_/sp/", "/~/acme/" + "0" * 24, "/" + "f" * 24, "/acme/" + "0" * 24),
        *("/acme/app/nothing", "/acme/app/connector-logs/nothing/deeper", "/acme/nobody/device-info"),
        *("/acme/device001/credentials/x", "/acme/device-group/all/x", "/acme/NI-IPE/x", "/acme/" + "x/" * 40 + "x"),
        *("/acme/device-communication/nobody/received-msg/x", "/acme/device-communication/device001/x/y"),
    ],
)
def test_what_is_at_no_address_is_not_found(tree: Any, address: str):
    answer = tree.get(address, mount=ROOT)
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (404, "4004")
    assert len(answer.json()["m2m:dbg"]) > 10
