"""Filter criteria: which of the resources below a target are meant (contract §4.3; TS-0004 filterCriteria).

Values of one criterion are alternatives; different criteria are joined by ``fo``. No pattern is compiled: a wildcard
costs one pass over the text, whoever wrote it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import msgspec

from stellwerk.northbound.onem2m.resources import NEVER, Resource

Operation: TypeAlias = Literal[1, 2, 3]
AND, OR, XOR = 1, 2, 3
"""``fo``; with more than two criteria XOR is met by exactly one of them."""

Condition: TypeAlias = Callable[[Resource], bool]

_HYPHENED: Final = "outgoing-msgRN"
_UNDERSCORED: Final = "outgoing_msgRN"


@dataclass(frozen=True, slots=True)
class Filter:
    """``types`` and ``parent_types``: any of these, empty for every one. ``conditions``: one for each other
    criterion."""

    types: frozenset[int] = frozenset()
    parent_types: frozenset[int] = frozenset()
    conditions: Sequence[Condition] = field(default=())
    operation: int = AND

    @property
    def needed_types(self) -> frozenset[int]:
        """No resource of another type can match; empty where every type can."""
        alone = not self.conditions and not self.parent_types
        return self.types if self.operation == AND or alone else frozenset()

    @property
    def by_type_alone(self) -> bool:
        """Whether `needed_types` says everything."""
        return not self.conditions and not self.parent_types

    def matches(self, resource: Resource, parent: Resource) -> bool:
        """Whether ``resource``, a child of ``parent``, is meant."""
        met: list[bool] = []
        if self.types:
            met.append(resource.resource_type in self.types)
        if self.parent_types:
            met.append(parent.resource_type in self.parent_types)
        if self.operation == AND:
            return all(met) and all(condition(resource) for condition in self.conditions)
        met.extend(condition(resource) for condition in self.conditions)
        if not met:
            return True
        return any(met) if self.operation == OR else sum(met) == 1


def labelled(patterns: Sequence[str]) -> Condition:
    """Any label that fits any of ``patterns``; both spellings of the trace label are one (§8)."""
    wanted = [_pattern(_one_spelling(each)) for each in patterns]

    def condition(resource: Resource) -> bool:
        labels = [_one_spelling(each) for each in resource.attributes.get("lbl", ())]
        return any(fits(label) for fits in wanted for label in labels)

    return condition


def _one_spelling(label: str) -> str:
    return _UNDERSCORED + label[len(_HYPHENED) :] if label.startswith(_HYPHENED) else label


def with_attribute(name: str, patterns: Sequence[str]) -> Condition:
    """An attribute (short name) whose value, or one of whose values, fits any of ``patterns``."""
    wanted = [_pattern(each) for each in patterns]

    def condition(resource: Resource) -> bool:
        value = resource.attributes.get(name)
        return value is not None and any(fits(text) for fits in wanted for text in _texts(value))

    return condition


def with_content_type(patterns: Sequence[str]) -> Condition:
    """``cty``: contentInfo whole, or its media type alone."""
    wanted = [_pattern(each) for each in patterns]

    def condition(resource: Resource) -> bool:
        info = resource.attributes.get("cnf")
        return isinstance(info, str) and any(fits(info) or fits(info.partition(":")[0]) for fits in wanted)

    return condition


def at_time(name: str, bound: str, later: bool) -> Condition:
    """A time (``ct``, ``lt``, ``et``) strictly before or ``later`` than ``bound``, in the form of
    `identifiers.timestamp`. What never expires expires later than everything."""
    default = NEVER if name == "et" else None

    def condition(resource: Resource) -> bool:
        value = resource.attributes.get(name, default)
        return isinstance(value, str) and (value > bound if later else value < bound)

    return condition


def with_number(name: str, bound: int, *, above: bool, equal: bool = False) -> Condition:
    """A number (``st``, ``cs``) beyond ``bound``, or ``equal`` to it."""

    def condition(resource: Resource) -> bool:
        value = resource.attributes.get(name)
        if not isinstance(value, int):
            return False
        return (value > bound if above else value < bound) or (equal and value == bound)

    return condition


def _texts(value: Any) -> list[str]:
    """What a value looks like in a query."""
    if isinstance(value, msgspec.Raw):
        value = msgspec.json.decode(value)
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, int | float):
        return [str(value)]
    if isinstance(value, list | tuple):
        return [text for each in value if not isinstance(each, list | tuple | dict) for text in _texts(each)]
    return []


def _pattern(pattern: str) -> Callable[[str], bool]:
    if "*" not in pattern:
        return pattern.__eq__
    first, *middle, last = pattern.split("*")

    def fits(text: str) -> bool:
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return fits
