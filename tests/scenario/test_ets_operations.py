"""OMA's enabler tests of device management, INT 201 to 281: a simulated device with the configuration of the case,
commands as applications write them (contract §14).

In which format the server asks and writes follows from what the device registers, so a device that has one format alone
shows that one."""

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.operations import Delete, Operation, Read, Write, WriteAttributes
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.model import Operations
from tests.scenario.lab import Client, Lab
from tests.scenario.test_ets_registration import path_of, query_of, requests_of_device

TEXT, CBOR, SENML_JSON, SENML_CBOR, TLV, JSON, LWM2M_CBOR = 0, 60, 110, 112, 11542, 11543, 11544
SERVER_SET = {"2": 101, "3": 1010, "5": 2000, "6": True, "7": "U"}


def option(message: Message, number: int) -> int | None:
    return next((int.from_bytes(value, "big") for each, value in message.options if each == number), None)


def last_request(lab: Lab) -> Message:
    """What the server asked last."""
    return [each for each in lab.sent(to_device=True) if codes.is_request(each.code)][-1]


def last_answer(lab: Lab) -> Message:
    """What the device answered last."""
    return [each for each in lab.sent(to_device=False) if codes.is_response(each.code)][-1]


def read(lab: Lab, client: Client, *paths: str) -> dict[str, Any]:
    """The values at ``paths``, without the instance that they are all of."""
    found: dict[str, Any] = {}
    for each in paths:
        found.update(lab.data(client, f"READ {each}"))
    return found


def updated_to(lab: Lab, lifetime_s: int) -> bool:
    """Whether the last request of the device was an Update with this lifetime, which was taken."""
    lab.run_for(1)
    update = requests_of_device(lab)[-1]
    known = next(iter(lab.stack.registry))
    return query_of(update) == {f"lt={lifetime_s}"} and known.registration.lifetime_s == lifetime_s


# -- reading in each format --


@pytest.mark.parametrize(
    ("version", "content_format", "paths"),
    [
        pytest.param("1.1", TEXT, ("/3/0/0", "/3/0/1", "/3/0/2"), marks=pytest.mark.spec("ETS 201")),
        pytest.param("1.0", TEXT, ("/3/0/0", "/3/0/1", "/3/0/2"), marks=pytest.mark.spec("ETS 201")),
        pytest.param("1.1", TLV, ("/3/0",), marks=pytest.mark.spec("ETS 203")),
        pytest.param("1.0", TLV, ("/3/0",), marks=pytest.mark.spec("ETS 203")),
        pytest.param("1.0", JSON, ("/3/0",), marks=pytest.mark.spec("ETS 204")),
        pytest.param("1.1", CBOR, ("/1/0/0", "/1/0/6", "/1/0/7"), marks=pytest.mark.spec("ETS 211")),
        pytest.param("1.1", SENML_JSON, ("/1", "/3/0", "/3/0/16", "/3/0/11/0"), marks=pytest.mark.spec("ETS 231")),
        pytest.param("1.1", SENML_CBOR, ("/1", "/3/0", "/3/0/16", "/3/0/11/0"), marks=pytest.mark.spec("ETS 232")),
        pytest.param("1.2", LWM2M_CBOR, ("/1", "/3/0", "/3/0/16"), marks=pytest.mark.spec("LwM2M-contract 8.5")),
    ],
)
def test_basic_information_is_read_in_the_format_that_the_device_has(
    lab: Lab, version: str, content_format: int, paths: Sequence[str]
) -> None:
    client = lab.join(ets=True, lwm2m_version=version, formats=(content_format,))
    found: dict[str, Any] = {}
    for path in paths:
        found.update(lab.data(client, f"READ {path}"))
        assert option(last_answer(lab), 12) == content_format
    expected = {"3/0/0": "Stellwerk", "3/0/2": "dev1", "3/0/11/0": 0, "3/0/16": "U"}
    expected |= {"1/0/0": 1, "1/0/6": False, "1/0/7": "U"}
    assert {each: found[each] for each in expected.keys() & found.keys()} == {
        each: value for each, value in expected.items() if each in found
    }
    assert len(expected.keys() & found.keys()) >= min(len(paths), 2)


