"""Messages that are deleted, commands that are cancelled or wait no longer than they may."""

from typing import Any

import pytest

from stellwerk.northbound.onem2m.identifiers import timestamp

BASE = "/device-communication/device001"
OUTGOING, SENT, RECEIVED = f"{BASE}/outgoing-msg", f"{BASE}/sent-msg", f"{BASE}/received-msg"
STRICT = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}
WAIT = 60_000


def post(world: Any, content: Any, **more: Any) -> Any:
    headers = more.pop("headers", {})
    return world.post(OUTGOING, 4, {"m2m:cin": {"con": content, **more}}, headers=headers)


def names(world: Any, container: str) -> list[str]:
    """Newest first."""
    return [each["rn"] for each in world.get(f"{container}?rcn=8").json()["m2m:cnt"].get("m2m:cin", [])]


def answers(world: Any) -> list[tuple[int, str]]:
    """Code and reason of the responses in received-msg, oldest first."""
    found = world.get(f"{RECEIVED}?rcn=8").json()["m2m:cnt"].get("m2m:cin", [])
    return [(each["con"]["status"]["code"], each["con"]["status"]["reason"]) for each in reversed(found)]


@pytest.mark.spec("D2C 4.4", "D2C 7.1", "D2C 12")
def test_deleting_an_outgoing_message_cancels_what_waits_and_answers_it(world: Any):
    world.device(labels=("d2c-uplink-property_Room:1",))
    stored = post(world, "READ /3/0/0; READ /6", et=WAIT, rn="mine").json()["contentInstance"]
    answer = world.call("DELETE", f"{OUTGOING}/{stored['resourceName']}")
    assert (answer.status_code, answer.headers["x-m2m-rsc"], answer.content) == (200, "2002", b"")
    assert names(world, OUTGOING) == []
    assert answers(world) == [(408, "cancelled"), (408, "cancelled")]
    labels = world.get(f"{RECEIVED}/la").json()["contentInstance"]["labels"]
    assert labels[0] == "outgoing_msgRN:mine"
    assert labels[2] == "Room:1"
    assert world.call("DELETE", f"{OUTGOING}/mine").headers["x-m2m-rsc"] == "4004"


@pytest.mark.spec("D2C 7.1")
def test_what_was_sent_already_goes_on_when_the_rest_is_cancelled(world: Any):
    world.register(world.device())
    post(world, "READ /3/0/0; READ /6", rn="mine")
    assert names(world, SENT) != []
    assert world.call("DELETE", f"{OUTGOING}/mine").status_code == 200
    assert answers(world) == [(408, "cancelled")]
    world.answer(205, b"ACME", 0)
    assert answers(world) == [(408, "cancelled"), (200, "ok")]
    assert world.link.sent == []


@pytest.mark.spec("D2C 7.1")
def test_a_message_whose_last_command_is_on_its_way_cannot_be_cancelled(world: Any):
    world.register(world.device())
    submit = world.store.submit
    held: list[Any] = []
    world.store.submit = held.append
    post(world, "READ /3/0/0", rn="mine")
    assert names(world, OUTGOING) == ["mine"]
    answer = world.call("DELETE", f"{OUTGOING}/mine")
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (405, "4005")
    assert "sent already" in answer.json()["m2m:dbg"]
    world.store.submit = submit

    async def stored() -> None:
        for commit in held:
            submit(commit)

    world.run(stored())
    world.settle()
    world.answer(205, b"ACME", 0)
    assert answers(world) == [(200, "ok")]


@pytest.mark.spec("D2C 4.4")
def test_the_newest_and_the_oldest_waiting_message_are_cancelled_by_their_short_names(world: Any):
    world.device()
    for name in ("one", "two", "three"):
        post(world, "READ /3", et=WAIT, rn=name)
    world.call("DELETE", f"{OUTGOING}/la")
    assert names(world, OUTGOING) == ["two", "one"]
    world.call("DELETE", f"{OUTGOING}/ol")
    assert names(world, OUTGOING) == ["two"]


