"""OMA's enabler tests of the objects, INT 651 to 910 and 1200 to 2001: a simulated device with the configuration of the
case, commands as applications write them (contract §14)."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.lwm2m.path import Path
from stellwerk.sim.happenings import Moved
from tests.scenario.lab import Client, Lab
from tests.scenario.test_ets_operations import TLV, last_request, option
from tests.scenario.test_ets_registration import path_of, requests_of_device

NUL = {"method": "WRITE", "path": "/5/0/0", "value": {"hex": "00"}}
PACKAGE = {"method": "WRITE", "path": "/5/0/0", "value": {"hex": "ab" * 3000}}


def blocks_sent(lab: Lab, since: float) -> list[Message]:
    """Requests with a Block1 option."""
    return [each for each in lab.sent(to_device=True, since=since) if option(each, 27) is not None]


def told(lab: Lab, client: Client, path: str) -> list[Any]:
    """What notifications of ``path`` said, oldest first."""
    return [
        each.get("dataValue", each.get("data")) for each in lab.notifications(client) if each["resourcePath"] == path
    ]


# -- object 3 --


@pytest.mark.spec("ETS 651")
def test_clock_and_zone_are_set_in_one_message_and_set_back(lab: Lab) -> None:
    """The ETS compares with configuration C.3 at the end; the values saved before are meant."""
    client = lab.join(ets=True, formats=(TLV,))
    before = lab.data(client, "READ /3/0")
    value = {"13": 1_367_491_215, "14": "+02:00", "15": "Europe/Paris"}
    lab.data(client, {"method": "WRITE", "path": "/3/0", "value": value})
    assert last_request(lab).payload == bytes.fromhex("c40d5182428f c60e2b30323a3030 c80f0c4575726f70652f5061726973")
    after = lab.data(client, "READ /3/0")
    assert (after["3/0/14"], after["3/0/15"]) == ("+02:00", "Europe/Paris")
    # A message shows times in milliseconds.
    assert 0 <= after["3/0/13"] - 1_367_491_215_000 < 5000
    back = {"13": before["3/0/13"] // 1000, "14": before["3/0/14"], "15": before["3/0/15"]}
    lab.data(client, {"method": "WRITE", "path": "/3/0", "value": back})
    again = lab.data(client, "READ /3/0")
    assert abs(again.pop("3/0/13") - before.pop("3/0/13")) < 5000
    assert {each: again[each] for each in before} == before


@pytest.mark.spec("ETS 652")
def test_the_firmware_version_is_read(lab: Lab) -> None:
    client = lab.join(ets=True)
    assert lab.data(client, "READ /3/0/3") == {"3/0/3": "1.0.0"}


# -- what is read and observed --


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/4/0", {"4/0/0": 7, "4/0/1/1": 21, "4/0/8": 1_000_000}, marks=pytest.mark.spec("ETS 701")),
        pytest.param(
            "/6/0",
            {"6/0/0": 43.5723, "6/0/1": 153.2176, "6/0/5": 1_367_491_215_000, "6/0/6": 3.0},
            marks=pytest.mark.spec("ETS 801"),
        ),
        pytest.param("/5/0", {"5/0/3": 0, "5/0/5": 0, "5/0/8/0": 0, "5/0/9": 2}, marks=pytest.mark.spec("ETS 751")),
        pytest.param("/10/0", {"10/0/4": 3600, "10/0/5": 600, "10/0/11/0": "11:0"}, marks=pytest.mark.spec("ETS 1200")),
        pytest.param("/20/0", {"20/0/4010": 0, "20/0/4013": 3}, marks=pytest.mark.spec("ETS 2001")),
    ],
)
@pytest.mark.parametrize("formats", [(), (TLV,)])
def test_an_object_is_read_as_it_is_configured(
    lab: Lab, path: str, expected: dict[str, Any], formats: tuple[int, ...]
) -> None:
    client = lab.join(ets=True, formats=formats)
    found = lab.data(client, f"READ {path}")
    assert {each: found[each] for each in expected} == expected


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        pytest.param("/4/0", Path(4, 0, 2), marks=pytest.mark.spec("ETS 710")),
        pytest.param("/6/0", Path(6, 0, 2), marks=pytest.mark.spec("ETS 810")),
    ],
)
def test_an_instance_is_observed_within_its_periods(lab: Lab, path: str, changed: Path) -> None:
    client = lab.join(ets=True)
    lab.data(client, f"WRITE-ATTRIBUTES {path}?pmin=2&pmax=10")
    first = lab.data(client, f"OBSERVE {path}")
    key = path.removeprefix("/")
    value = first[f"{key}/{changed[2]}"] + 5
    lab.poke(client, lambda device, now: device.change(changed, value, now))
    assert told(lab, client, path) == []
    lab.run_for(2)
    assert [each[f"{key}/{changed[2]}"] for each in told(lab, client, path)] == [value]
    lab.run_for(20)
    assert len(told(lab, client, path)) == 3


# -- object 5 --


def state(lab: Lab, client: Client) -> tuple[int, int]:
    found = lab.data(client, "READ /5/0")
    return found["5/0/3"], found["5/0/5"]


@pytest.mark.spec("ETS 755", "BLK-2", "BLK-3")
def test_a_package_is_pushed(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, NUL)
    assert state(lab, client) == (0, 0)
    since = lab.network.now
    lab.data(client, PACKAGE)
    assert len(blocks_sent(lab, since)) >= 3
    assert state(lab, client) == (2, 0)


@pytest.mark.spec("ETS 756")
def test_a_package_is_pulled(lab: Lab) -> None:
    """The ETS writes the empty string to the package; its URI is meant."""
    client = lab.join(ets=True)
    lab.data(client, 'WRITE /5/0/1 ""')
    assert state(lab, client) == (0, 0)
    lab.data(client, "WRITE /5/0/1 coap://files.example/image")
    assert state(lab, client) == (1, 0)
    lab.run_for(4)
    assert state(lab, client) == (2, 0)


@pytest.mark.spec("ETS 760")
def test_the_state_of_an_update_is_observed(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, "WRITE-ATTRIBUTES /5/0?pmin=2&pmax=10")
    assert lab.data(client, "OBSERVE /5/0/3") == {"5/0/3": 0}
    lab.data(client, PACKAGE)
    lab.run_for(3)
    assert told(lab, client, "/5/0/3") == [2]


@pytest.mark.parametrize(
    ("delivery", "downloading"),
    [
        pytest.param(PACKAGE, False, marks=pytest.mark.spec("ETS 770")),
        pytest.param("WRITE /5/0/1 http://files.example/image", True, marks=pytest.mark.spec("ETS 771")),
    ],
)
def test_firmware_is_updated(lab: Lab, delivery: Any, downloading: bool) -> None:
    """The ETS has the preconditions of 770 and 771 in each other's place."""
    client = lab.join(ets=True)
    lab.data(client, NUL)
    lab.data(client, delivery)
    if downloading:
        assert state(lab, client) == (1, 0)
        lab.run_for(4)
    assert state(lab, client) == (2, 0)
    before = lab.data(client, "READ /3/0/3")["3/0/3"]
    location = client.device.location
    lab.data(client, "EXECUTE /5/0/2")
    assert state(lab, client) == (3, 0)
    lab.run_for(6)
    assert client.device.location != location
    assert state(lab, client) == (0, 1)
    assert lab.data(client, "READ /3/0/3")["3/0/3"] != before


