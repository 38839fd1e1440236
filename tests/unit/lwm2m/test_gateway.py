"""The Gateway object and payloads of several devices: understood whole, or refused for a stated reason."""

import json
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import DecodeError, decode_content
from stellwerk.lwm2m.gateway import (
    LONGEST_PREFIX,
    BadEndDevice,
    check_prefix,
    decode_device_objects,
    encode_device_objects,
    prefix_of,
    read_end_devices,
    read_routes,
    split_payload,
)
from stellwerk.lwm2m.link_format import LinkFormatError, ListedObject, ObjectList
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, Value

ROOT = Path()
TYPES = Untyped()


def content(*instances: dict[int, Value]) -> Content:
    return Content(
        tuple(
            Entry(Path(25, place, number), value)
            for place, resources in enumerate(instances)
            for number, value in resources.items()
        )
    )


# -- the object --


@pytest.mark.spec("LwM2M-contract 10", "GW-9", "READ-14")
def test_version_2_0_says_who_where_and_what() -> None:
    listed = read_end_devices(content({0: "urn:x:7", 1: "d01", 3: '</3/0>,</3303/0>;ver="1.1"'}))
    (device,) = listed.devices
    assert (device.device_id, device.prefix, listed.flaws) == ("urn:x:7", "d01", ())
    assert device.objects is not None
    assert dict(device.objects.objects) == {3: ListedObject(None, (0,)), 3303: ListedObject("1.1", (0,))}


@pytest.mark.spec("LwM2M-contract 10", "GW-9")
def test_version_1_0_has_a_route_where_the_objects_are() -> None:
    (device,) = read_end_devices(content({0: b"seven", 1: b"/d01", 2: ObjectLink(26, 4)})).devices
    assert (device.device_id, device.prefix, device.route, device.objects) == ("seven", "d01", 4, None)
    routes = Content((Entry(Path(26, 4, 0), 3300), Entry(Path(26, 4, 1), ""), Entry(Path(26, 5, 1), "</3303/1>")))
    assert {each: set(objects.objects) for each, objects in read_routes(routes).items()} == {4: {3300}, 5: {3303}}


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({1: "d01", 3: ""}, "device ID"),
        ({0: "  ", 1: "d01"}, "device ID"),
        ({0: "a\x00b", 1: "d01"}, "printable"),
        ({0: "x" * 256, 1: "d01"}, "255"),
        ({0: "a"}, "prefix"),
        ({0: "a", 1: "///"}, "prefix"),
        ({0: "a", 1: "12"}, "digits"),
        ({0: "a", 1: "x/y"}, "segment"),
        ({0: "a", 1: ".."}, "segment"),
        ({0: "a", 1: "x" * 300}, "255"),
        ({0: "a", 1: "\u00e9" * 200}, "255"),
    ],
)
def test_an_instance_that_cannot_be_reached_is_passed_over_for_a_stated_reason(
    resources: dict[int, Value], reason: str
) -> None:
    listed = read_end_devices(content(resources, {0: "good", 1: "d02"}))
    assert [each.device_id for each in listed.devices] == ["good"]
    (flaw,) = listed.flaws
    assert flaw.startswith("/25/0: ")
    assert reason in flaw


def test_of_two_with_one_prefix_or_one_name_the_first_counts() -> None:
    listed = read_end_devices(content({0: "a", 1: "p"}, {0: "b", 1: "p"}, {0: "a", 1: "q"}))
    assert [(each.device_id, each.prefix) for each in listed.devices] == [("a", "p")]
    assert len(listed.flaws) == 2


def test_objects_that_do_not_decode_are_told_and_the_device_stays() -> None:
    listed = read_end_devices(content({0: "a", 1: "p", 3: "</3/0>,<<"}))
    assert listed.devices[0].objects is None
    assert "do not decode" in listed.flaws[0]


@pytest.mark.spec("R-12", "LwM2M-contract 12")
@pytest.mark.parametrize("text", ["</d01/3/0>,</d01/3303>", "</lwm2m/d01/3/0>,</3303>", "</lwm2m/3/0>,</3303>,</0/0>"])
def test_prefix_and_root_in_an_object_list_are_understood(text: str) -> None:
    assert set(decode_device_objects(text, "d01", "/lwm2m").objects) == {3, 3303}


