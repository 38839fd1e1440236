"""What is kept of an OSCORE security context (RFC 8613 §3; contract §2.6)."""

import json
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

from stellwerk.core.ids import DeviceId

AES_CCM_16_64_128: Final = 10
HKDF_SHA_256: Final = -10
AEAD_NONCES: Final = {
    **dict.fromkeys((10, 11, 30, 31), 13),
    **dict.fromkeys((12, 13, 32, 33), 7),
    **dict.fromkeys((1, 2, 3, 24), 12),
}
"""AEAD algorithms by their COSE numbers, with the bytes of a nonce: AES-CCM, AES-GCM, ChaCha20/Poly1305."""
HKDFS: Final = {HKDF_SHA_256: HKDF_SHA_256, -11: -11, 5: HKDF_SHA_256, 7: -11}
"""HKDF with SHA-256 and SHA-512 by their COSE numbers; object 21 names them by their HMAC (5, 7) too."""
UNKNOWN: Final = -1
"""As a ceiling: nobody knows which of our numbers were used (a backup was put back). Nothing may be protected with such
a context; the two ends have to agree on another first (RFC 8613 App. B.2), or the device is given other keys."""


@dataclass(frozen=True, slots=True)
class OscoreContext:
    """``number`` is the store's, 0 before it has one. Names are those of object 21, so from the device's view: it sends
    as ``sender_id``, and so do we find its context. ``aead`` and ``hkdf`` are COSE algorithm numbers. ``ceiling``:
    numbers of ours below it may have been used (RFC 8613 App. B.1.1), 0: none was, `UNKNOWN`. ``is_fresh``: it goes
    with the device's fresh credential (`SecurityStore.fresh_credential`). ``is_bootstrap``: it is good at the
    bootstrap server and nowhere else."""

    number: int
    device_id: DeviceId
    sender_id: bytes
    recipient_id: bytes
    master_secret: bytes = field(repr=False)
    master_salt: bytes = field(default=b"", repr=False)
    id_context: bytes = b""
    aead: int = AES_CCM_16_64_128
    hkdf: int = HKDF_SHA_256
    ceiling: int = 0
    created_ms: int = 0
    is_fresh: bool = False
    is_bootstrap: bool = False

    def fingerprint(self, key: bytes) -> bytes:
        """16 bytes that stand for all that the key is made of with which we protect; ``key`` is an installation's own.
        What the device sends as has no part in it (RFC 8613 §3.2.1): with another one our numbers go on."""
        parts = (self.recipient_id, self.master_secret, self.master_salt, self.id_context)
        text = json.dumps([each.hex() for each in parts] + [self.aead, self.hkdf])
        return blake2b(text.encode(), key=key, digest_size=16).digest()


def render_oscore(context: OscoreContext) -> str:
    """Canonical JSON of what the keys are made of, as in `Credential.oscore`: bytes in hex, defaults left out."""
    members: dict[str, Any] = {
        "masterSecret": context.master_secret.hex(),
        "senderId": context.sender_id.hex(),
        "recipientId": context.recipient_id.hex(),
    }
    if context.master_salt:
        members["masterSalt"] = context.master_salt.hex()
    if context.id_context:
        members["idContext"] = context.id_context.hex()
    if context.aead != AES_CCM_16_64_128:
        members["aead"] = context.aead
    if context.hkdf != HKDF_SHA_256:
        members["hkdf"] = context.hkdf
    return json.dumps(members)


def read_oscore(text: str, device_id: DeviceId, created_ms: int = 0) -> OscoreContext:
    """The inverse of `render_oscore`: a context that nothing was protected with. Raises ValueError or KeyError for what
    that did not write; people's texts are checked by `app.credential_record`."""
    members = json.loads(text)
    read = OscoreContext(
        0,
        device_id,
        bytes.fromhex(members["senderId"]),
        bytes.fromhex(members["recipientId"]),
        bytes.fromhex(members["masterSecret"]),
        bytes.fromhex(members.get("masterSalt", "")),
        bytes.fromhex(members.get("idContext", "")),
        created_ms=created_ms,
    )
    return replace(read, aead=members.get("aead", read.aead), hkdf=members.get("hkdf", read.hkdf))


SAME_KEY: Final = "OSCORE recipient ID with this master secret, salt and ID context"
"""What no two contexts have: we would protect with one key, and each counts its numbers for itself (RFC 8613 §3.3)."""


def later(one: int, other: int) -> int:
    """Of two ceilings the one that holds for both."""
    return UNKNOWN if UNKNOWN in (one, other) else max(one, other)


@dataclass(frozen=True, slots=True)
class ContextName:
    """What a message names its context by; nothing of it is proven."""

    kid: bytes
    kid_context: bytes | None = None

    def __str__(self) -> str:
        text = f"OSCORE sender ID {self.kid.hex() or '(empty)'}"
        return f"{text} in ID context {self.kid_context.hex()}" if self.kid_context else text
