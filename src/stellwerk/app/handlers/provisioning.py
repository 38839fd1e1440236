"""Devices made and removed in bulk: a stored request, worked off afterwards, answered by a second resource (contract
Device to Cloud §6).

An item is created whole, with its key, or not at all. An item that cannot be created says why and takes no other with
it. Keys are never part of the stored request, so a request that a stopped server left unanswered is finished without
them: what had a key and was not made yet is refused, and said to be.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from stellwerk.app.credentials import WITHHELD, endpoint_names, is_key, parse_credentials, without_keys
from stellwerk.app.handlers.devices import check_labels
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import NewDevice, TreeResource
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import UserError
from stellwerk.core.ids import TenantId
from stellwerk.core.uuid_text import random_uuid
from stellwerk.device.record import DeviceRecord

log = structlog.get_logger(__name__)

REQUESTS: Final = "device-provisioning/request"
RESPONSES: Final = "device-provisioning/response"
REQUEST_ENVELOPE: Final = "dtiot:noPRt"
RESPONSE_ENVELOPE: Final = "dtiot:prRRe"
REQUEST_DEFINITION: Final = "com.telekom.iot.orchestrator.nodeProvisioningRequest"
RESPONSE_DEFINITION: Final = "com.telekom.iot.orchestrator.nodeProvisioningRequestResponse"
CREATOR: Final = "CDevice-Provisioning"
FLEX_CONTAINER: Final = 28
CREATE: Final = 1
REMOVE: Final = 2
SUCCEEDED, PARTLY, FAILED = 1, 2, 3
"""`resSs` of a response; only 1 is published (§6.2)."""

RESERVED_NAMES: Final = frozenset(
    {
        *("NI-IPE", "device-provisioning", "device-group", "device-communication"),
        # Placeholders of addresses, and the virtual children of containers and groups.
        *("-", "_", "~", "la", "ol", "fopt"),
    }
)
"""Names that mean something else below a tenant."""

PROFILE: Final = "SCS-LwM2M"
"""The profile that there always is; in any case of letters."""
_FOREIGN_PROFILES: Final = frozenset({"scs-udp", "scs-neul", "scs-http", "loriot-lorawan"})
_NAME = re.compile(r"[0-9A-Za-z_:-]{1,255}")
_NODE_ID = re.compile(r"[!-~]{1,255}")
_INFO_NAME = re.compile(r"[A-Za-z][0-9A-Za-z]{0,31}")
_MEMBERS: Final = frozenset({"ni", "noRNe", "ICCID", "profe", "lbl", "nCr", "nDGr", "ndvi"})
_SECRETIVE = re.compile(r"cred|psk|secret|key|passw", re.IGNORECASE)
"""Names of members that may hold keys. They are not passed over like other unknown ones: a slip of the pen would make a
device without a key, and store the key for all to read."""
_LISTS: Final = frozenset({"dlb", "ptl"})
_INFO_OF_THE_RESOURCE: Final = frozenset({"rn", "mgd", "ty", "ri", "pi", "ct", "lt", "et", "lbl", "st", "cr", "acpi"})

MOST_ITEMS: Final = 10_000
"""Devices in one request; what is said of each, the stored request and its answer hold."""
LONGEST_INFO: Final = 2048
_LONGEST_ICCID: Final = 64

SLICE: Final = 16
"""Items that are worked off together: few enough for a transaction of a few milliseconds (design §5)."""
PAUSE_S: Final = 0.002
"""Between two slices the devices have the server to themselves."""

Item: TypeAlias = Any
"""One entry of ``reqLt`` as the client wrote it, with short names; not checked."""


class BadItem(UserError):
    """An item that cannot be worked off; the text goes into the response."""


@dataclass(frozen=True, slots=True)
class ProvisioningOrder:
    """A provisioning request as a client asked for it. ``operation``: `CREATE` or `REMOVE`. ``attributes``: what the
    stored resource shows beside the universal attributes, in the order it is shown."""

    tenant_id: TenantId
    operation: int
    items: Sequence[Item]
    name: str | None
    creator: str
    labels: tuple[str, ...]
    attributes: Mapping[str, Any]


class Provisioning:
    """``spawn`` runs the work behind an answered request; it says False where it cannot. ``removed`` hears of each
    device that is gone, so that what lives in memory of it goes too. ``allow_nosec``: whether devices without a key may
    be made."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        clock: Clock,
        entropy: Entropy,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        removed: Callable[[DeviceRecord], object] = lambda device: None,
        allow_nosec: bool = True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._spawn = spawn
        self._removed = removed
        self._allow_nosec = allow_nosec
        # One slice at a time, however many requests there are.
        self._turn = asyncio.Lock()

    async def request(self, order: ProvisioningOrder) -> TreeResource:
        """Store the request and start working on it; returns it as stored. Raises `AlreadyExists` for a taken name."""
        now_ms = self._clock.wall_ms()
        resource = TreeResource(
            tenant_id=order.tenant_id,
            resource_id=self._entropy.take(12).hex(),
            resource_name=order.name or random_uuid(self._entropy),
            parent=REQUESTS,
            resource_type=FLEX_CONTAINER,
            envelope=REQUEST_ENVELOPE,
            creator=order.creator,
            labels=order.labels,
            created_ms=now_ms,
            modified_ms=now_ms,
            state_tag=0,
            attributes={**order.attributes, "reqLt": [_without_secrets(item) for item in order.items]},
        )
        await self._store.create_resource(resource)
        if self._spawn(self._process(resource, order.operation, order.items)) is False:
            # It is stored, so somebody has to do it: the client waits.
            await self._process(resource, order.operation, order.items)
        return resource

    async def resume(self, tenant_id: TenantId) -> int:
        """Take up requests that a stopped server left unanswered; returns how many. An item that was already created
        for the same request counts as done."""
        resumed = offset = 0
        while page := await self._store.resources(tenant_id, REQUESTS, 100, offset):
            offset += len(page)
            for resource in page:
                if await self._store.resource(tenant_id, RESPONSES, response_name(resource.resource_id)) is None:
                    operation = resource.attributes.get("opern", CREATE)
                    await self._process(resource, operation, resource.attributes["reqLt"], resumed=True)
                    resumed += 1
        return resumed

    async def remove(self, device: DeviceRecord) -> bool:
        """Remove a device with everything that is its own and with the end devices behind it; False where it is gone
        already."""
        for behind, _ in await self._store.end_devices(device.device_id):
            # One at a time, for each takes a while to delete.
            await self.remove(behind)
        gone = await self._store.remove_device(device.device_id)
        if gone:
            log.info("device.removed", tenant=device.tenant, device=device.name)
            self._removed(device)
        return gone

    async def _process(
        self, request: TreeResource, operation: int, items: Sequence[Item], resumed: bool = False
    ) -> None:
        problems: list[str] = []
        for start in range(0, len(items), SLICE):
            if start:
                await asyncio.sleep(PAUSE_S)
            async with self._turn:
                outcomes = await asyncio.gather(
                    *(
                        self._process_item(request, operation, position, item, resumed)
                        for position, item in enumerate(items[start : start + SLICE], start=start + 1)
                    )
                )
            problems += [each for each in outcomes if each is not None]
        now_ms = self._clock.wall_ms()
        total, errors = len(items), len(problems)
        response = TreeResource(
            tenant_id=request.tenant_id,
            resource_id=self._entropy.take(12).hex(),
            resource_name=response_name(request.resource_id),
            parent=RESPONSES,
            resource_type=FLEX_CONTAINER,
            envelope=RESPONSE_ENVELOPE,
            creator=CREATOR,
            labels=(),
            created_ms=now_ms,
            modified_ms=now_ms,
            state_tag=0,
            attributes={
                "cnd": RESPONSE_DEFINITION,
                "reqRD": request.resource_id,
                "resSs": SUCCEEDED if not errors else FAILED if errors == total else PARTLY,
                "geEMe": f"total: {total}, processed: {total - errors}, errors: {errors}",
                "inEMs": problems,
            },
        )
        await self._store.create_resource(response)
        log.info("provisioning.done", request=request.resource_id, total=total, errors=errors)

    async def _process_item(
        self, request: TreeResource, operation: int, position: int, item: Item, resumed: bool
    ) -> str | None:
        """What went wrong with an item, in words."""
        try:
            if operation == CREATE:
                await self._create(request, item, resumed)
            else:
                await self._remove_item(request.tenant_id, item, resumed)
        except UserError as error:
            return f"{_describe(position, item)}: {error}"
        except Exception as error:
            log.exception("provisioning.item_failed", request=request.resource_id, item=position, error=repr(error))
            return f"{_describe(position, item)}: internal error, nothing was done; see the server's log"
        return None

    async def _create(self, request: TreeResource, item: Item, resumed: bool) -> None:
        if resumed:
            name, node_id = _names(_fields(item))
            existing = await self._store.device_by_name(request.tenant_id, name)
            if existing is not None and (existing.node_id, existing.created_ms) == (node_id, request.created_ms):
                return
            if WITHHELD in (item.get("nCr") or ()):
                raise BadItem(
                    "the server stopped before this device was made, and keys are not kept with a request; "
                    "ask for this device again"
                )
        profiles = {each.name for each in await self._store.profiles(request.tenant_id)}
        new = check_item(item, request.created_ms, self._allow_nosec, profiles)
        await self._store.create_device(request.tenant_id, new)

    async def _remove_item(self, tenant_id: TenantId, item: Item, resumed: bool) -> None:
        fields = _fields(item)
        name, node_id = fields.get("noRNe"), fields.get("ni")
        if not isinstance(name or node_id, str):
            raise BadItem("name the device to remove with nodeResourceName (noRNe) or nodeID (ni)")
        if name:
            device = await self._store.device_by_name(tenant_id, name)
        else:
            device = await self._store.device_by_endpoint(str(node_id))
        known = device is not None and device.tenant_id == tenant_id and (not node_id or device.node_id == node_id)
        if device is None or not known or not await self.remove(device):
            before = ", or this request removed it before the server stopped" if resumed else ""
            raise BadItem(f"there is no such device{before}")


