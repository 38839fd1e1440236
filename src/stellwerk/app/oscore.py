"""What is kept of an OSCORE security context (RFC 8613 §3; contract §2.6)."""

from dataclasses import dataclass, field

from stellwerk.core.ids import DeviceId


@dataclass(frozen=True, slots=True)
class OscoreContext:
    """``number`` is the store's, 0 before it has one. Names are those of object 21, so from the device's view: it sends
    as ``sender_id``, and so do we find its context. ``aead`` and ``hkdf`` are COSE algorithm numbers. ``ceiling``:
    numbers of ours below it may have been used (RFC 8613 App. B.1.1), 0: none was."""

    number: int
    device_id: DeviceId
    sender_id: bytes
    recipient_id: bytes
    master_secret: bytes = field(repr=False)
    master_salt: bytes = field(default=b"", repr=False)
    id_context: bytes = b""
    aead: int = 10
    hkdf: int = -10
    ceiling: int = 0
    created_ms: int = 0
