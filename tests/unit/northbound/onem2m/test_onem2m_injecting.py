"""Messages that applications post into received-msg."""

import asyncio
from typing import Any

import pytest

from stellwerk.app.ports import StoreFailing, StoreOverloaded
from stellwerk.app.projected import Projected
from stellwerk.northbound.onem2m.request import DEEPEST

RECEIVED = "/device-communication/device001/received-msg"
STRICT = {"X-M2M-RVI": "4", "X-M2M-Origin": "CAdmin"}


def inject(world: Any, content: Any, **more: Any) -> Any:
    headers = more.pop("headers", {})
    return world.post(RECEIVED, 4, {"m2m:cin": {"con": content, **more}}, headers=headers)


@pytest.mark.spec("D2C 8")
def test_an_injected_message_is_readable_when_it_is_answered_and_keeps_its_originator(world: Any):
    world.device(labels=("d2c-uplink-property_Room:2035",))
    content = {"correlation_id": "x", "n": 1.50, "list": [None, True, "ä"]}
    answer = inject(world, content, cnf="application/json:0", lbl=["mine:1"], rn="my-name")
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (201, "2001")
    assert answer.headers["content-location"].endswith(f"/acme{RECEIVED}/my-name")
    shown = answer.json()["contentInstance"]
    assert shown["content"] == content
    assert shown["labels"] == ["mine:1", "Room:2035"]
    assert (shown["creator"], shown["contentInfo"], shown["stateTag"]) == ("CTestApp", "application/json:0", 1)
    assert shown["contentSize"] == len('{"correlation_id":"x","n":1.5,"list":[null,true,"ä"]}'.encode())
    assert world.get(f"{RECEIVED}/la").json()["contentInstance"] == shown
    assert world.get(f"{RECEIVED}/my-name").json()["contentInstance"] == shown


@pytest.mark.spec("D2C 8")
def test_a_name_is_chosen_where_none_is_given_and_strings_stay_strings(world: Any):
    world.device(labels=("d2c-uplink-property_Room:2035",))
    shown = inject(world, "hello").json()["contentInstance"]
    assert (shown["content"], shown["contentSize"]) == ("hello", 5)
    assert "contentInfo" not in shown
    assert len(shown["resourceName"]) == 36
    assert world.get(f"{RECEIVED}/{shown['resourceName']}").status_code == 200
    both = inject(world, "hello", lbl=["Room:2035", "mine:1"]).json()["contentInstance"]
    assert both["labels"] == ["Room:2035", "mine:1"]
    strict = inject(world, "hello", headers=STRICT).json()["m2m:cin"]
    assert strict["cr"] == "CAdmin"


@pytest.mark.spec("D2C 4.4", "D2C 8")
def test_a_name_that_is_taken_is_a_conflict(world: Any):
    world.device()
    world.device("second")
    assert inject(world, 1, rn="same").status_code == 201
    again = inject(world, 2, rn="same")
    assert (again.status_code, again.headers["x-m2m-rsc"]) == (409, "4105")
    assert len(world.get(f"{RECEIVED}?rcn=8").json()["m2m:cnt"]["m2m:cin"]) == 1
    other = RECEIVED.replace("device001", "second")
    assert world.post(other, 4, {"m2m:cin": {"con": 1, "rn": "same"}}).status_code == 201


@pytest.mark.spec("D2C 4.4")
def test_two_with_one_name_at_once_are_one_message(world: Any):
    device = world.device()
    find = world.store.projection.find_received

    async def slow(*arguments: Any, **more: Any) -> Any:
        found = await find(*arguments, **more)
        await asyncio.sleep(0)
        return found

    world.store.projection.find_received = slow

    async def both() -> list[Any]:
        post: Any = {"name": "same", "content": 1, "content_info": None, "creator": "CTestApp", "labels": ()}
        inject = world.services.injecting.inject
        return await asyncio.gather(inject(device, **post), inject(device, **post), return_exceptions=True)

    first, second = world.run(both())
    assert first.resource_name == "same"
    assert "exists already" in str(second)


