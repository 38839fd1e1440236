"""application/vnd.oma.lwm2m+tlv (11542): the hierarchy as type, identifier, length, value (contract §8.2)."""

import struct
from typing import Final

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import (
    BadName,
    EncodeError,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    WrongType,
)
from stellwerk.lwm2m.formats.fit import INT64_MAX, fit_for_sending
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.path import RESERVED, RESERVED_ID, Path, is_reserved
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

_INSTANCE: Final = 0b00
_RESOURCE_INSTANCE: Final = 0b01
_MULTIPLE: Final = 0b10
_RESOURCE: Final = 0b11

_INTEGER_WIDTHS: Final = (1, 2, 4, 8)
_MAX_LENGTH: Final = 2**24 - 1

_Record = tuple[int, int, int, int]
"""Kind, identifier, start and end of the value."""


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The values in ``payload``, which answers for ``base``.

    Resources directly under an object are those of an instance to be created (``creating``) whose identifier the
    receiver chooses, which is written 65535 here; an answer about an object has its instances around them (contract
    §8.2). Raises `Malformed`, `BadName`, `OutsideBase`, `WrongType`, `Repeated`, `LimitExceeded`.
    """
    if not base:
        raise Malformed("TLV", "the root has no TLV form")
    reader = _Reader(payload, base, types, creating)
    object_path = Path(base[0])
    home = Path(*base[:2]) if len(base) > 1 else object_path.child(RESERVED_ID)
    for record in reader.records(0, len(payload)):
        kind, identifier, start, end = record
        if kind == _INSTANCE:
            instance = _below(object_path, identifier)
            if start == end:
                reader.state_empty(instance)
            else:
                reader.open(instance)
            for inner in reader.records(start, end):
                reader.take_resource(instance, inner)
        elif kind == _RESOURCE_INSTANCE:
            if len(base) < 3:
                raise Malformed("TLV", "resource instance outside of a resource", start)
            reader.take_value(_below(Path(*base[:3]), identifier), start, end)
        elif len(base) == 1 and not creating:
            raise Malformed("TLV", f"a resource of {base} outside of an object instance", start)
        else:
            reader.take_resource(home, record)
    if not payload and len(base) in (2, 3):
        reader.empty.append(base)
    return Content(tuple(reader.entries), tuple(reader.empty))


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` in the shortest forms; object instances are wrapped where ``base`` is an object, except for
    instance 65535, whose identifier the receiver shall choose. Raises `EncodeError`."""
    if not base:
        raise EncodeError(ContentFormat.TLV, None, "the root has no TLV form")
    if content.removed:
        raise EncodeError(ContentFormat.TLV, content.removed[0], "it cannot take a resource instance away")
    tree: dict[int, dict[int, _Node]] = {}
    for entry in content.entries:
        path = entry.path
        if not base.covers(path) or len(path) < 3:
            raise EncodeError(ContentFormat.TLV, path, f"it is no resource of {base}")
        if entry.time_s is not None:
            raise EncodeError(ContentFormat.TLV, path, "it has no place for a time")
        data = _write_value(entry.value, types.resource_type(path), path)
        resources = tree.setdefault(path[1], {})
        if len(path) == 3:
            if types.is_multiple(path):
                raise EncodeError(ContentFormat.TLV, path, "a multiple resource has values only in its instances")
            if path[2] in resources:
                raise EncodeError(ContentFormat.TLV, path, "it occurs twice")
            resources[path[2]] = data
            continue
        children = resources.setdefault(path[2], {})
        if not isinstance(children, dict) or path[3] in children:
            raise EncodeError(ContentFormat.TLV, path, "it occurs twice")
        children[path[3]] = data
    for path in content.empty:
        if not base.covers(path) or not 2 <= len(path) <= 3:
            raise EncodeError(ContentFormat.TLV, path, f"it is no instance or multiple resource of {base}")
        resources = tree.setdefault(path[1], {})
        if len(path) == 3:
            resources.setdefault(path[2], {})
    wrapped = len(base) == 1 and list(tree) != [RESERVED_ID]
    parts = []
    for instance_id, resources in tree.items():
        body = b"".join(_write_resource(resource_id, node) for resource_id, node in resources.items())
        parts.append(_write_record(_INSTANCE, instance_id, body) if wrapped else body)
    return b"".join(parts)


_Node = bytes | dict[int, bytes]
"""A single value, or the values of a multiple resource by instance."""


