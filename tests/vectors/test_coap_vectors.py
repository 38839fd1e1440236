"""The CoAP messages of LwM2M, byte for byte, in both directions (contract §1.9)."""

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import ACK, CON, NON, RST, Message, decode_message, encode_message
from stellwerk.coap.options import Block, read_options

# name: (bytes, type, code, message ID, token, options, payload)
VECTORS = {
    "register": (
        "44021234a1b2c3d4 b27264 11 28 3765703d64657631 066c743d333030 096c776d326d3d312e31 03623d55 0151"
        "ff3c2f3e3b63743d3131322c3c2f312f303e2c3c2f332f303e",
        (CON, codes.POST, 0x1234, "a1b2c3d4"),
        ((11, b"rd"), (12, b"\x28"), (15, b"ep=dev1"), (15, b"lt=300"), (15, b"lwm2m=1.1"), (15, b"b=U"), (15, b"Q")),
        b"</>;ct=112,</1/0>,</3/0>",
    ),
    "created at /rd/k7x": (
        "64411234a1b2c3d4 827264 036b3778",
        (ACK, codes.CREATED, 0x1234, "a1b2c3d4"),
        ((8, b"rd"), (8, b"k7x")),
        b"",
    ),
    "update": (
        "41021235 01 b27264 036b3778 466c743d363030",
        (CON, codes.POST, 0x1235, "01"),
        ((11, b"rd"), (11, b"k7x"), (15, b"lt=600")),
        b"",
    ),
    "de-register": (
        "41041236 02 b27264 036b3778",
        (CON, codes.DELETE, 0x1236, "02"),
        ((11, b"rd"), (11, b"k7x")),
        b"",
    ),
    "observe /3/0/9": (
        "44010101 0badcafe 60 51 33 01 30 01 39 61 70",
        (CON, codes.GET, 0x0101, "0badcafe"),
        ((6, b""), (11, b"3"), (11, b"0"), (11, b"9"), (17, b"\x70")),
        b"",
    ),
    "notify": (
        "54457001 0badcafe 610c 6170 ff 81a200662f332f302f39021863",
        (NON, codes.CONTENT, 0x7001, "0badcafe"),
        ((6, b"\x0c"), (12, b"\x70")),
        bytes.fromhex("81a200662f332f302f39021863"),
    ),
    "reset of the notification": ("70007001", (RST, codes.EMPTY, 0x7001, ""), (), b""),
    "cancel": (
        "44010102 0badcafe 6101 51 33 01 30 01 39 61 70",
        (CON, codes.GET, 0x0102, "0badcafe"),
        ((6, b"\x01"), (11, b"3"), (11, b"0"), (11, b"9"), (17, b"\x70")),
        b"",
    ),
    "write-attributes": (
        "41030103 03 b133 0130 0139 47706d696e3d3130 07706d61783d3630",
        (CON, codes.PUT, 0x0103, "03"),
        ((11, b"3"), (11, b"0"), (11, b"9"), (15, b"pmin=10"), (15, b"pmax=60")),
        b"",
    ),
    "execute /1/0/8": (
        "41020104 04 b131 0130 0138",
        (CON, codes.POST, 0x0104, "04"),
        ((11, b"1"), (11, b"0"), (11, b"8")),
        b"",
    ),
    "discover /3": (
        "41010105 05 b133 6128",
        (CON, codes.GET, 0x0105, "05"),
        ((11, b"3"), (17, b"\x28")),
        b"",
    ),
    "read-composite": (
        "41050106 06 c170 5170 ff 82a100662f332f302f39a100662f312f302f31",
        (CON, codes.FETCH, 0x0106, "06"),
        ((12, b"\x70"), (17, b"\x70")),
        bytes.fromhex("82a100662f332f302f39a100662f312f302f31"),
    ),
    "write-composite": (
        "41070107 07 c170 ff 81a200662f312f302f3102183c",
        (CON, codes.IPATCH, 0x0107, "07"),
        ((12, b"\x70"),),
        bytes.fromhex("81a200662f312f302f3102183c"),
    ),
    "package block 0": (
        "41030108 08 b135 0130 0130 112a d1020d d2140514 ff" + "5a" * 512,
        (CON, codes.PUT, 0x0108, "08"),
        ((11, b"5"), (11, b"0"), (11, b"0"), (12, b"\x2a"), (27, b"\x0d"), (60, b"\x05\x14")),
        b"\x5a" * 512,
    ),
    "continue": ("615f0108 08 d10e0d", (ACK, codes.CONTINUE, 0x0108, "08"), ((27, b"\x0d"),), b""),
    "package last block": (
        "4103010a 08 b135 0130 0130 112a d10225 ff" + "5a" * 276,
        (CON, codes.PUT, 0x010A, "08"),
        ((11, b"5"), (11, b"0"), (11, b"0"), (12, b"\x2a"), (27, b"\x25")),
        b"\x5a" * 276,
    ),
    "too large": (
        "618d0108 08 d10e04 d2140400",
        (ACK, codes.REQUEST_ENTITY_TOO_LARGE, 0x0108, "08"),
        ((27, b"\x04"), (60, b"\x04\x00")),
        b"",
    ),
    "unauthorized with echo": (
        "61810109 0a d8ef00 11223344556677",
        (ACK, codes.UNAUTHORIZED, 0x0109, "0a"),
        ((252, bytes.fromhex("0011223344556677")),),
        b"",
    ),
    "send block 0 with request-tag": (
        "4102010b 0b b26470 1170 d1020e d1fc01",
        (CON, codes.POST, 0x010B, "0b"),
        ((11, b"dp"), (12, b"\x70"), (27, b"\x0e"), (292, b"\x01")),
        b"",
    ),
    "bootstrap-request": (
        "41022001 0c b26273 4765703d64657631 077063743d313132",
        (CON, codes.POST, 0x2001, "0c"),
        ((11, b"bs"), (15, b"ep=dev1"), (15, b"pct=112")),
        b"",
    ),
    "bootstrap-pack-request": (
        "41012002 0d b6627370 61636b 4765703d64657631 2170",
        (CON, codes.GET, 0x2002, "0d"),
        ((11, b"bspack"), (15, b"ep=dev1"), (17, b"\x70")),
        b"",
    ),
    "bootstrap-discover /": ("41012003 0e d10428", (CON, codes.GET, 0x2003, "0e"), ((17, b"\x28"),), b""),
    "bootstrap-delete /": ("41042004 0f", (CON, codes.DELETE, 0x2004, "0f"), (), b""),
    "bootstrap-finish": ("41022005 10 b26273", (CON, codes.POST, 0x2005, "10"), ((11, b"bs"),), b""),
    "ping": ("40001234", (CON, codes.EMPTY, 0x1234, ""), (), b""),
}


@pytest.mark.spec("RFC 7252 3", "RFC 8132 4", "RFC 7959 2.2", "RFC 9175 2.2")
@pytest.mark.parametrize("name", VECTORS)
def test_a_message_is_byte_exact_in_both_directions(name):
    data, (kind, code, mid, token), options, payload = VECTORS[name]
    message = Message(kind, code, mid, bytes.fromhex(token), options, payload)
    assert decode_message(bytes.fromhex(data)) == message
    assert encode_message(message) == bytes.fromhex(data)


@pytest.mark.spec("RFC 7959 2.2")
def test_the_blocks_of_a_package_are_read_by_meaning():
    first = read_options(VECTORS["package block 0"][2])
    assert (first.block1, first.size1, first.content_format) == (Block(0, True, 5), 1300, 42)
    assert read_options(VECTORS["package last block"][2]).block1 == Block(2, False, 5)
    hint = read_options(VECTORS["too large"][2])
    assert (hint.block1, hint.size1) == (Block(0, False, 4), 1024)