@pytest.mark.spec("ETS 772")
def test_an_update_without_a_package_is_4_05_and_changes_nothing(lab: Lab) -> None:
    client = lab.join(ets=True)
    status = lab.ask(client, "EXECUTE /5/0/2")["status"]
    assert (status["code"], status["reason"]) == (405, "device-method")
    assert state(lab, client) == (0, 0)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(2, marks=pytest.mark.spec("ETS 773")),
        pytest.param(3, marks=pytest.mark.spec("ETS 774")),
        pytest.param(4, marks=pytest.mark.spec("ETS 775")),
        pytest.param(5, marks=pytest.mark.spec("ETS 776")),
        pytest.param(6, marks=pytest.mark.spec("ETS 777")),
    ],
)
def test_a_download_that_fails_ends_with_its_result(lab: Lab, result: int) -> None:
    """The ETS prints result 2 for 774, where 3 is out of memory, and state 1 at the end of 777."""
    client = lab.join(ets=True)
    lab.data(client, "OBSERVE /5/0/5")
    lab.data(client, f"WRITE /5/0/1 http://files.example/image?result={result}")
    assert state(lab, client) == (1, 0)
    lab.run_for(4)
    assert state(lab, client) == (0, result)
    assert told(lab, client, "/5/0/5")[-1] == result


