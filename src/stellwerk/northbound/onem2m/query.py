"""Query parameters: which resources below a target a retrieve shows, and how much of them (contract §4.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import parse_qsl

from stellwerk.northbound.onem2m import filters
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.filters import Condition, Filter
from stellwerk.northbound.onem2m.identifiers import parse_timestamp
from stellwerk.northbound.onem2m.names import ATTRIBUTES, SHORT

LARGEST_PAGE: Final = 1000
"""Resources in one answer; a longer list is marked partial and goes on at the offset the answer names."""

NOTHING, ATTRIBUTES_ONLY, ATTRIBUTES_AND_CHILDREN, CHILDREN_ONLY = 0, 1, 4, 8
ATTRIBUTES_AND_REFERENCES, REFERENCES, DISCOVERED = 5, 6, 11
_KNOWN_RCN: Final = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12})

_TIMES: Final = {
    "crb": ("ct", False),
    "cra": ("ct", True),
    "us": ("lt", False),
    "ms": ("lt", True),
    "exb": ("et", False),
    "exa": ("et", True),
}
_NUMBERS: Final = {
    "sts": ("st", False, False),
    "stb": ("st", True, False),
    "szb": ("cs", False, False),
    "sza": ("cs", True, True),
}
"""Attribute, whether above, whether equal counts (TS-0001 table 8.1.2-1)."""

_NOT_THERE: Final = frozenset({"chty", "clbl", "palb", "lbq", "atr", "catr", "patr", "fwr", "gq", "smf"})
_HARMLESS: Final = frozenset({"rp", "ec", "rset", "oet", "rqet"})
"""They say how an answer travels, not what is in it."""


@dataclass(frozen=True, slots=True)
class Query:
    """``rcn``, ``level`` and ``limit`` None where the request leaves them to the operation. ``discovery``: ``fu=1``.
    ``relative``: segments to append to what is found (``arp``). ``unstructured``: references are resource IDs
    (``drt=2``). ``attributes``: short names of the only ones to show (``atrl``), empty for all."""

    rcn: int | None = None
    filter: Filter = Filter()  # noqa: RUF009 - frozen
    limit: int = LARGEST_PAGE
    offset: int = 0
    level: int | None = None
    discovery: bool = False
    relative: tuple[str, ...] = ()
    unstructured: bool = False
    attributes: tuple[str, ...] = ()


EVERYTHING: Final = Query()


def parse_query(raw: bytes, strict: bool) -> Query:
    """Raises `Refusal` for a value that makes no sense, for a filter that is not there (ignoring one would answer
    another question), and in strict mode for an unknown name."""
    if not raw:
        return EVERYTHING
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Refusal(Rsc.BAD_REQUEST, "the query has more than 100 parameters") from None
    parser = _Parser(strict)
    for name, text in pairs:
        parser.take(name, text)
    return parser.query()


class _Parser:
    """Collects parameters in any order. Of what may stand once, the last one counts."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._rcn: int | None = None
        self._limit, self._offset, self._operation = LARGEST_PAGE, 0, filters.AND
        self._level: int | None = None
        self._discovery = self._unstructured = False
        self._relative: tuple[str, ...] = ()
        self._shown: tuple[str, ...] = ()
        self._types: set[int] = set()
        self._parent_types: set[int] = set()
        self._conditions: list[Condition] = []
        self._labels: list[str] = []
        self._content_types: list[str] = []
        self._attributes: dict[str, list[str]] = {}

    def take(self, name: str, text: str) -> None:
        known = _PARAMETERS.get(name)
        if known is not None:
            known(self, name, text)
        elif name in _TIMES:
            attribute, later = _TIMES[name]
            self._conditions.append(filters.at_time(attribute, _time(name, text), later))
        elif name in _NUMBERS:
            attribute, above, equal = _NUMBERS[name]
            bound = _number(name, text)
            self._conditions.append(filters.with_number(attribute, bound, above=above, equal=equal))
        elif name in _NOT_THERE:
            _not_there(f"the filter {name}", "ty, lbl, times, sizes and attribute=value are")
        elif name in ATTRIBUTES:
            self._attributes.setdefault(name, []).append(text)
        elif name in SHORT and not self._strict:
            self._attributes.setdefault(SHORT[name], []).append(text)
        elif self._strict and name not in _HARMLESS:
            raise Refusal(Rsc.BAD_REQUEST, f"unknown query parameter {name[:40]!r}")

    def query(self) -> Query:
        conditions = self._conditions
        if self._labels:
            conditions.append(filters.labelled(self._labels))
        if self._content_types:
            conditions.append(filters.with_content_type(self._content_types))
        for name, patterns in self._attributes.items():
            conditions.append(filters.with_attribute(name, patterns))
        chosen = Filter(frozenset(self._types), frozenset(self._parent_types), tuple(conditions), self._operation)
        return Query(
            self._rcn,
            chosen,
            self._limit,
            self._offset,
            self._level,
            self._discovery,
            self._relative,
            self._unstructured,
            self._shown,
        )

    def _take_rcn(self, name: str, text: str) -> None:
        self._rcn = _number(name, text)
        if self._rcn not in _KNOWN_RCN:
            raise Refusal(Rsc.BAD_REQUEST, f"rcn={self._rcn} is not defined; use 1, 4, 5, 6, 8 or 11")

    def _take_types(self, name: str, text: str) -> None:
        # TS-0009 6.2.2.2: values are parted by '+', which a query also uses for a blank.
        found = [_number(name, each) for each in text.replace(" ", "+").split("+")]
        (self._types if name == "ty" else self._parent_types).update(found)

    def _take_limit(self, name: str, text: str) -> None:
        self._limit = min(_number(name, text), LARGEST_PAGE)
        if not self._limit:
            raise Refusal(Rsc.BAD_REQUEST, f"{name} is a number from 1")

    def _take_offset(self, name: str, text: str) -> None:
        self._offset = _number(name, text)

    def _take_level(self, name: str, text: str) -> None:
        self._level = _number(name, text)
        if not self._level:
            raise Refusal(Rsc.BAD_REQUEST, "lvl is a number from 1")

    def _take_usage(self, name: str, text: str) -> None:
        usage = _number(name, text)
        if usage not in (1, 2):
            _not_there(f"fu={usage}", "1 discovers, 2 retrieves")
        self._discovery = usage == 1

    def _take_operation(self, name: str, text: str) -> None:
        self._operation = _one_of(name, text, 3, "1 is AND, 2 is OR, 3 is XOR")

    def _take_identifiers(self, name: str, text: str) -> None:
        self._unstructured = _one_of(name, text, 2, "1 is structured, 2 is unstructured") == 2

    def _take_response(self, name: str, text: str) -> None:
        if _number(name, text) != 3:
            _not_there(f"rt={text[:20]}", "requests are answered when they are done, rt=3")

    def _take_label(self, name: str, text: str) -> None:
        self._labels.append(text)

    def _take_content_type(self, name: str, text: str) -> None:
        self._content_types.append(text)

    def _take_relative(self, name: str, text: str) -> None:
        self._relative = tuple(text.strip("/").split("/"))
        if "" in self._relative:
            raise Refusal(Rsc.BAD_REQUEST, "arp is a relative path, like received-msg/la")

    def _take_shown(self, name: str, text: str) -> None:
        names = text.replace("+", " ").split()
        short = [SHORT.get(each, each) if not self._strict else each for each in names]
        unknown = [each for each in short if each not in ATTRIBUTES]
        if unknown or not short:
            raise Refusal(Rsc.BAD_REQUEST, f"atrl={text[:60]!r} has to name attributes, like rn+lbl")
        self._shown += tuple(short)


