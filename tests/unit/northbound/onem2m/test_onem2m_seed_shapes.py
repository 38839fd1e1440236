"""Every answer that the published page shows, member by member (contract §14.1): the page's members are all there, in
its form, whatever we say beside them."""

from typing import Any

import pytest

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.device.record import Credential

NOW_MS = 1_752_761_133_829
BASE = "/device-communication/device001"
INSTANCE = (
    *("content", "resourceType", "contentSize", "stateTag", "creator"),
    *("resourceName", "resourceID", "parentID", "creationTime", "lastModifiedTime"),
)
WITH_INFO = (*INSTANCE, "contentInfo")
WITH_LABELS = (*WITH_INFO, "labels")
STATUS_MESSAGE = ("nodeResourceName", "time", "messageType")
RESPONSE = (*STATUS_MESSAGE, "method", "status", "resourcePath", "data")
NOTIFICATION = (*STATUS_MESSAGE, "resourcePath", "dataValue", "attributes")
STATUS = ("code", "message", "detail")
LABELS = ("d2c-uplink-property_Room:room123", "d2c-uplink-property_Floor:2")


def device_of(world: Any) -> Any:
    device = world.device(labels=LABELS)
    world.register(device)
    return device


def send(world: Any, content: Any, cnf: str | None = None) -> dict[str, Any]:
    instance = {"con": content} if cnf is None else {"con": content, "cnf": cnf}
    answer = world.post(f"{BASE}/outgoing-msg", 4, {"m2m:cin": instance})
    assert answer.status_code == 201, answer.text
    assert list(answer.json()) == ["contentInstance"]
    return answer.json()["contentInstance"]


def latest(world: Any, container: str, **headers: str) -> dict[str, Any]:
    answer = world.get(f"{BASE}/{container}/la", headers=headers)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["contentInstance"]
    return answer.json()["contentInstance"]


def has(found: dict[str, Any], *names: str) -> None:
    """The members of the sample are there, and each scalar one is of its kind."""
    assert [name for name in names if name not in found] == []
    if "resourceID" in names:
        assert len(found["resourceID"]) == 24
        assert len(found["creationTime"]) == len("20250717T140533,829000")


@pytest.mark.spec("D2C 14", "D2C 7.1")
def test_the_answer_to_a_posted_command(world: Any):
    device_of(world)
    has(send(world, "READ /3"), *INSTANCE)


@pytest.mark.spec("D2C 14", "D2C 7.2")
@pytest.mark.parametrize(
    ("content", "cnf"),
    [
        ("READ /6", None),
        ("READ /6; RD /3/0/0", None),
        ({"method": "GET", "path": "/3/0/13"}, "application/json:0"),
        ([{"method": "read", "path": "/6"}, {"method": "READ", "path": "/3/0/0"}], "application/json:0"),
    ],
)
def test_every_way_to_write_a_command(world: Any, content: Any, cnf: str | None):
    device_of(world)
    stored = send(world, content, cnf)
    has(stored, *(INSTANCE if cnf is None else WITH_INFO))
    assert stored["content"] == content
    world.answer(205, b"Maker", 0)
    has(latest(world, "received-msg")["content"], *RESPONSE)


@pytest.mark.spec("D2C 14", "D2C 7.1")
def test_what_was_sent(world: Any):
    device_of(world)
    posted = send(world, "READ /3")
    sent = latest(world, "sent-msg")
    has(sent, *INSTANCE, "labels")
    assert sent["labels"][0] == f"outgoing_msgRN:{posted['resourceName']}"
    assert sent["content"] == "READ /3"


@pytest.mark.spec("D2C 14", "D2C 8")
def test_an_answer_with_data(world: Any):
    device_of(world)
    send(world, "READ /3/0/0")
    world.answer(205, b"My Demo Device", 0)
    received = latest(world, "received-msg")
    has(received, *WITH_LABELS)
    # The first sample has the path under another name than the later ones.
    has(received["content"], *RESPONSE, "path")
    has(received["content"]["status"], *STATUS)
    assert received["content"]["data"] == {"3/0/0": "My Demo Device"}


@pytest.mark.spec("D2C 14", "D2C 8")
def test_an_answer_that_refuses(world: Any):
    device_of(world)
    send(world, "READ /3")
    world.answer(406)
    content = latest(world, "received-msg")["content"]
    has(content, *RESPONSE, "path")
    assert (content["status"]["code"], content["status"]["message"]) == (406, "not acceptable")


