"""Resource IDs of what has no row of its own, and times as oneM2M writes them."""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from stellwerk.device.record import DeviceRecord

_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999; what devices claim may lie beyond."""


@lru_cache(maxsize=65536)
def derived_id(*parts: str) -> str:
    """24 hex digits out of ``parts``: the same on every installation and after every restart."""
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def infrastructure_id(tenant: str, path: str) -> str:
    """The ID of a resource that comes with the tenant, ``device-provisioning/request``."""
    return derived_id(tenant, path)


def device_id(device: DeviceRecord, part: str = "") -> str:
    """The ID of a node, or with ``part`` of what belongs to it: ``device-info``, ``communication``,
    ``communication/sent-msg``. A device made anew under an old name is another resource, hence the creation time."""
    return derived_id(device.tenant, device.name, str(device.created_ms), part)


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%S")


def timestamp(utc_ms: int) -> str:
    """``YYYYMMDDThhmmss,ffffff`` in UTC (TS-0004; §4.1), from milliseconds since 1970."""
    second, millisecond = divmod(min(max(utc_ms, 0), _LAST_MS), 1000)
    return f"{_second(second)},{millisecond:03d}000"


def iso_timestamp(utc_ms: int) -> str:
    """``2025-07-17T14:05:33.829Z``, the form of the vendor's X-M2M-OT (§3)."""
    second, millisecond = divmod(min(max(utc_ms, 0), _LAST_MS), 1000)
    digits = _second(second)
    date = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"
    return f"{date}T{digits[9:11]}:{digits[11:13]}:{digits[13:15]}.{millisecond:03d}Z"
