"""The byte examples of the contract's §8, read and written, and the broken ones that must be refused."""

import json

import pytest

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import (
    ContentFormat,
    DecodeError,
    Malformed,
    decode_content,
    decode_paths,
    encode_content,
    encode_paths,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

T = ResourceType
KNOWN = {
    (1, 0): T.INTEGER,
    (1, 1): T.INTEGER,
    (1, 2): T.INTEGER,
    (1, 3): T.INTEGER,
    (1, 5): T.INTEGER,
    (1, 6): T.BOOLEAN,
    (1, 7): T.STRING,
    (3, 0): T.STRING,
    (3, 1): T.STRING,
    (3, 2): T.INTEGER,
    (3, 6): T.INTEGER,
    (3, 7): T.INTEGER,
    (3, 9): T.INTEGER,
    (3, 13): T.TIME,
    (3, 16): T.STRING,
    (3, 22): T.OBJLNK,
    (3, 30): T.OPAQUE,
    (3, 31): T.BOOLEAN,
    (19, 0): T.OPAQUE,
    (66, 0): T.STRING,
    (66, 1): T.STRING,
    (66, 2): T.OBJLNK,
    (3303, 5700): T.FLOAT,
    (42769, 0): T.OPAQUE,
}
MULTIPLE = {(3, 6), (3, 7), (19, 0)}


class Registry:
    def resource_type(self, path: Path) -> ResourceType | None:
        return KNOWN.get((path[0], path[2]))

    def is_multiple(self, path: Path) -> bool | None:
        return (path[0], path[2]) in MULTIPLE if (path[0], path[2]) in KNOWN else None


def at(*pairs: tuple[str, Value] | tuple[str, Value, float]) -> Content:
    return Content(tuple(Entry(Path.parse(text), value, *time) for text, value, *time in pairs))


def check(content_format: int, base: str, payload: bytes, content: Content) -> None:
    path = Path.parse(base)
    assert decode_content(content_format, payload, path, Registry()) == content
    assert encode_content(content_format, content, path, Registry()) == payload


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    ("base", "hexadecimal", "content"),
    [
        ("/3/0/9", "c1 09 64", at(("/3/0/9", 100))),
        ("/3/0", "c1 02 ff", at(("/3/0/2", -1))),
        ("/3/0/13", "c4 0d 6553f100", at(("/3/0/13", 1700000000))),
        ("/3/0/13", "c8 0d 08 00000000f4865700", at(("/3/0/13", 4102444800))),
        ("/1/0", "c1 06 01", at(("/1/0/6", True))),
        ("/3/0", "c4 00 41434d45", at(("/3/0/0", "ACME"))),
        ("/3/0", "c8 00 14 4f70656e204d6f62696c6520416c6c69616e6365", at(("/3/0/0", "Open Mobile Alliance"))),
        ("/3303/0", "e4 1644 41ac0000", at(("/3303/0/5700", 21.5))),
        ("/3303/0/5700", "e8 1644 08 403519999999999a", at(("/3303/0/5700", 21.1))),
        ("/3/0", "c4 16 000a0003", at(("/3/0/22", ObjectLink(10, 3)))),
        ("/3/0", "c0 00", at(("/3/0/0", ""))),
        ("/3/0/6", "86 06 41 00 01 41 01 05", at(("/3/0/6/0", 1), ("/3/0/6/1", 5))),
        ("/3/0/6", "80 06", Content(empty=(Path(3, 0, 6),))),
        ("/3/0/7", "85 07 62 012c 0ed8", at(("/3/0/7/300", 3800))),
        ("/3", "00 03", Content(empty=(Path(3, 3),))),
        (
            "/1",
            "08 00 0f c1 00 01 c4 01 00015180 c1 06 01 c1 07 55",
            at(("/1/0/0", 1), ("/1/0/1", 86400), ("/1/0/6", True), ("/1/0/7", "U")),
        ),
        ("/42769/0", "d0 00 012c" + "ab" * 300, at(("/42769/0/0", b"\xab" * 300))),
        ("/42769/0", "d8 00 011170" + "ab" * 70000, at(("/42769/0/0", b"\xab" * 70000))),
        (
            "/1/0",
            "c1 02 65 c2 03 03f2 c2 05 07d0 c1 06 01 c1 07 55",
            at(("/1/0/2", 101), ("/1/0/3", 1010), ("/1/0/5", 2000), ("/1/0/6", True), ("/1/0/7", "U")),
        ),
    ],
)
def test_tlv_examples(base: str, hexadecimal: str, content: Content) -> None:
    check(ContentFormat.TLV, base, bytes.fromhex(hexadecimal), content)


