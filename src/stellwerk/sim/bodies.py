"""The bodies that a device reads and writes: which formats it has, and how paths are named in them (contract §8, R-11,
§12)."""

from typing import Final

from stellwerk.coap import codes
from stellwerk.coap.events import RequestReceived
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import (
    ContentFormat,
    DecodeError,
    UnsupportedFormat,
    decode_content,
    decode_paths,
    encode_content,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.value import ResourceType
from stellwerk.sim.release import ETCH, SEVERAL, Release
from stellwerk.sim.tree import Denied

_COMPOSITE: Final = frozenset({ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR, *ETCH})
"""The formats that name paths, and so may ask for several."""

_ANSWER_TO: Final = {
    ContentFormat.SENML_ETCH_JSON: ContentFormat.SENML_JSON,
    ContentFormat.SENML_ETCH_CBOR: ContentFormat.SENML_CBOR,
}
"""What answers a composite request of such a format where it says nothing (RFC 8790: packs are SenML)."""


class Bodies:
    """The formats of one subtree of a device: its own, or that of an end device with ``prefix``. ``root`` is what
    stands before every path, the prefix included; in links it is ``link_root``."""

    __slots__ = ("_prefix", "link_root", "release", "root", "types")

    def __init__(self, release: Release, types: DeviceTypes, root: str = "", prefix: str = "") -> None:
        self.release = release
        self.types = types
        self._prefix = prefix
        # Gateway 1.1.1: links of an end device bear no prefix, names in SenML do.
        self.link_root = root
        self.root = f"{root}/{prefix}" if prefix else root

    # -- what it says --

    def choose(self, path: Path, accept: int | None) -> ContentFormat:
        """The format for what is at ``path``. Raises `Denied` 4.06."""
        release, types = self.release, self.types
        if accept is None:
            default = release.default_format
            if default in SEVERAL or (len(path) >= 3 and not types.is_multiple(path)) or len(path) == 4:
                return default
            raise Denied(codes.NOT_ACCEPTABLE, "no format that holds several values")
        if accept not in release.formats or accept in ETCH:
            raise Denied(codes.NOT_ACCEPTABLE, f"no format {accept}")
        chosen = ContentFormat(accept)
        if chosen in SEVERAL:
            return chosen
        # One value fits text, CBOR and opaque; several resource instances do not.
        if len(path) < 3 or (len(path) == 3 and types.is_multiple(path)):
            raise Denied(codes.NOT_ACCEPTABLE, f"format {accept} holds one value")
        if chosen is ContentFormat.OPAQUE and types.resource_type(path) is not ResourceType.OPAQUE:
            raise Denied(codes.NOT_ACCEPTABLE, f"{path} is not opaque")
        return chosen

    def choose_for_several(self, content_format: int | None, accept: int | None) -> ContentFormat:
        """The format for the answer to a composite request in ``content_format``. Raises `Denied` 4.06."""
        if accept is None and content_format is not None:
            accept = _ANSWER_TO.get(ContentFormat(content_format), content_format)
        names = (ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR, ContentFormat.LWM2M_CBOR)
        if accept not in names or accept not in self.release.formats:
            raise Denied(codes.NOT_ACCEPTABLE, f"no format {accept} for several paths")
        return ContentFormat(accept)

    def encode(self, content_format: int, content: Content, path: Path) -> bytes:
        """``content`` at ``path``. Raises `EncodeError`."""
        return encode_content(content_format, content, path, self.types, self.link_root, prefix=self._prefix)

    # -- what it is told --

    def decode(self, request: RequestReceived, path: Path, utc_s: float, *, one_value: bool) -> Content:
        """What ``request`` says about ``path``. Raises `Denied`: 4.15, 4.00."""
        content_format = request.content_format
        if content_format is None or content_format not in self.release.formats or content_format in ETCH:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"no format {content_format}")
        if content_format not in SEVERAL and not one_value:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"format {content_format} holds one value")
        return self._decode(content_format, request.payload, path, utc_s)

    def decode_paths(self, request: RequestReceived) -> tuple[Path, ...]:
        """The paths that a composite request asks for. Raises `Denied`: 4.15, 4.00."""
        content_format = request.content_format
        if content_format not in _COMPOSITE or content_format not in self.release.formats:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"no format {content_format} for paths")
        try:
            found = decode_paths(content_format, request.payload, self.link_root, prefix=self._prefix)
        except DecodeError as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None
        if not found:
            raise Denied(codes.BAD_REQUEST, "no path at all")
        return found

    def decode_changes(self, request: RequestReceived, utc_s: float) -> tuple[tuple[Entry, ...], tuple[Path, ...]]:
        """What a Write-Composite sets, and the resource instances that it takes away by a null (RFC 8790 §3.2). Raises
        `Denied`: 4.15, 4.00."""
        content_format = request.content_format
        allowed = (*_COMPOSITE, ContentFormat.LWM2M_CBOR)
        if content_format not in allowed or content_format not in self.release.formats:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, f"no format {content_format} for several paths")
        assert content_format is not None
        content = self._decode(content_format, request.payload, Path(), utc_s)
        return content.entries, content.removed

    def _decode(self, content_format: int, payload: bytes, path: Path, utc_s: float) -> Content:
        try:
            return decode_content(
                *(content_format, payload, path, self.types, utc_s, self.link_root),
                prefix=self._prefix,
                # What is written to an object is a new instance.
                creating=len(path) == 1,
            )
        except UnsupportedFormat as error:
            raise Denied(codes.UNSUPPORTED_CONTENT_FORMAT, str(error)) from None
        except DecodeError as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None
