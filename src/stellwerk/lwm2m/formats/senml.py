"""Sensor Measurement Lists (RFC 8428, RFC 8790) as LwM2M uses them (contract §8.4); JSON and CBOR differ in labels.

Reading: a name is ``bn`` + ``n`` and gives a full path below an optional root (alternate path, prefix of a gateway's
end device, or both); base fields hold for the following records until they change; a time is ``bt`` + ``t``, and one
below 2^28 is relative to the reception. Units, update times and sums have no place in LwM2M: they are checked and
left. In a patch pack a null takes a resource instance away. Writing: `senml_writing`.
"""

from decimal import Decimal
from math import isinf
from typing import Any, Final, NamedTuple, NoReturn

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.errors import (
    BadName,
    LimitExceeded,
    Malformed,
    OutsideBase,
    Repeated,
    WrongType,
)
from stellwerk.lwm2m.formats.fit import describe, fit, parse_base64, parse_object_link
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.path import Path, PathError, parse_new_resource_path, parse_path, parse_resource_path, shown
from stellwerk.lwm2m.value import ResourceType

RELATIVE_BELOW: Final = 2**28
"""A time below this is relative to now (RFC 8428 4.5.3)."""

_VERSION: Final = 10
_NO_LABEL: Final = "a label is an integer or text"


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
    texts: frozenset[int | str]
    """Units, base and own: for people, so they are left."""
    numbers: frozenset[int | str]
    """Sums and update time, left as well."""
    bs: int | str
    s: int | str
    """A record with a sum needs no value (RFC 8428 4.2)."""

    @property
    def ignored(self) -> frozenset[int | str]:
        """Fields we know and have no use for."""
        return self.texts | self.numbers


CBOR_LABELS: Final = Labels(
    *(-1, -2, -3, -5, 0, 2, 3, 4, 6, 8),
    values=frozenset((2, 3, 4, 8, "vlo")),
    texts=frozenset((-4, 1)),
    numbers=frozenset((-6, 5, 7)),
    bs=-6,
    s=5,
)
JSON_LABELS: Final = Labels(
    *("bver", "bn", "bt", "bv", "n", "v", "vs", "vb", "t", "vd"),
    values=frozenset(("v", "vs", "vb", "vd", "vlo")),
    texts=frozenset(("bu", "u")),
    numbers=frozenset(("bs", "s", "ut")),
    bs="bs",
    s="s",
)


def read_pack(
    pack: object,
    labels: Labels,
    base: Path,
    types: Types,
    now_s: float | None,
    root: str,
    creating: bool = False,
    patch: bool = False,
) -> Content:
    """The values of a pack as its parser gave it. Without ``now_s``, relative times stay relative. ``creating``:
    instance 65535 is one whose identifier the receiver chooses. ``patch``: null removes a resource instance.

    Raises `Malformed`, `BadName`, `OutsideBase`, `WrongType`, `Repeated`, `LimitExceeded`.
    """
    if type(pack) is not list:
        raise Malformed("SenML", "a pack is an array of records")
    if not pack:
        return Content((), (base,)) if len(base) in (2, 3) else Content()
    if len(pack) > MAX_ENTRIES:
        raise LimitExceeded("SenML records", MAX_ENTRIES)
    _, l_bn, l_bt, l_bv, l_n, l_v, l_vs, l_vb, l_t, l_vd, values, _, _, l_bs, l_s = labels
    type_of, depth = types.resource_type, len(base)
    parse = parse_new_resource_path if creating else parse_resource_path
    plain = type(l_n)
    base_name = ""
    base_time: Any = None
    base_value: Any = None
    inherited: float | None = None
    one_time = True
    entries: list[Entry] = []
    removed: list[Path] = []
    all_summed = False
    for record in pack:
        if type(record) is not dict:
            raise Malformed("SenML", "a record is a map")
        summed = all_summed
        name = ""
        time: Any = None
        label: Any = None
        raw: Any = None
        rebased = False
        for key, field in record.items():
            # 0.0 and false would be found under the label 0.
            if type(key) is not plain and type(key) is not str:
                raise Malformed("SenML", _NO_LABEL)
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
            else:
                rebased = _check_other(key, field, labels) or rebased
                if key == l_bs:
                    all_summed = summed = True
                elif key == l_s:
                    summed = True
        if type(name) is not str or type(base_name) is not str:
            raise Malformed("SenML", "a name is text")
        full_name = base_name + name
        if label is None:
            # A base name that ends in the middle of a path, with a base value, only says what holds from here on.
            if rebased and not name and (base_value is None or not base_name or base_name[-1] == "/"):
                continue
            if base_value is None:
                if summed:
                    continue
                raise Malformed("SenML", f"the record {shown(full_name)} has no value")
        if root:
            full_name = _without_root(full_name, root)
        try:
            path = parse(full_name)
        except PathError as error:
            raise BadName(full_name, error.reason) from None
        if depth and path[:depth] != base:
            raise OutsideBase(path, base)
        if label == l_v:
            if raw is None:
                if patch:
                    removed.append(_removable(path))
                    continue
                if type_of(path) is ResourceType.NONE:
                    continue
            if type(raw) is not float and type(raw) is not int and type(raw) is not Decimal:
                _refuse(path, "a number in v", raw)
            if base_value is not None:
                raw = _sum(base_value, raw, path)
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
    if removed:
        _check_removed(entries, removed)
        return Content(tuple(entries), (), tuple(removed))
    return Content(tuple(entries))


