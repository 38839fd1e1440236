"""Fits a value as a format gave it to the type its resource has (contract §8.1)."""

import base64
import binascii
import re
from decimal import Decimal
from typing import Final

from stellwerk.lwm2m.formats.errors import EncodeError, WrongType
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

# Looking an Enum member up through its class costs a metaclass call; these are on the path of every value.
_STRING: Final = ResourceType.STRING
_CORELNK: Final = ResourceType.CORELNK
_INTEGER: Final = ResourceType.INTEGER
_TIME: Final = ResourceType.TIME
_UNSIGNED: Final = ResourceType.UNSIGNED
_FLOAT: Final = ResourceType.FLOAT
_BOOLEAN: Final = ResourceType.BOOLEAN
_OPAQUE: Final = ResourceType.OPAQUE
_OBJLNK: Final = ResourceType.OBJLNK

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = 2**64 - 1

_EXACT_FLOAT: Final = 2**53

# Contract §13: a trailing NUL or an odd separator is seen in the field.
_LINK = re.compile(r"([0-9]{1,5})[^0-9A-Za-z]([0-9]{1,5})\x00*")
_NULL_LINK = re.compile(r"[Ff]{4}:[Ff]{4}\x00*")


def fit(raw: object, kind: ResourceType | None, path: Path) -> Value:
    """The value ``raw`` of the resource at ``path`` as its type ``kind`` wants it; None keeps what the bytes said.

    A number without fraction is an Integer, Unsigned Integer or Time however it was written, and a Float may
    be written as an integer. Integers never pass through a float. Raises `WrongType`.
    """
    found = type(raw)
    if kind is _FLOAT:
        if found is float:
            return raw  # type: ignore[return-value]
        if isinstance(raw, int | Decimal) and found is not bool:
            return _to_float(raw, path)
    elif kind is _INTEGER or kind is _TIME:
        if found is int and INT64_MIN <= raw <= INT64_MAX:  # type: ignore[operator]
            return raw  # type: ignore[return-value]
        if found is float or found is int or found is Decimal:
            return _to_integer(raw, INT64_MIN, INT64_MAX, kind, path)  # type: ignore[arg-type]
    elif kind is _STRING or kind is _CORELNK:
        if found is str:
            return raw  # type: ignore[return-value]
    elif kind is _BOOLEAN:
        if found is bool:
            return raw  # type: ignore[return-value]
    elif kind is _UNSIGNED:
        if found is float or found is int or found is Decimal:
            return _to_integer(raw, 0, UINT64_MAX, kind, path)  # type: ignore[arg-type]
    elif kind is _OPAQUE:
        if found is bytes:
            return raw  # type: ignore[return-value]
    elif kind is _OBJLNK:
        if isinstance(raw, ObjectLink):
            return _in_range(raw, path)
        if isinstance(raw, str):
            return parse_object_link(raw, path)
    elif found is str or found is bytes or found is float or found is bool:
        return raw  # type: ignore[return-value]
    elif found is int:
        return _to_integer(raw, INT64_MIN, UINT64_MAX, None, path)  # type: ignore[arg-type]
    elif isinstance(raw, Decimal):
        return _to_float(raw, path)
    elif isinstance(raw, ObjectLink):
        return _in_range(raw, path)
    raise WrongType(path, name_of(kind), describe(raw))


def fit_for_sending(value: Value, kind: ResourceType | None, path: Path, content_format: int) -> Value:
    """`fit` for the other direction: what does not fit is our caller's mistake. Raises `EncodeError`."""
    try:
        return fit(value, kind, path)
    except WrongType as error:
        raise EncodeError(content_format, path, f"wants {error.expected}, got {error.found}") from None


def parse_object_link(text: str, path: Path) -> ObjectLink:
    """``10:3`` as an `ObjectLink`; both spellings of the null link are understood. Raises `WrongType`."""
    match = _LINK.fullmatch(text)
    if match is not None:
        return _in_range(ObjectLink(int(match[1]), int(match[2])), path)
    if _NULL_LINK.fullmatch(text):
        return ObjectLink(65535, 65535)
    raise WrongType(path, "Objlnk", f"the text {text[:20]!r}")


def parse_base64(text: str, path: Path) -> bytes:
    """Bytes written in base64 or base64url, padded or not (contract §13). Raises `WrongType`."""
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except ValueError:
        raise WrongType(path, "Opaque", "text that is not base64") from None


def write_base64url(value: bytes) -> str:
    """base64url without padding, as RFC 8428 4.2 wants it."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def name_of(kind: ResourceType | None) -> str:
    """The name of a type for error texts."""
    return "a value" if kind is None else kind.value or "no value"


def _in_range(link: ObjectLink, path: Path) -> ObjectLink:
    if not (0 <= link.object_id <= 65535 and 0 <= link.instance_id <= 65535):
        raise WrongType(path, "Objlnk", "an identifier beyond 65535")
    return link


def _to_float(raw: int | Decimal, path: Path) -> float:
    try:
        value = float(raw)
    except OverflowError:
        value = float("inf")
    if value in (float("inf"), float("-inf")):
        raise WrongType(path, "Float", "a number beyond its range")
    return value


def _to_integer(raw: int | float | Decimal, low: int, high: int, kind: ResourceType | None, path: Path) -> int:
    if isinstance(raw, float):
        if not raw.is_integer():
            raise WrongType(path, name_of(kind), "a fraction")
        number = int(raw)
    elif isinstance(raw, Decimal):
        # The exponent is the peer's: bound it before a conversion would spell out all its digits.
        if not raw.is_finite() or raw.adjusted() > 20 or raw != raw.to_integral_value():
            raise WrongType(path, name_of(kind), "a fraction or a number beyond its range")
        number = int(raw)
    else:
        number = raw
    if not low <= number <= high:
        raise WrongType(path, name_of(kind), "a number beyond its range")
    return number


def parse_decimal(text: str) -> float | Decimal:
    """A number with fraction or exponent: a float where integers stay exact, else a Decimal. Raises ValueError."""
    value = float(text)
    if -_EXACT_FLOAT < value < _EXACT_FLOAT:
        return value
    if value in (float("inf"), float("-inf")) or value != value:
        raise ValueError("number beyond the range of a float")
    return Decimal(text)


def describe(raw: object) -> str:
    """What a payload has in the place of a value, for error texts."""
    if raw is None:
        return "null"
    if isinstance(raw, bool):
        return "a Boolean"
    if isinstance(raw, ObjectLink):
        return "an Objlnk"
    if isinstance(raw, str):
        return "text"
    if isinstance(raw, bytes):
        return "bytes"
    if isinstance(raw, int | float | Decimal):
        return "a number"
    return "something that is no value"
