"""Whom a simulated device takes for its server."""

from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.core.identity import CertificateIdentity, RawKeyIdentity, fingerprint
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.certificates import CertificateRefused, verify_chain
from stellwerk.sim.security import Security

Refusal: TypeAlias = tuple[str, str, int]
"""A reason of `dtls.failures.REASONS`, a sentence, and the alert that the server gets."""


_ALERTS: Final = {
    "expired-certificate": AlertDescription.CERTIFICATE_EXPIRED,
    "untrusted-certificate": AlertDescription.UNKNOWN_CA,
}


def judge_server(security: Security, identity: RawKeyIdentity | CertificateIdentity, at: datetime) -> Refusal | None:
    """Whether who has proven to be ``identity`` is the server: None, or why not."""
    if security.server_key:
        spki = identity.spki if isinstance(identity, RawKeyIdentity) else _spki_of(identity)
        if spki != security.server_key:
            wanted, found = fingerprint(security.server_key), fingerprint(spki)
            return (
                "unknown-identity",
                f"the server's key is {found}, the one that was named is {wanted}",
                AlertDescription.BAD_CERTIFICATE,
            )
    if security.anchors and isinstance(identity, CertificateIdentity):
        try:
            verify_chain(identity.chain, security.anchors, at=at, check_validity=True, role="server")
        except CertificateRefused as refused:
            alert = _ALERTS.get(refused.reason, AlertDescription.BAD_CERTIFICATE)
            return refused.reason, refused.detail, alert
    return None


def _spki_of(identity: CertificateIdentity) -> bytes:
    """Empty where the certificate cannot be read."""
    try:
        key = x509.load_der_x509_certificate(identity.chain[0]).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
