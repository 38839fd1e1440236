"""Resource IDs of what has no row of its own, and times as oneM2M writes them."""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from stellwerk.app.resource_ids import device_resource_id
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.onem2m.tree import FIXED_PATHS

_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999; what devices claim may lie beyond."""


@lru_cache(maxsize=65536)
def derived_id(*parts: str) -> str:
    """24 hex digits out of ``parts``: the same on every installation and after every restart."""
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=1024)
def infrastructure_paths(tenant: str) -> dict[str, str]:
    """Every ID of `infrastructure_id` of a tenant, with its path."""
    return {infrastructure_id(tenant, path): path for path in FIXED_PATHS}


def infrastructure_id(tenant: str, path: str) -> str:
    """The ID of a resource that comes with the tenant, ``device-provisioning/request``."""
    return derived_id(tenant, path)


def device_id(device: DeviceRecord, part: str = "") -> str:
    """The ID of a node, or with ``part`` of what belongs to it: ``device-info``, ``communication``,
    ``communication/sent-msg`` (`app.resource_ids`)."""
    return device_resource_id(device.tenant, device.name, device.created_ms, part)


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%S")


def parse_timestamp(text: str) -> str | None:
    """A time of a query in the form of `timestamp`, so that texts compare as times do; None for what is no time. Takes
    the standard's form with any number of the fraction's digits, and ISO 8601 in UTC."""
    if len(text) > 40:
        return None
    digits = text.strip().removesuffix("Z").replace("-", "").replace(":", "").replace(".", ",")
    second, comma, fraction = digits.partition(",")
    if comma and not (fraction.isascii() and fraction.isdigit() and len(fraction) <= 6):
        return None
    if len(second) != 15 or not second.isascii():
        return None
    try:
        datetime.strptime(second, "%Y%m%dT%H%M%S")
    except ValueError:
        return None
    return f"{second},{fraction:0<6}"


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
