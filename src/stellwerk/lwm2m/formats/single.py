"""What the formats of one single value share."""

from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats.errors import EncodeError
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import Value


def only_value(content: Content, base: Path, content_format: int) -> Value:
    """The one value, at ``base`` and without a time, that ``content`` consists of. Raises `EncodeError`."""
    if content.removed:
        raise EncodeError(content_format, content.removed[0], "it cannot take a resource instance away")
    if len(content.entries) != 1:
        raise EncodeError(content_format, None, f"one value wanted, not {len(content.entries)}")
    entry = content.entries[0]
    if entry.path != base or len(base) < 3:
        raise EncodeError(content_format, entry.path, f"it has no place for a path below {base}")
    if entry.time_s is not None:
        raise EncodeError(content_format, entry.path, "it has no place for a time")
    return entry.value
