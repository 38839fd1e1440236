"""Sensor Measurement Lists (RFC 8428) as LwM2M uses them (contract §8.4); JSON and CBOR differ only in labels.

Reading: a name is ``bn`` + ``n`` and gives a full path below an optional root prefix; base fields hold for the
following records until they change; a time is ``bt`` + ``t``, and one below 2^28 is relative to the reception.
Writing: one base name for the subtree that was asked for, and a base time where all values have times.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, NoReturn

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.errors import (
    BadName,
    EncodeError,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    WrongType,
)
from stellwerk.lwm2m.formats.fit import fit, fit_for_sending, parse_base64, parse_object_link
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.path import Path, PathError, parse_path
from stellwerk.lwm2m.value import Value

RELATIVE_BELOW: Final = 2**28
"""A time below this is relative to now (RFC 8428 4.5.3)."""

_VERSION: Final = 10


class Labels(NamedTuple):
    """How one serialization calls the fields. ``vlo`` is text in both (Core 1.2.2 §7.4.5)."""

    bver: int | str
    bn: int | str
    bt: int | str
    bv: int | str
    n: int | str
    v: int | str
    vs: int | str
    vb: int | str
    t: int | str
    vd: int | str
    values: frozenset[int | str]
    """The fields of which a record has one."""
    ignored: frozenset[int | str]
    """Fields we know and have no use for: units, sums, update time."""


CBOR_LABELS: Final = Labels(
    -1, -2, -3, -5, 0, 2, 3, 4, 6, 8, frozenset((2, 3, 4, 8, "vlo")), frozenset((-4, -6, 1, 5, 7))
)
JSON_LABELS: Final = Labels(
    *("bver", "bn", "bt", "bv", "n", "v", "vs", "vb", "t", "vd"),
    frozenset(("v", "vs", "vb", "vd", "vlo")),
    frozenset(("bu", "bs", "u", "s", "ut")),
)


class Record(NamedTuple):
    """One record to write; ``value`` is what its Python type says (ObjectLink becomes ``vlo``)."""

    base_name: str | None
    base_time: float | int | None
    name: str | None
    time: float | int | None
    value: Value | None


def read_pack(pack: object, labels: Labels, base: Path, types: Types, now_s: float | None, root: str) -> Content:
    """The values of a pack as its parser gave it. Without ``now_s``, relative times stay relative.

    Raises `Malformed`, `BadName`, `OutsideBase`, `WrongType`, `Repeated`, `LimitExceeded`.
    """
    if type(pack) is not list:
        raise Malformed("SenML", "a pack is an array of records")
    if not pack:
        return Content((), (base,)) if len(base) in (2, 3) else Content()
    if len(pack) > MAX_ENTRIES:
        raise LimitExceeded("SenML records", MAX_ENTRIES)
    l_bver, l_bn, l_bt, l_bv, l_n, l_v, l_vs, l_vb, l_t, l_vd, values, ignored = labels
    type_of, depth = types.resource_type, len(base)
    base_name = ""
    base_time: Any = None
    base_value: Any = None
    inherited: float | None = None
    one_time = True
    entries: list[Entry] = []
    for record in pack:
        if type(record) is not dict:
            raise Malformed("SenML", "a record is a map")
        name = ""
        time: Any = None
        label: Any = None
        raw: Any = None
        rebased = False
        for key, field in record.items():
            if key == l_n:
                name = field
            elif key in values:
                if label is not None:
                    raise Malformed("SenML", "a record has two values")
                label, raw = key, field
            elif key == l_t:
                time = _number(field, "t")
            elif key == l_bn:
                base_name, rebased = field, True
            elif key == l_bt:
                base_time, rebased = _number(field, "bt"), True
                if entries:
                    one_time = False
                inherited = _absolute(base_time, now_s)
            elif key == l_bv:
                base_value, rebased = _number(field, "bv"), True
            elif key == l_bver:
                if type(field) is not int or not 0 < field <= _VERSION:
                    raise Malformed("SenML", f"version {field!r:.20} is not supported")
                rebased = True
            elif key in ignored:
                rebased = True
            elif type(key) is str and key.endswith("_"):
                raise Malformed("SenML", f"field {key[:20]!r} must be understood and is not")
        if type(name) is not str or type(base_name) is not str:
            raise Malformed("SenML", "a name is text")
        full_name = base_name + name
        if label is None and base_value is None:
            if rebased and not name:
                continue
            raise Malformed("SenML", f"the record {full_name[:60]!r} has no value")
        if root:
            if not full_name.startswith(root):
                raise BadName(full_name, f"it does not begin with {root}")
            full_name = full_name[len(root) :]
        try:
            path = parse_path(full_name)
        except PathError as error:
            raise BadName(full_name[:200], error.reason) from None
        if depth and path[:depth] != base:
            raise OutsideBase(path, base)
        if len(path) < 3:
            raise BadName(full_name, "it is no resource")
        if label == l_v:
            if base_value is not None:
                raw = _sum(base_value, _number(raw, "v"))
            elif type(raw) is not float and type(raw) is not int and type(raw) is not Decimal:
                _refuse(path, "a number in v", raw)
        elif label == l_vs:
            if type(raw) is not str:
                _refuse(path, "text in vs", raw)
        elif label == l_vb:
            if type(raw) is not bool:
                _refuse(path, "a Boolean in vb", raw)
        elif label == l_vd:
            if type(raw) is str and labels is JSON_LABELS:
                raw = parse_base64(raw, path)
            elif type(raw) is not bytes:
                _refuse(path, "bytes in vd", raw)
        elif label is None:
            raw = base_value
        else:
            if type(raw) is not str:
                _refuse(path, "text in vlo", raw)
            raw = parse_object_link(raw, path)
        if time is None:
            moment = inherited
        else:
            one_time = False
            moment = _absolute(time if base_time is None else time + base_time, now_s)
        # Entry's own constructor is a Python function; this is the same value for a third of the time.
        entries.append(tuple.__new__(Entry, (path, fit(raw, type_of(path), path), moment)))
    if one_time:
        distinct = len({entry[0] for entry in entries})
    else:
        distinct = len({(entry[0], entry[2]) for entry in entries})
    if distinct != len(entries):
        _refuse_repetition(entries)
    return Content(tuple(entries))


def read_paths(pack: object, labels: Labels, root: str) -> tuple[Path, ...]:
    """The paths that a Read-Composite or Observe-Composite body names (contract §6). Raises `Malformed`, `BadName`,
    `LimitExceeded`."""
    if type(pack) is not list:
        raise Malformed("SenML", "a pack is an array of records")
    if len(pack) > MAX_ENTRIES:
        raise LimitExceeded("SenML records", MAX_ENTRIES)
    base_name: object = ""
    paths = []
    for record in pack:
        if type(record) is not dict:
            raise Malformed("SenML", "a record is a map")
        base_name, name = record.get(labels.bn, base_name), record.get(labels.n, "")
        if type(base_name) is not str or type(name) is not str:
            raise Malformed("SenML", "a name is text")
        full_name = base_name + name
        if root:
            if not full_name.startswith(root):
                raise BadName(full_name[:200], f"it does not begin with {root}")
            full_name = full_name[len(root) :] or "/"
        try:
            paths.append(parse_path(full_name))
        except PathError as error:
            raise BadName(full_name[:200], error.reason) from None
    return tuple(paths)


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
    here = [entry.path == base for entry in entries]
    # "/3/0/9" alone, else "/3/0/" with short names; a base that has a value and instances keeps the slash in n.
    stem = root + str(base) if any(here) or not base else root + str(base) + "/"
    if not base:
        stem = root + "/"
    times = [_compact(entry.time_s) for entry in entries]
    base_time, offsets = _split_times(times)
    records = []
    for index, (entry, value, offset) in enumerate(zip(entries, fitted, offsets, strict=True)):
        name = root + str(entry.path)
        records.append(
            Record(
                stem if index == 0 else None,
                base_time if index == 0 else None,
                name[len(stem) :] or None,
                offset,
                value,
            )
        )
    return records


def build_path_records(paths: Iterable[Path], root: str) -> list[Record]:
    """One record with a name for each path."""
    return [Record(None, None, root + str(path) if path or not root else root, None, None) for path in paths]


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


def _number(field: Any, name: str) -> Any:
    if type(field) is int or type(field) is float or type(field) is Decimal:
        if -1e18 < field < 1e18 or name in ("v", "bv"):
            return field if type(field) is not Decimal or name in ("v", "bv") else float(field)
        raise Malformed("SenML", f"{name} is beyond any time")
    raise Malformed("SenML", f"{name} is a number")


def _absolute(time: Any, now_s: float | None) -> float:
    """Seconds since 1970, as long as it is known what now is (RFC 8428 4.5.3)."""
    seconds = float(time)
    return seconds + now_s if seconds < RELATIVE_BELOW and now_s is not None else seconds


def _refuse_repetition(entries: list[Entry]) -> NoReturn:
    seen = set()
    for path, _, time_s in entries:
        if (path, time_s) in seen:
            break
        seen.add((path, time_s))
    raise Repeated(path, time_s)


def _sum(base_value: Any, value: Any) -> Any:
    """``bv`` + ``v`` (RFC 8428 4.5.4), exactly as long as both are integers."""
    if type(base_value) is int and type(value) is int:
        return base_value + value
    try:
        return float(base_value) + float(value)
    except OverflowError:
        raise Malformed("SenML", "bv + v is beyond any number") from None


def _refuse(path: Path, expected: str, raw: object) -> NoReturn:
    raise WrongType(path, expected, "null" if raw is None else f"{type(raw).__name__} instead")