@pytest.mark.spec("ETS 222", "ETS 223", "ETS 224", "ETS 225")
def test_reading_works_at_every_level(lab: Lab) -> None:
    client = lab.join(ets=True)
    server = lab.data(client, "READ /1")
    assert server == lab.data(client, "READ /1/0")
    assert server == {
        "1/0/0": 1,
        "1/0/1": 86_400,
        "1/0/2": 1,
        "1/0/3": 10,
        "1/0/5": 86_400,
        "1/0/6": False,
        "1/0/7": "U",
        "1/0/23": False,
    }
    device, instance = lab.data(client, "READ /3"), lab.data(client, "READ /3/0")
    assert device.keys() == instance.keys()
    assert {each.split("/")[1] for each in device} == {"0"}
    for path in ("1/0/0", "1/0/1", "1/0/6", "1/0/7"):
        assert lab.data(client, f"READ /{path}") == {path: server[path]}
    assert lab.data(client, "READ /3/0/16") == {"3/0/16": "U"}
    assert lab.data(client, "READ /3/0/11/0") == {"3/0/11/0": 0}


@pytest.mark.spec("ETS 237", "D-1", "T-7")
@pytest.mark.parametrize("content_format", [SENML_CBOR, SENML_JSON, TLV])
def test_an_answer_is_understood_in_whatever_format_it_comes(lab: Lab, content_format: int) -> None:
    client = lab.join(ets=True, formats=(content_format,))
    assert lab.data(client, "READ /1")["1/0/1"] == 86_400
    assert lab.data(client, "READ /3")["3/0/0"] == "Stellwerk"
    assert option(last_answer(lab), 12) == content_format


# -- writing in each format --


@pytest.mark.parametrize(
    ("content_format", "values"),
    [
        pytest.param(TEXT, {"2": 101, "3": 1010, "5": 2000}, marks=pytest.mark.spec("ETS 205")),
        pytest.param(CBOR, {"2": 101, "3": 1010, "6": True}, marks=pytest.mark.spec("ETS 212")),
    ],
)
def test_basic_information_is_set_one_by_one(lab: Lab, content_format: int, values: dict[str, Any]) -> None:
    """What was set is read back resource by resource too: the device has no format for more than one."""
    client = lab.join(ets=True, formats=(content_format,))
    paths = [f"/1/0/{each}" for each in values]
    before = read(lab, client, *paths)
    for wanted in (values, {each: before[f"1/0/{each}"] for each in values}):
        for each, value in wanted.items():
            lab.data(client, f"WRITE /1/0/{each} {str(value).lower()}")
            assert (last_request(lab).code, option(last_request(lab), 12)) == (codes.PUT, content_format)
        assert read(lab, client, *paths) == {f"1/0/{each}": value for each, value in wanted.items()}


