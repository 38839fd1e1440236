"""Commands and messages over HTTP, against the published samples."""

from typing import Any

import pytest

from stellwerk.device.profile import Profile, ProfileRecord

CIN = ["content", "resourceType", "contentSize", "stateTag", "creator", "resourceName", "resourceID", "parentID"]
TIMES = ["creationTime", "lastModifiedTime"]
OUTGOING = "/device-communication/device001/outgoing-msg"
SENT = "/device-communication/device001/sent-msg"
RECEIVED = "/device-communication/device001/received-msg"
LATER = "600000"
"""Milliseconds for which a command may wait for a device that is not registered."""


def command(content: Any, **more: Any) -> dict[str, Any]:
    return {"m2m:cin": {"con": content, **more}}


@pytest.mark.spec("D2C 7.1", "D2C 14")
def test_a_posted_command_is_answered_as_the_sample_shows(world: Any):
    world.register(world.device())
    answer = world.post(OUTGOING, 4, command("READ /3"))
    assert answer.status_code == 201
    assert list(answer.json()) == ["contentInstance"]
    instance = answer.json()["contentInstance"]
    assert list(instance) == CIN + TIMES
    assert (instance["content"], instance["contentSize"], instance["resourceType"]) == ("READ /3", 7, 4)
    assert instance["creator"] == "CTestApp"
    assert instance["creationTime"] == instance["lastModifiedTime"] == "20250717T140533,829000"
    assert len(instance["resourceName"]) == 36
    assert len(bytes.fromhex(instance["resourceID"])) == len(bytes.fromhex(instance["parentID"])) == 12


@pytest.mark.spec("D2C 3")
def test_an_answer_carries_the_headers_of_onem2m(world: Any):
    world.register(world.device())
    answer = world.post(OUTGOING, 4, command("READ /3", rn="my-command"))
    assert answer.headers["x-m2m-rsc"] == "2001"
    assert answer.headers["x-m2m-ri"] == "123"
    assert answer.headers["x-m2m-rvi"] == "4"
    assert answer.headers["x-m2m-ot"] == "2025-07-17T14:05:33.829Z"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["content-location"] == f"/device-management-orchestrator/v3/acme{OUTGOING}/my-command"


@pytest.mark.spec("D2C 7.1", "D2C 8", "D2C 14")
def test_a_command_moves_to_sent_and_its_answer_appears_in_received(world: Any):
    world.register(world.device(labels=("d2c-uplink-property_Room:room123", "other:1")))
    rn = world.post(OUTGOING, 4, command("READ /3/0/0")).json()["contentInstance"]["resourceName"]
    assert world.get(f"{OUTGOING}/la").status_code == 404
    sent = world.get(f"{SENT}/la").json()["contentInstance"]
    assert list(sent) == ["content", "labels", *CIN[1:], *TIMES]
    assert (sent["content"], sent["creator"], sent["contentSize"]) == ("READ /3/0/0", "CNI-IPE", 11)
    world.answer(205, b"My Demo Device", 0)
    answer = world.get(f"{RECEIVED}/la")
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (200, "2000")
    received = answer.json()["contentInstance"]
    assert list(received) == ["content", "labels", "contentInfo", *CIN[1:], *TIMES]
    content = received["content"]
    sample = {"nodeResourceName", "time", "messageType", "method", "status", "resourcePath", "data"}
    assert sample <= set(content)
    assert content["data"] == {"3/0/0": "My Demo Device"}
    assert content["status"]["code"] == 200
    assert received["labels"][:2] == sent["labels"][:2]
    assert received["labels"][0] == f"outgoing_msgRN:{rn}"
    assert "Room:room123" in received["labels"]
    assert received["contentInfo"] == "application/json:0"


