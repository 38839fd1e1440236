"""Lists of paths, which composite operations are about (Core 1.2.2 §6.3.8, §6.4.4; contract §6, §7)."""

from collections.abc import Iterable
from typing import Final, Self, TypeAlias

from stellwerk.core.errors import PeerError
from stellwerk.lwm2m.path import Path, parse_path

MAX_PATHS: Final = 100
"""Paths in one list: each costs a device memory and an answer bytes."""


class PathListError(PeerError):
    """``text`` is no list of paths; ``reason`` says what would be right."""

    def __init__(self, text: str, reason: str) -> None:
        self.text, self.reason = text, reason
        super().__init__(f"{text[:100]!r} is no list of paths: {reason}")


class Paths(tuple[Path, ...]):
    """Different paths in ascending order, so that one set of paths is one list, and its bytes are always the same: a
    cancel has to repeat those of its Observe, and a device has one observation of them (contract OB-9).

    ``str`` is the canonical text ``/1/0/1,/3/0/9``; a list of one path ends with a comma, which no path does.
    """

    __slots__ = ()

    def __new__(cls, paths: Iterable[Path]) -> Self:
        """Raises `PathListError` for an empty list and for one of more than `MAX_PATHS`."""
        ordered = sorted(set(paths))
        if not ordered:
            raise PathListError("", "it names at least one path")
        if len(ordered) > MAX_PATHS:
            raise PathListError(f"{ordered[0]},{ordered[1]},...", f"it has {len(ordered)} paths, {MAX_PATHS} may be")
        return super().__new__(cls, ordered)

    @staticmethod
    def parse(text: str) -> "Paths":
        """The inverse of ``str``; any order is understood. Raises `PathListError`, `PathError`."""
        return Paths(parse_path(each) for each in text.removesuffix(",").split(","))

    def __str__(self) -> str:
        return ",".join(map(str, self)) if len(self) > 1 else f"{self[0]},"

    def __repr__(self) -> str:
        return f"Paths({list(self)!r})"

    def covers(self, other: Path) -> bool:
        """Whether ``other`` is one of these paths or lies below one."""
        return any(each.covers(other) for each in self)

    def outermost(self) -> tuple[Path, ...]:
        """Those that no other of these covers."""
        return tuple(each for each in self if not any(other != each and other.covers(each) for other in self))


Target: TypeAlias = Path | Paths
"""What an operation is about: one path, or the list of a composite."""


def parse_target(text: str) -> Target:
    """The inverse of ``str`` for a target. Raises `PathError`, `PathListError`."""
    return Paths.parse(text) if "," in text else parse_path(text)