def response_name(request_id: str) -> str:
    """Where the result of a provisioning request appears (§6.2)."""
    return f"responseToRequest-{request_id}"


def check_item(item: Item, now_ms: int, allow_nosec: bool = True, profiles: Collection[str] = frozenset()) -> NewDevice:
    """The device an item asks for; ``profiles``: those of the tenant, besides `PROFILE`. Raises `BadItem` or
    `BadCredential` with what is wrong and what would be right."""
    fields = _fields(item)
    name, node_id = _names(fields)
    profile = _text(fields, "profe", "profile")
    if profile.lower() in _FOREIGN_PROFILES:
        raise BadItem(f"profile {_shown(profile)!r} is not supported by this server; SCS-LwM2M is")
    known_profile = PROFILE if profile.lower() == PROFILE.lower() else profile
    if known_profile != PROFILE and profile not in profiles:
        raise BadItem(f"unknown profile {_shown(profile)!r}; write SCS-LwM2M, or make it with stellwerk profile set")
    for member in fields.keys() - _MEMBERS:
        if _SECRETIVE.search(member):
            raise BadItem(f"unknown member {member[:40]!r}; keys belong in nodeCredentials (nCr)")
    texts = _texts(fields, "nCr", "nodeCredentials")
    if not texts and not allow_nosec:
        raise BadItem(
            "devices without a key are not allowed here; add nodeCredentials (nCr): psk-id: and psk:, or rpk:, x509: "
            "or x509-cn:"
        )
    credential = parse_credentials(texts, now_ms, endpoint_names(node_id, name)) if texts else None
    if groups := _texts(fields, "nDGr", "nodeDeviceGroups"):
        raise BadItem(f"unknown device group {_shown(groups[0])!r}")
    labels = [*_texts(fields, "lbl", "labels"), f"profile:{profile}"]
    check_labels(labels)
    iccid = fields.get("ICCID")
    if iccid is not None:
        if not isinstance(iccid, str) or not 1 <= len(iccid.strip()) <= _LONGEST_ICCID or is_key(iccid):
            raise BadItem("ICCID is a text of digits")
        labels.append(f"ICCID:{iccid.strip()}")
    return NewDevice(name, node_id, tuple(labels), known_profile, check_info(fields.get("ndvi")), now_ms, credential)


