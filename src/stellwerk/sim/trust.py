"""Whom a simulated device takes for its server."""

from datetime import datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.core.identity import CertificateIdentity, RawKeyIdentity, fingerprint
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.sim.security import Security

Refusal: TypeAlias = tuple[str, str, int]
"""A reason of `dtls.failures.REASONS`, a sentence, and the alert that the server gets."""


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
        return _judge_chain(security, identity, at)
    return None


def _spki_of(identity: CertificateIdentity) -> bytes:
    """Empty where the certificate cannot be read."""
    try:
        key = x509.load_der_x509_certificate(identity.chain[0]).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
