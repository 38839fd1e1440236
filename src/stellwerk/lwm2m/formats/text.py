"""text/plain (0): one resource or resource instance as text (contract §8.1)."""

import base64
import math
import re
from decimal import Decimal, InvalidOperation

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError, Malformed, WrongType
from stellwerk.lwm2m.formats.fit import fit, fit_for_sending, name_of, parse_base64, parse_decimal
from stellwerk.lwm2m.formats.single import only_value
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?")

_INTEGER_TYPE = ResourceType.INTEGER
_NUMBERS = (ResourceType.INTEGER, ResourceType.UNSIGNED, ResourceType.TIME, ResourceType.FLOAT)
_STRINGS = (ResourceType.STRING, ResourceType.CORELNK, None)


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The value of the resource ``base``. Raises `Malformed`, `WrongType`."""
    if len(base) < 3:
        raise Malformed("text", f"{base} is not one resource")
    kind = types.resource_type(base)
    if kind is _INTEGER_TYPE and payload.isdigit() and len(payload) < 19:
        return Content((tuple.__new__(Entry, (base, int(payload), None)),))
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Malformed("text", f"{base} is not UTF-8", error.start) from None
    if kind in _STRINGS:
        return Content((Entry(base, text),))
    raw: object = text
    if kind in _NUMBERS:
        raw = _number(text.strip(" \t\r\n\x00"), kind, base)
    elif kind is ResourceType.BOOLEAN:
        bare = text.strip(" \t\r\n\x00")
        if bare not in ("0", "1"):
            raise WrongType(base, "Boolean", f"the text {text[:20]!r}")
        raw = bare == "1"
    elif kind is ResourceType.OPAQUE:
        raw = parse_base64(text.strip(), base)
    return Content((Entry(base, fit(raw, kind, base)),))


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """The text of the only value of ``content``. Raises `EncodeError`."""
    value = only_value(content, base, ContentFormat.TEXT)
    value = fit_for_sending(value, types.resource_type(base), base, ContentFormat.TEXT)
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, bytes):
        # Core App. C: Opaque in plain text is base64 with its padding.

        return base64.b64encode(value)
    if isinstance(value, float):
        return _write_float(value, base).encode()
    if isinstance(value, ObjectLink):
        return str(value).encode()
    try:
        return str(value).encode()
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.TEXT, base, "text that is no Unicode") from None


def _number(text: str, kind: ResourceType | None, base: Path) -> int | float | Decimal:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        try:
            return parse_decimal(text)
        except (ValueError, InvalidOperation):
            pass
    raise WrongType(base, name_of(kind), f"the text {text[:20]!r}")


def _write_float(value: float, base: Path) -> str:
    if not math.isfinite(value):
        raise EncodeError(ContentFormat.TEXT, base, f"text has no {value}")
    return format(Decimal(repr(value)), "f")
