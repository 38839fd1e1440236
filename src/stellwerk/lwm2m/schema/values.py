"""What people and programs write becomes a typed value: command text and JSON literals (contract D-5, §8.1)."""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import MAX_ID, Path
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.schema.model import ResourceModel
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

Literal: TypeAlias = str | int | float | bool | Mapping[str, "Literal"] | list["Literal"] | None
"""What `json.loads` gives."""

_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)

_INTEGER: Final = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_PLAIN_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,18})", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,4})?", re.ASCII)
_PLAIN_FLOAT: Final = re.compile(r"-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LINK: Final = re.compile(r"(\d{1,5}):(\d{1,5})", re.ASCII)
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


class ValueRefused(UserError):
    """``literal`` cannot be the value of ``path``; ``reason`` says why and what would be right."""

    def __init__(self, path: Path, literal: object, reason: str, name: str = "") -> None:
        self.path, self.literal, self.reason = path, literal, reason
        super().__init__(f"{path} {name}: {reason}" if name else f"{path}: {reason}")


class _Wrong(Exception):
    """The reason why a literal is not of its type; always caught here."""


def parse_text_value(types: DeviceTypes, path: Path, text: str) -> Value:
    """The value that the text of a command (``WRITE /1/0/1 60``) stands for at a resource or resource instance.

    A known resource decides: Boolean is true, false, 1 or 0; Opaque is base64, or hexadecimal behind ``hex:``; Objlnk
    is ``10:3``; Time is seconds since 1970 or ISO 8601 with its offset. Elsewhere true and false, and numbers as
    JSON writes them, become Boolean, Integer and Float (so ``007`` and ``+49`` stay text); the rest is String.
    Raises `ValueRefused`.
    """
    resource = _resource(types, path, text)
    if resource is None:
        return _guess(text)
    return _typed(resource, path, text, text)


def parse_json_value(types: DeviceTypes, path: Path, literal: Literal) -> Value:
    """The value that a JSON literal stands for at a resource or resource instance.

    Texts are read as in `parse_text_value` where the resource is known and stay text elsewhere; Opaque may also be
    ``{"base64": ...}`` or ``{"hex": ...}``, Objlnk ``{"object_id": 10, "instance_id": 3}``. Raises `ValueRefused`.
    """
    resource = _resource(types, path, literal)
    if resource is None:
        return _untyped(path, literal)
    return _typed(resource, path, literal, literal)


def parse_entries(types: DeviceTypes, path: Path, literal: Literal) -> tuple[Entry, ...]:
    """The values to write at ``path``: an instance takes ``{"5750": "boiler"}``, a multiple resource ``{"0": 1}`` or
    a list (numbered from 0), anything else a single literal. Raises `ValueRefused`."""
    if len(path) == 2:
        if not isinstance(literal, Mapping) or not literal:
            raise ValueRefused(path, literal, 'an instance is written as an object of resources, {"0": ...}')
        return tuple(
            entry
            for key, each in literal.items()
            for entry in parse_entries(types, path.child(_identifier(path, key)), each)
        )
    if len(path) == 3:
        instances = _instances(types, path, literal)
        if instances is not None:
            return tuple(
                Entry(path.child(each), parse_json_value(types, path.child(each), value))
                for each, value in instances.items()
            )
    return (Entry(path, parse_json_value(types, path, literal)),)


def objection_to_value(resource: ResourceModel, value: Value) -> str | None:
    """Why a value is not one of ``resource`` (wrong Python type, beyond 64 bits, out of range), or None."""
    try:
        _check_kind(resource.type, value)
        _check_range(resource, value)
    except _Wrong as wrong:
        return str(wrong)
    return None


def _resource(types: DeviceTypes, path: Path, literal: object) -> ResourceModel | None:
    if len(path) < 3:
        raise ValueRefused(path, literal, "a single value needs the path of a resource, such as /3/0/13")
    resource = types.resource(path)
    if resource is None:
        return None
    if resource.multiple and len(path) == 3:
        reason = f'has resource instances; write {path}/0, or an object of them, {{"0": ...}}'
        raise ValueRefused(path, literal, reason, resource.name)
    if not resource.multiple and len(path) == 4:
        raise ValueRefused(path, literal, f"has no resource instances; write {path.parent}", resource.name)
    return resource


def _instances(types: DeviceTypes, path: Path, literal: Literal) -> dict[int, Literal] | None:
    resource = types.resource(path)
    if resource is not None and not resource.multiple:
        return None
    if isinstance(literal, list):
        return dict(enumerate(literal))
    if not isinstance(literal, Mapping):
        return None
    if resource is None and not all(_is_identifier(key) for key in literal):
        return None  # {"hex": ...} of a resource that no model knows
    return {_identifier(path, key): each for key, each in literal.items()}


def _is_identifier(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) <= 5 and int(key) <= MAX_ID


def _identifier(path: Path, key: str) -> int:
    if not _is_identifier(key):
        raise ValueRefused(path, key, f"{key!r} is not an identifier in 0..{MAX_ID}")
    return int(key)


def _typed(resource: ResourceModel, path: Path, literal: Literal, given: object) -> Value:
    try:
        value = _READERS[resource.type](literal)
        _check_kind(resource.type, value)
        _check_range(resource, value)
    except _Wrong as wrong:
        raise ValueRefused(path, given, str(wrong), resource.name) from None
    return value


def _check_range(resource: ResourceModel, value: Value) -> None:
    if resource.range is not None and not resource.range.admits(value):
        what = repr(value) if isinstance(value, int | float) else f"a length of {len(value)}"
        raise _Wrong(f"{what} is outside {resource.range}")


def _check_kind(kind: ResourceType, value: Value) -> None:
    match kind:
        case ResourceType.STRING | ResourceType.CORELNK:
            fits = isinstance(value, str)
        case ResourceType.INTEGER | ResourceType.TIME:
            fits = isinstance(value, int) and not isinstance(value, bool) and value in _INT64
        case ResourceType.UNSIGNED:
            fits = isinstance(value, int) and not isinstance(value, bool) and value in _UINT64
        case ResourceType.FLOAT:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        case ResourceType.BOOLEAN:
            fits = isinstance(value, bool)
        case ResourceType.OPAQUE:
            fits = isinstance(value, bytes)
        case ResourceType.OBJLNK:
            fits = isinstance(value, ObjectLink)
        case ResourceType.NONE:
            fits = False
    if not fits:
        raise _wrong(value, kind)


_HINTS: Final = {
    ResourceType.STRING: "text",
    ResourceType.CORELNK: "link-format text such as </3/0>",
    ResourceType.INTEGER: "a whole number of at most 64 bits, such as 60",
    ResourceType.UNSIGNED: "a whole number from 0 to 2^64-1, such as 60",
    ResourceType.FLOAT: "a number, such as 21.5",
    ResourceType.BOOLEAN: "true or false",
    ResourceType.OPAQUE: "base64, or hexadecimal as hex:cafe",
    ResourceType.OBJLNK: "object:instance, such as 10:3",
    ResourceType.TIME: "whole seconds since 1970, or 2030-01-31T12:00:00Z",
    ResourceType.NONE: "nothing: the resource is executed, it has no value",
}


def _wrong(literal: object, kind: ResourceType) -> _Wrong:
    shown = repr(literal)
    if len(shown) > 64:
        shown = shown[:60] + "..."
    return _Wrong(f"{shown} is not {kind.value or 'possible'}; right is {_HINTS[kind]}")


def _read_string(literal: Literal) -> Value:
    if not isinstance(literal, str) or not _is_utf8(literal):
        raise _wrong(literal, ResourceType.STRING)
    return literal


def _read_corelnk(literal: Literal) -> Value:
    if not isinstance(literal, str) or not _is_utf8(literal):
        raise _wrong(literal, ResourceType.CORELNK)
    return literal


def _read_whole(literal: Literal, kind: ResourceType) -> int:
    if isinstance(literal, str) and _INTEGER.fullmatch(bare := literal.strip()):
        return int(bare)
    if isinstance(literal, float) and literal.is_integer():
        return int(literal)
    if isinstance(literal, int) and not isinstance(literal, bool):
        return literal
    raise _wrong(literal, kind)


def _read_time(literal: Literal) -> Value:
    if isinstance(literal, str) and "-" in literal[1:]:
        try:
            moment = datetime.fromisoformat(literal.strip())
        except ValueError:
            raise _wrong(literal, ResourceType.TIME) from None
        if moment.tzinfo is None:
            raise _Wrong(f"{literal!r} does not say its offset from UTC; end it with Z or +01:00")
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _SECOND
    return _read_whole(literal, ResourceType.TIME)


_SECOND: Final = datetime(1970, 1, 1, 0, 0, 1) - datetime(1970, 1, 1)


def _read_float(literal: Literal) -> Value:
    if isinstance(literal, str):
        if not _FLOAT.fullmatch(bare := literal.strip()):
            raise _wrong(literal, ResourceType.FLOAT)
        number = float(bare)
    elif isinstance(literal, int | float) and not isinstance(literal, bool):
        try:
            number = float(literal)
        except OverflowError:
            raise _wrong(literal, ResourceType.FLOAT) from None
    else:
        raise _wrong(literal, ResourceType.FLOAT)
    if not math.isfinite(number):
        raise _wrong(literal, ResourceType.FLOAT)
    return number


def _read_boolean(literal: Literal) -> Value:
    if isinstance(literal, bool):
        return literal
    if isinstance(literal, str) and (value := _BOOLEANS.get(literal.strip().lower())) is not None:
        return value
    if isinstance(literal, int) and literal in (0, 1):
        return bool(literal)
    raise _wrong(literal, ResourceType.BOOLEAN)


def _read_opaque(literal: Literal) -> Value:
    match literal:
        case {"hex": str(text), **rest} if not rest:
            octets = _from_hex(text)
        case {"base64": str(text), **rest} if not rest:
            octets = _from_base64(text)
        case str(text) if text.startswith("hex:"):
            octets = _from_hex(text[4:])
        case str(text):
            octets = _from_base64(text)
        case _:
            octets = None
    if octets is None:
        raise _wrong(literal, ResourceType.OPAQUE)
    return octets


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _from_base64(text: str) -> bytes | None:
    """Both alphabets, padded or not (contract §8.1: accept both)."""
    bare = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _read_objlnk(literal: Literal) -> Value:
    match literal:
        case str(text) if match := _LINK.fullmatch(text.strip()):
            numbers = int(match[1]), int(match[2])
        case {"object_id": int(target), "instance_id": int(instance), **rest} if not rest:
            numbers = target, instance
        case _:
            raise _wrong(literal, ResourceType.OBJLNK)
    # 65535 is an identifier here alone: 65535:65535 is the null link (contract §8.1).
    if not all(0 <= each <= 0xFFFF for each in numbers):
        raise _wrong(literal, ResourceType.OBJLNK)
    return ObjectLink(*numbers)


def _read_nothing(literal: Literal) -> Value:
    raise _wrong(literal, ResourceType.NONE)


_READERS: Final[Mapping[ResourceType, Callable[[Literal], Value]]] = {
    ResourceType.STRING: _read_string,
    ResourceType.CORELNK: _read_corelnk,
    ResourceType.INTEGER: lambda literal: _read_whole(literal, ResourceType.INTEGER),
    ResourceType.UNSIGNED: lambda literal: _read_whole(literal, ResourceType.UNSIGNED),
    ResourceType.TIME: _read_time,
    ResourceType.FLOAT: _read_float,
    ResourceType.BOOLEAN: _read_boolean,
    ResourceType.OPAQUE: _read_opaque,
    ResourceType.OBJLNK: _read_objlnk,
    ResourceType.NONE: _read_nothing,
}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _guess(text: str) -> Value:
    word = text.strip()
    if word in ("true", "false"):
        return word == "true"
    if _PLAIN_INTEGER.fullmatch(word) and int(word) in _INT64:
        return int(word)
    if _PLAIN_FLOAT.fullmatch(word) and math.isfinite(number := float(word)):
        return number
    return text


def _untyped(path: Path, literal: Literal) -> Value:
    match literal:
        case bool() | int() | float():
            if isinstance(literal, int) and literal not in _INT64 and literal not in _UINT64:
                raise ValueRefused(path, literal, "is beyond 64 bits")
            if isinstance(literal, float) and not math.isfinite(literal):
                raise ValueRefused(path, literal, "is not a finite number")
            return literal
        case str():
            if not _is_utf8(literal):
                raise ValueRefused(path, literal, "is not text that UTF-8 can carry")
            return literal
        case {"hex": _} | {"base64": _}:
            try:
                return _read_opaque(literal)
            except _Wrong as wrong:
                raise ValueRefused(path, literal, str(wrong)) from None
        case {"object_id": _, "instance_id": _}:
            try:
                return _read_objlnk(literal)
            except _Wrong as wrong:
                raise ValueRefused(path, literal, str(wrong)) from None
        case _:
            raise ValueRefused(path, literal, "no model knows this resource; give a text, number, true or false")