@pytest.mark.parametrize(
    ("version", "content_format"),
    [
        pytest.param("1.1", TLV, marks=pytest.mark.spec("ETS 215")),
        pytest.param("1.0", TLV, marks=pytest.mark.spec("ETS 215")),
        pytest.param("1.0", JSON, marks=pytest.mark.spec("ETS 220")),
        pytest.param("1.1", SENML_JSON, marks=pytest.mark.spec("ETS 234")),
        pytest.param("1.1", SENML_CBOR, marks=pytest.mark.spec("ETS 233")),
        pytest.param("1.2", LWM2M_CBOR, marks=pytest.mark.spec("LwM2M-contract 8.5")),
    ],
)
def test_basic_information_is_set_in_one_message_and_set_back(lab: Lab, version: str, content_format: int) -> None:
    """The sample of the ETS for 220 has the number 0101, which is no JSON."""
    client = lab.join(ets=True, lwm2m_version=version, formats=(content_format,))
    before = lab.data(client, "READ /1/0")
    lab.data(client, {"method": "WRITE", "path": "/1/0", "value": SERVER_SET})
    request = last_request(lab)
    assert (request.code, path_of(request), option(request, 12)) == (codes.POST, ("1", "0"), content_format)
    if content_format == TLV:
        assert request.payload == bytes.fromhex("c10265c20303f2c20507d0c10601c10755")
    after = lab.data(client, "READ /1/0")
    assert after == {**before, **{f"1/0/{each}": value for each, value in SERVER_SET.items()}}
    back = {each: before[f"1/0/{each}"] for each in SERVER_SET}
    lab.data(client, {"method": "WRITE", "path": "/1/0", "value": back})
    assert lab.data(client, "READ /1/0") == before


@pytest.mark.parametrize(
    "content_format",
    [
        pytest.param(SENML_CBOR, marks=pytest.mark.spec("ETS 233")),
        pytest.param(SENML_JSON, marks=pytest.mark.spec("ETS 234")),
    ],
)
def test_lifetime_and_portfolio_are_set_in_senml(lab: Lab, content_format: int) -> None:
    client = lab.join(ets=True, formats=(content_format,))
    lab.data(client, {"method": "WRITE", "path": "/1/0", "value": {"1": 61, "6": True}})
    assert updated_to(lab, 61)
    assert lab.data(client, "READ /1")["1/0/6"] is True
    lab.data(client, "WRITE /16/0/0/0 test_value")
    assert option(last_request(lab), 12) == content_format
    assert lab.data(client, "READ /16")["16/0/0/0"] == "test_value"
    lab.data(client, "WRITE /1/0/1 63")
    assert updated_to(lab, 63)
    assert lab.data(client, "READ /1/0/1") == {"1/0/1": 63}


@pytest.mark.spec("ETS 226", "R-8")
def test_a_partial_update_of_an_instance_is_one_message_and_brings_an_update(lab: Lab) -> None:
    client = lab.join(ets=True)
    since = lab.network.now
    lab.data(client, {"method": "WRITE", "path": "/1/0", "value": {"1": 61, "6": True}})
    assert next(each.code for each in lab.sent(to_device=True, since=since)) == codes.POST
    assert updated_to(lab, 61)
    assert lab.data(client, "READ /1/0")["1/0/6"] is True
    lab.data(client, {"method": "WRITE", "path": "/1/0", "value": {"1": 86_400, "6": False}})
    assert updated_to(lab, 86_400)


@pytest.mark.spec("ETS 227", "R-8")
def test_a_replaced_lifetime_brings_an_update(lab: Lab) -> None:
    """The ETS restores by a PUT on the instance; the resource is meant."""
    client = lab.join(ets=True)
    for lifetime_s in (63, 86_400):
        lab.data(client, f"WRITE /1/0/1 {lifetime_s}")
        assert last_request(lab).code != codes.POST
        assert updated_to(lab, lifetime_s)
        assert lab.data(client, "READ /1/0/1") == {"1/0/1": lifetime_s}


@pytest.mark.spec("ETS 228", "D-6")
def test_a_resource_instance_is_written_alone(lab: Lab) -> None:
    """The ETS writes it by POST; PUT is meant."""
    client = lab.join(ets=True)
    before = lab.data(client, "READ /16/0/0")
    lab.data(client, "WRITE /16/0/0/1 test")
    request = last_request(lab)
    assert (request.code, path_of(request)) == (codes.PUT, ("16", "0", "0", "1"))
    assert lab.data(client, "READ /16/0/0/1") == {"16/0/0/1": "test"}
    assert lab.data(client, "READ /16/0/0") == {**before, "16/0/0/1": "test"}


# -- what is refused, and restarts --


