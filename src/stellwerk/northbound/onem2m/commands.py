"""What a message in outgoing-msg asks for: text and JSON to commands (contract Device to Cloud §7.2).

``READ /6; RD /3/0/0`` is protocol mode, ``{"method": "GET", "path": "/6"}`` and lists of such are REST mode. Parsing
never raises: a part that cannot be understood becomes a `RefusedRequest`, which its application finds in received-msg.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from stellwerk.app.command_request import CommandRequest, RefusedRequest, Verb
from stellwerk.device.profile import BadProfile, parse_priority
from stellwerk.lwm2m.attributes import NAMES, InvalidAttribute, NotificationAttributes
from stellwerk.lwm2m.path import RESERVED_ID, Path, PathError

Request: TypeAlias = CommandRequest | RefusedRequest

MAX_COMMANDS: Final = 100
"""Commands in one message. Each becomes a row and a message, so a body full of ``;`` must not make thousands."""

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
}
"""Method words in upper case; both modes know all of them. From DISCOVER on they are ours."""

COMPOSITES: Final = frozenset({"READ-COMPOSITE", "OBSERVE-COMPOSITE", "WRITE-COMPOSITE"})
"""Words for operations on several paths at once, which are not there yet."""

_KNOWN_ATTRIBUTES: Final = ", ".join(sorted(NAMES["1.2"]))
_ATTRIBUTES: Final = {**{name: name for name in NAMES["1.2"]}, "step": "st", "steps": "st"}
_MEMBERS: Final = frozenset({"method", "path", "value", "attributes", "args", "paths", "priority"})
_PRIORITY: Final = "priority:"
_LONGEST_SHOWN_PATH: Final = 100
"""No path that means anything is longer; a refusal repeats no more of it."""

_METHOD_HINT: Final = "use READ, WRITE, EXECUTE, OBSERVE, UNOBSERVE, DISCOVER, CREATE, DELETE or WRITE-ATTRIBUTES"

_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"\s*")
_BETWEEN = re.compile(r"[\s;]*")
_WORD = re.compile(r"[^\s;]+")
_PATH = re.compile(r"[^\s;?]*")
_REST = re.compile(r"[^;]*")
# An Execute argument is a digit, optionally with a value in single quotes (Core 6.3.5), which may hold a semicolon.
# Nothing behind it can fail, so nothing need be remembered to go back to: a megabyte of quotes takes 25 ms, not 300.
_ARGUMENTS = re.compile(r"(?:'[^']*'|[^;']++)*+'?[^;]*")


def parse_commands(content: Any, content_info: str | None) -> list[Request]:
    """The commands of one message, in order; at least one result, and exactly one for each part. Never raises for any
    JSON value. Reasons of refusals are keys of `app.status_table.STATUS`."""
    if (flaw := _format_flaw(content, content_info)) is not None:
        return [RefusedRequest("", "", "format", flaw, content)]
    if isinstance(content, str):
        requests: list[Request] = [_from_text(part) for part in _parts(content)]
    elif isinstance(content, dict):
        requests = [_from_object(content)]
    elif len(content) <= MAX_COMMANDS:
        requests = [_from_object(each) for each in content]
    else:
        requests = [_too_many(content)]
    if not requests:
        hint = "the message holds no command; write for example READ /3/0/0"
        return [RefusedRequest("", "", "adapter-bad-request", hint, content)]
    return requests


def wanted_priority(labels: Iterable[str]) -> int | None:
    """What the label ``priority:<number>`` says of all commands of a message. Raises `BadProfile`."""
    said = [each.removeprefix(_PRIORITY) for each in labels if each.startswith(_PRIORITY)]
    return parse_priority(said[0]) if said else None


def _format_flaw(content: Any, content_info: str | None) -> str | None:
    """Why this ``con`` with this ``cnf`` cannot hold commands, or None where it can."""
    if not isinstance(content, str | dict | list):
        return (
            f"con is {_kind(content)}; write a string like READ /3, an object with method and path, or a list of such"
        )
    if content_info is None:
        return None
    media, _, encoding = content_info.partition(":")
    media = media.split(";")[0].strip().lower()
    if encoding.partition(":")[0].strip() in ("1", "2"):
        return f"cnf {_short(content_info)} says base64; commands are plain: text/plain:0 or application/json:0"
    if isinstance(content, str):
        return None if media in ("text/plain", "application/json") else _cnf_flaw(content_info, "text/plain:0")
    return None if media == "application/json" else _cnf_flaw(content_info, "application/json:0")


def _cnf_flaw(content_info: str, right: str) -> str:
    return f"cnf {_short(content_info)} does not fit this con; write {right}"


# -- protocol mode --


class _Part(NamedTuple):
    """One command of a string: its own text, the pieces of it, and what is wrong with the quotes."""

    text: str
    word: str
    path: str
    parameters: str | None
    value: str | None
    flaw: str = ""


def _parts(text: str) -> list[_Part]:
    """The commands of ``text`` apart from each other; one that stands for all of them where there are too many."""
    found: list[_Part] = []
    for part in _scan(text):
        if len(found) == MAX_COMMANDS:
            return [_Part(text, "", "", None, None, _TOO_MANY)]
        found.append(part)
    return found


_TOO_MANY: Final = f"the message holds more than {MAX_COMMANDS} commands; post several messages"


def _scan(text: str) -> Iterator[_Part]:
    """Cut at ``;``. Quotes protect it only where a value starts with one, and in Execute arguments: an apostrophe
    inside a plain value (``it's``) is just a letter."""
    position = _BETWEEN.match(text, 0).end()  # type: ignore[union-attr]
    while position < len(text):
        start = position
        word, position = _take(_WORD, text, position)
        verb = VERBS.get(word.upper())
        path, position = _take(_PATH, text, _skip(text, position))
        path = path[:_LONGEST_SHOWN_PATH]
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
            if verb in ("write", "create") and text.startswith("{", position):
                value, position, flaw = _json(text, position)
            elif verb in ("write", "execute") and text[position : position + 1] in ("'", '"'):
                value, position, flaw = _quoted(text, position)
            else:
                value, position = _take(_ARGUMENTS if verb == "execute" else _REST, text, position)
                value = value or None
        yield _Part(text[start:position].rstrip(), word, path, parameters, value, flaw)
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]