@pytest.mark.spec("ETS 778")
def test_a_uri_that_is_none_ends_with_result_7(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, "WRITE /5/0/1 nowhere")
    assert state(lab, client) == (0, 7)


@pytest.mark.spec("ETS 779")
def test_an_installation_that_fails_leaves_the_package_and_the_version(lab: Lab) -> None:
    client = lab.join(ets=True)
    before = lab.data(client, "READ /3/0/3")
    lab.data(client, "WRITE /5/0/1 http://files.example/image?result=8")
    lab.run_for(4)
    assert state(lab, client) == (2, 0)
    lab.data(client, "EXECUTE /5/0/2")
    assert state(lab, client) == (3, 0)
    lab.run_for(4)
    assert state(lab, client) == (2, 8)
    assert lab.data(client, "READ /3/0/3") == before


# -- object 7 --


@pytest.mark.spec("ETS 901")
def test_statistics_are_collected(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, "EXECUTE /7/0/6")
    lab.run_for(40)
    lab.data(client, "EXECUTE /7/0/7")
    found = lab.data(client, "READ /7/0")
    assert found["7/0/2"] > found["7/0/3"] > 0
    assert {f"7/0/{each}" for each in range(6)} <= found.keys()


@pytest.mark.spec("ETS 905")
def test_the_collection_period_is_set(lab: Lab) -> None:
    client = lab.join(ets=True)
    assert lab.data(client, "READ /7/0")["7/0/8"] == 0
    lab.data(client, "WRITE /7/0/8 60")
    assert lab.data(client, "READ /7/0")["7/0/8"] == 60


@pytest.mark.spec("ETS 910")
def test_statistics_are_observed_from_start_to_stop(lab: Lab) -> None:
    client = lab.join(ets=True, sample_every_s=1.0)
    lab.data(client, "WRITE-ATTRIBUTES /7/0?pmin=2&pmax=10", "WRITE /7/0/8 0", "OBSERVE /7/0", "EXECUTE /7/0/6")
    lab.run_for(30)
    sent = [each["7/0/2"] for each in told(lab, client, "/7/0")]
    assert len(sent) >= 3
    assert sent == sorted(sent)
    assert sent[-1] > sent[0]
    lab.data(client, "EXECUTE /7/0/7", "UNOBSERVE /7/0")
    count = len(told(lab, client, "/7/0"))
    lab.run_for(30)
    assert len(told(lab, client, "/7/0")) == count


# -- objects 10 to 13 --


@pytest.mark.spec("ETS 1201")
def test_version_1_1_of_cellular_connectivity_is_discovered_and_read(lab: Lab) -> None:
    """The ETS lists resource 6 too, which version 1.1 of the registry has in object 11."""
    client = lab.join(ets=True)
    found = lab.data(client, "DISCOVER /10")
    assert found["10"] == {"ver": 1.1}
    assert {f"10/0/{each}" for each in (4, 5, 8, 9, 11, 12, 13, 14)} <= found.keys()
    values = lab.data(client, "READ /10/0")
    assert (values["10/0/11/0"], values["10/0/12"], values["10/0/13"]) == ("11:0", 3, 1)


