"""From what a client asked to an operation the device can understand, checked against its model (contract D-5)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.core.errors import StellwerkError
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.attributes import InvalidAttribute, NotificationAttributes
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.operations import (
    CancelComposite,
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteAttributes,
    WriteComposite,
)
from stellwerk.lwm2m.path import RESERVED_ID, Path, PathError
from stellwerk.lwm2m.paths import MAX_PATHS, PathListError, Paths, Target
from stellwerk.lwm2m.schema.checks import (
    Ground,
    Objection,
    check_attributes,
    check_create,
    check_delete,
    check_discover,
    check_execute,
    check_read,
    check_write,
    objection_to_arguments,
)
from stellwerk.lwm2m.schema.library import DeviceTypes
from stellwerk.lwm2m.schema.values import ValueRefused, parse_entries, parse_text_value

_PATH_GROUNDS = (Ground.PATH, Ground.PROTECTED)


@dataclass(frozen=True, slots=True)
class Resolved:
    """``operation`` can be sent as it is."""

    request: CommandRequest
    operation: Operation


class _Refusal(StellwerkError):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


def resolve(
    request: CommandRequest | RefusedRequest,
    registration: Registration | None,
    types: DeviceTypes,
    wanted_paths: Collection[Target],
) -> Resolved | RefusedRequest:
    """The operation behind ``request``, or why there is none. Without a registration the newest models are asked.
    ``wanted_paths``: what is observed of the device when the command's turn comes."""
    if isinstance(request, RefusedRequest):
        return request
    try:
        wanted = wanted_paths if registration else ()
        operation: Operation
        if request.verb in _COMPOSITES:
            operation = _composite(request, registration, types, wanted)
        else:
            path = _path(request.path)
            _offered(path, registration)
            operation = _operation(request, path, types, wanted)
    except _Refusal as refusal:
        return RefusedRequest(request.method, request.path, refusal.reason, refusal.detail, request.content)
    return Resolved(request, operation)


def _path(text: str) -> Path:
    try:
        return Path.parse(text)
    except PathError as error:
        raise _Refusal("path-invalid", str(error)) from None


def _offered(path: Path, registration: Registration | None) -> None:
    if not path:
        raise _Refusal("path-invalid", "the root cannot be addressed here; name an object, like /3")
    if registration is not None and path[0] not in registration.objects.objects:
        offered = ", ".join(f"/{each}" for each in sorted(registration.objects.objects)) or "none"
        raise _Refusal("path-invalid", f"the device does not offer object {path[0]}; it offers {offered}")


def _operation(request: CommandRequest, path: Path, types: DeviceTypes, wanted: Collection[Target]) -> Operation:
    match request.verb:
        case "read":
            _acceptable(check_read(types, path))
            return Read(path)
        case "write":
            return _write(request, path, types)
        case "execute":
            _acceptable(check_execute(types, path))
            if (flaw := objection_to_arguments(request.arguments)) is not None:
                raise _Refusal("adapter-bad-request", flaw)
            return Execute(path, request.arguments)
        case "observe":
            _acceptable(check_read(types, path))
            if path in wanted:
                raise _Refusal("conflict", f"{path} is observed already; UNOBSERVE it first")
            return Observe(path, None, _attributes(request, path, types))
        case "unobserve":
            if path not in wanted:
                raise _Refusal("no-observation", f"{path} is not observed")
            return CancelObservation(path, passive=_is_passive(request))
        case "discover":
            return _discover(request, path, types)
        case "create":
            return _create(request, path, types)
        case "delete":
            _acceptable(check_delete(types, path))
            return Delete(path)
        case "write-attributes":
            _acceptable(check_attributes(types, path))
            pairs = _attributes(request, path, types)
            if not pairs:
                raise _Refusal("value-missing", f"WRITE-ATTRIBUTES wants attributes: {path}?pmin=10&pmax=60")
            return WriteAttributes(path, pairs)
        case _:
            raise _Refusal("method-unknown", f"{request.verb} is about a list of paths")


