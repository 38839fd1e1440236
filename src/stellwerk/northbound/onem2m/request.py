"""What a request says before anybody asks what it is about: headers, names, the body's envelope (contract §3, §4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from stellwerk.app.handlers.devices import LONGEST_LABEL, MOST_LABELS
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.names import (
    CIN,
    ENVELOPES,
    MGMT_OBJ,
    NOD,
    SHORT,
    Form,
    NamedTwice,
    envelope_of,
    to_short,
)
from stellwerk.northbound.onem2m.query import Query, parse_query
from stellwerk.northbound.services import Naming

LARGEST_BODY: Final = 1 << 20
RELEASES: Final = frozenset({"1", "2", "2a", "3", "4", "5"})
DEEPEST: Final = 64
"""Lists and objects inside each other; what is nested deeper has no use here and costs stack everywhere."""

_FULL_BY_DEFAULT: Final = frozenset({CIN, MGMT_OBJ, NOD})
_MEDIA_TYPES: Final = frozenset({"application/json", "application/vnd.onem2m-res+json"})
_RESOURCE_NAME = re.compile(r"[0-9A-Za-z._~:@-]{1,255}")
_TIMESTAMP = re.compile(r"([0-9]{8}T[0-9]{6})(?:,([0-9]{1,6}))?")
# The last two never arrive: clients and proxies take them out of an address.
_NO_NAMES: Final = frozenset({"la", "ol", "fopt", ".", ".."})
_READ_ONLY: Final = frozenset({"ty", "ri", "pi", "ct", "lt", "st", "cs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a face hangs: ``prefix`` without trailing slash, and the names of its answers where a request is silent."""

    prefix: str
    naming: Naming


@dataclass(frozen=True, slots=True)
class Request:
    """``segments``: the path below the tenant, decoded. ``release``: X-M2M-RVI, which makes the request strict (§0.10).
    ``content_type`` as sent; ``body`` as received."""

    mount: Mount
    method: str
    tenant: str
    segments: tuple[str, ...]
    query: Query
    origin: str
    release: str | None
    full_name: bool | None
    content_type: str | None
    body: bytes

    @property
    def strict(self) -> bool:
        """Whether the caller is a standards client."""
        return self.release is not None

    def form(self, resource_type: int) -> Form:
        """Which names the answer about a resource of this type takes (§4.2)."""
        if self.full_name is not None:
            return "full" if self.full_name else "short"
        if self.strict:
            return "short"
        if self.mount.naming == "published":
            return "full" if resource_type in _FULL_BY_DEFAULT else "short"
        return self.mount.naming


def build_request(
    mount: Mount,
    method: str,
    tenant: str,
    path: str,
    headers: Mapping[bytes, bytes],
    query_string: bytes,
    body: bytes,
) -> Request:
    """Check what every request has to have; whether the originator is registered is asked elsewhere. ``path``: what
    follows the tenant, with its leading slash, or empty. Raises `Refusal`."""
    origin = _header(headers, b"x-m2m-origin")
    if not origin:
        raise Refusal(Rsc.BAD_REQUEST, "the header X-M2M-Origin is missing; send the AE-ID of the caller, like CAdmin")
    if not headers.get(b"x-m2m-ri"):
        raise Refusal(Rsc.BAD_REQUEST, "the header X-M2M-RI is missing; send any request ID, it is echoed")
    release = _header(headers, b"x-m2m-rvi")
    if release is not None and release not in RELEASES:
        known = ", ".join(sorted(RELEASES))
        raise Refusal(Rsc.RELEASE_VERSION_NOT_SUPPORTED, f"X-M2M-RVI {release[:20]!r} is not supported; {known} are")
    strict = release is not None
    if not origin.startswith("C"):
        raise no_privilege(origin, strict)
    if path.endswith("/"):
        if strict:
            raise Refusal(Rsc.BAD_REQUEST, "the path ends with a slash; leave it out")
        path = path[:-1]
    segments = tuple(path.split("/")[1:])
    if "" in segments:
        raise Refusal(Rsc.BAD_REQUEST, "the path has an empty segment")
    return Request(
        mount=mount,
        method=method,
        tenant=tenant,
        segments=segments,
        query=parse_query(query_string, strict),
        origin=origin,
        release=release,
        full_name=_full_name(_header(headers, b"fullname")),
        content_type=_header(headers, b"content-type"),
        body=body,
    )


