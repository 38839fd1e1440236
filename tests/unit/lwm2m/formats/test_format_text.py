"""Single values as text, octets and CBOR items."""

import pytest
from typed_content import OBJECT, OneOfEach, resource_of

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import ContentFormat, EncodeError, Malformed, WrongType, decode_content, encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

MODEL = OneOfEach()
T = ResourceType


def read(kind: ResourceType, payload: bytes, content_format: int = ContentFormat.TEXT) -> Value:
    return decode_content(content_format, payload, resource_of(kind), MODEL).entries[0].value


@pytest.mark.spec("LwM2M-contract 8.1", "LwM2M-contract 13", "T-10")
@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        (T.INTEGER, b"100", 100),
        (T.INTEGER, b"-9223372036854775808", -(2**63)),
        (T.INTEGER, b"100.0", 100),
        (T.INTEGER, b"+7\n", 7),
        (T.UNSIGNED, b"18446744073709551615", 2**64 - 1),
        (T.FLOAT, b"21.5", 21.5),
        (T.FLOAT, b"-2.5E+3", -2500.0),
        (T.FLOAT, b".5", 0.5),
        (T.FLOAT, b"7", 7.0),
        (T.BOOLEAN, b"0", False),
        (T.BOOLEAN, b"1", True),
        (T.TIME, b"1700000000", 1700000000),
        (T.STRING, b" x ", " x "),
        (T.STRING, b"", ""),
        (T.OPAQUE, b"yv4=", b"\xca\xfe"),
        (T.OPAQUE, b"yv4", b"\xca\xfe"),
        (T.OBJLNK, b"10:3", ObjectLink(10, 3)),
        (T.OBJLNK, b"10:3\x00", ObjectLink(10, 3)),
        (T.OBJLNK, b"10/3", ObjectLink(10, 3)),
        (T.OBJLNK, b"FFFF:FFFF", ObjectLink(65535, 65535)),
        (T.CORELNK, b"</3/0>", "</3/0>"),
    ],
)
def test_text_is_read_by_the_type_of_its_resource(kind: ResourceType, payload: bytes, value: Value) -> None:
    got = read(kind, payload)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (T.INTEGER, b""),
        (T.INTEGER, b"1.5"),
        (T.INTEGER, b"1_000"),
        (T.INTEGER, b"9223372036854775808"),
        (T.INTEGER, "١".encode()),
        (T.UNSIGNED, b"-1"),
        (T.FLOAT, b"nan"),
        (T.FLOAT, b"inf"),
        (T.FLOAT, b"1e999"),
        (T.FLOAT, b"0x10"),
        (T.BOOLEAN, b"true"),
        (T.OPAQUE, b"?"),
        (T.OPAQUE, b"A"),
        (T.OBJLNK, b"10"),
        (T.OBJLNK, b"10:3:4"),
        (T.OBJLNK, b"99999:1"),
    ],
)
def test_text_of_another_type_is_refused_by_path(kind: ResourceType, payload: bytes) -> None:
    with pytest.raises(WrongType) as caught:
        read(kind, payload)
    assert caught.value.path == resource_of(kind)


@pytest.mark.parametrize(
    ("kind", "value", "payload"),
    [
        (T.FLOAT, 1e-7, b"0.0000001"),
        (T.FLOAT, 21, b"21.0"),
        (T.FLOAT, 21.5, b"21.5"),
        (T.BOOLEAN, True, b"1"),
        (T.OPAQUE, b"\xca\xfe", b"yv4="),
        (T.OBJLNK, ObjectLink(10, 3), b"10:3"),
        (T.INTEGER, -1, b"-1"),
    ],
)
def test_text_is_written_without_exponents(kind: ResourceType, value: Value, payload: bytes) -> None:
    path = resource_of(kind)
    assert encode_content(ContentFormat.TEXT, Content((Entry(path, value),)), path, MODEL) == payload


@pytest.mark.parametrize("content_format", [ContentFormat.TEXT, ContentFormat.OPAQUE, ContentFormat.CBOR])
def test_formats_of_one_value_need_one_value_at_one_resource(content_format: int) -> None:
    with pytest.raises(Malformed):
        decode_content(content_format, b"\x01", Path(OBJECT, 0), MODEL)
    path = resource_of(T.OPAQUE)
    entry = Entry(path, b"x")
    for content, base in (
        (Content(), path),
        (Content((entry, entry)), path),
        (Content((entry,)), Path(OBJECT, 0)),
        (Content((Entry(path.child(1), b"x"),)), path),
        (Content((Entry(path, b"x", 1.7e9),)), path),
    ):
        with pytest.raises(EncodeError):
            encode_content(content_format, content, base, MODEL)


def test_octets_are_the_value_of_an_opaque_or_unknown_resource() -> None:
    path = resource_of(T.OPAQUE)
    content = Content((Entry(path, b"\x00\xff"),))
    assert decode_content(ContentFormat.OPAQUE, b"\x00\xff", path, MODEL) == content
    assert encode_content(ContentFormat.OPAQUE, content, path, MODEL) == b"\x00\xff"
    assert decode_content(ContentFormat.OPAQUE, b"\x00\xff", path, Untyped()) == content
    with pytest.raises(WrongType):
        read(T.INTEGER, b"\x01", ContentFormat.OPAQUE)
    with pytest.raises(EncodeError):
        encode_content(ContentFormat.OPAQUE, Content((Entry(path, "x"),)), path, Untyped())


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize(
    ("kind", "hexadecimal", "value"),
    [
        (T.TIME, "1a6553f100", 1700000000),
        (T.TIME, "20", -1),
        (T.TIME, "c1fb41d954fc40000000", 1700000000),
        (T.TIME, "c074323032332d31312d31345432323a31333a32305a", 1700000000),
        (T.TIME, "c13b7fffffffffffffff", -(2**63)),
        (T.FLOAT, "fa41ac0000", 21.5),
        (T.FLOAT, "15", 21.0),
        (T.FLOAT, "c48220190131", 30.5),
        (T.INTEGER, "f94900", 10),
        (T.INTEGER, "3b7fffffffffffffff", -(2**63)),
        (T.UNSIGNED, "1bffffffffffffffff", 2**64 - 1),
        (T.STRING, "7f61616162ff", "ab"),
        (T.OPAQUE, "5f41004101ff", b"\x00\x01"),
    ],
)
def test_cbor_items_of_every_spelling_are_understood(kind: ResourceType, hexadecimal: str, value: Value) -> None:
    assert read(kind, bytes.fromhex(hexadecimal), ContentFormat.CBOR) == value


@pytest.mark.parametrize(
    ("kind", "hexadecimal"),
    [
        (T.INTEGER, "f5"),
        (T.INTEGER, "f6"),
        (T.INTEGER, "f7"),
        (T.INTEGER, "e5"),
        (T.INTEGER, "80"),
        (T.INTEGER, "6131"),
        (T.INTEGER, "1b8000000000000000"),
        (T.UNSIGNED, "20"),
        (T.BOOLEAN, "01"),
        (T.STRING, "4161"),
        (T.OPAQUE, "6161"),
        (T.FLOAT, "c4821901901a00ffffff"),
        (T.TIME, "d903e601"),
    ],
)
def test_cbor_items_of_another_type_are_refused(kind: ResourceType, hexadecimal: str) -> None:
    with pytest.raises(WrongType):
        read(kind, bytes.fromhex(hexadecimal), ContentFormat.CBOR)
