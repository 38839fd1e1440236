"""What a message in outgoing-msg asks for: text and JSON to commands (contract Device to Cloud §7.2).

``READ /6; RD /3/0/0`` is protocol mode, ``{"method": "GET", "path": "/6"}`` and lists of such are REST mode. Parsing
never raises: a part that cannot be understood becomes a `RefusedRequest`, which its application finds in received-msg.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from stellwerk.app.command_request import CommandRequest, RefusedRequest, Verb
from stellwerk.device.profile import BadProfile, parse_priority
from stellwerk.lwm2m.attributes import NAMES, InvalidAttribute, NotificationAttributes
from stellwerk.lwm2m.path import RESERVED_ID, Path, PathError
from stellwerk.lwm2m.paths import MAX_PATHS
from stellwerk.northbound.onem2m.command_text import (
    COMPOSITE,
    DECODER,
    LONGEST_SHOWN_PATH,
    MAX_COMMANDS,
    TOO_MANY,
    VERBS,
    Part,
    parts,
    short,
)

Request: TypeAlias = CommandRequest | RefusedRequest

_CANCELS: Final[frozenset[Verb]] = frozenset({"unobserve", "unobserve-composite"})

_KNOWN_ATTRIBUTES: Final = ", ".join(sorted(NAMES["1.2"]))
_ATTRIBUTES: Final = {**{name: name for name in NAMES["1.2"]}, "step": "st", "steps": "st"}
_MEMBERS: Final = frozenset({"method", "path", "value", "attributes", "args", "paths", "priority"})
_PRIORITY: Final = "priority:"

_METHOD_HINT: Final = (
    "use READ, WRITE, EXECUTE, OBSERVE, UNOBSERVE, DISCOVER, CREATE, DELETE or WRITE-ATTRIBUTES, and READ-COMPOSITE "
    "and its kin for several paths"
)
_WRITE_COMPOSITE_HINT: Final = 'WRITE-COMPOSITE wants values by path as JSON: {"/1/0/1": 60, "/3/0/15": "UTC"}'
_MOST_SHOWN_PATHS: Final = 1000
"""Characters of a list of paths in a refusal."""

_ANY_OBJECT: Final = "/3"
_PATHS_APART = re.compile(r"[\s,]+")


def parse_commands(content: Any, content_info: str | None) -> list[Request]:
    """The commands of one message, in order; at least one result, and exactly one for each part. Never raises for any
    JSON value. Reasons of refusals are keys of `app.status_table.STATUS`."""
    if (flaw := _format_flaw(content, content_info)) is not None:
        return [RefusedRequest("", "", "format", flaw, content)]
    if isinstance(content, str):
        requests: list[Request] = [_from_text(part) for part in parts(content)]
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
        return f"cnf {short(content_info)} says base64; commands are plain: text/plain:0 or application/json:0"
    if isinstance(content, str):
        return None if media in ("text/plain", "application/json") else _cnf_flaw(content_info, "text/plain:0")
    return None if media == "application/json" else _cnf_flaw(content_info, "application/json:0")


def _cnf_flaw(content_info: str, right: str) -> str:
    return f"cnf {short(content_info)} does not fit this con; write {right}"


# -- protocol mode --


def _from_text(part: Part) -> Request:
    if part.flaw is TOO_MANY:
        return _too_many(part.text)
    verb = VERBS.get(part.word.upper())
    if verb is None:
        return RefusedRequest("", part.path, "method-unknown", _unknown(part.word), part.text)
    if verb in COMPOSITE:
        return _composite_text(verb, part)
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
                hint = f"{verb.upper()} takes parameters as {example} behind the path, not {short(part.value)}"
                return draft.refuse("adapter-bad-request", hint)
            return _with_attributes(draft, _parameter_pairs(part.parameters or ""))
        case _:
            raise AssertionError(verb)


def _composite_text(verb: Verb, part: Part) -> Request:
    draft = _Draft(verb, part.path[:_MOST_SHOWN_PATHS], part.text)
    if part.flaw:
        return draft.refuse("adapter-bad-request", part.flaw)
    if verb == "write-composite":
        if part.path or part.parameters is not None:
            return draft.refuse("adapter-bad-request", _WRITE_COMPOSITE_HINT)
        if part.value is None:
            return draft.refuse("value-missing", _WRITE_COMPOSITE_HINT)
        try:
            value = DECODER.decode(part.value)
        except (ValueError, RecursionError):
            return draft.refuse("adapter-bad-request", _WRITE_COMPOSITE_HINT)
        return _written_composite(draft, value)
    if part.value is not None:
        return draft.refuse("adapter-bad-request", f"{verb.upper()} takes paths alone, not {short(part.value)}")
    paths = [each for each in _PATHS_APART.split(part.path) if each]
    return _listed(draft, paths, _parameter_pairs(part.parameters or ""))


def _instance_value(draft: "_Draft", text: str) -> Request:
    """An instance is written as a JSON object of its resources."""
    try:
        value = DECODER.decode(text)
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
    shown_path = path.strip()[:LONGEST_SHOWN_PATH] if isinstance(path, str) else ""
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
    if verb in COMPOSITE:
        return _composite_object(verb, shown_path, item, priority)
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
            return _with_attributes(draft, _attribute_pairs(attributes))
        case _:
            raise AssertionError(verb)


def _attribute_pairs(attributes: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(name, _number_text(value)) for name, value in attributes.items()]


def _composite_object(verb: Verb, shown: str, item: dict[str, Any], priority: int | None) -> Request:
    paths = item.get("paths")
    if isinstance(paths, list) and all(isinstance(each, str) for each in paths):
        shown = ",".join(paths)[:_MOST_SHOWN_PATHS]
    draft = _Draft(verb, shown, item, priority)
    if (flaw := _member_flaw(verb, item)) is not None:
        return draft.refuse("adapter-bad-request", flaw)
    if item.get("path") not in (None, "/"):
        instead = '"value"' if verb == "write-composite" else '"paths", a list'
        return draft.refuse("path-invalid", f"{verb.upper()} has its paths in the member {instead}, not in path")
    if verb == "write-composite":
        return _written_composite(draft, item.get("value"))
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        return draft.refuse("path-invalid", f'{verb.upper()} needs a list: "paths": ["/3/0/9", "/1/0/1"]')
    attributes = item.get("attributes") or {}
    if not isinstance(attributes, dict):
        return draft.refuse("adapter-bad-request", '"attributes" is an object like {"pmin": 10, "pmax": 60}')
    return _listed(draft, [each.strip() for each in paths], _attribute_pairs(attributes))


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
    "read-composite": frozenset({"paths"}),
    "write-composite": frozenset({"value"}),
    "observe-composite": frozenset({"paths", "attributes"}),
    "unobserve-composite": frozenset({"paths", "attributes"}),
}


def _member_flaw(verb: Verb, item: dict[str, Any]) -> str | None:
    """A member that would be dropped in silence: a misspelt one, or one this method has no use for."""
    for name, value in item.items():
        if name not in _MEMBERS:
            return f"unknown member {short(name)}; known are {', '.join(sorted(_MEMBERS))}"
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
        paths: tuple[str, ...] = (),
    ) -> CommandRequest:
        return CommandRequest(
            self.verb, self.path, self.content, value, has_value, from_text, arguments, attributes, paths, self.priority
        )


def _listed(draft: _Draft, paths: list[str], pairs: list[tuple[str, str | None]]) -> Request:
    """A command about a list of paths."""
    word = draft.verb.upper()
    if not paths:
        return draft.refuse("path-invalid", f"{word} needs paths, for example {word} /3/0/9 /1/0/1")
    if len(paths) > MAX_PATHS:
        return draft.refuse("path-invalid", f"{word} has {len(paths)} paths, {MAX_PATHS} may be")
    for each in paths:
        if (flaw := _path_flaw(draft.verb, each)) is not None:
            return draft.refuse("path-invalid", flaw)
    draft = draft._replace(path=",".join(paths))
    if draft.verb == "read-composite":
        if pairs:
            return draft.refuse("adapter-bad-request", "READ-COMPOSITE takes paths and nothing behind them")
        return draft.accept(paths=tuple(paths))
    # Whatever may be for one object may be for all paths: none of what a list takes depends on a type.
    checked = _with_attributes(draft._replace(path=_ANY_OBJECT), pairs)
    if isinstance(checked, RefusedRequest):
        return draft.refuse(checked.reason, checked.detail)
    return draft.accept(attributes=checked.attributes, paths=tuple(paths))


def _written_composite(draft: _Draft, value: Any) -> Request:
    if value is None or value == {}:
        return draft.refuse("value-missing", _WRITE_COMPOSITE_HINT)
    if not isinstance(value, dict):
        return draft.refuse("adapter-bad-request", _WRITE_COMPOSITE_HINT)
    draft = draft._replace(path=",".join(value)[:_MOST_SHOWN_PATHS])
    for each in value:
        if (flaw := _path_flaw("write", each)) is not None:
            return draft.refuse("path-invalid", flaw.replace("WRITE", "WRITE-COMPOSITE", 1))
    return draft.accept(value=value, has_value=True, from_text=False, paths=tuple(value))


def _path_flaw(verb: Verb, text: str) -> str | None:
    """Which rule the path breaks for this method, whatever the device offers."""
    if not text:
        return f"{verb.upper()} needs a path, for example /3/0/0"
    try:
        path = Path.parse(text)
    except PathError as error:
        return f"the path {short(text)} is not /object/instance/resource: {error.reason}"
    if RESERVED_ID in path:
        return f"the path {short(text)} uses {RESERVED_ID}, which is reserved"
    if not path and verb not in COMPOSITE:
        return f"{verb.upper()} of / is not possible; name an object, for example /3"
    if verb == "execute" and len(path) != 3:
        return f"EXECUTE needs a resource, /object/instance/resource; {short(text)} is none"
    if verb == "write" and len(path) < 2:
        return f"WRITE needs an instance or a resource, for example /1/0/1; {short(text)} is an object"
    if verb == "create" and len(path) > 2:
        return f"CREATE needs an object or the instance to make, for example /3442/1; {short(text)} is a resource"
    if verb == "delete" and len(path) not in (2, 4):
        return f"DELETE needs an instance or a resource instance, for example /3442/1; {short(text)} is neither"
    return None


def _with_attributes(draft: _Draft, pairs: list[tuple[str, str | None]]) -> Request:
    """The command with its parameters checked; what they may be together depends on path and device, and is checked
    when those are known. UNOBSERVE takes the same ones and ignores them (§7.2), and ``passive``, which is its own."""
    if draft.verb == "discover":
        if any(name.lower() != "depth" or text not in ("0", "1", "2", "3") for name, text in pairs) or len(pairs) > 1:
            return draft.refuse("adapter-bad-request", "DISCOVER takes ?depth=0 to ?depth=3 and nothing else")
        return draft.accept(attributes=tuple(pairs))
    passive = False
    named: list[tuple[str, str | None]] = []
    for name, text in pairs:
        if name.lower() == "passive" and draft.verb in _CANCELS:
            if text not in (None, "0", "1"):
                return draft.refuse("adapter-bad-request", "passive is 1, or 0")
            passive = text != "0"
            continue
        attribute = _ATTRIBUTES.get(name.lower())
        if attribute is None:
            return draft.refuse("adapter-bad-request", f"{short(name)} is no parameter; known are {_KNOWN_ATTRIBUTES}")
        if text is None and draft.verb != "write-attributes":
            return draft.refuse("adapter-bad-request", f"{name} needs a number: {name}=10")
        named.append((attribute, text))
    try:
        attributes = NotificationAttributes.parse(named)
        if draft.verb not in _CANCELS and named:
            attributes.check(Path.parse(draft.path), None)
    except InvalidAttribute as error:
        return draft.refuse("adapter-bad-request", str(error))
    if draft.verb in _CANCELS:
        return draft.accept(attributes=(("passive", None),) if passive else ())
    return draft.accept(attributes=attributes.to_query())


def _unknown(word: str) -> str:
    """Why a word is no method, and what is."""
    return f"{short(word)} is no method; {_METHOD_HINT}"


def _too_many(content: Any) -> RefusedRequest:
    return RefusedRequest("", "", "adapter-bad-request", TOO_MANY, content)


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
