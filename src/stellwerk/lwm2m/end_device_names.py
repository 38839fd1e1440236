"""What an end device is called northbound, from what its gateway calls it."""

import re
from hashlib import sha256
from typing import Final

LONGEST: Final = 255
_URN: Final = re.compile(r"urn:[0-9A-Za-z][0-9A-Za-z-]{1,31}:[!-~]+")
_NOT_IN_NAMES: Final = re.compile(r"[^0-9A-Za-z_:-]")
_DIGITS: Final = 8


def device_name(gateway: str, device_id: str) -> str:
    """The device's name: the gateway's and the device ID with what a name may not hold replaced; where that, or
    cutting it, lost something, digits at the end keep two such apart."""
    plain = f"{gateway}-{device_id}"
    name = _NOT_IN_NAMES.sub("_", plain)
    return name if name == plain and len(name) <= LONGEST else _with_digits(name, device_id)


def other_device_name(gateway: str, device_id: str) -> str:
    """The name to take where `device_name` is another device's."""
    return _with_digits(_NOT_IN_NAMES.sub("_", f"{gateway}-{device_id}"), device_id)


def node_id(gateway_node_id: str, device_id: str) -> str:
    """The device's node ID: the device ID where that is a URN and so the same behind any gateway, else one within the
    gateway's (Gateway 1.1 §6 recommends URNs; two gateways may both have a ``sensor-1``)."""
    if len(device_id) <= LONGEST and _URN.fullmatch(device_id):
        return device_id
    local = f"{gateway_node_id}:{device_id}"
    shown = re.sub(r"[^!-~]", "_", local)
    return shown if shown == local and len(shown) <= LONGEST else _with_digits(shown, device_id)


def is_global(device_id: str) -> bool:
    """Whether the device is the same behind any gateway."""
    return len(device_id) <= LONGEST and _URN.fullmatch(device_id) is not None


def _with_digits(text: str, device_id: str) -> str:
    digits = sha256(device_id.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{text[: LONGEST - _DIGITS - 1]}-{digits}"
