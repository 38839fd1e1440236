"""Query parameters: which children a retrieve shows, and how much of them (contract §4.3)."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.names import ATTRIBUTES

LARGEST_PAGE: Final = 1000
"""Children in one answer; a longer list is marked partial and goes on at the offset the answer names."""

NOTHING, ATTRIBUTES_ONLY, ATTRIBUTES_AND_CHILDREN, CHILDREN_ONLY = 0, 1, 4, 8
_KNOWN_RCN: Final = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12})

_FILTERS: Final = frozenset(
    {
        *("chty", "pty", "lbl", "clbl", "palb", "lbq", "cty", "atr", "catr", "patr", "atrl", "arp"),
        *("crb", "cra", "ms", "us", "exb", "exa", "sts", "stb", "szb", "sza"),
    }
)
_HARMLESS: Final = frozenset({"drt", "fo", "rp"})
"""They shape only what other parameters ask for."""


@dataclass(frozen=True, slots=True)
class Query:
    """``rcn`` None where the request leaves it to the operation. ``types``: resource types of children, empty = all."""

    rcn: int | None = None
    types: frozenset[int] = frozenset()
    limit: int = LARGEST_PAGE
    offset: int = 0


EVERYTHING: Final = Query()


def parse_query(raw: bytes, strict: bool) -> Query:
    """Raises `Refusal` for a value that makes no sense, for a filter that is not there yet (ignoring one would answer
    another question), and in strict mode for an unknown name."""
    if not raw:
        return EVERYTHING
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Refusal(Rsc.BAD_REQUEST, "the query has more than 100 parameters") from None
    rcn: int | None = None
    types: set[int] = set()
    limit, offset = LARGEST_PAGE, 0
    for name, text in pairs:
        match name:
            case "rcn":
                rcn = _number(name, text)
                if rcn not in _KNOWN_RCN:
                    raise Refusal(Rsc.BAD_REQUEST, f"rcn={rcn} is not defined; use 1, 4 or 8")
            case "ty":
                # TS-0009 6.2.2.2: values are parted by '+', which a query also uses for a blank.
                types.update(_number(name, each) for each in text.replace(" ", "+").split("+"))
            case "limit" | "lim":
                limit = min(_number(name, text), LARGEST_PAGE)
                if not limit:
                    raise Refusal(Rsc.BAD_REQUEST, f"{name} is a number from 1")
            case "offset" | "ofst":
                offset = _number(name, text)
            case "lvl":
                if _number(name, text) != 1:
                    raise _not_there(f"lvl={text}", "children are shown one level deep, lvl=1")
            case "fu":
                if _number(name, text) != 2:
                    raise _not_there(f"fu={text}", "list children with rcn=4")
            case "rt":
                if _number(name, text) != 3:
                    raise _not_there(f"rt={text}", "requests are answered when they are done, rt=3")
            case _ if name in _HARMLESS:
                continue
            case _ if name in _FILTERS or name in ATTRIBUTES:
                raise _not_there(f"the filter {name}", "ty, limit and offset are")
            case _ if strict:
                raise Refusal(Rsc.BAD_REQUEST, f"unknown query parameter {name[:40]!r}")
    return Query(rcn, frozenset(types), limit, offset)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refusal(Rsc.BAD_REQUEST, f"{name}={text[:40]!r} is no whole number")
    return int(text)


def _not_there(what: str, instead: str) -> Refusal:
    return Refusal(Rsc.NOT_IMPLEMENTED, f"{what} is not supported; {instead}")
