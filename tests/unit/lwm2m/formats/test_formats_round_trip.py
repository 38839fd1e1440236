"""What holds for every format: what is written can be read, and any bytes are understood or refused."""

import contextlib
import math
import time

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typed_content import OBJECT, TIMES, TYPES, VALUES, OneOfEach, contents, resource_of

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import (
    ContentFormat,
    DecodeError,
    EncodeError,
    decode_content,
    decode_paths,
    encode_content,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ResourceType, Value

MODEL = OneOfEach()
SINGLE = (ContentFormat.TEXT, ContentFormat.CBOR)
TREES = (ContentFormat.TLV, ContentFormat.LWM2M_CBOR, ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON)
ALL = (*SINGLE, *TREES, ContentFormat.OPAQUE, 50, 320, 322, 1541, 1542, 1543)
BASES = (Path(), Path(OBJECT), Path(OBJECT, 0), Path(OBJECT, 0, 2), Path(OBJECT, 0, 12), Path(OBJECT, 0, 12, 1))

EXTREMES = [
    (ResourceType.INTEGER, -(2**63)),
    (ResourceType.INTEGER, 2**63 - 1),
    (ResourceType.INTEGER, 2**53 + 1),
    (ResourceType.UNSIGNED, 2**64 - 1),
    (ResourceType.UNSIGNED, 2**53 + 1),
    (ResourceType.UNSIGNED, 0),
    (ResourceType.TIME, -1),
    (ResourceType.TIME, 2**40),
    (ResourceType.FLOAT, 5e-324),
    (ResourceType.FLOAT, -1.7976931348623157e308),
    (ResourceType.FLOAT, 0.1),
    (ResourceType.STRING, ""),
    (ResourceType.STRING, "Zähler \U0001f4a1\n"),
    (ResourceType.OPAQUE, b""),
    (ResourceType.OPAQUE, bytes(range(256))),
]


def same(one: Value, other: Value) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return type(one) is type(other) and (both_nan or one == other)


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize("content_format", [*SINGLE, *TREES])
def test_the_ends_of_every_range_survive(content_format: int) -> None:
    for kind, value in EXTREMES:
        path = resource_of(kind)
        content = Content((Entry(path, value),))
        payload = encode_content(content_format, content, path, MODEL)
        (entry,) = decode_content(content_format, payload, path, MODEL).entries
        assert same(entry.value, value)


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize("content_format", [*SINGLE, *TREES])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ResourceType.INTEGER, 2**63),
        (ResourceType.INTEGER, 1.5),
        (ResourceType.UNSIGNED, -1),
        (ResourceType.UNSIGNED, 2**64),
        (ResourceType.BOOLEAN, 1),
        (ResourceType.STRING, b"x"),
        (ResourceType.OPAQUE, "x"),
        (ResourceType.OBJLNK, "10"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_not_sent(content_format: int, kind: ResourceType, value: Value) -> None:
    path = resource_of(kind)
    with pytest.raises(EncodeError) as caught:
        encode_content(content_format, Content((Entry(path, value),)), path, MODEL)
    assert caught.value.path == path


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_travel_in_binary_and_not_as_text(value: float) -> None:
    path = resource_of(ResourceType.FLOAT)
    content = Content((Entry(path, value),))
    for content_format in (ContentFormat.TLV, ContentFormat.CBOR, ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR):
        payload = encode_content(content_format, content, path, MODEL)
        assert same(decode_content(content_format, payload, path, MODEL).entries[0].value, value)
    for content_format in (ContentFormat.TEXT, ContentFormat.SENML_JSON):
        with pytest.raises(EncodeError):
            encode_content(content_format, content, path, MODEL)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), content_format=st.sampled_from(SINGLE), kind=st.sampled_from(TYPES))
def test_a_single_value_survives(data: st.DataObject, content_format: int, kind: ResourceType) -> None:
    path = resource_of(kind)
    content = Content((Entry(path, data.draw(VALUES[kind])),))
    payload = encode_content(content_format, content, path, MODEL)
    assert decode_content(content_format, payload, path, MODEL) == content


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    content_format=st.sampled_from((ContentFormat.TLV, ContentFormat.LWM2M_CBOR)),
    base=st.sampled_from((Path(OBJECT), Path(OBJECT, 0))),
)
def test_trees_keep_every_value(data: st.DataObject, content_format: int, base: Path) -> None:
    content = data.draw(contents(base))
    payload = encode_content(content_format, content, base, MODEL)
    assert decode_content(content_format, payload, base, MODEL).latest() == content.latest()


@settings(max_examples=50, deadline=None)
@given(
    data=st.data(),
    content_format=st.sampled_from((ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON)),
    base=st.sampled_from((Path(), Path(OBJECT), Path(OBJECT, 0))),
    root=st.sampled_from(("", "/lwm2m")),
)
def test_senml_keeps_every_value_and_time_in_order(
    data: st.DataObject, content_format: int, base: Path, root: str
) -> None:
    content = data.draw(contents(base, TIMES))
    payload = encode_content(content_format, content, base, MODEL, root)
    assert decode_content(content_format, payload, base, MODEL, root=root) == content


