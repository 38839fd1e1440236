"""What a request says before anybody asks what it is about: headers, names, the body's envelope (contract §3, §4)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

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
SYSTEM_ORIGINATORS: Final = frozenset({"CAdmin", "CDevice-Provisioning", "CNI-IPE"})
"""Originators that exist in every tenant (§5)."""

_FULL_BY_DEFAULT: Final = frozenset({CIN, MGMT_OBJ, NOD})
_MEDIA_TYPES: Final = frozenset({"application/json", "application/vnd.onem2m-res+json"})
_RESOURCE_NAME = re.compile(r"[0-9A-Za-z._~:@-]{1,255}")
_VIRTUAL_NAMES: Final = frozenset({"la", "ol", "fopt"})
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
    """Check what every request has to have. ``path``: what follows the tenant, with its leading slash, or empty.
    Raises `Refusal`."""
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
    if not origin.startswith("C") or (strict and origin not in SYSTEM_ORIGINATORS):
        right = "a registered AE or CAdmin" if strict else "an AE-ID starting with C"
        raise Refusal(
            Rsc.ORIGINATOR_HAS_NO_PRIVILEGE, f"X-M2M-Origin {origin[:60]!r} has no privilege here; use {right}"
        )
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
    media, *parameters = (request.content_type or "").split(";")
    if media.strip().lower() not in _MEDIA_TYPES:
        shown = repr(request.content_type[:60]) if request.content_type else "missing"
        raise Refusal(Rsc.UNSUPPORTED_MEDIA_TYPE, f"Content-Type is {shown}; send application/json;ty=<resource type>")
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


def decode_resource(request: Request, expected: int, shape: str) -> tuple[str, dict[str, Any]]:
    """The body's one resource: its short envelope and its attributes by short name. ``shape``: what the body should
    look like, for people. Raises `Refusal`."""
    if not request.body:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is empty; send {shape}")
    try:
        decoded = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is not JSON ({error}); send {shape}") from None
    except RecursionError:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is nested too deeply; send {shape}") from None
    if not isinstance(decoded, dict) or len(decoded) != 1:
        raise Refusal(Rsc.BAD_REQUEST, f"the body is not an object with one resource in it; send {shape}")
    ((name, attributes),) = decoded.items()
    envelope = envelope_of(name)
    if envelope is None or (request.strict and name != envelope):
        raise Refusal(Rsc.BAD_REQUEST, f"{name[:40]!r} is no resource; send {shape}")
    if ENVELOPES[envelope][0] != expected:
        raise Refusal(Rsc.BAD_REQUEST, f"Content-Type says ty={expected}, but the body holds {name!r}; send {shape}")
    if not isinstance(attributes, dict):
        raise Refusal(Rsc.BAD_REQUEST, f"{name!r} is not an object; send {shape}")
    if request.strict:
        return envelope, attributes
    try:
        return envelope, to_short(attributes)
    except NamedTwice as error:
        raise Refusal(Rsc.BAD_REQUEST, str(error)) from None


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
    if not isinstance(name, str) or not _RESOURCE_NAME.fullmatch(name) or name in _VIRTUAL_NAMES:
        raise Refusal(
            Rsc.BAD_REQUEST, "rn takes 1 to 255 of the characters 0-9 A-Z a-z . _ ~ : @ - and is not la, ol or fopt"
        )
    return name


def wanted_labels(attributes: dict[str, Any]) -> tuple[str, ...]:
    """``lbl`` of a new resource. Raises `Refusal`."""
    labels = attributes.get("lbl")
    if labels is None:
        return ()
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise Refusal(Rsc.BAD_REQUEST, 'lbl is a list of texts, like ["key:value"]')
    return tuple(labels)


def creator(request: Request, attributes: dict[str, Any]) -> str:
    """Who the new resource names as its creator: always the originator for lenient clients, for strict ones only where
    they ask with ``"cr": null``; empty = nobody (§4.1). Raises `Refusal`."""
    if attributes.get("cr") is not None:
        raise Refusal(Rsc.BAD_REQUEST, 'cr is set by the server; leave it out, or send "cr": null')
    if request.strict and "cr" not in attributes:
        return ""
    return request.origin
