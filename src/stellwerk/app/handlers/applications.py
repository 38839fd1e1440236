"""Applications that register (oneM2M AEs): who they are and where messages for them go (contract Device to Cloud §5.3).

An AE is a `TreeResource` below the tenant, whose resource ID is the tenant's name. Its AE-ID is the originator that
registered it, each one's own.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from stellwerk.app.handlers.provisioning import RESERVED_NAMES
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import TreeResource
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import UserError
from stellwerk.core.ids import TenantId
from stellwerk.core.uuid_text import random_uuid

log = structlog.get_logger(__name__)

AE: Final = 2
ENVELOPE: Final = "m2m:ae"
SYSTEM_AE_IDS: Final = frozenset({"CAdmin", "CDevice-Provisioning", "CNI-IPE", "CDevice-Group"})
"""AE-IDs that exist in every tenant and register nothing (§5.5)."""

MOST_APPLICATIONS: Final = 1000
_PAGE: Final = 200


class AlreadyRegistered(UserError):
    """``ae_id`` has an AE already, named ``name``; each originator has one."""

    def __init__(self, ae_id: str, name: str) -> None:
        self.ae_id, self.name = ae_id, name
        super().__init__(f"originator {ae_id!r} has registered already, as {name!r}; delete that AE or change it")


class NameReserved(UserError):
    """``name`` means something else below a tenant."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the name {name!r} is reserved; choose another")


class TooManyApplications(UserError):
    """A tenant has as many as it may."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_APPLICATIONS} applications are registered, which is the most; delete some")


class Applications:
    """The one that writes AEs, so it knows who is registered without asking the store for each request."""

    def __init__(self, *, store: DecidingStore, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._turn = asyncio.Lock()
        self._names: dict[TenantId, dict[str, str]] = {}
        """By tenant: AE-ID to resource name."""

    async def is_registered(self, tenant_id: TenantId, tenant: str, ae_id: str) -> bool:
        """Whether an originator has an AE, or is the system's own."""
        return ae_id in SYSTEM_AE_IDS or ae_id in await self._registered(tenant_id, tenant)

    async def find(self, tenant_id: TenantId, tenant: str, name: str) -> TreeResource | None:
        found = await self._store.resource(tenant_id, tenant, name)
        return found if found is not None and found.resource_type == AE else None

    async def register(
        self,
        tenant_id: TenantId,
        tenant: str,
        *,
        name: str | None,
        ae_id: str,
        creator: str,
        labels: tuple[str, ...],
        attributes: Mapping[str, Any],
    ) -> TreeResource:
        """A new AE; ``ae_id`` ``C`` lets the server choose one. Raises `AlreadyRegistered`, `AlreadyExists` for a name
        that another AE or a device has, `NameReserved`, `TooManyApplications`."""
        if ae_id == "C":
            ae_id = f"C{self._entropy.take(8).hex()}"
        if name in RESERVED_NAMES:
            raise NameReserved(str(name))
        # One after the other: whether an originator has registered is no key of the store.
        async with self._turn:
            registered = await self._registered(tenant_id, tenant)
            if ae_id in SYSTEM_AE_IDS or ae_id in registered:
                raise AlreadyRegistered(ae_id, registered.get(ae_id, "a part of the system"))
            if len(registered) >= MOST_APPLICATIONS:
                raise TooManyApplications
            now_ms = self._clock.wall_ms()
            resource = TreeResource(
                tenant_id=tenant_id,
                resource_id=self._entropy.take(12).hex(),
                resource_name=name or random_uuid(self._entropy),
                parent=tenant,
                resource_type=AE,
                envelope=ENVELOPE,
                creator=creator,
                labels=labels,
                created_ms=now_ms,
                modified_ms=now_ms,
                state_tag=0,
                attributes={**attributes, "aei": ae_id},
            )
            await self._store.create_resource(resource)
            registered[ae_id] = resource.resource_name
        log.info("application.registered", tenant=tenant, application=resource.resource_name, ae_id=ae_id)
        return resource

    async def change(
        self,
        application: TreeResource,
        *,
        labels: tuple[str, ...] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> TreeResource | None:
        """``attributes``: those to set; None as a value takes one away. The AE as it is then, None where it is gone."""
        async with self._turn:
            current = await self._store.resource(application.tenant_id, application.parent, application.resource_name)
            if current is None or current.resource_id != application.resource_id:
                return None
            merged = {**current.attributes, **(attributes or {})}
            return await self._store.change_resource(
                current.tenant_id,
                current.parent,
                current.resource_name,
                modified_ms=self._clock.wall_ms(),
                labels=labels,
                attributes={name: value for name, value in merged.items() if value is not None},
            )

    async def remove(self, application: TreeResource) -> bool:
        """Remove an AE and all below it; False where it is gone already."""
        async with self._turn:
            registered = await self._registered(application.tenant_id, application.parent)
            gone = await self._store.remove_resource(
                application.tenant_id, application.parent, application.resource_name
            )
            registered.pop(str(application.attributes.get("aei")), None)
        if gone:
            log.info("application.removed", tenant=application.parent, application=application.resource_name)
        return gone

    async def _registered(self, tenant_id: TenantId, tenant: str) -> dict[str, str]:
        known = self._names.get(tenant_id)
        if known is not None:
            return known
        found: dict[str, str] = {}
        offset = 0
        while page := await self._store.resources(tenant_id, tenant, _PAGE, offset):
            offset += len(page)
            found |= {str(each.attributes.get("aei")): each.resource_name for each in page if each.resource_type == AE}
        # Somebody else may have read it meanwhile, and registered since.
        return self._names.setdefault(tenant_id, found)