@settings(max_examples=250, deadline=None)
@given(
    payload=st.binary(max_size=60),
    content_format=st.sampled_from(ALL),
    base=st.sampled_from(BASES),
    model=st.sampled_from((MODEL, Untyped())),
)
def test_any_bytes_are_understood_or_refused(payload: bytes, content_format: int, base: Path, model: OneOfEach) -> None:
    with contextlib.suppress(DecodeError):
        for entry in decode_content(content_format, payload, base, model, 1.7e9).entries:
            assert base.covers(entry.path)
    with contextlib.suppress(DecodeError):
        decode_paths(content_format, payload)


ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.binary(max_size=4)
    | st.sampled_from(("/33000/0/2", "/33000/0/", "x", "vlo", "10:3", "x_", "v", "n", "bn", "bt", "t")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.integers(-8, 9) | st.sampled_from(("vlo", "x_", "n", "v", "bn", "t", "vd")), inner, max_size=4
        )
        | st.builds(cbor2.CBORTag, st.sampled_from((0, 1, 2, 4, 5, 28, 29, 35, 36, 100, 258, 777)), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(
    item=ITEMS | st.lists(st.dictionaries(st.integers(-6, 8), ITEMS, max_size=4), max_size=4),
    base=st.sampled_from(BASES),
)
def test_any_cbor_item_is_understood_or_refused(item: object, base: Path) -> None:
    payload = cbor2.dumps(item)
    for content_format in (ContentFormat.CBOR, ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR):
        for model in (MODEL, Untyped()):
            with contextlib.suppress(DecodeError):
                decode_content(content_format, payload, base, model, 1.7e9)
    with contextlib.suppress(DecodeError):
        decode_paths(ContentFormat.SENML_CBOR, payload)


JSON_RECORDS = st.lists(
    st.dictionaries(
        st.sampled_from(("n", "bn", "v", "vs", "vd", "vb", "vlo", "t", "bt", "bv", "bver", "u", "x", "x_")),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from(("/33000/0/2", "/", "10:3", "AQ", "??"))
        | st.lists(st.integers(), max_size=2),
        max_size=5,
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(records=JSON_RECORDS, base=st.sampled_from(BASES))
def test_any_json_pack_is_understood_or_refused(records: object, base: Path) -> None:
    payload = msgspec.json.encode(records)
    for model in (MODEL, Untyped()):
        with contextlib.suppress(DecodeError):
            decode_content(ContentFormat.SENML_JSON, payload, base, model, 1.7e9)
    with contextlib.suppress(DecodeError):
        decode_paths(ContentFormat.SENML_JSON, payload)


@pytest.mark.spec("LwM2M-contract 15")
@pytest.mark.parametrize(
    "payload",
    [
        b"\x81" * 60000,
        b"\xa1\x00" * 30000,
        b"\xc1" * 60000,
        b"\x9f" * 60000,
        b"\xbf\x00" * 30000,
        b"\x9b\x7f" + b"\xff" * 7,
        b"\x5b\x7f" + b"\xff" * 7,
        b"\xbb\x7f" + b"\xff" * 7,
        b"\x9a\x00\x10\x00\x00" + b"\x80" * 60000,
        b"\x99\xea\x60" + b"\xa0" * 60000,
        bytes.fromhex("c4821a0fffffff01"),
        bytes.fromhex("c482190190 1b7fffffffffffffff"),
        bytes.fromhex("d82371") + b"(a+)+(a+)+(a+)+$b",
        bytes.fromhex("d81c81d81d00"),
        # 3,000 keys that are multiples of 2^61 - 1, which Python's hash cannot tell apart.
        b"\xb9\x0b\xb8"
        + b"".join(b"\xc2\x4c" + (number * (2**61 - 1)).to_bytes(12, "big") + b"\x00" for number in range(1, 3001)),
        # Keys of two numbers each; free to choose 64 bits, they could be made to hash alike.
        b"\xb9\x0b\xb8"
        + b"".join(b"\x82\x1b" + bytes(7) + b"\x01\x1b" + n.to_bytes(8, "big") + b"\x00" for n in range(3000)),
        b"[" * 60000,
        b'{"a":' * 10000,
        b"[" + b"1" * 60000 + b"]",
        b'[{"n":"/33000/0/2","v":1e999999999}]',
        b'[{"n":"/33000/0/2","v":' + b"9" * 4000 + b"}]",
        b"\x80\xff" * 30000,
        b"\x00\x00" * 30000,
    ],
)
def test_a_bomb_is_refused_within_the_blink_of_an_eye(payload: bytes) -> None:
    started = time.perf_counter()
    for content_format in ALL:
        for base in (Path(OBJECT), Path(OBJECT, 0, 0)):
            with contextlib.suppress(DecodeError):
                decode_content(content_format, payload, base, MODEL, 1.7e9)
    assert time.perf_counter() - started < 2.0
