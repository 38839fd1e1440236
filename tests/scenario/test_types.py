"""A representative object, every type and the ends of its range, from the device's datagram to the message that an
application reads, and from a WRITE to the bytes on the wire."""

import json
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value
from tests import plain_formats
from tests.scenario.stack import WALL_MS, Stack, ack, con
from tests.scenario.test_commands import path_of, read, status, write
from tests.scenario.test_observations import OBSERVE_0, observe

T = ResourceType
TEST_OBJECT = Path(3442, 0)
"""The test object of the registry: resource 110 is String, ...; a thousand more, the same in instances."""
RESOURCES: dict[ResourceType, tuple[int, tuple[Value, ...], list[Any]]] = {
    T.STRING: (110, ("Z\u00e4hler \U0001f4a1", "", "a;b'c"), ["Z\u00e4hler \U0001f4a1", "", "a;b'c"]),
    T.INTEGER: (120, (-(2**63), 2**63 - 1, -1), [-(2**63), 2**63 - 1, -1]),
    T.UNSIGNED: (125, (2**64 - 1, 2**63, 200), [2**64 - 1, 2**63, 200]),
    T.FLOAT: (130, (-273.15, 1e300, 0.0), [-273.15, 1e300, 0.0]),
    T.BOOLEAN: (140, (False, True, False), [False, True, False]),
    T.OPAQUE: (150, (b"", b"\xfb\xff\xbf", b"\x00"), ["", "+/+/", "AA=="]),
    T.TIME: (160, (-1, 2**33, 1_700_000_000), [-1000, 2**33 * 1000, 1_700_000_000_000]),
    T.OBJLNK: (
        170,
        (ObjectLink(0, 0), ObjectLink(65535, 65535), ObjectLink(3442, 0)),
        ["0:0", "65535:65535", "3442:0"],
    ),
    T.CORELNK: (180, ("</3/0>", "", '</3442/0>;ver="1.0"'), ["</3/0>", "", '</3442/0>;ver="1.0"']),
}
TREES = (11542, 11543, 11544, 110, 112)
WRITTEN: dict[ResourceType, tuple[str, Value]] = {
    T.STRING: ("Z\u00e4hler \U0001f4a1", "Z\u00e4hler \U0001f4a1"),
    T.INTEGER: (str(-(2**63)), -(2**63)),
    T.UNSIGNED: (str(2**64 - 1), 2**64 - 1),
    T.FLOAT: ("-273.15", -273.15),
    T.BOOLEAN: ("true", True),
    T.OPAQUE: ("hex:fbffbf", b"\xfb\xff\xbf"),
    T.TIME: ("-1", -1),
    T.OBJLNK: ("65535:65535", ObjectLink(65535, 65535)),
    T.CORELNK: ("</3/0>;ver=1.1", "</3/0>;ver=1.1"),
}


def register(stack: Stack, formats: str = "110 112 11542 11543 11544") -> Any:
    device = stack.provision("dev1")
    links = f'</>;rt="oma.lwm2m";ct="{formats}",</1/0>,</3/0>,</3442/0>'.encode()
    target = "/rd?ep=dev1&lt=300&lwm2m=1.1&b=U"
    stack << con(codes.POST, target, mid=1, token=b"t", payload=links, content_format=40)
    assert stack.take().code == codes.CREATED
    return device


def answer(stack: Stack, request: Message, payload: bytes, number: int, **more: Any) -> None:
    stack << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=payload, content_format=number, extra=[], **more
    )


def instances(kind: ResourceType) -> tuple[dict[Path, Value], dict[str, Any]]:
    """Values of the type's single resource and of three instances, and what an application reads."""
    resource, values, shown = RESOURCES[kind]
    paths = [TEST_OBJECT.child(resource)]
    paths += [TEST_OBJECT.child(resource + 1000).child(each) for each in (0, 1, 65534)]
    given = (values[0], *values)
    return dict(zip(paths, given, strict=True)), {
        path.key: each for path, each in zip(paths, (shown[0], *shown), strict=True)
    }


def check_stored(stack: Stack, device: Any, wanted: dict[str, Any], times: set[int]) -> None:
    assert stack.store is not None
    current = {each.path: each for each in stack.run(stack.store.projection.current_values(device.device_id))}
    for key, value in wanted.items():
        (stored,) = stack.run(stack.store.projection.value_history(device.device_id, "/" + key, 10))
        assert (repr(json.loads(stored.value)), stored.time_ms in times) == (repr(value), True)
        assert current["/" + key].value == stored.value


