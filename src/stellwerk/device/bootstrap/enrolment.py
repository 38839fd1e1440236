"""What a device asks for and gets when it enrols (RFC 9148, EST over secure CoAP; contract §2.5): certificate signing
requests that are good, and certificates in the two formats of an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from cryptography.x509.oid import NameOID

from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.status import Status

CERTS_ONLY: Final = 281
"""application/pkcs7-mime;smime-type=certs-only."""
PKCS10: Final = 286
"""application/pkcs10: a certificate signing request, DER."""
PKIX_CERT: Final = 287
"""application/pkix-cert: one certificate, DER."""
LONGEST_REQUEST: Final = 2_048
"""Bytes of a signing request; one with a P-256 key and a long name has some 500."""
LONGEST_COMMON_NAME: Final = 64
_MOST_SHOWN: Final = 80

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for what it cannot read."""

T = TypeVar("T")


class BadRequest(PeerError):
    """A signing request that no certificate is issued for; deserves ``status``."""

    def __init__(self, reason: str, status: Status, detail: str) -> None:
        self.reason, self.status = reason, status
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """``key`` is to be certified for the device with the endpoint name ``name``."""

    key: EllipticCurvePublicKey
    name: str


def read_request(der: bytes) -> SigningRequest:
    """What a signing request (PKCS#10, DER) asks for: a key of P-256, which the request is signed with. Its common name
    names the device, or where that is too long, an alternative name. Other wishes in it are overlooked: the certificate
    says what every device's does. Raises `BadRequest`."""
    if len(der) > LONGEST_REQUEST:
        raise BadRequest(
            "csr-too-long",
            Status.REQUEST_ENTITY_TOO_LARGE,
            f"the signing request has {len(der)} bytes, {LONGEST_REQUEST} are the most",
        )
    request = _attempt(lambda: x509.load_der_x509_csr(der), "this is no certificate signing request (PKCS#10, DER)")
    key = _attempt(request.public_key, "the key of the signing request cannot be read")
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise _bad("the key of the signing request is not of the curve secp256r1 (P-256)")
    if not _attempt(lambda: request.is_signature_valid, "the signature of the signing request cannot be checked"):
        raise _bad("the signature of the signing request is not of its key")
    named = _attempt(lambda: _names(request), "the names in the signing request cannot be read")
    if len(named) != 1:
        raise wrong_name(*named)
    return SigningRequest(key, named[0])


def wrong_name(*named: str) -> BadRequest:
    """The signing request names ``named``, and not the device."""
    shown = ", ".join(repr(each[:_MOST_SHOWN]) for each in named[:2]) or "nobody"
    return BadRequest(
        "csr-name",
        Status.FORBIDDEN,
        f"the signing request names {shown}; its common name has to be the endpoint name of the device",
    )


def in_format(certificate: bytes, content_format: int) -> bytes:
    """One certificate (DER) as `CERTS_ONLY` or `PKIX_CERT`."""
    if content_format == PKIX_CERT:
        return certificate
    return serialize_certificates([x509.load_der_x509_certificate(certificate)], Encoding.DER)


def _names(request: x509.CertificateSigningRequest) -> list[str]:
    """Common names; where there is none, the alternative name that a long endpoint name stands in."""
    found = [str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if found:
        return found
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    also = [*names.get_values_for_type(x509.UniformResourceIdentifier), *names.get_values_for_type(x509.DNSName)]
    return [each for each in also if len(each) > LONGEST_COMMON_NAME]


def _attempt(read: Callable[[], T], otherwise: str) -> T:
    try:
        return read()
    except _UNREADABLE as error:
        raise _bad(otherwise) from error


def _bad(detail: str) -> BadRequest:
    return BadRequest("csr", Status.BAD_REQUEST, detail)
