"""Every request printed on the page that describes the API, replayed over HTTP against a server with a live device: the
answers have the member names of the samples (contract Device to Cloud §14.1)."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from raw_coap import CHANGED, CONTENT, CONTENT_FORMAT, GET, OBSERVE, SENML_JSON, Message, RawDevice, Reply, uint
from seed_page import PAGE, Printed, read_page
from served import TENANT, TOKEN, Json, Served, wait_until

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page lies in ../shared, which is not here")

EXTRAS = {"path", "resourcePath", "reason", "messageTypeName", "labels"}
"""What an answer may have beyond its sample: ours, and what some samples show and others of the same kind do not."""
TIMES = {"3/0/13", "6/0/5", "3442/0/160"}
"""Milliseconds in messages, seconds on the wire."""
LINKS = "</>;ct=110,</1/0>,</3/0>,</6/0>,</3303/0>,</3442/0>"
DEVICE = "device001"


def names(value: Any, at: str = "") -> Iterator[str]:
    """The paths of all members; those of a list are those of its first item."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield f"{at}.{name}"
            yield from names(each, f"{at}.{name}")
    elif isinstance(value, list) and value:
        yield from names(value[0], f"{at}[]")


def check_names(ours: Any, sample: Any, *, more: bool = False) -> None:
    """All names of the sample are there, of JSON types that fit, and no others but `EXTRAS`; with ``more`` any."""
    there, wanted = set(names(ours)), set(names(sample))
    assert wanted <= there, f"missing: {sorted(wanted - there)}"
    extra = {each for each in there - wanted if each.rpartition(".")[2] not in EXTRAS}
    assert more or not extra, f"not in the sample: {sorted(extra)}"
    check_types(ours, sample)


def check_types(ours: Any, sample: Any) -> None:
    if isinstance(sample, dict):
        for name, each in sample.items():
            check_types(ours[name], each)
    elif sample is not None and ours is not None:
        kinds = (int, float) if isinstance(sample, int | float) else type(sample)
        assert isinstance(ours, kinds), (ours, sample)


@pytest.fixture(scope="module")
def page() -> list[Printed]:
    return read_page()


def sample_of(page: list[Printed], message_type: str, command: str | None = None) -> Json:
    """The content instance printed for a message of the type, the one below ``command`` if that is given."""
    for each in (sample for printed in page for sample in printed.samples):
        instance = each.content.get("contentInstance", {})
        content = instance.get("content")
        if isinstance(content, dict) and content.get("messageType") == message_type and each.command == command:
            return dict(instance)
    raise AssertionError(f"no sample of {message_type} below {command}")


class Device(RawDevice):
    """Offers what the samples show, with the values printed there."""

    def __init__(self, port: int, node_id: str, page: list[Printed]) -> None:
        self.values: dict[str, Any] = {"1/0/1": 300}
        self.observed = b""
        for each in (sample.content for printed in page for sample in printed.samples):
            content = each.get("contentInstance", each).get("content")
            if isinstance(content, dict):
                self.values |= content.get("data") or {}
                if "dataValue" in content:
                    self.values[content["resourcePath"].strip("/")] = content["dataValue"]
        super().__init__(node_id, port, self._serve_values)

    def _serve_values(self, message: Message) -> Reply:
        if message.code != GET:
            return Reply(CHANGED)
        path = message.path.strip("/")
        pack = [
            {"n": f"/{each}", **self._record(each, value)}
            for each, value in self.values.items()
            if each == path or each.startswith(path + "/")
        ]
        observing: tuple[tuple[int, bytes], ...] = ()
        if message.number(OBSERVE) == 0:
            self.observed = message.token
            observing = ((OBSERVE, uint(1)),)
        return Reply(CONTENT, json.dumps(pack).encode(), (*observing, (CONTENT_FORMAT, uint(SENML_JSON))))

    @staticmethod
    def _record(path: str, value: Any) -> Json:
        if path in TIMES and value > 10**11:
            value = value / 1000
        return {"vs": value} if isinstance(value, str) else {"v": value}