@pytest.mark.spec("LwM2M-contract 8.1", "D-1")
@pytest.mark.parametrize("number", TREES)
@pytest.mark.parametrize("kind", RESOURCES)
def test_a_read_shows_values_and_instances_as_they_are(stack: Stack, number: int, kind: ResourceType) -> None:
    device = register(stack)
    values, wanted = instances(kind)
    stack.post(device, read("/3442/0"))
    answer(stack, stack.take(), plain_formats.write(number, TEST_OBJECT, values, kind), number)
    assert status(stack, device) == (200, "ok")
    assert repr(stack.received(device)[-1]["data"]) == repr(wanted)
    check_stored(stack, device, wanted, {WALL_MS})


@pytest.mark.spec("LwM2M-contract 8.1", "D-1", "T-7")
@pytest.mark.parametrize("number", [0, 60])
@pytest.mark.parametrize("kind", RESOURCES)
def test_a_read_of_one_value_understands_its_formats(stack: Stack, number: int, kind: ResourceType) -> None:
    device = register(stack)
    resource, values, shown = RESOURCES[kind]
    for path in (TEST_OBJECT.child(resource), TEST_OBJECT.child(resource + 1000).child(65534)):
        for value, wanted in zip(values, shown, strict=True):
            stack.post(device, read(str(path)))
            answer(stack, stack.take(), plain_formats.write(number, path, {path: value}, kind), number)
            assert status(stack, device) == (200, "ok")
            assert repr(stack.received(device)[-1]["data"]) == repr({path.key: wanted})


@pytest.mark.spec("LwM2M-contract 8.1", "OB-1")
@pytest.mark.parametrize("number", TREES)
@pytest.mark.parametrize("kind", RESOURCES)
def test_a_notification_shows_values_and_instances_as_they_are(stack: Stack, number: int, kind: ResourceType) -> None:
    device = register(stack)
    values, wanted = instances(kind)
    payload = plain_formats.write(number, TEST_OBJECT, values, kind)
    stack.post(device, observe("/3442/0"))
    request = stack.take()
    assert OBSERVE_0 in request.options
    answer(stack, request, payload, number, observe=1)
    (
        stack
        << con(codes.CONTENT, mid=70, token=request.token, payload=payload, content_format=number, observe=2)
        >> ack(mid=70)
    )
    message = stack.received(device)[-1]
    assert message["messageType"] == "notify"
    assert repr(message["data"]) == repr(wanted)


@pytest.mark.spec("LwM2M-contract 8.1", "D-15")
@pytest.mark.parametrize("number", [110, 112])
@pytest.mark.parametrize("kind", RESOURCES)
@pytest.mark.parametrize("time_s", [None, -60, 1_700_000_000.001])
def test_a_send_shows_values_and_instances_with_their_times(
    stack: Stack, number: int, kind: ResourceType, time_s: float | None
) -> None:
    device = register(stack)
    values, wanted = instances(kind)
    payload = plain_formats.write(number, Path(), values, kind, time_s)
    stack << con(codes.POST, "/dp", mid=71, payload=payload, content_format=number) >> ack(codes.CHANGED, mid=71)
    message = stack.received(device)[-1]
    assert message["messageType"] == "send"
    assert repr(message["data"]) == repr(wanted)
    moment = {None: WALL_MS, -60: WALL_MS - 60_000}.get(time_s, 1_700_000_000_001)
    check_stored(stack, device, wanted, {moment})


@pytest.mark.spec("D-15", "ATT-18")
def test_every_time_of_a_path_is_kept_and_the_newest_is_current(stack: Stack) -> None:
    device = register(stack)
    path = "/3442/0/1120/65534"
    records = [
        {"bn": path, "bt": 1_700_000_000, "v": -1},
        {"t": -0.0004, "v": -2},
        {"t": 60, "v": -3},
        {"t": -60, "v": -4},
    ]
    payload = json.dumps(records).encode()
    stack << con(codes.POST, "/dp", mid=72, payload=payload, content_format=110) >> ack(codes.CHANGED, mid=72)
    assert stack.received(device)[-1]["data"] == {path[1:]: -3}
    assert stack.values(device, path) == ["-4", "-1", "-2", "-3"]
    late = [{"n": path, "v": -5, "t": 1_700_000_030}]
    stack << con(codes.POST, "/dp", mid=73, payload=json.dumps(late).encode(), content_format=110)
    stack >> ack(codes.CHANGED, mid=73)
    assert stack.values(device, path) == ["-4", "-1", "-2", "-5", "-3"]
    assert stack.store is not None
    (current,) = stack.run(stack.store.projection.current_values(device.device_id))
    assert (current.value, current.time_ms) == ("-3", 1_700_000_060_000)