@pytest.mark.spec("ETS 221", "ETS 256", "ETS 685", "D-5", "D-10")
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("READ /0", "path-invalid"),
        ("WRITE /0/0/0 coap://other", "path-invalid"),
        ("WRITE-ATTRIBUTES /0?pmin=30&pmax=45", "path-invalid"),
        ("WRITE /1/0/0 123", "not-acceptable"),
        ("DELETE /3/0", "not-acceptable"),
    ],
)
def test_what_a_client_would_have_to_refuse_is_not_sent_and_the_answer_says_why(
    lab: Lab, command: str, reason: str
) -> None:
    client = lab.join(ets=True)
    since = lab.network.now
    status = lab.ask(client, command)["status"]
    assert status["reason"] == reason
    assert status["detail"]
    assert lab.sent(to_device=True, since=since) == []
    assert lab.data(client, "READ /1/0/0") == {"1/0/0": 1}


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        pytest.param(Read(Path(0)), "4.01", marks=pytest.mark.spec("ETS 221")),
        pytest.param(
            Write(Path(0, 0, 0), Content((Entry(Path(0, 0, 0), "coap://other"),))),
            "4.01",
            marks=pytest.mark.spec("ETS 221"),
        ),
        pytest.param(
            WriteAttributes(Path(0), (("pmin", "30"), ("pmax", "45"))), "4.01", marks=pytest.mark.spec("ETS 221")
        ),
        pytest.param(Delete(Path(3, 0)), "4.05", marks=pytest.mark.spec("ETS 685")),
    ],
)
def test_what_is_held_back_a_client_would_have_refused(lab: Lab, operation: Operation, code: str) -> None:
    client = lab.join(ets=True)
    lab.send_down(client, operation)
    assert codes.dotted(last_answer(lab).code) == code
    assert lab.known(client) is not None


@pytest.mark.spec("ETS 256")
def test_a_read_only_resource_that_the_servers_model_takes_for_a_writable_one_is_4_05() -> None:
    builtin = Library.builtin()
    server = builtin.get(1, "1.1")
    assert server is not None
    writable = replace(server.resources[0], operations=Operations.READ | Operations.WRITE)
    wrong = replace(server, resources=MappingProxyType({**server.resources, 0: writable}))
    lab = Lab(library=builtin.with_models((wrong,)))
    client = lab.join(ets=True)
    status = lab.ask(client, "WRITE /1/0/0 123")["status"]
    assert (status["code"], status["reason"]) == (405, "device-method")
    assert lab.data(client, "READ /1/0/0") == {"1/0/0": 1}
    lab.close()


@pytest.mark.spec("ETS 680")
def test_a_second_device_object_is_4_05(lab: Lab) -> None:
    client = lab.join(ets=True)
    status = lab.ask(client, "CREATE /3")["status"]
    assert (status["code"], status["reason"]) == (405, "device-method")
    known = lab.known(client)
    assert known is not None
    assert known.registration.objects.objects[3].instances == (0,)


@pytest.mark.spec("ETS 241", "R-9", "D-16")
def test_a_reboot_is_followed_by_a_register_that_replaces(lab: Lab) -> None:
    client = lab.join(ets=True)
    before = lab.known(client)
    assert before is not None
    location = before.registration.location
    lab.data(client, "EXECUTE /3/0/4")
    lab.run_for(5)
    after = lab.known(client)
    assert after is not None
    assert after.registration.location != location
    assert len(lab.stack.registry) == 1
    assert lab.data(client, "READ /3/0/0") == {"3/0/0": "Stellwerk"}


# -- discovering --