class _Reader:
    """Collects what the records of one payload state."""

    __slots__ = ("_creating", "_data", "_depth", "_opened", "_seen", "_types", "base", "empty", "entries")

    def __init__(self, data: bytes, base: Path, types: Types, creating: bool) -> None:
        self._data, self.base, self._types, self._creating = data, base, types, creating
        self._depth = len(base)
        self._seen: set[Path] = set()
        self._opened: set[Path] = set()
        self.entries: list[Entry] = []
        self.empty: list[Path] = []

    def records(self, offset: int, end: int) -> list[_Record]:
        """The records between two offsets; they fill the space exactly."""
        data, records = self._data, []
        while offset < end:
            start, head = offset, data[offset]
            id_width = 2 if head & 0x20 else 1
            length_width = head >> 3 & 3
            offset += 1 + id_width + length_width
            if offset > end:
                raise Malformed("TLV", "ends in the middle of a header", start)
            identifier = data[start + 1] if id_width == 1 else data[start + 1] << 8 | data[start + 2]
            length = int.from_bytes(data[offset - length_width : offset], "big") if length_width else head & 7
            if length > end - offset:
                raise Malformed("TLV", f"value of {length} bytes runs past the end of what holds it", start)
            records.append((head >> 6, identifier, offset, offset + length))
            if len(records) > MAX_ENTRIES:
                raise LimitExceeded("TLV records", MAX_ENTRIES)
            offset += length
        return records

    def take_resource(self, instance: Path, record: _Record) -> None:
        kind, identifier, start, end = record
        path = _below(instance, identifier)
        if kind == _RESOURCE:
            self.take_value(path, start, end)
        elif kind == _MULTIPLE:
            if start == end:
                self.state_empty(path)
            else:
                self.open(path)
            for inner_kind, inner_id, inner_start, inner_end in self.records(start, end):
                if inner_kind != _RESOURCE_INSTANCE:
                    raise Malformed("TLV", "only resource instances are in a multiple resource", inner_start)
                self.take_value(_below(path, inner_id), inner_start, inner_end)
        else:
            raise Malformed("TLV", "only resources are in an object instance", start)

    def open(self, path: Path) -> None:
        """Values follow of an instance or multiple resource, which comes once."""
        if path in self._opened or path in self._seen:
            raise Repeated(path, None)
        self._opened.add(path)

    def take_value(self, path: Path, start: int, end: int) -> None:
        self._claim(path)
        value = _read_value(self._data[start:end], self._types.resource_type(path), path)
        self.entries.append(tuple.__new__(Entry, (path, value, None)))

    def state_empty(self, path: Path) -> None:
        self._claim(path)
        self.empty.append(path)

    def _claim(self, path: Path) -> None:
        # An instance that is stated empty above a deeper base is as much outside as a neighbour's value.
        if path[: self._depth] != self.base:
            raise OutsideBase(path, self.base)
        if is_reserved(path, creating=self._creating):
            raise BadName(str(path), RESERVED)
        if path in self._seen or path in self._opened:
            raise Repeated(path, None)
        self._seen.add(path)
        if len(self._seen) > MAX_ENTRIES:
            raise LimitExceeded("values", MAX_ENTRIES)


def _below(path: Path, identifier: int) -> Path:
    """`Path.child` without its checks: a header cannot hold an identifier out of range."""
    return tuple.__new__(Path, (*path, identifier))


def _read_value(data: bytes, kind: ResourceType | None, path: Path) -> Value:
    length = len(data)
    if kind is ResourceType.STRING or kind is ResourceType.CORELNK:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise WrongType(path, kind.value, "bytes that are not UTF-8") from None
    if kind is ResourceType.INTEGER or kind is ResourceType.TIME:
        if length in _INTEGER_WIDTHS:
            return int.from_bytes(data, "big", signed=True)
    elif kind is ResourceType.UNSIGNED:
        if length in _INTEGER_WIDTHS:
            return int.from_bytes(data, "big")
    elif kind is ResourceType.FLOAT:
        if length == 4:
            return float(struct.unpack(">f", data)[0])
        if length == 8:
            return float(struct.unpack(">d", data)[0])
    elif kind is ResourceType.BOOLEAN:
        if data == b"\x00" or data == b"\x01":
            return data == b"\x01"
    elif kind is ResourceType.OBJLNK:
        if length == 4:
            return ObjectLink(*struct.unpack(">HH", data))
    else:
        return data
    raise WrongType(path, kind.value, f"{length} bytes")


def _write_value(value: Value, kind: ResourceType | None, path: Path) -> bytes:
    value = fit_for_sending(value, kind, path, ContentFormat.TLV)
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, int):
        return _write_integer(value, signed=kind is not ResourceType.UNSIGNED and value <= INT64_MAX)
    if isinstance(value, float):
        try:
            single = struct.pack(">f", value)
        except OverflowError:
            return struct.pack(">d", value)
        return single if value != value or struct.unpack(">f", single)[0] == value else struct.pack(">d", value)
    if isinstance(value, ObjectLink):
        return struct.pack(">HH", *value)
    if isinstance(value, bytes):
        return value
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.TLV, path, "text that is no Unicode") from None


def _write_integer(value: int, *, signed: bool) -> bytes:
    bits = value.bit_length() if not signed else (value if value >= 0 else ~value).bit_length() + 1
    width = 1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8
    return value.to_bytes(width, "big", signed=signed)


def _write_resource(resource_id: int, node: _Node) -> bytes:
    if isinstance(node, bytes):
        return _write_record(_RESOURCE, resource_id, node)
    body = b"".join(_write_record(_RESOURCE_INSTANCE, each, data) for each, data in node.items())
    return _write_record(_MULTIPLE, resource_id, body)


def _write_record(kind: int, identifier: int, value: bytes) -> bytes:
    length = len(value)
    head = kind << 6
    if identifier > 0xFF:
        head |= 0x20
        name = identifier.to_bytes(2, "big")
    else:
        name = identifier.to_bytes(1, "big")
    if length < 8:
        return bytes((head | length,)) + name + value
    width = 1 if length <= 0xFF else 2 if length <= 0xFFFF else 3
    if length > _MAX_LENGTH:
        raise EncodeError(ContentFormat.TLV, None, f"{length} bytes are more than a TLV length can say")
    return bytes((head | width << 3,)) + name + length.to_bytes(width, "big") + value