_PARAMETERS: Final[dict[str, Callable[[_Parser, str, str], None]]] = {
    "rcn": _Parser._take_rcn,
    "ty": _Parser._take_types,
    "pty": _Parser._take_types,
    "limit": _Parser._take_limit,
    "lim": _Parser._take_limit,
    "offset": _Parser._take_offset,
    "ofst": _Parser._take_offset,
    "lvl": _Parser._take_level,
    "fu": _Parser._take_usage,
    "fo": _Parser._take_operation,
    "drt": _Parser._take_identifiers,
    "rt": _Parser._take_response,
    "lbl": _Parser._take_label,
    "cty": _Parser._take_content_type,
    "arp": _Parser._take_relative,
    "atrl": _Parser._take_shown,
}


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refusal(Rsc.BAD_REQUEST, f"{name}={text[:40]!r} is no whole number")
    return int(text)


def _one_of(name: str, text: str, last: int, hint: str) -> int:
    number = _number(name, text)
    if not 1 <= number <= last:
        raise Refusal(Rsc.BAD_REQUEST, f"{name}={number} is not defined; {hint}")
    return number


def _time(name: str, text: str) -> str:
    found = parse_timestamp(text)
    if found is None:
        raise Refusal(Rsc.BAD_REQUEST, f"{name}={text[:40]!r} is no time; write 20250717T140533 (UTC)")
    return found


def _not_there(what: str, instead: str) -> NoReturn:
    raise Refusal(Rsc.NOT_IMPLEMENTED, f"{what} is not supported; {instead}")
