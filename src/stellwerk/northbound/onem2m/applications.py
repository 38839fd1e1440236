"""What an application says about itself when it registers or changes (contract §4.1, §5.3)."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.request import Request

SHAPE: Final = '{"m2m:ae": {"rn": "myApplication", "api": "NmyApplication", "poa": ["https://example.com/hook"]}}'

MOST_VALUES: Final = 16
LONGEST_TEXT: Final = 2048

CHANGEABLE: Final = frozenset(
    {
        *("lbl", "apn", "poa", "poah", "rr", "srv", "csz", "nl", "or"),
        *("et", "acpi", "at", "aa", "ast", "daci", "loc"),
    }
)
WRITABLE: Final = CHANGEABLE | {"rn", "api", "cr"}

_FIRST_OF_APP_ID: Final = ("N", "R")
# RFC 9110 5.1, 5.5: what may stand in a header that is sent along.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}:[\t -~]{0,2000}")

_Check: TypeAlias = Callable[[Any], bool]


def wanted_attributes(request: Request, attributes: dict[str, Any], *, is_new: bool) -> dict[str, Any]:
    """The attributes of an AE to store, without ``rn``, ``lbl``, ``cr``; None where one is to go. ``is_new``: what is
    mandatory has to be there. Raises `Refusal`."""
    wanted: dict[str, Any] = {}
    for name, (is_right, right) in _RULES.items():
        if name not in attributes or (name == "api" and not is_new):
            continue
        value = attributes[name]
        if value is not None and not is_right(value):
            raise Refusal(Rsc.BAD_REQUEST, f"{name} is {right}")
        wanted[name] = value
    if is_new:
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if request.strict:
            _check_mandatory(wanted)
    return wanted


def _check_mandatory(wanted: dict[str, Any]) -> None:
    for name, example in (("api", '"NmyApplication"'), ("rr", "true"), ("srv", '["4"]')):
        if name not in wanted:
            raise Refusal(Rsc.BAD_REQUEST, f"the attribute {name} is missing; write for example {example}")
    if not wanted["api"].startswith(_FIRST_OF_APP_ID):
        raise Refusal(Rsc.BAD_REQUEST, "api starts with N (not registered) or R (registered)")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_TEXT


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_VALUES and all(map(_is_text, value))


def _are_some_texts(value: Any) -> bool:
    return _are_texts(value) and bool(value)


def _are_headers(value: Any) -> bool:
    return _are_texts(value) and all(_HEADER.fullmatch(each) for each in value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_small(value: Any) -> bool:
    """Stored and shown as it is."""
    return len(repr(value)) <= LONGEST_TEXT


_TEXTS: Final = f"a list of at most {MOST_VALUES} texts"
_RULES: Final[dict[str, tuple[_Check, str]]] = {
    "api": (_is_text, "a text like NmyApplication"),
    "apn": (_is_text, f"a text of 1 to {LONGEST_TEXT} characters"),
    "poa": (_are_texts, f'{_TEXTS}, the addresses of the application: ["https://example.com/hook"]'),
    "poah": (_are_headers, f'{_TEXTS} like "Name: value", headers that are sent along'),
    "rr": (_is_flag, "true or false"),
    "srv": (_are_some_texts, f'{_TEXTS}, release versions like ["4"]'),
    "csz": (_are_texts, f'{_TEXTS} like ["application/json"]'),
    "nl": (_is_text, "a resource ID"),
    "or": (_is_text, "a URI"),
    "acpi": (_are_texts, f"{_TEXTS}, resource IDs"),
    "at": (_are_texts, f"{_TEXTS}, CSE-IDs"),
    "aa": (_are_texts, f"{_TEXTS}, names of attributes"),
    "ast": (_is_small, "a number"),
    "daci": (_are_texts, f"{_TEXTS}, resource IDs"),
    "loc": (_is_small, "an object of few words"),
}
"""Attribute to what it may be, and that in words."""
