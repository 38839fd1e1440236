"""Bootstrapping between CoAP and LwM2M, both ways (contract §5)."""

from collections.abc import Sequence
from typing import Final, assert_never

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.lwm2m.bootstrap import (
    PACK_FORMATS,
    BootstrapDelete,
    BootstrapDiscover,
    BootstrapFinish,
    BootstrapOperation,
    BootstrapPackRequest,
    BootstrapRead,
    BootstrapRequest,
    BootstrapUplink,
    BootstrapWrite,
    EstRequest,
    encode_bootstrap_write,
)
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path
from stellwerk.southbound.translate_down import Down
from stellwerk.southbound.translate_up import DP, RD

BS: Final = "bs"
BSPACK: Final = "bspack"
EST: Final = (".well-known", "est")
_EST_METHODS: Final = {"crts": codes.GET, "sen": codes.POST, "sren": codes.POST}
"""Of the functions of EST those that are here (RFC 9148 §4.1)."""


def translate_bootstrap_up(request: RequestReceived) -> BootstrapUplink | int:
    """What a device asks, or the CoAP code to answer with: 4.04 for a path that is not ours, 4.05 for a method that the
    path does not have, 4.06 for a pack in a format that packs do not have."""
    match request.path:
        case (each,) if each == BS:
            return BootstrapRequest(request.query) if request.code == codes.POST else codes.METHOD_NOT_ALLOWED
        case (each,) if each == BSPACK:
            if request.code != codes.GET:
                return codes.METHOD_NOT_ALLOWED
            if request.accept is not None and request.accept not in PACK_FORMATS:
                return codes.NOT_ACCEPTABLE
            return BootstrapPackRequest(request.query, request.accept)
        case (*folder, function) if tuple(folder) == EST and function in _EST_METHODS:
            if request.code != _EST_METHODS[function]:
                return codes.METHOD_NOT_ALLOWED
            return EstRequest(function, request.payload, request.content_format, request.accept)
        case _:
            return codes.NOT_FOUND


def asked_elsewhere(path: Sequence[str], *, is_bootstrap: bool = False) -> str:
    """What the log says of a request that is for the other server, empty for every other; ``is_bootstrap``: it came to
    the bootstrap server."""
    first = path[0] if path else ""
    if is_bootstrap and first in (RD, DP):
        ports = "STELLWERK_COAP_PORT, STELLWERK_COAPS_PORT"
        return f"this is for the server of device management ({ports}): is the port right?"
    if not is_bootstrap and (first in (BS, BSPACK) or tuple(path[:2]) == EST):
        ports = "STELLWERK_BOOTSTRAP_COAP_PORT, STELLWERK_BOOTSTRAP_COAPS_PORT"
        return f"this is for the bootstrap server ({ports}): is the port right?"
    return ""


def translate_bootstrap_down(operation: BootstrapOperation) -> Down:
    """The request for ``operation``. Raises `EncodeError` for a value that its format cannot carry."""
    match operation:
        case BootstrapDiscover(path):
            return Down(codes.GET, _segments(path), accept=ContentFormat.LINK_FORMAT)
        case BootstrapRead(path, accept):
            return Down(codes.GET, _segments(path), accept=accept)
        case BootstrapWrite(path, _, content_format):
            # B-4: some clients take what comes without a format for text.
            body = encode_bootstrap_write(operation)
            return Down(codes.PUT, _segments(path), content_format=content_format, payload=body)
        case BootstrapDelete(path):
            return Down(codes.DELETE, _segments(path))
        case BootstrapFinish():
            return Down(codes.POST, (BS,))
        case _:
            assert_never(operation)


def _segments(path: Path) -> tuple[str, ...]:
    return tuple(map(str, path))