def no_privilege(origin: str, strict: bool) -> Refusal:
    """The originator is none that may ask for this."""
    right = "a registered AE or CAdmin" if strict else "an AE-ID starting with C"
    return Refusal(Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, f"X-M2M-Origin {origin[:60]!r} has no privilege here; use {right}")


def _header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _full_name(value: str | None) -> bool | None:
    if value is None:
        return None
    match value.lower():
        case "true":
            return True
        case "false":
            return False
    raise Refusal(Rsc.BAD_REQUEST, f"the header fullName is {value[:20]!r}; write true or false")


def resource_type(request: Request) -> int:
    """``ty`` of a create's Content-Type. Raises `Refusal`."""
    parameters = _media_type_parameters(request, "application/json;ty=<resource type>")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "ty":
            value = value.strip().strip('"')
            if not (value.isascii() and value.isdigit() and len(value) <= 5):
                raise Refusal(
                    Rsc.BAD_REQUEST, f"ty={value[:20]!r} in Content-Type is no resource type; 4 is a contentInstance"
                )
            return int(value)
    raise Refusal(Rsc.BAD_REQUEST, "Content-Type does not say ty; send for example application/json;ty=4")


def check_media_type(request: Request) -> None:
    """What an update is written in; it needs no ``ty``. Raises `Refusal`."""
    _media_type_parameters(request, "application/json")


def _media_type_parameters(request: Request, right: str) -> list[str]:
    media, *parameters = (request.content_type or "").split(";")
    if media.strip().lower() not in _MEDIA_TYPES:
        shown = repr(request.content_type[:60]) if request.content_type else "missing"
        raise Refusal(Rsc.UNSUPPORTED_MEDIA_TYPE, f"Content-Type is {shown}; send {right}")
    return parameters


def decode_resource(request: Request, expected: int, shape: str) -> tuple[str, dict[str, Any]]:
    """The body's one resource: its short envelope and its attributes by short name. ``shape``: what the body should
    look like, for people. Raises `Refusal`."""
    if not request.body:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is empty; send {shape}")
    try:
        decoded = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, ValueError) as error:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is not JSON ({error}); send {shape}") from None
    except RecursionError:
        raise _too_deep(shape) from None
    if request.body.count(b"[") + request.body.count(b"{") > DEEPEST and _is_deeper(decoded, DEEPEST):
        raise _too_deep(shape)
    if not isinstance(decoded, dict) or len(decoded) != 1:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is not an object with one resource in it; send {shape}")
    ((name, attributes),) = decoded.items()
    envelope = envelope_of(name)
    if envelope is None or (request.strict and name != envelope):
        raise Refusal(Rsc.BAD_REQUEST, f"{name[:40]!r} is no resource; send {shape}")
    if ENVELOPES[envelope][0] != expected:
        raise Refusal(Rsc.BAD_REQUEST, f"the body holds {name!r}, which is not ty={expected}; send {shape}")
    if not isinstance(attributes, dict):
        raise Refusal(Rsc.BAD_REQUEST, f"{name!r} is not an object; send {shape}")
    if request.strict:
        return envelope, attributes
    try:
        return envelope, to_short(attributes)
    except NamedTwice as error:
        raise Refusal(Rsc.BAD_REQUEST, str(error)) from None


def _too_deep(shape: str) -> Refusal:
    return Refusal(Rsc.BAD_REQUEST, f"the body is nested too deeply, {DEEPEST} levels are possible; send {shape}")


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


