"""Notification attributes: the conditions under which a device reports (Core 1.2.2 §5.1.2, contract §7)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final, Self

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ResourceType

_SECONDS: Final = ("pmin", "pmax", "epmin", "epmax")
_THRESHOLDS: Final = ("gt", "lt", "st")
_NAMES_1_0: Final = ("pmin", "pmax", "gt", "lt", "st")
_NAMES_1_1: Final = (*_NAMES_1_0, "epmin", "epmax")
_NAMES_1_2: Final = (*_NAMES_1_1, "edge", "con", "hqmax")

NAMES: Final = {"1.0": frozenset(_NAMES_1_0), "1.1": frozenset(_NAMES_1_1), "1.2": frozenset(_NAMES_1_2)}
"""The attributes that each version of LwM2M knows."""

_NUMERIC: Final = (ResourceType.INTEGER, ResourceType.UNSIGNED, ResourceType.FLOAT, ResourceType.TIME)
_INTEGER = re.compile(r"[0-9]{1,10}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,2})?")


class InvalidAttribute(UserError):
    """Attributes that no device may accept: ``name`` breaks ``rule``, a sentence that says what would be right."""

    def __init__(self, name: str, rule: str) -> None:
        self.name, self.rule = name, rule
        super().__init__(f"attribute {name[:20]!r}: {rule}")


@dataclass(frozen=True, slots=True)
class NotificationAttributes:
    """The attributes of one path; None where one is not set.

    ``pmin`` ``pmax`` ``epmin`` ``epmax``: seconds. ``gt`` ``lt`` ``st``: thresholds and step. ``edge``: 0 falling,
    1 rising. ``con``: 1 for confirmable notifications. ``hqmax``: values kept while offline.
    ``unset`` names attributes to take away at this level, which is more than not setting them.
    """

    pmin: int | None = None
    pmax: int | None = None
    epmin: int | None = None
    epmax: int | None = None
    gt: Decimal | None = None
    lt: Decimal | None = None
    st: Decimal | None = None
    edge: int | None = None
    con: int | None = None
    hqmax: int | None = None
    unset: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str | None]]) -> Self:
        """Attributes from names and values as a query has them; a name without value unsets.

        Raises `InvalidAttribute` for unknown names, repeated names and values outside of their range; the rules
        between attributes are `check`'s.
        """
        values: dict[str, Any] = {}
        unset = set()
        for name, text in pairs:
            if name not in NAMES["1.2"]:
                raise InvalidAttribute(name, "is no notification attribute")
            if name in values or name in unset:
                raise InvalidAttribute(name, "is given twice")
            if text is None:
                unset.add(name)
            else:
                values[name] = _parse_value(name, text)
        return cls(**values, unset=frozenset(unset))

    @classmethod
    def from_discovery(cls, attributes: Iterable[tuple[str, str | None]]) -> Self:
        """The notification attributes among those of a link that a device's Discover response has.

        What is none, or has a value that none may have, is overlooked: the device decides what it reports.
        """
        values: dict[str, Any] = {}
        for name, text in attributes:
            if name in NAMES["1.2"] and text is not None:
                try:
                    values[name] = _parse_value(name, text)
                except InvalidAttribute:
                    continue
        return cls(**values)

    def names(self) -> frozenset[str]:
        """The attributes that are set or unset here."""
        return frozenset(name for name in _NAMES_1_2 if getattr(self, name) is not None) | self.unset

    def unknown_to(self, version: str) -> frozenset[str]:
        """Those that a device of LwM2M ``version`` does not know: it would refuse all of them."""
        return self.names() - NAMES[version]

    def restricted_to(self, version: str) -> Self:
        """Without those that a device of ``version`` does not know."""
        unknown = self.unknown_to(version)
        gone: dict[str, Any] = dict.fromkeys(unknown)
        return replace(self, **gone, unset=self.unset - unknown)

    def inherit(self, above: Self) -> Self:
        """These attributes with those of the level ``above`` where they are not set: the lower level wins."""
        inherited: dict[str, Any] = {
            name: getattr(above, name) for name in _NAMES_1_2 if getattr(self, name) is None and name not in self.unset
        }
        return replace(self, **inherited)

    def check(self, path: Path, kind: ResourceType | None) -> None:
        """Whether a device may accept these for ``path``, a resource of type ``kind`` (None: no resource, or one
        that no model knows). Raises `InvalidAttribute` with the rule that is broken."""
        for name in (*_THRESHOLDS, "edge"):
            if name not in self.names():
                continue
            if len(path) < 3:
                raise InvalidAttribute(name, "is only for resources and resource instances")
            if name == "edge":
                if kind is not None and kind is not ResourceType.BOOLEAN:
                    raise InvalidAttribute(name, f"is only for Boolean resources, {path} is {kind.value or 'none'}")
            elif kind is not None and kind not in _NUMERIC:
                raise InvalidAttribute(name, f"is only for numeric resources, {path} is {kind.value or 'none'}")
        if not path:
            raise InvalidAttribute(min(self.names(), default=""), "is for an object or below, not for the root")
        # 0 switches pmax off, so it is below no pmin.
        if self.pmin is not None and self.pmax and self.pmin > self.pmax:
            raise InvalidAttribute("pmax", f"must not be less than pmin ({self.pmax} < {self.pmin})")
        if self.epmin is not None and self.epmax is not None and self.epmin >= self.epmax:
            raise InvalidAttribute("epmax", f"must be greater than epmin ({self.epmax} <= {self.epmin})")
        if self.gt is not None and self.lt is not None:
            if self.lt >= self.gt:
                raise InvalidAttribute("lt", f"must be less than gt ({_plain(self.lt)} >= {_plain(self.gt)})")
            if self.st is not None and self.lt + 2 * self.st >= self.gt:
                raise InvalidAttribute("st", "must leave lt + 2 st less than gt")

    def to_query(self) -> tuple[tuple[str, str | None], ...]:
        """Names and values for a query, numbers as plain decimals, None for those to unset."""
        pairs: list[tuple[str, str | None]] = []
        for each in fields(self):
            if each.name in self.unset:
                pairs.append((each.name, None))
            elif each.name != "unset" and getattr(self, each.name) is not None:
                pairs.append((each.name, _plain(getattr(self, each.name))))
        return tuple(pairs)


def _parse_value(name: str, text: str) -> int | Decimal:
    if name in _THRESHOLDS:
        if not _DECIMAL.fullmatch(text):
            raise InvalidAttribute(name, "is a decimal number")
        number = Decimal(text)
        if name == "st" and number < 0:
            raise InvalidAttribute(name, "is a step of at least 0")
        return number
    if not _INTEGER.fullmatch(text) or int(text) >= 2**32:
        raise InvalidAttribute(name, "is a whole number of seconds" if name in _SECONDS else "is a whole number")
    if name in ("edge", "con") and int(text) > 1:
        raise InvalidAttribute(name, "is 0 or 1")
    return int(text)


def _plain(number: int | Decimal) -> str:
    """Without exponent and without needless zeros; the grammar has neither (contract §7)."""
    if isinstance(number, int):
        return str(number)
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
