"""What an OSCORE security context is derived from (RFC 8613 §3.2), as the outside gives it."""

from dataclasses import dataclass, field

AES_CCM_16_64_128 = 10
HKDF_SHA_256 = -10


@dataclass(frozen=True, slots=True)
class ContextMaterial:
    """``number`` is the caller's name for the context, and what its `core.ids.context_peer` is made of.

    ``sender_id`` and ``recipient_id`` are ours: what we send as and what the other end sends as. ``aead`` and ``hkdf``
    are COSE algorithm numbers; for ``hkdf`` the one of the HMAC (5, 7) means the same. An empty ``id_context`` is none.

    Our sender numbers from ``unused`` on have protected nothing yet; those below ``ceiling`` are stored as used, so up
    to there they may be used at once (App. B.1.1). Who stores a higher ceiling before it gives the context spares the
    first message a round trip.
    """

    number: int
    sender_id: bytes
    recipient_id: bytes
    master_secret: bytes = field(repr=False)
    master_salt: bytes = field(default=b"", repr=False)
    id_context: bytes = b""
    aead: int = AES_CCM_16_64_128
    hkdf: int = HKDF_SHA_256
    unused: int = 0
    ceiling: int = 0