_COMPOSITES: Final = frozenset({"read-composite", "write-composite", "observe-composite", "unobserve-composite"})
_DEVICE: Final = 3
_LIST_ATTRIBUTES: Final = frozenset({"pmin", "pmax", "epmin", "epmax", "con"})
"""What an Observe-Composite may carry (contract §7)."""


def _is_passive(request: CommandRequest) -> bool:
    return any(name == "passive" for name, _ in request.attributes)


def _composite(
    request: CommandRequest, registration: Registration | None, types: DeviceTypes, wanted: Collection[Target]
) -> Operation:
    if request.verb == "write-composite":
        return _write_composite(request, registration, types)
    try:
        paths = Paths([_path(each) for each in request.paths])
    except PathListError as error:
        raise _Refusal("path-invalid", error.reason) from None
    for each in paths:
        # The root is everything; and what cannot be read the device leaves out (D-11).
        if each:
            _offered(each, registration)
            objection = check_read(types, each)
            _acceptable(objection if objection and objection.ground in _PATH_GROUNDS else None)
    shown = ", ".join(map(str, paths))
    match request.verb:
        case "read-composite":
            return ReadComposite(paths)
        case "unobserve-composite":
            if paths not in wanted:
                raise _Refusal("no-observation", f"the list {shown} is not observed")
            return CancelComposite(paths, passive=_is_passive(request))
    _knows_composites(types, registration, "OBSERVE each path by itself")
    if paths in wanted:
        raise _Refusal("conflict", f"the list {shown} is observed already; UNOBSERVE-COMPOSITE it first")
    return ObserveComposite(paths, attributes=_list_attributes(request, paths, types))


def _knows_composites(types: DeviceTypes, registration: Registration | None, instead: str) -> None:
    if registration is not None and types.lwm2m_version == "1.0":
        raise _Refusal("not-acceptable", f"a device of LwM2M 1.0 has no composites; {instead}")


def _list_attributes(request: CommandRequest, paths: Paths, types: DeviceTypes) -> tuple[tuple[str, str | None], ...]:
    if not request.attributes:
        return ()
    if types.lwm2m_version in ("1.0", "1.1"):
        version = types.lwm2m_version
        text = f"a device of LwM2M {version} takes no attributes with a list; WRITE-ATTRIBUTES to its paths first"
        raise _Refusal("not-acceptable", text)
    if others := {name for name, _ in request.attributes} - _LIST_ATTRIBUTES:
        text = f"a list may have {', '.join(sorted(_LIST_ATTRIBUTES))}; {', '.join(sorted(others))} belong to one path"
        raise _Refusal("adapter-bad-request", text)
    return _attributes(request, paths[0] or Path(_DEVICE), types)


def _write_composite(request: CommandRequest, registration: Registration | None, types: DeviceTypes) -> WriteComposite:
    _knows_composites(types, registration, "WRITE each path by itself")
    if not isinstance(request.value, dict) or not request.value:
        raise _Refusal("value-missing", 'WRITE-COMPOSITE wants values by path: {"/1/0/1": 60, "/3/0/15": "UTC"}')
    entries: list[Entry] = []
    removed: list[Path] = []
    for text, literal in request.value.items():
        path = _path(text)
        _offered(path, registration)
        if literal is None:
            removed.append(_removable(path, types))
            continue
        _acceptable(check_write(types, path))
        try:
            found = parse_entries(types, path, literal)
        except ValueRefused as error:
            raise _Refusal("adapter-bad-request", str(error)) from None
        _acceptable(check_write(types, path, found))
        entries += found
    named = [*(entry.path for entry in entries), *removed]
    if len(named) > MAX_PATHS:
        raise _Refusal("adapter-bad-request", f"it writes {len(named)} resources, {MAX_PATHS} may be; split it")
    if len(set(named)) != len(named):
        twice = next(each for each in named if named.count(each) > 1)
        raise _Refusal("adapter-bad-request", f"{twice} is given twice")
    return WriteComposite(Content(tuple(entries), removed=tuple(removed)))


