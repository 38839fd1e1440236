"""PUT: labels of a node, its key, what people know of it, and what an application says of itself (contract §6.5, §8.1,
§9)."""

from typing import Any, Final

from stellwerk.app.credentials import BadCredential
from stellwerk.app.handlers.devices import BadLabels, NoCredential
from stellwerk.app.records import AlreadyExists, DeviceGone
from stellwerk.northbound.onem2m import applications, management
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.names import AE, MGMT_OBJ, NOD
from stellwerk.northbound.onem2m.reading import read
from stellwerk.northbound.onem2m.request import (
    Request,
    check_media_type,
    decode_resource,
    no_privilege,
    wanted_changes,
    wanted_labels,
)
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.scope import Scope
from stellwerk.northbound.onem2m.tree import (
    BINS,
    Application,
    Base,
    Bin,
    Communication,
    Credentials,
    DeviceInfo,
    FixedSubscription,
    Flex,
    Message,
    Node,
    SystemAe,
    Target,
)

_NODE_SHAPE: Final = '{"m2m:nod": {"lbl": ["key:value"]}}'
_NODE_CHANGEABLE: Final = frozenset({"lbl"})
ADMINISTRATOR: Final = "CAdmin"


async def update(scope: Scope, target: Target, request: Request) -> tuple[Resource, frozenset[str]]:
    """The resource as it is from now on, and the short names of what was to change. Raises `Refusal`."""
    try:
        match target:
            case Node(name):
                names = await _update_node(scope, name, request)
            case Credentials(name):
                names = await _update_credentials(scope, name, request)
            case DeviceInfo(name):
                names = await _update_info(scope, name, request)
            case Application(name):
                names = await _update_application(scope, name, request)
            case Message(name, _, _):
                # Whether it is still there changes nothing.
                await scope.device(name)
                raise Refusal(
                    Rsc.OPERATION_NOT_ALLOWED, "a contentInstance cannot be updated; post a new one", ("GET", "DELETE")
                )
            case _:
                # Where there is nothing, that is the answer.
                await read(scope, target, request.strict)
                raise _no_update(target)
    except AlreadyExists as error:
        raise Refusal(Rsc.CONFLICT, str(error)) from None
    except (BadCredential, BadLabels) as error:
        raise Refusal(Rsc.BAD_REQUEST, str(error)) from None
    except (DeviceGone, NoCredential) as error:
        raise Refusal(Rsc.NOT_FOUND, str(error)) from None
    return await read(scope, target, request.strict), names


async def _update_node(scope: Scope, name: str, request: Request) -> frozenset[str]:
    device = await scope.device(name)
    check_media_type(request)
    _, attributes = decode_resource(request, NOD, _NODE_SHAPE)
    changes = wanted_changes(request, attributes, _NODE_CHANGEABLE)
    await scope.services.devices.set_labels(device, wanted_labels(changes))
    return frozenset(changes)


async def _update_credentials(scope: Scope, name: str, request: Request) -> frozenset[str]:
    device = await scope.device(name)
    check_media_type(request)
    envelope, attributes = decode_resource(request, MGMT_OBJ, management.CREDENTIAL_SHAPE)
    if envelope not in management.CREDENTIAL_ENVELOPES:
        raise Refusal(Rsc.BAD_REQUEST, f"{envelope} does not change credentials; send {management.CREDENTIAL_SHAPE}")
    changes = wanted_changes(request, attributes, management.CREDENTIAL_CHANGEABLE)
    parts = management.wanted_parts(changes)
    await scope.services.devices.change_credential(
        device, identity=parts.get("crid"), secret=parts.get("crse"), description=parts.get("dc")
    )
    return frozenset(changes)


async def _update_info(scope: Scope, name: str, request: Request) -> frozenset[str]:
    device = await scope.device(name)
    check_media_type(request)
    envelope, attributes = decode_resource(request, MGMT_OBJ, management.INFO_SHAPE)
    if envelope != management.INFO_ENVELOPE:
        raise Refusal(Rsc.BAD_REQUEST, f"{envelope} does not change device-info; send {management.INFO_SHAPE}")
    changes = wanted_changes(request, attributes, management.INFO_CHANGEABLE)
    await scope.services.devices.change_info(device, management.wanted_info(changes))
    return frozenset(changes)


async def _update_application(scope: Scope, name: str, request: Request) -> frozenset[str]:
    found = await scope.services.applications.find(scope.tenant_id, scope.tenant, name)
    if found is None:
        raise Refusal(Rsc.NOT_FOUND, f"tenant {scope.tenant!r} has no application {name[:80]!r}")
    check_owner(request, found.attributes)
    check_media_type(request)
    _, attributes = decode_resource(request, AE, applications.SHAPE)
    changes = wanted_changes(request, attributes, applications.CHANGEABLE)
    changed = await scope.services.applications.change(
        found,
        labels=wanted_labels(changes) if "lbl" in changes else None,
        attributes=applications.wanted_attributes(request, changes, is_new=False),
    )
    if changed is None:
        raise Refusal(Rsc.NOT_FOUND, f"application {name!r} is gone")
    return frozenset(changes)


def check_owner(request: Request, attributes: dict[str, Any]) -> None:
    """Standards clients change and delete their own AE only; with others the token decides (§5.5). Raises
    `Refusal`."""
    if request.strict and request.origin not in (ADMINISTRATOR, attributes.get("aei")):
        raise no_privilege(request.origin, strict=True)


def _no_update(target: Target) -> Refusal:
    match target:
        case Base() | SystemAe() | Bin() | Communication() | FixedSubscription():
            return Refusal(
                Rsc.OPERATION_NOT_ALLOWED, "this resource belongs to the system and stays as it is", ("GET",)
            )
        case Flex(parent) if parent in BINS:
            text = "what was asked and answered stays as it is; post a new request"
            return Refusal(Rsc.OPERATION_NOT_ALLOWED, text, ("GET", "DELETE"))
    return Refusal(Rsc.NOT_IMPLEMENTED, "updating this resource is not supported")
