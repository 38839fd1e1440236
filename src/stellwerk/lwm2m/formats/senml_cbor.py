"""application/senml+cbor (112) and application/senml-etch+cbor (322)."""

from collections.abc import Iterable
from typing import Final

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats.cbor_items import load, write_head, write_integer, write_text, write_value
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError
from stellwerk.lwm2m.formats.senml import CBOR_LABELS, read_pack, read_paths
from stellwerk.lwm2m.formats.senml_writing import Record, build_path_records, build_records
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink

# The labels as the bytes they are on the wire (RFC 8428 table 6).
_BN: Final = b"\x21"
_BT: Final = b"\x22"
_N: Final = b"\x00"
_V: Final = b"\x02"
_VS: Final = b"\x03"
_VB: Final = b"\x04"
_T: Final = b"\x06"
_VD: Final = b"\x08"
_VLO: Final = b"\x63vlo"
_NULL: Final = b"\xf6"


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The values of the pack ``payload``. Raises what `senml.read_pack` raises."""
    return read_pack(load(payload), CBOR_LABELS, base, types, now_s, root, creating)


def decode_patch(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The same of a patch pack, which may take resource instances away (RFC 8790 3.2)."""
    return read_pack(load(payload), CBOR_LABELS, base, types, now_s, root, creating, True)


def decode_paths(payload: bytes, root: str = "") -> tuple[Path, ...]:
    """The paths of a composite request's body. Raises what `senml.read_paths` raises."""
    return read_paths(load(payload), CBOR_LABELS, root)


def decode_fetch(payload: bytes, root: str = "") -> tuple[Path, ...]:
    """The paths of a fetch pack (RFC 8790 3.1). Raises what `senml.read_paths` raises."""
    return read_paths(load(payload), CBOR_LABELS, root, fetch=True)


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as a pack. Raises `EncodeError`."""
    return _write_pack(build_records(content, base, types, ContentFormat.SENML_CBOR, root))


def encode_patch(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as a patch pack: what is removed has null as its value. Raises `EncodeError`."""
    return _write_pack(build_records(content, base, types, ContentFormat.SENML_ETCH_CBOR, root))


def encode_paths(paths: Iterable[Path], root: str = "") -> bytes:
    """The body of a composite request that names ``paths``, which is a fetch pack as well. Raises `EncodeError`."""
    return _write_pack(build_path_records(paths, ContentFormat.SENML_CBOR, root))


def _write_pack(records: list[Record]) -> bytes:
    parts = [write_head(4, len(records))]
    try:
        for record in records:
            fields = _fields(record)
            parts.append(write_head(5, len(fields) // 2))
            parts += fields
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.SENML_CBOR, None, "text that is no Unicode") from None
    return b"".join(parts)


def _fields(record: Record) -> list[bytes]:
    """Labels and items in turn."""
    base_name, base_time, name, time, value, removes = record
    fields: list[bytes] = []
    if base_name is not None:
        fields += (_BN, write_text(base_name))
    if base_time is not None:
        fields += (_BT, write_value(base_time))
    if name is not None:
        fields += (_N, write_text(name))
    if time is not None:
        fields += (_T, write_value(time))
    if isinstance(value, bool):
        fields += (_VB, write_value(value))
    elif isinstance(value, int):
        fields += (_V, write_integer(value))
    elif isinstance(value, float):
        fields += (_V, write_value(value))
    elif isinstance(value, ObjectLink):
        fields += (_VLO, write_text(str(value)))
    elif isinstance(value, bytes):
        fields += (_VD, write_value(value))
    elif value is not None:
        fields += (_VS, write_text(value))
    elif removes:
        fields += (_V, _NULL)
    return fields
