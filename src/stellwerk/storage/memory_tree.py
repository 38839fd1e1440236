"""Tree resources, accounts, API clients and profiles with plain dicts: the part of `memory` that hangs on no device."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from stellwerk.app.records import Account, AlreadyExists, ApiClient, TreeResource
from stellwerk.core.ids import TenantId
from stellwerk.device.profile import ProfileRecord

_Key = tuple[TenantId, str, str]


class MemoryTree:
    """A part of `MemoryStore`. Attributes are copied on the way in and out, as a database would."""

    def __init__(self) -> None:
        self._resources: dict[_Key, TreeResource] = {}
        self._accounts: dict[str, Account] = {}
        self._api_clients: dict[str, ApiClient] = {}
        self._profiles: dict[tuple[TenantId, str], ProfileRecord] = {}
        self._profiles_version = 0

    # -- tree resources --

    async def create_resource(self, resource: TreeResource) -> None:
        key = (resource.tenant_id, resource.parent, resource.resource_name)
        if key in self._resources:
            raise AlreadyExists("resource name", resource.resource_name)
        self._resources[key] = deepcopy(resource)

    async def change_resource(
        self,
        tenant_id: TenantId,
        parent: str,
        name: str,
        *,
        modified_ms: int,
        labels: tuple[str, ...] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> TreeResource | None:
        key = (tenant_id, parent, name)
        known = self._resources.get(key)
        if known is None:
            return None
        changed = self._resources[key] = replace(
            known,
            modified_ms=modified_ms,
            state_tag=known.state_tag + 1,
            labels=known.labels if labels is None else labels,
            attributes=known.attributes if attributes is None else deepcopy(attributes),
        )
        return deepcopy(changed)

    async def remove_resource(self, tenant_id: TenantId, parent: str, name: str) -> bool:
        found = self._resources.pop((tenant_id, parent, name), None)
        if found is None:
            return False
        self._remove_below(tenant_id, lambda each: each == found.resource_id)
        return True

    async def resource_by_id(self, tenant_id: TenantId, resource_id: str) -> TreeResource | None:
        found = [
            each for each in self._resources.values() if each.tenant_id == tenant_id and each.resource_id == resource_id
        ]
        return deepcopy(_oldest_first(found)[0]) if found else None

    async def resource(self, tenant_id: TenantId, parent: str, name: str) -> TreeResource | None:
        return deepcopy(self._resources.get((tenant_id, parent, name)))

    async def resources(self, tenant_id: TenantId, parent: str, limit: int, offset: int) -> Sequence[TreeResource]:
        found = _oldest_first(each for key, each in self._resources.items() if key[:2] == (tenant_id, parent))
        return deepcopy(found[offset : offset + limit])

    def _remove_below(self, tenant_id: TenantId, is_gone: Callable[[str], bool]) -> None:
        """Remove what has a parent that is gone, and all below."""
        gone = [key for key in self._resources if key[0] == tenant_id and is_gone(key[1])]
        parents = {self._resources.pop(key).resource_id for key in gone}
        if parents:
            self._remove_below(tenant_id, parents.__contains__)

    # -- profiles --

    async def profiles(self, tenant_id: TenantId | None = None) -> Sequence[ProfileRecord]:
        return [each for key, each in sorted(self._profiles.items()) if tenant_id in (None, key[0])]

    async def profile(self, tenant_id: TenantId, name: str) -> ProfileRecord | None:
        return self._profiles.get((tenant_id, name))

    async def put_profile(self, record: ProfileRecord) -> None:
        key = (record.tenant_id, record.name)
        before = self._profiles.get(key)
        self._profiles[key] = record if before is None else replace(record, created_ms=before.created_ms)
        self._profiles_version += 1

    async def profiles_version(self) -> int:
        return self._profiles_version

    def _drop_profile(self, tenant_id: TenantId, name: str) -> None:
        del self._profiles[tenant_id, name]
        self._profiles_version += 1

    # -- who may come in --

    async def account(self, name: str) -> Account | None:
        return self._accounts.get(name)

    async def put_account(self, account: Account) -> None:
        self._accounts[account.name] = account

    async def api_client(self, client_id: str) -> ApiClient | None:
        return self._api_clients.get(client_id)

    async def api_clients(self) -> Sequence[ApiClient]:
        return [self._api_clients[each] for each in sorted(self._api_clients)]

    async def put_api_client(self, client: ApiClient) -> None:
        self._api_clients[client.client_id] = client

    async def remove_api_client(self, client_id: str) -> bool:
        return self._api_clients.pop(client_id, None) is not None


def _oldest_first(resources: Iterable[TreeResource]) -> list[TreeResource]:
    return sorted(resources, key=lambda each: (each.created_ms, each.resource_name))
