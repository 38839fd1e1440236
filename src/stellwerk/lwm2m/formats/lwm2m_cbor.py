"""application/vnd.oma.lwm2m+cbor (11544): nested maps whose keys are pieces of paths (contract §8.5)."""

from collections.abc import Iterator
from typing import Any, Final

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.cbor_items import load, write_head, write_integer, write_text, write_value
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import BadName, EncodeError, LimitExceeded, Malformed, OutsideBase, Repeated
from stellwerk.lwm2m.formats.fit import fit, fit_for_sending
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.path import RESERVED_ID, Path
from stellwerk.lwm2m.value import ObjectLink, Value

_Tree = dict[int, "Value | _Tree"]

_NAME: Final = "LwM2M CBOR"


def decode(payload: bytes, base: Path, types: Types, now_s: float | None = None, root: str = "") -> Content:
    """The values in ``payload``. Keys have no alternate path, but may begin with the prefix that ends ``root``.

    Raises `Malformed`, `BadName`, `OutsideBase`, `WrongType`, `Repeated`, `LimitExceeded`.
    """
    tree = load(payload, array_keys=True)
    if type(tree) is not dict:
        raise Malformed(_NAME, "the outermost item is a map")
    prefix = root.rsplit("/", 1)[-1]
    entries: list[Entry] = []
    seen: set[Path] = set()
    for keys, raw in _leaves(tree, ()):
        if keys and type(keys[0]) is str:
            if keys[0] != prefix:
                raise BadName(repr(keys)[:200], "it has a prefix that was not asked for")
            keys = keys[1:]
        if not 3 <= len(keys) <= 4 or not all(type(each) is int and 0 <= each <= RESERVED_ID for each in keys):
            raise BadName(repr(keys)[:200], "it is no path of a resource")
        path = tuple.__new__(Path, keys)
        if not base.covers(path):
            raise OutsideBase(path, base)
        if path in seen:
            raise Repeated(path, None)
        seen.add(path)
        entries.append(Entry(path, fit(raw, types.resource_type(path), path)))
        if len(entries) > MAX_ENTRIES:
            raise LimitExceeded("values", MAX_ENTRIES)
    if not entries and len(base) in (2, 3):
        return Content((), (base,))
    return Content(tuple(entries))


def encode(content: Content, base: Path, types: Types, root: str = "") -> bytes:
    """``content`` as maps below the path they share; a time or an empty resource has no place. Raises `EncodeError`."""
    tree: _Tree = {}
    for path, value, time_s in content.entries:
        if not base.covers(path) or len(path) < 3:
            raise EncodeError(ContentFormat.LWM2M_CBOR, path, f"it is no resource of {base}")
        if time_s is not None:
            raise EncodeError(ContentFormat.LWM2M_CBOR, path, "it has no place for a time")
        branch = tree
        for each in path[:-1]:
            inner = branch.setdefault(each, {})
            if not isinstance(inner, dict):
                raise EncodeError(ContentFormat.LWM2M_CBOR, path, "it has a value above it")
            branch = inner
        if path[-1] in branch:
            raise EncodeError(ContentFormat.LWM2M_CBOR, path, "it occurs twice")
        branch[path[-1]] = fit_for_sending(value, types.resource_type(path), path, ContentFormat.LWM2M_CBOR)
    try:
        return _write_tree(tree)
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.LWM2M_CBOR, None, "text that is no Unicode") from None


def _leaves(tree: dict[Any, Any], above: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value with its key path; `load` bounds the depth."""
    for key, item in tree.items():
        if type(key) is tuple and not key:
            raise Malformed(_NAME, "a key is not empty")
        keys = above + key if type(key) is tuple else (*above, key)
        if type(item) is dict:
            if not item:
                raise Malformed(_NAME, "a map is not empty")
            yield from _leaves(item, keys)
        else:
            yield keys, item


def _write_tree(tree: _Tree) -> bytes:
    """A map in which a key that would lead to only one other is joined with it."""
    parts = [write_head(5, len(tree))]
    for key, item in tree.items():
        keys = [key]
        while isinstance(item, dict) and len(item) == 1:
            ((only, item),) = item.items()
            keys.append(only)
        if len(keys) > 1:
            parts.append(write_head(4, len(keys)))
        parts += [write_integer(each) for each in keys]
        if isinstance(item, dict):
            parts.append(_write_tree(item))
        elif isinstance(item, ObjectLink):
            parts.append(write_text(str(item)))
        else:
            parts.append(write_value(item))
    return b"".join(parts)
