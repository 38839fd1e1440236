"""The management object ``device-info``: what people provisioned, overlaid by what the device reports (contract §9)."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from stellwerk.app.records import StoredValue
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.onem2m.identifiers import device_id, timestamp
from stellwerk.northbound.onem2m.names import MGMT_OBJ
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.tree import DEVICE_INFO

_REPORTED: Final = {
    "/3/0/0": "man",
    "/3/0/1": "mod",
    "/3/0/3": "fwv",
    "/3/0/13": "syst",
    "/3/0/17": "dty",
    "/3/0/18": "hwv",
    "/3/0/19": "swv",
}
_DEVICE_INFORMATION: Final = 1007
_SECONDS_BELOW: Final = 10**11
"""A time below is in seconds (§8.1)."""


def device_info(
    device: DeviceRecord, endpoint_name: str, values: Sequence[StoredValue], *, now_ms: int, strict: bool = False
) -> Resource:
    """``endpoint_name``: of the newest registration, empty where there was none. ``now_ms``: a device whose clock runs
    ahead does not change this resource in the future. ``strict``: times in the standard's form."""
    provisioned = dict(device.device_info)
    label = provisioned.pop("dlb", None) or endpoint_name
    known = {value.path: value for value in values}
    details: dict[str, Any] = dict(provisioned)
    if "ptl" in details:
        # Stored as text like the others; the standard has a list of words.
        details["ptl"] = details["ptl"].split()
    changed_ms = device.modified_ms
    for path, name in _REPORTED.items():
        if (value := known.get(path)) is not None:
            details[name] = _system_time(value, strict) if name == "syst" else _text(value)
            changed_ms = max(changed_ms, min(value.time_ms, now_ms))
    # One sample shows the manufacturer as device name, the mapping table as manufacturer: both readings work (§9).
    if "dvnm" not in provisioned and "/3/0/0" in known:
        details["dvnm"] = _text(known["/3/0/0"])
    latitude, longitude = known.get("/6/0/0"), known.get("/6/0/1")
    if latitude is not None and longitude is not None and (place := _place(latitude, longitude)):
        details["loc"] = place
        changed_ms = max(changed_ms, min(max(latitude.time_ms, longitude.time_ms), now_ms))
    attributes: dict[str, Any] = {"rn": DEVICE_INFO, "mgd": _DEVICE_INFORMATION}
    if label:
        attributes["dlb"] = label
    attributes |= {
        "ty": MGMT_OBJ,
        "ri": device_id(device, DEVICE_INFO),
        "pi": device_id(device),
        "ct": timestamp(device.created_ms),
        "lt": timestamp(changed_ms),
    }
    return Resource("m2m:dvi", MGMT_OBJ, attributes | details)


def _text(value: StoredValue) -> str:
    decoded = msgspec.json.decode(value.value)
    return decoded if isinstance(decoded, str) else value.value


def _place(latitude: StoredValue, longitude: StoredValue) -> str:
    """A geo URI (RFC 5870 3.3), whose numbers have no exponent; empty for what is no place on earth."""
    found = []
    for value, bound in ((latitude, 90), (longitude, 180)):
        try:
            number = float(_text(value))
        except ValueError:
            return ""
        if not -bound <= number <= bound:
            return ""
        found.append(f"{number:.7f}".rstrip("0").rstrip("."))
    return f"geo:{found[0]},{found[1]}"


def _system_time(value: StoredValue, strict: bool) -> str:
    """The sample prints a text of epoch milliseconds, the standard wants a timestamp (§9). A value that came before the
    device said what its objects are is in seconds still."""
    text = _text(value)
    if not (text.isascii() and text.isdigit() and len(text) < 15):
        return text
    time_ms = int(text)
    if time_ms < _SECONDS_BELOW:
        time_ms *= 1000
    return timestamp(time_ms) if strict else str(time_ms)
