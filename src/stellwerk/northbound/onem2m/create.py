"""POST: messages, provisioning requests, applications, and what hangs below a node (contract §5.3, §6, §7.1, §8)."""

from typing import Any, Final, NamedTuple

import msgspec

from stellwerk.app.credentials import BadCredential
from stellwerk.app.handlers.applications import AlreadyRegistered, NameReserved, TooManyApplications
from stellwerk.app.handlers.injecting import PushedOut
from stellwerk.app.handlers.provisioning import CREATE, MOST_ITEMS, REMOVE, REQUEST_DEFINITION, ProvisioningOrder
from stellwerk.app.projected import NotReadableYet
from stellwerk.app.records import AlreadyExists, ContainerFull, DeviceGone, QueueFull
from stellwerk.device.profile import BadProfile
from stellwerk.northbound.onem2m import applications, management, resources
from stellwerk.northbound.onem2m.commands import parse_commands, wanted_priority
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.identifiers import timestamp
from stellwerk.northbound.onem2m.names import AE, CB, CIN, ENVELOPES, FCNT, MGMT_OBJ, NOD
from stellwerk.northbound.onem2m.reading import read
from stellwerk.northbound.onem2m.request import (
    Request,
    check_attributes,
    creator,
    decode_resource,
    resource_type,
    wanted_expiry,
    wanted_labels,
    wanted_name,
    wanted_text,
)
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.scope import Scope
from stellwerk.northbound.onem2m.tree import (
    CREDENTIALS,
    DEVICE_INFO,
    Application,
    Base,
    Bin,
    Credentials,
    DeviceInfo,
    Flex,
    Message,
    MessageContainerName,
    Messages,
    Node,
    SystemAe,
    Target,
)

_TYPES: Final = frozenset(resource_type for resource_type, _ in ENVELOPES.values())
_CIN_SHAPE: Final = '{"m2m:cin": {"con": "READ /3/0/0"}}'
_CIN_WRITABLE: Final = frozenset(
    {"rn", "lbl", "con", "cnf", "cr", "et", "acpi", "at", "aa", "ast", "daci", "dgt", "or", "conr", "dcnt"}
)
_REQUEST_SHAPE: Final = (
    '{"dtiot:noPRt": {"opern": 1, "reqLt": [{"noRNe": "<name>", "ni": "<id>", "profe": "SCS-LwM2M"}]}}'
)
_REQUEST_WRITABLE: Final = frozenset({"rn", "lbl", "cr", "et", "acpi", "cnd", "opern", "reqLt"})
_MGMT_OBJ_SHAPE: Final = f"{management.CREDENTIAL_SHAPE} or {management.INFO_SHAPE}"


async def create(scope: Scope, target: Target, request: Request) -> Resource:
    """The new resource. Raises `Refusal`."""
    wanted = resource_type(request)
    if wanted not in _TYPES:
        raise Refusal(Rsc.BAD_REQUEST, f"ty={wanted} is no resource type that is known here; 4 is a contentInstance")
    try:
        match target:
            case Messages(device, "outgoing-msg"):
                _check_type(wanted, CIN, "outgoing-msg takes contentInstances, ty=4")
                return await _post_command(scope, device, request)
            case Messages(device, "received-msg"):
                _check_type(wanted, CIN, "received-msg takes contentInstances, ty=4")
                return await _inject(scope, device, request)
            case Bin("device-provisioning/request"):
                _check_type(wanted, FCNT, "device-provisioning/request takes provisioning requests, ty=28")
                return await _post_provisioning(scope, request)
            case Base() if wanted == AE:
                return await _register_application(scope, request)
            case Node(device):
                return await _post_below_node(scope, device, wanted, request)
    except AlreadyExists as error:
        raise Refusal(Rsc.CONFLICT, str(error)) from None
    except AlreadyRegistered as error:
        raise Refusal(Rsc.ORIGINATOR_HAS_ALREADY_REGISTERED, str(error)) from None
    except (ContainerFull, QueueFull, TooManyApplications) as error:
        raise Refusal(Rsc.NOT_ACCEPTABLE, str(error)) from None
    except (BadCredential, NameReserved) as error:
        raise Refusal(Rsc.BAD_REQUEST, str(error)) from None
    except DeviceGone as error:
        raise Refusal(Rsc.NOT_FOUND, str(error)) from None
    except (NotReadableYet, PushedOut) as error:
        raise Refusal(Rsc.REQUEST_TIMEOUT, str(error)) from None
    raise await _no_creation(scope, target, wanted)


