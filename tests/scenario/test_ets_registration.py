"""OMA's enabler tests of the registration interface, INT 101 to 111, and those of several servers, 950 and 951: a
simulated device with the configuration of the case, commands as applications write them (contract §14)."""

from collections.abc import Iterator

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import ACK, CON, Message
from stellwerk.lwm2m.path import Path
from tests.scenario.lab import Lab

PROFILE = "6:27354b9a"


def path_of(message: Message) -> tuple[str, ...]:
    return tuple(value.decode() for number, value in message.options if number == 11)


def query_of(message: Message) -> set[str]:
    return {value.decode() for number, value in message.options if number == 15}


def requests_of_device(lab: Lab, since: float = 0.0) -> list[Message]:
    """What the device asked of the server: Registers, Updates, De-registers."""
    return [each for each in lab.sent(to_device=False, since=since) if each.type == CON and codes.is_request(each.code)]


def answers_to_device(lab: Lab, since: float = 0.0) -> list[str]:
    """The codes of the server's answers."""
    return [codes.dotted(each.code) for each in lab.sent(to_device=True, since=since) if each.type == ACK and each.code]


@pytest.mark.spec("ETS 101", "R-1", "R-2", "R-12")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_register_is_answered_with_a_location_and_all_that_it_said_is_known(lab: Lab, version: str) -> None:
    client = lab.join(ets=True, lwm2m_version=version)
    (request,) = requests_of_device(lab)
    assert path_of(request) == ("rd",)
    assert query_of(request) >= {"ep=dev1", "lt=86400", f"lwm2m={version}", "b=U"}
    assert answers_to_device(lab) == ["2.01"]
    assert client.device.location.startswith("rd/")
    known = lab.known(client)
    assert known is not None
    registration = known.registration
    assert (registration.version, registration.lifetime_s, registration.binding) == (version, 86_400, "U")
    assert {1, 3, 4, 5, 6} <= registration.objects.objects.keys()
    assert not {0, 21, 23} & registration.objects.objects.keys()
    assert registration.objects.version(10) == "1.1"


@pytest.mark.spec("ETS 102", "R-6", "R-8")
def test_a_written_lifetime_comes_back_in_an_update_and_a_client_that_is_silent_for_it_is_dropped(lab: Lab) -> None:
    client = lab.join(ets=True)
    assert lab.data(client, "WRITE /1/0/1 20") is None
    lab.run_for(1)
    update = requests_of_device(lab)[-1]
    assert (path_of(update)[0], query_of(update)) == ("rd", {"lt=20"})
    assert answers_to_device(lab)[-1] == "2.04"
    assert lab.known(client) is not None
    lab.vanish(client)
    lab.run_for(25)
    assert lab.known(client) is None
    assert [each["messageType"] for each in lab.stack.received(client.record)][-1] == "registration-expire"


@pytest.mark.spec("ETS 103", "D-16")
def test_a_disabled_client_deregisters_and_is_gone(lab: Lab) -> None:
    client = lab.join(ets=True)
    assert lab.data(client, "EXECUTE /1/0/4") is None
    lab.run_for(1)
    assert requests_of_device(lab)[-1].code == codes.DELETE
    assert answers_to_device(lab)[-1] == "2.02"
    assert lab.known(client) is None
    assert lab.messages(client, "deregistration")
    answer = lab.ask(client, "READ /3/0/0")
    assert answer["status"]["code"] == 408


@pytest.mark.spec("ETS 104", "R-7")
def test_the_triggers_empty_update_refreshes_the_lifetime(lab: Lab) -> None:
    client = lab.join(ets=True, update_every_s=10_000)
    lab.data(client, "WRITE /1/0/1 20")
    lab.run_for(15)
    since = lab.network.now
    lab.data(client, "EXECUTE /1/0/8")
    lab.run_for(1)
    (update,) = requests_of_device(lab, since)
    assert (query_of(update), update.payload) == (set(), b"")
    assert answers_to_device(lab, since)[-1] == "2.04"
    # More than 20 s after the lifetime began, less than 20 s after the Update.
    lab.run_for(12)
    assert lab.known(client) is not None
    lab.run_for(10)
    assert lab.known(client) is None


@pytest.mark.spec("ETS 105", "R-6")
def test_an_update_of_a_removed_registration_is_4_04_and_the_register_after_it_welcome(lab: Lab) -> None:
    """The ETS writes the lifetime by POST on a resource, which is an Execute; PUT is meant."""
    client = lab.join(ets=True, update_every_s=10_000)
    lab.data(client, "WRITE /1/0/1 60")
    location = client.device.location
    lab.network.detach(client.address)
    lab.run_for(65)
    assert lab.known(client) is None
    lab.network.attach(client.address, lab.population)
    since = lab.network.now
    lab.poke(client, lambda device, now: device.trigger_update(now))
    lab.run_for(1)
    assert [path_of(each) for each in requests_of_device(lab, since)] == [tuple(location.split("/")), ("rd",)]
    assert answers_to_device(lab, since) == ["4.04", "2.01"]
    assert lab.data(client, "READ /1/0/1") == {"1/0/1": 60}


@pytest.mark.spec("ETS 107", "R-8")
def test_a_longer_lifetime_is_taken_from_the_update(lab: Lab) -> None:
    client = lab.join(ets=True, lifetime_s=60)
    lab.data(client, "WRITE /1/0/1 120")
    lab.run_for(1)
    assert query_of(requests_of_device(lab)[-1]) == {"lt=120"}
    known = lab.known(client)
    assert known is not None
    assert known.registration.lifetime_s == 120
    lab.run_for(300)
    assert lab.known(client) is known


