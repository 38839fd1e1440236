"""application/senml+json (110) and application/senml-etch+json (320)."""

import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError, Malformed
from stellwerk.lwm2m.formats.fit import parse_decimal, write_base64url
from stellwerk.lwm2m.formats.senml import (
    JSON_LABELS,
    Record,
    build_path_records,
    build_records,
    read_pack,
    read_paths,
)
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink


def decode(payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "") -> Content:
    """The values of the pack ``payload``. Raises what `senml.read_pack` raises."""
    return read_pack(load(payload), JSON_LABELS, base, types, now_s, root)


def decode_paths(payload: bytes, root: str = "") -> tuple[Path, ...]:
    """The paths of a composite request's body. Raises `Malformed`, `BadName`, `LimitExceeded`."""
    return read_paths(load(payload), JSON_LABELS, root)


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as a pack. Raises `EncodeError`, also for NaN and infinities, which JSON does not have."""
    return _write_pack(build_records(content, base, types, ContentFormat.SENML_JSON, root), content)


def encode_paths(paths: Iterable[Path], root: str = "") -> bytes:
    """The body of a composite request that names ``paths``."""
    return _write_pack(build_path_records(paths, root), Content())


def _parse_float(text: str) -> float | Decimal:
    try:
        return parse_decimal(text)
    except InvalidOperation:
        raise ValueError("number beyond any range") from None


_decoder = msgspec.json.Decoder(float_hook=_parse_float)


def load(payload: bytes) -> Any:
    """A JSON document; numbers that a float would change arrive as Decimal. Raises `Malformed`."""
    try:
        return _decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed("JSON", str(error)[:200]) from None


def _write_pack(records: list[Record], content: Content) -> bytes:
    pack = []
    for index, (base_name, base_time, name, time, value) in enumerate(records):
        record: dict[str, str | int | float | bool] = {}
        if base_name is not None:
            record["bn"] = base_name
        if base_time is not None:
            record["bt"] = base_time
        if name is not None:
            record["n"] = name
        if time is not None:
            record["t"] = time
        if isinstance(value, bool):
            record["vb"] = value
        elif isinstance(value, int | float):
            if not math.isfinite(value):
                path = content.entries[index].path
                raise EncodeError(ContentFormat.SENML_JSON, path, f"JSON has no {value}")
            record["v"] = value
        elif isinstance(value, ObjectLink):
            record["vlo"] = str(value)
        elif isinstance(value, bytes):
            record["vd"] = write_base64url(value)
        elif value is not None:
            record["vs"] = value
        pack.append(record)
    try:
        return msgspec.json.encode(pack)
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.SENML_JSON, None, "text that is no Unicode") from None
