"""OMA's enabler tests of information reporting, INT 301 to 313: a simulated device with the
configuration of the case, commands as applications write them (contract §14)."""

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import RST, Message
from stellwerk.lwm2m.path import Path
from stellwerk.sim.happenings import ObservationEnded, SendEnded
from tests.scenario.lab import Lab
from tests.scenario.test_ets_objects import told
from tests.scenario.test_ets_operations import option
from tests.scenario.test_ets_registration import path_of, query_of

OBSERVE = 6


def requests(lab: Lab, code: int, since: float = 0.0) -> list[Message]:
    """What the server asked with one method."""
    return [each for each in lab.sent(to_device=True, since=since) if each.code == code]


# -- observing one path --


@pytest.mark.spec("ETS 301", "OB-1", "ATT-1", "ATT-2")
def test_values_are_observed_each_with_its_periods(lab: Lab) -> None:
    client = lab.join(ets=True)
    assert lab.data(client, "READ /3/0/6") == {"3/0/6/0": 1, "3/0/6/1": 2}
    lab.data(client, "WRITE-ATTRIBUTES /3/0/7?pmin=5&pmax=15", "WRITE-ATTRIBUTES /3/0/8?pmin=10&pmax=20")
    assert lab.data(client, "OBSERVE /3/0/7") == {"3/0/7/0": 0, "3/0/7/1": 0}
    lab.data(client, "OBSERVE /3/0/8")
    lab.poke(client, lambda device, now: device.change(Path(3, 0, 7), {0: 3700, 1: 5000}, now))
    lab.run_for(6)
    assert told(lab, client, "/3/0/7") == [{"3/0/7/0": 3700, "3/0/7/1": 5000}]
    lab.run_for(60)
    assert 4 <= len(told(lab, client, "/3/0/7")) <= 6
    assert 2 <= len(told(lab, client, "/3/0/8")) <= 4


@pytest.mark.spec("ETS 302", "OB-5")
def test_an_observation_is_cancelled_by_a_reset(lab: Lab) -> None:
    client = lab.join(ets=True, confirm_every=1)
    lab.data(client, "WRITE-ATTRIBUTES /3/0/7?pmin=5&pmax=15", "WRITE-ATTRIBUTES /3/0/8?pmin=10&pmax=20")
    lab.data(client, "OBSERVE /3/0/7", "OBSERVE /3/0/8")
    lab.run_for(31)
    for path, left in (("/3/0/7", ("/3/0/8",)), ("/3/0/8", ())):
        since = lab.network.now
        lab.data(client, f"UNOBSERVE {path}?passive=1")
        assert requests(lab, codes.GET, since) == []
        lab.run_for(31)
        assert [each.type for each in lab.sent(to_device=True, since=since)].count(RST) == 1
        assert [str(each) for each in client.device.observed_paths] == list(left)
    assert [each.reason for each in lab.happenings if isinstance(each, ObservationEnded)] == ["reset", "reset"]


@pytest.mark.spec("ETS 303", "OB-5")
def test_an_observation_is_cancelled_by_an_observe_of_1_with_its_token(lab: Lab) -> None:
    """The ETS cancels at the instance what is observed at resources; RFC 7641 cancels what was asked for."""
    client = lab.join(ets=True)
    lab.data(client, "WRITE-ATTRIBUTES /3/0/7?pmin=5&pmax=15", "WRITE-ATTRIBUTES /3/0/8?pmin=10&pmax=20")
    for path in ("/3/0/7", "/3/0/8"):
        lab.data(client, f"OBSERVE {path}")
    lab.run_for(31)
    for path in ("/3/0/7", "/3/0/8"):
        segments = tuple(path.split("/")[1:])
        lab.data(client, f"UNOBSERVE {path}")
        asked = [each for each in requests(lab, codes.GET) if path_of(each) == segments]
        begun, ended = (next(each for each in asked if option(each, OBSERVE) == value) for value in (0, 1))
        assert (begun.token, path_of(begun), option(begun, 17)) == (ended.token, path_of(ended), option(ended, 17))
    assert client.device.observed_paths == ()
    count = len(lab.notifications(client))
    lab.run_for(60)
    assert len(lab.notifications(client)) == count


# -- attributes within an Observe --


@pytest.mark.spec("ETS 312", "LwM2M-contract 7")
def test_attributes_go_with_the_observe(lab: Lab) -> None:
    client = lab.join(ets=True, lwm2m_version="1.2")
    assert lab.data(client, "OBSERVE /3/0/7?pmin=5&pmax=15") == {"3/0/7/0": 0, "3/0/7/1": 0}
    (request,) = requests(lab, codes.GET)
    assert (query_of(request), option(request, OBSERVE)) == ({"pmin=5", "pmax=15"}, 0)
    assert requests(lab, codes.PUT) == []
    lab.run_for(61)
    assert len(told(lab, client, "/3/0/7")) == 4


@pytest.mark.spec("ETS 313", "LwM2M-contract 7", "ATT-16")
def test_attributes_of_the_observe_count_above_those_attached(lab: Lab) -> None:
    client = lab.join(ets=True, lwm2m_version="1.2")
    lab.data(client, "WRITE-ATTRIBUTES /3/0/7?pmin=5&pmax=60")
    lab.data(client, "OBSERVE /3/0/7?pmin=5&pmax=10")
    lab.run_for(51)
    assert len(told(lab, client, "/3/0/7")) == 5
    assert lab.data(client, "DISCOVER /3/0/7")["3/0/7"]["pmax"] == 60


# -- sending --


@pytest.mark.spec("ETS 306", "ETS 311")
@pytest.mark.parametrize(("version", "content_format"), [("1.1", 110), ("1.1", 112), ("1.2", 11544)])
def test_what_a_client_sends_is_taken(lab: Lab, version: str, content_format: int) -> None:
    client = lab.join(ets=True, lwm2m_version=version, send_format=content_format)
    lab.poke(client, lambda device, now: device.send((Path(1, 0, 1), Path(3, 0, 11, 0)), now))
    lab.run_for(1)
    (sent,) = [each for each in lab.sent(to_device=False) if path_of(each) == ("dp",)]
    assert option(sent, 12) == content_format
    assert SendEnded("dev1", codes.CHANGED) in lab.happenings
    (message,) = lab.messages(client, "send")
    assert message["data"] == {"1/0/1": 86_400, "3/0/11/0": 0}


@pytest.mark.spec("ETS 307")
def test_a_client_is_muted_and_unmuted(lab: Lab) -> None:
    """The ETS writes the resource by POST; PUT is meant."""
    client = lab.join(ets=True, send_every_s=20.0, send_paths=(Path(3, 0, 9),))
    lab.run_for(21)
    assert len(lab.messages(client, "send")) == 1
    lab.data(client, "WRITE /1/0/23 true")
    lab.run_for(60)
    assert len(lab.messages(client, "send")) == 1
    lab.data(client, "WRITE /1/0/23 false")
    lab.run_for(21)
    assert len(lab.messages(client, "send")) == 2
