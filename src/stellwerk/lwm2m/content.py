"""What a payload says: values at paths, with times, independent of the format that carried them."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ResourceType, Value

_NOW: Final = float("inf")


class Entry(NamedTuple):
    """One value of one resource or resource instance.

    ``time_s`` is UTC seconds since 1970 as the device stated it (SenML ``bt`` + ``t``, absolute or relative
    to the reception), or None where it stated none.
    """

    path: Path
    value: Value
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A decoded payload. ``entries`` in the payload's order; ``empty`` names instances and multiple-instance
    resources that the payload states to exist without any value in them; ``removed`` the resource instances that a
    Write-Composite in an ETCH format takes away (no path is in both ``entries`` and ``removed``)."""

    entries: tuple[Entry, ...] = ()
    empty: tuple[Path, ...] = field(default=())
    removed: tuple[Path, ...] = field(default=())

    def latest(self) -> dict[Path, Value]:
        """The newest value of each path: later time wins, no time is now, among equals the later entry counts
        (contract D-15)."""
        newest: dict[Path, tuple[float, Value]] = {}
        for path, value, time_s in self.entries:
            moment = _NOW if time_s is None else time_s
            known = newest.get(path)
            if known is None or moment >= known[0]:
                newest[path] = moment, value
        return {path: value for path, (_, value) in newest.items()}


class Types(Protocol):
    """What a format needs to know of an object model: implemented by `lwm2m.schema` for one device's versions."""

    def resource_type(self, path: Path) -> ResourceType | None:
        """The type of the resource at ``path`` (3 or 4 identifiers), or None where no model knows it."""
        ...

    def is_multiple(self, path: Path) -> bool | None:
        """Whether the resource at ``path`` has resource instances, or None where no model knows it."""
        ...


class Untyped:
    """No model at all: every format falls back to what its bytes alone say."""

    def resource_type(self, path: Path) -> ResourceType | None:
        return None

    def is_multiple(self, path: Path) -> bool | None:
        return None