@pytest.mark.spec("D2C 7.2", "D2C 14")
@pytest.mark.parametrize(
    ("attributes", "operations"),
    [
        ({"con": "READ /6"}, ["Read(path=Path(6), accept=None)"]),
        (
            {"con": "READ /6; RD /3/0/0"},
            ["Read(path=Path(6), accept=None)", "Read(path=Path(3, 0, 0), accept=None)"],
        ),
        (
            {"con": {"method": "GET", "path": "/3303/0/5700"}, "cnf": "application/json:0"},
            ["Read(path=Path(3303, 0, 5700), accept=None)"],
        ),
        (
            {
                "con": [{"method": "read", "path": "/6"}, {"method": "READ", "path": "/3/0/0"}],
                "cnf": "application/json:0",
            },
            ["Read(path=Path(6), accept=None)", "Read(path=Path(3, 0, 0), accept=None)"],
        ),
    ],
)
def test_every_command_form_of_the_seed_reaches_the_device(
    world: Any, attributes: dict[str, Any], operations: list[str]
):
    world.register(world.device())
    answer = world.post(OUTGOING, 4, {"m2m:cin": attributes})
    assert answer.status_code == 201
    assert answer.json()["contentInstance"]["content"] == attributes["con"]
    assert answer.json()["contentInstance"].get("contentInfo") == attributes.get("cnf")
    done = []
    while world.link.sent:
        done.append(repr(world.link.sent[0][1]))
        world.answer(404)
    assert done == operations
    contents = [each["content"] for each in listing(world, SENT)]
    wanted = attributes["con"]
    if isinstance(wanted, str):
        wanted = wanted.split("; ")
    assert contents[::-1] == (wanted if isinstance(wanted, list) else [wanted])


