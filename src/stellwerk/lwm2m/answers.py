"""What a device answered about a path or a list of paths (contract D-1, D-4, D-11)."""

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats import ContentFormat, DecodeError, decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths, Target


class NotAsked(DecodeError):
    """The answer to a composite speaks of ``path``, which is none of ``paths`` and below none."""

    def __init__(self, path: Path, paths: Paths) -> None:
        self.path, self.paths = path, paths
        super().__init__(f"{path} was not asked for; the list is {', '.join(map(str, paths))}")


def decode_answer(
    content_format: int | None,
    payload: bytes,
    target: Target,
    types: Types,
    now_s: float | None = None,
    root: str = "",
) -> Content:
    """As `decode_content`, also for the answer to a composite: all its values are at or below paths of the list, and
    what the device cannot read is left out (D-11). Without a format such an answer is SenML, whose two kinds differ in
    their first byte. Raises `DecodeError`."""
    if not isinstance(target, Paths):
        return decode_content(content_format, payload, target, types, now_s, root)
    if content_format is None:
        content_format = ContentFormat.SENML_JSON if payload[:1] == b"[" else ContentFormat.SENML_CBOR
    content = decode_content(content_format, payload, Path(), types, now_s, root)
    for entry in content.entries:
        if not target.covers(entry.path):
            raise NotAsked(entry.path, target)
    return content


def missing(content: Content, target: Target) -> tuple[Path, ...]:
    """The paths of a composite of which the answer says nothing."""
    if not isinstance(target, Paths):
        return ()
    found = [entry.path for entry in content.entries]
    return tuple(each for each in target if not any(each.covers(path) for path in found))
