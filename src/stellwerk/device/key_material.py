"""Public keys, certificates and private keys as people hand them in: DER, base64 of DER, or PEM. All are elliptic
curve keys of secp256r1, the one curve every LwM2M client has (contract LwM2M §2.2). Texts of errors say which rule was
broken, never what a key was."""

import base64
import binascii
import re
from hashlib import sha3_256, sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from stellwerk.core.errors import UserError

LONGEST: Final = 16_384
"""Characters of one key or certificate as it is handed in."""

LEAST_KEY: Final = 16
"""Bytes of a pre-shared key or an OSCORE Master Secret (contract B-10)."""
LONGEST_KEY: Final = 64

_KEY_STEP: Final = 16
_LEAST_BITS: Final = 255
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.DOTALL)
_PUBLIC: Final = frozenset({"PUBLIC KEY"})
_CERTIFICATE: Final = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
_PRIVATE: Final = frozenset({"PRIVATE KEY", "EC PRIVATE KEY"})
_IGNORED: Final = frozenset({"EC PARAMETERS"})
"""OpenSSL writes these before a key."""


class BadMaterial(UserError):
    """A key or certificate that cannot be used; the text is the rule it breaks, to stand behind the name of a field."""


def digits_fault(digits: int, least: int = LEAST_KEY, most: int = LONGEST_KEY) -> str | None:
    """Why so many hex digits are not ``least`` to ``most`` bytes; those of an OSCORE Master Secret unless said."""
    if 2 * least <= digits <= 2 * most:
        return None
    return f"it has {2 * least} to {2 * most} hex digits, this one has {digits}"


def pre_shared_fault(digits: int) -> str | None:
    """Why a credential takes no pre-shared key of so many hex digits."""
    sizes = range(2 * LEAST_KEY, 2 * LONGEST_KEY + 1, 2 * _KEY_STEP)
    if digits in sizes:
        return None
    *some, last = map(str, sizes)
    return f"a key has {', '.join(some)} or {last} hex digits, this one has {digits}"


def read_public_key(material: str | bytes) -> bytes:
    """The DER SubjectPublicKeyInfo, the point uncompressed. Raises `BadMaterial`."""
    what = "a SubjectPublicKeyInfo (base64 of DER, or PEM)"
    der = _one(material, _PUBLIC, what)
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable(what, error) from None
    return spki_of(_checked(key))


def read_certificate(material: str | bytes) -> x509.Certificate:
    """An X.509 v3 certificate of an elliptic curve key. Raises `BadMaterial`."""
    return _certificate(_one(material, _CERTIFICATE, _A_CERTIFICATE))


def read_certificates(material: str | bytes) -> list[x509.Certificate]:
    """All of a PEM text, in order, or the one of a DER. Raises `BadMaterial`."""
    return [_certificate(each) for each in _all(material, _CERTIFICATE, _A_CERTIFICATE)]


def read_private_key(material: str | bytes) -> EllipticCurvePrivateKey:
    """A PKCS#8 key (a SEC 1 one is taken too) without a password. Raises `BadMaterial`."""
    what = "a PKCS#8 private key (base64 of DER, or PEM)"
    der = _one(material, _PRIVATE, what)
    try:
        key = load_der_private_key(der, None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable(what, error) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise BadMaterial("this is no elliptic curve key; it has to be one of secp256r1 (P-256)")
    _checked(key.public_key())
    return key


def spki_of(key: EllipticCurvePublicKey) -> bytes:
    """The DER SubjectPublicKeyInfo, the point uncompressed."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pkcs8_of(key: EllipticCurvePrivateKey) -> bytes:
    """DER, unencrypted."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def key_of(certificate: x509.Certificate) -> bytes:
    """The DER SubjectPublicKeyInfo of its key. Raises `BadMaterial`."""
    return spki_of(_public_of(certificate))


def to_base64(der: bytes) -> str:
    return base64.b64encode(der).decode()


def raw_key_id(spki: bytes) -> str:
    """By which a raw public key is found: ``rpk:`` and the SHA-256 of its DER, 64 lower-case hex digits."""
    return f"rpk:{sha256(spki).hexdigest()}"


def certificate_key_id(der: bytes) -> str:
    """By which a pinned certificate is found: ``x509:`` and the SHA-256 of its DER, 64 lower-case hex digits."""
    return f"x509:{sha256(der).hexdigest()}"


def certificate_credentials_id(der: bytes) -> str:
    """The credentialsId of a pinned certificate: SHA3-256 (FIPS 202) of its DER, 64 lower-case hex digits."""
    return sha3_256(der).hexdigest()


_A_CERTIFICATE: Final = "an X.509 certificate (base64 of DER, or PEM)"


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        if certificate.version is not x509.Version.v3:
            raise BadMaterial(f"the certificate is of version {certificate.version.value + 1}; 3 is wanted")
        # What is lazily decoded: later nothing of it may fail.
        _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.not_valid_after_utc)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise _unreadable(_A_CERTIFICATE, error) from None
    _public_of(certificate)
    return certificate