def listing(world: Any, container: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = world.get(container, params={"rcn": 4, **parameters}, headers={"fullName": "true"})
    assert answer.status_code == 200, answer.text
    return answer.json()["container"].get("contentInstance", [])


@pytest.mark.spec("D2C 0.9")
def test_content_size_counts_the_bytes_of_compact_json(world: Any):
    world.register(world.device())
    content = {"method": "READ", "path": "/3303/0/5700", "value": None}
    answer = world.post(OUTGOING, 4, command(content, cnf="application/json:0"))
    assert answer.json()["contentInstance"]["contentSize"] == 52
    assert world.post(OUTGOING, 4, command("WRITE /3/0/14 ü")).json()["contentInstance"]["contentSize"] == 16


@pytest.mark.spec("D2C 7.1", "D2C 12")
@pytest.mark.parametrize(
    ("content", "code"), [("WRITE /3/0/14", 400), ("JUMP /3", 405), ("READ 3", 404), (True, 415), ("READ /3", 408)]
)
def test_a_command_that_cannot_be_sent_is_stored_and_answered_in_received(world: Any, content: Any, code: int):
    world.device()
    answer = world.post(OUTGOING, 4, command(content))
    assert answer.status_code == 201
    rn = answer.json()["contentInstance"]["resourceName"]
    received = world.get(f"{RECEIVED}/la").json()["contentInstance"]
    assert received["content"]["status"]["code"] == code
    assert received["content"]["data"] is None
    assert received["labels"][0] == f"outgoing_msgRN:{rn}"
    assert world.get(f"{SENT}/la").status_code == 404
    assert world.get(f"{OUTGOING}/la").status_code == 404


@pytest.mark.spec("D2C 4.4")
def test_a_waiting_command_is_found_by_every_name(world: Any):
    world.register(world.device())
    world.post(OUTGOING, 4, command("READ /1"))
    names = [f"wait-{number}" for number in range(3)]
    for name in names:
        assert world.post(OUTGOING, 4, command("READ /3", rn=name)).status_code == 201
    assert world.get(f"{OUTGOING}/la").json()["contentInstance"]["resourceName"] == "wait-2"
    assert world.get(f"{OUTGOING}/ol").json()["contentInstance"]["resourceName"] == "wait-0"
    assert world.get(f"{OUTGOING}/wait-1").json()["contentInstance"]["content"] == "READ /3"
    assert world.get(f"{OUTGOING}/wait-9").status_code == 404
    assert [each["resourceName"] for each in listing(world, OUTGOING)] == names[::-1]


@pytest.mark.spec("D2C 4.4")
def test_a_container_says_what_it_holds_and_what_it_may_hold(world: Any):
    world.register(world.device())
    world.post(OUTGOING, 4, command("READ /1"))
    world.post(OUTGOING, 4, command("READ /3"))
    container = world.get(OUTGOING, headers={"fullName": "true"}).json()["container"]
    assert container["currentNrOfInstances"] == 1
    assert container["currentByteSize"] == 7
    assert container["stateTag"] == 2
    assert container["maxNrOfInstances"] == 5
    assert container["maxByteSize"] == 2000
    assert container["resourceName"] == "outgoing-msg"
    waiting = world.get(f"{OUTGOING}/la").json()["contentInstance"]
    assert waiting["parentID"] == container["resourceID"]
    parent = world.get("/device-communication/device001").json()["m2m:cnt"]
    assert container["parentID"] == parent["ri"]


@pytest.mark.spec("D2C 4.3")
def test_a_listing_pages_newest_first_and_says_where_it_goes_on(world: Any):
    world.device()
    for _ in range(5):
        world.post(OUTGOING, 4, command("JUMP"))
    tags = [each["stateTag"] for each in listing(world, RECEIVED)]
    assert tags == [5, 4, 3, 2, 1]
    answer = world.get(f"{RECEIVED}?rcn=4&limit=2&offset=1")
    assert [each["st"] for each in answer.json()["m2m:cnt"]["m2m:cin"]] == [4, 3]
    assert (answer.headers["x-m2m-cts"], answer.headers["x-m2m-cto"]) == ("1", "3")
    rest = world.get(f"{RECEIVED}?rcn=8&lim=2&ofst=3")
    assert list(rest.json()["m2m:cnt"]) == ["m2m:cin"]
    assert "x-m2m-cts" not in rest.headers


@pytest.mark.spec("D2C 4.4")
def test_a_full_outgoing_container_refuses_and_keeps_what_waits(world: Any):
    world.register(world.device())
    for _ in range(6):
        assert world.post(OUTGOING, 4, command("READ /3")).status_code == 201
    answer = world.post(OUTGOING, 4, command("READ /3"))
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (406, "5207")
    assert len(listing(world, OUTGOING)) == 5


@pytest.mark.spec("D2C 4.4")
def test_a_command_larger_than_the_container_is_refused(world: Any):
    world.register(world.device())
    answer = world.post(OUTGOING, 4, command("WRITE /3/0/14 " + "x" * 2000))
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (406, "5207")
    assert "2014" in answer.json()["m2m:dbg"]


@pytest.mark.spec("D2C 4.1")
@pytest.mark.parametrize(
    "body",
    [
        {"m2m:cin": {"con": "READ /3", "lbl": ["a:b"]}},
        {"contentInstance": {"content": "READ /3", "labels": ["a:b"]}},
        {"m2m:cin": {"content": "READ /3", "lbl": ["a:b"]}},
    ],
)
def test_short_full_and_mixed_names_are_understood(world: Any, body: dict[str, Any]):
    world.register(world.device())
    instance = world.post(OUTGOING, 4, body).json()["contentInstance"]
    assert (instance["content"], instance["labels"]) == ("READ /3", ["a:b"])


@pytest.mark.spec("D2C 4.2")
@pytest.mark.parametrize(
    ("mount", "headers", "full"),
    [
        ("/device-management-orchestrator/v3/acme", {}, True),
        ("/device-management-orchestrator/v3/acme", {"fullName": "false"}, False),
        ("/device-management-orchestrator/v3/acme", {"FULLNAME": "TRUE"}, True),
        ("/device-management-orchestrator/v3/acme", {"X-M2M-RVI": "3", "X-M2M-Origin": "CAdmin"}, False),
        (
            "/device-management-orchestrator/v3/acme",
            {"X-M2M-RVI": "3", "X-M2M-Origin": "CAdmin", "fullName": "true"},
            True,
        ),
        ("/onem2m/acme", {}, False),
        ("/onem2m/acme", {"fullName": "true"}, True),
    ],
)
def test_the_names_of_an_answer_follow_header_release_and_mount(
    world: Any, mount: str, headers: dict[str, str], full: bool
):
    world.register(world.device())
    answer = world.post(OUTGOING, 4, command("READ /3"), mount=mount, headers=headers)
    assert answer.status_code == 201, answer.text
    assert list(answer.json()) == ["contentInstance" if full else "m2m:cin"]
    (instance,) = answer.json().values()
    assert ("content" in instance, "con" in instance) == (full, not full)


@pytest.mark.spec("D2C 4.1", "D2C 0.10")
def test_a_strict_client_gets_a_creator_only_where_it_asks(world: Any):
    world.register(world.device())
    strict = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}
    plain = world.post(OUTGOING, 4, command("READ /3"), headers=strict)
    assert "cr" not in plain.json()["m2m:cin"]
    assert plain.headers["x-m2m-rvi"] == "4"
    assert plain.headers["x-m2m-ot"] == "20250717T140533,829000"
    asked = world.post(OUTGOING, 4, command("READ /3", cr=None), headers=strict)
    assert asked.json()["m2m:cin"]["cr"] == "CAdmin"


