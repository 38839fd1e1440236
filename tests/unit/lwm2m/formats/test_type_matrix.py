"""Every type at the ends of its range in every format that can carry it, alone and in resource instances, up and down.

The other side of each test is `plain_formats`, which shares no code with ours.
"""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import plain_formats
from typed_content import OBJECT, TYPES, VALUES, OneOfEach

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.messages import interpret, json_value
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat, EncodeError, decode_content, encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

T = ResourceType
MODEL = OneOfEach()
SINGLE = (ContentFormat.TEXT, ContentFormat.CBOR, ContentFormat.OPAQUE)
TREES = (
    ContentFormat.TLV,
    ContentFormat.LWM2M_JSON,
    ContentFormat.LWM2M_CBOR,
    ContentFormat.SENML_JSON,
    ContentFormat.SENML_CBOR,
)
ENDS: dict[ResourceType, tuple[Value, ...]] = {
    T.STRING: ("", "a\x00b", "\x00", "Z\u00e4hler \U0001f4a1 \u202e", '"\\\n', "x" * 65536),
    T.INTEGER: (
        *(0, 1, -1, 2**53 + 1, -(2**53) - 1),
        *(side for bits in (8, 16, 32, 64) for side in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)),
        *(128, -129, 2**15, -(2**15) - 1, 2**31, -(2**31) - 1),
    ),
    T.UNSIGNED: (0, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 1),
    T.FLOAT: (
        *(0.0, -0.0, 21.5, 21.1, -273.15, 0.1, 65504.0, 65505.0, 2.0**53 + 2, -1e300),
        *(3.4028234663852886e38, -3.4028234663852886e38, 1.401298464324817e-45, 1.1754943508222875e-38),
        *(1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 2.2250738585072014e-308),
    ),
    T.BOOLEAN: (True, False),
    T.OPAQUE: (b"", b"\x00", b"\xff", bytes(range(256)), b"\xfb\xff\xbf", b"\x00" * 65536),
    T.TIME: (0, 1, -1, 1_700_000_000, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**33, -62_135_596_800),
    T.OBJLNK: (ObjectLink(0, 0), ObjectLink(10, 3), ObjectLink(65534, 0), ObjectLink(65535, 65535)),
    T.CORELNK: ("", "</3/0>", '</3/0>;ver="1.1",</25/0>;rt="\u00e4"'),
}
MATRIX = [
    pytest.param(number, kind, id=f"{number}-{kind.value}")
    for number in (*SINGLE, *TREES)
    for kind in ENDS
    if number != ContentFormat.OPAQUE or kind is T.OPAQUE
]


def same(one: Value, other: Value) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def path_of(kind: ResourceType, *, multiple: bool = False) -> Path:
    return Path(OBJECT, 0, TYPES.index(kind) + (10 if multiple else 0))


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize(("number", "kind"), MATRIX)
def test_a_single_value_is_the_same_on_both_ends_up_and_down(number: int, kind: ResourceType) -> None:
    path = path_of(kind)
    for value in ENDS[kind]:
        down = encode_content(number, Content((Entry(path, value),)), path, MODEL)
        assert same(plain_formats.read(number, path, down, kind)[path], value)
        up = plain_formats.write(number, path, {path: value}, kind)
        (entry,) = decode_content(number, up, path, MODEL).entries
        assert (entry.path, entry.time_s) == (path, None)
        assert same(entry.value, value)


@pytest.mark.spec("LwM2M-contract 8.1", "LwM2M-contract 8.2")
@pytest.mark.parametrize("number", TREES)
@pytest.mark.parametrize("kind", ENDS)
def test_instances_of_a_resource_keep_their_numbers_and_values(number: int, kind: ResourceType) -> None:
    resource = path_of(kind, multiple=True)
    for above, identifiers in itertools.product((1, 2, 3), ((0,), (0, 1, 7, 255, 256, 65534), (65534,))):
        base = Path(*resource[:above])
        ends = ENDS[kind]
        values = {resource.child(each): ends[index % len(ends)] for index, each in enumerate(identifiers)}
        content = Content(tuple(Entry(path, value) for path, value in values.items()))
        down = encode_content(number, content, base, MODEL)
        assert repr(plain_formats.read(number, base, down, kind)) == repr(values)
        up = plain_formats.write(number, base, values, kind)
        assert repr(decode_content(number, up, base, MODEL)) == repr(content)


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize("number", [ContentFormat.TEXT, ContentFormat.CBOR, *TREES])
@pytest.mark.parametrize("kind", ENDS)
def test_one_instance_of_a_resource_is_read_and_written_by_its_own_path(number: int, kind: ResourceType) -> None:
    path = path_of(kind, multiple=True).child(65534)
    value = ENDS[kind][-1]
    down = encode_content(number, Content((Entry(path, value),)), path, MODEL)
    assert same(plain_formats.read(number, path, down, kind)[path], value)
    (entry,) = decode_content(number, plain_formats.write(number, path, {path: value}, kind), path, MODEL).entries
    assert entry.path == path
    assert same(entry.value, value)


@pytest.mark.spec("LwM2M-contract 8.2", "LwM2M-contract 8.4")
@pytest.mark.parametrize("number", TREES)
@pytest.mark.parametrize("kind", ENDS)
def test_a_resource_without_an_instance_is_stated_and_understood(number: int, kind: ResourceType) -> None:
    resource = path_of(kind, multiple=True)
    empty = Content((), (resource,))
    assert decode_content(number, encode_content(number, empty, resource, MODEL), resource, MODEL) == empty


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize("number", [112, 60, 11544, 11542])
@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_nan_and_the_infinities_are_values_where_a_format_has_them_and_text_in_messages(number: int, text: str) -> None:
    path, value = path_of(T.FLOAT), float(text)
    payload = plain_formats.write(number, path, {path: value}, T.FLOAT)
    (entry,) = decode_content(number, payload, path, MODEL).entries
    assert same(entry.value, value)
    assert json_value(entry.value, T.FLOAT) == text
    for other in (0, 110, 11543):
        with pytest.raises(EncodeError) as caught:
            encode_content(other, Content((entry,)), path, MODEL)
        assert str(path) in str(caught.value)


