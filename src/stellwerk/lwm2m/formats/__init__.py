"""Payloads to `Content` and back: one module per Content-Format, one registry.

Every module has ``decode(payload, base, types, now_s, root, creating)`` and ``encode(content, base, types, root)``.
`base` is the path that was asked for and bounds what a payload may speak of; `types` is the object model; `root` is
what full names begin with: the alternate path (contract R-11), the prefix of a gateway's end device (§12), or both; in
LwM2M CBOR it is the prefix alone. `creating` admits instance 65535, whose identifier the receiver chooses. `fit` says
which Python value stands for which resource type and is the same for all; `senml` and `senml_writing` hold what
SenML's two serializations share; `cbor_items` guards the CBOR parser. Decoders raise only `DecodeError`s (a peer's
mistake), encoders only `EncodeError` (ours or a user's), whatever the bytes or values are.

A new format is a module here, a line in the tables below, and vectors in ``tests/vectors``.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats import cbor, lwm2m_cbor, lwm2m_json, opaque, senml_cbor, senml_json, text, tlv
from stellwerk.lwm2m.formats.content_format import INPUT_ALIASES, ContentFormat
from stellwerk.lwm2m.formats.errors import (
    BadName,
    DecodeError,
    EncodeError,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    UnsupportedFormat,
    WrongType,
)
from stellwerk.lwm2m.path import Path


class _Decode(Protocol):
    def __call__(
        self, payload: bytes, base: Path, types: Types, now_s: float | None, root: str, creating: bool, /
    ) -> Content: ...


class _Encode(Protocol):
    def __call__(self, content: Content, base: Path, types: Types, root: str, /) -> bytes: ...


# On the path of every value: a plain number compares faster than the member of an Enum.
_LWM2M_CBOR: Final = int(ContentFormat.LWM2M_CBOR)

_ENCODERS: Final[dict[int, _Encode]] = {
    ContentFormat.TEXT: text.encode,
    ContentFormat.OPAQUE: opaque.encode,
    ContentFormat.CBOR: cbor.encode,
    ContentFormat.SENML_JSON: senml_json.encode,
    ContentFormat.SENML_CBOR: senml_cbor.encode,
    ContentFormat.SENML_ETCH_JSON: senml_json.encode_patch,
    ContentFormat.SENML_ETCH_CBOR: senml_cbor.encode_patch,
    ContentFormat.TLV: tlv.encode,
    ContentFormat.LWM2M_JSON: lwm2m_json.encode,
    ContentFormat.LWM2M_CBOR: lwm2m_cbor.encode,
}
_DECODERS: Final[dict[int, _Decode]] = {
    ContentFormat.TEXT: text.decode,
    ContentFormat.OPAQUE: opaque.decode,
    # Contract §13: JSON of either kind is seen labelled as plain JSON.
    ContentFormat.JSON: lwm2m_json.decode_either,
    ContentFormat.CBOR: cbor.decode,
    ContentFormat.SENML_JSON: senml_json.decode,
    ContentFormat.SENML_CBOR: senml_cbor.decode,
    ContentFormat.SENML_ETCH_JSON: senml_json.decode_patch,
    ContentFormat.SENML_ETCH_CBOR: senml_cbor.decode_patch,
    ContentFormat.TLV: tlv.decode,
    ContentFormat.LWM2M_JSON: lwm2m_json.decode,
    ContentFormat.LWM2M_CBOR: lwm2m_cbor.decode,
}
_DECODERS.update({alias: _DECODERS[number] for alias, number in INPUT_ALIASES.items()})

_PATH_ENCODERS: Final[dict[int, Callable[[Iterable[Path], str], bytes]]] = {
    ContentFormat.SENML_JSON: senml_json.encode_paths,
    ContentFormat.SENML_CBOR: senml_cbor.encode_paths,
    ContentFormat.SENML_ETCH_JSON: senml_json.encode_paths,
    ContentFormat.SENML_ETCH_CBOR: senml_cbor.encode_paths,
}
_PATH_DECODERS: Final[dict[int, Callable[[bytes, str], tuple[Path, ...]]]] = {
    ContentFormat.SENML_JSON: senml_json.decode_paths,
    ContentFormat.SENML_CBOR: senml_cbor.decode_paths,
    ContentFormat.SENML_ETCH_JSON: senml_json.decode_fetch,
    ContentFormat.SENML_ETCH_CBOR: senml_cbor.decode_fetch,
}


def decode_content(
    content_format: int | None,
    payload: bytes,
    base: Path,
    types: Types,
    now_s: float | None = None,
    root: str = "",
    *,
    prefix: str = "",
    creating: bool = False,
) -> Content:
    """What ``payload`` says about the subtree ``base``.

    ``content_format`` None means the peer gave none: text for one resource, TLV otherwise (contract D-1).
    ``now_s`` is UTC seconds since 1970; relative times become absolute with it and stay relative without.
    ``prefix`` is that of the gateway's end device that was asked (contract §12). ``creating``: the payload is that of a
    Create, where instance 65535 is one whose identifier the receiver chooses.
    An empty SenML array, TLV or LwM2M CBOR map states an empty instance or resource; empty objects have no such entry.

    Raises `UnsupportedFormat`, `Malformed`, `BadName`, `OutsideBase`, `WrongType`, `Repeated`, `LimitExceeded`:
    all of them `DecodeError`.
    """
    if content_format is None:
        content_format = ContentFormat.TEXT if len(base) >= 3 else ContentFormat.TLV
    decode = _DECODERS.get(content_format)
    if decode is None:
        raise UnsupportedFormat(content_format)
    if content_format == _LWM2M_CBOR:
        # An end device may be addressed by an alternate path that ends in its prefix.
        root = prefix or root.rsplit("/", 1)[-1]
    elif prefix:
        root = f"{root}/{prefix}"
    return decode(payload, base, types, now_s, root, creating)


def encode_content(
    content_format: int, content: Content, base: Path, types: Types, root: str = "", *, prefix: str = ""
) -> bytes:
    """The payload that states ``content`` about the subtree ``base``, of a gateway's end device with ``prefix``.

    Raises `EncodeError` for what the format cannot carry, and for a format that has no encoder.
    """
    encode = _ENCODERS.get(content_format)
    if encode is None:
        raise EncodeError(content_format, None, "it has no encoder")
    return encode(content, base, types, _names_root(content_format, root, prefix))


def encode_paths(content_format: int, paths: Iterable[Path], root: str = "", *, prefix: str = "") -> bytes:
    """The body of a Read-Composite or Observe-Composite that names ``paths``, each once. Raises `EncodeError`."""
    encode = _PATH_ENCODERS.get(content_format)
    if encode is None:
        raise EncodeError(content_format, None, "it has no form for lists of paths")
    return encode(paths, _names_root(content_format, root, prefix))


def decode_paths(content_format: int | None, payload: bytes, root: str = "", *, prefix: str = "") -> tuple[Path, ...]:
    """The paths in such a body. Raises `UnsupportedFormat`, `Malformed`, `BadName`, `Repeated`, `LimitExceeded`."""
    decode = None if content_format is None else _PATH_DECODERS.get(content_format)
    if decode is None:
        raise UnsupportedFormat(-1 if content_format is None else content_format)
    return decode(payload, _names_root(content_format or 0, root, prefix))


def _names_root(content_format: int, root: str, prefix: str) -> str:
    """What names in a payload begin with."""
    if content_format == ContentFormat.LWM2M_CBOR:
        return prefix
    return f"{root}/{prefix}" if prefix else root


__all__ = [
    "BadName",
    "ContentFormat",
    "DecodeError",
    "EncodeError",
    "LimitExceeded",
    "Malformed",
    "OutsideBase",
    "Repeated",
    "UnsupportedFormat",
    "WrongType",
    "decode_content",
    "decode_paths",
    "encode_content",
    "encode_paths",
]
