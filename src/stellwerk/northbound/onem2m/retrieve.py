"""GET: a resource, its children, or both (contract §4.3, §4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

from stellwerk.app.ports import MessageRecord
from stellwerk.core.ids import TenantId
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.onem2m import resources
from stellwerk.northbound.onem2m.device_info import device_info
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.names import AE, CIN, CNT, FCNT, MGMT_OBJ, NOD
from stellwerk.northbound.onem2m.query import (
    ATTRIBUTES_AND_CHILDREN,
    ATTRIBUTES_ONLY,
    CHILDREN_ONLY,
    LARGEST_PAGE,
    NOTHING,
    Query,
)
from stellwerk.northbound.onem2m.request import Request
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.tree import (
    AES,
    BINS,
    MESSAGE_CONTAINERS,
    Base,
    Bin,
    Communication,
    DeviceContainer,
    DeviceInfo,
    Flex,
    Message,
    MessageContainerName,
    Messages,
    Node,
    SystemAe,
    Target,
)
from stellwerk.northbound.services import Services

_SUPPORTED_RCN: Final = (ATTRIBUTES_ONLY, ATTRIBUTES_AND_CHILDREN, CHILDREN_ONLY)


@dataclass(frozen=True, slots=True)
class Found:
    """``document``: the JSON answer. ``next_offset``: where the rest of a partial list of children starts."""

    document: dict[str, Any]
    next_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant a request is about, looked up."""

    services: Services
    tenant_id: TenantId
    tenant: str

    async def device(self, name: str) -> DeviceRecord:
        """Raises `Refusal` where the tenant has no device of that name."""
        device = await self.services.deciding.device_by_name(self.tenant_id, name)
        if device is None:
            raise Refusal(Rsc.NOT_FOUND, f"tenant {self.tenant!r} has no device or application {name[:80]!r}")
        return device


async def retrieve(scope: Scope, target: Target, request: Request) -> Found:
    """Raises `Refusal` where there is nothing, or where the request wants what is not there yet."""
    query = request.query
    rcn = ATTRIBUTES_ONLY if query.rcn is None else query.rcn
    if rcn == NOTHING:
        raise Refusal(Rsc.BAD_REQUEST, "rcn=0 makes no sense for a retrieve; use 1, 4 or 8")
    if rcn not in _SUPPORTED_RCN:
        raise Refusal(Rsc.NOT_IMPLEMENTED, f"rcn={rcn} is not supported; use 1, 4 or 8")
    resource = await _resource(scope, target, request)
    next_offset = None
    if rcn != ATTRIBUTES_ONLY:
        children = await _children(scope, target, request)
        if len(children) > query.limit:
            del children[query.limit :]
            next_offset = query.offset + query.limit
        resource = resources.with_children(resource, children, rcn == ATTRIBUTES_AND_CHILDREN)
    return Found(resource.document(request.form(resource.resource_type)), next_offset)


async def _resource(scope: Scope, target: Target, request: Request) -> Resource:
    services, tenant = scope.services, scope.tenant
    match target:
        case Base():
            return resources.cse_base(tenant)
        case SystemAe(name):
            return resources.system_ae(tenant, name)
        case Bin(path):
            return resources.bin_container(tenant, path)
        case Flex(path, name):
            found = await services.deciding.resource(scope.tenant_id, path, name)
            if found is None:
                raise Refusal(Rsc.NOT_FOUND, f"{path} has no resource {name[:80]!r}")
            return resources.flex_container(tenant, found)
        case Communication():
            return resources.communication(tenant)
        case DeviceContainer(name):
            return resources.device_container(await scope.device(name), services.limits)
        case Messages(name, container):
            device = await scope.device(name)
            if container == "received-msg":
                state = await services.projected.received_state(device.device_id)
            else:
                state = await services.deciding.container_state(device.device_id, container)
            return resources.message_container(device, container, state, services.limits)
        case Message(name, container, message_name):
            device = await scope.device(name)
            record = await _message(services, device, container, message_name)
            return resources.message(device, container, record)
        case Node(name):
            device = await scope.device(name)
            return resources.node(device, await services.projected.state_of(device.device_id))
        case DeviceInfo(name):
            return await _device_info(services, await scope.device(name), request)
        case _:
            assert_never(target)


