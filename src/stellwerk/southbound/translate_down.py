"""An LwM2M operation becomes a CoAP request in a format that the device speaks (contract §6, D-1, D-2)."""

from dataclasses import dataclass
from typing import Final, assert_never

from stellwerk.coap import codes
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.formats import encode_content
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.operations import (
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    Operation,
    Read,
    Write,
    WriteAttributes,
)
from stellwerk.lwm2m.path import Path

_OURS: Final = (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV)
"""Hierarchical formats, best first."""

_MANDATORY: Final = {"1.0": (ContentFormat.TLV,)}
_MANDATORY_SINCE_1_1: Final = (ContentFormat.SENML_CBOR, ContentFormat.SENML_JSON, ContentFormat.TLV)


@dataclass(frozen=True, slots=True)
class Down:
    """The parts of a request."""

    code: int
    path: tuple[str, ...]
    query: tuple[str, ...] = ()
    content_format: int | None = None
    accept: int | None = None
    observe: int | None = None
    payload: bytes = b""


def formats_of(registration: Registration) -> tuple[int, ...]:
    """The hierarchical formats to try with a device, best first: what its registration lists and we speak, else what
    its LwM2M version makes mandatory (D-2)."""
    listed = registration.objects.content_formats or ()
    common = tuple(each for each in _OURS if each in listed)
    return common or _MANDATORY.get(registration.version, _MANDATORY_SINCE_1_1)


def translate_down(operation: Operation, registration: Registration, preferred: int) -> Down:
    """The request for ``operation`` with ``preferred`` as format where the operation names none. Raises `EncodeError`
    for a value that the format cannot carry."""
    root = registration.objects.root
    path = _segments(root, operation.path)
    match operation:
        case Read(accept=accept):
            return Down(codes.GET, path, accept=preferred if accept is None else accept)
        case Observe(accept=accept):
            return Down(codes.GET, path, accept=preferred if accept is None else accept, observe=0)
        case CancelObservation(accept=accept):
            return Down(codes.GET, path, accept=preferred if accept is None else accept, observe=1)
        case Discover(depth=depth):
            wanted = () if depth is None else (f"depth={depth}",)
            return Down(codes.GET, path, wanted, accept=ContentFormat.LINK_FORMAT)
        case Write(content=content, replace=replace, content_format=content_format):
            chosen = preferred if content_format is None else content_format
            body = encode_content(chosen, content, operation.path, registration.types, root)
            return Down(codes.PUT if replace else codes.POST, path, content_format=chosen, payload=body)
        case WriteAttributes(attributes=attributes):
            query = tuple(name if value is None else f"{name}={value}" for name, value in attributes)
            return Down(codes.PUT, path, query)
        case Execute(arguments=arguments):
            if not arguments:
                return Down(codes.POST, path)
            return Down(codes.POST, path, content_format=ContentFormat.TEXT, payload=arguments.encode())
        case Create(content=content, content_format=content_format):
            chosen = preferred if content_format is None else content_format
            body = encode_content(chosen, content, operation.path, registration.types, root)
            return Down(codes.POST, path, content_format=chosen, payload=body)
        case Delete():
            return Down(codes.DELETE, path)
        case _:
            assert_never(operation)


def has_open_format(operation: Operation) -> bool:
    """Whether the format of ``operation`` is ours to choose, so that another may be tried (D-2)."""
    match operation:
        case Read(accept=None) | Observe(accept=None) | CancelObservation(accept=None):
            return True
        case Write(content_format=None) | Create(content_format=None):
            return True
        case _:
            return False


def _segments(root: str, path: Path) -> tuple[str, ...]:
    prefix = tuple(each for each in root.split("/") if each)
    return prefix + tuple(map(str, path))