@pytest.mark.spec("D2C 14", "D2C 8")
@pytest.mark.parametrize(
    ("kind", "status", "word"),
    [
        (Kind.REGISTER, 201, "registration"),
        (Kind.UPDATE, 204, "update"),
        (Kind.EXPIRE, 0, "registration-expire"),
        (Kind.DEREGISTER, 202, "deregistration"),
    ],
)
def test_status_messages(world: Any, kind: Kind, status: int, word: str):
    device = device_of(world)
    world.commit((JournalEntry(kind, device.device_id, NOW_MS, status=status, path="/rd", payload=b"</3/0>"),))
    received = latest(world, "received-msg")
    has(received, *WITH_INFO)
    has(received["content"], *STATUS_MESSAGE)
    assert received["content"]["messageType"] == word


@pytest.mark.spec("D2C 14", "D2C 8")
@pytest.mark.parametrize(("command", "method"), [("EXECUTE /3/0/4", "exec"), ("WRITE /3/0/14 +01", "write")])
def test_answers_without_data(world: Any, command: str, method: str):
    device_of(world)
    send(world, command)
    world.answer(204)
    content = latest(world, "received-msg")["content"]
    has(content, *RESPONSE)
    has(content["status"], *STATUS)
    assert (content["method"], content["data"], content["status"]["detail"]) == (method, None, None)
    assert content["status"]["code"] == 200


@pytest.mark.spec("D2C 14", "D2C 8")
def test_a_notification(world: Any):
    device = device_of(world)
    world.commit(
        (
            JournalEntry(
                Kind.NOTIFY,
                device.device_id,
                NOW_MS,
                status=205,
                path="/3303/0/5602",
                content_format=0,
                payload=b"25.5",
            ),
        )
    )
    received = latest(world, "received-msg")
    has(received, *WITH_INFO)
    has(received["content"], *NOTIFICATION)
    assert (received["content"]["resourcePath"], received["content"]["attributes"]) == ("/3303/0/5602", {})


@pytest.mark.spec("D2C 14", "D2C 8")
def test_a_chain_of_messages_has_one_pair_of_labels(world: Any):
    device_of(world)
    send(world, "READ /1")
    waiting = send(world, {"method": "READ", "path": "/3/0/13"}, "application/json:0")
    has(latest(world, "outgoing-msg"), *WITH_INFO)
    assert latest(world, "outgoing-msg")["content"] == {"method": "READ", "path": "/3/0/13"}
    world.answer(205, b"", 0)
    sent = latest(world, "sent-msg")
    has(sent, *WITH_LABELS)
    world.answer(205, b"946684800", 0)
    received = latest(world, "received-msg")
    has(received, *WITH_LABELS)
    assert sent["labels"][:2] == received["labels"][:2]
    assert sent["labels"][0] == f"outgoing_msgRN:{waiting['resourceName']}"
    assert received["labels"][2:] == ["Room:room123", "Floor:2"]


@pytest.mark.spec("D2C 14", "D2C 9")
def test_the_details_below_a_node(world: Any):
    device = device_of(world)
    world.run(world.store.set_credential(device.device_id, Credential("test@test.com", "test123", created_ms=NOW_MS)))
    send(world, "READ /3/0/3; READ /3/0/13; READ /3/0/0")
    for payload in (b"1.0.0", b"1752761133", b"My Demo Device"):
        world.answer(205, payload, 0)
    answer = world.get("/device001?ty=13&rcn=8", headers={"X-M2M-Origin": "CAdmin"}).json()
    assert list(answer) == ["node"]
    assert list(answer["node"]) == ["credentials", "deviceInfo"]
    ((credentials,), (info,)) = answer["node"].values()
    common = ("mgmtDefinition", "resourceName", "resourceType", "resourceID", "parentID", "creationTime")
    has(credentials, *common, "lastModifiedTime", "description", "credentialID", "credentialSecret")
    has(info, *common, "lastModifiedTime", "deviceLabel", "deviceName", "fwVersion", "systemTime")
    assert (credentials["mgmtDefinition"], info["mgmtDefinition"]) == (1029, 1007)
    assert (credentials["credentialID"], credentials["credentialSecret"]) == ("test@test.com", "test123")
    assert (info["fwVersion"], info["systemTime"], info["deviceName"]) == ("1.0.0", "1752761133000", "My Demo Device")


@pytest.mark.spec("D2C 14", "D2C 8.1")
@pytest.mark.parametrize("full_name", ["true", None])
def test_a_node(world: Any, full_name: str | None):
    device = device_of(world)
    world.commit((JournalEntry(Kind.UPDATE, device.device_id, 1_738_537_906_296, status=204),))
    node = world.get("/device001", headers={"fullName": full_name, "X-M2M-Origin": "CDevice-Provisioning"}).json()[
        "node"
    ]
    has(node, "nodeID", "labels", "resourceName", "resourceType", "resourceID", "parentID")
    has(node, "creationTime", "lastModifiedTime")
    assert "updates_timestamp: 1738537906296" in node["labels"]
    assert node["parentID"] == "acme"
