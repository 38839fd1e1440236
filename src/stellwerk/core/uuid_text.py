"""UUIDs out of injected entropy (RFC 9562 §5.4), so that a run replays exactly."""

from stellwerk.core.entropy import Entropy


def random_uuid(entropy: Entropy) -> str:
    """A version 4 UUID in its 36-character form."""
    return uuid_text(entropy.take(16), version=4)


def uuid_text(octets: bytes, *, version: int) -> str:
    """16 octets as a UUID of ``version``, variant bits set."""
    number = int.from_bytes(octets, "big")
    number = number & ~(0xF << 76) | version << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
