"""application/cbor (60): one resource or resource instance as one CBOR item (contract §8.3)."""

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.cbor_items import load, write_integer, write_text, write_value
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError, Malformed
from stellwerk.lwm2m.formats.fit import fit, fit_for_sending
from stellwerk.lwm2m.formats.single import only_value
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink, ResourceType


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The value of the resource ``base``. Raises `Malformed`, `LimitExceeded`, `WrongType`."""
    if len(base) < 3:
        raise Malformed("CBOR", f"{base} is not one resource")
    raw, kind = load(payload), types.resource_type(base)
    if raw is None and kind is ResourceType.NONE:
        return Content()
    return Content((Entry(base, fit(raw, kind, base)),))


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """The item of the only value of ``content``, a Time as epoch time with its tag 1. Raises `EncodeError`."""
    value = only_value(content, base, ContentFormat.CBOR)
    kind = types.resource_type(base)
    value = fit_for_sending(value, kind, base, ContentFormat.CBOR)
    if isinstance(value, ObjectLink):
        return write_text(str(value))
    if kind is ResourceType.TIME and isinstance(value, int):
        return b"\xc1" + write_integer(value)
    try:
        return write_value(value)
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.CBOR, base, "text that is no Unicode") from None