@pytest.mark.spec("D2C 4.4")
@pytest.mark.parametrize("container", [SENT, RECEIVED])
def test_stored_messages_are_deleted_by_name_newest_and_oldest(world: Any, container: str):
    world.register(world.device())
    for _ in range(4):
        post(world, "READ /3/0/0")
        world.answer(205, b"ACME", 0)
    before = names(world, container)
    tag = world.get(f"{container}?rcn=1").json()["m2m:cnt"]["st"]
    assert len(before) == 4
    answer = world.call("DELETE", f"{container}/{before[1]}")
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (200, "2002")
    assert names(world, container) == [before[0], before[2], before[3]]
    world.call("DELETE", f"{container}/la")
    assert names(world, container) == [before[2], before[3]]
    world.call("DELETE", f"{container}/ol")
    assert names(world, container) == [before[2]]
    assert world.call("DELETE", f"{container}/{before[1]}").headers["x-m2m-rsc"] == "4004"
    state = world.get(container).json()["m2m:cnt"]
    assert (state["cni"], state["st"]) == (1, tag)
    world.call("DELETE", f"{container}/ol")
    for name in ("la", "ol"):
        assert world.call("DELETE", f"{container}/{name}").headers["x-m2m-rsc"] == "4004"


@pytest.mark.spec("D2C 4.4")
@pytest.mark.parametrize("name", ["la", "ol", "mine"])
def test_a_message_cannot_be_changed(world: Any, name: str):
    world.device()
    world.post(RECEIVED, 4, {"m2m:cin": {"con": 1, "rn": "mine"}})
    answer = world.call("PUT", f"{RECEIVED}/{name}", json={"m2m:cin": {"con": 2}})
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (405, "4005")
    assert world.get(f"{RECEIVED}/la").json()["contentInstance"]["content"] == 1


def test_deleting_one_message_of_a_device_leaves_those_of_others(world: Any):
    world.device()
    world.device("second")
    for device in ("device001", "second"):
        world.post(f"/device-communication/{device}/received-msg", 4, {"m2m:cin": {"con": 1, "rn": "mine"}})
    world.call("DELETE", f"{RECEIVED}/mine")
    assert names(world, "/device-communication/second/received-msg") == ["mine"]


@pytest.mark.spec("D2C 4.3")
def test_a_delete_answers_no_attributes(world: Any):
    world.device()
    world.post(RECEIVED, 4, {"m2m:cin": {"con": 1, "rn": "mine"}})
    assert world.call("DELETE", f"{RECEIVED}/mine?rcn=1").headers["x-m2m-rsc"] == "5001"
    assert world.call("DELETE", f"{RECEIVED}/mine?rcn=0").headers["x-m2m-rsc"] == "2002"


@pytest.mark.spec("D2C 7.3")
@pytest.mark.parametrize("form", ["relative", "text", "absolute"])
def test_a_command_waits_as_long_as_its_message_says(world: Any, form: str):
    world.device()
    until = {"relative": WAIT, "text": str(WAIT), "absolute": timestamp(world.clock.ms + WAIT)}[form]
    assert post(world, "READ /3/0/0", et=until).status_code == 201
    world.clock.ms += WAIT - 1
    world.run(world.commands.delivery.look())
    world.settle()
    assert answers(world) == []
    world.clock.ms += 2
    world.run(world.commands.delivery.look())
    world.settle()
    assert answers(world) == [(408, "timeout-binding")]
    assert names(world, OUTGOING) == []


@pytest.mark.spec("D2C 7.3")
def test_without_a_time_a_command_for_nobody_is_over_at_once(world: Any):
    world.device()
    assert post(world, "READ /3/0/0").status_code == 201
    assert answers(world) == [(408, "timeout-binding")]


@pytest.mark.spec("D2C 4.1")
def test_a_strict_client_sees_the_time_it_gave(world: Any):
    world.device()
    until = timestamp(world.clock.ms + WAIT)
    assert post(world, "READ /3", et=until, headers=STRICT).json()["m2m:cin"]["et"] == until
    assert "et" not in post(world, "READ /3", et=until).json()["contentInstance"]