@given(st.dictionaries(st.integers(3, 65534), st.lists(st.integers(0, 65534), unique=True, max_size=4), max_size=8))
def test_an_object_list_comes_back_in_one_spelling(objects: dict[int, list[int]]) -> None:
    wanted = {
        each: ListedObject(None, tuple(sorted(instances)))
        for each, instances in sorted(objects.items())
        if each not in (21, 23, 24)
    }
    body = encode_device_objects(ObjectList(wanted))
    assert dict(decode_device_objects(body.decode(), "d01").objects) == wanted


@given(st.text(max_size=60))
def test_any_text_is_an_object_list_or_refused(text: str) -> None:
    with suppress(LinkFormatError):
        decode_device_objects(text, "d01", "/r")


@given(st.text(max_size=300))
def test_any_prefix_is_one_segment_or_refused(text: str) -> None:
    try:
        prefix = check_prefix(0, text)
    except BadEndDevice:
        return
    assert prefix
    assert "/" not in prefix
    assert len(prefix.encode()) <= LONGEST_PREFIX
    assert prefix_of(f"/{prefix}/3/0/0") == prefix


# -- payloads --

_SEGMENT = st.sampled_from(["d01", "d02", "a-7", "1a"])
_NAME = st.tuples(st.one_of(st.none(), _SEGMENT), st.integers(0, 9), st.integers(0, 2), st.integers(0, 9))
_VALUE = st.one_of(
    st.integers(-(2**40), 2**40).map(lambda each: ("v", each)),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda each: ("v", each)),
    st.booleans().map(lambda each: ("vb", each)),
    st.text(max_size=5).map(lambda each: ("vs", each)),
)
_TIMES = st.one_of(st.none(), st.integers(-50, 50))
_BASES = st.one_of(st.none(), st.integers(1_700_000_000, 1_700_000_100))
_CBOR = {"bn": -2, "bt": -3, "n": 0, "v": 2, "vs": 3, "vb": 4, "t": 6}


def full(name: tuple[str | None, int, int, int], root: str) -> str:
    prefix, *ids = name
    return root + ("" if prefix is None else f"/{prefix}") + "".join(f"/{each}" for each in ids)


@pytest.mark.spec("LwM2M-contract 8.4", "LwM2M-contract 12", "D-15")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(_NAME, _VALUE, _TIMES, _BASES), min_size=1, max_size=8),
    st.sampled_from(["", "/lwm2m"]),
    st.sampled_from([110, 112]),
    st.booleans(),
)
def test_each_device_gets_its_records_with_the_times_they_had(
    records: list[Any], root: str, content_format: int, with_base_names: bool
) -> None:
    pack: list[dict[Any, Any]] = []
    wanted: dict[str, dict[tuple[Path, float | None], Value]] = {}
    base: float | None = None
    for name, (label, value), time, new_base in records:
        base = new_base if new_base is not None else base
        moment = None if base is None and time is None else (base or 0) + (time or 0)
        if moment is not None and moment < 2**28:
            moment += 1_800_000_000
        key = (Path(*name[1:]), moment)
        if key in wanted.setdefault(name[0] or "", {}):
            continue
        wanted[name[0] or ""][key] = value
        text = full(name, root)
        cut = text.rindex("/") + 1
        record = {"bn": text[:cut], "n": text[cut:]} if with_base_names else {"n": text}
        record |= {label: value}
        if time is not None:
            record["t"] = time
        if base is not None:
            record["bt"] = base
        pack.append(record)
    if content_format == 112:
        body = cbor2.dumps([{_CBOR[key]: value for key, value in record.items()} for record in pack])
    else:
        body = json.dumps(pack).encode()
    parts = split_payload(content_format, body, root)
    assert parts.keys() == wanted.keys()
    for prefix, part in parts.items():
        decoded = decode_content(
            content_format, part, ROOT, TYPES, now_s=1_800_000_000, root=root + (f"/{prefix}" if prefix else "")
        )
        assert {(each.path, each.time_s): each.value for each in decoded.entries} == wanted[prefix]


