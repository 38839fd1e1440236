"""Command text and JSON literals become typed values."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.values import (
    Literal,
    ValueRefused,
    objection_to_value,
    parse_entries,
    parse_json_value,
    parse_text_value,
)
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

TYPES = Library.builtin().for_device("1.1", {3: None, 3311: None, 3442: "1.0"})
STRING, INTEGER, UNSIGNED, FLOAT = Path(3442, 0, 110), Path(3442, 0, 120), Path(3442, 0, 125), Path(3442, 0, 130)
BOOLEAN, OPAQUE, TIME, OBJLNK = Path(3442, 0, 140), Path(3442, 0, 150), Path(3442, 0, 160), Path(3442, 0, 170)
CORELNK, STRINGS, UNKNOWN = Path(3442, 0, 180), Path(3442, 0, 1110), Path(30000, 0, 1)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        (STRING, "Hello", "Hello"),
        (STRING, "60", "60"),
        (STRING, "", ""),
        (INTEGER, "60", 60),
        (INTEGER, "-9223372036854775808", -(2**63)),
        # Blank to str.strip, but not to int.
        (INTEGER, "\x1d21\x1f", 21),
        (FLOAT, "\x1c21.5 ", 21.5),
        (UNSIGNED, "18446744073709551615", 2**64 - 1),
        (FLOAT, "21.5", 21.5),
        (FLOAT, "-2e3", -2000.0),
        (FLOAT, "7", 7.0),
        (BOOLEAN, "true", True),
        (BOOLEAN, "0", False),
        (OPAQUE, "yv4=", b"\xca\xfe"),
        (OPAQUE, "yv4", b"\xca\xfe"),
        (OPAQUE, "-_8", b"\xfb\xff"),
        (OPAQUE, "hex:cafe", b"\xca\xfe"),
        (TIME, "1700000000", 1700000000),
        (TIME, "-5", -5),
        (TIME, "2023-11-14T23:13:20+01:00", 1700000000),
        (TIME, "2023-11-14T22:13:20Z", 1700000000),
        (OBJLNK, "10:3", ObjectLink(10, 3)),
        (OBJLNK, "65535:65535", ObjectLink(65535, 65535)),
        (CORELNK, "</3/0>", "</3/0>"),
        (STRINGS.child(4), "x", "x"),
        (Path(1, 0, 1), "60", 60),
    ],
)
@pytest.mark.spec("D-5")
def test_command_text_becomes_what_the_resource_is(path: Path, text: str, value: Value) -> None:
    parsed = parse_text_value(TYPES, path, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (INTEGER, "abc", "'abc' is not Integer; right is a whole number of at most 64 bits, such as 60"),
        (INTEGER, "9223372036854775808", "right is a whole number of at most 64 bits"),
        (INTEGER, "1.5", "is not Integer"),
        (UNSIGNED, "-1", "right is a whole number from 0 to 2^64-1"),
        (FLOAT, "nan", "is not Float; right is a number, such as 21.5"),
        (FLOAT, "1e999", "is not Float"),
        (BOOLEAN, "yes", "right is true or false"),
        (OPAQUE, "hex:xyz", "right is base64, or hexadecimal as hex:cafe"),
        (OPAQUE, "a!", "right is base64"),
        (TIME, "2023-11-14T22:13:20", "does not say its offset from UTC"),
        (TIME, "yesterday", "is not Time; right is whole seconds since 1970"),
        (OBJLNK, "10", "right is object:instance, such as 10:3"),
        (OBJLNK, "70000:1", "right is object:instance"),
        (Path(3311, 0, 5851), "120", "/3311/0/5851 Dimmer: 120 is outside 0..100"),
        (Path(5, 0, 1), "x" * 256, "a length of 256 is outside 0..255 characters"),
        (Path(3, 0, 4), "1", "the resource is executed, it has no value"),
        (STRINGS, "x", "has resource instances; write /3442/0/1110/0"),
        (STRING.child(0), "x", "has no resource instances; write /3442/0/110"),
        (Path(3442, 0), "x", "needs the path of a resource"),
        (STRING, "\ud800", "is not String"),
    ],
)
@pytest.mark.spec("D-5")
def test_text_that_does_not_fit_is_refused_with_what_would_be_right(path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        parse_text_value(TYPES, path, text)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60", 60),
        ("-1.5e2", -150.0),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("Hello", "Hello"),
        ("007", "007"),
        ("+49", "+49"),
        ("1e999", "1e999"),
        ("99999999999999999999", 1e20),
        (" padded ", " padded "),
        ("", ""),
    ],
)
def test_without_a_model_the_text_decides(text: str, value: Value) -> None:
    parsed = parse_text_value(TYPES, UNKNOWN, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("path", "literal", "value"),
    [
        (INTEGER, 60, 60),
        (INTEGER, 60.0, 60),
        (INTEGER, "60", 60),
        (FLOAT, 7, 7.0),
        (BOOLEAN, True, True),
        (BOOLEAN, 0, False),
        (OPAQUE, {"hex": "cafe"}, b"\xca\xfe"),
        (OPAQUE, {"base64": "yv4="}, b"\xca\xfe"),
        (OBJLNK, {"object_id": 10, "instance_id": 3}, ObjectLink(10, 3)),
        (UNKNOWN, "60", "60"),
        (UNKNOWN, 60, 60),
        (UNKNOWN, True, True),
        (UNKNOWN, {"hex": "00"}, b"\0"),
    ],
)
def test_json_literals_become_what_the_resource_is(path: Path, literal: Literal, value: Value) -> None:
    parsed = parse_json_value(TYPES, path, literal)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("path", "literal"),
    [
        (STRING, 5),
        (STRING, None),
        (INTEGER, True),
        (INTEGER, 1.5),
        (INTEGER, 2**63),
        (FLOAT, True),
        (FLOAT, 10**400),
        (FLOAT, float("inf")),
        (BOOLEAN, 2),
        (OPAQUE, 5),
        (OPAQUE, {"hex": "cafe", "base64": ""}),
        (OBJLNK, {"object_id": 10}),
        (OBJLNK, {"object_id": -1, "instance_id": 0}),
        (UNKNOWN, None),
        (UNKNOWN, [1]),
        (UNKNOWN, {"a": 1}),
        (UNKNOWN, 2**64),
        (UNKNOWN, float("nan")),
    ],
)
def test_json_literals_that_do_not_fit_are_refused(path: Path, literal: Literal) -> None:
    with pytest.raises(ValueRefused):
        parse_json_value(TYPES, path, literal)


def test_a_link_says_that_it_is_one_where_no_model_does() -> None:
    assert parse_json_value(TYPES, UNKNOWN, {"object_id": 10, "instance_id": 3}) == ObjectLink(10, 3)
    with pytest.raises(ValueRefused, match="object:instance"):
        parse_json_value(TYPES, UNKNOWN, {"object_id": 10, "instance_id": 70_000})


def test_an_instance_is_an_object_of_resources() -> None:
    instance = Path(3442, 0)
    assert parse_entries(TYPES, instance, {"110": "a", "1120": {"0": 1, "7": 2}, "1130": [0.5, 1]}) == (
        Entry(instance.child(110), "a"),
        Entry(Path(3442, 0, 1120, 0), 1),
        Entry(Path(3442, 0, 1120, 7), 2),
        Entry(Path(3442, 0, 1130, 0), 0.5),
        Entry(Path(3442, 0, 1130, 1), 1.0),
    )


def test_a_single_resource_takes_a_single_literal() -> None:
    assert parse_entries(TYPES, OPAQUE, {"hex": "00"}) == (Entry(OPAQUE, b"\0"),)
    assert parse_entries(TYPES, UNKNOWN, {"0": 1}) == (Entry(UNKNOWN.child(0), 1),)
    assert parse_entries(TYPES, UNKNOWN, {"hex": "00"}) == (Entry(UNKNOWN, b"\0"),)


@pytest.mark.parametrize("literal", [5, "x", {}, {"Lifetime": 5}, {"65535": 1}, {"0": {"0": 1}}])
def test_an_instance_takes_nothing_else(literal: Literal) -> None:
    with pytest.raises(ValueRefused):
        parse_entries(TYPES, Path(1, 0), literal)


TYPED = (STRING, INTEGER, UNSIGNED, FLOAT, BOOLEAN, OPAQUE, TIME, OBJLNK, CORELNK)
PATHS = st.sampled_from([*TYPED, STRINGS, UNKNOWN, Path(1, 0), Path(3, 0, 4)])
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(["0", "1", "hex", "base64"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(path=PATHS, literal=LITERALS)
def test_any_literal_is_understood_or_refused(path: Path, literal: Literal) -> None:
    try:
        entries = parse_entries(TYPES, path, literal)
    except ValueRefused:
        return
    for entry in entries:
        resource = TYPES.resource(entry.path)
        assert resource is None or objection_to_value(resource, entry.value) is None


@settings(max_examples=300, deadline=None)
@given(path=PATHS, text=st.text() | st.text(alphabet="0123456789-+.:eETZ hx="))
def test_any_text_is_understood_or_refused(path: Path, text: str) -> None:
    try:
        value = parse_text_value(TYPES, path, text)
    except ValueRefused:
        return
    resource = TYPES.resource(path)
    assert resource is None or objection_to_value(resource, value) is None


@settings(max_examples=100, deadline=None)
@given(
    value=st.integers(-(2**63), 2**63 - 1), octets=st.binary(), number=st.floats(allow_nan=False, allow_infinity=False)
)
def test_values_survive_the_way_through_text(value: int, octets: bytes, number: float) -> None:
    assert parse_text_value(TYPES, INTEGER, str(value)) == value
    assert parse_text_value(TYPES, FLOAT, repr(number)) == number
    assert parse_text_value(TYPES, OPAQUE, base64.b64encode(octets).decode()) == octets
    assert parse_text_value(TYPES, OPAQUE, "hex:" + octets.hex()) == octets
    assert parse_json_value(TYPES, FLOAT, json.loads(json.dumps(number))) == number


def test_every_type_has_its_own_objection() -> None:
    samples: dict[ResourceType, Value] = {
        ResourceType.STRING: 1,
        ResourceType.INTEGER: "1",
        ResourceType.UNSIGNED: -1,
        ResourceType.FLOAT: "1.0",
        ResourceType.BOOLEAN: 1,
        ResourceType.OPAQUE: "00",
        ResourceType.TIME: 1.5,
        ResourceType.OBJLNK: "1:0",
        ResourceType.CORELNK: b"</3>",
    }
    for path in TYPED:
        resource = TYPES.resource(path)
        assert resource is not None
        reason = objection_to_value(resource, samples[resource.type])
        assert reason is not None
        assert resource.type.value in reason
