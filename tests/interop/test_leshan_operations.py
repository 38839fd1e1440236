"""Leshan's client under every operation: instances that come and go, every type both ways, Send with times."""

# ruff: noqa: F811 - a fixture has the name of the parameter that asks for it
import base64
from collections.abc import Callable
from typing import Any

import pytest
from leshan_client import LeshanClient
from leshan_fixtures import leshan, name, needs_leshan, server  # noqa: F401 - fixtures
from served import Served

pytestmark = needs_leshan

OPAQUE = base64.b64encode(bytes(range(256))).decode()

VALUES: list[tuple[int, list[Any]]] = [
    (110, ["", "kalt und naß 🌧", "x" * 3000]),
    (120, [0, -1, 127, -128, 32767, -32768, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]),
    (125, [0, 255, 2**32 - 1, 2**53 + 1, 2**63, 2**64 - 1]),
    (130, [0.0, -0.5, 1e-300, -1.7976931348623157e308, 21.1]),
    (140, [True, False]),
    (150, ["", OPAQUE]),
    (170, ["0:0", "10:3", "65535:65535"]),
]
"""Resources of the test object by type, each with values at the edges of it."""


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize(("resource", "values"), VALUES, ids=[str(each[0]) for each in VALUES])
@pytest.mark.parametrize("answers_in", ["TLV", "SENML_CBOR", "SENML_JSON"])
def test_every_type_is_written_to_leshan_and_read_back_as_it_was(
    server: Served, name: str, leshan: Callable[..., LeshanClient], answers_in: str, resource: int, values: list[Any]
) -> None:
    leshan(answers_in=answers_in)
    path = f"/3442/0/{resource}"
    for value in values:
        written = server.api.run(name, {"method": "WRITE", "path": path, "value": value})["content"]
        assert written["status"]["code"] == 200, (value, written)
        assert server.api.run(name, f"READ {path}")["content"]["data"] == {path[1:]: value}


@pytest.mark.spec("LwM2M-contract 8.1", "D-6")
@pytest.mark.parametrize(("resource", "values"), VALUES, ids=[str(each[0]) for each in VALUES])
def test_resource_instances_of_every_type_are_written_to_leshan_and_read_back(
    server: Served, name: str, leshan: Callable[..., LeshanClient], resource: int, values: list[Any]
) -> None:
    leshan()
    path = f"/3442/0/{1000 + resource}"
    many = {str(index * 1000): value for index, value in enumerate(values)}
    written = server.api.run(name, {"method": "WRITE", "path": path, "value": many})["content"]
    assert written["status"]["code"] == 200, written
    assert server.api.run(name, f"READ {path}")["content"]["data"] == {
        f"{path[1:]}/{index}": value for index, value in many.items()
    }
    assert server.api.run(name, f"READ {path}/1000")["content"]["data"] == {f"{path[1:]}/1000": values[1]}


@pytest.mark.spec("D-9", "D-10", "ETS 1630", "ETS 1635")
def test_instances_are_created_in_leshan_under_our_number_and_its_own_and_deleted(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    leshan()

    def run(command: str) -> dict[str, Any]:
        # Leshan tells of its instances in an Update that may come right behind.
        (answer,) = server.answers(name, server.api.command(name, command))
        return answer

    made = run('CREATE /16/3 {"0": {"0": "Host", "1": "Maker"}}')
    assert made["status"]["code"] == 200, made
    assert run("READ /16")["data"] == {"16/3/0/0": "Host", "16/3/0/1": "Maker"}
    chosen = run('CREATE /16 {"0": {"0": "Other"}}')
    assert chosen["status"]["code"] == 200, chosen
    found = run("READ /16")["data"]
    (other,) = {path.split("/")[1] for path in found} - {"3"}
    assert found[f"16/{other}/0/0"] == "Other"
    for instance in ("3", other):
        assert run(f"DELETE /16/{instance}")["status"]["code"] == 200
    assert run("READ /16/3")["status"]["code"] == 404


@pytest.mark.spec("D-13", "ETS 260")
def test_attributes_of_several_levels_are_told_by_leshan(
    server: Served, name: str, leshan: Callable[..., LeshanClient]
) -> None:
    leshan()
    for path in ("/3?pmin=10&pmax=200", "/3/0/9?lt=1&gt=6&st=1"):
        assert server.api.run(name, f"WRITE-ATTRIBUTES {path}")["content"]["status"]["code"] == 200
    told = server.api.run(name, "DISCOVER /3")["content"]["data"]
    assert told["3"].items() >= {"pmin": 10, "pmax": 200}.items()
    assert told["3/0/9"] == {"lt": 1, "gt": 6, "st": 1}
    assert server.api.run(name, "WRITE-ATTRIBUTES /3/0/9?st")["content"]["status"]["code"] == 200
    assert server.api.run(name, "DISCOVER /3/0/9")["content"]["data"]["3/0/9"].get("st") is None


@pytest.mark.spec("D-15", "ETS 311")
@pytest.mark.parametrize("sent_in", ["SENML_CBOR", "SENML_JSON"])
def test_every_time_of_a_leshan_send_is_kept_and_the_newest_is_the_value(
    server: Served, name: str, leshan: Callable[..., LeshanClient], sent_in: str
) -> None:
    client = leshan()
    levels = (50, 49, 48)
    for level in levels:
        client.order(f"battery {level}")
        client.order("collect")
        client.wait_said("collected")
    client.order(f"flush {sent_in}")
    client.wait_said("flushed")
    assert server.api.wait_type(name, "send")["content"]["data"] == {"3/0/9": 48, "3/0/11/0": 0}
    server.wait_projected()
    # Whatever was read when it registered beside.
    assert sorted({*server.values("/3/0/9", name)} - {77}) == sorted(levels)
