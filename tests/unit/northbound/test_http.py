"""Health, the OpenAPI document, and addresses that belong to no face."""

from typing import Any

import pytest


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
    assert (answer.status_code, answer.json()["missing"]) == (503, ["store"])


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