def wanted_changes(request: Request, attributes: dict[str, Any], writable: frozenset[str]) -> dict[str, Any]:
    """What an update wants changed, None where an attribute is to go. Strict clients hear of each attribute that cannot
    be; others may send a whole resource back, as long as something in it can. Raises `Refusal`."""
    check_attributes(request, attributes, writable)
    changes = {name: value for name, value in attributes.items() if name in writable}
    if not changes:
        right = ", ".join(sorted(writable))
        raise Refusal(Rsc.CONTENTS_UNACCEPTABLE, f"nothing in the body can be changed here; possible are {right}")
    return changes


def check_attributes(request: Request, attributes: dict[str, Any], writable: frozenset[str]) -> None:
    """Strict clients hear of every attribute that would have no effect; others may say more than we know (§14).
    Raises `Refusal`."""
    if not request.strict:
        return
    for name in attributes:
        if name in _READ_ONLY:
            raise Refusal(Rsc.BAD_REQUEST, f"the attribute {name} is set by the server; leave it out")
        if name not in writable:
            hint = f"; use the short name {SHORT[name]}" if name in SHORT else ""
            raise Refusal(Rsc.BAD_REQUEST, f"unknown attribute {name[:40]!r}{hint}")


def wanted_name(attributes: dict[str, Any]) -> str | None:
    """``rn`` of a new resource, None where the server chooses. Raises `Refusal`."""
    name = attributes.get("rn")
    if name is None:
        return None
    if not isinstance(name, str) or not _RESOURCE_NAME.fullmatch(name) or name in _NO_NAMES:
        raise Refusal(
            Rsc.BAD_REQUEST,
            "rn takes 1 to 255 of the characters 0-9 A-Z a-z . _ ~ : @ - and is not la, ol, fopt, . or ..",
        )
    return name


def wanted_labels(attributes: dict[str, Any]) -> tuple[str, ...]:
    """``lbl`` of a new resource. Raises `Refusal`."""
    labels = attributes.get("lbl")
    if labels is None:
        return ()
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise Refusal(Rsc.BAD_REQUEST, 'lbl is a list of texts, like ["key:value"]')
    if len(labels) > MOST_LABELS or any(len(each) > LONGEST_LABEL for each in labels):
        text = f"lbl has {MOST_LABELS} labels at most, each of at most {LONGEST_LABEL} characters"
        raise Refusal(Rsc.BAD_REQUEST, text)
    return tuple(labels)


def wanted_text(attributes: dict[str, Any], name: str, example: str, longest: int = 255) -> str | None:
    """A text attribute, None where it is absent. Raises `Refusal`."""
    value = attributes.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > longest:
        raise Refusal(Rsc.BAD_REQUEST, f"{name} is a text of 1 to {longest} characters, like {example}")
    return value


def wanted_expiry(attributes: dict[str, Any], now_ms: int) -> int | None:
    """``et`` as UTC milliseconds: a time as `identifiers.timestamp` writes it, or how many milliseconds from now
    (TS-0004, absRelTimestamp). None where it is absent. Raises `Refusal`."""
    value = attributes.get("et")
    if value is None:
        return None
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        at_ms = now_ms + int(text)
    else:
        at_ms = _utc_ms(text)
    if at_ms <= now_ms:
        raise Refusal(Rsc.BAD_REQUEST, f"et={text[:40]!r} is over already; a command would not be sent")
    return at_ms


def _utc_ms(text: str) -> int:
    found = _TIMESTAMP.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        moment = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        shape = "20261128T140000 in UTC, or milliseconds from now like 60000"
        raise Refusal(Rsc.BAD_REQUEST, f"et={text[:40]!r} is no time; write {shape}") from None
    fraction = found[2] or ""
    return int(moment.timestamp()) * 1000 + int(f"{fraction:0<3}"[:3])


def creator(request: Request, attributes: dict[str, Any]) -> str:
    """Who the new resource names as its creator: always the originator for lenient clients, for strict ones only where
    they ask with ``"cr": null``; empty = nobody (§4.1). Raises `Refusal`."""
    if attributes.get("cr") is not None:
        raise Refusal(Rsc.BAD_REQUEST, 'cr is set by the server; leave it out, or send "cr": null')
    if request.strict and "cr" not in attributes:
        return ""
    return request.origin
