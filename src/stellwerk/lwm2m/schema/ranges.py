"""The RangeEnumeration of a resource: what of its free text a program can check (Core 1.2.2 App. D, contract §9)."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from stellwerk.lwm2m.value import ResourceType, Value

Number: TypeAlias = int | float

_LENGTHS: Final = frozenset({ResourceType.STRING, ResourceType.OPAQUE, ResourceType.CORELNK})
_NUMBERS: Final = frozenset({ResourceType.INTEGER, ResourceType.UNSIGNED, ResourceType.FLOAT, ResourceType.TIME})
_MAX_TEXT: Final = 512

_NUMBER: Final = r"-?\d{1,20}(?:\.\d{1,20})?"
_SPAN: Final = re.compile(rf"({_NUMBER})\s*(?:\.\.\.?|-)\s*({_NUMBER})", re.ASCII)
_SINGLE: Final = re.compile(_NUMBER, re.ASCII)
_LABELLED: Final = re.compile(r"(-?\d{1,20})\s*:.*", re.ASCII)
_LIST_OF_LENGTHS: Final = re.compile(r"\d{1,9}(?:-\d{1,9}){2,}", re.ASCII)
_BYTES: Final = re.compile(r"(.*?)\s*bytes?", re.ASCII | re.IGNORECASE | re.DOTALL)


class Measure(Enum):
    """What of a value the range bounds: the number itself, or the length of a String, Corelnk or Opaque."""

    VALUE = ""
    CHARACTERS = " characters"
    BYTES = " bytes"


@dataclass(frozen=True, slots=True)
class ValueRange:
    """``spans``: inclusive (lowest, highest) pairs, of which a value has to meet one."""

    spans: tuple[tuple[Number, Number], ...]
    measure: Measure = Measure.VALUE

    def admits(self, value: Value) -> bool:
        """Whether ``value`` is inside; a value that has no such measure (an Objlnk, say) always is."""
        measured: Number
        if isinstance(value, str) and self.measure is Measure.BYTES:
            measured = len(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, str | bytes) and self.measure is not Measure.VALUE:
            measured = len(value)
        elif isinstance(value, int | float) and self.measure is Measure.VALUE:
            measured = value
        else:
            return True
        return any(low <= measured <= high for low, high in self.spans)

    def __str__(self) -> str:
        spans = (str(low) if low == high else f"{low}..{high}" for low, high in self.spans)
        return " or ".join(spans) + self.measure.value


def parse_range(text: str, of: ResourceType) -> ValueRange | None:
    """The checkable meaning of a RangeEnumeration for a resource of type ``of``, or None where it is free text.

    Numbers and spans (``0..100``, ``0-100``, ``0..3, 99``) bound the value of a number and the length of a String,
    Corelnk or Opaque. A lone number is read as the largest length, since registered objects use it so, and says
    nothing of a number (``255`` occurs both as a bound and as a bit mask). Where in doubt nothing is checked.
    """
    text = text.strip()
    if not text or len(text) > _MAX_TEXT or (of not in _LENGTHS and of not in _NUMBERS):
        return None
    measure = Measure.VALUE
    if of in _LENGTHS:
        measure = Measure.BYTES if of is ResourceType.OPAQUE else Measure.CHARACTERS
        if counted := _BYTES.fullmatch(text):
            text, measure = counted[1], Measure.BYTES
    items = _items(text, of)
    spans = [span for item in items if (span := _span(item.strip())) is not None]
    if not spans or len(spans) != len(items) or (measure is not Measure.VALUE and any(low < 0 for low, _ in spans)):
        return None
    if len(spans) == 1 and spans[0][0] == spans[0][1]:
        if measure is Measure.VALUE:
            return None
        return ValueRange(((0, spans[0][1]),), measure)
    return ValueRange(tuple(spans), measure)


def _items(text: str, of: ResourceType) -> list[str]:
    if of in _LENGTHS:
        if _LIST_OF_LENGTHS.fullmatch(text):
            return text.split("-")
        return re.split(r"[,;]|\bor\b", text)
    text = text.replace('"', "").replace("'", "")  # enumerations of numbers are written in quotes too
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    labelled = [_LABELLED.fullmatch(line) for line in lines]
    if all(labelled):
        return [match[1] for match in labelled if match]
    return re.split(r"[,;]", text)


def _span(item: str) -> tuple[Number, Number] | None:
    if match := _SPAN.fullmatch(item):
        low, high = sorted((_number(match[1]), _number(match[2])))  # "-30..-120" is registered that way round
        return low, high
    if _SINGLE.fullmatch(item):
        return _number(item), _number(item)
    return None


def _number(text: str) -> Number:
    return float(text) if "." in text else int(text)