@pytest.mark.spec("ETS 260", "D-13", "ATT-9")
def test_a_discover_shows_what_is_attached_and_what_is_inherited(lab: Lab) -> None:
    client = lab.join(ets=True)
    found = lab.data(client, "DISCOVER /3")
    resources = {f"3/0/{each}" for each in (1, 2, 3, 4, 6, 7, 8, 9, 11, 16)}
    assert {"3", "3/0"} | resources <= found.keys()
    assert {each: found[f"3/0/{each}"] for each in (6, 7, 8)} == {each: {"dim": 2} for each in (6, 7, 8)}
    assert found["3"] == found["3/0"] == {}
    lab.data(client, "WRITE-ATTRIBUTES /3?pmin=10&pmax=200")
    found = lab.data(client, "DISCOVER /3/0")
    assert "3" not in found
    assert resources <= found.keys()
    lab.data(client, "WRITE-ATTRIBUTES /3/0/7?lt=1&gt=6&st=1")
    assert lab.data(client, "DISCOVER /3/0")["3/0/7"] == {"dim": 2, "lt": 1, "gt": 6, "st": 1}
    inherited = {"dim": 2, "pmin": 10, "pmax": 200, "lt": 1, "gt": 6, "st": 1}
    assert lab.data(client, "DISCOVER /3/0/7") == {"3/0/7": inherited}


@pytest.mark.spec("ETS 261", "D-13")
def test_a_resource_instance_has_attributes_of_its_own(lab: Lab) -> None:
    """The ETS prints the attributes of a link with &, as in a query."""
    client = lab.join(ets=True, lwm2m_version="1.2")
    assert lab.data(client, "DISCOVER /3/0/11").keys() == {"3/0/11", "3/0/11/0"}
    lab.data(
        client,
        "WRITE-ATTRIBUTES /3?pmin=10&pmax=200",
        "WRITE-ATTRIBUTES /3/0?pmax=320",
        "WRITE-ATTRIBUTES /3/0/11/0?pmax=100&epmin=1&epmax=20",
    )
    assert lab.data(client, "DISCOVER /3/0/11") == {
        "3/0/11": {"dim": 1, "pmin": 10, "pmax": 320},
        "3/0/11/0": {"pmax": 100, "epmin": 1, "epmax": 20},
    }


@pytest.mark.spec("ETS 264", "D-13")
def test_a_discover_of_depth_1_ends_at_the_instances(lab: Lab) -> None:
    client = lab.join(ets=True, lwm2m_version="1.2")
    assert lab.data(client, "DISCOVER /3?depth=1") == {"3": {"pmin": 1, "pmax": 10}, "3/0": {}}
    assert query_of(last_request(lab)) == {"depth=1"}
    lab.data(client, "WRITE-ATTRIBUTES /3/0?pmax=200")
    assert lab.data(client, "DISCOVER /3?depth=1") == {"3": {"pmin": 1, "pmax": 10}, "3/0": {"pmax": 200}}


@pytest.mark.spec("ETS 266", "D-13")
def test_a_discover_of_depth_3_ends_at_the_resource_instances(lab: Lab) -> None:
    """The ETS prints the object's attributes at its instance, unlike in case 264; here they are where they belong."""
    client = lab.join(ets=True, lwm2m_version="1.2")
    found = lab.data(client, "DISCOVER /3?depth=2")
    assert {"3/0/6", "3/0/7", "3/0/16"} <= found.keys()
    assert not [each for each in found if each.count("/") > 2]
    lab.data(
        client,
        "WRITE-ATTRIBUTES /3?pmin=10&pmax=200",
        "WRITE-ATTRIBUTES /3/0/7?lt=1&gt=6&st=1",
        "WRITE-ATTRIBUTES /3/0/7/1?gt=8",
    )
    found = lab.data(client, "DISCOVER /3?depth=3")
    assert found["3"] == {"pmin": 10, "pmax": 200}
    assert found["3/0/7"] == {"dim": 2, "lt": 1, "gt": 6, "st": 1}
    assert (found["3/0/7/0"], found["3/0/7/1"]) == ({}, {"gt": 8})
    assert {"3/0/6/0", "3/0/6/1", "3/0/8/0", "3/0/8/1"} <= found.keys()