def _removable(path: Path, types: DeviceTypes) -> Path:
    if types.lwm2m_version in ("1.0", "1.1"):
        text = f"{path}: null takes a resource instance away with LwM2M 1.2 alone; DELETE {path} by itself"
        raise _Refusal("not-acceptable", text)
    if len(path) != 4:
        raise _Refusal("value-missing", f"{path}: null takes only a resource instance away, and this is none")
    _acceptable(check_delete(types, path))
    return path


def _acceptable(objection: Objection | None) -> None:
    if objection is not None:
        reason = "path-invalid" if objection.ground in _PATH_GROUNDS else "not-acceptable"
        raise _Refusal(reason, objection.text)


def _attributes(request: CommandRequest, path: Path, types: DeviceTypes) -> tuple[tuple[str, str | None], ...]:
    """Attributes that the device may accept for ``path``: it would refuse one that its version does not know, and all
    others with it (contract §7)."""
    if not request.attributes:
        return ()
    try:
        attributes = NotificationAttributes.parse(request.attributes)
        attributes.check(path, types.resource_type(path))
    except InvalidAttribute as error:
        raise _Refusal("adapter-bad-request", str(error)) from None
    if unknown := attributes.unknown_to(types.lwm2m_version):
        text = f"a device of LwM2M {types.lwm2m_version} does not know {', '.join(sorted(unknown))}; leave that out"
        raise _Refusal("not-acceptable", text)
    return attributes.to_query()


def _discover(request: CommandRequest, path: Path, types: DeviceTypes) -> Discover:
    _acceptable(check_discover(types, path))
    depth = dict(request.attributes).get("depth")
    if depth is None:
        return Discover(path)
    if types.lwm2m_version in ("1.0", "1.1"):
        raise _Refusal("not-acceptable", f"a device of LwM2M {types.lwm2m_version} does not know depth; leave it out")
    return Discover(path, int(depth))


def _create(request: CommandRequest, path: Path, types: DeviceTypes) -> Create:
    if len(path) > 2:
        raise _Refusal("path-invalid", f"CREATE wants an object or an instance to make, and {path} is a resource")
    instance = path if len(path) == 2 else path.child(RESERVED_ID)
    entries: tuple[Entry, ...] = ()
    if request.has_value and request.value not in (None, {}):
        try:
            entries = parse_entries(types, instance, request.value)
        except ValueRefused as error:
            raise _Refusal("adapter-bad-request", str(error)) from None
    above = Path(path[0])
    _acceptable(check_create(types, above, entries))
    return Create(above, Content(entries, () if entries else (instance,)))


def _write(request: CommandRequest, path: Path, types: DeviceTypes) -> Write:
    if not request.has_value or request.value is None:
        raise _Refusal("value-missing", f"WRITE wants a value: WRITE {path} <value>")
    _acceptable(check_write(types, path))
    try:
        if request.from_text and len(path) >= 3:
            entries: tuple[Entry, ...] = (Entry(path, parse_text_value(types, path, request.value)),)
        else:
            entries = parse_entries(types, path, request.value)
    except ValueRefused as error:
        raise _Refusal("adapter-bad-request", str(error)) from None
    _acceptable(check_write(types, path, entries))
    # A resource is replaced; of an instance only what was named changes (Core §6.3.3).
    replace = len(path) >= 3 if request.replace is None else request.replace
    if not replace and not (len(path) == 2 or (len(path) == 3 and any(len(each.path) == 4 for each in entries))):
        raise _Refusal("adapter-bad-request", f"{path} has no parts of which some could stay; replace it")
    return Write(path, Content(entries), replace)
