"""An operation as JSON text, for the command's row, and back."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from stellwerk.lwm2m.content import Content, Entry
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
from stellwerk.lwm2m.value import ObjectLink, Value


def encode_operation(operation: Operation) -> str:
    """Compact JSON with the member ``op`` naming the operation. What is empty or has its usual value is left out of
    members that came later than the first rows."""
    record: dict[str, Any] = {"op": type(operation).__name__, "path": str(operation.path)}
    match operation:
        case Read(accept=accept):
            record["accept"] = accept
        case CancelObservation(accept=accept, passive=passive, attributes=attributes):
            record["accept"] = accept
            record |= _given(passive=passive, attributes=_encode_attributes(attributes))
        case Observe(accept=accept, attributes=attributes):
            record["accept"] = accept
            record |= _given(attributes=_encode_attributes(attributes))
        case Discover(depth=depth):
            record["depth"] = depth
        case Write(content=content, replace=replace, content_format=content_format):
            record |= {"content": _encode_content(content), "replace": replace, "format": content_format}
        case WriteAttributes(attributes=attributes):
            record["attributes"] = _encode_attributes(attributes)
        case Execute(arguments=arguments):
            record["arguments"] = arguments
        case Create(content=content, content_format=content_format):
            record |= {"content": _encode_content(content), "format": content_format}
        case Delete():
            pass
        case ReadComposite(accept=accept, content_format=content_format):
            record |= {"accept": accept, "format": content_format}
        case ObserveComposite(accept=accept, content_format=content_format, attributes=attributes):
            record |= {"accept": accept, "format": content_format}
            record |= _given(attributes=_encode_attributes(attributes))
        case CancelComposite(accept=accept, content_format=content_format, passive=passive):
            record |= {"accept": accept, "format": content_format, **_given(passive=passive)}
        case WriteComposite(content=content, content_format=content_format):
            record |= {"content": _encode_content(content), "format": content_format}
        case _:
            assert_never(operation)
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def decode_operation(text: str) -> Operation:
    """The inverse of `encode_operation`. Raises ValueError, KeyError, `PathError` or `PathListError` on anything
    else."""
    record = json.loads(text)
    name, where = record["op"], record["path"]
    attributes = _decode_attributes(record.get("attributes", ()))
    match name:
        case "ReadComposite":
            return ReadComposite(Paths.parse(where), record["accept"], record["format"])
        case "ObserveComposite":
            return ObserveComposite(Paths.parse(where), record["accept"], record["format"], attributes)
        case "CancelComposite":
            return CancelComposite(Paths.parse(where), record["accept"], record["format"], record.get("passive", False))
        case "WriteComposite":
            return WriteComposite(_decode_content(record["content"]), record["format"])
    path = Path.parse(where)
    match name:
        case "Read":
            return Read(path, record["accept"])
        case "Observe":
            return Observe(path, record["accept"], attributes)
        case "CancelObservation":
            return CancelObservation(path, record["accept"], record.get("passive", False), attributes)
        case "Discover":
            return Discover(path, record["depth"])
        case "Write":
            return Write(path, _decode_content(record["content"]), record["replace"], record["format"])
        case "WriteAttributes":
            return WriteAttributes(path, attributes)
        case "Execute":
            return Execute(path, record["arguments"])
        case "Create":
            return Create(path, _decode_content(record["content"]), record["format"])
        case "Delete":
            return Delete(path)
        case other:
            raise ValueError(f"unknown operation {other!r}")


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _encode_attributes(attributes: Iterable[tuple[str, str | None]]) -> list[list[str | None]]:
    return [list(each) for each in attributes]


def _decode_attributes(pairs: Iterable[Sequence[str | None]]) -> tuple[tuple[str, str | None], ...]:
    return tuple((str(name), value) for name, value in pairs)


def _encode_content(content: Content) -> dict[str, Any]:
    return {
        "entries": [[str(entry.path), _encode_value(entry.value), entry.time_s] for entry in content.entries],
        "empty": [str(path) for path in content.empty],
        **_given(removed=[str(path) for path in content.removed]),
    }


def _decode_content(record: dict[str, Any]) -> Content:
    entries = tuple(Entry(Path.parse(path), _decode_value(value), time_s) for path, value, time_s in record["entries"])
    removed = tuple(Path.parse(path) for path in record.get("removed", ()))
    return Content(entries, tuple(Path.parse(path) for path in record["empty"]), removed)


def _encode_value(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, ObjectLink):
        return {"link": [value.object_id, value.instance_id]}
    if isinstance(value, float):
        return {"float": repr(value)}
    return value


def _decode_value(value: Any) -> Value:
    if isinstance(value, dict):
        if "bytes" in value:
            return base64.b64decode(value["bytes"])
        if "link" in value:
            return ObjectLink(*value["link"])
        return float(value["float"])
    assert isinstance(value, str | int)
    return value
