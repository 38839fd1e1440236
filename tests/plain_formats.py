"""The data formats by other means than ours: cbor2, json and a few lines of TLV. What both agree on is on the wire.

A payload is described as {path: value} with values as `lwm2m.value` has them; ``kinds`` says what TLV bytes and JSON
numbers mean, as the model of a client would.
"""

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

import cbor2

from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

Values = Mapping[Path, Value]
T = ResourceType


def write(number: int, base: Path, values: Values, kind: ResourceType, time_s: float | None = None) -> bytes:
    """``values``, all of ``kind``, as a device might send them; SenML with the time of all of them."""
    if number in (0, 1541):
        (value,) = values.values()
        return _write_text(value)
    if number == 42:
        (value,) = values.values()
        assert isinstance(value, bytes)
        return value
    if number == 60:
        (value,) = values.values()
        return cbor2.dumps(_cbor(value))
    if number == 112:
        labels = {"n": 0, "v": 2, "vs": 3, "vb": 4, "t": 6, "vd": 8}
        pack = [{labels.get(key, key): each for key, each in record.items()} for record in _records(values, time_s)]
        return cbor2.dumps(pack)
    if number == 110:
        pack = _records(values, time_s)
        for record in pack:
            if "vd" in record:
                record["vd"] = base64.urlsafe_b64encode(record["vd"]).decode().rstrip("=")
        return json.dumps(pack, ensure_ascii=False).encode()
    if number == 11543:
        names = {"vs": "sv", "vb": "bv", "vlo": "ov"}
        elements = []
        for record in _records(values, time_s):
            if "vd" in record:
                record["sv"] = base64.b64encode(record.pop("vd")).decode()
            record["n"] = record["n"].removeprefix("/")
            elements.append({names.get(key, key): each for key, each in record.items()})
        return json.dumps({"bn": "/", "e": elements}).encode()
    if number == 11544:
        tree: dict[Any, Any] = {}
        for path, value in values.items():
            branch = tree
            for each in path[:-1]:
                branch = branch.setdefault(each, {})
            branch[path[-1]] = _cbor(value)
        return cbor2.dumps(tree)
    assert number in (11542, 1542)
    return _write_tlv(base, values, kind)


def read(number: int, base: Path, payload: bytes, kind: ResourceType) -> dict[Path, Value]:
    """What a device of another make understands."""
    if number == 0:
        return {base: _read_text(payload.decode(), kind)}
    if number == 42:
        return {base: payload}
    if number == 60:
        return {base: _typed(cbor2.loads(payload, tag_hook=_untagged) if payload[0] != 0xC1 else _epoch(payload), kind)}
    if number == 112:
        names = {-2: "bn", 0: "n", 2: "v", 3: "vs", 4: "vb", 8: "vd"}
        return _read_pack([{names.get(k, k): v for k, v in each.items()} for each in cbor2.loads(payload)], kind)
    if number == 110:
        return _read_pack(json.loads(payload), kind)
    if number == 11543:
        document = json.loads(payload)
        names = {"sv": "vd" if kind is T.OPAQUE else "vs", "bv": "vb", "ov": "vlo"}
        stem = document["bn"]
        pack = []
        for element in document["e"]:
            name = element.pop("n", None)
            full = stem if name is None else stem.rstrip("/") + "/" + name
            pack.append({"n": full, **{names.get(k, k): v for k, v in element.items()}})
        return _read_pack(pack, kind)
    if number == 11544:
        return {Path(*keys): _typed(leaf, kind) for keys, leaf in _leaves(cbor2.loads(payload), ())}
    assert number == 11542
    return _read_tlv(base, payload, kind)


def _cbor(value: Value) -> Any:
    return str(value) if isinstance(value, ObjectLink) else value


def _records(values: Values, time_s: float | None) -> list[dict[str, Any]]:
    found = []
    for path, value in values.items():
        match value:
            case ObjectLink():
                record: dict[str, Any] = {"n": str(path), "vlo": str(value)}
            case bool():
                record = {"n": str(path), "vb": value}
            case int() | float():
                record = {"n": str(path), "v": value}
            case bytes():
                record = {"n": str(path), "vd": value}
            case _:
                record = {"n": str(path), "vs": value}
        if time_s is not None:
            record["t"] = time_s
        found.append(record)
    return found


def _read_pack(pack: list[dict[str, Any]], kind: ResourceType) -> dict[Path, Value]:
    found = {}
    stem = ""
    for record in pack:
        stem = record.get("bn", stem)
        (label,) = record.keys() & {"v", "vs", "vb", "vd", "vlo"}
        wanted = {T.STRING: "vs", T.CORELNK: "vs", T.BOOLEAN: "vb", T.OPAQUE: "vd", T.OBJLNK: "vlo"}.get(kind, "v")
        assert label == wanted
        found[Path.parse(stem + record.get("n", ""))] = _typed(record[label], kind)
    return found