async def _device_info(services: Services, device: DeviceRecord, request: Request) -> Resource:
    registration = await services.deciding.registration_of(device.device_id)
    endpoint_name = registration.endpoint_name if registration else None
    values = await services.projected.current_values(device.device_id)
    return device_info(device, endpoint_name, values, now_ms=services.clock.wall_ms(), strict=request.strict)


# -- messages --


async def _message(
    services: Services, device: DeviceRecord, container: MessageContainerName, name: str
) -> MessageRecord:
    if name == "la":
        records = await _newest(services, device, container, 1, 0)
    else:
        records = await _newest(services, device, container, LARGEST_PAGE, 0)
    if not records:
        raise Refusal(Rsc.NOT_FOUND, f"{container} of {device.name} is empty")
    if name == "la":
        return records[0]
    if name == "ol":
        return records[-1]
    for record in records:
        if record.resource_name == name:
            return record
    raise Refusal(Rsc.NOT_FOUND, f"{container} of {device.name} has no message {name[:80]!r}; it may have been evicted")


async def _newest(
    services: Services, device: DeviceRecord, container: MessageContainerName, limit: int, offset: int
) -> Sequence[MessageRecord]:
    """Messages of a container, newest first."""
    if container == "received-msg":
        return await services.projected.received_messages(device.device_id, limit, offset)
    if container == "sent-msg":
        return await services.deciding.sent_messages(device.device_id, limit, offset)
    return await services.deciding.outgoing_messages(device.device_id, limit, offset)


# -- children --


async def _children(scope: Scope, target: Target, request: Request) -> list[Resource]:
    """Children of the wanted types from ``offset`` on: ``limit`` of them, and one more where the list goes on."""
    services, tenant, query = scope.services, scope.tenant, request.query
    limit = query.limit + 1
    match target:
        case Base():
            return await _base_children(scope, query, limit)
        case SystemAe("device-provisioning"):
            return _window([resources.bin_container(tenant, path) for path in BINS], query, limit)
        case Bin(path) if _wanted(query, FCNT):
            found = await services.deciding.resources(scope.tenant_id, path, limit, query.offset)
            return [resources.flex_container(tenant, each) for each in found]
        case Communication() if _wanted(query, CNT):
            devices = await services.deciding.devices(scope.tenant_id, limit, query.offset)
            return [resources.device_container(device, services.limits) for device in devices]
        case DeviceContainer(name):
            containers = [await _resource(scope, Messages(name, each), request) for each in MESSAGE_CONTAINERS]
            return _window(containers, query, limit)
        case Messages(name, container) if _wanted(query, CIN):
            device = await scope.device(name)
            records = await _newest(services, device, container, limit, query.offset)
            return [resources.message(device, container, record) for record in records]
        case Node(name) if _wanted(query, MGMT_OBJ):
            device = await scope.device(name)
            return _window([await _device_info(services, device, request)], query, limit)
    return []


async def _base_children(scope: Scope, query: Query, limit: int) -> list[Resource]:
    fixed = [
        *(resources.system_ae(scope.tenant, name) for name in AES if _wanted(query, AE)),
        *([resources.communication(scope.tenant)] if _wanted(query, CNT) else []),
    ]
    children = fixed[query.offset : query.offset + limit]
    if _wanted(query, NOD) and len(children) < limit:
        offset = max(0, query.offset - len(fixed))
        for device in await scope.services.deciding.devices(scope.tenant_id, limit - len(children), offset):
            state = await scope.services.projected.state_of(device.device_id)
            children.append(resources.node(device, state))
    return children


def _wanted(query: Query, resource_type: int) -> bool:
    return not query.types or resource_type in query.types


def _window(children: list[Resource], query: Query, limit: int) -> list[Resource]:
    wanted = [each for each in children if _wanted(query, each.resource_type)]
    return wanted[query.offset : query.offset + limit]
