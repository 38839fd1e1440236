"""What a journal entry means to applications: the received message, the values in it, the line for the device's log.

Pure: the projector and every face render with the same function (contract Device to Cloud §8).
"""

import base64
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.status_table import STATUS, reason_for_device_status
from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.answers import decode_answer, missing
from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.link_format import decode_links
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths, Target, parse_target
from stellwerk.lwm2m.status import dotted, is_success
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

CONTENT_INFO: Final = "application/json:0"
CREATOR: Final = "CNI-IPE"

_STATUS_MESSAGES: Final = {
    Kind.REGISTER: ("registration", None),
    Kind.UPDATE: ("update", "registration-update"),
    Kind.DEREGISTER: ("deregistration", "de-registration"),
    Kind.EXPIRE: ("registration-expire", None),
}
"""messageType as samples print it, and the table's spelling where it differs (``messageTypeName``)."""

_DECIMAL: Final = re.compile(r"-?[0-9]{1,15}\.[0-9]{1,15}")

_DISCOVERED: Final = re.compile(r"[0-9]{1,5}(?:/[0-9]{1,5}){0,3}")

_encode = msgspec.json.Encoder().encode

_METHODS_WITH_DATA: Final = frozenset({"read", "observe", "read-composite", "observe-composite"})


@dataclass(frozen=True, slots=True)
class Interpretation:
    """``content``: ``con`` of the received message, None where there is none. ``values``: (path, JSON text, time in UTC
    ms). ``log``: (event, detail)."""

    content: dict[str, Any] | None
    values: Sequence[tuple[str, str, int]] = ()
    log: tuple[str, str] | None = None


_NOTHING: Final = Interpretation(None)


def interpret(entry: JournalEntry, device_name: str, types: Types) -> Interpretation:
    """What ``entry`` says. Raises nothing for a payload that does not decode: the log line tells."""
    kind = entry.kind
    if kind == Kind.SEND:
        return _send(entry, device_name, types)
    if kind == Kind.NOTIFY:
        return _notify(entry, device_name, types)
    if kind == Kind.ANSWER:
        return _answer(entry, device_name, types)
    if kind == Kind.OUTCOME:
        outcome = _answer(entry, device_name, types)
        return Interpretation(None, outcome.values, outcome.log)
    if kind == Kind.LOG:
        return Interpretation(None, log=(entry.reason, entry.detail))
    if kind == Kind.INJECTED:
        return Interpretation(json.loads(entry.payload))
    if kind == Kind.READING:
        return _reading(entry, types)
    if kind == Kind.MESSAGE_REMOVED:
        return _NOTHING
    message_type, name = _STATUS_MESSAGES[Kind(kind)]
    content: dict[str, Any] = {
        "nodeResourceName": device_name,
        "time": entry.time_ms,
        "messageType": message_type,
    }
    if name is not None:
        content["messageTypeName"] = name
    # A plain Update is the device's heartbeat, not an event worth a line.
    log = None if kind == Kind.UPDATE and not entry.detail else (message_type, entry.detail)
    return Interpretation(content, log=log)


