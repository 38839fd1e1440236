"""OMA's enabler tests of composites, INT 229 to 236, 257, 280, 281, 304, 305 and 308 to 310: a simulated device with
the configuration of the case, commands as applications write them (contract §14)."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.lwm2m.formats import decode_content, decode_paths
from stellwerk.lwm2m.operations import ReadComposite
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths
from stellwerk.lwm2m.schema.library import Library
from tests.scenario.lab import Client, Lab
from tests.scenario.test_ets_operations import last_answer, last_request, option, updated_to
from tests.scenario.test_ets_registration import path_of
from tests.scenario.test_ets_reporting import OBSERVE, requests

NEW = {"0": {"0": "11", "1": "22", "2": "33", "3": "44"}}


def listed(message: Message) -> set[str]:
    """The paths that a composite request asks for."""
    return {str(each) for each in decode_paths(option(message, 12), message.payload)}


def composites(lab: Lab, client: Client) -> list[dict[str, Any]]:
    """What notifications of lists of paths said, oldest first."""
    return [each["data"] for each in lab.notifications(client) if "data" in each]


# -- several paths at once --


@pytest.mark.spec("ETS 229", "ETS 280")
def test_a_read_composite_asks_for_exactly_these_paths(lab: Lab) -> None:
    client = lab.join(ets=True)
    found = lab.data(client, "READ-COMPOSITE /3/0/16 /3/0/11/0 /1/0")
    request = last_request(lab)
    assert (request.code, path_of(request)) == (codes.FETCH, ())
    assert listed(request) == {"/3/0/16", "/3/0/11/0", "/1/0"}
    expected = {"3/0/11/0": 0, "3/0/16": "U", "1/0/0": 1, "1/0/1": 86_400, "1/0/6": False, "1/0/7": "U"}
    assert {each: found[each] for each in expected} == expected
    assert all(each in expected or each.startswith("1/0/") for each in found)


@pytest.mark.spec("ETS 281", "D-11")
def test_what_is_only_executed_is_left_out(lab: Lab) -> None:
    client = lab.join(ets=True)
    answer = lab.ask(client, "READ-COMPOSITE /1/0/1 /1/0/7 /1/0/8")
    assert listed(last_request(lab)) == {"/1/0/1", "/1/0/7", "/1/0/8"}
    assert answer["data"] == {"1/0/1": 86_400, "1/0/7": "U"}
    assert answer["missing"] == ["1/0/8"]


@pytest.mark.spec("ETS 236", "D-11")
def test_what_is_not_there_is_missing(lab: Lab) -> None:
    """The ETS asks for objects 3339 and 3353, which the device has not registered: such a command is not sent. Here the
    device side of the server asks for them."""
    client = lab.join(ets=True)
    answer = lab.ask(client, "READ-COMPOSITE /1/0 /1/0/1 /3/0/11/0 /16/7/0 /4/0/14")
    assert answer["status"]["code"] == 200
    assert {"1/0/0", "1/0/1", "3/0/11/0"} <= answer["data"].keys()
    assert answer["missing"] == ["4/0/14", "16/7/0"]
    paths = ("/1/0", "/1/0/1", "/3/0/11/0", "/3339/0/5522", "/3353/0/6030")
    assert lab.ask(client, f"READ-COMPOSITE {' '.join(paths)}")["status"]["reason"] == "path-invalid"
    lab.send_down(client, ReadComposite(Paths([Path.parse(each) for each in paths])))
    assert listed(last_request(lab)) == set(paths)
    found = last_answer(lab)
    assert codes.dotted(found.code) == "2.05"
    content = decode_content(option(found, 12), found.payload, Path(), Library.builtin().for_device("1.1", {}))
    assert {entry.path[0] for entry in content.entries} == {1, 3}


@pytest.mark.spec("ETS 235")
@pytest.mark.parametrize("content_format", [110, 112])
def test_the_root_holds_every_object_but_those_of_keys(lab: Lab, content_format: int) -> None:
    client = lab.join(ets=True, formats=(content_format,))
    found = lab.data(client, "READ-COMPOSITE /")
    assert option(last_answer(lab), 12) == content_format
    objects = {each.split("/")[0] for each in found}
    assert objects == {"1", "3", "4", "5", "6", "7", "10", "11", "12", "16", "19", "20"}


@pytest.mark.spec("ETS 230", "D-11", "R-8")
@pytest.mark.parametrize("content_format", [110, 112])
def test_a_write_composite_is_one_message_and_brings_an_update(lab: Lab, content_format: int) -> None:
    client = lab.join(ets=True, formats=(content_format,))
    names = {f"/16/0/0/{each}": text for each, text in enumerate(("aa", "bb", "cc", "dd"))}
    lab.data(client, {"method": "WRITE-COMPOSITE", "value": {"/1/0/1": 61, "/1/0/6": True, **names}})
    (request,) = requests(lab, codes.IPATCH)
    assert (path_of(request), option(request, 12)) == ((), content_format)
    assert updated_to(lab, 61)
    assert lab.data(client, "READ /1/0")["1/0/6"] is True
    assert lab.data(client, "READ /16/0/0") == {each.removeprefix("/"): text for each, text in names.items()}


@pytest.mark.spec("ETS 257", "D-11")
def test_server_and_device_are_written_at_once(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, {"method": "WRITE-COMPOSITE", "value": {"/1/0/2": 101, "/1/0/6": True, "/3/0/13": 0}})
    found = lab.data(client, "READ /1")
    assert (found["1/0/2"], found["1/0/6"]) == (101, True)
    assert lab.data(client, "READ /3")["3/0/13"] < 10_000


# -- observing several paths --


@pytest.mark.spec("ETS 304", "OB-1")
def test_a_list_of_paths_is_told_within_the_periods_of_its_paths(lab: Lab) -> None:
    """The ETS prints Observe = 1 for what starts the observation; 0 is meant."""
    client = lab.join(ets=True)
    lab.data(client, "WRITE-ATTRIBUTES /1/0/1?pmin=30&pmax=45")
    first = lab.data(client, "OBSERVE-COMPOSITE /1/0/1 /3/0/11/0 /3/0/16")
    assert first == {"1/0/1": 86_400, "3/0/11/0": 0, "3/0/16": "U"}
    (request,) = requests(lab, codes.FETCH)
    assert option(request, OBSERVE) == 0
    lab.run_for(28)
    assert composites(lab, client) == []
    lab.run_for(18)
    assert composites(lab, client) == [first]


@pytest.mark.spec("ETS 305", "OB-5")
def test_a_list_of_paths_is_cancelled_by_the_same_list(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, "WRITE-ATTRIBUTES /1/0/1?pmin=10&pmax=15")
    lab.data(client, "OBSERVE-COMPOSITE /1/0/1 /3/0/11/0 /3/0/16")
    lab.run_for(16)
    lab.data(client, "UNOBSERVE-COMPOSITE /1/0/1 /3/0/11/0 /3/0/16")
    begun, ended = requests(lab, codes.FETCH)
    assert (option(begun, OBSERVE), option(ended, OBSERVE)) == (0, 1)
    assert (begun.token, begun.payload) == (ended.token, ended.payload)
    assert client.device.observed_paths == ()
    count = len(composites(lab, client))
    lab.run_for(60)
    assert len(composites(lab, client)) == count


@pytest.mark.spec("ETS 308", "D-9")
def test_an_instance_that_is_created_joins_the_notifications(lab: Lab) -> None:
    """The ETS names instance 0 in the second Create; instance 1 is meant."""
    client = lab.join(ets=True)
    lab.data(client, "WRITE-ATTRIBUTES /16/0?pmin=30&pmax=45")
    first = lab.data(client, "OBSERVE-COMPOSITE /16/0 /16/1")
    assert {each.split("/")[1] for each in first} == {"0"}
    lab.run_for(46)
    assert [each.keys() for each in composites(lab, client)] == [first.keys()]
    lab.ask(client, {"method": "CREATE", "path": "/16/1", "value": NEW})
    lab.run_for(46)
    assert composites(lab, client)[-1]["16/1/0/3"] == "44"
    assert composites(lab, client)[-1].keys() > first.keys()


@pytest.mark.spec("ETS 309", "D-10")
def test_an_instance_that_is_deleted_leaves_the_notifications(lab: Lab) -> None:
    """The ETS prints 2.04 for a Delete; it is 2.02."""
    client = lab.join(ets=True)
    lab.ask(client, {"method": "CREATE", "path": "/16/1", "value": NEW})
    lab.data(client, "WRITE-ATTRIBUTES /16/0?pmin=30&pmax=45")
    first = lab.data(client, "OBSERVE-COMPOSITE /16/0 /16/1")
    assert {each.split("/")[1] for each in first} == {"0", "1"}
    lab.run_for(46)
    assert composites(lab, client)[-1].keys() == first.keys()
    lab.data(client, "DELETE /16/1")
    lab.run_for(46)
    assert {each.split("/")[1] for each in composites(lab, client)[-1]} == {"0"}


@pytest.mark.spec("ETS 310", "OB-9")
def test_attributes_that_change_count_for_a_list_that_is_observed(lab: Lab) -> None:
    """The ETS starts the observation with Observe = 1; 0 is meant."""
    client = lab.join(ets=True)
    lab.data(client, "OBSERVE-COMPOSITE /1/0/3 /3/0")
    lab.data(client, "WRITE-ATTRIBUTES /3?pmax=5")
    lab.run_for(1)
    count = len(composites(lab, client))
    lab.run_for(30)
    assert 5 <= len(composites(lab, client)) - count <= 7
