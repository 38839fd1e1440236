"""Content as SenML records: one base name for the subtree that was asked for, and a base time where all have times."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stellwerk.lwm2m.content import Content, Types
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import EncodeError
from stellwerk.lwm2m.formats.fit import fit_for_sending
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import Value

_PATCHES = (ContentFormat.SENML_ETCH_JSON, ContentFormat.SENML_ETCH_CBOR)


class Record(NamedTuple):
    """One record to write; ``value`` is what its Python type says (ObjectLink becomes ``vlo``). ``removes``: it has
    null as its value."""

    base_name: str | None
    base_time: float | int | None
    name: str | None
    time: float | int | None
    value: Value | None
    removes: bool = False


def build_records(content: Content, base: Path, types: Types, content_format: int, root: str) -> list[Record]:
    """The records that state ``content`` about the subtree ``base``. Raises `EncodeError`."""
    entries = content.entries
    fitted = []
    seen = set()
    for path, value, time_s in entries:
        if not base.covers(path) or len(path) < 3:
            raise EncodeError(content_format, path, f"it is no resource of {base}")
        if (path, time_s) in seen:
            raise EncodeError(content_format, path, "it occurs twice at the same time")
        seen.add((path, time_s))
        fitted.append(fit_for_sending(value, types.resource_type(path), path, content_format))
    # Before the values, where no base name holds: what goes makes room for what comes.
    records = [
        Record(None, None, root + str(path), None, None, removes=True)
        for path in _checked_removed(content, base, content_format)
    ]
    stem = _stem(content, base, root)
    base_time, offsets = _split_times([_compact(entry.time_s) for entry in entries])
    for index, (entry, value, offset) in enumerate(zip(entries, fitted, offsets, strict=True)):
        name = root + str(entry.path)
        records.append(
            Record(
                stem if index == 0 and stem else None,
                base_time if index == 0 else None,
                name[len(stem) :] or None,
                offset,
                value,
            )
        )
    return records


def build_path_records(paths: Iterable[Path], content_format: int, root: str) -> list[Record]:
    """One record with a name for each path. Raises `EncodeError` for a path that comes twice."""
    records: dict[Path, Record] = {}
    for path in paths:
        if path in records:
            raise EncodeError(content_format, path, "it is named twice")
        records[path] = Record(None, None, root + str(path) if path or not root else root, None, None)
    return list(records.values())


def _stem(content: Content, base: Path, root: str) -> str:
    """The base name; none where the root was asked for and one value says it all."""
    if not base:
        return root + "/" if len(content.entries) > 1 else ""
    # "/3/0/9" alone, else "/3/0/" with short names; a base that has a value and instances keeps the slash in n.
    return root + str(base) if any(entry.path == base for entry in content.entries) else root + str(base) + "/"


def _checked_removed(content: Content, base: Path, content_format: int) -> tuple[Path, ...]:
    if content.removed and content_format not in _PATCHES:
        raise EncodeError(content_format, content.removed[0], "only the ETCH formats take a resource instance away")
    seen = {entry.path for entry in content.entries}
    for path in content.removed:
        if not base.covers(path) or len(path) != 4:
            raise EncodeError(content_format, path, f"it is no resource instance of {base}")
        if path in seen:
            raise EncodeError(content_format, path, "it occurs twice")
        seen.add(path)
    return content.removed


def _split_times(
    times: Sequence[float | int | None],
) -> tuple[float | int | None, Sequence[float | int | None]]:
    """A base time and what each record adds to it, or no base time where that would lose something."""
    first = times[0] if times else None
    if first is None or first == 0:
        return None, times
    offsets: list[float | int | None] = []
    for time in times:
        if time is None:
            return None, times
        offset = time - first
        if offset + first != time:
            return None, times
        offsets.append(_compact(offset) or None)
    return first, offsets


def _compact(time: float | int | None) -> float | int | None:
    """Whole seconds as an integer, which is shorter in both serializations."""
    return int(time) if isinstance(time, float) and time.is_integer() else time
