"""The ephemeral key exchange on secp256r1 (RFC 8422 §5.4, 5.7, 5.10)."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePublicKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import PeerError
from stellwerk.dtls import extensions

POINT_BYTES: Final = 65

# 0x04 says uncompressed, the one format left (RFC 8422 5.1.2).
_UNCOMPRESSED: Final = 4
_CURVE: Final = SECP256R1()
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# 64 bits more than the order has, so that no scalar is noticeably likelier than others (FIPS 186-5, A.2.1).
_ENTROPY_BYTES: Final = 40


class KeyExchangeError(PeerError):
    """The peer's public point is not uncompressed, of another length, or not on the curve. ``rule`` says which."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class Ephemeral:
    """A key pair for one handshake."""

    __slots__ = ("_key", "point")

    group: Final = extensions.SECP256R1

    def __init__(self, entropy: Entropy) -> None:
        scalar = int.from_bytes(entropy.take(_ENTROPY_BYTES), "big") % (_ORDER - 1) + 1
        self._key = derive_private_key(scalar, _CURVE)
        self.point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        """Our public point, 65 bytes."""

    def shared(self, peer_point: bytes) -> bytes:
        """The premaster secret: the x-coordinate, 32 bytes. Raises `KeyExchangeError`."""
        if len(peer_point) != POINT_BYTES or peer_point[0] != _UNCOMPRESSED:
            raise KeyExchangeError("a public point that is not 65 bytes, uncompressed")
        try:
            peer = EllipticCurvePublicKey.from_encoded_point(_CURVE, peer_point)
        except ValueError:
            raise KeyExchangeError("a public point that is not on secp256r1") from None
        return self._key.exchange(ECDH(), peer)
