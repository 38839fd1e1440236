"""Keys and certificates that the platform makes: its own authority, what a server shows, and what devices bring in
tests and demos. All keys are of secp256r1 (P-256), all signatures ECDSA with SHA-256: what every LwM2M client has (RFC
7925)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stellwerk.core.errors import UserError

AUTHORITY_DAYS: Final = 20 * 365
SERVER_DAYS: Final = 10 * 365
"""Long, since devices in the field know this very certificate, and many have no clock."""
CLIENT_DAYS: Final = 10 * 365
_BEFORE: Final = timedelta(days=1)
"""Clocks of devices may be behind."""
_LONGEST_NAME: Final = 64
_DNS: Final = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]{0,251}[0-9A-Za-z])?")
_URN: Final = re.compile(r"urn:[!-~]+")


class NotIssued(UserError):
    """There can be no such certificate; the text says why."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A key with its chain of certificates, its own first; empty: a raw public key only."""

    key: EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()


def new_key() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


def make_authority(name: str, now: datetime | None = None) -> Issued:
    """A certificate authority with a key of its own."""
    key = new_key()
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), AUTHORITY_DAYS, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Issued(key, (builder.sign(key, SHA256()),))


class Issuer:
    """Signs with the platform's authority."""

    def __init__(self, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    def server(
        self, key: EllipticCurvePrivateKey, common_name: str, names: Sequence[str], now: datetime | None = None
    ) -> Issued:
        """What a server shows; ``names``: host names and addresses. Raises `NotIssued`."""
        signed = self._sign(key.public_key(), common_name, names, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_DAYS, now)
        return Issued(key, (signed, self.certificate))

    def client(
        self, key: EllipticCurvePrivateKey, endpoint: str, days: int = CLIENT_DAYS, now: datetime | None = None
    ) -> Issued:
        """What the device with this endpoint name shows: its common name, or where that is too long for one, its
        alternative name. Raises `NotIssued`."""
        return Issued(key, (self.enrolled(key.public_key(), endpoint, days, now), self.certificate))

    def enrolled(
        self, key: EllipticCurvePublicKey, endpoint: str, days: int = CLIENT_DAYS, now: datetime | None = None
    ) -> x509.Certificate:
        """The same of a key that the device keeps to itself. Raises `NotIssued`."""
        return self._sign(key, endpoint, (endpoint,), ExtendedKeyUsageOID.CLIENT_AUTH, days, now)

    def _sign(
        self,
        key: EllipticCurvePublicKey,
        common_name: str,
        names: Sequence[str],
        usage: x509.ObjectIdentifier,
        days: int,
        now: datetime | None,
    ) -> x509.Certificate:
        alternatives = [name for each in dict.fromkeys(names) if (name := _alternative(each)) is not None]
        fits = 1 <= len(common_name) <= _LONGEST_NAME
        if not common_name.isprintable() or not (fits or (common_name and alternatives)):
            raise NotIssued(
                f"{common_name[:80]!r} cannot be the name in a certificate: it takes 1 to {_LONGEST_NAME} printable "
                "characters (a longer one has to be a urn: or a host name)"
            )
        subject = _name(common_name if fits else "")
        builder = _builder(subject, self.certificate.subject, key, days, now)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=not fits)
        return builder.sign(self._key, SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey, days: int, now: datetime | None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC) if now is None else now
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName | None:
    try:
        return x509.IPAddress(ip_address(name.split("%")[0]))
    except ValueError:
        pass
    if _URN.fullmatch(name):
        return x509.UniformResourceIdentifier(name)
    return x509.DNSName(name) if _DNS.fullmatch(name) else None
