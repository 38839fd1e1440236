"""Protocol mode cut into its pieces: ``READ /6; WRITE /3/0/14 "a;b"`` is two commands, each with a word, a path, a
value or parameters (contract Device to Cloud §7.2). What the pieces mean is for `commands`."""

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from stellwerk.app.command_request import Verb

MAX_COMMANDS: Final = 100
"""Commands in one message. Each becomes a row and a message, so a body full of ``;`` must not make thousands."""

LONGEST_SHOWN_PATH: Final = 100
"""No path that means anything is longer; a refusal repeats no more of it."""

VERBS: Final[dict[str, Verb]] = {
    **dict.fromkeys(("READ", "RD", "GET"), "read"),
    **dict.fromkeys(("WRITE", "WR", "PUT"), "write"),
    **dict.fromkeys(("EXECUTE", "EXE", "EXEC", "POST"), "execute"),
    **dict.fromkeys(("OBSERVE", "OBS"), "observe"),
    **dict.fromkeys(("UNOBSERVE", "UOBS", "CANCEL"), "unobserve"),
    **dict.fromkeys(("DISCOVER",), "discover"),
    **dict.fromkeys(("CREATE",), "create"),
    **dict.fromkeys(("DELETE",), "delete"),
    **dict.fromkeys(("WRITE-ATTRIBUTES",), "write-attributes"),
    **dict.fromkeys(("READ-COMPOSITE",), "read-composite"),
    **dict.fromkeys(("WRITE-COMPOSITE",), "write-composite"),
    **dict.fromkeys(("OBSERVE-COMPOSITE",), "observe-composite"),
    **dict.fromkeys(("UNOBSERVE-COMPOSITE", "CANCEL-COMPOSITE"), "unobserve-composite"),
}
"""Method words in upper case; both modes know all of them. From DISCOVER on they are ours."""

COMPOSITE: Final[frozenset[Verb | None]] = frozenset(
    {"read-composite", "write-composite", "observe-composite", "unobserve-composite"}
)
"""Verbs that are about several paths."""

DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"\s*")
_BETWEEN = re.compile(r"[\s;]*")
_WORD = re.compile(r"[^\s;]+")
_PATH = re.compile(r"[^\s;?]*")
_PATH_LIST = re.compile(r"[^;?{]*")
_REST = re.compile(r"[^;]*")
# An Execute argument is a digit, optionally with a value in single quotes (Core 6.3.5), which may hold a semicolon.
# Nothing behind it can fail, so nothing need be remembered to go back to: a megabyte of quotes takes 25 ms, not 300.
_ARGUMENTS = re.compile(r"(?:'[^']*'|[^;']++)*+'?[^;]*")


class Part(NamedTuple):
    """One command of a string: its own text, the pieces of it, and what is wrong with the quotes."""

    text: str
    word: str
    path: str
    parameters: str | None
    value: str | None
    flaw: str = ""


def parts(text: str) -> list[Part]:
    """The commands of ``text`` apart from each other; one that stands for all of them where there are too many."""
    found: list[Part] = []
    for part in _scan(text):
        if len(found) == MAX_COMMANDS:
            return [Part(text, "", "", None, None, TOO_MANY)]
        found.append(part)
    return found


TOO_MANY: Final = f"the message holds more than {MAX_COMMANDS} commands; post several messages"


def _scan(text: str) -> Iterator[Part]:
    """Cut at ``;``. Quotes protect it only where a value starts with one, and in Execute arguments: an apostrophe
    inside a plain value (``it's``) is just a letter."""
    position = _BETWEEN.match(text, 0).end()  # type: ignore[union-attr]
    while position < len(text):
        start = position
        word, position = _take(_WORD, text, position)
        verb = VERBS.get(word.upper())
        if verb in COMPOSITE:
            path, position = _take(_PATH_LIST, text, _skip(text, position))
        else:
            path, position = _take(_PATH, text, _skip(text, position))
            path = path[:LONGEST_SHOWN_PATH]
        parameters: str | None = None
        value: str | None = None
        flaw = ""
        # A value may itself start with a question mark; only WRITE takes values, so only there blanks decide.
        asked = position if verb == "write" else _skip(text, position)
        if text.startswith("?", asked):
            pattern = _ARGUMENTS if verb == "execute" else _REST
            parameters, position = _take(pattern, text, asked + 1)
        else:
            position = _skip(text, position)
            if verb in ("write", "create", "write-composite") and text.startswith("{", position):
                value, position, flaw = _json(text, position)
            elif verb in ("write", "execute") and text[position : position + 1] in ("'", '"'):
                value, position, flaw = _quoted(text, position)
            else:
                value, position = _take(_ARGUMENTS if verb == "execute" else _REST, text, position)
                value = value or None
        yield Part(text[start:position].rstrip(), word, path, parameters, value, flaw)
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]


def _json(text: str, position: int) -> tuple[str, int, str]:
    """The JSON object at ``position``, where the command ends, and what is wrong. Text that is no JSON is a plain
    value: a string resource may well hold a brace."""
    try:
        _, end = DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        value, end = _take(_REST, text, position)
        return value, end, ""
    after, behind = _take(_REST, text, end)
    return text[position:end] + (f" {after}" if after else ""), behind, ""


def _quoted(text: str, position: int) -> tuple[str, int, str]:
    """The value between the quote at ``position`` and its partner, where the command ends, and what is wrong."""
    quote = text[position]
    closing = text.find(quote, position + 1)
    if closing < 0:
        return "", len(text), f"the value starts with {quote} but no {quote} closes it"
    after, end = _take(_REST, text, closing + 1)
    flaw = f"there is text behind the closing {quote}: {short(after)}" if after else ""
    return text[position + 1 : closing], end, flaw


def _take(pattern: re.Pattern[str], text: str, position: int) -> tuple[str, int]:
    """What ``pattern`` matches at ``position``, trimmed, and where it ends."""
    match = pattern.match(text, position)
    return ("", position) if match is None else (match.group().strip(), match.end())


def _skip(text: str, position: int) -> int:
    return _BLANKS.match(text, position).end()  # type: ignore[union-attr]


def short(text: str) -> str:
    """What somebody wrote, quoted, at a length that fits into a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
