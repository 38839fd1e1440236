"""POST: messages to devices and provisioning requests (contract §6.1, §7.1)."""

from typing import Any, Final

import msgspec

from stellwerk.app.handlers.provisioning import CREATE, REMOVE, REQUEST_DEFINITION, ProvisioningOrder
from stellwerk.app.ports import AlreadyExists, ContainerFull
from stellwerk.northbound.onem2m import resources
from stellwerk.northbound.onem2m.commands import parse_commands
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.names import AE, CIN, FCNT
from stellwerk.northbound.onem2m.request import (
    Request,
    check_attributes,
    creator,
    decode_resource,
    resource_type,
    wanted_labels,
    wanted_name,
)
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.retrieve import Scope
from stellwerk.northbound.onem2m.tree import Base, Bin, Flex, Message, Messages, Node, SystemAe, Target

_CIN_SHAPE: Final = '{"m2m:cin": {"con": "READ /3/0/0"}}'
_CIN_WRITABLE: Final = frozenset(
    {"rn", "lbl", "con", "cnf", "cr", "et", "acpi", "at", "aa", "ast", "daci", "dgt", "or", "conr", "dcnt"}
)
_REQUEST_SHAPE: Final = (
    '{"dtiot:noPRt": {"opern": 1, "reqLt": [{"noRNe": "<name>", "ni": "<id>", "profe": "SCS-LwM2M"}]}}'
)
_REQUEST_WRITABLE: Final = frozenset({"rn", "lbl", "cr", "et", "acpi", "cnd", "opern", "reqLt"})


async def create(scope: Scope, target: Target, request: Request) -> Resource:
    """The new resource. Raises `Refusal`."""
    wanted = resource_type(request)
    try:
        match target:
            case Messages(device, "outgoing-msg"):
                _check_type(wanted, CIN, "outgoing-msg takes contentInstances, ty=4")
                return await _post_command(scope, device, request)
            case Bin("device-provisioning/request"):
                _check_type(wanted, FCNT, "device-provisioning/request takes provisioning requests, ty=28")
                return await _post_provisioning(scope, request)
    except AlreadyExists as error:
        raise Refusal(Rsc.CONFLICT, str(error)) from None
    except ContainerFull as error:
        raise Refusal(Rsc.NOT_ACCEPTABLE, str(error)) from None
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
        case Messages(device, "received-msg"):
            await scope.device(device)
            _check_type(wanted, CIN, "received-msg takes contentInstances, ty=4")
            return Refusal(Rsc.NOT_IMPLEMENTED, "posting into received-msg (injecting uplink) is not supported")
        case Node(device):
            await scope.device(device)
            return Refusal(Rsc.NOT_IMPLEMENTED, f"creating ty={wanted} below a node is not supported")
        case Base() if wanted == AE:
            return Refusal(
                Rsc.NOT_IMPLEMENTED, "registering applications (ty=2) is not supported; any C... originator works"
            )
        case SystemAe("device-group"):
            return Refusal(Rsc.NOT_IMPLEMENTED, "device groups are not supported")
        case Flex():
            return Refusal(Rsc.INVALID_CHILD_RESOURCE_TYPE, f"ty={wanted} cannot be created below a flexContainer")
    hint = "devices are made by device-provisioning/request, commands go to outgoing-msg"
    return Refusal(Rsc.OPERATION_NOT_ALLOWED, f"nothing can be created here; {hint}", ("GET",))


async def _post_command(scope: Scope, device_name: str, request: Request) -> Resource:
    device = await scope.device(device_name)
    _, attributes = decode_resource(request, CIN, _CIN_SHAPE)
    check_attributes(request, attributes, _CIN_WRITABLE)
    content = attributes.get("con")
    if content is None:
        raise Refusal(Rsc.BAD_REQUEST, f"the attribute con is missing; send {_CIN_SHAPE}")
    content_info = attributes.get("cnf")
    if content_info is not None and not isinstance(content_info, str):
        raise Refusal(Rsc.BAD_REQUEST, "cnf is a text like text/plain:0 or application/json:0")
    name, labels, created_by = wanted_name(attributes), wanted_labels(attributes), creator(request, attributes)
    _check_size(content, len(request.body), scope.services.limits.max_bytes)
    record = await scope.services.commands.post(
        device,
        name=name,
        content=content,
        content_info=content_info,
        creator=created_by,
        labels=labels,
        requests=parse_commands(content, content_info),
    )
    return resources.message(device, "outgoing-msg", record)


def _check_size(content: Any, body_bytes: int, limit: int) -> None:
    # Compact JSON is hardly ever longer than what was sent, so small bodies need no counting.
    if body_bytes <= limit // 4:
        return
    size = len(content.encode()) if isinstance(content, str) else len(msgspec.json.encode(content))
    if size > limit:
        raise Refusal(Rsc.NOT_ACCEPTABLE, f"con has {size} bytes; the container takes {limit} at most (mbs)")


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
