"""DELETE: devices, applications, messages, and what hangs below a node (contract §2, §6.5, §6.7)."""

from stellwerk.app.handlers.devices import NoCredential
from stellwerk.app.projected import NotReadableYet
from stellwerk.app.records import DeviceGone
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.messages import find_message
from stellwerk.northbound.onem2m.reading import read
from stellwerk.northbound.onem2m.request import Request
from stellwerk.northbound.onem2m.scope import Scope
from stellwerk.northbound.onem2m.tree import (
    BINS,
    Application,
    Base,
    Bin,
    Communication,
    Credentials,
    DeviceContainer,
    DeviceInfo,
    FixedSubscription,
    Flex,
    Message,
    MessageContainerName,
    Messages,
    Node,
    SystemAe,
    Target,
)
from stellwerk.northbound.onem2m.update import check_owner


async def delete(scope: Scope, target: Target, request: Request) -> None:
    """The resource is gone once this returns. Raises `Refusal`."""
    services = scope.services
    try:
        match target:
            case Node(name):
                device = await scope.device(name)
                if not await services.provisioning.remove(device):
                    raise Refusal(Rsc.NOT_FOUND, f"device {name!r} is gone already")
            case Message(name, container, message):
                await _delete_message(scope, name, container, message)
            case Credentials(name):
                await services.devices.remove_credential(await scope.device(name))
            case DeviceInfo(name):
                # What the device reports itself stays; only what people wrote goes.
                await services.devices.remove_info(await scope.device(name))
            case Application(name):
                await _delete_application(scope, name, request)
            case Flex(parent, name) if parent in BINS:
                if not await services.deciding.remove_resource(scope.tenant_id, parent, name):
                    raise Refusal(Rsc.NOT_FOUND, f"{parent} has no resource {name[:80]!r}")
            case _:
                # Where there is nothing, that is the answer.
                await read(scope, target, request.strict)
                raise _no_deletion(target)
    except (DeviceGone, NoCredential) as error:
        raise Refusal(Rsc.NOT_FOUND, str(error)) from None
    except NotReadableYet as error:
        raise Refusal(Rsc.REQUEST_TIMEOUT, str(error)) from None


async def _delete_message(scope: Scope, device_name: str, container: MessageContainerName, name: str) -> None:
    services = scope.services
    device = await scope.device(device_name)
    message = await find_message(services, device, container, name)
    match container:
        case "outgoing-msg":
            if not await services.commands.cancel(device, message):
                text = "every command of this message was sent already; its answer comes to received-msg"
                raise Refusal(Rsc.OPERATION_NOT_ALLOWED, text, ("GET",))
        case "sent-msg":
            if not await services.deciding.remove_sent_message(device.device_id, message.resource_id):
                raise Refusal(Rsc.NOT_FOUND, f"message {message.resource_name!r} is gone already")
        case "received-msg":
            await services.injecting.remove(device, message)


async def _delete_application(scope: Scope, name: str, request: Request) -> None:
    applications = scope.services.applications
    found = await applications.find(scope.tenant_id, scope.tenant, name)
    if found is None:
        raise Refusal(Rsc.NOT_FOUND, f"tenant {scope.tenant!r} has no application {name[:80]!r}")
    check_owner(request, found.attributes)
    if not await applications.remove(found):
        raise Refusal(Rsc.NOT_FOUND, f"application {name!r} is gone already")


def _no_deletion(target: Target) -> Refusal:
    match target:
        case Base() | SystemAe() | Bin() | Communication() | FixedSubscription():
            return Refusal(
                Rsc.OPERATION_NOT_ALLOWED, "this resource belongs to the system and cannot be deleted", ("GET",)
            )
        case DeviceContainer() | Messages():
            text = "this container comes with its device; DELETE the node to remove both"
            return Refusal(Rsc.OPERATION_NOT_ALLOWED, text, ("GET", "POST"))
    return Refusal(Rsc.NOT_IMPLEMENTED, "deleting this resource is not supported; DELETE of a node removes the device")
