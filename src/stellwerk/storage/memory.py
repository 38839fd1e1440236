"""Both store ports with plain dicts: for scenario tests and for trying things out. Kept honest by the same contract
tests as the databases.

The parts build on each other, and `MemoryStore` is the last: `memory_tree` (what hangs on no device), `memory_models`,
`memory_sessions`, `memory_credentials`, `memory_changes` (what a commit writes), `memory_registrations` and
`memory_commands`. `memory_journal` and `memory_projection` are objects of their own.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from stellwerk.app.changes import (
    Commit,
)
from stellwerk.app.journal import JournalEntry
from stellwerk.app.ports import Limits, StoreCondition, StoreOverloaded
from stellwerk.app.records import (
    AlreadyExists,
    DeviceChange,
    DeviceGone,
    NewDevice,
    ProfileInUse,
    TreeResource,
)
from stellwerk.app.resource_ids import device_key, split_resource_id
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.end_device import EndDeviceRecord, end_device_aliases
from stellwerk.device.record import DeviceRecord, endpoint_aliases, security_of
from stellwerk.lwm2m.content import Types
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.identifiers import SALT_BYTES
from stellwerk.storage.memory_changes import Broken
from stellwerk.storage.memory_commands import MemoryCommands
from stellwerk.storage.memory_journal import MemoryJournal
from stellwerk.storage.memory_projection import MemoryProjection

Scheduler = Callable[[Callable[[], None]], None]
_NOBODY: Final = DeviceId(0)


class MemoryStore(MemoryCommands):
    """Implements `DecidingStore` and, as ``projection``, `ProjectedStore`; projects at commit.

    ``schedule`` runs a commit's callback a little later (default: the running loop's ``call_soon``).
    """

    def __init__(
        self,
        *,
        library: Library | None = None,
        limits: Limits | None = None,
        schedule: Scheduler | None = None,
        queue_limit: int = 20_000,
        salt: bytes | None = None,
    ) -> None:
        salt = os.urandom(SALT_BYTES) if salt is None else salt
        limits = limits or Limits()
        self.projection = MemoryProjection(salt, self._types, limits)
        super().__init__(salt, MemoryJournal(self.projection), limits)
        self.on_commit: Callable[[int], None] = _ignore
        self._library = library or Library.builtin()
        self._schedule = schedule or _call_soon
        self._queue_limit = queue_limit
        self._waiting = 0
        self._tenants: dict[str, TenantId] = {}
        self._by_name: dict[tuple[TenantId, str], DeviceId] = {}
        self._node_ids: set[str] = set()
        self._aliases: dict[str, set[tuple[int, DeviceId]]] = {}
        """By endpoint name: the devices it may mean, each with its rank."""
        self._last_device_id = 0

    async def close(self) -> None:
        """Nothing to do."""

    # -- commits --

    def submit(self, commit: Commit) -> None:
        if self._waiting >= self._queue_limit * (5 if commit.reserve else 4) // 4:
            waiting = self._waiting
            self._schedule(lambda: commit.done(StoreOverloaded(waiting)))
            return
        self._waiting += 1
        self._take_marks()
        error: Exception | None = None
        try:
            if commit.changes:
                self._apply_all(commit.changes)
        except Broken as broken:
            error = broken
        else:
            self._journal.append(commit.entries)
            commit.seq = self._journal.last_seq if commit.entries else 0

        def finish() -> None:
            self._waiting -= 1
            if error is None:
                self.on_commit(1)
            commit.done(error)

        self._schedule(finish)

    def queue_length(self) -> int:
        return self._waiting

    def condition(self) -> StoreCondition:
        return StoreCondition(queue=self._waiting, last_seq=self._journal.last_seq)

    # -- tenants and devices --

    async def tenant(self, name: str) -> TenantId | None:
        return self._tenants.get(name)

    async def tenants(self) -> Sequence[str]:
        return sorted(self._tenants)

    async def ensure_tenant(self, name: str, now_ms: int) -> TenantId:
        return self._tenants.setdefault(name, TenantId(len(self._tenants) + 1))

    async def create_device(self, tenant_id: TenantId, device: NewDevice) -> DeviceRecord:
        if (tenant_id, device.name) in self._by_name:
            raise AlreadyExists("device name", device.name)
        if device.node_id in self._node_ids:
            raise AlreadyExists("node ID", device.node_id)
        tenant = next(name for name, each in self._tenants.items() if each == tenant_id)
        gateway = self._devices.get(device.gateway_id)
        if not device.gateway_id:
            aliases = endpoint_aliases(device.node_id, device.name)
        elif gateway is None or gateway.tenant_id != tenant_id or isinstance(gateway, EndDeviceRecord):
            raise DeviceGone
        else:
            aliases = end_device_aliases(device.node_id, device.name)
        for alias, rank in () if device.gateway_id else aliases:
            for other, owner_id in self._aliases.get(alias, ()):
                owner = self._devices[owner_id]
                if rank < other and owner.tenant_id != tenant_id and not isinstance(owner, EndDeviceRecord):
                    raise AlreadyExists("endpoint name", alias)
        if await self.resource(tenant_id, tenant, device.name) is not None:
            raise AlreadyExists("resource name", device.name)
        if device.credential is not None:
            self._refuse_taken(None, device.credential)
            self._refuse_contexts(self._contexts_of(_NOBODY, device.credential), ())
        self._last_device_id += 1
        device_id = DeviceId(self._last_device_id)
        fields = (
            device_id,
            tenant_id,
            tenant,
            device.name,
            device.node_id,
            device.labels,
            device.profile,
            device.created_ms,
            device.created_ms,
            security_of(device.credential),
            device.device_info,
        )
        if gateway is None:
            record = DeviceRecord(*fields)
        else:
            record = EndDeviceRecord(*fields, device.gateway_id, gateway.name, device.gateway_prefix)
        self._devices[device_id] = record
        self._by_name[tenant_id, device.name] = device_id
        self._node_ids.add(device.node_id)
        for alias, rank in aliases:
            self._aliases.setdefault(alias, set()).add((rank, device_id))
        if device.credential is not None:
            self._put_credential(device_id, device.credential)
        self.projection.names[device_id] = device.name
        self.projection.tenants[device_id] = tenant
        return record

    def all_devices(self) -> Sequence[DeviceRecord]:
        """Of all tenants, for `MemoryDirectory`."""
        return list(self._devices.values())

    async def device(self, device_id: DeviceId) -> DeviceRecord | None:
        return self._devices.get(device_id)

    async def device_by_name(self, tenant_id: TenantId, name: str) -> DeviceRecord | None:
        device_id = self._by_name.get((tenant_id, name))
        return None if device_id is None else self._devices[device_id]

    async def create_resource(self, resource: TreeResource) -> None:
        below_tenant = self._tenants.get(resource.parent) == resource.tenant_id
        if below_tenant and (resource.tenant_id, resource.resource_name) in self._by_name:
            raise AlreadyExists("resource name", resource.resource_name)
        await super().create_resource(resource)

    async def device_by_endpoint(self, endpoint_name: str) -> DeviceRecord | None:
        found = self._aliases.get(endpoint_name)
        return self._devices[min(found)[1]] if found else None

    async def devices(self, tenant_id: TenantId, limit: int, offset: int) -> Sequence[DeviceRecord]:
        found = sorted(
            (each for each in self._devices.values() if each.tenant_id == tenant_id), key=lambda each: each.name
        )
        return found[offset : offset + limit]

    async def device_by_resource_id(self, tenant_id: TenantId, resource_id: str) -> tuple[DeviceRecord, str] | None:
        split = split_resource_id(resource_id)
        if split is None:
            return None
        key, part = split
        for record in self._devices.values():
            if record.tenant_id == tenant_id and _key_of(record) == key:
                return record, part
        return None

    async def change_device(self, device_id: DeviceId, change: DeviceChange) -> DeviceRecord | None:
        known = self._devices.get(device_id)
        if known is None:
            return None
        if change.profile is not None:
            label = f"profile:{change.profile}"
            labels = tuple(label if each.startswith("profile:") else each for each in known.labels)
            known = replace(known, profile=change.profile, labels=labels)
            self._profiles_version += 1
        changed = self._devices[device_id] = replace(
            known,
            modified_ms=change.modified_ms,
            labels=known.labels if change.labels is None else change.labels,
            device_info=known.device_info if change.device_info is None else change.device_info,
        )
        if isinstance(changed, EndDeviceRecord) and change.behind is not None:
            gateway_id, prefix = change.behind
            gateway = self._devices.get(gateway_id)
            changed = self._devices[device_id] = replace(
                changed, gateway_id=gateway_id, gateway="" if gateway is None else gateway.name, prefix=prefix
            )
        return changed

    async def remove_profile(self, tenant_id: TenantId, name: str) -> bool:
        if await self.profile(tenant_id, name) is None:
            return False
        having = sorted(
            each.name for each in self._devices.values() if (each.tenant_id, each.profile) == (tenant_id, name)
        )
        if having:
            raise ProfileInUse(name, len(having), having[0])
        self._drop_profile(tenant_id, name)
        return True

    async def remove_device(self, device_id: DeviceId) -> bool:
        record = self._devices.pop(device_id, None)
        if record is None:
            return False
        for behind in self._behind(device_id):
            await self.remove_device(behind.device_id)
        del self._by_name[record.tenant_id, record.name]
        self._node_ids.discard(record.node_id)
        aliases_of = end_device_aliases if isinstance(record, EndDeviceRecord) else endpoint_aliases
        for alias, rank in aliases_of(record.node_id, record.name):
            self._aliases[alias].discard((rank, device_id))
        key = _key_of(record)
        self._remove_below(record.tenant_id, lambda parent: parent.startswith(key))
        self._drop_credentials(device_id)
        self._registrations.pop(device_id, None)
        self._journal.forget_device(device_id)
        self._object_lists.pop(device_id, None)
        self._sessions = {key: each for key, each in self._sessions.items() if each.device_id != device_id}
        tables: tuple[dict[Any, Any], ...] = (self._observations, self._outgoing, self._containers)
        for table in tables:
            for key in [key for key in table if key[0] == device_id]:
                del table[key]
        self._commands = {key: each for key, each in self._commands.items() if each.device_id != device_id}
        self._sent = {key: each for key, each in self._sent.items() if each[0] != device_id}
        self.projection.remove(device_id)
        return True

    # -- journal --

    def may_recall(self, receipt: bytes) -> bool:
        return self._journal.by_receipt(receipt) is not None

    async def recall(self, receipt: bytes, since_ms: int) -> JournalEntry | None:
        entry = self._journal.by_receipt(receipt)
        return entry if entry is not None and entry.time_ms >= since_ms else None

    async def check(self) -> None:
        """It always answers."""

    # -- inside --

    def _types(self, body: bytes, version: str, tenant: str) -> Types:
        versions = {each: listed.version for each, listed in decode_object_list(body).objects.items()}
        return self._library.for_device(version, versions, tenant)


def _key_of(record: DeviceRecord) -> str:
    return device_key(record.tenant, record.name, record.created_ms)


def _call_soon(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)


def _ignore(commits: int) -> None:
    """Nobody asked to be woken."""