def _json(text: str, position: int) -> tuple[str, int, str]:
    """The JSON object at ``position``, where the command ends, and what is wrong. Text that is no JSON is a plain
    value: a string resource may well hold a brace."""
    try:
        _, end = _DECODER.raw_decode(text, position)
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
    flaw = f"there is text behind the closing {quote}: {_short(after)}" if after else ""
    return text[position + 1 : closing], end, flaw


def _take(pattern: re.Pattern[str], text: str, position: int) -> tuple[str, int]:
    """What ``pattern`` matches at ``position``, trimmed, and where it ends."""
    match = pattern.match(text, position)
    return ("", position) if match is None else (match.group().strip(), match.end())


def _skip(text: str, position: int) -> int:
    return _BLANKS.match(text, position).end()  # type: ignore[union-attr]


def _from_text(part: _Part) -> Request:
    if part.flaw is _TOO_MANY:
        return _too_many(part.text)
    verb = VERBS.get(part.word.upper())
    if verb is None:
        return RefusedRequest("", part.path, "method-unknown", _unknown(part.word), part.text)
    draft = _Draft(verb, part.path, part.text)
    if (flaw := _path_flaw(verb, part.path)) is not None:
        return draft.refuse("path-invalid", flaw)
    if part.flaw:
        return draft.refuse("adapter-bad-request", part.flaw)
    match verb:
        case "read":
            if part.parameters is not None or part.value is not None:
                return draft.refuse("adapter-bad-request", "READ takes a path and nothing behind it")
            return draft.accept()
        case "write":
            if part.parameters is not None:
                return draft.refuse("path-invalid", "WRITE takes no ?parameters; write WRITE /3442/0/110 Hello")
            if part.value is None:
                return draft.refuse("value-missing", "WRITE needs a value behind the path: WRITE /3442/0/110 Hello")
            if draft.path.count("/") == 2:
                return _instance_value(draft, part.value)
            return draft.accept(value=part.value, has_value=True)
        case "execute":
            return draft.accept(arguments=part.parameters or part.value or "")
        case "create":
            if part.parameters is not None:
                return draft.refuse(
                    "path-invalid", 'CREATE takes no ?parameters; write CREATE /3442/1 {"110": "Hello"}'
                )
            return draft.accept() if part.value is None else _instance_value(draft, part.value)
        case "delete":
            if part.parameters is not None or part.value is not None:
                return draft.refuse("adapter-bad-request", "DELETE takes a path and nothing behind it")
            return draft.accept()
        case "observe" | "unobserve" | "discover" | "write-attributes":
            if part.value is not None:
                example = "?depth=1" if verb == "discover" else "?pmin=10&pmax=60"
                hint = f"{verb.upper()} takes parameters as {example} behind the path, not {_short(part.value)}"
                return draft.refuse("adapter-bad-request", hint)
            return _with_attributes(draft, _parameter_pairs(part.parameters or ""))