@pytest.mark.spec("D-15")
def test_a_value_from_a_clock_that_is_ahead_gives_way_to_what_comes_later(stack: Stack) -> None:
    device = register(stack)
    path = "/3442/0/120"
    for mid, record in enumerate(({"n": path, "t": WALL_MS / 1000 + 86400, "v": 1}, {"n": path, "v": 2}), 74):
        payload = json.dumps([record]).encode()
        stack << con(codes.POST, "/dp", mid=mid, payload=payload, content_format=110) >> ack(codes.CHANGED, mid=mid)
    assert stack.store is not None
    (current,) = stack.run(stack.store.projection.current_values(device.device_id))
    assert (current.value, current.time_ms) == ("2", WALL_MS)
    history = stack.run(stack.store.projection.value_history(device.device_id, path, 9))
    assert [(each.value, each.time_ms) for each in history] == [("1", WALL_MS + 86_400_000), ("2", WALL_MS)]


@pytest.mark.spec("LwM2M-contract 8.1", "D-6")
@pytest.mark.parametrize("number", [11542, 110, 112])
@pytest.mark.parametrize("kind", RESOURCES)
def test_a_write_arrives_as_it_was_meant(stack: Stack, number: int, kind: ResourceType) -> None:
    device = register(stack, str(number))
    resource = RESOURCES[kind][0]
    text, value = WRITTEN[kind]
    for path in (TEST_OBJECT.child(resource), TEST_OBJECT.child(resource + 1000).child(65534)):
        stack.post(device, write(str(path), text))
        request = stack.take()
        assert (request.code, path_of(request)) == (codes.PUT, str(path))
        assert (12, number.to_bytes(2, "big").lstrip(b"\x00")) in request.options
        arrived = plain_formats.read(number, path, request.payload, kind)
        assert repr(arrived) == repr({path: value})
        stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
        assert status(stack, device) == (200, "ok")


@pytest.mark.spec("D-4")
@pytest.mark.parametrize(
    ("number", "payload", "says"),
    [
        (112, "81a2006b2f333434322f302f31323002f5", "/3442/0/120 wants a number in v, the payload has a Boolean"),
        (112, "81a2006a2f333434322f302f31", "malformed CBOR at offset 3"),
        (11542, "c178", "malformed TLV at offset 0"),
        (11544, "a119ffff01", "'/65535' does not name a resource"),
        (110, "5b7b226e223a222f332f302f39222c2276223a317d5d", "/3/0/9 is outside of /3442/0"),
    ],
)
def test_nonsense_is_refused_with_its_place_and_reason_and_leaves_nothing(
    stack: Stack, number: int, payload: str, says: str
) -> None:
    device = register(stack)
    stack.post(device, read("/3442/0"))
    answer(stack, stack.take(), bytes.fromhex(payload), number)
    message = stack.received(device)[-1]
    assert (message["status"]["reason"], message["data"]) == ("adapter", None)
    assert says in message["status"]["detail"]
    assert message["path"] == "3442/0"
    assert stack.store is not None
    assert stack.run(stack.store.projection.current_values(device.device_id)) == []


@pytest.mark.spec("LwM2M-contract 6", "READ-9")
def test_of_a_send_with_one_bad_record_nothing_is_stored_and_the_log_says_which(stack: Stack) -> None:
    device = register(stack)
    records = [{"n": "/3442/0/120", "v": 1}, {"n": "/3442/0/125", "v": -1}]
    payload = json.dumps(records).encode()
    stack << con(codes.POST, "/dp", mid=75, payload=payload, content_format=110) >> ack(codes.BAD_REQUEST, mid=75)
    assert stack.store is not None
    assert stack.run(stack.store.projection.current_values(device.device_id)) == []
    (line, *_) = stack.run(stack.store.projection.device_log(device.device_id, 9))
    assert line.event == "send-refused"
    assert "/3442/0/125 wants Unsigned Integer" in line.detail