def _check_type(wanted: int, right: int, hint: str) -> None:
    if wanted != right:
        raise Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"ty={wanted} cannot be created here; {hint}")


async def _no_creation(scope: Scope, target: Target, wanted: int) -> Refusal:
    """Why nothing, or nothing of this type, can be created there."""
    match target:
        case Message(device, container, _):
            await scope.device(device)
            return Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"a contentInstance has no children; post to {container}")
        case Credentials(device) | DeviceInfo(device):
            await scope.device(device)
            return Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, "a management object has no children")
        case Base() if wanted in (CIN, MGMT_OBJ):
            return Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"ty={wanted} cannot be created below the tenant itself")
        case Base() if wanted not in (CB, NOD):
            text = f"creating ty={wanted} below the tenant is not supported; applications (ty=2) can register there"
            return Refusal(Rsc.NOT_IMPLEMENTED, text)
        case SystemAe("device-group"):
            return Refusal(Rsc.NOT_IMPLEMENTED, "device groups are not supported")
        case Application(_):
            return Refusal(Rsc.NOT_IMPLEMENTED, f"creating ty={wanted} below an application is not supported")
        case Flex():
            return Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"ty={wanted} cannot be created below a flexContainer")
    hint = (
        "devices are made by device-provisioning/request, commands go to outgoing-msg, "
        "applications (ty=2) register below the tenant"
    )
    return Refusal(Rsc.OPERATION_NOT_ALLOWED, f"ty={wanted} cannot be created here; {hint}", ("GET",))


# -- messages --


class _Message(NamedTuple):
    """A contentInstance as it was posted, checked."""

    name: str | None
    content: Any
    content_info: str | None
    labels: tuple[str, ...]
    attributes: dict[str, Any]


def _decode_message(scope: Scope, request: Request) -> _Message:
    _, attributes = decode_resource(request, CIN, _CIN_SHAPE)
    check_attributes(request, attributes, _CIN_WRITABLE)
    content = attributes.get("con")
    if content is None:
        raise Refusal(Rsc.BAD_REQUEST, f"the attribute con is missing; send {_CIN_SHAPE}")
    content_info = wanted_text(attributes, "cnf", "text/plain:0 or application/json:0")
    _check_size(content, len(request.body), scope.services.limits.max_bytes)
    return _Message(wanted_name(attributes), content, content_info, wanted_labels(attributes), attributes)


async def _post_command(scope: Scope, device_name: str, request: Request) -> Resource:
    device = await scope.device(device_name)
    posted = _decode_message(scope, request)
    expires_ms = wanted_expiry(posted.attributes, scope.services.clock.wall_ms())
    try:
        priority = wanted_priority(posted.labels)
    except BadProfile as error:
        raise Refusal(Rsc.BAD_REQUEST, f"the label says {error}") from None
    record = await scope.services.commands.post(
        device,
        name=posted.name,
        content=posted.content,
        content_info=posted.content_info,
        creator=creator(request, posted.attributes),
        labels=posted.labels,
        requests=parse_commands(posted.content, posted.content_info),
        expires_ms=expires_ms,
        priority=priority,
    )
    resource = resources.message(device, "outgoing-msg", record)
    if request.strict and expires_ms is not None:
        resource.attributes["et"] = timestamp(expires_ms)
    return resource


async def _inject(scope: Scope, device_name: str, request: Request) -> Resource:
    device = await scope.device(device_name)
    posted = _decode_message(scope, request)
    creator(request, posted.attributes)
    container: MessageContainerName = "received-msg"
    record = await scope.services.injecting.inject(
        device,
        name=posted.name,
        content=posted.content,
        content_info=posted.content_info,
        # Beside the messages of the platform it has to be seen whose this one is, whoever asks (§8).
        creator=request.origin,
        labels=posted.labels,
    )
    return resources.message(device, container, record)


