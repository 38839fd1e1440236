"""Which tenant and which resource an address means: by names, by resource IDs, relative and absolute (contract §1;
TS-0001 9.3.1).

Whatever form an address has, it becomes a `Target`, and so do the answers' `Content-Location` and references.
"""

import re
from typing import Final

from stellwerk.app.records import TreeResource
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.auth import Access
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.identifiers import device_id, infrastructure_paths
from stellwerk.northbound.onem2m.scope import Scope
from stellwerk.northbound.onem2m.tree import (
    AES,
    COMMUNICATION,
    FIXED_PATHS,
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
    Messages,
    Node,
    Stored,
    SystemAe,
    Target,
    resolve,
)
from stellwerk.northbound.services import Services

BASE_PLACEHOLDER: Final = "-"
VIRTUAL: Final = frozenset({"la", "ol"})
_SP_RELATIVE, _ABSOLUTE = "~", "_"
_ID: Final = re.compile(r"[0-9a-f]{24}")
_DEEPEST: Final = 32
"""Levels below the tenant; nothing that is made here is deeper."""

_MOST_TENANTS: Final = 16
"""Tenants of one token in which a resource ID without a tenant is looked for."""


async def find_tenant(services: Services, access: Access, below: str) -> tuple[str, str]:
    """The tenant that a path below the mount means, and the rest with its leading slash. Whether the caller may see
    that tenant is asked later. Raises `Refusal`."""
    first, slash, rest = below.partition("/")
    if first in access.tenants and first not in (_SP_RELATIVE, _ABSOLUTE, BASE_PLACEHOLDER):
        # Nearly always; a token for every tenant opens names that no tenant has, too.
        if len(first) != 24 or not _ID.fullmatch(first) or await services.deciding.tenant(first) is not None:
            return first, slash + rest
    elif first == _SP_RELATIVE:
        return _below_base(rest, "~/<tenant>/<resource ID>")
    elif first == _ABSOLUTE:
        return _below_base(rest.partition("/")[2], "_/<SP-ID>/<tenant>/<resource ID>")
    elif first != BASE_PLACEHOLDER and not _ID.fullmatch(first):
        return first, slash + rest
    tenants = sorted(access.tenants)[:_MOST_TENANTS] or [services.tenant]
    if first == BASE_PLACEHOLDER:
        if len(tenants) != 1 or not tenants[0]:
            raise Refusal(Rsc.NOT_FOUND, "'-' stands for one tenant, and this token opens several; name the tenant")
        return tenants[0], slash + rest
    for name in tenants:
        tenant_id = await services.deciding.tenant(name)
        if tenant_id is not None and await path_of_id(Scope(services, tenant_id, name), first) is not None:
            return name, f"/{below}"
    raise Refusal(Rsc.NOT_FOUND, f"there is no resource {first!r}; with ~/<tenant>/ in front the tenant is clear")


def _below_base(path: str, shape: str) -> tuple[str, str]:
    tenant, slash, rest = path.partition("/")
    if not tenant:
        raise Refusal(Rsc.NOT_FOUND, f"the path names no tenant; write {shape}")
    first, more, below = rest.partition("/")
    if first in (tenant, BASE_PLACEHOLDER):
        # The CSEBase by its name, which is the tenant's and its ID, too.
        return tenant, more + below
    return tenant, slash + rest


async def locate(scope: Scope, segments: tuple[str, ...]) -> Target:
    """What the path below the tenant means, its first segment a name or a resource ID. Devices, applications and what
    else people wrote are there; whether a message or a flexContainer is, who reads it will see. Raises `Refusal`."""
    if segments[:1] == (BASE_PLACEHOLDER,):
        segments = segments[1:]
    target = await _by_names(scope, segments)
    if target is None and segments and _ID.fullmatch(segments[0]):
        path = await path_of_id(scope, segments[0])
        if path is not None:
            target = await _by_names(scope, (*path, *segments[1:]))
    if target is not None:
        return target
    if len(segments) == 1:
        raise Refusal(Rsc.NOT_FOUND, f"tenant {scope.tenant!r} has no device or application {segments[0][:80]!r}")
    shown = "/".join((scope.tenant, *segments))
    raise Refusal(Rsc.NOT_FOUND, f"there is no resource {shown[:120]!r}")


async def _by_names(scope: Scope, segments: tuple[str, ...]) -> Target | None:
    target = resolve(segments)
    deciding = scope.services.deciding
    match target:
        case Message(name, container, message) if message not in VIRTUAL:
            device = await deciding.device_by_name(scope.tenant_id, name)
            if device is not None:
                parent = device_id(device, f"communication/{container}")
                if await deciding.resource(scope.tenant_id, parent, message) is not None:
                    return Stored(parent, segments)
            return target
        case Node(name):
            if await deciding.device_by_name(scope.tenant_id, name) is not None:
                return target
            found = await deciding.resource(scope.tenant_id, scope.tenant, name)
            return None if found is None else Application(name)
        case DeviceInfo(name) | Credentials(name) | FixedSubscription(name, _):
            if await deciding.device_by_name(scope.tenant_id, name) is not None:
                return target
        case None:
            pass
        case _:
            return target
    return await _walk(scope, segments)