def _names(fields: dict[str, Any]) -> tuple[str, str]:
    """A new device's name and node ID."""
    name = _text(fields, "noRNe", "nodeResourceName")
    if not _NAME.fullmatch(name):
        raise BadItem("nodeResourceName (noRNe) takes 1 to 255 of the characters 0-9 A-Z a-z _ : -")
    if name in RESERVED_NAMES:
        raise BadItem(f"the name {name!r} is reserved; choose another")
    node_id = _text(fields, "ni", "nodeID")
    if not _NODE_ID.fullmatch(node_id):
        raise BadItem("nodeID (ni) takes 1 to 255 visible ASCII characters, for example urn:gsma:imei:350000000000001")
    if is_key(name) or is_key(node_id):
        raise BadItem("names are for all to read; keys belong in nodeCredentials (nCr)")
    return name, node_id


def check_info(info: Any) -> tuple[tuple[str, str], ...]:
    """What people say a device is, as pairs of deviceInfo attributes and texts. Raises `BadItem`."""
    if info is None:
        return ()
    if not isinstance(info, dict):
        raise BadItem("nodeDeviceInfo (ndvi) is an object of deviceInfo attributes")
    if info.get("mgd", 1007) != 1007:
        raise BadItem("nodeDeviceInfo (ndvi) has mgmtDefinition (mgd) 1007")
    pairs: list[tuple[str, str]] = []
    for name, value in info.items():
        # Clients send every attribute they know, empty where they know nothing.
        if name in _INFO_OF_THE_RESOURCE or value in (None, "", []):
            continue
        if not _INFO_NAME.fullmatch(name):
            raise BadItem(f"nodeDeviceInfo has no attribute {name[:40]!r}")
        # A device label is printed as a string in one place and as a list in another (§6.1); protocols are a list.
        if name in _LISTS and isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = " ".join(value)
        if not isinstance(value, str):
            raise BadItem(f"nodeDeviceInfo attribute {name!r} is a text")
        if len(value) > LONGEST_INFO:
            raise BadItem(f"nodeDeviceInfo attribute {name!r} has {LONGEST_INFO} characters at most")
        if is_key(value):
            raise BadItem(f"nodeDeviceInfo attribute {name!r} is for all to read; keys belong in credentials")
        pairs.append((name, value))
    return tuple(pairs)