@pytest.mark.spec("LwM2M-contract 8.2")
@pytest.mark.parametrize(
    ("base", "payload"),
    [
        # The device example: a length of 22 over the 21 characters of "Lightweigt M2M Client".
        ("/3/0", b"\xc8\x00\x14Open Mobile Alliance\xc8\x01\x16Lightweigt M2M Client\xc8\x02\x09345000123"),
        # The server example: an instance of 13 bytes that holds 15.
        ("/1", bytes.fromhex("08000d c10001 c40100015180 c10601 c10755")),
        # The /66 example: instances of 35 bytes that hold 38.
        (
            "/66",
            b"\x08\x00\x23\xc8\x00\x0bmyService 1\xc8\x01\x0fInternet.15.234\xc4\x02\x00\x43\x00\x00"
            b"\x08\x01\x23\xc8\x00\x0bmyService 2\xc8\x01\x0fInternet.15.235\xc4\x02\xff\xff\xff\xff",
        ),
    ],
)
def test_the_broken_tlv_examples_of_the_specification_are_refused(base: str, payload: bytes) -> None:
    with pytest.raises(Malformed):
        decode_content(ContentFormat.TLV, payload, Path.parse(base), Registry())


@pytest.mark.spec("LwM2M-contract 8.3")
@pytest.mark.parametrize(
    ("path", "hexadecimal", "value"),
    [
        ("/3/0/9", "1864", 100),
        ("/3/0/2", "20", -1),
        ("/3/0/31", "f5", True),
        ("/3/0/16", "6155", "U"),
        ("/3303/0/5700", "f94d60", 21.5),
        ("/3/0/30", "420102", b"\x01\x02"),
        ("/3/0/22", "6431303a33", ObjectLink(10, 3)),
        ("/3/0/13", "c11a6553f100", 1700000000),
    ],
)
def test_cbor_examples(path: str, hexadecimal: str, value: Value) -> None:
    check(ContentFormat.CBOR, path, bytes.fromhex(hexadecimal), at((path, value)))


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize(
    ("base", "hexadecimal", "content"),
    [
        ("/3/0/9", "81a221662f332f302f39021864", at(("/3/0/9", 100))),
        (
            "/1/0",
            "83a321652f312f302f006131021a00015180a200613604f5a2006137036155",
            at(("/1/0/1", 86400), ("/1/0/6", True), ("/1/0/7", "U")),
        ),
        ("/3/0/6", "82a321672f332f302f362f0061300201a20061310205", at(("/3/0/6/0", 1), ("/3/0/6/1", 5))),
        (
            "/3303/0/5700",
            "82a3216c2f333330332f302f35373030221a6553f10002f94d60a206383b02f94d50",
            at(("/3303/0/5700", 21.5, 1700000000.0), ("/3303/0/5700", 21.25, 1699999940.0)),
        ),
        ("/19/0/0/0", "81a221692f31392f302f302f300842cafe", at(("/19/0/0/0", b"\xca\xfe"))),
        ("/3/0/22/0", "81a221692f332f302f32322f3063766c6f6431303a33", at(("/3/0/22/0", ObjectLink(10, 3)))),
        ("/3/0", "80", Content(empty=(Path(3, 0),))),
        (
            "/",
            "83a321612f0065312f302f32021865a20065312f302f3604f5a20066332f302f31330200",
            at(("/1/0/2", 101), ("/1/0/6", True), ("/3/0/13", 0)),
        ),
    ],
)
def test_senml_cbor_examples(base: str, hexadecimal: str, content: Content) -> None:
    check(ContentFormat.SENML_CBOR, base, bytes.fromhex(hexadecimal), content)