async def _walk(scope: Scope, segments: tuple[str, ...]) -> Target | None:
    """Down through what people wrote, from the longest part of the path that is something else."""
    if len(segments) > _DEEPEST:
        return None
    deciding = scope.services.deciding
    length, parent = await _known_part(scope, segments)
    if not parent:
        return None
    target: Target | None = None
    for end in range(length, len(segments)):
        found = await deciding.resource(scope.tenant_id, parent, segments[end])
        if found is None:
            return None
        target = Application(found.resource_name) if not end else Stored(parent, segments[: end + 1])
        parent = found.resource_id
    return target


async def _known_part(scope: Scope, segments: tuple[str, ...]) -> tuple[int, str]:
    """How many segments mean something fixed, and the name under which the store keeps what is below; empty where
    nothing can be."""
    if segments[0] == COMMUNICATION or segments[0] in AES:
        name = segments[1] if len(segments) > 1 else ""
        if segments[0] == COMMUNICATION and name:
            device = await scope.services.deciding.device_by_name(scope.tenant_id, name)
            if device is not None:
                part, length = "communication", 2
                if isinstance(resolve(segments[:3]), Messages):
                    part, length = f"communication/{segments[2]}", 3
                return length, device_id(device, part)
        path = f"{segments[0]}/{name}"
        return (2, path) if path in FIXED_PATHS else (1, segments[0])
    device = await scope.services.deciding.device_by_name(scope.tenant_id, segments[0])
    if device is None:
        return 0, scope.tenant
    if len(segments) > 2 and isinstance(resolve(segments[:2]), DeviceInfo | Credentials):
        return 2, device_id(device, segments[1])
    return 1, device_id(device)


async def store_key(scope: Scope, target: Target) -> str:
    """The name under which the store keeps what people wrote below ``target``. Raises `Refusal`."""
    match target:
        case Base():
            return scope.tenant
        case SystemAe(name):
            return name
        case Bin(path):
            return path
        case Communication():
            return COMMUNICATION
        case Node(name):
            return device_id(await scope.device(name))
        case DeviceContainer(name):
            return device_id(await scope.device(name), "communication")
        case Messages(name, container):
            return device_id(await scope.device(name), f"communication/{container}")
        case Flex() | Application() | Stored():
            return (await stored(scope, target)).resource_id
        case _:
            return ""


async def stored(scope: Scope, target: Flex | Application | Stored) -> TreeResource:
    """What the store has of it. Raises `Refusal`."""
    parent = scope.tenant if isinstance(target, Application) else target.parent
    found = await scope.services.deciding.resource(scope.tenant_id, parent, target.name)
    if found is None:
        raise Refusal(Rsc.NOT_FOUND, f"{parent} has no resource {target.name[:80]!r}")
    return found


# -- by resource ID --


async def path_of_id(scope: Scope, resource_id: str) -> tuple[str, ...] | None:
    """The structured path of a resource of this tenant; None where the tenant has none of this ID."""
    deciding = scope.services.deciding
    fixed = infrastructure_paths(scope.tenant).get(resource_id)
    if fixed is not None:
        return tuple(fixed.split("/"))
    found = await deciding.device_by_resource_id(scope.tenant_id, resource_id)
    if found is not None:
        return _path_of_part(*found)
    received = await scope.services.projected.received_by_resource_id(resource_id)
    if received is not None:
        # The port finds it in any tenant.
        device = await deciding.device(received[0])
        if device is not None and device.tenant_id == scope.tenant_id:
            return (COMMUNICATION, device.name, "received-msg", received[1].resource_name)
    message = await deciding.message_by_resource_id(scope.tenant_id, resource_id)
    if message is not None:
        return (COMMUNICATION, message[0].name, message[1], message[2].resource_name)
    return await _path_of_stored(scope, resource_id)


def _path_of_part(device: DeviceRecord, part: str) -> tuple[str, ...] | None:
    if not part:
        return (device.name,)
    if part == "protocol-adapter-subscription":
        return (COMMUNICATION, device.name, "outgoing-msg", part)
    first, *rest = part.split("/")
    return (COMMUNICATION, device.name, *rest) if first == "communication" else (device.name, part)


async def _path_of_stored(scope: Scope, resource_id: str) -> tuple[str, ...] | None:
    names: list[str] = []
    deciding, tenant_id = scope.services.deciding, scope.tenant_id
    while len(names) < _DEEPEST:
        found = await deciding.resource_by_id(tenant_id, resource_id)
        if found is None:
            device = await deciding.device_by_resource_id(tenant_id, resource_id)
            path = None if device is None else _path_of_part(*device)
            return None if path is None or not names else (*path, *reversed(names))
        names.append(found.resource_name)
        if found.parent == scope.tenant:
            return tuple(reversed(names))
        if found.parent in FIXED_PATHS:
            return (*found.parent.split("/"), *reversed(names))
        resource_id = found.parent
    return None