@pytest.mark.spec("ETS 108", "BIN-3", "QM-1")
def test_q_is_queue_mode(lab: Lab) -> None:
    client = lab.join(ets=True, queue_mode=True)
    assert "Q" in query_of(requests_of_device(lab)[0])
    known = lab.known(client)
    assert known is not None
    assert known.registration.queue_mode


@pytest.mark.spec("ETS 109", "QM-2", "QM-3", "READ-5", "Transport 1.2.2 6.5")
def test_a_read_for_a_sleeper_waits_for_its_next_update(lab: Lab) -> None:
    """The ETS writes the lifetime by POST on a resource, which is an Execute; PUT is meant."""
    client = lab.join(ets=True, queue_mode=True, awake_s=93.0, update_every_s=150.0)
    lab.data(client, "WRITE /1/0/1 240")
    lab.run_for(1)
    assert query_of(requests_of_device(lab)[-1]) == {"lt=240"}
    lab.run_for(120)
    since = lab.network.now
    lab.post(client, "READ /1/0/1")
    lab.run_for(10)
    assert lab.sent(to_device=True, since=since) == []
    lab.run_for(40)
    update = requests_of_device(lab, since)[0]
    assert path_of(update) == tuple(client.device.location.split("/"))
    downlinks = lab.sent(to_device=True, since=since)
    assert [codes.dotted(downlinks[0].code), path_of(downlinks[1])] == ["2.04", ("1", "0", "1")]
    assert lab.responses(client)[-1]["data"] == {"1/0/1": 240}


@pytest.mark.spec("ETS 110")
def test_a_profile_alone_stands_for_its_objects(lab: Lab) -> None:
    client = lab.join(ets=True, lwm2m_version="1.2", object_ids=frozenset(), profile_id=PROFILE)
    (request,) = requests_of_device(lab)
    assert f"pid={PROFILE}" in query_of(request)
    assert request.payload == b""
    assert answers_to_device(lab) == ["2.01"]
    known = lab.known(client)
    assert known is not None
    assert [str(each) for each in known.registration.objects.paths()] == ["/1/0", "/3/0"]
    assert lab.data(client, "READ /3/0/0") == {"3/0/0": "Stellwerk"}


@pytest.mark.spec("ETS 111")
def test_a_profile_and_a_list_are_merged(lab: Lab) -> None:
    client = lab.join(
        ets=True,
        lwm2m_version="1.2",
        object_ids=frozenset({4}),
        profile_id=PROFILE,
        profile_covers=(Path(1, 0), Path(3, 0)),
    )
    (request,) = requests_of_device(lab)
    assert f"pid={PROFILE}" in query_of(request)
    assert request.payload.endswith(b",</4/0>")
    known = lab.known(client)
    assert known is not None
    assert [str(each) for each in known.registration.objects.paths()] == ["/1/0", "/3/0", "/4/0"]


@pytest.mark.spec("LwM2M-contract 4")
def test_a_profile_that_is_not_known_is_told_once_and_enough_from_then_on(lab: Lab) -> None:
    client = lab.join(
        ets=True, lwm2m_version="1.2", object_ids=frozenset({4, 7}), profile_id="4:0123456789abcdef01234567"
    )
    assert answers_to_device(lab) == ["4.09", "2.01"]
    known = lab.known(client)
    assert known is not None
    listed = known.registration.objects.objects.keys()
    since = lab.network.now
    lab.data(client, "EXECUTE /3/0/4")
    lab.run_for(5)
    assert answers_to_device(lab, since) == ["2.01"]
    assert [each.payload for each in requests_of_device(lab, since)] == [b""]
    known = lab.known(client)
    assert known is not None
    assert known.registration.objects.objects.keys() == listed == {1, 3, 4, 7}


# -- several servers --


@pytest.fixture
def second(lab: Lab) -> Iterator[Lab]:
    made = Lab(beside=lab, seed=1)
    yield made
    made.close()


@pytest.mark.spec("ETS 950", "R-18", "T-13")
def test_a_client_registers_with_each_of_its_servers(lab: Lab, second: Lab) -> None:
    there = second.stack.provision("dev1")
    client = lab.join(ets=True, others=1)
    for each, record in ((lab, client.record), (second, there)):
        known = each.stack.registry.of(record.device_id)
        assert known is not None
        assert known.registration.objects.has_instance(1, 1)
    assert client.device.is_registered
    locations = {"/".join(each.enrolment.location) for each in client.device.accounts}
    assert len(locations) == 2


@pytest.mark.spec("ETS 951", "R-18", "D-13", "T-13")
def test_what_one_server_attaches_the_other_does_not_see(lab: Lab, second: Lab) -> None:
    there = second.stack.provision("dev1")
    client = lab.join(ets=True, others=1)
    twin = type(client)(client.device, there, client.address)
    lab.data(client, "WRITE-ATTRIBUTES /3/0?pmin=2&pmax=10")
    second.data(twin, "WRITE-ATTRIBUTES /3/0?pmin=15&pmax=50")
    for each, here, periods in ((lab, client, (2, 10)), (second, twin, (15, 50))):
        found = each.data(here, "DISCOVER /3/0")
        assert (found["3/0"]["pmin"], found["3/0"]["pmax"]) == periods
        assert {"3/0/0", "3/0/1", "3/0/2", "3/0/3", "3/0/11", "3/0/16"} <= found.keys()