@pytest.mark.spec("LwM2M-contract 8.4")
def test_the_null_link_and_the_older_spelling_of_it_are_one() -> None:
    for text in (b"65535:65535", b"FFFF:FFFF"):
        content = decode_content(ContentFormat.TEXT, text, Path(3, 0, 22), Registry())
        assert content == at(("/3/0/22", ObjectLink(65535, 65535)))


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize(
    ("hexadecimal", "paths"),
    [("82a100662f332f302f39a100662f312f302f31", ("/3/0/9", "/1/0/1")), ("81a100612f", ("/",))],
)
def test_composite_bodies_name_their_paths(hexadecimal: str, paths: tuple[str, ...]) -> None:
    wanted = tuple(map(Path.parse, paths))
    assert encode_paths(ContentFormat.SENML_CBOR, wanted) == bytes.fromhex(hexadecimal)
    assert decode_paths(ContentFormat.SENML_CBOR, bytes.fromhex(hexadecimal)) == wanted


@pytest.mark.spec("LwM2M-contract 8.4")
@pytest.mark.parametrize(
    ("base", "text", "content"),
    [
        ("/3/0/9", '[{"bn":"/3/0/9","v":100}]', at(("/3/0/9", 100))),
        (
            "/3303/0/5700",
            '[{"bn":"/3303/0/5700","bt":1700000000,"v":21.5},{"t":-60,"v":21.25}]',
            at(("/3303/0/5700", 21.5, 1700000000.0), ("/3303/0/5700", 21.25, 1699999940.0)),
        ),
        ("/3/0", "[]", Content(empty=(Path(3, 0),))),
    ],
)
def test_senml_json_examples(base: str, text: str, content: Content) -> None:
    check(ContentFormat.SENML_JSON, base, text.encode(), content)
    assert json.loads(text) == json.loads(
        encode_content(ContentFormat.SENML_JSON, content, Path.parse(base), Registry())
    )


@pytest.mark.spec("LwM2M-contract 8.4")
def test_a_null_in_a_patch_pack_takes_a_resource_instance_away() -> None:
    payload = bytes.fromhex("81a200682f332f302f362f3102f6")
    check(ContentFormat.SENML_ETCH_CBOR, "/", payload, Content(removed=(Path(3, 0, 6, 1),)))
    check(ContentFormat.SENML_ETCH_JSON, "/", b'[{"n":"/3/0/6/1","v":null}]', Content(removed=(Path(3, 0, 6, 1),)))
    with pytest.raises(DecodeError):
        decode_content(ContentFormat.SENML_CBOR, payload, Path(), Untyped())


@pytest.mark.spec("LwM2M-contract 1.9")
def test_the_write_composite_of_one_value_has_its_whole_name_in_n() -> None:
    check(ContentFormat.SENML_CBOR, "/", bytes.fromhex("81a200662f312f302f3102183c"), at(("/1/0/1", 60)))


@pytest.mark.spec("LwM2M-contract 1.9")
def test_a_notification_may_spell_its_name_in_either_field() -> None:
    payload = bytes.fromhex("81a200662f332f302f39021863")
    assert decode_content(ContentFormat.SENML_CBOR, payload, Path(3, 0, 9), Registry()) == at(("/3/0/9", 99))


@pytest.mark.spec("LwM2M-contract 8.5")
@pytest.mark.parametrize(
    ("base", "hexadecimal", "content"),
    [
        ("/3/0/9", "a1830300091864", at(("/3/0/9", 100))),
        (
            "/",
            "a2820300a2091864106155830100011a00015180",
            at(("/3/0/9", 100), ("/3/0/16", "U"), ("/1/0/1", 86400)),
        ),
        ("/3/0/6", "a183030006a200010105", at(("/3/0/6/0", 1), ("/3/0/6/1", 5))),
        ("/3303", "a182190ce719ffffa1191644f94d60", at(("/3303/65535/5700", 21.5))),
    ],
)
def test_lwm2m_cbor_examples(base: str, hexadecimal: str, content: Content) -> None:
    payload, path = bytes.fromhex(hexadecimal), Path.parse(base)
    assert decode_content(ContentFormat.LWM2M_CBOR, payload, path, Registry(), creating=True) == content
    assert encode_content(ContentFormat.LWM2M_CBOR, content, path, Registry()) == payload


@pytest.mark.spec("LwM2M-contract 8.5")
@pytest.mark.parametrize("hexadecimal", ["a103a100a1091864", "bf830300091864ff", "a1830300091864"])
def test_lwm2m_cbor_may_nest_join_and_leave_lengths_open(hexadecimal: str) -> None:
    payload = bytes.fromhex(hexadecimal)
    assert decode_content(ContentFormat.LWM2M_CBOR, payload, Path(3), Registry()) == at(("/3/0/9", 100))