def _fields(item: Item) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise BadItem("an item of requestList (reqLt) is an object")
    return item


def _text(fields: dict[str, Any], name: str, full: str) -> str:
    value = fields.get(name)
    if value is None:
        raise BadItem(f"{full} ({name}) is missing")
    if not isinstance(value, str):
        raise BadItem(f"{full} ({name}) is a text")
    return value


def _texts(fields: dict[str, Any], name: str, full: str) -> list[str]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadItem(f"{full} ({name}) is a list of texts")
    return value


def _shown(text: str) -> str:
    """What may be repeated of a text, since answers are kept for all to read."""
    return WITHHELD if is_key(text) else text[:60]


def _describe(position: int, item: Item) -> str:
    name = (item.get("noRNe") or item.get("ni")) if isinstance(item, dict) else None
    return f"item {position} ({_shown(name)})" if isinstance(name, str) and name else f"item {position}"


def _without_secrets(item: Item) -> Item:
    """What may be stored and shown of an item: identities, never keys (§6.1), wherever they stand."""
    if not isinstance(item, dict):
        return _masked(item)
    shown = {}
    for name, value in item.items():
        secretive = name == "nCr" or (name not in _MEMBERS and _SECRETIVE.search(name))
        shown[name] = without_keys(value) if secretive else _masked(value)
    return shown


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return WITHHELD if is_key(value) else value
    if isinstance(value, list):
        return [_masked(each) for each in value]
    if isinstance(value, dict):
        return {name: WITHHELD if _SECRETIVE.search(name) else _masked(each) for name, each in value.items()}
    return value