@pytest.mark.spec("D2C 4.4", "D2C 8")
def test_a_name_that_is_stored_is_taken_also_while_the_projector_stands_still(world: Any):
    world.device()
    projection = world.store.projection
    real = projection.projected_seq, projection.find_received

    async def nothing(*arguments: Any, **more: Any) -> Any:
        return None

    async def behind() -> int:
        return 0

    world.services.injecting._projected = Projected(projection, within_s=0.01)
    projection.projected_seq, projection.find_received = behind, nothing
    assert inject(world, 1, rn="same").headers["x-m2m-rsc"] == "4008"
    again = inject(world, 2, rn="same")
    assert (again.status_code, again.headers["x-m2m-rsc"]) == (409, "4105")
    projection.projected_seq, projection.find_received = real
    assert inject(world, 3, rn="same").status_code == 409
    assert world.call("DELETE", f"{RECEIVED}/same").status_code == 200
    assert inject(world, 4, rn="same").status_code == 201
    assert len(world.get(f"{RECEIVED}?rcn=8").json()["m2m:cnt"]["m2m:cin"]) == 1


@pytest.mark.spec("D2C 4.4", "D2C 4.5")
@pytest.mark.parametrize(
    ("attributes", "status", "rsc", "says"),
    [
        ({"con": "x" * 2001}, 406, "5207", "2001 bytes"),
        ({"con": ["x" * 1998]}, 406, "5207", "2002 bytes"),
        ({}, 400, "4000", "con is missing"),
        ({"con": None}, 400, "4000", "con is missing"),
        ({"con": 1, "rn": "la"}, 400, "4000", "rn"),
        ({"con": 1, "rn": ".."}, 400, "4000", "rn"),
        ({"con": 1, "cnf": 5}, 400, "4000", "cnf"),
        ({"con": 1, "lbl": [1]}, 400, "4000", "lbl"),
        ({"con": 1, "cr": "CMe"}, 400, "4000", "cr"),
    ],
)
def test_what_is_no_message_leaves_nothing(world: Any, attributes: Any, status: int, rsc: str, says: str):
    world.device()
    answer = world.post(RECEIVED, 4, {"m2m:cin": attributes})
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (status, rsc)
    assert says in answer.json()["m2m:dbg"]
    assert world.get(f"{RECEIVED}/la").status_code == 404


@pytest.mark.spec("D2C 8")
def test_only_contents_and_only_for_devices_that_are_there(world: Any):
    world.device()
    assert world.post(RECEIVED, 3, {"m2m:cnt": {}}).headers["x-m2m-rsc"] == "4108"
    nobody = world.post("/device-communication/nobody/received-msg", 4, {"m2m:cin": {"con": 1}})
    assert nobody.headers["x-m2m-rsc"] == "4004"
    assert world.post("/device-communication/device001/sent-msg", 4, {"m2m:cin": {"con": 1}}).status_code == 405


def test_the_deepest_content_that_is_taken_can_be_shown(world: Any):
    world.device()
    inner = DEEPEST - 2
    content: Any = "leaf"
    for _ in range(inner):
        content = [content]
    assert inject(world, content).status_code == 201
    assert world.get(f"{RECEIVED}/la").json()["contentInstance"]["content"] == content
    assert inject(world, [content]).status_code == 400


@pytest.mark.spec("D2C 8")
def test_a_projector_that_is_far_behind_is_told_as_such(world: Any):
    world.device()

    async def stuck() -> int:
        return 0

    world.store.projection.projected_seq = stuck
    world.services.injecting._projected = Projected(world.store.projection, within_s=0.01)
    answer = inject(world, 1)
    assert (answer.status_code, answer.headers["x-m2m-rsc"]) == (504, "4008")
    assert "stored" in answer.json()["m2m:dbg"]
    assert "do not repeat" in answer.json()["m2m:dbg"]


@pytest.mark.parametrize("trouble", [StoreOverloaded(7), StoreFailing("disk full")])
def test_a_store_in_trouble_says_what_it_cannot_do_and_when_to_come_again(world: Any, trouble: Exception, capsys: Any):
    world.device()
    world.store.submit = lambda commit: commit.done(trouble)
    answer = inject(world, 1)
    assert (answer.headers["x-m2m-rsc"], answer.headers["retry-after"]) == ("5000", "1")
    assert answer.json()["m2m:dbg"] == str(trouble)
    assert "Traceback" not in capsys.readouterr().err


def test_a_store_that_fails_stores_nothing_and_says_so(world: Any):
    world.device()

    def failing(commit: Any) -> None:
        commit.done(OSError("disk"))

    world.store.submit = failing
    assert inject(world, 1, rn="x").headers["x-m2m-rsc"] == "5000"
    del world.store.submit
    assert inject(world, 1, rn="x").status_code == 201