def _typed(raw: Any, kind: ResourceType) -> Value:
    if kind is T.OPAQUE and isinstance(raw, str):
        padding = "=" * (-len(raw) % 4)
        return base64.urlsafe_b64decode(raw.replace("+", "-").replace("/", "_") + padding)
    if kind is T.OBJLNK:
        return ObjectLink(*map(int, raw.split(":")))
    if kind is T.FLOAT:
        assert isinstance(raw, int | float)
        return float(raw)
    wanted = {T.STRING: str, T.CORELNK: str, T.BOOLEAN: bool, T.OPAQUE: bytes}.get(kind, int)
    assert type(raw) is wanted, raw
    return raw


def _untagged(_: Any, tag: Any) -> Any:
    return tag.value


def _epoch(payload: bytes) -> Any:
    """Tag 1 by hand: cbor2 makes a datetime of it, which knows no far times."""
    return cbor2.loads(payload[1:])


def _leaves(tree: dict[Any, Any], above: tuple[int, ...]) -> list[tuple[tuple[int, ...], Any]]:
    found = []
    for key, item in tree.items():
        keys = above + (tuple(key) if isinstance(key, tuple | list) else (key,))
        found += _leaves(item, keys) if isinstance(item, dict) else [(keys, item)]
    return found


def _write_text(value: Value) -> bytes:
    match value:
        case bool():
            return b"1" if value else b"0"
        case bytes():
            return base64.b64encode(value)
        case float():
            return repr(value).encode()
        case _:
            return str(value).encode()


def _read_text(text: str, kind: ResourceType) -> Value:
    match kind:
        case T.BOOLEAN:
            return {"0": False, "1": True}[text]
        case T.OPAQUE:
            return base64.b64decode(text, validate=True)
        case T.FLOAT:
            assert "e" not in text.lower()
            return float(text)
        case T.OBJLNK:
            return ObjectLink(*map(int, text.split(":")))
        case T.STRING | T.CORELNK:
            return text
        case _:
            return int(text)


def _record(kind: int, identifier: int, value: bytes) -> bytes:
    head = bytes((kind << 6 | 0b111000,)) + identifier.to_bytes(2, "big") + len(value).to_bytes(3, "big")
    return head + value


def _write_tlv(base: Path, values: Values, kind: ResourceType) -> bytes:
    """In the longest forms there are, wrapped in the instance where the object was asked for."""
    resources: dict[int, dict[int, bytes] | bytes] = {}
    for path, value in values.items():
        match value:
            case bool():
                data = bytes((value,))
            case ObjectLink():
                data = struct.pack(">HH", *value)
            case int():
                data = struct.pack(">Q" if kind is T.UNSIGNED else ">q", value)
            case float():
                data = struct.pack(">d", value)
            case bytes():
                data = value
            case _:
                data = value.encode()
        if len(path) == 3:
            resources[path[2]] = data
        else:
            inner = resources.setdefault(path[2], {})
            assert isinstance(inner, dict)
            inner[path[3]] = data
    body = b""
    for identifier, item in resources.items():
        if isinstance(item, bytes):
            body += _record(3, identifier, item)
        else:
            body += _record(2, identifier, b"".join(_record(1, each, data) for each, data in item.items()))
    return _record(0, next(iter(values))[1], body) if len(base) == 1 else body


def _read_tlv(base: Path, payload: bytes, kind: ResourceType) -> dict[Path, Value]:
    found: dict[Path, Value] = {}
    for what, identifier, value in _tlv_records(payload):
        if what == 0:
            found |= _read_tlv(Path(base[0], identifier), value, kind)
        elif what == 3:
            found[Path(*base[:2], identifier)] = _tlv_value(value, kind)
        elif what == 2:
            for inner, instance, data in _tlv_records(value):
                assert inner == 1
                found[Path(*base[:2], identifier, instance)] = _tlv_value(data, kind)
        else:
            found[Path(*base[:3], identifier)] = _tlv_value(value, kind)
    return found


def _tlv_records(payload: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    at = 0
    while at < len(payload):
        head = payload[at]
        id_end = at + (3 if head & 0x20 else 2)
        identifier = int.from_bytes(payload[at + 1 : id_end], "big")
        width = head >> 3 & 3
        length = int.from_bytes(payload[id_end : id_end + width], "big") if width else head & 7
        at = id_end + width + length
        assert at <= len(payload)
        found.append((head >> 6, identifier, payload[id_end + width : at]))
    return found


def _tlv_value(data: bytes, kind: ResourceType) -> Value:
    match kind:
        case T.STRING | T.CORELNK:
            return data.decode()
        case T.BOOLEAN:
            return {b"\x00": False, b"\x01": True}[data]
        case T.OPAQUE:
            return data
        case T.OBJLNK:
            return ObjectLink(*struct.unpack(">HH", data))
        case T.FLOAT:
            return float(struct.unpack({4: ">f", 8: ">d"}[len(data)], data)[0])
        case _:
            assert len(data) in (1, 2, 4, 8)
            return int.from_bytes(data, "big", signed=kind is not T.UNSIGNED)