@pytest.mark.spec("ETS 1202")
def test_the_power_saving_modes_are_set(lab: Lab) -> None:
    """The sample of the ETS sets resource 14 of an earlier draft to 2, printed c1 00 d0 2 for c1 0e 02."""
    client = lab.join(ets=True, formats=(TLV,))
    assert lab.data(client, "DISCOVER /10")["10"] == {"ver": 1.1}
    lab.data(client, "READ /10/0/12")
    lab.data(client, "WRITE /10/0/14 2")
    assert last_request(lab).payload == bytes.fromhex("c10e02")
    assert lab.data(client, "READ /10/0/14") == {"10/0/14": 2}


@pytest.mark.parametrize(
    "periods",
    [
        pytest.param({13: (5, 15), 14: (10, 20)}, marks=pytest.mark.spec("ETS 1203")),
        pytest.param({4: (5, 15), 5: (10, 20), 8: (5, 15), 9: (10, 20)}, marks=pytest.mark.spec("ETS 1204")),
    ],
)
def test_resources_of_cellular_connectivity_are_observed_each_with_its_periods(
    lab: Lab, periods: dict[int, tuple[int, int]]
) -> None:
    """The text of 1204 lists resources 4, 5, 9 and 10, its criterion 4, 5, 8 and 9."""
    client = lab.join(ets=True)
    for each, (pmin, pmax) in periods.items():
        lab.data(client, f"WRITE-ATTRIBUTES /10/0/{each}?pmin={pmin}&pmax={pmax}")
        lab.data(client, f"OBSERVE /10/0/{each}")
    lab.run_for(61)
    for each, (_, pmax) in periods.items():
        assert abs(len(told(lab, client, f"/10/0/{each}")) - 60 // pmax) <= 1


@pytest.mark.spec("ETS 1250", "R-13", "D-9")
def test_a_new_profile_is_listed_by_an_update_and_activated(lab: Lab) -> None:
    """The ETS calls the trigger resource 7 of the Device object; `/1/x/8` is meant."""
    client = lab.join(ets=True)
    answer = lab.ask(client, {"method": "CREATE", "path": "/11/1", "value": {"0": "new", "4": 3}})
    assert answer["status"]["code"] == 200
    assert answer["createdPath"] == "11/1"
    lab.data(client, "EXECUTE /1/0/8")
    lab.run_for(1)
    assert any(b"</11/1>" in each.payload for each in requests_of_device(lab)[1:])
    known = lab.known(client)
    assert known is not None
    assert known.registration.objects.objects[11].instances == (0, 1)
    lab.data(client, "WRITE /11/1/3 true")
    assert set(lab.data(client, "READ /10/0/11").values()) == {"11:0", "11:1"}


@pytest.mark.spec("ETS 1350", "R-14")
def test_another_bearer_brings_an_update_from_another_address_and_the_registration_goes_on(lab: Lab) -> None:
    client = lab.join(ets=True)
    known = lab.known(client)
    assert known is not None
    location, ports = known.registration.location, [known.registration.peer.remote_port]
    answer = lab.ask(client, {"method": "CREATE", "path": "/13/0", "value": {"0": {"0": 21}}})
    assert answer["status"]["code"] == 200
    for bearer in (None, "5"):
        if bearer is not None:
            lab.data(client, {"method": "WRITE", "path": "/13/0/0", "value": {"0": int(bearer)}})
        assert any(isinstance(each, Moved) for each in lab.happenings)
        lab.move(client)
        lab.run_for(2)
        known = lab.known(client)
        assert known is not None
        ports.append(known.registration.peer.remote_port)
        assert lab.data(client, "READ /12/0/3") == {"12/0/3": 1 if bearer is None else 0}
    assert known.registration.location == location
    assert len(set(ports)) == 3
    assert lab.data(client, "READ /10")["10/0/4"] == 3600


# -- objects 16, 19 and 20 --


@pytest.mark.spec("ETS 1630", "D-9")
def test_a_portfolio_is_created(lab: Lab) -> None:
    """The sample of the ETS has 80 where the length of the resource takes a byte of its own, which is 88."""
    client = lab.join(ets=True, formats=(TLV,))
    assert lab.data(client, "DISCOVER /16/0")["16/0/0"] == {"dim": 4}
    value = {"0": {"0": "Host Device ID #2", "1": "Host Device Model #2"}}
    answer = lab.ask(client, {"method": "CREATE", "path": "/16/1", "value": value})
    assert (answer["status"]["code"], answer["createdPath"]) == (200, "16/1")
    expected = "08012e88002b480011" + b"Host Device ID #2".hex() + "480114" + b"Host Device Model #2".hex()
    assert last_request(lab).payload == bytes.fromhex(expected)
    lab.run_for(1)
    known = lab.known(client)
    assert known is not None
    assert known.registration.objects.objects[16].instances == (0, 1)
    assert lab.data(client, "DISCOVER /16/1")["16/1/0"] == {"dim": 2}
    found = lab.data(client, "READ /16")
    assert len([each for each in found if each.startswith("16/0/0/")]) == 4
    assert [found[f"16/1/0/{each}"] for each in (0, 1)] == ["Host Device ID #2", "Host Device Model #2"]


@pytest.mark.spec("ETS 1635", "D-10")
def test_every_portfolio_is_deleted_and_the_object_is_still_there(lab: Lab) -> None:
    """The ETS prints 2.04 for a Delete; it is 2.02."""
    client = lab.join(ets=True)
    assert {"16/0", "16/0/0"} <= lab.data(client, "DISCOVER /16/0").keys()
    lab.data(client, "DELETE /16/0")
    assert lab.data(client, "DISCOVER /16") == {"16": {}}
    lab.run_for(1)
    known = lab.known(client)
    assert known is not None
    assert known.registration.objects.objects[16].instances == ()


@pytest.mark.spec("ETS 1900")
def test_binary_data_is_observed(lab: Lab) -> None:
    """The ETS expects version 1.1 of object 19; the registry has 1.0."""
    client = lab.join(ets=True)
    assert {"19", "19/0", "19/0/0"} <= lab.data(client, "DISCOVER /19").keys()
    lab.data(client, "WRITE-ATTRIBUTES /19/0/0?pmin=300&pmax=3600")
    lab.data(client, "OBSERVE /19/0/0")
    lab.poke(client, lambda device, now: device.change(Path(19, 0, 0), {0: b"\x01\x02"}, now))
    lab.run_for(290)
    assert told(lab, client, "/19/0/0") == []
    lab.run_for(15)
    assert told(lab, client, "/19/0/0") == [{"19/0/0/0": "AQI="}]
    lab.run_for(3600)
    assert len(told(lab, client, "/19/0/0")) == 2


@pytest.mark.spec("ETS 1901")
def test_binary_data_is_written(lab: Lab) -> None:
    client = lab.join(ets=True)
    lab.data(client, {"method": "WRITE", "path": "/19/1/0/0", "value": {"hex": "0102ff"}})
    assert last_request(lab).code == codes.PUT
    assert lab.data(client, "READ /19/1/0") == {"19/1/0/0": "AQL/"}


@pytest.mark.spec("ETS 2000")
def test_a_log_is_started(lab: Lab) -> None:
    """The ETS writes and reads LogStart, which the registered object executes."""
    client = lab.join(ets=True)
    lab.data(client, "EXECUTE /20/0/4012")
    assert lab.data(client, "READ /20/0/4013") == {"20/0/4013": 1}
    lab.data(client, "EXECUTE /20/0/4011 0='0',1='100'")
    assert path_of(last_request(lab)) == ("20", "0", "4011")
    assert last_request(lab).payload == b"0='0',1='100'"
    assert lab.data(client, "READ /20/0/4013") == {"20/0/4013": 3}
