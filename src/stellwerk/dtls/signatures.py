"""ECDSA signatures of handshakes (RFC 5246 §4.7, RFC 8422 §5.10)."""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

ECDSA_SHA256: Final = 0x0403
"""Named ecdsa_secp256r1_sha256 since TLS 1.3. In TLS 1.2 the number says nothing about the curve."""
ECDSA_SHA384: Final = 0x0503
ECDSA_SHA512: Final = 0x0603

SCHEMES: Final = (ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512)
"""What we verify, the preferred first. We sign with the first alone."""

_ALGORITHMS: Final = {
    ECDSA_SHA256: ECDSA(SHA256()),
    ECDSA_SHA384: ECDSA(SHA384()),
    ECDSA_SHA512: ECDSA(SHA512()),
}
# RFC 6979: no nonce to draw, so no nonce to repeat, and every run signs the same.
_SIGNING: Final = ECDSA(SHA256(), deterministic_signing=True)


def sign(key: EllipticCurvePrivateKey, scheme: int, data: bytes) -> bytes:
    """The DER signature over ``data``. Raises ValueError for any ``scheme`` but `ECDSA_SHA256`."""
    if scheme != ECDSA_SHA256:
        raise ValueError(f"no signatures with scheme {scheme:#06x}")
    return key.sign(data, _SIGNING)


def verify(key: EllipticCurvePublicKey, scheme: int, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` is that of the owner of ``key`` over ``data``. False too for a ``scheme`` that is not in
    `SCHEMES`."""
    algorithm = _ALGORITHMS.get(scheme)
    if algorithm is None:
        return False
    try:
        key.verify(signature, data, algorithm)
    except InvalidSignature:
        return False
    return True
