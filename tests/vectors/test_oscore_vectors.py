"""OSCORE byte for byte: RFC 8613 App. C, which contract §2.6 repeats."""

from typing import NamedTuple

import pytest

from stellwerk.coap.message import CON, decode_message, encode_parts
from stellwerk.coap.options import OSCORE, read_options
from stellwerk.coap.oscore import context
from stellwerk.coap.oscore.context import Keys, derive, info_of
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.option import decode_option
from stellwerk.coap.oscore.protection import bind, open_request, open_response, seal_request, seal_response

SECRET = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
SALT = bytes.fromhex("9e7ca92223786340")
ID_CONTEXT = bytes.fromhex("37cbf3210017a2d3")


class Derivation(NamedTuple):
    salt: bytes
    id_context: bytes
    ids: tuple[str, str]
    infos: tuple[str, str, str]
    keys: tuple[str, str]
    iv: str
    nonces: tuple[str, str]


DERIVATIONS = {
    "C.1.1": Derivation(
        SALT,
        b"",
        ("", "01"),
        ("8540f60a634b657910", "854101f60a634b657910", "8540f60a6249560d"),
        ("f0910ed7295e6ad4b54fc793154302ff", "ffb14e093c94c9cac9471648b4f98710"),
        "4622d4dd6d944168eefb54987c",
        ("4622d4dd6d944168eefb54987c", "4722d4dd6d944169eefb54987c"),
    ),
    "C.2.1": Derivation(
        b"",
        b"",
        ("00", "01"),
        ("854100f60a634b657910", "854101f60a634b657910", "8540f60a6249560d"),
        ("321b26943253c7ffb6003b0b64d74041", "e57b5635815177cd679ab4bcec9d7dda"),
        "be35ae297d2dace910c52e99f9",
        ("bf35ae297d2dace910c52e99f9", "bf35ae297d2dace810c52e99f9"),
    ),
    "C.3.1": Derivation(
        SALT,
        ID_CONTEXT,
        ("", "01"),
        (
            "85404837cbf3210017a2d30a634b657910",
            "8541014837cbf3210017a2d30a634b657910",
            "85404837cbf3210017a2d30a6249560d",
        ),
        ("af2a1300a5e95788b356336eeecd2b92", "e39a0c7c77b43f03b4b39ab9a268699f"),
        "2ca58fb85ff1b81c0b7181b85e",
        ("2ca58fb85ff1b81c0b7181b85e", "2da58fb85ff1b81d0b7181b85e"),
    ),
}


def client_of(name: str) -> ContextMaterial:
    row = DERIVATIONS[name]
    sender, recipient = (bytes.fromhex(each) for each in row.ids)
    return ContextMaterial(1, sender, recipient, SECRET, row.salt, row.id_context)


def server_of(name: str) -> ContextMaterial:
    material = client_of(name)
    return ContextMaterial(
        1, material.recipient_id, material.sender_id, SECRET, material.master_salt, material.id_context
    )


@pytest.mark.spec("RFC 8613 3.2", "RFC 8613 C.1", "RFC 8613 C.2", "RFC 8613 C.3", "LwM2M-contract 2.6")
@pytest.mark.parametrize("name", DERIVATIONS)
def test_keys_and_nonces_are_those_of_the_standard_at_either_end(name: str):
    row = DERIVATIONS[name]
    material = client_of(name)
    ids = (material.sender_id, material.recipient_id)
    assert [info_of(10, row.id_context, of, "Key", 16).hex() for of in ids] == list(row.infos[:2])
    assert info_of(10, row.id_context, b"", "IV", 13).hex() == row.infos[2]
    for each in (material, server_of(name)):
        assert [derive(each, row.id_context, of, "Key", 16).hex() for of in ids] == list(row.keys)
        assert derive(each, row.id_context, b"", "IV", 13).hex() == row.iv
        assert [Keys(each).nonce(of, b"\0").hex() for of in ids] == list(row.nonces)


REQUESTS = {
    "C.4": (
        "C.1.1",
        "44015d1f00003974396c6f63616c686f737483747631",
        "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
        "8368456e63727970743040488501810a40411440",
        "4622d4dd6d944168eefb549868",
    ),
    "C.5": (
        "C.2.1",
        "440171c30000b932396c6f63616c686f737483747631",
        "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
        "8368456e63727970743040498501810a4100411440",
        "bf35ae297d2dace910c52e99ed",
    ),
    "C.6": (
        "C.3.1",
        "44012f8eef9bbf7a396c6f63616c686f737483747631",
        "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
        "8368456e63727970743040488501810a40411440",
        "2ca58fb85ff1b81c0b7181b84a",
    ),
}


@pytest.mark.spec("RFC 8613 8.1", "RFC 8613 8.2", "RFC 8613 C.4", "RFC 8613 C.5", "RFC 8613 C.6", "LwM2M-contract 2.6")
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_protected_and_read_as_in_the_standard(name: str):
    context_name, plain, protected, associated, nonce = REQUESTS[name]
    keys = Keys(client_of(context_name))
    message = decode_message(bytes.fromhex(plain))
    named = keys.id_context or None
    sealed, binding = seal_request(keys, 20, message.code, message.options, message.payload, named)
    written = encode_parts(CON, sealed.code, message.mid, message.token, sealed.options, sealed.payload)
    assert written.hex() == protected
    assert keys.associated_data(binding.kid, binding.piv).hex() == associated
    assert binding.nonce.hex() == nonce

    received = decode_message(bytes.fromhex(protected))
    value = read_options(received.options).oscore
    assert value is not None
    opened, bound = open_request(
        Keys(server_of(context_name)), decode_option(value), received.options, received.payload
    )
    assert opened == (message.code, message.options, message.payload)
    assert bound == binding


RESPONSES = {
    "C.7": (None, "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"),
    "C.8": (0, "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"),
}


@pytest.mark.spec("RFC 8613 8.3", "RFC 8613 8.4", "RFC 8613 C.7", "RFC 8613 C.8", "LwM2M-contract 2.6")
@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_protected_and_read_as_in_the_standard(name: str):
    number, protected = RESPONSES[name]
    server, client = Keys(server_of("C.1.1")), Keys(client_of("C.1.1"))
    message = decode_message(bytes.fromhex("64455d1f00003974ff48656c6c6f20576f726c6421"))
    binding = bind(server, b"", b"\x14")
    sealed = seal_response(server, binding, number, message.code, message.options, message.payload)
    written = encode_parts(message.type, sealed.code, message.mid, message.token, sealed.options, sealed.payload)
    assert written.hex() == protected

    received = decode_message(bytes.fromhex(protected))
    value = dict(received.options)[OSCORE]
    opened = open_response(client, bind(client, b"", b"\x14"), decode_option(value), received.options, received.payload)
    assert opened == (message.code, message.options, message.payload)


@pytest.mark.spec("RFC 8613 3.2.1")
def test_every_algorithm_protects_for_the_other_end():
    for aead in context.AEADS:
        for hkdf in (-10, -11, 5, 7):
            client = Keys(ContextMaterial(1, b"a", b"b", SECRET, SALT, b"", aead, hkdf))
            server = Keys(ContextMaterial(1, b"b", b"a", SECRET, SALT, b"", aead, hkdf))
            sealed, _ = seal_request(client, 7, 1, ((11, b"rd"),), b"body", None)
            value = read_options(decode_message(encode_parts(0, 2, 1, b"", sealed.options, b"x")).options).oscore
            assert value is not None
            opened, _ = open_request(server, decode_option(value), (), sealed.payload)
            assert opened == (1, ((11, b"rd"),), b"body")