def json_value(value: Value, kind: ResourceType | None) -> Any:
    """A value as messages show it: opaque as base64 text, links ``o:i``, a known Time in milliseconds (§8)."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, ObjectLink):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if kind is ResourceType.TIME:
            return int(value * 1000)
        return value
    if kind is ResourceType.TIME and isinstance(value, int):
        return value * 1000
    return value


def _send(entry: JournalEntry, device_name: str, types: Types) -> Interpretation:
    content, problem = _decode(entry, Path(), types)
    if content is None:
        return Interpretation(None, log=("send-undecodable", problem))
    data, values = _shown(content, entry.time_ms, types)
    return Interpretation(
        {"nodeResourceName": device_name, "time": entry.time_ms, "messageType": "send", "data": data}, values
    )


def _notify(entry: JournalEntry, device_name: str, types: Types) -> Interpretation:
    path = parse_target(entry.path)
    message: dict[str, Any] = {
        "nodeResourceName": device_name,
        "time": entry.time_ms,
        "messageType": "notify",
        "resourcePath": entry.path,
    }
    if not is_success(entry.status):
        # OB-4: the device ended the observation, and nothing else will be heard of it.
        reason = reason_for_device_status(entry.status)
        code, text = STATUS[reason]
        detail = f"the device answered {dotted(entry.status)} and observes {entry.path} no longer"
        message["status"] = {"code": code, "message": text, "detail": detail, "reason": reason}
        message["data"] = None
        return Interpretation(message, log=("observation-ended", f"{entry.path}: {detail}"))
    content, problem = _decode(entry, path, types)
    if content is None:
        return Interpretation(None, log=("notification-undecodable", f"{entry.path}: {problem}"))
    data, values = _shown(content, entry.time_ms, types)
    if isinstance(path, Paths):
        message |= _listed(content, path)
        message["data"] = data
    elif len(path) >= 3 and len(data) == 1 and path.key in data:
        message["dataValue"] = data[path.key]
        message["attributes"] = json.loads(entry.detail) if entry.detail else {}
    else:
        message["data"] = data
    return Interpretation(message, values)


def _answer(entry: JournalEntry, device_name: str, types: Types) -> Interpretation:
    code, text = STATUS[entry.reason]
    data: dict[str, Any] | None = None
    values: Sequence[tuple[str, str, int]] = ()
    detail: str | None = entry.detail or None
    listed: dict[str, Any] = {}
    if code == 200:
        detail = None
        if entry.method == "discover":
            data, problem = discovered(entry)
            if data is None:
                code, text = STATUS["adapter"]
                detail = problem
        elif entry.method in _METHODS_WITH_DATA:
            target = parse_target(entry.path)
            content, problem = _decode(entry, target, types)
            if content is None:
                code, text = STATUS["adapter"]
                detail = problem
            else:
                listed = _listed(content, target)
                data, values = _shown(content, entry.time_ms, types)
    key = entry.path.removeprefix("/")
    if entry.method.endswith("-composite"):
        key = ",".join(each.removeprefix("/") or each for each in entry.path.split(",") if each)
    message = {
        "nodeResourceName": device_name,
        "time": entry.time_ms,
        "messageType": "response",
        "method": entry.method,
        "status": {"code": code, "message": text, "detail": detail, "reason": entry.reason},
        "resourcePath": key,
        "path": key,
        "data": data,
        **listed,
    }
    if entry.location:
        # What a Create made.
        message["createdPath"] = entry.location.removeprefix("/")
    return Interpretation(
        message,
        values,
        None if code == 200 else ("command-failed", f"{entry.method} {entry.path}: {code} {text}: {detail or ''}"),
    )


def discovered(entry: JournalEntry) -> tuple[dict[str, Any] | None, str]:
    """The paths of a Discover's answer, ``3/0/1``, with their attributes, numbers as numbers where they are some. None
    with the reason where it does not decode."""
    try:
        links = decode_links(entry.payload)
    except PeerError as error:
        return None, f"the answer does not decode: {error}"
    prefix = entry.root.rstrip("/") + "/"
    # Of an end device the answer has no prefix, which is the last segment of its root (Gateway 1.1 §8.3.1).
    without = prefix[: prefix[:-1].rfind("/") + 1]
    found: dict[str, Any] = {}
    for link in links:
        if link.target.startswith(prefix):
            place = link.target.removeprefix(prefix)
        elif without and link.target.startswith(without) and _DISCOVERED.fullmatch(link.target, len(without)):
            place = link.target.removeprefix(without)
        else:
            continue
        if place:
            found[place] = {name: _number_or_text(value) for name, value in link.attributes}
    return found, ""


def _number_or_text(text: str | None) -> int | float | str | None:
    if text is None:
        return None
    try:
        return int(text) if text.isdecimal() and len(text) < 16 else float(text) if _DECIMAL.fullmatch(text) else text
    except ValueError:
        return text


def _reading(entry: JournalEntry, types: Types) -> Interpretation:
    content, problem = _decode(entry, Path.parse(entry.path), types)
    if content is None:
        return Interpretation(None, log=("reading-undecodable", f"{entry.path}: {problem}"))
    return Interpretation(None, _shown(content, entry.time_ms, types)[1])


def _listed(content: Content, target: Target) -> dict[str, Any]:
    """What was asked for with a list, and what of it the device left out (contract D-11)."""
    if not isinstance(target, Paths):
        return {}
    # The root has no key.
    left_out = [each.key or "/" for each in missing(content, target)]
    return {"paths": [each.key or "/" for each in target], "missing": left_out}


def _decode(entry: JournalEntry, base: Target, types: Types) -> tuple[Content | None, str]:
    content_format = None if entry.content_format < 0 else entry.content_format
    try:
        return decode_answer(
            content_format, entry.payload, base, types, now_s=entry.time_ms / 1000, root=entry.root
        ), ""
    except PeerError as error:
        return None, str(error)


def _shown(content: Content, received_ms: int, types: Types) -> tuple[dict[str, Any], list[tuple[str, str, int]]]:
    """``data`` of a message, and the values as they are kept. One pass: this is on the path of every value."""
    data: dict[str, Any] = {}
    values = []
    type_of = types.resource_type
    for path, value, time_s in content.entries:
        kind = type_of(path)
        # Most are what they look like.
        shown = value if type(value) is str or (kind is None and type(value) is int) else json_value(value, kind)
        place, key = _texts(path)
        data[key] = shown
        # A product that is a hair below its millisecond (1.001 s) must not lose it.
        values.append((place, _json_text(shown), received_ms if time_s is None else round(time_s * 1000)))
    if len(data) != len(values):
        # Several values of one resource: the newest is shown.
        data = _newest(content, received_ms, type_of)
    return data, values


def _newest(content: Content, received_ms: int, type_of: Callable[[Path], ResourceType | None]) -> dict[str, Any]:
    """The newest value of each path as messages show it; of two of one time, the later in the payload. A time after
    the reception counts as the reception: the projection of current values does the same."""
    found: dict[Path, tuple[int, Value]] = {}
    for path, value, time_s in content.entries:
        moment = received_ms if time_s is None else min(round(time_s * 1000), received_ms)
        known = found.get(path)
        if known is None or moment >= known[0]:
            found[path] = moment, value
    return {path.key: json_value(value, type_of(path)) for path, (_, value) in found.items()}


def _json_text(value: Any) -> str:
    try:
        return _encode(value).decode()
    except (OverflowError, ValueError):
        # An integer beyond 64 bits, half a surrogate pair: JSON can spell them, the fast encoder cannot.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=65536)
def _texts(path: Path) -> tuple[str, str]:
    """With and without the leading slash."""
    return str(path), path.key
