"""One resource of the tree, and what is directly below it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from stellwerk.app.handlers.commands import Place
from stellwerk.app.records import MessageRecord, TreeResource
from stellwerk.device.record import NOSEC, DeviceRecord
from stellwerk.northbound.onem2m import resources
from stellwerk.northbound.onem2m.addressing import store_key, stored
from stellwerk.northbound.onem2m.device_info import device_info
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.messages import find_message
from stellwerk.northbound.onem2m.names import AE, CB, CIN, CNT, FCNT, MGMT_OBJ, NOD, SUB
from stellwerk.northbound.onem2m.resources import Resource
from stellwerk.northbound.onem2m.scope import Scope
from stellwerk.northbound.onem2m.tree import (
    ADAPTER_SUBSCRIPTION,
    AES,
    BINS,
    DEVICE_GROUP,
    MESSAGE_CONTAINERS,
    UPDATE_SUBSCRIPTION,
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
    Stored,
    SystemAe,
    Target,
    path_of,
)
from stellwerk.northbound.services import Services


async def read(scope: Scope, target: Target, strict: bool) -> Resource:
    """``strict``: for a standards client (§0.10). Raises `Refusal` where there is nothing."""
    services, tenant = scope.services, scope.tenant
    match target:
        case Message(name, container, message_name):
            device = await scope.device(name)
            record = await find_message(services, device, container, message_name)
            places = await _places(scope, device, container)
            return resources.message(device, container, record, places.get(record.resource_id))
        case Base():
            return resources.cse_base(tenant)
        case SystemAe(name):
            return resources.system_ae(tenant, name)
        case Bin(path):
            return resources.bin_container(tenant, path)
        case Flex() | Application() | Stored():
            return resources.stored(tenant, await stored(scope, target), scope.role == "rw")
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
        case Node(name):
            device = await scope.device(name)
            return resources.node(device, await services.projected.state_of(device.device_id))
        case DeviceInfo(name):
            return await _device_info(services, await scope.device(name), strict)
        case Credentials(name):
            found = await _credentials(scope, await scope.device(name))
            if found is None:
                raise Refusal(Rsc.NOT_FOUND, f"{name} has no credentials; it connects over NoSec")
            return found
        case FixedSubscription(name, subscription):
            return resources.fixed_subscription(await scope.device(name), subscription)
        case _:
            assert_never(target)


async def _device_info(services: Services, device: DeviceRecord, strict: bool) -> Resource:
    registration = await services.deciding.registration_of(device.device_id)
    if registration is not None:
        endpoint_name = registration.endpoint_name
    else:
        state = await services.projected.state_of(device.device_id)
        endpoint_name = state.endpoint_name if state else ""
    values = await services.projected.current_values(device.device_id)
    return device_info(device, endpoint_name, values, now_ms=services.clock.wall_ms(), strict=strict)


async def _credentials(scope: Scope, device: DeviceRecord) -> Resource | None:
    credential = await scope.services.deciding.credential_of(device.device_id)
    return (
        None
        if credential is None or credential.kind == NOSEC
        else resources.credentials(device, credential, scope.role == "rw")
    )


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


@dataclass(slots=True)
class Item:
    """A resource with its place in the tree. ``parent``: the item above, None for the target of the request."""

    target: Target
    resource: Resource
    parent: "Item | None" = None

    @property
    def name(self) -> str:
        """The resource name."""
        name: str = self.resource.attributes["rn"]
        return name


Page = Callable[[int, int], Awaitable[list[Item]]]


@dataclass(slots=True)
class Source:
    """Children of one kind. ``page(limit, offset)`` gives some of them, in a stable order. ``types``: all are of one of
    these, empty = unknown. ``count``: how many there are, None where only reading tells."""

    types: frozenset[int]
    page: Page
    count: int | None = None


_UNKNOWN: Final[frozenset[int]] = frozenset()
_BELOW_DEVICE_CONTAINERS: Final = frozenset({CNT, CIN, SUB})
_NOT_BELOW_STORED: Final = frozenset({CB, AE, NOD, MGMT_OBJ})


def may_hold(target: Target, wanted: frozenset[int]) -> bool:
    """Whether anything of the ``wanted`` types (empty: of any) can be below ``target``, at whatever depth."""
    match target:
        case Message() | FixedSubscription():
            return False
        case _ if not wanted or isinstance(target, Base):
            return True
        case Communication() | DeviceContainer() | Messages():
            return not wanted.isdisjoint(_BELOW_DEVICE_CONTAINERS)
        case Node() | DeviceInfo() | Credentials():
            return not wanted.isdisjoint({MGMT_OBJ, SUB})
        case _:
            return not wanted <= _NOT_BELOW_STORED


async def sources(scope: Scope, item: Item, strict: bool) -> list[Source]:
    """What is directly below ``item``. Only the last source may be long without saying how long."""
    services, tenant, target = scope.services, scope.tenant, item.target

    def child(below: Target, resource: Resource) -> Item:
        return Item(below, resource, item)

    def fixed(items: Sequence[Item]) -> Source:
        async def page(limit: int, offset: int) -> list[Item]:
            return list(items[offset : offset + limit])

        return Source(frozenset(each.resource.resource_type for each in items), page, len(items))

    written = Source(_UNKNOWN, _written(scope, item))
    match target:
        case Base():
            own = [child(SystemAe(name), resources.system_ae(tenant, name)) for name in AES]
            communication = child(Communication(), resources.communication(tenant))
            return [fixed(own), fixed([communication]), written, Source(frozenset({NOD}), _nodes(scope, item))]
        case SystemAe("device-provisioning"):
            return [fixed([child(Bin(path), resources.bin_container(tenant, path)) for path in BINS]), written]
        case SystemAe("device-group") | Bin():
            return [Source(frozenset({FCNT}), written.page)]
        case Communication():

            async def containers(limit: int, offset: int) -> list[Item]:
                found = await services.deciding.devices(scope.tenant_id, limit, offset)
                return [
                    child(DeviceContainer(each.name), resources.device_container(each, services.limits))
                    for each in found
                ]

            return [Source(frozenset({CNT}), containers)]
        case DeviceContainer(name):
            parts: list[Target] = [Messages(name, each) for each in MESSAGE_CONTAINERS]
            return [fixed([child(each, await read(scope, each, strict)) for each in parts]), written]
        case Messages(name, container):
            own_subscriptions: list[Item] = []
            if container == "outgoing-msg":
                subscription = FixedSubscription(name, ADAPTER_SUBSCRIPTION)
                own_subscriptions = [child(subscription, await read(scope, subscription, strict))]
            count = item.resource.attributes["cni"]
            messages = Source(frozenset({CIN}), _messages(scope, item, await scope.device(name), container), count)
            return [messages, fixed(own_subscriptions), written]
        case Node(name):
            device = await scope.device(name)

            async def objects(limit: int, offset: int) -> list[Item]:
                found = [child(DeviceInfo(name), await _device_info(services, device, strict))]
                credential = await _credentials(scope, device)
                if credential is not None:
                    # Before device-info, as the sample has it (§9).
                    found.insert(0, child(Credentials(name), credential))
                return found[offset : offset + limit]

            subscription = FixedSubscription(name, UPDATE_SUBSCRIPTION)
            heard = child(subscription, resources.fixed_subscription(device, UPDATE_SUBSCRIPTION))
            return [Source(frozenset({MGMT_OBJ}), objects), fixed([heard]), written]
        case SystemAe() | Flex() | Application() | Stored():
            return [written]
    return []


async def _places(scope: Scope, device: DeviceRecord, container: MessageContainerName) -> dict[str, Place]:
    """Where the messages of the container stand that wait for their device."""
    return await scope.services.commands.places(device) if container == "outgoing-msg" else {}


def _nodes(scope: Scope, parent: Item) -> Page:
    async def page(limit: int, offset: int) -> list[Item]:
        devices = await scope.services.deciding.devices(scope.tenant_id, limit, offset)
        states = await scope.services.projected.recent_states([each.device_id for each in devices])
        state_of = {each.device_id: each for each in states}
        return [Item(Node(each.name), resources.node(each, state_of.get(each.device_id)), parent) for each in devices]

    return page


def _messages(scope: Scope, parent: Item, device: DeviceRecord, container: MessageContainerName) -> Page:
    async def page(limit: int, offset: int) -> list[Item]:
        records = await _newest(scope.services, device, container, limit, offset)
        places = await _places(scope, device, container) if records else {}
        found = [
            (each.resource_name, resources.message(device, container, each, places.get(each.resource_id)))
            for each in records
        ]
        return [Item(Message(device.name, container, rn), resource, parent) for rn, resource in found]

    return page


def _written(scope: Scope, parent: Item) -> Page:
    """What people wrote below ``parent``."""
    key = ""

    async def page(limit: int, offset: int) -> list[Item]:
        nonlocal key
        key = key or await store_key(scope, parent.target)
        found = await scope.services.deciding.resources(scope.tenant_id, key, limit, offset)
        may_write = scope.role == "rw"
        return [
            Item(_child(parent.target, key, each), resources.stored(scope.tenant, each, may_write), parent)
            for each in found
        ]

    return page


def _child(parent: Target, key: str, resource: TreeResource) -> Target:
    name = resource.resource_name
    match parent:
        case Base():
            return Application(name)
        case Bin(path):
            return Flex(path, name)
        case SystemAe("device-group"):
            return Flex(DEVICE_GROUP, name)
    return Stored(key, (*path_of(parent), name))
