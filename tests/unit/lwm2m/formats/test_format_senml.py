"""SenML's own rules: names, base fields, times, and what a pack may not say."""

import json
from typing import Any

import cbor2
import pytest
from typed_content import OneOfEach

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import (
    BadName,
    ContentFormat,
    DecodeError,
    EncodeError,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    WrongType,
    decode_content,
    decode_paths,
    encode_content,
    encode_paths,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink

MODEL = OneOfEach()
NOW = 1_800_000_000.0
JSON = ContentFormat.SENML_JSON
CBOR = ContentFormat.SENML_CBOR


def read(pack: Any, base: str = "/", root: str = "", now_s: float | None = NOW) -> list[tuple[str, Any, float | None]]:
    content = decode_content(JSON, json.dumps(pack).encode(), Path.parse(base), MODEL, now_s, root)
    return [(str(path), value, time_s) for path, value, time_s in content.entries]


@pytest.mark.spec("RFC 8428 4.1", "T-10")
def test_base_fields_hold_until_they_change() -> None:
    pack = [
        {"bn": "/33000/0/", "bt": 1.7e9, "n": "1", "v": 1},
        {"n": "1", "t": 5, "v": 2},
        {"bn": "/33000/1/", "n": "1", "v": 3},
        {"bt": 1.6e9, "n": "1", "v": 4},
    ]
    assert read(pack) == [
        ("/33000/0/1", 1, 1.7e9),
        ("/33000/0/1", 2, 1.7e9 + 5),
        ("/33000/1/1", 3, 1.7e9),
        ("/33000/1/1", 4, 1.6e9),
    ]


@pytest.mark.spec("RFC 8428 4.5.3", "LwM2M-contract 8.4")
@pytest.mark.parametrize(
    ("fields", "time_s"),
    [
        ({}, None),
        ({"t": 0}, NOW),
        ({"t": -60}, NOW - 60),
        ({"t": 2**28 - 1}, NOW + 2**28 - 1),
        ({"t": 2**28}, 2**28),
        ({"bt": 1.7e9}, 1.7e9),
        ({"bt": 1.7e9, "t": -60}, 1.7e9 - 60),
        ({"bt": -20, "t": -60}, NOW - 80),
    ],
)
def test_times_become_absolute(fields: dict[str, float], time_s: float | None) -> None:
    assert read([{"n": "/33000/0/1", "v": 1, **fields}]) == [("/33000/0/1", 1, time_s)]


@pytest.mark.spec("RFC 8428 4.5.3")
def test_without_a_clock_relative_times_stay_relative() -> None:
    assert read([{"n": "/33000/0/1", "v": 1, "t": -60}], now_s=None) == [("/33000/0/1", 1, -60)]


@pytest.mark.spec("RFC 8428 4.5.4")
def test_a_base_value_is_added_and_stands_for_a_missing_one() -> None:
    pack = [{"bn": "/33000/0/", "n": "1", "bv": 2**62, "v": 1}, {"n": "2", "bv": 5}, {"n": "3", "bv": 0.5, "v": 1}]
    assert [value for _, value, _ in read(pack)] == [2**62 + 1, 5, 1.5]
    assert read([{"bn": "/33000/0/", "bv": 5}, {"n": "1"}]) == [("/33000/0/1", 5, None)]
    assert read([{"bn": "/33000/0/1", "bv": 5}]) == [("/33000/0/1", 5, None)]


@pytest.mark.spec("LwM2M-contract 8.4")
def test_unknown_fields_are_ignored_unless_they_must_be_understood() -> None:
    assert read([{"n": "/33000/0/1", "v": 1, "x": {"y": [1]}, "u": "W", "ut": 3}]) == [("/33000/0/1", 1, None)]
    with pytest.raises(Malformed):
        read([{"n": "/33000/0/1", "v": 1, "x_": 1}])
    with pytest.raises(Malformed):
        read([{"n": "/33000/0/1", "v": 1, "bver": 11}])


@pytest.mark.spec("LwM2M-contract 8.4")
def test_a_record_of_base_fields_alone_states_nothing() -> None:
    assert read([{"bn": "/33000/0/", "bver": 10}, {"n": "1", "v": 1}]) == [("/33000/0/1", 1, None)]


@pytest.mark.spec("LwM2M-contract 8.4", "RFC 8428 4.2")
def test_units_sums_and_update_times_are_no_values() -> None:
    pack = [
        {"bn": "/33000/0/", "bu": "W", "n": "1", "v": 1, "u": "Wh", "s": 5.5, "ut": 60},
        {"n": "2", "s": 7},
        {"bs": 100},
        {"n": "2", "t": -5},
        {"n": "2", "v": 3},
    ]
    assert read(pack) == [("/33000/0/1", 1, None), ("/33000/0/2", 3, None)]
    # A sum of its own excuses one record alone.
    with pytest.raises(Malformed):
        read([{"n": "/33000/0/2", "s": 7}, {"n": "/33000/0/1"}])


@pytest.mark.spec("LwM2M-contract 8.4")
def test_sums_of_base_value_and_value_stay_exact() -> None:
    payload = b'[{"n":"/33000/0/2","bv":9007199254740993.0,"v":2}]'
    assert decode_content(JSON, payload, Path(), MODEL).entries[0].value == 9007199254740995


@pytest.mark.spec("LwM2M-contract 8.4", "READ-9")
def test_a_path_may_come_again_at_another_time_only() -> None:
    twice = [{"n": "/33000/0/1", "v": 1, "t": -1}, {"n": "/33000/0/1", "v": 1, "t": -2}]
    assert len(read(twice)) == 2
    twice[1]["t"] = -1
    with pytest.raises(Repeated) as caught:
        read(twice)
    assert (caught.value.path, caught.value.time_s) == (Path(33000, 0, 1), NOW - 1)
    with pytest.raises(Repeated):
        read([{"n": "/33000/0/1", "v": 1}, {"n": "/33000/0/1", "v": 1}])


@pytest.mark.spec("LwM2M-contract 8.4")
def test_a_name_outside_of_what_was_asked_for_is_refused() -> None:
    with pytest.raises(OutsideBase) as caught:
        read([{"n": "/33000/1/1", "v": 1}], base="/33000/0")
    assert (caught.value.path, caught.value.base) == (Path(33000, 1, 1), Path(33000, 0))


@pytest.mark.parametrize(
    "name", ["", "/", "/33000", "/33000/0", "33000/0/1", "/33000/0/1/2/3", "/a/0/1", "/33000//1", "/99999/0/1"]
)
def test_a_name_that_is_no_resource_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        read([{"n": name, "v": 1}])


@pytest.mark.spec("R-11")
def test_an_alternate_root_prefixes_every_name() -> None:
    assert read([{"bn": "/lwm2m/33000/0/", "n": "1", "v": 1}], root="/lwm2m") == [("/33000/0/1", 1, None)]
    for name in ("/33000/0/1", "/lwm2mx/33000/0/1", "/lwm2m33000/0/1"):
        with pytest.raises(BadName):
            read([{"n": name, "v": 1}], root="/lwm2m")
    payload = encode_content(CBOR, Content((Entry(Path(33000, 0, 1), 1),)), Path(33000, 0), MODEL, "/lwm2m")
    assert cbor2.loads(payload) == [{-2: "/lwm2m/33000/0/", 0: "1", 2: 1}]
    paths = (Path(3, 0), Path())
    assert cbor2.loads(encode_paths(CBOR, paths, "/lwm2m")) == [{0: "/lwm2m/3/0"}, {0: "/lwm2m"}]
    assert decode_paths(CBOR, encode_paths(CBOR, paths, "/lwm2m"), "/lwm2m") == paths


@pytest.mark.spec("LwM2M-contract 12", "R-11", "GW-6")
@pytest.mark.parametrize(("root", "start"), [("", "/d01"), ("/lwm2m", "/lwm2m/d01")])
def test_the_prefix_of_an_end_device_follows_the_alternate_root(root: str, start: str) -> None:
    path = Path(33000, 0, 1)
    content = Content((Entry(path, 1),))
    for number in (110, 112, 320, 322, 11543, 11544):
        payload = encode_content(number, content, path.parent, MODEL, root, prefix="d01")
        assert decode_content(number, payload, path.parent, MODEL, root=root, prefix="d01") == content
        assert decode_content(number, payload, path.parent, MODEL, root=start) == content
        for other in ({"root": root}, {"root": root, "prefix": "d02"}):
            with pytest.raises(BadName):
                decode_content(number, payload, path.parent, MODEL, **other)  # type: ignore[arg-type]
    assert (
        json.loads(encode_content(JSON, content, path.parent, MODEL, root, prefix="d01"))[0]["bn"]
        == start + "/33000/0/"
    )
    assert encode_content(11542, content, path, MODEL, root, prefix="d01") == bytes.fromhex("c10101")
    paths = (path, Path(), Path(3))
    for number in (110, 112, 320, 322):
        payload = encode_paths(number, paths, root, prefix="d01")
        assert decode_paths(number, payload, root, prefix="d01") == paths
    assert json.loads(encode_paths(JSON, paths, root, prefix="d01"))[1] == {"n": start}


@pytest.mark.spec("D-9")
def test_an_instance_to_be_numbered_is_named_in_a_create_alone() -> None:
    content = Content((Entry(Path(33000, 65535, 1), 1), Entry(Path(33000, 65535, 11, 0), 2)))
    for number in (110, 112, 11542, 11543, 11544):
        payload = encode_content(number, content, Path(33000), MODEL)
        assert decode_content(number, payload, Path(33000), MODEL, creating=True) == content
        with pytest.raises(DecodeError):
            decode_content(number, payload, Path(33000), MODEL)


@pytest.mark.spec("LwM2M-contract 8.4", "RFC 8790 3.2")
@pytest.mark.parametrize("number", [320, 322])
def test_a_patch_pack_sets_and_removes_at_once(number: int) -> None:
    content = Content((Entry(Path(33000, 0, 1), 1), Entry(Path(33000, 0, 11, 0), 2)), (), (Path(33000, 0, 11, 1),))
    for base in (Path(), Path(33000), Path(33000, 0)):
        payload = encode_content(number, content, base, MODEL)
        assert decode_content(number, payload, base, MODEL) == content
    pack = json.loads(payload) if number == 320 else cbor2.loads(payload)
    # First what goes, under its whole name.
    assert pack[0] == ({"n": "/33000/0/11/1", "v": None} if number == 320 else {0: "/33000/0/11/1", 2: None})
    nan = Content((Entry(Path(33000, 0, 1), 1), Entry(Path(33000, 0, 3), float("nan"))), (), content.removed)
    if number == 320:
        with pytest.raises(EncodeError) as caught:
            encode_content(number, nan, Path(33000, 0), MODEL)
        assert caught.value.path == Path(33000, 0, 3)


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize("number", [0, 42, 60, 110, 112, 11542, 11543, 11544])
def test_only_the_etch_formats_take_a_resource_instance_away(number: int) -> None:
    path = Path(33000, 0, 11, 1)
    with pytest.raises(EncodeError) as caught:
        encode_content(number, Content((), (), (path,)), path.parent, MODEL)
    assert caught.value.path == path


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize(
    "content",
    [
        Content((), (), (Path(33000, 0, 1),)),
        Content((), (), (Path(33000, 1, 11, 1),)),
        Content((), (), (Path(33000, 0, 11, 1), Path(33000, 0, 11, 1))),
        Content((Entry(Path(33000, 0, 11, 1), 1),), (), (Path(33000, 0, 11, 1),)),
    ],
)
def test_what_no_patch_can_mean_is_not_written(content: Content) -> None:
    with pytest.raises(EncodeError):
        encode_content(322, content, Path(33000, 0), MODEL)
    with pytest.raises(EncodeError):
        encode_paths(CBOR, (Path(3), Path(3)))


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize(
    "fields",
    [
        {"v": "1"},
        {"v": True},
        {"v": None},
        {"vs": 1},
        {"vb": 1},
        {"vb": "true"},
        {"vd": 1},
        {"vd": "?"},
        {"vlo": 1},
        {"vlo": "10"},
        {"vlo": "10:70000"},
        {"v": 1.5},
        {"v": 2**63},
        {"vs": "x"},
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_path(fields: dict[str, Any]) -> None:
    # Resource 1 is an Integer.
    with pytest.raises(WrongType) as caught:
        read([{"n": "/33000/0/1", **fields}])
    assert caught.value.path == Path(33000, 0, 1)
    assert "/33000/0/1" in str(caught.value)


@pytest.mark.parametrize(
    "pack",
    [
        {},
        1,
        [1],
        [[]],
        [{"n": 1, "v": 1}],
        [{"bn": 1, "v": 1}],
        [{"n": "/33000/0/1"}],
        [{"n": "/33000/0/1", "v": 1, "vs": "x"}],
        [{"n": "/33000/0/1", "v": 1, "t": "now"}],
        [{"n": "/33000/0/1", "v": 1, "t": 1e30}],
        [{"n": "/33000/0/1", "v": 1, "bt": None}],
    ],
)
def test_what_is_no_pack_is_refused(pack: Any) -> None:
    with pytest.raises(Malformed):
        read(pack)


@pytest.mark.spec("LwM2M-contract 15")
def test_the_number_of_records_is_bounded() -> None:
    record = {"n": "/33000/0/1", "v": 1}
    with pytest.raises(LimitExceeded):
        read([{**record, "t": -number} for number in range(4097)])
    assert len(read([{**record, "t": -number} for number in range(4096)])) == 4096


@pytest.mark.spec("LwM2M-contract 8.1")
def test_integers_never_pass_through_a_float() -> None:
    for text, value in (("9007199254740993.0", 9007199254740993), ("1e3", 1000), ("-2.0", -2)):
        payload = b'[{"n":"/33000/0/1","v":' + text.encode() + b"}]"
        assert decode_content(JSON, payload, Path(), MODEL).entries[0].value == value
    with pytest.raises(WrongType):
        decode_content(JSON, b'[{"n":"/33000/0/1","v":1e300}]', Path(), MODEL)


@pytest.mark.spec("LwM2M-contract 8.4")
def test_cbor_packs_may_be_indefinite_and_use_decimal_fractions_and_any_width_of_float() -> None:
    record = bytes.fromhex("bf 00 6a") + b"/33000/0/3"
    for value in ("c4 82 21 19 6ab3", "fb 4071126666666666", "fb 4071126666666666 "):
        payload = b"\x9f" + record + b"\x02" + bytes.fromhex(value) + b"\xff\xff"
        assert decode_content(CBOR, payload, Path(), MODEL).entries[0].value == 273.15
    for value in ("f9 4d60", "fa 41ac0000", "fb 4035800000000000"):
        payload = b"\x9f" + record + b"\x02" + bytes.fromhex(value) + b"\xff\xff"
        assert decode_content(CBOR, payload, Path(), MODEL).entries[0].value == 21.5


def test_a_cbor_record_with_a_key_twice_is_refused() -> None:
    with pytest.raises(Malformed):
        decode_content(CBOR, bytes.fromhex("81a3 00 6a") + b"/33000/0/1" + bytes.fromhex("0201 0202"), Path(), MODEL)


@pytest.mark.parametrize("text", ["yv4", "yv4=", "-_-_", "+/+/"])
@pytest.mark.spec("LwM2M-contract 13", "T-10")
def test_both_base64_alphabets_and_missing_padding_are_understood(text: str) -> None:
    pack = [{"n": "/33000/0/5", "vd": text}]
    value = decode_content(JSON, json.dumps(pack).encode(), Path(), MODEL).entries[0].value
    assert value in (b"\xca\xfe", b"\xfb\xff\xbf")


@pytest.mark.spec("D-4", "MOD-7")
def test_unknown_resources_keep_what_the_format_says() -> None:
    pack = [
        {"n": "/9/0/1", "v": 1},
        {"n": "/9/0/2", "v": 1.5},
        {"n": "/9/0/3", "vs": "x"},
        {"n": "/9/0/4", "vb": True},
        {"n": "/9/0/5", "vlo": "1:2"},
        {"n": "/9/0/6", "v": 1e300},
    ]
    content = decode_content(JSON, json.dumps(pack).encode(), Path(), Untyped())
    assert [entry.value for entry in content.entries] == [1, 1.5, "x", True, ObjectLink(1, 2), 1e300]


@pytest.mark.spec("D-15")
def test_mixed_times_are_written_without_a_base_time() -> None:
    path = Path(33000, 0, 1)
    content = Content((Entry(path, 1, 1.7e9), Entry(path, 2)))
    assert json.loads(encode_content(JSON, content, path, MODEL)) == [
        {"bn": "/33000/0/1", "t": 1700000000, "v": 1},
        {"v": 2},
    ]
    assert decode_content(JSON, encode_content(JSON, content, path, MODEL), path, MODEL) == content


def test_content_outside_of_the_base_or_twice_is_not_written() -> None:
    entry = Entry(Path(33000, 0, 1), 1)
    with pytest.raises(EncodeError):
        encode_content(CBOR, Content((entry,)), Path(33000, 1), MODEL)
    with pytest.raises(EncodeError):
        encode_content(CBOR, Content((entry, entry)), Path(33000), MODEL)
    with pytest.raises(EncodeError):
        encode_content(JSON, Content((Entry(Path(33000, 0, 0), "\ud800"),)), Path(33000), MODEL)


def test_every_refusal_is_a_decode_error_with_its_facts() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_content(CBOR, b"\x81", Path(), MODEL)
    assert isinstance(caught.value, Malformed)
    assert caught.value.format_name == "CBOR"
