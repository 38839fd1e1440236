"""A device's observations: which values are watched, and when one is worth a notification (contract §7)."""

import re
from dataclasses import dataclass
from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import Value
from stellwerk.sim import objects
from stellwerk.sim.tree import Denied

PERIODS: Final = ("pmin", "pmax")
THRESHOLDS: Final = ("gt", "lt", "st")

_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)

Reading = dict[Path, Value]
"""Watched values by path, without the clocks."""


@dataclass(slots=True)
class Observation:
    """One relation: who watches (``token``), what (``path``), in which format (``accept``), and what was last said."""

    path: Path
    token: bytes
    accept: int | None
    handle: int
    said: Reading
    said_at: float
    confirmed_at: float
    sequence: int = 1
    notified: int = 0
    pending: bool = False


class Reporting:
    """Observations and attributes of one device. Looks at values every ``sample_s`` seconds while one is watched."""

    __slots__ = ("_attributes", "_observations", "_sample_at", "_sample_s")

    def __init__(self, sample_s: float) -> None:
        self._sample_s = sample_s
        self._sample_at = 0.0
        self._attributes: dict[Path, dict[str, float]] = {}
        self._observations: dict[Path, Observation] = {}

    # -- attributes --

    def write_attributes(self, path: Path, query: tuple[str, ...]) -> None:
        """Set what ``query`` names at ``path``; a name without value unsets it. All or nothing.

        Raises `Denied` 4.00 for an unknown attribute, a value that is none, or values that contradict each other.
        """
        if not path:
            raise Denied(codes.METHOD_NOT_ALLOWED, "the root has no attributes")
        fresh = dict(self._attributes.get(path, {}))
        for each in query:
            name, stated, text = each.partition("=")
            if name not in PERIODS and name not in THRESHOLDS:
                raise Denied(codes.BAD_REQUEST, f"no attribute {name!r}")
            if not stated:
                fresh.pop(name, None)
                continue
            if not _NUMBER.fullmatch(text) or (name in PERIODS and not text.isdigit()):
                raise Denied(codes.BAD_REQUEST, f"{name} is not {text!r}")
            if name in THRESHOLDS and len(path) < 3:
                raise Denied(codes.BAD_REQUEST, f"{name} is for a resource")
            fresh[name] = float(text)
        lower, upper = fresh.get("lt"), fresh.get("gt")
        if lower is not None and upper is not None and lower + 2 * fresh.get("st", 0.0) >= upper:
            raise Denied(codes.BAD_REQUEST, "lt, st and gt contradict each other")
        self._attributes[path] = fresh

    def attributes_at(self, path: Path) -> dict[str, float]:
        """What was written at exactly ``path``."""
        return self._attributes.get(path, {})

    def attributes_for(self, path: Path, defaults: dict[str, float]) -> dict[str, float]:
        """What counts for an observation of ``path``: lower levels override higher ones, all override ``defaults``."""
        merged = dict(defaults)
        for length in range(1, len(path) + 1):
            merged.update(self._attributes.get(Path(*path[:length]), {}))
        # Core 1.1.1 5.1.2: a maximum period below the minimum period is ignored.
        if merged.get("pmax", 0.0) < merged.get("pmin", 0.0):
            merged["pmax"] = 0.0
        return merged

    # -- observations --

    def __len__(self) -> int:
        return len(self._observations)

    def observe(self, path: Path, token: bytes, accept: int | None, handle: int, content: Content, now: float) -> None:
        """Watch ``path`` for whoever asked with ``token`` and has just been told ``content``. Replaces an observation
        of the same path (contract OB-9)."""
        self._observations[path] = Observation(path, token, accept, handle, reading_of(content), now, now)
        if len(self._observations) == 1:
            self._sample_at = now + self._sample_s

    def cancel(self, token: bytes) -> bool:
        """Watch no longer for ``token``. Whether there was such an observation."""
        for path, each in self._observations.items():
            if each.token == token:
                del self._observations[path]
                return True
        return False

    def forget(self) -> None:
        """Forget every observation and attribute: a new registration starts afresh (contract OB-7)."""
        self._observations.clear()
        self._attributes.clear()

    def touch(self, now: float) -> None:
        """Something changed from outside: look at once."""
        if self._observations:
            self._sample_at = now

    def watched(self) -> list[Observation]:
        """The observations, for `is_due`."""
        return list(self._observations.values())

    def start_round(self, now: float) -> None:
        """Values are looked at now; the next look follows after the sampling period."""
        if now >= self._sample_at:
            self._sample_at = now + self._sample_s

    def is_due(self, each: Observation, content: Content, defaults: dict[str, float], now: float) -> bool:
        """Whether ``content`` is to be told now, by change and periods."""
        attributes = self.attributes_for(each.path, defaults)
        if not each.pending:
            each.pending = is_worth_telling(each.said, reading_of(content), attributes)
        # The same sums as in `deadline`: a difference could round to just below the period, for ever.
        if each.pending and now >= each.said_at + attributes.get("pmin", 0.0):
            return True
        pmax = attributes.get("pmax", 0.0)
        return bool(pmax) and now >= each.said_at + pmax

    def told(self, each: Observation, content: Content, now: float) -> int:
        """``content`` is told now. Gives the sequence number for it (RFC 7641 §4.4)."""
        each.said, each.said_at, each.pending = reading_of(content), now, False
        each.sequence = (each.sequence + 1) % (1 << 24)
        each.notified += 1
        return each.sequence

    def deadline(self, defaults: dict[str, float]) -> float | None:
        """When to look next; None while nothing is watched."""
        if not self._observations:
            return None
        due = self._sample_at
        for each in self._observations.values():
            attributes = self.attributes_for(each.path, defaults)
            if each.pending:
                due = min(due, each.said_at + attributes.get("pmin", 0.0))
            if pmax := attributes.get("pmax", 0.0):
                due = min(due, each.said_at + pmax)
        return due


def reading_of(content: Content) -> Reading:
    """The values of ``content`` whose change matters."""
    return {entry.path: entry.value for entry in content.entries if entry.path not in objects.CLOCKS}


def is_worth_telling(said: Reading, found: Reading, attributes: dict[str, float]) -> bool:
    """Whether ``found`` differs from what was ``said`` enough: at all, or by the thresholds where there are any."""
    if not any(name in attributes for name in THRESHOLDS):
        return said != found
    if said.keys() != found.keys():
        return True
    return any(
        is_number(before) and is_number(after) and _crosses(before, after, attributes)
        for before, after in zip(said.values(), found.values(), strict=True)
    )


def is_number(value: Value) -> bool:
    """Whether thresholds apply."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def write_number(value: float) -> str:
    """A plain decimal without a needless fraction."""
    return str(int(value)) if value == int(value) else str(value)


def _crosses(before: Value, after: Value, attributes: dict[str, float]) -> bool:
    assert isinstance(before, int | float)
    assert isinstance(after, int | float)
    for name in ("gt", "lt"):
        limit = attributes.get(name)
        if limit is not None and (before > limit) is not (after > limit):
            return True
    step = attributes.get("st")
    return step is not None and abs(after - before) >= step
