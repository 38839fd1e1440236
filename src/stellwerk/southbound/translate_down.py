"""An LwM2M operation becomes a CoAP request (contract §6, §7)."""

from dataclasses import dataclass
from typing import assert_never

from stellwerk.coap import codes
from stellwerk.device.end_device import EndDeviceRegistration
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import encode_content, encode_paths
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.operations import (
    CancelComposite,
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteAttributes,
    WriteComposite,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths


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


def translate_down(operation: Operation, registration: Registration, preferred: int) -> Down:
    """The request for ``operation`` with ``preferred`` as format where the operation names none. Raises `EncodeError`
    for a value that the format cannot carry."""
    root = registration.objects.root
    # Composites are about the root as CoAP sees it, without any path (contract §1.4): the alternate path stands in the
    # names of their lists.
    path = () if isinstance(operation.path, Paths) else _segments(root, operation.path)
    match operation:
        case Read(accept=accept):
            return Down(codes.GET, path, accept=preferred if accept is None else accept)
        case Observe(accept=accept, attributes=attributes):
            chosen = preferred if accept is None else accept
            return Down(codes.GET, path, _query(attributes), accept=chosen, observe=0)
        case CancelObservation(accept=accept):
            return Down(codes.GET, path, accept=preferred if accept is None else accept, observe=1)
        case Discover(depth=depth):
            wanted = () if depth is None else (f"depth={depth}",)
            return Down(codes.GET, path, wanted, accept=ContentFormat.LINK_FORMAT)
        case Write(content=content, replace=replace, content_format=content_format):
            chosen = preferred if content_format is None else content_format
            body = _body(chosen, content, operation.path, registration)
            return Down(codes.PUT if replace else codes.POST, path, content_format=chosen, payload=body)
        case WriteAttributes(attributes=attributes):
            return Down(codes.PUT, path, _query(attributes))
        case Execute(arguments=arguments):
            if not arguments:
                return Down(codes.POST, path)
            return Down(codes.POST, path, content_format=ContentFormat.TEXT, payload=arguments.encode())
        case Create(content=content, content_format=content_format):
            chosen = preferred if content_format is None else content_format
            body = _body(chosen, content, operation.path, registration)
            return Down(codes.POST, path, content_format=chosen, payload=body)
        case Delete():
            return Down(codes.DELETE, path)
        case ReadComposite(paths, accept, content_format):
            return _fetch(paths, preferred, accept, content_format, root)
        case ObserveComposite(paths, accept, content_format, attributes):
            return _fetch(paths, preferred, accept, content_format, root, _query(attributes), observe=0)
        case CancelComposite(paths, accept, content_format):
            return _fetch(paths, preferred, accept, content_format, root, observe=1)
        case WriteComposite(content, content_format):
            chosen = preferred if content_format is None else content_format
            body = _body(chosen, content, Path(), registration)
            return Down(codes.IPATCH, (), content_format=chosen, payload=body)
        case _:
            assert_never(operation)


def _body(content_format: int, content: Content, base: Path, registration: Registration) -> bytes:
    prefix = ""
    if content_format == ContentFormat.LWM2M_CBOR and isinstance(registration, EndDeviceRegistration):
        # Its keys have no alternate path, which the prefix is the end of.
        prefix = registration.prefix
    return encode_content(content_format, content, base, registration.types, registration.objects.root, prefix=prefix)


def _fetch(
    paths: Paths,
    preferred: int,
    accept: int | None,
    content_format: int | None,
    root: str,
    query: tuple[str, ...] = (),
    observe: int | None = None,
) -> Down:
    chosen = preferred if content_format is None else content_format
    # D-3: some devices read the list in the format that they are to answer in.
    answer = chosen if accept is None else accept
    return Down(codes.FETCH, (), query, chosen, answer, observe, encode_paths(chosen, paths, root))


def _query(attributes: tuple[tuple[str, str | None], ...]) -> tuple[str, ...]:
    return tuple(name if value is None else f"{name}={value}" for name, value in attributes)


def _segments(root: str, path: Path) -> tuple[str, ...]:
    prefix = tuple(each for each in root.split("/") if each)
    return prefix + tuple(map(str, path))
