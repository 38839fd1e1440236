"""A device's observations: which values are watched, and when one is worth a notification (Core 1.2.2 §5.1.2, §6.4;
contract §7)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.attributes import InvalidAttribute, NotificationAttributes
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ResourceType, Value
from stellwerk.sim import objects
from stellwerk.sim.tree import Denied

NO_ATTRIBUTES: Final = NotificationAttributes()

Reading = dict[Path, Value]
"""Watched values by path, without the clocks."""


@dataclass(slots=True)
class Observation:
    """One relation: who watches (``token``), what (``paths``, one unless it is ``composite``), in which format
    (``accept``), under which attributes.

    ``own``: the attributes of its Observe, which count for it alone; ``conditions``: all that count for each path;
    ``attributes``: the periods and the rest that count for it as a whole. ``said``: what was last told; ``seen``: what
    was last looked at. ``touched``: what is watched may have changed, so look soon. ``history``: what would have been
    told while nobody was there to tell, oldest first, with its times.
    """

    paths: tuple[Path, ...]
    composite: bool
    token: bytes
    accept: int | None
    handle: int
    own: NotificationAttributes
    conditions: tuple[tuple[Path, NotificationAttributes], ...]
    attributes: NotificationAttributes
    said: Reading
    seen: Reading
    said_at: float
    looked_at: float
    confirmed_at: float
    sequence: int = 1
    notified: int = 0
    pending: bool = False
    touched: bool = False
    history: tuple[tuple[float, tuple[Entry, ...]], ...] = ()

    @property
    def path(self) -> Path:
        """The path that is watched; for a composite, the root."""
        return Path() if self.composite else self.paths[0]


class Reporting:
    """Observations and attributes of one device. Looks at values every ``sample_s`` seconds while they are watched;
    with infinity only when told that something changed, or where ``epmax`` wants it. What ``hqmax`` wants kept is
    looked at every ``history_s`` seconds."""

    __slots__ = ("_attributes", "_defaults", "_history_s", "_observations", "_sample_s", "_version")

    def __init__(self, sample_s: float, version: str = "1.1", history_s: float = math.inf) -> None:
        """``version``: the release of LwM2M, which says what attributes there are."""
        self._sample_s = sample_s
        self._history_s = history_s
        self._version = version
        self._defaults = NO_ATTRIBUTES
        self._attributes: dict[Path, NotificationAttributes] = {}
        self._observations: dict[tuple[bool, tuple[Path, ...]], Observation] = {}

    # -- attributes --

    def set_defaults(self, pmin: int | None, pmax: int | None) -> None:
        """The periods where no attribute states one (resources 2 and 3 of object 1)."""
        self._defaults = NotificationAttributes(pmin=pmin or None, pmax=pmax or None)
        self._combine_all()

    def parse(self, path: Path, kind: ResourceType | None, query: tuple[str, ...]) -> NotificationAttributes:
        """The attributes that ``query`` names for ``path``, a resource of type ``kind``; a name without value unsets.

        Raises `Denied` 4.00 for an unknown attribute, a value that is none, or one that ``path`` cannot have.
        """
        pairs = [(name, text if stated else None) for name, stated, text in (each.partition("=") for each in query)]
        try:
            attributes = NotificationAttributes.parse(pairs)
            if unknown := attributes.unknown_to(self._version):
                raise InvalidAttribute(min(unknown), f"is unknown to LwM2M {self._version}")
            _check(attributes, path, kind)
        except InvalidAttribute as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None
        return attributes

    def write_attributes(self, path: Path, kind: ResourceType | None, query: tuple[str, ...]) -> None:
        """Set what ``query`` names at ``path``; what it does not name stays. All or nothing.

        Raises `Denied`: as `parse`, or 4.00 where they contradict what was there.
        """
        fresh = replace(self.parse(path, kind, query).inherit(self.attributes_at(path)), unset=frozenset())
        try:
            _check(fresh, path, kind)
        except InvalidAttribute as error:
            raise Denied(codes.BAD_REQUEST, str(error)) from None
        self._attributes[path] = fresh
        self._combine_all()

    def attributes_at(self, path: Path) -> NotificationAttributes:
        """What was written at exactly ``path``."""
        return self._attributes.get(path, NO_ATTRIBUTES)

    def inherited_at(self, path: Path, own: NotificationAttributes = NO_ATTRIBUTES) -> NotificationAttributes:
        """What was written at ``path`` and above it, under ``own``: the lower level wins."""
        if self._attributes:
            for length in range(len(path), 0, -1):
                own = own.inherit(self.attributes_at(Path(*path[:length])))
        return own

    def discovered_at(self, path: Path) -> NotificationAttributes:
        """What a Discover of ``path`` shows there: what it has or inherits; from 1.2 on, the server's defaults too
        (Core 1.2.2 §6.3.2; ETS 264)."""
        return self.attributes_for(path) if self._version == "1.2" else self.inherited_at(path)

    def attributes_for(self, path: Path, own: NotificationAttributes = NO_ATTRIBUTES) -> NotificationAttributes:
        """What counts for an observation of ``path``: as `inherited_at`, and the defaults below all."""
        found = self.inherited_at(path, own).inherit(self._defaults)
        # Core 1.1.1 5.1.2: a maximum period below the minimum period is ignored.
        return replace(found, pmax=None) if (found.pmax or 0) < (found.pmin or 0) else found

    def _combine_all(self) -> None:
        for each in self._observations.values():
            each.conditions, each.attributes = self._conditions_of(each.paths, each.own)

    def _conditions_of(
        self, paths: tuple[Path, ...], own: NotificationAttributes
    ) -> tuple[tuple[tuple[Path, NotificationAttributes], ...], NotificationAttributes]:
        found = tuple((path, self.attributes_for(path, own)) for path in paths)
        if len(found) == 1:
            return found, found[0][1]
        # Core 1.2.2 5.1.2 says nothing of several paths: none of them is told sooner, or later, than it may be.
        every = [attributes for _, attributes in found]
        whole = NotificationAttributes(
            pmin=_most(every, "pmin", max),
            pmax=_most(every, "pmax", min),
            epmin=_most(every, "epmin", max),
            epmax=_most(every, "epmax", min),
            con=_most(every, "con", max),
            hqmax=_most(every, "hqmax", max),
        )
        return found, replace(whole, pmax=max(whole.pmax, whole.pmin or 0)) if whole.pmax else whole

    # -- observations --

    def __len__(self) -> int:
        return len(self._observations)

    def observe(
        self,
        path: Path,
        token: bytes,
        accept: int | None,
        handle: int,
        content: Content,
        now: float,
        own: NotificationAttributes = NO_ATTRIBUTES,
    ) -> None:
        """Watch ``path`` for whoever asked with ``token`` and has just been told ``content``. Replaces an observation
        of the same path (contract OB-9)."""
        self._watch((path,), False, token, accept, handle, content, now, own)

    def observe_composite(
        self,
        paths: tuple[Path, ...],
        token: bytes,
        accept: int | None,
        handle: int,
        content: Content,
        now: float,
        own: NotificationAttributes = NO_ATTRIBUTES,
    ) -> None:
        """The same for several paths together. Replaces an observation of the same list."""
        self._watch(paths, True, token, accept, handle, content, now, own)

    def _watch(
        self,
        paths: tuple[Path, ...],
        composite: bool,
        token: bytes,
        accept: int | None,
        handle: int,
        content: Content,
        now: float,
        own: NotificationAttributes,
    ) -> None:
        said = reading_of(content)
        conditions, attributes = self._conditions_of(paths, own)
        # A list of one path and the path itself are two things to watch.
        self._observations[composite, paths] = Observation(
            *(paths, composite, token, accept, handle, own, conditions, attributes),
            *(said, said, now, now),
            confirmed_at=now,
        )

    def cancel(self, token: bytes) -> bool:
        """Watch no longer for ``token``. Whether there was such an observation."""
        for key, each in self._observations.items():
            if each.token == token:
                del self._observations[key]
                return True
        return False

    def forget(self) -> None:
        """Forget every observation and attribute: a new registration starts afresh (contract OB-7)."""
        self._observations.clear()
        self._attributes.clear()

    def forget_below(self, path: Path) -> None:
        """``path`` is deleted: its attributes go with it. Its observations end when they are next looked at."""
        for each in [each for each in self._attributes if path.covers(each)]:
            del self._attributes[each]
        self._combine_all()

    def touch(self) -> None:
        """Something changed from outside: look as soon as ``epmin`` allows it."""
        for each in self._observations.values():
            each.touched = True

    def watched(self) -> list[Observation]:
        """The observations, for `is_due`."""
        return list(self._observations.values())

    def due_at(self, each: Observation) -> float:
        """When ``each`` is to be looked at or told next; infinity for never."""
        attributes = each.attributes
        due = self._look_at(each)
        if each.pending:
            due = min(due, each.said_at + (attributes.pmin or 0))
        if attributes.pmax:
            due = min(due, each.said_at + attributes.pmax)
        return due

    def is_due(self, each: Observation, content: Content, now: float) -> bool:
        """Whether ``content`` is to be told now, by change and periods."""
        attributes = each.attributes
        if now >= self._look_at(each):
            found = reading_of(content)
            each.pending = each.pending or _is_worth_telling(each, found)
            each.seen, each.looked_at, each.touched = found, now, False
        # The same sums as in `due_at`: a difference could round to just below the period, for ever.
        if each.pending and now >= each.said_at + (attributes.pmin or 0):
            return True
        return bool(attributes.pmax) and now >= each.said_at + (attributes.pmax or 0)

    def told(self, each: Observation, content: Content, now: float) -> int:
        """``content`` is told now. Gives the sequence number for it (RFC 7641 §4.4)."""
        each.said = each.seen = reading_of(content)
        each.said_at, each.pending = now, False
        each.sequence = (each.sequence + 1) % (1 << 24)
        each.notified += 1
        return each.sequence

    def keep(self, each: Observation, content: Content, now: float, utc_s: float, most: int) -> None:
        """``content`` would be told now, and nobody is there: keep it, and forget the oldest beyond ``most``."""
        entries = tuple(entry._replace(time_s=round(utc_s, 3)) for entry in content.entries)
        each.history = (*each.history, (utc_s, entries))[-most:] if most else ()
        each.said = each.seen = reading_of(content)
        each.said_at, each.pending = now, False

    def deadline(self) -> float | None:
        """When to look or tell next; None while there is nothing to wait for."""
        due = min(map(self.due_at, self._observations.values()), default=math.inf)
        return None if due == math.inf else due

    def _look_at(self, each: Observation) -> float:
        attributes = each.attributes
        if each.touched:
            return each.looked_at + (attributes.epmin or 0)
        sample_s = min(self._sample_s, self._history_s) if attributes.hqmax else self._sample_s
        period = max(sample_s, attributes.epmin or 0)
        return each.looked_at + (min(period, attributes.epmax) if attributes.epmax else period)


def reading_of(content: Content) -> Reading:
    """The values of ``content`` whose change matters."""
    return {entry.path: entry.value for entry in content.entries if entry.path not in objects.CLOCKS}


def _is_worth_telling(each: Observation, found: Reading) -> bool:
    if len(each.conditions) == 1:
        return is_worth_telling(each.said, each.seen, found, each.attributes)
    return any(
        is_worth_telling(_below(each.said, path), _below(each.seen, path), _below(found, path), attributes)
        for path, attributes in each.conditions
    )


def _below(reading: Reading, path: Path) -> Reading:
    return {at: value for at, value in reading.items() if path.covers(at)}


def _most(every: list[NotificationAttributes], name: str, choose: Callable[[list[int]], int]) -> int | None:
    stated = [value for each in every if (value := getattr(each, name)) is not None]
    return choose(stated) if stated else None


def is_worth_telling(said: Reading, seen: Reading, found: Reading, attributes: NotificationAttributes) -> bool:
    """Whether ``found`` is enough of a change: any at all from what was ``said``; where there are thresholds, a step
    from there or a crossing since values were last ``seen``."""
    conditions = (attributes.gt, attributes.lt, attributes.st, attributes.edge)
    if all(each is None for each in conditions):
        return said != found
    if seen.keys() != found.keys():
        return True
    return any(_is_news(said.get(path), seen[path], after, attributes) for path, after in found.items())


def _is_news(said: Value | None, seen: Value, after: Value, attributes: NotificationAttributes) -> bool:
    if isinstance(after, bool):
        return attributes.edge is not None and seen != after and after is bool(attributes.edge)
    if not isinstance(after, int | float) or not isinstance(seen, int | float):
        return False
    gt, lt, st = attributes.gt, attributes.lt, attributes.st
    if gt is not None and (seen > gt) is not (after > gt):
        return True
    if lt is not None and (seen < lt) is not (after < lt):
        return True
    return st is not None and isinstance(said, int | float) and abs(after - said) >= float(st)


def _check(attributes: NotificationAttributes, path: Path, kind: ResourceType | None) -> None:
    # Core 1.1.1 5.1.2: a maximum period below the minimum is no error but ignored.
    replace(attributes, pmax=None).check(path, kind)
