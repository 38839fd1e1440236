"""The vendor's own client against our server: its test sets of applications and devices, and a day in the life of both.

Groups and routing are not there yet; of the client's checks of those nothing runs here.
"""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from raw_coap import CHANGED, CONTENT, CONTENT_FORMAT, GET, Message, RawDevice, Reply
from served import Json, Served
from vendor_client import VendorClient, environment, samples

REASON = environment()[1]
pytestmark = pytest.mark.skipif(bool(REASON), reason=f"d2c: {REASON}")

AS_THEY_ARE = ["a01", "a02", "a03", "a05", "a06", "a07", "a11", "a12"]
"""Test sets that pass with the client's own samples."""
APPLICATIONS = ["a04", "a04-short-header", "a08", "a08-short-header", "a09", "a09-short-header", "a10"]
DEVICES = ["d01", "d02", "d03", "d04", "d05", "d06", "d07", "d08", "d09", "d10", "d11", "d13", "d14", "d15"]
CANNOT = {
    "the header labels of a04, a08, a09, a10": "the client writes poah, and looks for labels WebHookHttpHeader_<name>",
    "the property labels of d04 to d11": "the client writes d2c-uplink-property_<key> and <key>, and looks for "
    "UplinkProperty_<key> and DeviceProperty_<key>",
    "d01 to d15 with the client's samples": "the samples name no profile, and the client refuses to go on without one",
    "verify-d2c-model: three subscriptions": "it looks for the vendor's internal services behind device-provisioning, "
    "device-provisioning/request and device-group",
}
"""Checks of the client that nothing we do could pass, and why; the configuration leaves them out, and what they are
about is tested here."""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    # Who sleeps does so right after its last word.
    return serve_module(awake_s="0").start()


@pytest.fixture(scope="module")
def d2c(server: Served, tmp_path_factory: pytest.TempPathFactory) -> VendorClient:
    client = VendorClient(server, tmp_path_factory.mktemp("d2c"))
    made = client.json("add-d2ccli-application")
    assert made["name"] == "d2ccli"
    return client


@pytest.mark.spec("D2C 14")
@pytest.mark.parametrize("name", AS_THEY_ARE)
def test_a_test_set_passes_as_it_is(d2c: VendorClient, name: str) -> None:
    d2c.test_set(f"test-{name}")


def wanted(sample: Json, what: str) -> Json:
    """What the client's own check wants to be there in the end of the properties ``what``."""
    last = sample.get("modify_props") or {}
    if what not in last:
        last = sample["create_props"]
    found: Json = last.get(f"{what}_verify", last.get(what)) or {}
    return found


@pytest.mark.spec("D2C 14")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_test_set_of_applications_passes_and_the_headers_are_there(
    server: Served, d2c: VendorClient, name: str
) -> None:
    variable = f"ApplicationCfg_{name.replace('-', '_').capitalize()}"
    d2c.test_set(f"test-{name}", variable)
    sample = samples()[variable]
    application = server.api.get(f"/{sample['name']}").json()["m2m:ae"]
    headers = wanted(sample, "connection_properties")
    assert headers
    assert dict(each.split(":", 1) for each in application["poah"]) == headers


@pytest.mark.spec("D2C 14")
@pytest.mark.parametrize("name", DEVICES)
def test_a_test_set_of_devices_passes_and_the_properties_are_there(
    server: Served, d2c: VendorClient, name: str
) -> None:
    variable = f"DeviceCfg_{name.capitalize()}"
    d2c.test_set(f"test-{name}", variable)
    sample = samples()[variable]
    answer = server.api.get(f"/{sample['name']}")
    if name in ("d13", "d14"):
        # Deleted in the end.
        assert answer.status_code == 404
        return
    labels = answer.json()["node"]["labels"]
    uplink = {f"d2c-uplink-property_{key}": value for key, value in wanted(sample, "uplink_properties").items()}
    for key, value in (uplink | wanted(sample, "device_properties")).items():
        assert f"{key}:{value}" in labels


@pytest.mark.spec("D2C 14")
def test_the_model_is_as_the_client_wants_it_but_for_internal_services(d2c: VendorClient) -> None:
    said = d2c("verify-d2c-model")
    assert said.count("NOT OK") == 3, said
    assert said.count("OK") - said.count("NOT OK") == 6, said


def sensor(message: Message) -> Reply:
    return Reply(CONTENT, b"20.5", ((CONTENT_FORMAT, b""),)) if message.code == GET else Reply(CHANGED)


@pytest.fixture
def device(server: Served, d2c: VendorClient) -> Iterator[RawDevice]:
    """Made with the client, not registered yet; removed with it in the end."""
    name = f"live-{next(_numbers)}"
    time.sleep(1.0)  # as before a test set
    made = d2c.json("add-device", "-n", name, "-prf", "SCS-LwM2M", "-up", '{"Room": "2035"}', "-ma", "Maker")
    assert (made["name"], made["manufacturer"], made["uplinkProperties"]) == (name, "Maker", {"Room": 2035})
    device = RawDevice(f"urn:gsma:imei:{name}", server.coap_port, sensor)
    yield device
    device.close()
    d2c("delete-device", "-n", name)
    assert server.api.get(f"/{name}").status_code == 404


@pytest.mark.spec("D2C 14")
def test_a_live_device_is_asked_with_the_client_and_its_messages_are_read(
    server: Served, d2c: VendorClient, device: RawDevice
) -> None:
    name = device.endpoint.rpartition(":")[2]
    device.register()
    server.api.wait_type(name, "registration")
    d2c("inject-downlink-message", "-n", name, "-con", "READ /3303/0/5700")
    server.api.wait_type(name, "response")
    received = d2c.json("get-device-messages", "-n", name, "-ms", "uplink-inbound")
    assert [each["content"]["messageType"] for each in received] == ["response", "registration"]
    assert received[0]["content"]["data"] == {"3303/0/5700": 20.5}
    assert (received[0]["contentType"], received[0]["contentEncoding"]) == ("application/json", "none")
    [sent] = d2c.json("get-device-messages", "-n", name, "-ms", "downlink-outbound")
    assert sent["content"] == "READ /3303/0/5700"


@pytest.mark.spec("D2C 14")
def test_a_command_for_a_sleeper_is_seen_and_taken_back_with_the_client(
    server: Served, d2c: VendorClient, device: RawDevice
) -> None:
    name = device.endpoint.rpartition(":")[2]
    device.register(queue_mode=True)
    time.sleep(0.5)  # until it is taken to sleep
    posted = d2c.json("inject-downlink-message", "-n", name, "-con", "READ /3303/0/5700")
    assert posted["content"] == "READ /3303/0/5700"
    [waiting] = d2c.json("get-device-messages", "-n", name, "-ms", "downlink-inbound")
    assert waiting["id"] == posted["id"]
    d2c("delete-device-message", "-n", name, "-ms", "downlink-inbound", "-mi", posted["id"])
    assert server.answers(name, posted["name"])[0]["status"]["reason"] == "cancelled"
    device.update()
    server.api.wait_type(name, "update")
    assert device.handled == []
