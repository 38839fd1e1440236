"""What is no payload, decoder by decoder: refused by name, with the place and the reason; nothing of it is a value."""

import json
from typing import Any

import cbor2
import pytest
from typed_content import OBJECT, TYPES, OneOfEach

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.messages import interpret
from stellwerk.lwm2m.formats import (
    BadName,
    DecodeError,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    WrongType,
    decode_content,
    decode_paths,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import Status
from stellwerk.lwm2m.value import ResourceType

MODEL = OneOfEach()
NOW_MS = 1_800_000_000_000
T = ResourceType
STRING, INTEGER, UNSIGNED, FLOAT, BOOLEAN, OPAQUE, TIME, OBJLNK, CORELNK = range(9)
INSTANCE = Path(OBJECT, 0)

Case = tuple[bytes, type[DecodeError], str]


def at(resource: int) -> Path:
    return Path(OBJECT, 0, resource)


def check(number: int, base: Path, payload: bytes, error: type[DecodeError], says: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_content(number, payload, base, MODEL, NOW_MS / 1000)
    assert type(caught.value) is error, caught.value
    assert says in str(caught.value)
    assert len(str(caught.value)) < 500
    # As a notification it is a line in the device's log and nothing else.
    entry = JournalEntry(
        Kind.NOTIFY,
        1,
        NOW_MS,
        status=Status.CONTENT,
        path=str(base),
        content_format=number,
        payload=payload,  # type: ignore[arg-type]
    )
    meaning = interpret(entry, "dev1", MODEL)
    assert (meaning.content, tuple(meaning.values)) == (None, ())
    assert meaning.log == ("notification-undecodable", f"{base}: {caught.value}")


def hexed(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal)


# -- CBOR items (RFC 8949), of which CBOR, SenML CBOR and LwM2M CBOR are made --

ITEMS: list[tuple[str, str]] = [
    ("", "no item"),
    ("18", "offset 0: ends in the middle"),
    ("19 00", "offset 0: ends in the middle"),
    ("1a 000000", "offset 0: ends in the middle"),
    ("1b 00000000000000", "offset 0: ends in the middle"),
    ("f9 4d", "offset 0: ends in the middle"),
    ("1c", "reserved initial byte 0x1c"),
    ("1d", "reserved initial byte 0x1d"),
    ("1e", "reserved initial byte 0x1e"),
    ("1f", "reserved initial byte 0x1f"),
    ("3f", "reserved initial byte 0x3f"),
    ("df", "reserved initial byte 0xdf"),
    ("fc", "reserved initial byte 0xfc"),
    ("f8 00", "special value"),
    ("ff", "break outside"),
    ("01 02", "bytes after the item"),
    ("01 ff", "offset 1"),
    ("61", "string runs past the end"),
    ("42 01", "string runs past the end"),
    ("62 c328", "text string"),
    ("61 80", "text string"),
    ("63 eda080", "text string"),
    ("5b ffffffffffffffff", "string runs past the end"),
    ("7b 7fffffffffffffff 61", "string runs past the end"),
    ("9b ffffffffffffffff", "more items announced than bytes left"),
    ("bb 7fffffffffffffff", "more items announced than bytes left"),
    ("9a ffffffff 00", "more items announced than bytes left"),
    ("82 01", "more items announced than bytes left"),
    ("82 01 18", "ends in the middle"),
    ("a1 00", "ends in the middle"),
    ("9f 01", "ends in the middle"),
    ("bf 00 01", "ends in the middle"),
    ("bf 00 ff", "break outside"),
    ("5f 41 01", "ends in the middle"),
    ("7f 61 61", "ends in the middle"),
    ("5f 01 ff", "chunk of another kind"),
    ("5f 61 61 ff", "chunk of another kind"),
    ("7f 41 01 ff", "chunk of another kind"),
    ("5f 5f 41 01 ff ff", "chunk of another kind"),
    ("a2 00 01 00 02", "Duplicate"),
    ("a2 61 61 01 61 61 02", "Duplicate"),
    ("c0", "ends in the middle"),
    ("c2 41 01", "tag 2: tag not used"),
    ("c3 41 01", "tag 3: tag not used"),
    ("c2 58 40" + "ff" * 64, "tag not used"),
    ("c5 82 01 01", "tag not used"),
    ("d8 1c 01", "tag not used"),
    ("d8 1d 00", "tag not used"),
    ("d8 1e 82 01 02", "tag not used"),
    ("d8 23 61 61", "tag not used"),
    ("d8 24 61 61", "tag not used"),
    ("d8 25 50" + "00" * 16, "tag not used"),
    ("d9 0102 80", "tag not used"),
    ("c0 01", "tag 0"),
    ("c0 60", "tag 0"),
    ("c0 74 323032332d31332d31345432323a31333a32305a", "tag 0"),
    ("c0 73 323032332d31312d31345432323a31333a3230", "tag 0: not a point in time"),
    ("c0 76 323032332d31312d31345432323a31333a32302e355a", "tag 0: not a point in time"),
    ("c1 61 30", "tag 1 around something that is no number"),
    ("c1 f5", "tag 1 around something that is no number"),
    ("c1 f6", "tag 1 around something that is no number"),
    ("c4 01", "tag 4"),
    ("c4 81 01", "tag 4"),
    ("c4 83 01 01 01", "tag 4"),
    ("c4 82 61 61 01", "decimal fraction out of range"),
    ("c4 82 f9 3c00 01", "decimal fraction out of range"),
    ("c4 82 19 0191 01", "decimal fraction out of range"),
    ("c4 82 39 0190 01", "decimal fraction out of range"),
    ("c4 82 3b ffffffffffffffff 01", "decimal fraction out of range"),
]


@pytest.mark.spec("LwM2M-contract 8.3", "RFC 8949 5")
@pytest.mark.parametrize(("payload", "says"), ITEMS)
def test_what_is_no_item_of_cbor_is_refused(payload: str, says: str) -> None:
    for number in (60, 112, 11544):
        base = at(INTEGER) if number == 60 else INSTANCE
        check(number, base, hexed(payload), Malformed, says)


@pytest.mark.spec("LwM2M-contract 15")
@pytest.mark.parametrize("number", [60, 112, 11544])
@pytest.mark.parametrize("lead", ["81", "a100", "9f", "bf00", "c1"])
def test_deep_items_of_cbor_are_refused(number: int, lead: str) -> None:
    for levels in (9, 12, 200, 20_000):
        payload = bytes.fromhex(lead) * levels + b"\x00"
        with pytest.raises(DecodeError) as caught:
            decode_content(number, payload, at(INTEGER), MODEL)
        assert isinstance(caught.value, Malformed | LimitExceeded)


def single(number: int) -> list[tuple[int, str, str]]:
    """Resource, payload, text of the error."""
    if number == 60:
        return [
            *(
                (INTEGER, each, "wants Integer")
                for each in ("61 31", "f5", "f6", "f7", "e0", "80", "81 01", "a1 00 01")
            ),
            *((INTEGER, each, "a fraction") for each in ("f9 3e00", "f9 7e00", "f9 7c00", "fb 3ff8000000000000")),
            *((INTEGER, each, "beyond its range") for each in ("1b 8000000000000000", "3b 8000000000000000")),
            (INTEGER, "fb 43e0000000000000", "beyond its range"),
            (INTEGER, "c4 82 18 64 01", "beyond its range"),
            (INTEGER, "c4 82 20 0f", "a fraction"),
            *((UNSIGNED, each, "beyond its range") for each in ("20", "f9 bc00", "fb 43f0000000000000")),
            (FLOAT, "61 31", "the payload has text"),
            (FLOAT, "f5", "the payload has a Boolean"),
            (FLOAT, "c4 82 19 0190 01", "beyond its range"),
            *((BOOLEAN, each, "wants Boolean") for each in ("01", "00", "64 74727565", "f6", "f7")),
            *((STRING, each, "wants String") for each in ("01", "41 61", "f6", "80")),
            *((CORELNK, each, "wants Corelnk") for each in ("01", "41 61", "f6")),
            *((OPAQUE, each, "wants Opaque") for each in ("61 61", "01", "f6")),
            *(
                (TIME, each, "wants Time")
                for each in ("61 31", "f5", "f6", "c1 f9 3e00", "c1 f9 7e00", "1b 8000000000000000")
            ),
            *(
                (OBJLNK, each, "wants Objlnk")
                for each in ("01", "62 3130", "44 000a0003", "67 37303030303a31", "61 3a")
            ),
        ]
    return [
        *(
            (INTEGER, each, "wants Integer")
            for each in ("", " ", "abc", "1.5", "0x10", "1_0", "--1", "1e-1", "nan", "١")
        ),
        *((INTEGER, each, "beyond its range") for each in (str(2**63), str(-(2**63) - 1), "1e30", "9" * 40)),
        (INTEGER, "9" * 41, "wants Integer"),
        *((UNSIGNED, each, "beyond its range") for each in ("-1", str(2**64))),
        *(
            (FLOAT, each, "wants Float")
            for each in ("", "nan", "inf", "-Infinity", "1e", "e1", "1e99999", "1e999", "1,5")
        ),
        *((BOOLEAN, each, "wants Boolean") for each in ("", "true", "2", "-1", "01", "0.0")),
        *((TIME, each, "wants Time") for each in ("", "2023-11-14T22:13:20Z", "1.5", "now")),
        *((OPAQUE, each, "not base64") for each in ("?", "A", "AAAA=A", "A A=", "\u00e4AAA")),
        *(
            (OBJLNK, each, "wants Objlnk")
            for each in ("", "10", "10:", ":3", "10:3:4", "70000:1", "1:65536", "-1:3", "a:b")
        ),
    ]


@pytest.mark.spec("LwM2M-contract 8.1", "LwM2M-contract 8.3")
@pytest.mark.parametrize(("resource", "payload", "says"), single(60))
def test_an_item_of_another_type_is_refused(resource: int, payload: str, says: str) -> None:
    check(60, at(resource), hexed(payload), WrongType, says)
    check(60, at(resource), hexed(payload), WrongType, f"/33000/0/{resource} wants {TYPES[resource].value}")


# -- text and octets --


@pytest.mark.spec("LwM2M-contract 8.1")
@pytest.mark.parametrize(("resource", "payload", "says"), single(0))
def test_text_of_another_type_is_refused(resource: int, payload: str, says: str) -> None:
    check(0, at(resource), payload.encode(), WrongType, says)
    check(0, at(resource), payload.encode(), WrongType, f"/33000/0/{resource} wants {TYPES[resource].value}")


@pytest.mark.parametrize("payload", [b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
@pytest.mark.parametrize("resource", [STRING, INTEGER, CORELNK, OPAQUE])
def test_text_that_is_no_utf8_is_refused(payload: bytes, resource: int) -> None:
    check(0, at(resource), payload, Malformed, f"/33000/0/{resource} is not UTF-8")


@pytest.mark.parametrize("number", [0, 42, 60, 1541])
@pytest.mark.parametrize("base", [Path(), Path(OBJECT), INSTANCE])
def test_a_format_of_one_value_is_no_answer_for_more_than_one_resource(number: int, base: Path) -> None:
    check(number, base, b"\x01", Malformed, f"{base} is not one resource")


@pytest.mark.parametrize("resource", [STRING, INTEGER, UNSIGNED, FLOAT, BOOLEAN, TIME, OBJLNK, CORELNK])
def test_octets_are_opaque_only(resource: int) -> None:
    check(
        42, at(resource), b"1", WrongType, f"/33000/0/{resource} wants {TYPES[resource].value}, the payload has bytes"
    )


# -- SenML --

SENML: list[tuple[Any, type[DecodeError], str]] = [
    *((each, Malformed, "a pack is an array of records") for each in ({}, 1, "x", None, True)),
    *(([each], Malformed, "a record is a map") for each in ([], 1, "x", None)),
    *(([{"n": each, "v": 1}], Malformed, "a name is text") for each in (1, None, True, ["/3"])),
    *(([{"bn": each, "v": 1}], Malformed, "a name is text") for each in (1, None, True)),
    ([{"n": "/33000/0/1"}], Malformed, "'/33000/0/1' has no value"),
    ([{"bn": "/33000/0/", "n": "1", "t": 5}], Malformed, "'/33000/0/1' has no value"),
    ([{"x": 1}], Malformed, "'' has no value"),
    ([{"n": "/33000/0/1", "v": 1, "vs": "1"}], Malformed, "two values"),
    ([{"n": "/33000/0/1", "v": 1, "vlo": "1:1"}], Malformed, "two values"),
    *(([{"n": "/33000/0/1", "v": each}], WrongType, "a number in v") for each in ("1", True, None, [1], {"x": 1})),
    *(([{"n": "/33000/0/0", "vs": each}], WrongType, "text in vs") for each in (1, True, None, ["x"], {})),
    *(([{"n": "/33000/0/4", "vb": each}], WrongType, "a Boolean in vb") for each in (0, 1, "true", None, 1.0)),
    *(([{"n": "/33000/0/5", "vd": each}], WrongType, "/33000/0/5 wants") for each in (1, True, None, ["x"])),
    *(([{"n": "/33000/0/7", "vlo": each}], WrongType, "/33000/0/7 wants") for each in (1, None, "10", "70000:1", "")),
    ([{"n": "/33000/0/1", "vs": "1"}], WrongType, "/33000/0/1 wants Integer, the payload has text"),
    ([{"n": "/33000/0/1", "vb": True}], WrongType, "/33000/0/1 wants Integer, the payload has a Boolean"),
    ([{"n": "/33000/0/0", "v": 1}], WrongType, "/33000/0/0 wants String, the payload has a number"),
    ([{"n": "/33000/0/4", "v": 1}], WrongType, "/33000/0/4 wants Boolean, the payload has a number"),
    ([{"n": "/33000/0/1", "v": 1.5}], WrongType, "/33000/0/1 wants Integer, the payload has a fraction"),
    ([{"n": "/33000/0/1", "v": 2**63}], WrongType, "/33000/0/1 wants Integer, the payload has a number beyond"),
    ([{"n": "/33000/0/2", "v": -1}], WrongType, "/33000/0/2 wants Unsigned Integer, the payload has a number beyond"),
    ([{"n": "/33000/0/2", "v": 1e300}], WrongType, "/33000/0/2 wants Unsigned Integer"),
    ([{"n": "/33000/0/2", "bv": 2**63, "v": 2**63}], WrongType, "/33000/0/2 wants Unsigned Integer"),
    ([{"n": "/33000/0/3", "bv": 1e308, "v": 1.7e308}], WrongType, "/33000/0/3 wants "),
    *(([{"n": "/33000/0/1", "v": 1, "t": each}], Malformed, "t is a number") for each in ("5", True, None, [])),
    *(([{"n": "/33000/0/1", "v": 1, "bt": each}], Malformed, "bt is a number") for each in ("5", True, None)),
    *(([{"n": "/33000/0/1", "v": 1, "bv": each}], Malformed, "bv is a number") for each in ("5", True, None)),
    *(([{"n": "/33000/0/1", "v": 1, each: 1e30}], Malformed, f"{each} is beyond any time") for each in ("t", "bt")),
    *(([{"n": "/33000/0/1", "v": 1, "bver": each}], Malformed, "version") for each in (0, -1, 11, "10", True, None)),
    *(([{"n": "/33000/0/1", "v": 1, each: 1}], Malformed, "is text") for each in ("u", "bu")),
    *(([{"n": "/33000/0/1", "v": 1, each: "1"}], Malformed, "is a number") for each in ("s", "bs", "ut")),
    ([{"n": "/33000/0/1", "v": 1, "x_": 1}], Malformed, "'x_' must be understood"),
    *(
        ([{"n": each, "v": 1}], BadName, "does not name a resource")
        for each in (
            *("", "/", "x", "33000/0/1", "//33000/0/1", "/33000//1", "/33000/0/1/", "/33000/0/1/2/3", "/33000/0/a"),
            *("/33000/0", "/33000", "/33000/0/01", "/33000/0/+1", "/33000/0/-1", "/33000/0/65536", "/33000/0/100000"),
            *(
                "/33000/0/1?x",
                "/33000/0/%31",
                "/33000/0/1 ",
                " /33000/0/1",
                "/33000/0/\u0661",
                "/33000/0/1\x00",
                "/d01/33000/0/1",
            ),
            "/" + "9" * 5000,
            "/5" + "\x7f" * 99 + "/",
        )
    ),
    *(
        ([{"n": each, "v": 1}], BadName, "identifier 65535 is reserved")
        for each in ("/65535/0/1", "/33000/65535/1", "/33000/0/65535", "/33000/0/11/65535")
    ),
    ([{"n": "/33000/1/1", "v": 1}], OutsideBase, "/33000/1/1 is outside of /33000/0"),
    ([{"n": "/3/0/1", "v": 1}], OutsideBase, "/3/0/1 is outside of /33000/0"),
    ([{"n": "/33000/0/1", "v": 1}, {"n": "/33000/0/1", "v": 2}], Repeated, "/33000/0/1 occurs twice"),
    ([{"n": "/33000/0/1", "v": 1, "t": 3e8}, {"n": "/33000/0/1", "v": 2, "t": 3e8}], Repeated, "at time 300000000.0"),
    ([{"bn": "/33000/0/", "n": "1", "v": 1}, {"bn": "/33000/0", "n": "/1", "v": 1}], Repeated, "/33000/0/1 occurs"),
    ([{"n": f"/33000/0/11/{each}", "v": 1} for each in range(4097)], LimitExceeded, "more than 4096 SenML records"),
    # The first record is good: it does not count either.
    ([{"n": "/33000/0/1", "v": 1}, {"n": "/33000/0/2", "v": -1}], WrongType, "/33000/0/2 wants Unsigned Integer"),
]
LABELS = {
    "bver": -1,
    "bn": -2,
    "bt": -3,
    "bu": -4,
    "bv": -5,
    "bs": -6,
    "n": 0,
    "u": 1,
    "v": 2,
    "vs": 3,
    "vb": 4,
    "s": 5,
    "t": 6,
    "ut": 7,
    "vd": 8,
}


def as_cbor(pack: Any) -> bytes:
    if not isinstance(pack, list):
        return cbor2.dumps(pack)
    return cbor2.dumps(
        [
            {LABELS.get(key, key): each for key, each in record.items()} if isinstance(record, dict) else record
            for record in pack
        ]
    )


@pytest.mark.spec("LwM2M-contract 8.4", "READ-9", "RFC 8428 4")
@pytest.mark.parametrize(("pack", "error", "says"), SENML)
def test_what_is_no_pack_is_refused_in_both_forms(pack: Any, error: type[DecodeError], says: str) -> None:
    check(110, INSTANCE, json.dumps(pack).encode(), error, says)
    check(112, INSTANCE, as_cbor(pack), error, says)


@pytest.mark.spec("LwM2M-contract 8.4", "RFC 8428 6")
@pytest.mark.parametrize("key", ["f4", "f90000", "f6", "41 00", "81 00", "f7"])
def test_a_label_of_cbor_is_an_integer_or_text(key: str) -> None:
    payload = hexed("81 a2") + hexed(key) + b"\x6a/33000/0/1" + hexed("02 01")
    with pytest.raises(Malformed) as caught:
        decode_content(112, payload, INSTANCE, MODEL)
    assert (
        "label is an integer or text" in str(caught.value)
        or "neither integer nor text" in str(caught.value)
        or "hash" in str(caught.value)
    )


@pytest.mark.spec("RFC 8428 4.5.3")
@pytest.mark.parametrize("number", ["f97e00", "f97c00", "f9fc00", "fb7fefffffffffffff"])
@pytest.mark.parametrize("label", ["06", "22"])
def test_a_time_that_is_no_moment_is_refused(number: str, label: str) -> None:
    payload = hexed("81 a3 00 6a") + b"/33000/0/1" + hexed("02 01" + label + number)
    check(112, INSTANCE, payload, Malformed, "is beyond any time")


DOCUMENTS: list[tuple[bytes, str]] = [
    *((each, "JSON") for each in (b"", b" ", b"[", b"]", b"[}", b'[{"n"', b'[{"n":', b'[{"n":"x"', b"nul", b"[,]")),
    *((each, "JSON") for each in (b'[{"n":"/33000/0/1","v":1},]', b"[{'n':'x','v':1}]", b'[{n:"x"}]', b"[1]//x")),
    *(
        (b'[{"n":"/33000/0/1","v":' + each + b"}]", "JSON")
        for each in (b"NaN", b"Infinity", b"-Infinity", b"01", b"+1")
    ),
    *((b'[{"n":"/33000/0/1","v":' + each + b"}]", "JSON") for each in (b".5", b"1.", b"1e", b"0x1", b"--1", b"1e999")),
    *((b'[{"n":"/33000/0/1","v":1}]' + each, "JSON") for each in (b"x", b"[]", b"\x00", b",")),
    *(
        (each, "JSON")
        for each in (b'["\xff"]', b'["\xc0\x80"]', b'["\xed\xa0\x80"]', b'["\\x41"]', b'["\\u12"]', b'["a\nb"]')
    ),
    *((each, "JSON") for each in (b"\xef\xbb\xbf[]", "[]".encode("utf-16"), "[]".encode("utf-16-le"), b"[" * 20_000)),
    (b'[{"n":"/33000/0/1","v":1,"v":2}]', "the member 'v' comes twice"),
    (b'[{"n":"/33000/0/1","n" \n:"/33000/0/1","v":2}]', "the member 'n' comes twice"),
    (b'[{"n":"/33000/0/1","v":2,"x":{"y":1,"y":1}}]', "the member 'y' comes twice"),
    (b'[{"n":"/33000/0/1","v":1,"\\u0076":2}]', "the member 'v' comes twice"),
]


@pytest.mark.spec("LwM2M-contract 8.4", "RFC 8428 5")
@pytest.mark.parametrize(("payload", "says"), DOCUMENTS)
def test_what_is_no_json_is_refused(payload: bytes, says: str) -> None:
    for number in (110, 320, 50, 11543):
        check(number, INSTANCE, payload, Malformed, says)


def test_a_text_that_looks_like_members_is_no_repetition() -> None:
    payload = b'[{"n":"/33000/0/0","vs":"\\"v\\":1,\\"v\\":2","x":{"v":1}}]'
    assert decode_content(110, payload, INSTANCE, MODEL).entries[0].value == '"v":1,"v":2'


# -- ETCH --


@pytest.mark.spec("LwM2M-contract 8.4", "RFC 8790 3.2")
@pytest.mark.parametrize(
    ("pack", "error", "says"),
    [
        ([{"n": "/33000/0/1", "v": None}], WrongType, "null removes resource instances only"),
        ([{"n": "/33000/0/10/0", "vs": None}], WrongType, "/33000/0/10/0 wants text in vs"),
        ([{"n": "/33000/0/11/65535", "v": None}], BadName, "reserved"),
        ([{"n": "/33000/1/11/0", "v": None}], OutsideBase, "/33000/1/11/0"),
        ([{"n": "/33000/0/11/0", "v": None}, {"n": "/33000/0/11/0", "v": None}], Repeated, "/33000/0/11/0"),
        ([{"n": "/33000/0/11/0", "v": None}, {"n": "/33000/0/11/0", "v": 1}], Repeated, "/33000/0/11/0"),
        ([{"n": "/33000/0/11/0", "v": 1}, {"n": "/33000/0/11/0", "v": None}], Repeated, "/33000/0/11/0"),
        ([{"n": "/33000/0/11/0", "v": None}, {"n": "/33000/0/2", "v": -1}], WrongType, "/33000/0/2"),
    ],
)
def test_what_is_no_patch_pack_is_refused_as_a_whole(pack: Any, error: type[DecodeError], says: str) -> None:
    check(320, INSTANCE, json.dumps(pack).encode(), error, says)
    check(322, INSTANCE, as_cbor(pack), error, says)


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize("number", [110, 112])
def test_outside_of_a_patch_null_is_no_value(number: int) -> None:
    pack = [{"n": "/33000/0/11/0", "v": None}]
    payload = json.dumps(pack).encode() if number == 110 else as_cbor(pack)
    check(number, INSTANCE, payload, WrongType, "/33000/0/11/0 wants a number in v, the payload has null")


@pytest.mark.spec("LwM2M-contract 8.4", "LwM2M-contract 6")
@pytest.mark.parametrize(
    ("pack", "error", "says"),
    [
        *((each, Malformed, "a pack is an array") for each in ({}, 1, None)),
        ([1], Malformed, "a record is a map"),
        *(([{"n": each}], Malformed, "a name is text") for each in (1, None)),
        *(([{"n": each}], BadName, "does not name") for each in ("", "3/0", "/3/0/", "/3/0/9/0/1", "/x", "/70000")),
        ([{"n": "/3/0"}, {"bn": "/3/", "n": "0"}], Repeated, "/3/0 occurs twice"),
        ([{"n": "/3/0", "t": "x"}], Malformed, "t is a number"),
        ([{"n": "/3/0", "bt": None}], Malformed, "t is a number"),
        ([{"n": "/3/0", "u": 1}], Malformed, "is text"),
        ([{"n": "/3/0", "x_": 1}], Malformed, "must be understood"),
        ([{"n": f"/3/{each}"} for each in range(4097)], LimitExceeded, "SenML records"),
    ],
)
def test_what_is_no_list_of_paths_is_refused(pack: Any, error: type[DecodeError], says: str) -> None:
    for number in (110, 112, 320, 322):
        payload = json.dumps(pack).encode() if number in (110, 320) else as_cbor(pack)
        with pytest.raises(error) as caught:
            decode_paths(number, payload)
        assert says in str(caught.value)


@pytest.mark.spec("LwM2M-contract 8.4", "RFC 8790 3.1")
@pytest.mark.parametrize(
    "field", [{"v": 1}, {"vs": "x"}, {"vb": True}, {"vlo": "1:1"}, {"s": 1}, {"bv": 1}, {"bs": 1}, {"ut": 1}]
)
def test_a_fetch_record_has_no_values(field: dict[str, Any]) -> None:
    pack = [{"n": "/3/0/9", "t": 5, "u": "V", **field}]
    for number, payload in ((320, json.dumps(pack).encode()), (322, as_cbor(pack))):
        with pytest.raises(Malformed) as caught:
            decode_paths(number, payload)
        assert "a fetch record has names, times and units alone" in str(caught.value)
        # In the older bodies they are looked over.
        assert decode_paths(number - 210, payload) == (Path(3, 0, 9),)


# -- LwM2M JSON --


@pytest.mark.spec("LwM2M-contract 8.6")
@pytest.mark.parametrize(
    ("document", "error", "says"),
    [
        *(
            (each, Malformed, "an object with an array e")
            for each in ([], 1, None, {}, {"e": {}}, {"e": None}, {"e": 1})
        ),
        *(({"e": [each]}, Malformed, "an element is an object") for each in (1, [], None, "x")),
        *(({"bn": each, "e": []}, Malformed, "a name is text") for each in (1, None, [])),
        *(({"e": [{"n": each, "v": 1}]}, Malformed, "a name is text") for each in (1, None, [])),
        ({"e": [{"n": "1"}]}, Malformed, "has no value"),
        ({"e": [{"n": "1", "v": 1, "sv": "1"}]}, Malformed, "two values"),
        ({"bt": "x", "e": [{"n": "1", "v": 1}]}, Malformed, "bt is a number"),
        ({"e": [{"n": "1", "v": 1, "t": "x"}]}, Malformed, "t is a number"),
        ({"e": [{"n": "1", "v": None}]}, WrongType, "/33000/0/1 wants"),
        ({"e": [{"n": "1", "sv": "1"}]}, WrongType, "/33000/0/1 wants Integer"),
        ({"e": [{"n": "4", "bv": 1}]}, WrongType, "/33000/0/4 wants"),
        ({"e": [{"n": "5", "sv": "?"}]}, WrongType, "/33000/0/5 wants Opaque"),
        ({"e": [{"n": "7", "ov": "10"}]}, WrongType, "/33000/0/7 wants Objlnk"),
        ({"e": [{"n": "a", "v": 1}]}, BadName, "does not name a resource"),
        ({"e": [{"n": "11/65535", "v": 1}]}, BadName, "reserved"),
        ({"bn": "33000/0", "e": [{"n": "1", "v": 1}]}, BadName, "does not name a resource"),
        ({"bn": "/33000/1/", "e": [{"n": "1", "v": 1}]}, OutsideBase, "/33000/1/1"),
        ({"e": [{"n": "1", "v": 1}, {"n": "1", "v": 1}]}, Repeated, "/33000/0/1"),
        ({"e": [{"n": "1", "v": 1}] * 4097}, LimitExceeded, "4096"),
    ],
)
def test_what_is_no_document_of_lwm2m_json_is_refused(document: Any, error: type[DecodeError], says: str) -> None:
    for number in (11543, 1543) if isinstance(document, list) else (11543, 1543, 50):
        check(number, INSTANCE, json.dumps(document).encode(), error, says)


# -- TLV --


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    ("payload", "error", "says"),
    [
        *(
            (each, Malformed, "offset 0: ends in the middle of a header")
            for each in ("c1", "e1 00", "c8 01", "d0 01 00")
        ),
        ("d8 01 0000", Malformed, "offset 0: ends in the middle of a header"),
        ("c1 01 64 c8", Malformed, "offset 3: ends in the middle of a header"),
        ("c2 01 64", Malformed, "value of 2 bytes runs past the end"),
        ("c8 01 ff 64", Malformed, "value of 255 bytes runs past the end"),
        ("d0 01 ffff 64", Malformed, "value of 65535 bytes runs past the end"),
        ("d8 01 ffffff 64", Malformed, "value of 16777215 bytes runs past the end"),
        ("08 00 03 c2 01 64", Malformed, "offset 3: value of 2 bytes runs past the end"),
        ("08 00 05 c1 01 64", Malformed, "offset 0: value of 5 bytes runs past the end"),
        ("83 0b 42 00 01", Malformed, "offset 2: value of 2 bytes runs past the end"),
        ("03 00 c1 01 64 64", Malformed, "ends in the middle of a header"),
        ("41 00 01", Malformed, "resource instance outside of a resource"),
        ("03 00 41 00 01", Malformed, "only resources are in an object instance"),
        ("02 00 00 00", Malformed, "only resources are in an object instance"),
        ("83 0b c1 00 01", Malformed, "only resource instances are in a multiple resource"),
        ("82 0b 00 00", Malformed, "only resource instances are in a multiple resource"),
        ("82 0b 80 00", Malformed, "only resource instances are in a multiple resource"),
        ("c1 01 64 c1 01 64", Repeated, "/33000/0/1 occurs twice"),
        ("c1 01 64 e1 0001 64", Repeated, "/33000/0/1 occurs twice"),
        ("03 00 c1 01 64 c1 01 64", Repeated, "/33000/0/1 occurs twice"),
        ("03 00 c1 01 64 03 00 c1 02 64", Repeated, "/33000/0 occurs twice"),
        ("86 0b 41 00 01 41 00 01", Repeated, "/33000/0/11/0 occurs twice"),
        ("83 0b 41 00 01 83 0b 41 01 01", Repeated, "/33000/0/11 occurs twice"),
        ("80 0b 83 0b 41 01 01", Repeated, "/33000/0/11 occurs twice"),
        ("c1 0b 01 83 0b 41 01 01", Repeated, "/33000/0/11 occurs twice"),
        ("e1 ffff 64", BadName, "'/33000/0/65535' does not name a resource: identifier 65535 is reserved"),
        ("84 0b 61 ffff 64", BadName, "'/33000/0/11/65535'"),
        ("03 01 c1 01 64", OutsideBase, "/33000/1/1 is outside of /33000/0"),
        ("00 01", OutsideBase, "/33000/1 is outside of /33000/0"),
        *(
            (f"{each} 00000000"[: 6 + 2 * int(each[1])], WrongType, "/33000/0/1 wants Integer")
            for each in ("c0 01", "c3 01")
        ),
        *((each, WrongType, "/33000/0/1 wants Integer") for each in ("c5 01 0000000000", "c8 01 09" + "00" * 9)),
        *((each, WrongType, "/33000/0/2 wants Unsigned") for each in ("c0 02", "c3 02 000000")),
        *(
            (each, WrongType, "/33000/0/3 wants Float")
            for each in ("c0 03", "c1 03 00", "c2 03 4d60", "c5 03 0000000000")
        ),
        *((each, WrongType, "/33000/0/4 wants Boolean") for each in ("c0 04", "c1 04 02", "c1 04 ff", "c2 04 0001")),
        *((each, WrongType, "/33000/0/6 wants Time") for each in ("c0 06", "c3 06 000000")),
        *((each, WrongType, "/33000/0/7 wants Objlnk") for each in ("c0 07", "c3 07 000a00", "c5 07 000a000300")),
        *((each, WrongType, "bytes that are not UTF-8") for each in ("c1 00 ff", "c1 08 80", "c3 00 eda080")),
        ("c000" * 5000, LimitExceeded, "more than 4096 TLV records"),
        ("c1 01 01 c1 02 ff c1 04 02", WrongType, "/33000/0/4 wants Boolean"),
    ],
)
@pytest.mark.parametrize("number", [11542, 1542])
def test_what_is_no_tlv_is_refused(number: int, payload: str, error: type[DecodeError], says: str) -> None:
    check(number, INSTANCE, hexed(payload), error, says)


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    ("payload", "base", "error", "says"),
    [
        ("c1 01 64", Path(OBJECT), Malformed, "a resource of /33000 outside of an object instance"),
        ("03 00 c1 01 64 c1 01 64", Path(OBJECT), Malformed, "a resource of /33000 outside of an object instance"),
        ("23 ffff c1 01 64", Path(OBJECT), BadName, "reserved"),
        ("20 ffff", Path(OBJECT), BadName, "reserved"),
        ("c1 02 64", at(INTEGER), OutsideBase, "/33000/0/2 is outside of /33000/0/1"),
        ("03 01 c1 01 64", at(INTEGER), OutsideBase, "/33000/1/1 is outside of /33000/0/1"),
        ("41 00 01", Path(OBJECT, 0, 11, 2), OutsideBase, "/33000/0/11/0 is outside of /33000/0/11/2"),
        ("00 00", at(INTEGER), OutsideBase, "/33000/0 is outside of /33000/0/1"),
        ("c1 01 64", Path(), Malformed, "the root has no TLV form"),
    ],
)
def test_tlv_that_speaks_of_something_else_is_refused(
    payload: str, base: Path, error: type[DecodeError], says: str
) -> None:
    check(11542, base, hexed(payload), error, says)


# -- LwM2M CBOR --


@pytest.mark.spec("LwM2M-contract 8.5", "READ-9")
@pytest.mark.parametrize(
    ("payload", "error", "says"),
    [
        *((each, Malformed, "the outermost item is a map") for each in ("80", "01", "60", "f6", "81 a0")),
        ("a1 19 80e8 a0", Malformed, "the map at /33000 is empty"),
        ("a1 19 80e8 a1 00 a0", Malformed, "the map at /33000/0 is empty"),
        ("a1 80 01", Malformed, "a key below / is empty"),
        ("a1 82 19 80e8 00 a1 80 01", Malformed, "a key below /33000/0 is empty"),
        *(
            (f"a1 {each} 01", BadName, "it is no path of a resource")
            for each in ("19 80e8", "81 19 80e8", "82 19 80e8 00")
        ),
        ("a1 85 19 80e8 00 0b 00 00 01", BadName, "'/33000/0/11/0/0' does not name a resource"),
        ("a1 83 19 80e8 00 20 01", BadName, "'/33000/0/-1'"),
        ("a1 83 19 80e8 00 1a 00010000 01", BadName, "'/33000/0/65536'"),
        ("a1 83 19 80e8 00 1b ffffffffffffffff 01", Malformed, "map key has something other than identifiers"),
        ("a1 83 19 80e8 00 f5 01", BadName, "'/33000/0/True'"),
        ("a1 83 19 80e8 00 f9 3c00 01", BadName, "'/33000/0/1.0'"),
        ("a1 83 19 80e8 00 61 31 01", BadName, "it is no path of a resource"),
        ("a1 84 60 19 80e8 00 01 01", BadName, "it has a prefix that was not asked for"),
        ("a1 84 63 323031 19 80e8 00 01 01", BadName, "it has a prefix that was not asked for"),
        ("a1 82 19 80e8 00 a1 61 31 01", BadName, "it is no path of a resource"),
        ("a1 82 19 80e8 81 00 01", BadName, "it is no path of a resource"),
        ("a1 83 19 80e8 19 ffff 01 01", BadName, "identifier 65535 is reserved"),
        ("a1 83 19 80e8 00 19 ffff 01", BadName, "identifier 65535 is reserved"),
        ("a1 83 19 ffff 00 01 01", BadName, "identifier 65535 is reserved"),
        ("a1 84 63 643031 19 80e8 00 01 01", BadName, "it has a prefix that was not asked for"),
        ("a1 63 643031 a1 83 19 80e8 00 01 01", BadName, "it has a prefix that was not asked for"),
        ("a1 83 19 80e8 01 01 01", OutsideBase, "/33000/1/1 is outside of /33000/0"),
        ("a2 83 19 80e8 00 01 01 82 19 80e8 00 a1 01 02", Repeated, "/33000/0/1 occurs twice"),
        ("a2 83 19 80e8 00 01 01 83 19 80e8 00 01 02", Malformed, "Duplicate"),
        ("a2 83 19 80e8 00 01 01 83 19 80e8 00 18 01 02", Malformed, "Duplicate"),
        ("a1 83 19 80e8 00 01 f6", WrongType, "/33000/0/1 wants Integer, the payload has null"),
        ("a1 83 19 80e8 00 01 81 01", WrongType, "/33000/0/1 wants Integer"),
        ("a1 83 19 80e8 00 01 61 31", WrongType, "/33000/0/1 wants Integer, the payload has text"),
        ("a1 83 19 80e8 00 01 f9 3e00", WrongType, "/33000/0/1 wants Integer, the payload has a fraction"),
        ("a1 83 19 80e8 00 02 20", WrongType, "/33000/0/2 wants Unsigned Integer"),
        ("a1 83 19 80e8 00 04 01", WrongType, "/33000/0/4 wants Boolean"),
        ("a1 83 19 80e8 00 05 61 61", WrongType, "/33000/0/5 wants Opaque"),
        ("a1 83 19 80e8 00 07 62 3130", WrongType, "/33000/0/7 wants Objlnk"),
        ("a2 83 19 80e8 00 01 01 83 19 80e8 00 04 01", WrongType, "/33000/0/4 wants Boolean"),
    ],
)
def test_what_is_no_lwm2m_cbor_is_refused(payload: str, error: type[DecodeError], says: str) -> None:
    check(11544, INSTANCE, hexed(payload), error, says)


@pytest.mark.spec("LwM2M-contract 15")
def test_the_number_of_values_in_lwm2m_cbor_is_bounded() -> None:
    payload = cbor2.dumps({OBJECT: {0: {11: dict.fromkeys(range(4097), 1)}}})
    check(11544, INSTANCE, payload, LimitExceeded, "more than 4096 values")


# -- a cut at every byte --

WHOLE: dict[int, bytes] = {
    60: hexed("fb 403519999999999a"),
    110: b'[{"bn":"/33000/0/","bt":1.7e9,"n":"0","vs":"\xc3\xa4"},{"n":"11/0","v":-5,"t":1},{"n":"5","vd":"yv4"}]',
    112: hexed("83 a4 21 69")
    + b"/33000/0/"
    + hexed("22 1a 6553f100 00 61 30 03 62 c3a4 a2 00 64")
    + b"11/0"
    + hexed("02 24 a2 00 61 35 08 42 cafe"),
    11542: hexed("c2 00 c3a4 83 0b 41 00 fb c4 07 000a0003 c8 03 08 403519999999999a"),
    11543: b'{"bn":"/33000/0/","e":[{"n":"0","sv":"\xc3\xa4"},{"n":"11/0","v":-5}]}',
    11544: hexed("a1 82 19 80e8 00 a4 00 62 c3a4 0b a1 00 24 05 42 cafe 03 fb 403519999999999a"),
}
OPEN: dict[int, bytes] = {
    112: hexed("9f bf 00 7f 65 2f33333030 65 302f302f30 ff 03 7f 61 61 61 62 ff ff ff"),
    11544: hexed("bf 83 19 80e8 00 05 5f 41 ca 41 fe ff ff"),
}


@pytest.mark.spec("LwM2M-contract 15")
@pytest.mark.parametrize("number", [60, 110, 112, 11543, 11544])
def test_a_payload_that_is_cut_anywhere_is_refused(number: int) -> None:
    base = at(FLOAT) if number == 60 else INSTANCE
    for whole in (WHOLE[number], OPEN.get(number, WHOLE[number])):
        assert decode_content(number, whole, base, MODEL).entries
        for end in range(len(whole)):
            with pytest.raises(DecodeError):
                decode_content(number, whole[:end], base, MODEL)
        for more in (b"\x00", b"]", b"\xff", whole):
            with pytest.raises(DecodeError):
                decode_content(number, whole + more, base, MODEL)


@pytest.mark.spec("LwM2M-contract 8.2")
def test_tlv_that_is_cut_is_refused_except_between_two_records() -> None:
    whole = WHOLE[11542]
    boundaries = {0, 4, 9, 15, len(whole)}
    entries = decode_content(11542, whole, INSTANCE, MODEL).entries
    for end in range(len(whole) + 1):
        if end in boundaries:
            read = decode_content(11542, whole[:end], INSTANCE, MODEL).entries
            assert read == entries[: len(read)]
        else:
            with pytest.raises(Malformed):
                decode_content(11542, whole[:end], INSTANCE, MODEL)


@pytest.mark.spec("LwM2M-contract 15")
@pytest.mark.parametrize("number", WHOLE)
def test_a_payload_with_one_byte_changed_is_understood_or_refused(number: int) -> None:
    base = at(FLOAT) if number == 60 else INSTANCE
    whole = WHOLE[number]
    for place in range(len(whole)):
        for byte in (0x00, 0x1F, 0x22, 0x5F, 0x7F, 0x9F, 0xBF, 0xC2, 0xF6, 0xFF, whole[place] ^ 1, whole[place] ^ 0x80):
            changed = whole[:place] + bytes((byte,)) + whole[place + 1 :]
            try:
                content = decode_content(number, changed, base, MODEL, NOW_MS / 1000)
            except DecodeError as error:
                assert len(str(error)) < 500  # noqa: PT017
                continue
            assert all(base.covers(entry.path) for entry in content.entries)
