"""application/vnd.oma.lwm2m+cbor (11544): nested maps whose keys are pieces of paths (contract §8.5).

Keys say no alternate path (contract R-11), but in requests to and reports from a gateway they begin with the prefix of
the end device.
"""

from collections.abc import Iterator
from typing import Any, Final

from stellwerk.lwm2m.content import Content, Entry, Types
from stellwerk.lwm2m.formats.cbor_items import load, write_head, write_integer, write_text, write_value
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.errors import BadName, EncodeError, LimitExceeded, Malformed, OutsideBase, Repeated
from stellwerk.lwm2m.formats.fit import fit, fit_for_sending
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.path import RESERVED, RESERVED_ID, Path, is_reserved
from stellwerk.lwm2m.value import ObjectLink, ResourceType, Value

_Tree = dict[int, "Value | _Tree"]

_NAME: Final = "LwM2M CBOR"


def decode(
    payload: bytes, base: Path, types: Types, now_s: float | None = None, prefix: str = "", creating: bool = False
) -> Content:
    """The values in ``payload``. Keys may begin with ``prefix`` and with no other text.

    An outermost map without anything in it states an empty instance or resource, for which the text has no other form.
    Raises `Malformed`, `BadName`, `OutsideBase`, `WrongType`, `Repeated`, `LimitExceeded`.
    """
    tree = load(payload, array_keys=True)
    if type(tree) is not dict:
        raise Malformed(_NAME, "the outermost item is a map")
    entries: list[Entry] = []
    seen: set[Path] = set()
    for keys, raw in _leaves(tree, ()):
        ids = keys
        if keys and type(keys[0]) is str:
            if keys[0] != prefix or not prefix or prefix.isdecimal():
                raise BadName(_spell(keys), "it has a prefix that was not asked for")
            ids = keys[1:]
        if not 3 <= len(ids) <= 4 or not all(type(each) is int and 0 <= each <= RESERVED_ID for each in ids):
            raise BadName(_spell(keys), "it is no path of a resource")
        path = tuple.__new__(Path, ids)
        if is_reserved(path, creating=creating):
            raise BadName(str(path), RESERVED)
        if not base.covers(path):
            raise OutsideBase(path, base)
        if path in seen:
            raise Repeated(path, None)
        seen.add(path)
        if len(seen) > MAX_ENTRIES:
            raise LimitExceeded("values", MAX_ENTRIES)
        kind = types.resource_type(path)
        if raw is None and kind is ResourceType.NONE:
            continue
        entries.append(Entry(path, fit(raw, kind, path)))
    if not tree and len(base) in (2, 3):
        return Content((), (base,))
    return Content(tuple(entries))


def encode(content: Content, base: Path, types: Types, prefix: str = "") -> bytes:
    """``content`` as maps below the path they share, behind ``prefix``; a time or an empty resource beside others has
    no place. Raises `EncodeError`."""
    tree: _Tree = {}
    if content.removed:
        raise EncodeError(ContentFormat.LWM2M_CBOR, content.removed[0], "it cannot take a resource instance away")
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
        return _write_tree(tree, prefix)
    except UnicodeEncodeError:
        raise EncodeError(ContentFormat.LWM2M_CBOR, None, "text that is no Unicode") from None


def _leaves(tree: dict[Any, Any], above: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value with its key path; `load` bounds the depth."""
    for key, item in tree.items():
        if type(key) is tuple and not key:
            raise Malformed(_NAME, f"a key below {_spell(above)} is empty")
        keys = above + key if type(key) is tuple else (*above, key)
        if type(item) is dict:
            if not item:
                raise Malformed(_NAME, f"the map at {_spell(keys)} is empty")
            yield from _leaves(item, keys)
        else:
            yield keys, item


def _spell(keys: tuple[Any, ...]) -> str:
    """Keys as the path they make, for error texts."""
    return "/" + "/".join(each if type(each) is str else repr(each)[:20] for each in keys[:8])


def _write_tree(tree: _Tree, prefix: str = "") -> bytes:
    """A map in which a key that would lead to only one other is joined with it. The resources of an instance that the
    receiver shall name (65535) stay together in a map, as the standard's example for Create has them."""
    parts = [write_head(5, len(tree))]
    for key, item in tree.items():
        keys = [key]
        while isinstance(item, dict) and len(item) == 1 and keys[1:] != [RESERVED_ID]:
            ((only, item),) = item.items()
            keys.append(only)
        if len(keys) > 1 or prefix:
            parts.append(write_head(4, len(keys) + bool(prefix)))
        if prefix:
            parts.append(write_text(prefix))
        parts += [write_integer(each) for each in keys]
        if isinstance(item, dict):
            parts.append(_write_tree(item))
        elif isinstance(item, ObjectLink):
            parts.append(write_text(str(item)))
        else:
            parts.append(write_value(item))
    return b"".join(parts)
