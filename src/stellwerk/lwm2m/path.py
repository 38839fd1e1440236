"""LwM2M paths: object, instance, resource, resource instance (Core 1.2.2 §7.1, §6.2.1)."""

from functools import lru_cache
from typing import Final, Self

from stellwerk.core.errors import PeerError

MAX_ID: Final = 65534
"""Largest usable identifier; 65535 is reserved (Core §7.1)."""

RESERVED_ID: Final = 65535

RESERVED: Final = f"identifier {RESERVED_ID} is reserved"


class PathError(PeerError):
    """``text`` is not an LwM2M path; ``reason`` says which rule it breaks."""

    def __init__(self, text: str, reason: str) -> None:
        self.text, self.reason = text, reason
        super().__init__(f"{shown(text)} is not an LwM2M path: {reason}")


class Path(tuple[int, ...]):
    """``Path(3, 0, 0)`` is ``/3/0/0``; ``Path()`` is the root. A tuple of 0 to 4 identifiers: sorts and hashes."""

    __slots__ = ()

    def __new__(cls, *ids: int) -> Self:
        """Raises `PathError` for more than four identifiers or one outside 0..65535."""
        if len(ids) > 4:
            raise PathError("/" + "/".join(map(str, ids)), "more than object/instance/resource/resource-instance")
        for each in ids:
            if not 0 <= each <= RESERVED_ID:
                raise PathError("/" + "/".join(map(str, ids)), f"identifier {each} is outside 0..{RESERVED_ID}")
        return super().__new__(cls, ids)

    @staticmethod
    def parse(text: str) -> "Path":
        """The path written ``/3/0/0`` (leading slash required, no empty or non-decimal segment). Raises `PathError`."""
        return _parse(text)

    def __str__(self) -> str:
        return "/" + "/".join(map(str, self))

    def __repr__(self) -> str:
        return f"Path({', '.join(map(str, self))})"

    @property
    def key(self) -> str:
        """The form without the leading slash that northbound data uses, ``3/0/0``."""
        return "/".join(map(str, self))

    @property
    def object_id(self) -> int:
        return self[0]

    @property
    def parent(self) -> "Path":
        """One level up; the root's parent is the root."""
        return Path(*self[:-1])

    def child(self, identifier: int) -> "Path":
        """One level down. Raises `PathError` below a resource instance."""
        return Path(*self, identifier)

    def covers(self, other: "Path") -> bool:
        """Whether ``other`` is this path or lies below it."""
        return other[: len(self)] == tuple(self)


def shown(text: str) -> str:
    """What an error repeats of a foreign text, in quotes: at most 100 characters, whatever is in it."""
    written = repr(text[:100])
    return written if len(text) <= 100 and len(written) <= 100 else written[:97] + "..."


def _read(text: str) -> Path:
    if text == "/":
        return Path()
    if not text.startswith("/"):
        raise PathError(text, "a path starts with '/'")
    ids = []
    for segment in text[1:].split("/"):
        if not segment:
            raise PathError(text, "empty segment")
        if not (segment.isascii() and segment.isdigit()) or len(segment) > 5 or (segment[0] == "0" and segment != "0"):
            raise PathError(text, f"segment {shown(segment)} is not a decimal identifier in 0..{RESERVED_ID}")
        ids.append(int(segment))
    if len(ids) > 4:
        raise PathError(text, "more than object/instance/resource/resource-instance")
    if max(ids) > RESERVED_ID:
        raise PathError(text, f"identifier {max(ids)} is outside 0..{RESERVED_ID}")
    return Path(*ids)


_parse = lru_cache(maxsize=65536)(_read)

parse_path: Final = _parse
"""`Path.parse` without the method call around it, for loops over many names."""


@lru_cache(maxsize=65536)
def parse_resource_path(text: str) -> Path:
    """The path of a resource or resource instance that exists: none of its identifiers is 65535. Raises `PathError`."""
    path = _read(text)
    if len(path) < 3:
        raise PathError(text, "it is no resource")
    if RESERVED_ID in path:
        raise PathError(text, RESERVED)
    return path


def parse_new_resource_path(text: str) -> Path:
    """The same for an instance that is to be created, which is 65535 where the receiver chooses its identifier.
    Raises `PathError`."""
    path = _parse(text)
    if len(path) < 3:
        raise PathError(text, "it is no resource")
    if is_reserved(path, creating=True):
        raise PathError(text, RESERVED)
    return path


def is_reserved(ids: tuple[int, ...], *, creating: bool) -> bool:
    """Whether 65535 is among ``ids`` at a place where it names nothing."""
    return RESERVED_ID in ids and (not creating or RESERVED_ID in (ids[0], *ids[2:]))
