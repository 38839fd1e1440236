"""application/octet-stream (42): the bytes of one Opaque resource."""

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError, Malformed
from stellwerk.lwm2m.formats.fit import fit, fit_for_sending
from stellwerk.lwm2m.formats.single import only_value
from stellwerk.lwm2m.path import Path


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "", creating: bool = False
) -> Content:
    """The bytes as the value of the resource ``base``. Raises `Malformed`, `WrongType`."""
    if len(base) < 3:
        raise Malformed("octet-stream", f"{base} is not one resource")
    return Content((Entry(base, fit(payload, types.resource_type(base), base)),))


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """The bytes of the only value of ``content``. Raises `EncodeError`."""
    value = only_value(content, base, ContentFormat.OPAQUE)
    value = fit_for_sending(value, types.resource_type(base), base, ContentFormat.OPAQUE)
    if not isinstance(value, bytes):
        raise EncodeError(ContentFormat.OPAQUE, base, "only Opaque values are bytes")
    return value