def _instance_value(draft: "_Draft", text: str) -> Request:
    """An instance is written as a JSON object of its resources."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        hint = f'{draft.verb.upper()} of an instance wants its resources as JSON: {{"110": "Hello"}}'
        return draft.refuse("adapter-bad-request", hint)
    return draft.accept(value=value, has_value=True, from_text=False)


def _parameter_pairs(text: str) -> list[tuple[str, str | None]]:
    """``pmin = 10 & pmax=60`` as pairs, None where there is no ``=``; blanks around names and numbers are
    tolerated."""
    pairs: list[tuple[str, str | None]] = []
    for each in text.split("&"):
        if each.strip():
            name, parted, number = each.partition("=")
            pairs.append((name.strip(), number.strip() if parted else None))
    return pairs


# -- REST mode --


def _from_object(item: Any) -> Request:
    if not isinstance(item, dict):
        hint = f'a list holds objects like {{"method":"READ","path":"/3"}}, this item is {_kind(item)}'
        return RefusedRequest("", "", "format", hint, item)
    method, path = item.get("method"), item.get("path")
    shown_path = path.strip()[:_LONGEST_SHOWN_PATH] if isinstance(path, str) else ""
    if not isinstance(method, str):
        hint = f'the member "method" is {"missing" if method is None else _kind(method)}; {_METHOD_HINT}'
        return RefusedRequest("", shown_path, "method-unknown", hint, item)
    verb = VERBS.get(method.strip().upper())
    if verb is None:
        return RefusedRequest("", shown_path, "method-unknown", _unknown(method), item)
    try:
        priority = _own_priority(item.get("priority"))
    except BadProfile as error:
        return _Draft(verb, shown_path, item).refuse("adapter-bad-request", f"the member {error}")
    draft = _Draft(verb, shown_path, item, priority)
    if not isinstance(path, str):
        hint = f'the member "path" is {"missing" if path is None else _kind(path)}; write "path": "/3/0/0"'
        return draft.refuse("path-invalid", hint)
    if (flaw := _path_flaw(verb, draft.path)) is not None:
        return draft.refuse("path-invalid", flaw)
    if (flaw := _member_flaw(verb, item)) is not None:
        return draft.refuse("adapter-bad-request", flaw)
    match verb:
        case "read":
            return draft.accept()
        case "write":
            if item.get("value") is None:
                return draft.refuse("value-missing", 'WRITE needs the member "value"')
            return draft.accept(value=item["value"], has_value=True, from_text=False)
        case "execute":
            return _execute_object(draft, item)
        case "create":
            return draft.accept(value=item.get("value"), has_value=item.get("value") is not None, from_text=False)
        case "delete":
            return draft.accept()
        case "observe" | "unobserve" | "discover" | "write-attributes":
            attributes = item.get("attributes") or {}
            if not isinstance(attributes, dict):
                return draft.refuse("adapter-bad-request", '"attributes" is an object like {"pmin": 10, "pmax": 60}')
            return _with_attributes(draft, [(name, _number_text(value)) for name, value in attributes.items()])


_TAKES: Final[dict[Verb, frozenset[str]]] = {
    "read": frozenset(),
    "write": frozenset({"value"}),
    "execute": frozenset({"value", "args"}),
    "observe": frozenset({"attributes"}),
    "unobserve": frozenset({"attributes"}),
    "discover": frozenset({"attributes"}),
    "create": frozenset({"value"}),
    "delete": frozenset(),
    "write-attributes": frozenset({"attributes"}),
}


def _member_flaw(verb: Verb, item: dict[str, Any]) -> str | None:
    """A member that would be dropped in silence: a misspelt one, or one this method has no use for."""
    for name, value in item.items():
        if name not in _MEMBERS:
            return f"unknown member {_short(name)}; known are {', '.join(sorted(_MEMBERS))}"
        if name not in ("method", "path", "priority") and name not in _TAKES[verb] and value is not None:
            return f'{verb.upper()} has no use for the member "{name}"'
    return None


def _own_priority(value: Any) -> int | None:
    """Raises `BadProfile`."""
    if value is None:
        return None
    is_number = isinstance(value, int | str) and not isinstance(value, bool)
    return parse_priority(str(value) if is_number else _kind(value))


def _execute_object(draft: "_Draft", item: dict[str, Any]) -> Request:
    given = [each for each in (item.get("args"), item.get("value")) if each is not None]
    if len(given) > 1:
        return draft.refuse("adapter-bad-request", 'give the arguments once, as "args" or as "value"')
    arguments = given[0] if given else ""
    if isinstance(arguments, int) and not isinstance(arguments, bool):
        arguments = str(arguments) if 0 <= arguments <= 9 else None
    if not isinstance(arguments, str):
        return draft.refuse("adapter-bad-request", "EXECUTE arguments are text like 5 or 0='x',1")
    return draft.accept(arguments=arguments.strip())


def _number_text(value: Any) -> str | None:
    """A JSON number as the text a parameter would be, None for null; anything else as text that no number matches."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int) and abs(value) < 10**18:
        return str(value)
    if isinstance(value, float | str):
        return str(value).strip()
    return _kind(value)