class Replay:
    """Sends what is printed, with our address, tenant and token in the places left for them."""

    def __init__(self, server: Served) -> None:
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{server.http_port}", http2=False, verify=False, timeout=20
        )

    def __call__(self, printed: Printed) -> httpx.Response:
        body = None if printed.body is None else json.dumps(printed.body)
        headers = {name: self._filled(value) for name, value in printed.headers.items()}
        answer = self._client.request(printed.method, self._filled(printed.path), headers=headers, content=body)
        assert answer.headers["X-M2M-RI"] == printed.headers["X-M2M-RI"]
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        return answer

    @staticmethod
    def _filled(text: str) -> str:
        for place, value in {
            "{{TENANT}}": TENANT,
            "{{tenant_name}}": TENANT,
            "{{ACCESS_TOKEN}}": TOKEN,
            "{{fullname}}": "true",
            "<deviceID>": DEVICE,
        }.items():
            text = text.replace(place, value)
        assert "{{" not in text
        return text

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served], page: list[Printed]) -> Served:
    """With the node of the last sample, as provisioning would make it."""
    server = serve_module(expiry_grace_s="0").start()
    node = page[-1].samples[0].content["node"]
    labels = [each for each in node["labels"] if each.startswith("d2c-uplink-property_")]
    named = dict(each.split(":", 1) for each in node["labels"])
    label = page[-2].samples[0].content["node"]["deviceInfo"][0]["deviceLabel"]
    more = {"profe": named["profile"], "ICCID": named["ICCID"], "ndvi": {"dlb": label}}
    server.api.provision(DEVICE, node["nodeID"], labels, **more)
    return server


@pytest.fixture
def replay(server: Served) -> Iterator[Replay]:
    replay = Replay(server)
    yield replay
    replay.close()


@pytest.fixture
def device(server: Served, page: list[Printed]) -> Iterator[Device]:
    """Registered, and nothing else came from it since."""
    device = Device(server.coap_port, page[-1].samples[0].content["node"]["nodeID"], page)
    device.register(links=LINKS)
    server.api.wait_type(DEVICE, "registration")
    yield device
    device.close()


def in_flow(page: list[Printed], method: str, last: str, number: int = 0) -> Printed:
    """The numberth request of the kind whose path ends so."""
    return [each for each in page if (each.method, each.path.rpartition("/")[2]) == (method, last)][number]


def wait_answers(server: Served, posted: httpx.Response, count: int) -> list[Json]:
    return server.answers(DEVICE, posted.json()["contentInstance"]["resourceName"], count)


def test_the_page_was_read_whole(page: list[Printed]) -> None:
    assert [each.method for each in page] == ["POST"] * 5 + ["GET"] * 5
    assert [len(each.samples) for each in page] == [0, 0, 0, 0, 1, 1, 1, 11, 1, 1]
    commands = [sample.command for each in page for sample in each.samples if sample.command]
    assert [each.split()[0] for each in commands] == ["EXECUTE", "WRITE", "READ", "OBSERVE"]


@pytest.mark.spec("D2C 14")
def test_each_printed_message_is_taken_sent_and_answered(
    server: Served, replay: Replay, device: Device, page: list[Printed]
) -> None:
    printed = [each for each in page if each.method == "POST"]
    whole = printed[-1].samples[0].content["contentInstance"]
    for each, count in zip(printed, (1, 2, 1, 2, 1), strict=True):
        answer = replay(each)
        assert answer.status_code == 201, answer.text
        assert answer.headers["X-M2M-RSC"] == "2001"
        ours = answer.json()["contentInstance"]
        sent = each.body["m2m:cin"]
        assert (ours["content"], ours.get("contentInfo"), ours["creator"]) == (
            sent["con"],
            sent.get("cnf"),
            each.headers["X-M2M-Origin"],
        )
        check_names({**ours, "content": ""}, {**whole, **({"contentInfo": ""} if "cnf" in sent else {})})
        for response in wait_answers(server, answer, count):
            assert response["status"]["code"] == 200, response


