"""From what a client asked to an operation the device can understand, checked against its model (contract D-5)."""

from collections.abc import Collection
from dataclasses import dataclass

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.core.errors import StellwerkError
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.attributes import InvalidAttribute, NotificationAttributes
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.operations import (
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    Operation,
    Read,
    Write,
    WriteAttributes,
)
from stellwerk.lwm2m.path import RESERVED_ID, Path, PathError
from stellwerk.lwm2m.schema.checks import (
    Ground,
    Objection,
    check_create,
    check_delete,
    check_execute,
    check_read,
    check_write,
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
    wanted_paths: Collection[Path],
) -> Resolved | RefusedRequest:
    """The operation behind ``request``, or why there is none. Without a registration the newest models are asked.
    ``wanted_paths``: what is observed of the device when the command's turn comes."""
    if isinstance(request, RefusedRequest):
        return request
    try:
        try:
            path = Path.parse(request.path)
        except PathError as error:
            raise _Refusal("path-invalid", str(error)) from None
        _offered(path, registration)
        operation = _operation(request, path, types, wanted_paths if registration else ())
    except _Refusal as refusal:
        return RefusedRequest(request.method, request.path, refusal.reason, refusal.detail, request.content)
    return Resolved(request, operation)


def _offered(path: Path, registration: Registration | None) -> None:
    if not path:
        raise _Refusal("path-invalid", "the root cannot be addressed here; name an object, like /3")
    if registration is not None and path[0] not in registration.objects.objects:
        offered = ", ".join(f"/{each}" for each in sorted(registration.objects.objects)) or "none"
        raise _Refusal("path-invalid", f"the device does not offer object {path[0]}; it offers {offered}")


def _operation(request: CommandRequest, path: Path, types: DeviceTypes, wanted: Collection[Path]) -> Operation:
    match request.verb:
        case "read":
            _acceptable(check_read(types, path))
            return Read(path)
        case "write":
            return _write(request, path, types)
        case "execute":
            _acceptable(check_execute(types, path))
            return Execute(path, request.arguments)
        case "observe":
            _acceptable(check_read(types, path))
            if path in wanted:
                raise _Refusal("conflict", f"{path} is observed already; UNOBSERVE it first")
            return Observe(path, None, _attributes(request, path, types))
        case "unobserve":
            if path not in wanted:
                raise _Refusal("no-observation", f"{path} is not observed")
            return CancelObservation(path)
        case "discover":
            return _discover(request, path, types)
        case "create":
            return _create(request, path, types)
        case "delete":
            _acceptable(check_delete(types, path))
            return Delete(path)
        case "write-attributes":
            pairs = _attributes(request, path, types)
            if not pairs:
                raise _Refusal("value-missing", f"WRITE-ATTRIBUTES wants attributes: {path}?pmin=10&pmax=60")
            return WriteAttributes(path, pairs)


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
    if len(path) > 3:
        raise _Refusal("path-invalid", f"DISCOVER wants an object, an instance or a resource, and {path} is below one")
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
    return Write(path, Content(entries), replace=len(path) >= 3)