def read_paths(pack: object, labels: Labels, root: str, *, fetch: bool = False) -> tuple[Path, ...]:
    """The paths that a Read-Composite or Observe-Composite body names (contract §6); values in it are not looked at.
    ``fetch``: the body is a fetch pack, which has names, times and units alone (RFC 8790 3.1).

    Raises `Malformed`, `BadName`, `Repeated`, `LimitExceeded`.
    """
    if type(pack) is not list:
        raise Malformed("SenML", "a pack is an array of records")
    if len(pack) > MAX_ENTRIES:
        raise LimitExceeded("SenML records", MAX_ENTRIES)
    base_name: Any = ""
    paths: dict[Path, None] = {}
    for record in pack:
        if type(record) is not dict:
            raise Malformed("SenML", "a record is a map")
        _check_labels(record)
        name: Any = ""
        for key, field in record.items():
            if key == labels.n:
                name = field
            elif key == labels.bn:
                base_name = field
            elif key in (labels.t, labels.bt):
                _number(field, "t")
            elif key in labels.values or key == labels.bv or key in labels.numbers:
                if fetch:
                    raise Malformed("SenML", f"a fetch record has names, times and units alone, not {key!r}")
            else:
                _check_other(key, field, labels)
        if type(base_name) is not str or type(name) is not str:
            raise Malformed("SenML", "a name is text")
        full_name = base_name + name
        if root:
            full_name = _without_root(full_name, root) or "/"
        try:
            path = parse_path(full_name)
        except PathError as error:
            raise BadName(full_name, error.reason) from None
        if path in paths:
            raise Repeated(path, None)
        paths[path] = None
    return tuple(paths)


def _without_root(name: str, root: str) -> str:
    """``name`` below ``root``. Raises `BadName`."""
    if not name.startswith(root):
        raise BadName(name, f"it does not begin with {root[:100]}")
    return name[len(root) :]


def _check_other(key: Any, field: Any, labels: Labels) -> bool:
    """Whether a field without a meaning for values is one of SenML's. Raises `Malformed` where it has the wrong type
    or must be understood."""
    if key == labels.bver:
        if type(field) is not int or not 0 < field <= _VERSION:
            raise Malformed("SenML", f"version {field!r:.20} is not supported")
    elif key in labels.texts:
        if type(field) is not str:
            raise Malformed("SenML", f"a unit ({key!r}) is text")
    elif key in labels.numbers:
        _number(field, f"the field {key!r}")
    elif type(key) is str and key.endswith("_"):
        raise Malformed("SenML", f"field {shown(key)} must be understood and is not")
    else:
        return False
    return True


def _check_labels(record: dict[Any, Any]) -> None:
    if not all(type(key) is int or type(key) is str for key in record):
        raise Malformed("SenML", _NO_LABEL)


def _removable(path: Path) -> Path:
    if len(path) != 4:
        raise WrongType(path, "a value, for null removes resource instances only", "null")
    return path


def _check_removed(entries: list[Entry], removed: list[Path]) -> None:
    """What a pack removes it does not name again: the order of its records must not matter (contract §16.9)."""
    seen = {entry[0] for entry in entries}
    for path in removed:
        if path in seen:
            raise Repeated(path, None)
        seen.add(path)


def _number(field: Any, name: str) -> Any:
    if type(field) is int or type(field) is float or type(field) is Decimal:
        if name not in ("t", "bt"):
            return field
        if -1e18 < field < 1e18:
            return field if type(field) is not Decimal else float(field)
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


def _sum(base_value: Any, value: Any, path: Path) -> Any:
    """``bv`` + ``v`` (RFC 8428 4.5.4), exactly as long as none of them is a float."""
    try:
        if type(base_value) is not float and type(value) is not float:
            return base_value + value
        total = float(base_value) + float(value)
        if not isinf(total) or isinf(base_value) or isinf(value):
            return total
    except ArithmeticError:
        pass
    raise WrongType(path, "a number", "bv + v beyond any")


def _refuse(path: Path, expected: str, raw: object) -> NoReturn:
    raise WrongType(path, expected, describe(raw))
