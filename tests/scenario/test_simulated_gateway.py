"""A simulated gateway at the server: its end devices are devices of their own, asked, observed and heard through it."""

from collections.abc import Iterator

import pytest

from stellwerk.lwm2m.path import Path
from tests.scenario.lab import Client, Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab(end_devices=8)
    yield made
    made.close()


def behind(lab: Lab, client: Client, prefix: str) -> Client:
    """The record that the server made of an end device."""
    store = lab.stack.store
    assert store is not None
    name = f"{client.record.name}-urn:dev:os:dev1-{prefix}"
    record = lab.stack.run(store.device_by_name(lab.stack.tenant_id, name))
    assert record is not None, name
    return Client(client.device, record, client.address)


RELEASES = [("1.1", "2.0", ""), ("1.2", "2.0", ""), ("1.1", "1.0", ""), ("1.0", "1.0", ""), ("1.2", "2.0", "/lwm2m")]


@pytest.mark.spec("LwM2M-contract 12", "LwM2M-contract 10")
@pytest.mark.parametrize(("version", "gateway_version", "root"), RELEASES)
def test_end_devices_are_read_written_executed_and_discovered(
    lab: Lab, version: str, gateway_version: str, root: str
) -> None:
    client = lab.join(lwm2m_version=version, end_devices=2, gateway_version=gateway_version, root=root, moving=False)
    first, second = behind(lab, client, "d01"), behind(lab, client, "d02")
    assert lab.data(first, "READ /3303/0/5701") == {"3303/0/5701": "Cel"}
    assert lab.data(first, "READ /3303/0/5700") != lab.data(second, "READ /3303/0/5700")
    lab.data(second, "WRITE /3311/0/5850 true", "EXECUTE /3303/0/5605")
    assert lab.data(second, "READ /3311/0/5850") == {"3311/0/5850": True}
    assert lab.data(first, "READ /3311/0/5850") == {"3311/0/5850": False}
    lab.data(first, "WRITE-ATTRIBUTES /3303/0/5700?pmin=5")
    assert lab.data(first, "DISCOVER /3303")["3303/0/5700"] == {"pmin": 5}
    assert lab.data(second, "DISCOVER /3303")["3303/0/5700"] == {}


@pytest.mark.spec("LwM2M-contract 12", "OB-1")
def test_an_end_device_is_observed(lab: Lab) -> None:
    client = lab.join(end_devices=2)
    first = behind(lab, client, "d01")
    lab.data(first, "OBSERVE /3303/0/5700")
    lab.run_for(25)
    told = lab.notifications(first)
    assert len(told) == 2
    assert told[-1]["resourcePath"] == "/3303/0/5700"
    assert {each["resourcePath"] for each in lab.notifications(client)} <= {"/25"}
    lab.data(first, "UNOBSERVE /3303/0/5700")
    lab.run_for(25)
    assert len(lab.notifications(first)) == 2


@pytest.mark.spec("LwM2M-contract 12")
@pytest.mark.parametrize(("version", "content_format"), [("1.1", 110), ("1.1", 112), ("1.2", 11544)])
def test_each_end_device_is_heard(lab: Lab, version: str, content_format: int) -> None:
    client = lab.join(
        lwm2m_version=version,
        end_devices=2,
        send_every_s=30.0,
        send_format=content_format,
        send_paths=(Path(3, 0, 9),),
        moving=False,
    )
    lab.run_for(31)
    for each, path in ((client, "3/0/9"), *((behind(lab, client, name), "3303/0/5700") for name in ("d01", "d02"))):
        (message,) = lab.messages(each, "send")
        assert message["data"].keys() == {path}


@pytest.mark.spec("LwM2M-contract 12")
def test_an_end_device_that_goes_is_not_registered_any_more_and_is_again_when_it_comes_back(lab: Lab) -> None:
    client = lab.join(end_devices=2, end_devices_leave_every_s=60.0)
    first = behind(lab, client, "d01")
    lab.run_for(62)
    assert client.device.end_devices == ("d02",)
    assert lab.known(first) is None
    assert lab.known(behind(lab, client, "d02")) is not None
    lab.run_for(60)
    assert client.device.end_devices == ("d01",)
    assert lab.known(first) is not None
    assert "3303/0/5700" in lab.data(first, "READ /3303/0/5700")


@pytest.mark.spec("LwM2M-contract 12", "D-16")
def test_end_devices_are_there_again_after_a_reboot_of_their_gateway(lab: Lab) -> None:
    client = lab.join(end_devices=1)
    first = behind(lab, client, "d01")
    lab.data(client, "EXECUTE /3/0/4")
    lab.run_for(5)
    assert "3303/0/5700" in lab.data(first, "READ /3303/0/5700")
