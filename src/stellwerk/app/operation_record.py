"""An operation as JSON text, for the command's row, and back."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from stellwerk.lwm2m.content import Content, Entry
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
from stellwerk.lwm2m.value import ObjectLink, Value


def encode_operation(operation: Operation) -> str:
    """Compact JSON with the member ``op`` naming the operation."""
    record: dict[str, Any] = {"op": type(operation).__name__, "path": str(operation.path)}
    match operation:
        case Read(accept=accept) | CancelObservation(accept=accept):
            record["accept"] = accept
        case Observe(accept=accept, attributes=attributes):
            record["accept"] = accept
            if attributes:
                record["attributes"] = [list(each) for each in attributes]
        case Discover(depth=depth):
            record["depth"] = depth
        case Write(content=content, replace=replace, content_format=content_format):
            record |= {"content": _encode_content(content), "replace": replace, "format": content_format}
        case WriteAttributes(attributes=attributes):
            record["attributes"] = [list(each) for each in attributes]
        case Execute(arguments=arguments):
            record["arguments"] = arguments
        case Create(content=content, content_format=content_format):
            record |= {"content": _encode_content(content), "format": content_format}
        case Delete():
            pass
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def decode_operation(text: str) -> Operation:
    """The inverse of `encode_operation`. Raises ValueError, KeyError or `PathError` on anything else."""
    record = json.loads(text)
    path = Path.parse(record["path"])
    match record["op"]:
        case "Read":
            return Read(path, record["accept"])
        case "Observe":
            return Observe(path, record["accept"], _decode_attributes(record.get("attributes", ())))
        case "CancelObservation":
            return CancelObservation(path, record["accept"])
        case "Discover":
            return Discover(path, record["depth"])
        case "Write":
            return Write(path, _decode_content(record["content"]), record["replace"], record["format"])
        case "WriteAttributes":
            return WriteAttributes(path, _decode_attributes(record["attributes"]))
        case "Execute":
            return Execute(path, record["arguments"])
        case "Create":
            return Create(path, _decode_content(record["content"]), record["format"])
        case "Delete":
            return Delete(path)
        case other:
            raise ValueError(f"unknown operation {other!r}")


def _decode_attributes(pairs: Iterable[Sequence[str | None]]) -> tuple[tuple[str, str | None], ...]:
    return tuple((str(name), value) for name, value in pairs)


def _encode_content(content: Content) -> dict[str, Any]:
    return {
        "entries": [[str(entry.path), _encode_value(entry.value), entry.time_s] for entry in content.entries],
        "empty": [str(path) for path in content.empty],
    }


def _decode_content(record: dict[str, Any]) -> Content:
    entries = tuple(Entry(Path.parse(path), _decode_value(value), time_s) for path, value, time_s in record["entries"])
    return Content(entries, tuple(Path.parse(path) for path in record["empty"]))


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
