"""Resource IDs of what hangs on a device: 22 hex digits that mean the device, and two for the part (contract Device to
Cloud §1: a resource may be addressed by its ID alone)."""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

_PARTS: Final[tuple[str, ...]] = (
    "",
    "device-info",
    "credentials",
    "communication",
    "communication/outgoing-msg",
    "communication/sent-msg",
    "communication/received-msg",
    "firmware",
    "battery",
    "memory",
    "reboot",
    "device-update-subscription",
    "protocol-adapter-subscription",
)
"""The code of a part is its place; never reorder. The empty one is the node itself."""

_CODES: Final = {part: f"{code:02x}" for code, part in enumerate(_PARTS)}
_KEY_DIGITS: Final = 22


@lru_cache(maxsize=4096)
def device_key(tenant: str, name: str, created_ms: int) -> str:
    """22 hex digits, the same on every installation and after every restart. A device made anew under an old name is
    another resource, hence the creation time."""
    return blake2b("\0".join((tenant, name, str(created_ms))).encode(), digest_size=_KEY_DIGITS // 2).hexdigest()


def device_resource_id(tenant: str, name: str, created_ms: int, part: str = "") -> str:
    """The 24 hex digits of the node, or of ``part`` of it. Raises KeyError for a part that is none."""
    return device_key(tenant, name, created_ms) + _CODES[part]


def split_resource_id(resource_id: str) -> tuple[str, str] | None:
    """Device key and part of what may be such an ID, or None."""
    key, code = resource_id[:_KEY_DIGITS], resource_id[_KEY_DIGITS:]
    if len(resource_id) != _KEY_DIGITS + 2 or not set(code) <= set("0123456789abcdef"):
        return None
    place = int(code, 16)
    return (key, _PARTS[place]) if place < len(_PARTS) else None