@pytest.mark.spec("D2C 14")
def test_the_flow_of_a_read_has_the_names_of_the_page(
    server: Served, replay: Replay, device: Device, page: list[Printed]
) -> None:
    post = in_flow(page, "POST", "outgoing-msg", 4)
    posted = replay(post)
    check_names(posted.json(), post.samples[0].content)
    wait_answers(server, posted, 1)
    last_sent = in_flow(page, "GET", "la", 0)
    sent = replay(last_sent).json()
    check_names(sent, last_sent.samples[0].content)
    assert sent["contentInstance"]["content"] == post.body["m2m:cin"]["con"]
    assert sent["contentInstance"]["contentSize"] == last_sent.samples[0].content["contentInstance"]["contentSize"]
    last_received = in_flow(page, "GET", "la", 1)
    received = replay(last_received).json()
    sample = last_received.samples[0].content
    check_names(received, sample)
    ours, printed = received["contentInstance"]["content"], sample["contentInstance"]["content"]
    assert ours["data"] == printed["data"]
    # The sample shows an error together with data: a slip of the page (contract §17, 26).
    assert ours["status"]["code"] == 200
    assert received["contentInstance"]["labels"][:2] == sent["contentInstance"]["labels"][:2]


def latest(replay: Replay, page: list[Printed], message_type: str, command: str | None = None) -> Json:
    """received-msg/la as printed, once it is of the type, compared with the sample; the instance."""
    request = in_flow(page, "GET", "la", 2)

    def found() -> Json | None:
        answer = replay(request)
        instance: Json = answer.json().get("contentInstance", {})
        return instance if instance.get("content", {}).get("messageType") == message_type else None

    instance: Json = wait_until(found, within_s=15, what=message_type)
    check_names(instance, sample_of(page, message_type, command))
    return instance


@pytest.mark.spec("D2C 14")
def test_status_messages_have_the_names_of_the_page(replay: Replay, device: Device, page: list[Printed]) -> None:
    latest(replay, page, "registration")
    device.update()
    latest(replay, page, "update")
    device.deregister()
    latest(replay, page, "deregistration")
    device.register(links=LINKS, lifetime=1)
    latest(replay, page, "registration-expire")


@pytest.mark.spec("D2C 14")
@pytest.mark.parametrize("method", ["EXECUTE", "WRITE", "READ", "OBSERVE"])
def test_messages_of_devices_have_the_names_and_values_of_the_page(
    server: Served, replay: Replay, device: Device, page: list[Printed], method: str
) -> None:
    commands = [sample.command for each in page for sample in each.samples if sample.command]
    command = next(each for each in commands if each.startswith(method))
    server.answers(DEVICE, server.api.command(DEVICE, command))
    if method == "OBSERVE":
        device.notify(device.observed, 2, b"25.5", 0, within_s=10)
    message_type = "notify" if method == "OBSERVE" else "response"
    ours = latest(replay, page, message_type, command)
    printed = sample_of(page, message_type, command)
    kept = set(printed["content"]) - {"time", "nodeResourceName", "status"}
    assert {each: ours["content"][each] for each in kept} == {each: printed["content"][each] for each in kept}
    if method != "OBSERVE":
        status = ours["content"]["status"]
        assert {each: status[each] for each in printed["content"]["status"]} == printed["content"]["status"]
    assert ours["contentInfo"] == printed["contentInfo"]
    if method == "OBSERVE":
        server.api.run(DEVICE, f"UN{command}")