@pytest.mark.spec("D2C 4.5")
def test_a_name_that_is_taken_is_a_conflict(world: Any):
    world.register(world.device())
    world.post(OUTGOING, 4, command("READ /1"))
    assert world.post(OUTGOING, 4, command("READ /3", rn="one")).status_code == 201
    answer = world.post(OUTGOING, 4, command("READ /3", rn="one"))
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (409, "4105")


@pytest.mark.spec("D2C 4.3")
def test_a_create_may_ask_for_no_content(world: Any):
    world.register(world.device())
    answer = world.post(f"{OUTGOING}?rcn=0", 4, command("READ /3"))
    assert (answer.status_code, answer.content) == (201, b"")


@pytest.mark.spec("QM-5", "D2C 7.3")
def test_a_message_that_waits_says_where_it_stands_and_what_for(world: Any):
    world.device()
    first = world.post(OUTGOING, 4, command("READ /3/0/0", rn="first", lbl=["mine:1"], et=LATER))
    assert first.status_code == 201
    world.post(OUTGOING, 4, command("READ /3/0/1", rn="second", lbl=["priority:5"], et=LATER))
    shown = world.get(f"{OUTGOING}/first").json()["contentInstance"]["labels"]
    assert shown == ["mine:1", "queue_position:2", "queue_length:2", "waits_for:registration"]
    shown = world.get(f"{OUTGOING}/second").json()["contentInstance"]["labels"]
    assert shown == ["priority:5", "queue_position:1", "queue_length:2", "waits_for:registration"]


@pytest.mark.spec("QM-5")
def test_a_label_that_is_no_priority_is_refused_and_nothing_is_stored(world: Any):
    world.register(world.device())
    answer = world.post(OUTGOING, 4, command("READ /3/0/0", lbl=["priority:urgent"]))
    assert answer.status_code == 400
    assert "priority='urgent': a whole number from -100 to 100" in answer.text
    assert world.get(f"{SENT}/la").status_code == 404


@pytest.mark.spec("QM-5")
def test_a_full_queue_is_said_with_how_many_wait(world: Any):
    device = world.device()
    profile = ProfileRecord(device.tenant_id, device.profile, Profile(queue_length=2), 1, 1)
    world.run(world.store.put_profile(profile))
    world.run(world.profiles.refresh())
    assert world.post(OUTGOING, 4, command("READ /3/0/0; READ /3/0/1", et=LATER)).status_code == 201
    answer = world.post(OUTGOING, 4, command("READ /3/0/2", et=LATER))
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (406, "5207")
    assert "2 commands wait for the device already, 2 may; 1 more are too many" in answer.text
