"""TLV's own rules: lengths, nesting, identifiers, and whose values they are."""

import struct

import pytest
from typed_content import OBJECT, OneOfEach

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import (
    ContentFormat,
    EncodeError,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    WrongType,
    decode_content,
    encode_content,
)
from stellwerk.lwm2m.path import Path

MODEL = OneOfEach()
TLV = ContentFormat.TLV
INSTANCE = Path(OBJECT, 0)


def read(hexadecimal: str, base: Path = INSTANCE) -> Content:
    return decode_content(TLV, bytes.fromhex(hexadecimal), base, MODEL)


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    "hexadecimal", ["c1 01 64", "c8 01 01 64", "d0 01 0001 64", "d8 01 000001 64", "e1 0001 64", "cf 01 01 64"]
)
def test_any_length_form_is_understood(hexadecimal: str) -> None:
    # Bits 2-0 mean nothing where a length field follows: the last has them all set.
    assert read(hexadecimal).entries == (Entry(Path(OBJECT, 0, 1), 100),)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_integers_come_in_four_widths(width: int) -> None:
    for number in (-1, 0, 100):
        payload = bytes((0xC8, 1, width)) + number.to_bytes(width, "big", signed=True)
        assert decode_content(TLV, payload, INSTANCE, MODEL).entries[0].value == number


@pytest.mark.spec("LwM2M-contract 8.1")
def test_unsigned_integers_have_no_sign_bit() -> None:
    for number, hexadecimal in ((255, "c1 02 ff"), (65535, "c2 02 ffff"), (2**64 - 1, "c8 02 08 ffffffffffffffff")):
        assert read(hexadecimal).entries == (Entry(Path(OBJECT, 0, 2), number),)
        content = Content((Entry(Path(OBJECT, 0, 2), number),))
        assert encode_content(TLV, content, INSTANCE, MODEL) == bytes.fromhex(hexadecimal)


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    "hexadecimal",
    ["c1", "c1 01", "c2 01 64", "c8 01", "c8 01 05 64", "e1 00", "d8 01 00ff", "08 00 03 c2 01 64 c1 02 01"],
)
def test_an_overrun_rejects_the_whole_payload(hexadecimal: str) -> None:
    with pytest.raises(Malformed):
        read(hexadecimal)


@pytest.mark.parametrize(
    ("hexadecimal", "base"),
    [
        ("41 00 01", INSTANCE),
        ("03 00 41 00 01", INSTANCE),
        ("02 00 00 00", INSTANCE),
        ("83 0a c1 00 01", INSTANCE),
        ("82 0a 00 00", INSTANCE),
        ("82 0a 80 00", INSTANCE),
        ("c1 01 01", Path()),
    ],
)
def test_records_nest_only_as_the_hierarchy_does(hexadecimal: str, base: Path) -> None:
    with pytest.raises(Malformed):
        read(hexadecimal, base)


@pytest.mark.spec("LwM2M-contract 8.2")
def test_the_wrapper_of_an_instance_is_optional_when_its_path_was_asked_for() -> None:
    assert read("c1 01 64") == read("03 00 c1 01 64")


@pytest.mark.spec("D-9")
def test_resources_without_a_wrapper_belong_to_an_instance_yet_to_be_numbered() -> None:
    content = Content((Entry(Path(OBJECT, 65535, 1), 100),))
    assert decode_content(TLV, bytes.fromhex("c1 01 64"), Path(OBJECT), MODEL, creating=True) == content
    with pytest.raises(Malformed):
        read("c1 01 64", Path(OBJECT))
    assert encode_content(TLV, content, Path(OBJECT), MODEL) == bytes.fromhex("c1 01 64")


@pytest.mark.parametrize(
    ("hexadecimal", "base"),
    [
        ("03 01 c1 01 64", INSTANCE),
        ("c1 02 64", Path(OBJECT, 0, 1)),
        ("00 01", INSTANCE),
        ("83 0b 41 00 01", Path(OBJECT, 0, 11, 2)),
    ],
)
def test_values_of_others_are_refused(hexadecimal: str, base: Path) -> None:
    with pytest.raises(OutsideBase):
        read(hexadecimal, base)


def test_resource_instances_may_come_with_or_without_their_resource() -> None:
    wanted = (Entry(Path(OBJECT, 0, 11, 3), 7),)
    for base in (Path(OBJECT, 0, 11), Path(OBJECT, 0, 11, 3)):
        assert read("41 03 07", base).entries == wanted
        assert read("83 0b 41 03 07", base).entries == wanted


def test_a_path_twice_is_refused() -> None:
    for hexadecimal in ("c1 01 64 c1 01 64", "86 0b 41 00 01 41 00 01", "80 0b 80 0b"):
        with pytest.raises(Repeated):
            read(hexadecimal)


@pytest.mark.spec("LwM2M-contract 15")
def test_the_number_of_records_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        decode_content(TLV, b"\xc0\x00" * 5000, INSTANCE, MODEL)


@pytest.mark.parametrize(
    "hexadecimal",
    ["c3 01 000001", "c0 01", "c2 03 4d60", "c1 04 02", "c0 04", "c3 07 000a00", "c1 00 ff", "c1 08 ff"],
)
def test_a_value_of_the_wrong_length_or_text_is_refused_by_path(hexadecimal: str) -> None:
    with pytest.raises(WrongType) as caught:
        read(hexadecimal)
    assert caught.value.path == Path(OBJECT, 0, int(hexadecimal[3:5], 16))


@pytest.mark.spec("LwM2M-contract 13", "T-10")
def test_floats_come_in_both_widths() -> None:
    assert read("c4 03 41ac0000").entries[0].value == 21.5
    assert read("c8 03 08" + struct.pack(">d", 21.1).hex()).entries[0].value == 21.1


@pytest.mark.spec("D-4", "MOD-7")
def test_unknown_resources_keep_their_bytes() -> None:
    assert decode_content(TLV, b"\xc2\x09\xca\xfe", Path(9, 0), Untyped()).entries == (
        Entry(Path(9, 0, 9), b"\xca\xfe"),
    )


def test_empty_instances_and_resources_are_stated() -> None:
    content = Content((), (Path(OBJECT, 3), Path(OBJECT, 4, 10)))
    payload = encode_content(TLV, content, Path(OBJECT), MODEL)
    assert payload == bytes.fromhex("00 03 02 04 80 0a")
    assert decode_content(TLV, payload, Path(OBJECT), MODEL) == content
    assert decode_content(TLV, b"", INSTANCE, MODEL) == Content((), (INSTANCE,))
    assert decode_content(TLV, b"", Path(OBJECT), MODEL) == Content()


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    "content",
    [
        Content((Entry(Path(OBJECT, 0, 11), 1),)),
        Content((Entry(Path(OBJECT, 0, 1), 1, 1.7e9),)),
        Content((Entry(Path(OBJECT, 0, 1), 1), Entry(Path(OBJECT, 0, 1), 2))),
        Content((Entry(Path(OBJECT, 0, 11, 0), 1), Entry(Path(OBJECT, 0, 11, 0), 2))),
        Content((Entry(Path(OBJECT, 1, 1), 1),)),
        Content((Entry(Path(OBJECT, 0, 0), "\ud800"),)),
        Content((), (Path(OBJECT),)),
    ],
)
def test_what_tlv_cannot_say_is_not_written(content: Content) -> None:
    with pytest.raises(EncodeError):
        encode_content(TLV, content, INSTANCE, MODEL)