# -- both modes --


class _Draft(NamedTuple):
    """A command whose method is known."""

    verb: Verb
    path: str
    content: Any
    priority: int | None = None

    def refuse(self, reason: str, detail: str) -> RefusedRequest:
        method = "exec" if self.verb == "execute" else self.verb
        return RefusedRequest(method, self.path, reason, detail, self.content)

    def accept(
        self,
        value: Any = None,
        has_value: bool = False,
        from_text: bool = True,
        arguments: str = "",
        attributes: tuple[tuple[str, str | None], ...] = (),
    ) -> CommandRequest:
        return CommandRequest(
            self.verb, self.path, self.content, value, has_value, from_text, arguments, attributes, self.priority
        )


def _path_flaw(verb: Verb, text: str) -> str | None:
    """Which rule the path breaks for this method, whatever the device offers."""
    if not text:
        return f"{verb.upper()} needs a path, for example /3/0/0"
    try:
        path = Path.parse(text)
    except PathError as error:
        return f"the path {_short(text)} is not /object/instance/resource: {error.reason}"
    if RESERVED_ID in path:
        return f"the path {_short(text)} uses {RESERVED_ID}, which is reserved"
    if not path:
        return f"{verb.upper()} of / is not possible; name an object, for example /3"
    if verb == "execute" and len(path) != 3:
        return f"EXECUTE needs a resource, /object/instance/resource; {_short(text)} is none"
    if verb == "write" and len(path) < 2:
        return f"WRITE needs an instance or a resource, for example /1/0/1; {_short(text)} is an object"
    if verb == "create" and len(path) > 2:
        return f"CREATE needs an object or the instance to make, for example /3442/1; {_short(text)} is a resource"
    if verb == "delete" and len(path) not in (2, 4):
        return f"DELETE needs an instance or a resource instance, for example /3442/1; {_short(text)} is neither"
    return None


def _with_attributes(draft: _Draft, pairs: list[tuple[str, str | None]]) -> Request:
    """The command with its parameters checked; what they may be together depends on path and device, and is checked
    when those are known. UNOBSERVE takes the same ones and ignores them (§7.2)."""
    if draft.verb == "discover":
        if any(name.lower() != "depth" or text not in ("0", "1", "2", "3") for name, text in pairs) or len(pairs) > 1:
            return draft.refuse("adapter-bad-request", "DISCOVER takes ?depth=0 to ?depth=3 and nothing else")
        return draft.accept(attributes=tuple(pairs))
    named: list[tuple[str, str | None]] = []
    for name, text in pairs:
        attribute = _ATTRIBUTES.get(name.lower())
        if attribute is None:
            return draft.refuse("adapter-bad-request", f"{_short(name)} is no parameter; known are {_KNOWN_ATTRIBUTES}")
        if text is None and draft.verb != "write-attributes":
            return draft.refuse("adapter-bad-request", f"{name} needs a number: {name}=10")
        named.append((attribute, text))
    try:
        attributes = NotificationAttributes.parse(named)
        if draft.verb != "unobserve" and named:
            attributes.check(Path.parse(draft.path), None)
    except InvalidAttribute as error:
        return draft.refuse("adapter-bad-request", str(error))
    if draft.verb == "unobserve":
        return draft.accept()
    return draft.accept(attributes=attributes.to_query())


def _unknown(word: str) -> str:
    """Why a word is no method, and what is."""
    if word.strip().upper() in COMPOSITES:
        return f"{word.strip().upper()} is not supported yet; send one command for each path"
    return f"{_short(word)} is no method; {_METHOD_HINT}"


def _too_many(content: Any) -> RefusedRequest:
    return RefusedRequest("", "", "adapter-bad-request", _TOO_MANY, content)


def _kind(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _short(text: str) -> str:
    """What somebody wrote, quoted, at a length that fits into a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