@pytest.mark.spec("D2C 14")
def test_a_chain_of_messages_has_the_names_and_labels_of_the_page(
    server: Served, device: Device, page: list[Printed]
) -> None:
    outgoing, sent, received = (each.content for each in in_flow(page, "GET", "la", 2).samples[-3:])
    command = outgoing["contentInstance"]["content"]
    answer = server.api.post(
        f"/device-communication/{DEVICE}/outgoing-msg",
        4,
        {"m2m:cin": {"con": command, "cnf": outgoing["contentInstance"]["contentInfo"]}},
    )
    check_names(answer.json(), outgoing)
    server.answers(DEVICE, answer.json()["contentInstance"]["resourceName"])
    our_sent = server.api.get(f"/device-communication/{DEVICE}/sent-msg/la").json()
    check_names(our_sent, sent)
    our_received = server.api.get(f"/device-communication/{DEVICE}/received-msg/la").json()["contentInstance"]
    check_names(our_received, received)
    for ours, printed in ((our_sent["contentInstance"], sent["contentInstance"]), (our_received, received)):
        words = [each.partition(":")[0] for each in printed["labels"]]
        assert [each.partition(":")[0] for each in ours["labels"]][: len(words)] == words
        assert ours["creator"] == printed["creator"]
    assert our_sent["contentInstance"]["content"] == command


@pytest.mark.spec("D2C 14")
def test_the_node_and_what_is_known_of_it_have_the_names_of_the_page(
    server: Served, replay: Replay, device: Device, page: list[Printed]
) -> None:
    device.update()
    server.api.wait_type(DEVICE, "update")
    server.wait_projected()
    request = page[-1]
    answer = replay(request)
    assert answer.status_code == 200, answer.text
    sample = request.samples[0].content
    check_names(answer.json(), sample)
    node = answer.json()["node"]
    assert (node["nodeID"], node["resourceName"], node["resourceType"]) == tuple(
        sample["node"][each] for each in ("nodeID", "resourceName", "resourceType")
    )
    now_ms = time.time() * 1000
    for each in sample["node"]["labels"]:
        name, _, _ = each.partition(":")
        ours = next(label for label in node["labels"] if label.startswith(f"{name}:"))
        if name.endswith("_timestamp"):
            # A colon, a blank, milliseconds: as printed, whatever the text above says.
            assert ours.startswith(f"{name}: ")
            assert 0 <= now_ms - int(ours.partition(": ")[2]) < 600_000
        else:
            assert ours == each

    request = page[-2]
    sample = request.samples[0].content
    keys = {
        "m2m:crds": {
            "rn": "credentials",
            "mgd": 1029,
            "dc": "cred",
            "crid": sample["node"]["credentials"][0]["credentialID"],
            "crse": sample["node"]["credentials"][0]["credentialSecret"],
        }
    }
    made = server.api.post(f"/{DEVICE}", 13, keys)
    assert made.status_code == 201, made.text
    try:
        known = wait_until(lambda: _with_firmware(replay(request)), within_s=10, what="object 3 is read")
        # More is known than the sample shows: the table above it lists manufacturer, model, location ...
        check_names(known, sample, more=True)
        for each in ("deviceLabel", "deviceName", "fwVersion", "systemTime"):
            assert known["node"]["deviceInfo"][0][each] == sample["node"]["deviceInfo"][0][each]
        assert known["node"]["credentials"][0]["credentialID"] == keys["m2m:crds"]["crid"]
    finally:
        server.api.delete(f"/{DEVICE}/credentials")


def _with_firmware(answer: httpx.Response) -> Json | None:
    assert answer.status_code == 200, answer.text
    document: Json = answer.json()
    info = document["node"].get("deviceInfo", [{}])[0]
    return document if "fwVersion" in info else None


def test_what_a_device_said_of_itself_stays_when_it_leaves(server: Served, page: list[Printed]) -> None:
    """The table of the page: the endpoint name of a Register is stored as device label, like what was read then."""
    server.api.provision("leaver", "urn:dev:os:leaver")
    device = Device(server.coap_port, "urn:dev:os:leaver", page)
    try:
        device.register(links=LINKS)
        path = "/leaver/device-info"
        wait_until(lambda: "location" in server.api.get(path).json()["deviceInfo"], within_s=10, what="it is read")
        before = server.api.get(path).json()["deviceInfo"]
        assert before["deviceLabel"] == "urn:dev:os:leaver"
        device.deregister()
        server.api.wait_type("leaver", "deregistration")
        assert set(server.api.get(path).json()["deviceInfo"]) == set(before)
    finally:
        device.close()
