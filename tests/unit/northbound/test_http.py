"""Health, the OpenAPI document, and addresses that belong to no face."""

from typing import Any

import pytest

from stellwerk.app.ports import StoreFailing, StoreOverloaded
from stellwerk.northbound.http import build_http


def test_the_process_is_alive_without_a_token(world: Any):
    answer = world.get("/health/live", mount="", headers={"Authorization": None})
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_may_be_asked_without_a_body(world: Any, path: str):
    answer = world.call("HEAD", path, mount="")
    assert (answer.status_code, answer.content) == (200, b"")


def test_traffic_may_come_once_nothing_is_missing(world: Any):
    world.missing.append("coap")
    answer = world.get("/health/ready", mount="")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "missing": ["coap"]})
    world.missing.clear()
    assert world.get("/health/ready", mount="").status_code == 200


def test_a_silent_store_means_not_ready(world: Any):
    async def failing() -> None:
        raise OSError("gone")

    world.store.check = failing
    answer = world.get("/health/ready", mount="")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["store: gone"])


def test_a_store_that_cannot_write_means_not_ready_and_says_why(world: Any):
    async def failing() -> None:
        raise StoreFailing("database or disk is full")

    world.store.check = failing
    answer = world.get("/health/ready", mount="")
    assert answer.status_code == 503
    assert "database or disk is full" in answer.json()["missing"][0]
    assert world.get("/health/live", mount="").status_code == 200


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        (StoreFailing("database or disk is full"), "disk is full"),
        (StoreOverloaded(20_000), "20000 writes wait for the disk"),
    ],
)
def test_what_cannot_be_stored_is_a_5xx_that_says_why_and_when_to_come_again(world: Any, trouble: Exception, text: str):
    world.register(world.device())

    async def post_outgoing(*arguments: Any) -> None:
        raise trouble

    world.store.post_outgoing = post_outgoing
    answer = world.post("/device-communication/device001/outgoing-msg", 4, {"m2m:cin": {"con": "READ /3/0/0"}})
    assert answer.status_code == 500
    assert text in answer.json()["m2m:dbg"]
    assert int(answer.headers["retry-after"]) > 0


def test_a_route_outside_the_tree_says_it_too(world: Any):
    async def fetch() -> None:
        raise StoreFailing("database or disk is full")

    world.app = build_http(world.services)
    world.app.add_api_route("/fetch", fetch)
    answer = world.get("/fetch", mount="")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "database or disk is full" in answer.json()["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/health/live", 405)])
def test_an_address_outside_the_tree_is_refused_in_the_platforms_shape(world: Any, method: str, path: str, status: int):
    answer = world.call(method, path, mount="")
    assert answer.status_code == status
    assert set(answer.json()) == {"status", "message", "errorCode", "timestamp"}
    assert answer.json()["status"] == status


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_document_describes_the_routes_of_the_tree(world: Any, path: str):
    document = world.get(path, mount="").json()
    base = "/device-management-orchestrator/v3/{tenant}"
    assert "post" in document["paths"][f"{base}/device-communication/{{device}}/outgoing-msg"]
    assert "get" in document["paths"][f"{base}/{{device}}"]
    assert "get" in document["paths"]["/health/ready"]


def test_a_loopback_token_is_refused_from_elsewhere(world: Any):
    demo = {"Authorization": "Bearer demo"}
    assert world.get("", headers=demo).status_code == 200
    assert world.get("", headers=demo, client=("192.0.2.7", 5)).status_code == 401
    assert world.get("", headers={**demo, "X-Forwarded-For": "127.0.0.1"}).status_code == 401