@pytest.mark.spec("LwM2M-contract 8.5", "LwM2M-contract 12", "GW-6")
def test_keys_of_lwm2m_cbor_may_begin_with_the_prefix_of_a_gateway() -> None:
    payload, content = bytes.fromhex("a18463643031190ce700191644f94d60"), at(("/3303/0/5700", 21.5))
    for root in ("", "/lwm2m"):
        read = decode_content(ContentFormat.LWM2M_CBOR, payload, Path(3303), Registry(), root=root, prefix="d01")
        assert read == content
        written = encode_content(ContentFormat.LWM2M_CBOR, content, Path(3303), Registry(), root, prefix="d01")
        assert written == payload
    assert decode_content(ContentFormat.LWM2M_CBOR, payload, Path(3303), Registry(), root="/d01") == content
    for root in ("", "/lwm2m"):
        with pytest.raises(DecodeError):
            decode_content(ContentFormat.LWM2M_CBOR, payload, Path(3303), Registry(), root=root)


@pytest.mark.spec("LwM2M-contract 8.6")
@pytest.mark.parametrize("number", [11543, 1543, 50])
def test_the_json_of_lwm2m_1_0_is_understood(number: int) -> None:
    payload = (
        b'{"bn":"/3/0/","bt":1700000000,"e":[{"n":"9","v":100},{"n":"0","sv":"x"},{"n":"6/0","v":1},'
        b'{"n":"31","bv":true},{"n":"22/0","ov":"10:3"},{"n":"30","sv":"yv4=","t":5}]}'
    )
    now = 1700000000.0
    assert decode_content(number, payload, Path(3, 0), Registry()) == at(
        ("/3/0/9", 100, now),
        ("/3/0/0", "x", now),
        ("/3/0/6/0", 1, now),
        ("/3/0/31", True, now),
        ("/3/0/22/0", ObjectLink(10, 3), now),
        ("/3/0/30", b"\xca\xfe", now + 5),
    )


@pytest.mark.spec("LwM2M-contract 8.6")
def test_the_json_of_lwm2m_1_0_is_written_for_its_clients() -> None:
    payload = (
        b'{"bn":"/3/0/","bt":1700000000,"e":[{"n":"9","v":100},{"n":"0","sv":"x"},{"n":"31","bv":true},'
        b'{"n":"6/0","v":1},{"n":"22/0","ov":"10:3"},{"n":"30","sv":"yv4="},{"n":"9","t":-60,"v":99}]}'
    )
    now = 1700000000.0
    entries = (
        *(("/3/0/9", 100, now), ("/3/0/0", "x", now), ("/3/0/31", True, now), ("/3/0/6/0", 1, now)),
        *(("/3/0/22/0", ObjectLink(10, 3), now), ("/3/0/30", b"\xca\xfe", now), ("/3/0/9", 99, now - 60)),
    )
    check(ContentFormat.LWM2M_JSON, "/3/0", payload, at(*entries))
    check(ContentFormat.LWM2M_JSON, "/3/0/9", b'{"bn":"/3/0/9","e":[{"v":100}]}', at(("/3/0/9", 100)))
    check(ContentFormat.LWM2M_JSON, "/3/0", b'{"bn":"/3/0","e":[]}', Content(empty=(Path(3, 0),)))


@pytest.mark.spec("LwM2M-contract 8.6")
def test_names_of_that_json_are_relative_to_what_was_asked_for() -> None:
    for payload in (b'{"e":[{"n":"9","v":100}]}', b'{"bn":"/3/0","e":[{"n":"9","v":100}]}'):
        assert decode_content(11543, payload, Path(3, 0), Registry()) == at(("/3/0/9", 100))
    assert decode_content(11543, b'{"e":[{"v":100}]}', Path(3, 0, 9), Registry()) == at(("/3/0/9", 100))
    for payload in (b"[]", b"{}", b'{"e":[1]}', b'{"e":[{"n":1,"v":1}]}', b'{"bn":1,"e":[]}', b'{"e":[{"n":"9"}]}'):
        with pytest.raises(DecodeError):
            decode_content(11543, payload, Path(3, 0), Registry())
