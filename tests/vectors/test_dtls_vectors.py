"""DTLS 1.2 byte for byte: handshakes between OpenSSL's client and server (test keys), and vectors of the standards."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from stellwerk.dtls import messages, prf
from stellwerk.dtls.certificates import read_certificate
from stellwerk.dtls.fragments import Fragment, decode_fragments, transcript_form
from stellwerk.dtls.messages import HandshakeType
from stellwerk.dtls.protection import Protection
from stellwerk.dtls.records import ContentType, Record, encode_record, split_records
from stellwerk.dtls.signatures import ECDSA_SHA256, sign, verify
from stellwerk.dtls.suites import SUITES

CAPTURES = json.loads((Path(__file__).parent / "dtls_handshakes.json").read_text())
PSK = bytes(range(16))
PSK_CAPTURES = [name for name in CAPTURES if name.startswith("PSK")]


class Listener:
    """Follows a recorded handshake: ``said`` are its messages as (sender, type, body), ``data`` what was protected."""

    def __init__(self, name: str) -> None:
        self.master = bytes.fromhex(CAPTURES[name]["master_secret"])
        self.records = [
            (sender, record)
            for sender, datagram in CAPTURES[name]["datagrams"]
            for record in split_records(bytes.fromhex(datagram), 0)
        ]
        self.said: list[tuple[str, int, bytes]] = []
        self.data: list[tuple[str, int, bytes]] = []
        self.sealed: list[tuple[str, Record, bytes]] = []
        self.transcript = b""
        self.transcript_before: dict[tuple[str, int], bytes] = {}
        self._parts: dict[tuple[str, int], bytes] = {}
        self.protections: dict[str, Protection] = {}
        self.encrypt_then_mac = False
        for sender, record in self.records:
            self._hear(sender, record)

    def _hear(self, sender: str, record: Record) -> None:
        plaintext = record.fragment
        if record.epoch:
            kind, plaintext = self.protections[sender].open(record)
            assert kind == record.type
            self.sealed.append((sender, record, plaintext))
        if record.type == ContentType.HANDSHAKE:
            for fragment in decode_fragments(plaintext):
                self._take(sender, fragment)
        elif record.type != ContentType.CHANGE_CIPHER_SPEC:
            self.data.append((sender, record.type, plaintext))

    def _take(self, sender: str, fragment: Fragment) -> None:
        key = (sender, fragment.message_seq)
        body = self._parts.get(key, b"")
        assert len(body) == fragment.offset
        body += fragment.data
        self._parts[key] = body
        if len(body) < fragment.length:
            return
        self.said.append((sender, fragment.type, body))
        self.transcript_before[sender, fragment.type] = self.transcript
        if fragment.type == HandshakeType.HELLO_VERIFY_REQUEST:
            self.transcript = b""
        else:
            self.transcript += transcript_form(fragment.type, fragment.message_seq, body)
        if fragment.type == HandshakeType.SERVER_HELLO:
            self._derive(messages.decode_server_hello(body))

    def _derive(self, hello: messages.ServerHello) -> None:
        self.hello = hello
        self.client_random = messages.decode_client_hello(self.said[-2][2]).random
        self.suite = SUITES[hello.suite]
        keys = prf.key_block(self.suite, prf.Prf(self.master), hello.random, self.client_random)
        etm = hello.extensions.encrypt_then_mac
        self.protections = {
            "client": Protection(
                self.suite, keys.client_write_key, keys.client_write_iv, keys.client_write_mac_key, etm
            ),
            "server": Protection(
                self.suite, keys.server_write_key, keys.server_write_iv, keys.server_write_mac_key, etm
            ),
        }

    def body(self, sender: str, kind: HandshakeType) -> bytes:
        """The last message of that type."""
        return next(body for who, said, body in reversed(self.said) if (who, said) == (sender, kind))


@pytest.fixture(params=list(CAPTURES), scope="module")
def handshake(request: pytest.FixtureRequest) -> Listener:
    return Listener(request.param)


def codec(kind: int, ecdhe: bool) -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    name = HandshakeType(kind).name.lower()
    if kind in (HandshakeType.SERVER_KEY_EXCHANGE, HandshakeType.CLIENT_KEY_EXCHANGE):
        name += "_ecdhe" if ecdhe else "_psk"
    return getattr(messages, f"decode_{name}"), getattr(messages, f"encode_{name}")


@pytest.mark.spec("RFC 6347 4.2.2", "RFC 5246 7.4")
def test_every_recorded_message_is_understood_and_made_again(handshake: Listener) -> None:
    assert len(handshake.said) >= 9
    for _, kind, body in handshake.said:
        decode, encode = codec(kind, handshake.suite.exchange == "ecdhe_ecdsa")
        value = decode(body)
        again = encode(value)
        if kind in (HandshakeType.CLIENT_HELLO, HandshakeType.SERVER_HELLO):
            # Extensions have no order; ours is another one.
            assert decode(again) == value
            assert sorted(again) == sorted(body)
        else:
            assert again == body


@pytest.mark.spec("RFC 6347 4.1")
@pytest.mark.parametrize("name", list(CAPTURES))
def test_every_recorded_datagram_is_made_of_its_records(name: str) -> None:
    for _, text in CAPTURES[name]["datagrams"]:
        datagram = bytes.fromhex(text)
        again = [
            encode_record(r.type, r.epoch, r.sequence, r.fragment, version=r.version, cid=r.cid)
            for r in split_records(datagram, 8)
        ]
        assert b"".join(again) == datagram


@pytest.mark.spec("RFC 5246 7.4.9", "RFC 6347 4.2.6")
def test_recorded_finished_messages_verify(handshake: Listener) -> None:
    for sender, label in (("client", prf.CLIENT_FINISHED), ("server", prf.SERVER_FINISHED)):
        before = handshake.transcript_before[sender, HandshakeType.FINISHED]
        expected = prf.verify_data(prf.Prf(handshake.master), label, sha256(before).digest())
        assert messages.decode_finished(handshake.body(sender, HandshakeType.FINISHED)).verify_data == expected


@pytest.mark.spec("RFC 4279 2", "RFC 7627 4")
@pytest.mark.parametrize("name", PSK_CAPTURES)
def test_a_pre_shared_key_and_the_transcript_give_the_recorded_master_secret(name: str) -> None:
    handshake = Listener(name)
    exchange = handshake.body("client", HandshakeType.CLIENT_KEY_EXCHANGE)
    assert messages.decode_client_key_exchange_psk(exchange).identity == b"dev1"
    assert handshake.hello.extensions.extended_master_secret
    # The first handshake message under the new keys is preceded by nothing but the key exchange.
    session = sha256(handshake.transcript_before["client", HandshakeType.FINISHED]).digest()
    assert prf.extended_master_secret(prf.psk_premaster(PSK), session) == handshake.master


@pytest.mark.spec("RFC 6655 3", "RFC 7251 2", "RFC 5246 6.2.3")
def test_recorded_application_data_is_read(handshake: Listener) -> None:
    said = [(sender, data) for sender, kind, data in handshake.data if kind == ContentType.APPLICATION_DATA]
    assert sorted(said) == [("client", b"ping\n"), ("server", b"pong\n")]


@pytest.mark.spec("RFC 6655 3", "RFC 7251 2")
@pytest.mark.parametrize("name", [name for name in CAPTURES if "CCM_8" in name])
def test_recorded_ccm_records_are_made_again_byte_for_byte(name: str) -> None:
    handshake = Listener(name)
    assert len(handshake.sealed) >= 4
    for sender, record, plaintext in handshake.sealed:
        again = handshake.protections[sender].seal(record.type, record.epoch, record.sequence, plaintext)
        assert split_records(again, 0) == [record]


@pytest.mark.spec("RFC 7366 2", "RFC 5246 6.2.3.2")
@pytest.mark.parametrize(("name", "etm"), [(name, "encrypt-then" in name) for name in CAPTURES if "CBC" in name])
def test_recorded_cbc_records_were_of_both_kinds(name: str, etm: bool) -> None:
    handshake = Listener(name)
    assert handshake.hello.extensions.encrypt_then_mac is etm
    assert len(handshake.sealed) >= 4


@pytest.mark.spec("RFC 8422 5.4", "RFC 5246 7.4.8")
def test_recorded_signatures_verify() -> None:
    handshake = Listener("ECDHE_ECDSA CCM_8, client certificate")
    keys = {
        sender: read_certificate(
            messages.decode_certificate(handshake.body(sender, HandshakeType.CERTIFICATE)).chain[0]
        )
        for sender in ("client", "server")
    }
    assert (keys["client"].common_name, keys["server"].common_name) == ("dev1", "server")
    exchange = messages.decode_server_key_exchange_ecdhe(handshake.body("server", HandshakeType.SERVER_KEY_EXCHANGE))
    covered = handshake.client_random + handshake.hello.random + exchange.signed_params
    assert verify(keys["server"].key, exchange.scheme, exchange.signature, covered)
    assert not verify(keys["client"].key, exchange.scheme, exchange.signature, covered)
    proof = messages.decode_certificate_verify(handshake.body("client", HandshakeType.CERTIFICATE_VERIFY))
    covered = handshake.transcript_before["client", HandshakeType.CERTIFICATE_VERIFY]
    assert verify(keys["client"].key, proof.scheme, proof.signature, covered)
    assert not verify(keys["client"].key, proof.scheme, proof.signature, covered + b"\0")


@pytest.mark.spec("RFC 5246 5")
def test_the_pseudorandom_function_gives_the_known_hundred_bytes() -> None:
    secret = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
    seed = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    expected = bytes.fromhex(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17"
        "abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66"
    )
    assert prf.prf(secret, b"test label", seed, 100) == expected
    assert prf.prf(secret, b"test label", seed, 12) == expected[:12]


@pytest.mark.spec("RFC 6979 A.2.5")
def test_signatures_are_deterministic_as_in_rfc_6979() -> None:
    key = derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, SECP256R1())
    expected = encode_dss_signature(
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    )
    assert sign(key, ECDSA_SHA256, b"sample") == expected
