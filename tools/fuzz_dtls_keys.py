"""Fuzz targets for what DTLS peers and stores hand over beside handshake messages: certificates, raw public keys,
extensions, stored sessions, tickets and protected records. `fuzz` runs them."""

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

Target = Callable[[bytes], None]

_KEY = ec.derive_private_key(4711, ec.SECP256R1())
_AT = datetime(2026, 6, 1, tzinfo=UTC)


def _certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    names = x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.UniformResourceIdentifier("urn:dev:1")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_KEY.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2046, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(names, critical=False)
        .sign(_KEY, SHA256(), ecdsa_deterministic=True)
        .public_bytes(Encoding.DER)
    )


def _spki() -> bytes:
    return _KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# Written out: whatever is imported before the fuzzer looks at it is not instrumented.
_SECRETS = bytes.fromhex(
    "0101c0a810000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000007000000000000000900066465766963"
    "65"
)
_SESSION = bytes.fromhex(
    "0101c0a810000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000000007000000000000000900066465766963"
    "65000001000100000000000000090000000000000006003640004000080000000000000000000025756470203139322e302e"
    "322e31203430303031203139382e35312e3130302e3120353638340000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000"
)


def _certificates() -> Target:
    from stellwerk.dtls.certificates import CertificateRefused, read_certificate, verify_chain
    from stellwerk.dtls.failures import REASONS

    good = _certificate()
    anchors = [x509.load_der_x509_certificate(good)]

    def check(refused: CertificateRefused) -> None:
        assert refused.reason in REASONS
        assert len(str(refused)) < 500, str(refused)

    def take(data: bytes) -> None:
        for chain in ([data], [data, good], [good, data]):
            try:
                read_certificate(chain[0])
                verify_chain(chain, anchors, at=_AT, check_validity=True)
            except CertificateRefused as refused:
                check(refused)
            else:
                # Nothing but the anchor itself is trusted: no key has signed anything else.
                assert chain[0] == good

    return take


def _raw_keys() -> Target:
    from stellwerk.dtls.certificates import CertificateRefused, read_raw_key

    def take(data: bytes) -> None:
        try:
            key = read_raw_key(data)
        except CertificateRefused:
            return
        assert key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == data

    return take


def _extensions() -> Target:
    from stellwerk.core.cursor import Truncated
    from stellwerk.dtls.extensions import decode_extensions, encode_extensions
    from stellwerk.dtls.vectors import VectorError

    def take(data: bytes) -> None:
        for server in (False, True):
            try:
                value = decode_extensions(data, server=server, cid_code_points=(54, 53))
            except (VectorError, Truncated):
                continue
            again = encode_extensions(value, server=server)
            assert decode_extensions(again, server=server, cid_code_points=(54, 53)) == value

    return take


def _sessions() -> Target:
    from stellwerk.dtls.session import (
        SessionFormatError,
        decode_secrets,
        decode_session,
        encode_secrets,
        encode_session,
    )

    def take(data: bytes) -> None:
        try:
            state = decode_session(data)
        except SessionFormatError:
            pass
        else:
            assert decode_session(encode_session(state)) == state
        try:
            secrets = decode_secrets(data)
        except SessionFormatError:
            return
        assert encode_secrets(secrets) == data

    return take


def _protected() -> Target:
    from stellwerk.dtls.protection import Protection, ProtectionError
    from stellwerk.dtls.records import RecordFormatError, split_records
    from stellwerk.dtls.suites import SUITES
    from stellwerk.dtls.tickets import TicketKey, Tickets

    class NoEntropy:
        def take(self, count: int) -> bytes:
            return bytes(count)

    tickets = Tickets([TicketKey(b"n" * 16, b"k" * 16)], NoEntropy())
    openers = [
        Protection(suite, b"k" * 16, b"salt"[: suite.fixed_iv_length], b"m" * suite.mac_key_length, etm)
        for suite in SUITES.values()
        for etm in ((False, True) if suite.cipher == "cbc" else (False,))
    ]

    def take(data: bytes) -> None:
        assert tickets.open(data) is None
        assert tickets.open(b"n" * 16 + data) is None
        try:
            records = split_records(data, 8)
        except RecordFormatError as error:
            records = error.whole
        for record in records:
            for opener in openers:
                try:
                    opener.open(record)
                except ProtectionError:
                    continue
                raise AssertionError("a record that nobody sealed")

    return take


TARGETS: dict[str, tuple[Callable[[], Target], tuple[bytes, ...]]] = {
    "dtls-certificates": (_certificates, (_certificate(),)),
    "dtls-raw-keys": (_raw_keys, (_spki(),)),
    "dtls-extensions": (_extensions, (bytes.fromhex("00170000 0036000403010203 000a00040002 0017 ff01000100"),)),
    "dtls-sessions": (_sessions, (_SECRETS, _SESSION)),
    "dtls-protected": (_protected, (bytes.fromhex("17fefd0001000000000005001e") + bytes(30),)),
}
"""By name: what makes the target, and good inputs to begin with."""
