"""The targets of `fuzz` that read what comes to the secure port; they begin with flights of an honest peer."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptography.hazmat.primitives.asymmetric import ec
from tests import dtls_hand as hand
from tests.dtls_hand import Hand

Target = Callable[[bytes], None]

_KEY = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())


def _check_text(error: Exception) -> None:
    """Errors end in log lines and messages: what a peer sent does not make them long."""
    assert len(str(error)) < 300, str(error)


def _records() -> Target:
    from stellwerk.dtls.records import RecordFormatError, encode_record, split_records

    def take(data: bytes) -> None:
        cid_length = data[0] & 15 if data else 0
        try:
            found = split_records(data[1:], cid_length)
        except RecordFormatError as error:
            _check_text(error)
            found = error.whole
        again = b"".join(
            encode_record(each.type, each.epoch, each.sequence, each.fragment, version=each.version, cid=each.cid)
            for each in found
        )
        assert data[1:].startswith(again)

    return take


def _messages() -> Target:
    from stellwerk.dtls import messages
    from stellwerk.dtls.messages import HandshakeFormatError

    names = [
        "client_hello",
        "server_hello",
        "hello_verify_request",
        "certificate",
        "raw_key",
        "certificate_request",
        "server_key_exchange_ecdhe",
        "server_key_exchange_psk",
        "client_key_exchange_ecdhe",
        "client_key_exchange_psk",
        "certificate_verify",
        "new_session_ticket",
        "finished",
        "server_hello_done",
    ]
    codecs: list[tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = [
        (getattr(messages, f"decode_{name}"), getattr(messages, f"encode_{name}")) for name in names
    ]

    def take(data: bytes) -> None:
        decode, encode = codecs[data[0] % len(codecs)] if data else codecs[0]
        try:
            found = decode(data[1:])
        except HandshakeFormatError as error:
            _check_text(error)
            return
        # What is understood survives the way back; the order of extensions does not.
        assert decode(encode(found)) == found

    return take


def _fragments() -> Target:
    from stellwerk.dtls.messages import HandshakeFormatError, decode_fragments, encode_fragment

    def take(data: bytes) -> None:
        try:
            found = decode_fragments(data)
        except HandshakeFormatError:
            return
        assert b"".join(map(encode_fragment, found)) == data

    return take


def _alerts() -> Target:
    from stellwerk.dtls.alerts import AlertFormatError, decode_alert, encode_alert

    def take(data: bytes) -> None:
        try:
            found = decode_alert(data)
        except AlertFormatError:
            return
        assert len(str(found)) < 100
        assert encode_alert(found.level, found.description) == data

    return take


# -- what they begin with --


def _bodies() -> tuple[bytes, ...]:
    """One of each handshake message, behind the number of its codec."""
    psk = Hand(suite=hand.PSK_CCM8, own_cid=b"\1\2\3\4", ticket=b"")
    rpk = Hand(key=_KEY, suites=(hand.ECDHE_CCM8,), suite=hand.ECDHE_CCM8, peer_random=bytes(32))
    rpk.peer_point = rpk.point()
    hello = psk.client_hello(b"cookie", extra={hand.CID: b"\4abcd", 0: b"\0\7\0\0\4host", 1: b"\1", 28: b"\4\0"})
    bodies = [
        hello,
        psk.server_hello(hand.PSK_CCM8, bytes(32), {23: b"", hand.CID: b"\4abcd", 0xFF01: b"\0"}),
        b"\xfe\xff\4abcd",
        rpk.certificate((b"first", b"second")),
        rpk.certificate(),
        b"\1\x40\0\2\4\3\0\0",
        rpk.server_key_exchange(),
        b"\0\4hint",
        rpk.client_key_exchange(),
        psk.client_key_exchange(),
        rpk.certificate_verify(),
        b"\0\0\x0e\x10\0\4abcd",
        bytes(12),
        b"",
    ]
    return tuple(bytes([number]) + body for number, body in enumerate([*bodies, rpk.client_hello(b"")]))


def _flights() -> tuple[bytes, ...]:
    mine = Hand()
    hello = mine.first_hello()
    return b"\0" + hello, b"\4" + hello + mine.change(), b"\4\x19\xfe\xfd" + bytes(8) + b"abcd\0\2xx"


TARGETS: dict[str, tuple[Callable[[], Target], tuple[bytes, ...]]] = {
    "dtls-records": (_records, _flights()),
    "dtls-messages": (_messages, _bodies()),
    "dtls-fragments": (_fragments, (hand.fragment(1, 9, 0, 2, b"abc"), hand.fragment(20, 12, 3, 0, bytes(12)) * 2)),
    "dtls-alerts": (_alerts, (b"\2\x28", b"\1\0")),
}