def _public_of(certificate: x509.Certificate) -> EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable("a certificate of an elliptic curve key", error) from None
    return _checked(key)


def _checked(key: object) -> EllipticCurvePublicKey:
    if not isinstance(key, EllipticCurvePublicKey):
        raise BadMaterial("this is no elliptic curve key; it has to be one of secp256r1 (P-256)")
    if key.curve.key_size < _LEAST_BITS:
        raise BadMaterial(
            f"the curve {key.curve.name} has {key.curve.key_size} bits, {_LEAST_BITS} are the least; "
            "use secp256r1 (P-256)"
        )
    if not isinstance(key.curve, SECP256R1):
        raise BadMaterial(f"the curve {key.curve.name} is not spoken here; use secp256r1 (P-256)")
    return key


def _one(material: str | bytes, labels: frozenset[str], what: str) -> bytes:
    if len(material) > LONGEST:
        raise BadMaterial(f"it has {len(material)} characters, {LONGEST} are the most; it has to be {what}")
    found = _all(material, labels, what)
    if len(found) > 1:
        raise BadMaterial(f"{len(found)} are given; this is to be {what} alone")
    return found[0]


def _all(material: str | bytes, labels: frozenset[str], what: str) -> list[bytes]:
    """The DER of each, at least one. Raises `BadMaterial`."""
    if isinstance(material, bytes):
        if material[:1] == b"\x30":
            return [material]  # a DER SEQUENCE; base64 of one begins with M
        try:
            material = material.decode("ascii")
        except UnicodeDecodeError:
            raise BadMaterial(f"this is not {what}") from None
    text = material.strip()
    if not text:
        raise BadMaterial(f"it is empty; it has to be {what}")
    if "-----BEGIN" not in text:
        return [_from_base64(text, what)]
    blocks = [(label, body) for label, body in _PEM.findall(text) if label not in _IGNORED]
    if not blocks:
        raise BadMaterial(f"the PEM text has no end; it has to be {what}")
    for label, body in blocks:
        if "ENCRYPTED" in label or "ENCRYPTED" in body:
            raise BadMaterial("the key is encrypted; hand it in without a password")
        if label not in labels:
            shown = label if label in _PUBLIC | _CERTIFICATE | _PRIVATE else "other"
            raise BadMaterial(f"the PEM text holds a block {shown!r}; it has to be {what}")
    return [_from_base64(body, what) for _, body in blocks]


def _from_base64(text: str, what: str) -> bytes:
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadMaterial(f"this is no base64; it has to be {what}") from None
    if not der:
        raise BadMaterial(f"it is empty; it has to be {what}")
    return der


def _unreadable(what: str, error: Exception) -> BadMaterial:
    if isinstance(error, TypeError):
        return BadMaterial("the key is encrypted; hand it in without a password")
    if isinstance(error, UnsupportedAlgorithm):
        return BadMaterial("the curve or algorithm is not known here; use secp256r1 (P-256)")
    return BadMaterial(f"this cannot be read as {what}")