@pytest.mark.spec("LwM2M-contract 8.4")
def test_base_fields_hold_across_devices_and_a_base_value_is_added_in_each() -> None:
    body = (
        b'[{"bn":"/d01/3303/0/","bt":1700000000,"bv":10,"n":"5700","v":1},'
        b'{"bn":"/d02/3303/0/5700"},{"bn":"/3/0/9","v":2}]'
    )
    parts = split_payload(110, body)
    found = {
        prefix: decode_content(110, part, ROOT, TYPES, root=f"/{prefix}" if prefix else "").entries
        for prefix, part in parts.items()
    }
    assert {prefix: (entries[0].value, entries[0].time_s) for prefix, entries in found.items()} == {
        "d01": (11, 1_700_000_000),
        "d02": (10, 1_700_000_000),
        "": (12, 1_700_000_000),
    }


@pytest.mark.spec("LwM2M-contract 8.5", "LwM2M-contract 12")
def test_keys_of_lwm2m_cbor_begin_with_the_prefix() -> None:
    vector = bytes.fromhex("a18463643031190ce700191644f94d60")
    ((prefix, part),) = split_payload(11544, vector).items()
    assert prefix == "d01"
    assert decode_content(11544, part, ROOT, TYPES, root="/d01").entries == (Entry(Path(3303, 0, 5700), 21.5),)
    # The parts say whose they are by being apart.
    assert decode_content(11544, part, ROOT, TYPES).entries == (Entry(Path(3303, 0, 5700), 21.5),)
    nested = cbor2.dumps({"d02": {3303: {0: {5700: 1}}}, ("d02", 3): {0: {0: "x"}}, 3: {0: {9: 100}}})
    parts = split_payload(11544, nested)
    assert decode_content(11544, parts["d02"], ROOT, TYPES, root="/d02").entries == (
        Entry(Path(3303, 0, 5700), 1),
        Entry(Path(3, 0, 0), "x"),
    )
    assert decode_content(11544, parts[""], ROOT, TYPES).entries == (Entry(Path(3, 0, 9), 100),)
    alone = split_payload(11544, cbor2.dumps({("d02",): {3: {0: {9: 100}}}}))
    assert decode_content(11544, alone["d02"], ROOT, TYPES).entries == (Entry(Path(3, 0, 9), 100),)


@pytest.mark.spec("LwM2M-contract 8.5")
@pytest.mark.parametrize(
    "tree",
    [
        {"d02": 1},
        {"d02": {}},
        {("d02",): 1},
        {"d02": {(3, 0, 0): 1}, ("d02", 3, 0, 0): 2},
        {("d02", 3, 0): 1},
        {("d02", "d03", 3, 0, 0): 1},
        {"d02": {"d03": {3: {0: {0: 1}}}}},
    ],
)
def test_keys_that_are_no_paths_behind_their_prefix_are_refused(tree: dict[Any, Any]) -> None:
    with pytest.raises(DecodeError):
        [decode_content(11544, part, ROOT, TYPES) for part in split_payload(11544, cbor2.dumps(tree)).values()]


def test_a_payload_of_the_gateway_alone_stays_as_it_came() -> None:
    body = b'[ {"n" : "/3/0/9", "v":1e2} ]'
    assert split_payload(110, body) == {"": body}
    assert split_payload(42, b"\x00") == {"": b"\x00"}
    assert split_payload(110, b"[]") == {"": b"[]"}


@pytest.mark.parametrize("content_format", [110, 112, 320, 322, 11544])
@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_split_or_refused(content_format: int, body: bytes) -> None:
    with suppress(DecodeError):
        split_payload(content_format, body, "/r")


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["bn", "n", "v", "bv", "bt", "x"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_JSON, max_size=4))
def test_what_is_no_pack_in_one_piece_is_none_in_several(pack: list[Any]) -> None:
    body = json.dumps(pack).encode()
    try:
        whole: Content | None = decode_content(110, body, ROOT, TYPES)
    except DecodeError:
        whole = None
    try:
        parts = split_payload(110, body)
        found = [
            decode_content(110, part, ROOT, TYPES, root=f"/{prefix}" if prefix else "")
            for prefix, part in parts.items()
        ]
    except DecodeError:
        assert whole is None
        return
    if whole is not None:
        assert found == [whole]
