"""application/senml+json (110) and application/senml-etch+json (320)."""

import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError, Malformed
from stellwerk.lwm2m.formats.fit import parse_decimal, write_base64url
from stellwerk.lwm2m.formats.senml import JSON_LABELS, read_pack, read_paths
from stellwerk.lwm2m.formats.senml_writing import Record, build_path_records, build_records
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The values of the pack ``payload``. Raises what `senml.read_pack` raises."""
    return read_pack(load(payload), JSON_LABELS, base, types, now_s, root, creating)


def decode_patch(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The same of a patch pack, which may take resource instances away (RFC 8790 3.2)."""
    return read_pack(load(payload), JSON_LABELS, base, types, now_s, root, creating, True)


def decode_paths(payload: bytes, root: str = "") -> tuple[Path, ...]:
    """The paths of a composite request's body. Raises what `senml.read_paths` raises."""
    return read_paths(load(payload), JSON_LABELS, root)


def decode_fetch(payload: bytes, root: str = "") -> tuple[Path, ...]:
    """The paths of a fetch pack (RFC 8790 3.1). Raises what `senml.read_paths` raises."""
    return read_paths(load(payload), JSON_LABELS, root, fetch=True)


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as a pack. Raises `EncodeError`, also for NaN and infinities, which JSON does not have."""
    return _write_pack(build_records(content, base, types, ContentFormat.SENML_JSON, root), content)


def encode_patch(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as a patch pack: what is removed has null as its value. Raises `EncodeError`."""
    return _write_pack(build_records(content, base, types, ContentFormat.SENML_ETCH_JSON, root), content)


def encode_paths(paths: Iterable[Path], root: str = "") -> bytes:
    """The body of a composite request that names ``paths``, which is a fetch pack as well. Raises `EncodeError`."""
    return _write_pack(build_path_records(paths, ContentFormat.SENML_JSON, root), Content())


def _parse_float(text: str) -> float | Decimal:
    try:
        return parse_decimal(text)
    except InvalidOperation:
        raise ValueError("number beyond any range") from None


_decoder = msgspec.json.Decoder(float_hook=_parse_float)


def load(payload: bytes) -> Any:
    """A JSON document; numbers that a float would change arrive as Decimal. Raises `Malformed`."""
    try:
        document = _decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed("JSON", str(error)[:200]) from None
    # The parser keeps the last of two members of one name. There are as many colons as members, unless a text or an
    # inner object holds some: only then a slower look is needed.
    try:
        members = sum(map(len, document)) if type(document) is list else len(document)
    except TypeError:
        return document  # something in it is no record: that is for the reader to say
    if payload.count(b":") != members and len(_MEMBER.findall(payload)) != members:
        _refuse_repeated_members(payload)
    return document


_MEMBER: Final = re.compile(rb'"[ \t\r\n]*+:')


def _refuse_repeated_members(payload: bytes) -> None:
    def check(members: list[tuple[str, Any]]) -> None:
        seen = set()
        for name, _ in members:
            if name in seen:
                raise Malformed("JSON", f"the member {name[:20]!r} comes twice in one object")
            seen.add(name)

    try:
        # Numbers are left as they are: nothing in here looks at them.
        json.loads(payload, object_pairs_hook=check, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise Malformed("JSON", str(error)[:200]) from None


def _write_pack(records: list[Record], content: Content) -> bytes:
    pack = []
    for index, (base_name, base_time, name, time, value, removes) in enumerate(records):
        record: dict[str, str | int | float | bool | None] = {}
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
                path = content.entries[index - len(content.removed)].path
                raise EncodeError(ContentFormat.SENML_JSON, path, f"JSON has no {value}")
            record["v"] = value
        elif isinstance(value, ObjectLink):
            record["vlo"] = str(value)
        elif isinstance(value, bytes):
            record["vd"] = write_base64url(value)
        elif value is not None:
            record["vs"] = value
        elif removes:
            record["v"] = None
        pack.append(record)
    try:
        return msgspec.json.encode(pack)
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.SENML_JSON, None, "text that is no Unicode") from None
