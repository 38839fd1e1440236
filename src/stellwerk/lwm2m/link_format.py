"""Link format (RFC 6690) and the object list that a registration carries in it (contract §4, R-10 to R-13)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.path import MAX_ID, Path

MAX_LINKS: Final = 2000
"""Most links of one body (contract §15)."""

MAX_BODY: Final = 65536
"""Longest body in bytes."""

UNLISTED_OBJECTS: Final = frozenset((0, 21, 23, 24))
"""Objects that a device must not list and that are dropped where it does (contract R-12)."""

# Devices of one make send the same few bytes; only those are worth keeping, and the bound keeps them small.
_CACHED_BODY: Final = 2048

# "/65534/65534/" and room for leading zeros; longer targets are no objects of ours and stay out of the cache.
_LONGEST_TARGET: Final = 16

# "65535.65535" and room to see what went wrong with others.
_LONGEST_VERSION: Final = 16


class LinkFormatError(PeerError):
    """A body is not a list of links, or not one of LwM2M objects; ``position`` is the offset in characters."""

    def __init__(self, reason: str, position: int) -> None:
        self.reason, self.position = reason, position
        super().__init__(f"bad link format at {position}: {reason}")


class Link(NamedTuple):
    """``</3/0>;pmin=10``: the target between the brackets and its attributes in order, values without quotes.
    A value is None where the attribute has none."""

    target: str
    attributes: tuple[tuple[str, str | None], ...] = ()

    def get(self, name: str) -> str | None:
        """The value of the first attribute called ``name``; None also where it has no value."""
        for each, value in self.attributes:
            if each == name:
                return value
        return None


class ListedObject(NamedTuple):
    """An object that a device has: its version as stated, be it one or not, None where it states none, and its
    instances in order."""

    version: str | None = None
    instances: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectList:
    """What a device says it has. One value may be shared by all devices that say the same.

    ``root`` is the alternate path that prefixes every path of the device (``"/lwm2m"``, or ``""``);
    ``content_formats`` what its root link states in ``ct``, in order, None where it states nothing.
    """

    objects: Mapping[int, ListedObject] = field(default_factory=dict, hash=False)
    root: str = ""
    content_formats: tuple[int, ...] | None = None

    def has_instance(self, object_id: int, instance_id: int) -> bool:
        """Whether the list names the instance."""
        listed = self.objects.get(object_id)
        return listed is not None and instance_id in listed.instances

    def version(self, object_id: int) -> str | None:
        """The version stated for an object, None where none is or the object is not listed."""
        listed = self.objects.get(object_id)
        return None if listed is None else listed.version

    def paths(self) -> tuple[Path, ...]:
        """Every instance, and every object that has none, in order of their identifiers."""
        return tuple(
            path
            for object_id, listed in sorted(self.objects.items())
            for path in ([Path(object_id, each) for each in listed.instances] or [Path(object_id)])
        )


# Possessive quantifiers: no input makes these look at a character twice.
_SPACE = r"[ \t\r\n]*+"
_TARGET = re.compile(rf"{_SPACE}<([^<>\x00-\x1f]*+)>{_SPACE}")
_ATTRIBUTE = re.compile(
    rf';{_SPACE}([^\s=;,"<>\x00-\x1f]++){_SPACE}(?:={_SPACE}(?:"((?:[^"\\]|\\.)*+)"|([^\s;,"<>]*+)))?+{_SPACE}',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BARE = re.compile(r"[0-9]+(?:\.[0-9]+)*|-[0-9]+(?:\.[0-9]+)?")
_VERSION = re.compile(r"[0-9]{1,5}\.[0-9]{1,5}")


def decode_links(body: bytes) -> tuple[Link, ...]:
    """The links of ``body``; none in an empty one. White space around separators is understood.

    Raises `LinkFormatError`.
    """
    if len(body) > MAX_BODY:
        raise LinkFormatError(f"more than {MAX_BODY} bytes", MAX_BODY)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise LinkFormatError("not UTF-8", error.start) from None
    end = len(text.rstrip(" \t\r\n"))
    links: list[Link] = []
    if not end:
        return ()
    position = 0
    target_at, attribute_at = _TARGET.match, _ATTRIBUTE.match
    while True:
        match = target_at(text, position)
        if match is None:
            raise LinkFormatError("a link begins with a target in brackets", position)
        target, position = match[1], match.end()
        attributes: list[tuple[str, str | None]] = []
        while position < end and text[position] == ";":
            match = attribute_at(text, position)
            if match is None:
                raise LinkFormatError("an attribute is a name, perhaps with a value", position)
            name, quoted, bare = match.groups()
            position = match.end()
            if quoted is not None:
                bare = _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted
            attributes.append((name, bare))
        links.append(tuple.__new__(Link, (target, tuple(attributes))))
        if len(links) > MAX_LINKS:
            raise LinkFormatError(f"more than {MAX_LINKS} links", position)
        if position >= end:
            return tuple(links)
        if text[position] != ",":
            unclosed = text[position] in '"='
            raise LinkFormatError("a quote is not closed" if unclosed else "links are parted by commas", position)
        position += 1


def encode_links(links: Iterable[Link]) -> bytes:
    """The body that lists ``links``; values other than plain numbers are quoted."""
    return ",".join(_write_link(link) for link in links).encode()


def decode_object_list(body: bytes) -> ObjectList:
    """The object list in ``body``. Links to anything but objects and instances are ignored, as are objects that
    must not be listed. Raises `LinkFormatError`."""
    return _decode_cached(body) if len(body) <= _CACHED_BODY else _decode(body)


def encode_object_list(objects: ObjectList) -> bytes:
    """The body that states ``objects``, with a root link where there is something to say in it."""
    links = []
    if objects.root or objects.content_formats is not None:
        attributes: list[tuple[str, str | None]] = [("rt", "oma.lwm2m")]
        if objects.content_formats is not None:
            attributes.append(("ct", " ".join(map(str, objects.content_formats))))
        links.append(Link(objects.root or "/", tuple(attributes)))
    for object_id, listed in objects.objects.items():
        path = f"{objects.root}/{object_id}"
        if listed.version is not None or not listed.instances:
            links.append(Link(path, (("ver", listed.version),) if listed.version is not None else ()))
        links += [Link(f"{path}/{each}") for each in listed.instances]
    return encode_links(links)


def _decode(body: bytes) -> ObjectList:
    links = decode_links(body)
    described = [link for link in links if link.attributes]
    root, content_formats = _read_root(described) if described else ("", None)
    instances: dict[int, list[int]] = {}
    for target, _ in links:
        if root:
            if not target.startswith(root):
                continue
            target = target[len(root) :]
        ids = _object_path(target) if len(target) <= _LONGEST_TARGET else None
        if ids is None or ids[0] in UNLISTED_OBJECTS:
            continue
        known = instances.get(ids[0])
        if known is None:
            known = instances[ids[0]] = []
        if len(ids) == 2:
            known.append(ids[1])
    versions = _read_versions(described, root) if described else {}
    return ObjectList(
        {
            object_id: ListedObject(
                versions.get(object_id), tuple(known) if len(known) < 2 else tuple(sorted(set(known)))
            )
            for object_id, known in sorted(instances.items())
        },
        root,
        content_formats,
    )


def _read_root(links: list[Link]) -> tuple[str, tuple[int, ...] | None]:
    """The alternate path and the content formats, from the link that is typed as the root. Raises `LinkFormatError`."""
    for link in links:
        if "oma.lwm2m" in (link.get("rt") or "").split():
            return _check_root(link.target), _content_formats(link.get("ct"))
    # A root link without its type is seen, too; `</>` cannot mean anything else here.
    for link in links:
        if link.target == "/":
            return "", _content_formats(link.get("ct"))
    return "", None


def _read_versions(links: list[Link], root: str) -> dict[int, str]:
    """R-10: the object's own link says the version; one on an instance counts only where that does not, and what is no
    version only where nothing else was said."""
    versions: dict[int, str] = {}
    malformed: dict[int, str] = {}
    for link in links:
        version = link.get("ver")
        if not version or not link.target.startswith(root):
            continue
        target = link.target[len(root) :]
        if len(target) > _LONGEST_TARGET:
            continue
        ids = _object_path(target)
        if ids is None:
            continue
        if not _VERSION.fullmatch(version):
            malformed.setdefault(ids[0], version[:_LONGEST_VERSION])
        elif len(ids) == 1 or ids[0] not in versions:
            versions[ids[0]] = version
    return malformed | versions if malformed else versions


_decode_cached = lru_cache(maxsize=1024)(_decode)


@lru_cache(maxsize=16384)
def _object_path(target: str) -> tuple[int, ...] | None:
    """The identifiers of an object or instance, None for any other target. Raises `LinkFormatError`."""
    segments = target[1:].removesuffix("/").split("/")
    if target[:1] != "/" or not all(each.isascii() and each.isdigit() for each in segments):
        return None
    if len(segments) > 2:
        return None
    if any(len(each) > 5 or int(each) > MAX_ID for each in segments):
        raise LinkFormatError(f"{target} has an identifier beyond {MAX_ID}", 0)
    return tuple(map(int, segments))


def _check_root(target: str) -> str:
    """The root link's target without its closing slash. Raises `LinkFormatError`."""
    root = target.rstrip("/")
    if root and not root.startswith("/"):
        raise LinkFormatError(f"the root path {target[:60]!r} does not begin with '/'", 0)
    if any(each.isascii() and each.isdigit() for each in root.split("/")):
        # Transport 6.4.1: it could not be told from an object's path.
        raise LinkFormatError(f"the root path {target[:60]!r} has a segment of digits only", 0)
    return root


def _content_formats(text: str | None) -> tuple[int, ...] | None:
    """``112`` or ``60 110 112``; what is no number in it is overlooked."""
    if text is None:
        return None
    numbers = tuple(int(each) for each in text.split() if each.isascii() and each.isdigit() and len(each) <= 5)
    return numbers or None


def _write_link(link: Link) -> str:
    parts = [f"<{link.target}>"]
    for name, value in link.attributes:
        if value is None:
            parts.append(name)
        elif _BARE.fullmatch(value):
            parts.append(f"{name}={value}")
        else:
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            parts.append(f'{name}="{escaped}"')
    return ";".join(parts)