def _check_size(content: Any, body_bytes: int, limit: int) -> None:
    # Compact JSON is hardly ever longer than what was sent, so small bodies need no counting.
    if body_bytes <= limit // 4:
        return
    size = len(content.encode()) if isinstance(content, str) else len(msgspec.json.encode(content))
    if size > limit:
        raise Refusal(Rsc.NOT_ACCEPTABLE, f"con has {size} bytes; the container takes {limit} at most (mbs)")


# -- devices --


async def _post_provisioning(scope: Scope, request: Request) -> Resource:
    envelope, attributes = decode_resource(request, FCNT, _REQUEST_SHAPE)
    if envelope != "dtiot:noPRt":
        raise Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"{envelope} cannot be created here; send {_REQUEST_SHAPE}")
    check_attributes(request, attributes, _REQUEST_WRITABLE)
    definition = attributes.get("cnd", REQUEST_DEFINITION)
    if definition != REQUEST_DEFINITION:
        raise Refusal(Rsc.BAD_REQUEST, f"cnd is {REQUEST_DEFINITION} for a provisioning request")
    operation = attributes.get("opern", CREATE)
    if isinstance(operation, bool) or operation not in (CREATE, REMOVE):
        raise Refusal(Rsc.BAD_REQUEST, "opern is 1 to create devices or 2 to remove them")
    items = attributes.get("reqLt")
    if not isinstance(items, list) or not items:
        raise Refusal(Rsc.BAD_REQUEST, f"reqLt has to list at least one device; send {_REQUEST_SHAPE}")
    if len(items) > MOST_ITEMS:
        text = f"reqLt lists {len(items)} devices, {MOST_ITEMS} is the most; send several requests"
        raise Refusal(Rsc.BAD_REQUEST, text)
    order = ProvisioningOrder(
        tenant_id=scope.tenant_id,
        operation=operation,
        items=items,
        name=wanted_name(attributes),
        creator=creator(request, attributes),
        labels=wanted_labels(attributes),
        attributes={"cnd": definition, "opern": operation},
    )
    return resources.flex_container(scope.tenant, await scope.services.provisioning.request(order))


async def _post_below_node(scope: Scope, device_name: str, wanted: int, request: Request) -> Resource:
    device = await scope.device(device_name)
    if wanted != MGMT_OBJ:
        hint = "credentials and device-info (ty=13) can"
        raise Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"ty={wanted} cannot be created below a node; {hint}")
    envelope, attributes = decode_resource(request, MGMT_OBJ, _MGMT_OBJ_SHAPE)
    if envelope in management.CREDENTIAL_ENVELOPES:
        check_attributes(request, attributes, management.CREDENTIAL_WRITABLE)
        management.check_identity_of(attributes, CREDENTIALS)
        creator(request, attributes)
        credential = management.wanted_credential(envelope, attributes, device)
        await scope.services.devices.give_credential(device, credential)
        return await read(scope, Credentials(device_name), request.strict)
    if envelope == management.INFO_ENVELOPE:
        check_attributes(request, attributes, management.INFO_WRITABLE)
        management.check_identity_of(attributes, DEVICE_INFO)
        creator(request, attributes)
        info = management.wanted_info(attributes)
        given = {name: value for name, value in info.items() if value is not None}
        await scope.services.devices.give_info(device, given)
        return await read(scope, DeviceInfo(device_name), request.strict)
    raise management.not_there(envelope)


# -- applications --


async def _register_application(scope: Scope, request: Request) -> Resource:
    _, attributes = decode_resource(request, AE, applications.SHAPE)
    check_attributes(request, attributes, applications.WRITABLE)
    stored = await scope.services.applications.register(
        scope.tenant_id,
        scope.tenant,
        name=wanted_name(attributes),
        ae_id=request.origin,
        creator=creator(request, attributes),
        labels=wanted_labels(attributes),
        attributes=applications.wanted_attributes(request, attributes, is_new=True),
    )
    return resources.stored(scope.tenant, stored)
