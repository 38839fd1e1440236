"""application/vnd.oma.lwm2m+json (11543): LwM2M 1.0's JSON (contract §8.6). Later clients are never sent it."""

import base64
import math
from typing import Any, Final

import msgspec

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats import senml_json
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError, LimitExceeded, Malformed
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.formats.senml import JSON_LABELS, read_pack
from stellwerk.lwm2m.formats.senml_writing import build_records
from stellwerk.lwm2m.path import Path, PathError, parse_path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

_VALUES: Final = {"v": "v", "sv": "vs", "bv": "vb", "ov": "vlo"}


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The values of the document ``payload``; without a base name, names are relative to ``base``.

    Raises what `senml.read_pack` raises.
    """
    return _read(senml_json.load(payload), base, types, now_s, root, creating)


def decode_either(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """A payload labelled as plain JSON: a SenML pack or a document of 11543 by its shape."""
    document = senml_json.load(payload)
    if type(document) is list:
        return read_pack(document, JSON_LABELS, base, types, now_s, root, creating)
    return _read(document, base, types, now_s, root, creating)


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as a document; an empty resource beside others has no place. Raises `EncodeError`, also for NaN and
    infinities."""
    elements = []
    document: dict[str, Any] = {}
    stem = ""
    for index, record in enumerate(build_records(content, base, types, ContentFormat.LWM2M_JSON, root)):
        if index == 0:
            document["bn"] = stem = record.base_name or root + "/"
            if record.base_time is not None:
                document["bt"] = record.base_time
        element: dict[str, Any] = {}
        if name := (record.name or "").removeprefix(stem).removeprefix("/"):
            element["n"] = name
        if record.time is not None:
            element["t"] = record.time
        assert record.value is not None
        label, value = _write_value(record.value, content.entries[index].path)
        elements.append({**element, label: value})
    try:
        return msgspec.json.encode({**(document or {"bn": root + str(base)}), "e": elements})
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.LWM2M_JSON, None, "text that is no Unicode") from None


def _write_value(value: Value, path: Path) -> tuple[str, str | int | float | bool]:
    if isinstance(value, bool):
        return "bv", value
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise EncodeError(ContentFormat.LWM2M_JSON, path, f"JSON has no {value}")
        return "v", value
    if isinstance(value, ObjectLink):
        return "ov", str(value)
    if isinstance(value, bytes):
        return "sv", base64.b64encode(value).decode()
    return "sv", value


def _read(document: Any, base: Path, types: Types, now_s: float | None, root: str, creating: bool) -> Content:
    """The document says what a SenML pack could, so it is read as one."""
    if type(document) is not dict or type(document.get("e")) is not list:
        raise Malformed("LwM2M JSON", "a document is an object with an array e")
    base_name = document.get("bn", root + str(base))
    if type(base_name) is not str:
        raise Malformed("LwM2M JSON", "a name is text")
    if len(document["e"]) > MAX_ENTRIES:
        raise LimitExceeded("elements", MAX_ENTRIES)
    pack = []
    for element in document["e"]:
        if type(element) is not dict:
            raise Malformed("LwM2M JSON", "an element is an object")
        name = element.get("n", "")
        if type(name) is not str:
            raise Malformed("LwM2M JSON", "a name is text")
        # "/3/0" + "9" and "/3/0/" + "9" are both seen; the slash between them is beyond doubt.
        stem = base_name.rstrip("/") + "/" if name and not name.startswith("/") else base_name.removesuffix("/")
        record: dict[str, Any] = {"n": stem + name}
        if "t" in element:
            record["t"] = element["t"]
        for own, label in _VALUES.items():
            if own in element:
                opaque = own == "sv" and _is_opaque(record["n"], root, types)
                record["vd" if opaque else label] = element[own]
        pack.append(record)
    if pack and "bt" in document:
        pack[0]["bt"] = document["bt"]
    return read_pack(pack, JSON_LABELS, base, types, now_s, root, creating)


def _is_opaque(name: str, root: str, types: Types) -> bool:
    """Whether ``name`` is an Opaque resource, whose value is base64 in ``sv`` where SenML has a field of its own."""
    try:
        path = parse_path(name.removeprefix(root))
    except PathError:
        return False
    return len(path) > 2 and types.resource_type(path) is ResourceType.OPAQUE
