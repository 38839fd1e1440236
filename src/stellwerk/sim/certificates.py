"""Certificates of simulated devices, issued by a certificate authority whose key the simulator has."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stellwerk.core.errors import UserError

LONGEST_NAME: Final = 64
"""Characters of a common name (RFC 5280, ub-common-name)."""
_GOOD_FOR: Final = timedelta(days=365)
_BEFORE: Final = timedelta(days=2)
"""So long ago it began to be good: clocks differ."""
_EXPIRED_SINCE: Final = timedelta(days=1)


class NameTooLong(UserError):
    """``name`` does not fit into a certificate."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"no certificate can bear the name {name[:80]!r}: it has {len(name)} characters, "
            f"a common name has 1 to {LONGEST_NAME}"
        )


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate authority: its certificate (DER) and the key that signs for it."""

    certificate: bytes
    key: EllipticCurvePrivateKey = field(repr=False)

    def issue(self, name: str, key: EllipticCurvePrivateKey, *, expired: bool = False, server: bool = False) -> bytes:
        """A certificate (DER) for a client, or for a ``server``, with ``name`` as common name; ``expired`` since
        yesterday. Raises `NameTooLong`."""
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        own = x509.load_der_x509_certificate(self.certificate)
        builder = (
            _builder(name, own.subject, key, expired=expired)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(_key_id_of(own), critical=False)
        )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


def make_issuer(name: str) -> Issuer:
    """A certificate authority of its own, with a new key. Raises `NameTooLong`."""
    key = generate_private_key(SECP256R1())
    builder = (
        _builder(name, _name(name), key, expired=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Issuer(builder.sign(key, SHA256()).public_bytes(Encoding.DER), key)


def self_signed(name: str, key: EllipticCurvePrivateKey) -> bytes:
    """A certificate (DER) that nobody vouches for. Raises `NameTooLong`."""
    return _builder(name, _name(name), key, expired=False).sign(key, SHA256()).public_bytes(Encoding.DER)


def _builder(name: str, issuer: x509.Name, key: EllipticCurvePrivateKey, *, expired: bool) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now - _EXPIRED_SINCE if expired else now + _GOOD_FOR)
    )


def _name(name: str) -> x509.Name:
    if not 1 <= len(name) <= LONGEST_NAME:
        raise NameTooLong(name)
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_id_of(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