@pytest.mark.spec("LwM2M-contract 8.1", "D-15")
@pytest.mark.parametrize("number", [110, 112])
@pytest.mark.parametrize("kind", ENDS)
def test_a_send_shows_applications_what_the_device_meant(number: int, kind: ResourceType) -> None:
    ends = ENDS[kind]
    resource = path_of(kind, multiple=True)
    values = {path_of(kind): ends[0]} | {resource.child(65534 - index): value for index, value in enumerate(ends)}
    payload = plain_formats.write(number, Path(), values, kind, time_s=1_699_999_999.25)
    entry = JournalEntry(Kind.SEND, 1, 1_800_000_000_000, path="/", content_format=number, payload=payload)  # type: ignore[arg-type]
    meaning = interpret(entry, "dev1", MODEL)
    assert meaning.content is not None
    wanted = {path.key: shown(value, kind) for path, value in values.items()}
    assert repr(meaning.content["data"]) == repr(wanted)
    assert [json.loads(value) for _, value, _ in meaning.values] == list(wanted.values())
    assert {time_ms for _, _, time_ms in meaning.values} == {1_699_999_999_250}


def shown(value: Value, kind: ResourceType) -> Any:
    """As the contract of the messages has it: Time in milliseconds, Opaque as base64, links as text."""
    if kind is T.TIME:
        assert isinstance(value, int)
        return value * 1000
    return plain_formats._write_text(value).decode() if isinstance(value, bytes | ObjectLink) else value


@pytest.mark.spec("LwM2M-contract 8.1")
@settings(max_examples=80, deadline=None)
@given(data=st.data(), number=st.sampled_from((0, 60, *TREES)), kind=st.sampled_from(TYPES))
def test_any_value_is_the_same_on_both_ends(data: st.DataObject, number: int, kind: ResourceType) -> None:
    path, value = path_of(kind), data.draw(VALUES[kind])
    down = encode_content(number, Content((Entry(path, value),)), path, MODEL)
    assert same(plain_formats.read(number, path, down, kind)[path], value)
    (entry,) = decode_content(number, plain_formats.write(number, path, {path: value}, kind), path, MODEL).entries
    assert same(entry.value, value)


@pytest.mark.spec("LwM2M-contract 8.1", "T-10")
@pytest.mark.parametrize("kind", [T.INTEGER, T.UNSIGNED, T.TIME])
def test_a_whole_number_may_come_as_any_kind_of_number_but_not_as_a_fraction(kind: ResourceType) -> None:
    path = path_of(kind)
    for payload in ("f9 4900", "fa 41200000", "fb 4024000000000000", "c4 82 00 0a", "c4 82 20 18 64", "0a"):
        (entry,) = decode_content(60, bytes.fromhex(payload), path, MODEL).entries
        assert same(entry.value, 10)
    for text in ("10", "10.0", "1e1", "+10", "010"):
        assert same(decode_content(0, text.encode(), path, MODEL).entries[0].value, 10)


@pytest.mark.spec("LwM2M-contract 8.1", "LwM2M-contract 13", "READ-10", "T-10")
@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("1a 6553f100", 1_700_000_000),
        ("c1 1a 6553f100", 1_700_000_000),
        ("c1 fb 41d954fc40000000", 1_700_000_000),
        ("c1 20", -1),
        ("c1 1b 0000000200000000", 2**33),
        ("c0 74 323032332d31312d31345432323a31333a32305a", 1_700_000_000),
        ("c0 78 19 323032332d31312d31345432333a31333a32302b30313a3030", 1_700_000_000),
        ("c0 74 313936392d31322d33315432333a35393a35395a", -1),
    ],
)
def test_a_time_may_be_a_number_a_tagged_number_or_a_date(payload: str, value: int) -> None:
    path = path_of(T.TIME)
    assert same(decode_content(60, bytes.fromhex(payload), path, MODEL).entries[0].value, value)
    pack = bytes.fromhex("81 a2 00 6a") + str(path).encode() + b"\x02" + bytes.fromhex(payload)
    assert same(decode_content(112, pack, path, MODEL).entries[0].value, value)
    tree = bytes.fromhex("a1 83 19 80e8 00 06") + bytes.fromhex(payload)
    assert same(decode_content(11544, tree, path, MODEL).entries[0].value, value)


@pytest.mark.spec("LwM2M-contract 8.1")
def test_null_at_a_resource_that_is_only_executed_states_no_value() -> None:
    class Executable(OneOfEach):
        def resource_type(self, path: Path) -> ResourceType | None:
            return T.NONE

    path = Path(OBJECT, 0, 4)
    for number, payload in (
        (60, b"\xf6"),
        (110, b'[{"n":"/33000/0/4","v":null}]'),
        (112, bytes.fromhex("81 a2 00 6a") + b"/33000/0/4" + b"\x02\xf6"),
        (11544, bytes.fromhex("a1 83 19 80e8 00 04 f6")),
    ):
        assert decode_content(number, payload, path, Executable()) == Content()


def test_the_matrix_has_every_type() -> None:
    assert set(ENDS) == set(TYPES)
