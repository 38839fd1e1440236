"""Tree resources, accounts and API clients in SQLite: the part of `store` that hangs on no device."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from stellwerk.app.records import Account, AlreadyExists, ApiClient, TreeResource
from stellwerk.core.ids import TenantId
from stellwerk.storage.sqlite import rows
from stellwerk.storage.sqlite.writer import GroupWriter

T = TypeVar("T")

_ACCOUNT = "name,password_hash,authority,tenant,created_ms"
_CLIENT = "client_id,secret_hash,tenants,role,created_ms"


class SqliteTree:
    """A part of `SqliteStore`, which sets the connections and the writer."""

    _reader: sqlite3.Connection
    _connection: sqlite3.Connection
    _writer: GroupWriter

    # -- tree resources --

    async def create_resource(self, resource: TreeResource) -> None:
        await self._task(_create, resource)

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
        return await self._task(_change, (tenant_id, parent, name), modified_ms, labels, attributes)

    async def remove_resource(self, tenant_id: TenantId, parent: str, name: str) -> bool:
        return await self._task(_remove, tenant_id, parent, name)

    async def resource_by_id(self, tenant_id: TenantId, resource_id: str) -> TreeResource | None:
        return self._resource("resource_id=? ORDER BY created_ms,resource_name LIMIT 1", tenant_id, resource_id)

    async def resource(self, tenant_id: TenantId, parent: str, name: str) -> TreeResource | None:
        return self._resource("parent=? AND resource_name=?", tenant_id, parent, name)

    async def resources(self, tenant_id: TenantId, parent: str, limit: int, offset: int) -> Sequence[TreeResource]:
        query = (
            f"SELECT {rows.TREE_RESOURCE} FROM tree_resource WHERE tenant_id=? AND parent=? "
            "ORDER BY created_ms, resource_name LIMIT ? OFFSET ?"
        )
        return [rows.tree_resource_from(row) for row in self._rows(query, tenant_id, parent, limit, offset)]

    # -- who may come in --

    async def account(self, name: str) -> Account | None:
        row = self._row(f"SELECT {_ACCOUNT} FROM account WHERE name=?", name)
        return None if row is None else Account(*row)

    async def put_account(self, account: Account) -> None:
        await self._task(
            _put,
            f"INSERT OR REPLACE INTO account({_ACCOUNT}) VALUES (?,?,?,?,?)",
            (account.name, account.password_hash, account.authority, account.tenant, account.created_ms),
        )

    async def api_client(self, client_id: str) -> ApiClient | None:
        row = self._row(f"SELECT {_CLIENT} FROM api_client WHERE client_id=?", client_id)
        return None if row is None else _client_from(row)

    async def api_clients(self) -> Sequence[ApiClient]:
        return [_client_from(row) for row in self._rows(f"SELECT {_CLIENT} FROM api_client ORDER BY client_id")]

    async def put_api_client(self, client: ApiClient) -> None:
        await self._task(
            _put,
            f"INSERT OR REPLACE INTO api_client({_CLIENT}) VALUES (?,?,?,?,?)",
            (client.client_id, client.secret_hash, rows.to_json(client.tenants), client.role, client.created_ms),
        )

    async def remove_api_client(self, client_id: str) -> bool:
        return await self._task(_put, "DELETE FROM api_client WHERE client_id=?", (client_id,)) > 0

    # -- reading and writing --

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        # Always to the end: a half-read statement would hold a snapshot and keep the write-ahead log from shrinking.
        return self._reader.execute(query, parameters).fetchall()

    def _row(self, query: str, *parameters: Any) -> Any | None:
        found = self._reader.execute(query, parameters).fetchall()
        return found[0] if found else None

    def _resource(self, condition: str, *parameters: Any) -> TreeResource | None:
        row = self._row(
            f"SELECT {rows.TREE_RESOURCE} FROM tree_resource WHERE tenant_id=? AND {condition}", *parameters
        )
        return None if row is None else rows.tree_resource_from(row)

    async def _task(self, work: Callable[..., T], *parameters: Any) -> T:
        return await self._writer.run(partial(work, self._connection, *parameters))


def remove_below(connection: sqlite3.Connection, tenant_id: int, parents: str) -> None:
    """Remove the resources whose parent has an ID that begins with one of ``parents`` (a JSON array), and all below.
    IDs are hex digits, so what begins with one lies between it and the same with ``g`` behind."""
    connection.execute(
        "WITH RECURSIVE gone(id) AS ("
        " SELECT r.resource_id FROM json_each(?2) p JOIN tree_resource r"
        "  ON r.tenant_id=?1 AND r.parent>=p.value AND r.parent<p.value||'g'"
        " UNION SELECT r.resource_id FROM gone g JOIN tree_resource r ON r.tenant_id=?1 AND r.parent=g.id)"
        " DELETE FROM tree_resource WHERE tenant_id=?1 AND resource_id IN (SELECT id FROM gone)"
        "  AND (tree_resource.parent IN (SELECT id FROM gone)"
        "   OR EXISTS (SELECT 1 FROM json_each(?2) p"
        "    WHERE tree_resource.parent>=p.value AND tree_resource.parent<p.value||'g'))",
        (tenant_id, parents),
    )


def _create(connection: sqlite3.Connection, resource: TreeResource) -> None:
    taken = "SELECT 1 FROM tree_resource WHERE tenant_id=? AND parent=? AND resource_name=?"
    if connection.execute(taken, (resource.tenant_id, resource.parent, resource.resource_name)).fetchall():
        raise AlreadyExists("resource name", resource.resource_name)
    device = "SELECT 1 FROM device d JOIN tenant t ON t.id=d.tenant_id WHERE d.tenant_id=? AND t.name=? AND d.name=?"
    if connection.execute(device, (resource.tenant_id, resource.parent, resource.resource_name)).fetchall():
        raise AlreadyExists("resource name", resource.resource_name)
    connection.execute(
        f"INSERT INTO tree_resource({rows.TREE_RESOURCE}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        rows.tree_resource_row(resource),
    )


def _change(
    connection: sqlite3.Connection,
    key: tuple[TenantId, str, str],
    modified_ms: int,
    labels: tuple[str, ...] | None,
    attributes: dict[str, Any] | None,
) -> TreeResource | None:
    found = connection.execute(
        "UPDATE tree_resource SET modified_ms=?, state_tag=state_tag+1, labels=coalesce(?,labels), "
        "attributes=coalesce(?,attributes) WHERE tenant_id=? AND parent=? AND resource_name=? "
        f"RETURNING {rows.TREE_RESOURCE}",
        (
            modified_ms,
            None if labels is None else rows.to_json(labels),
            None if attributes is None else rows.to_json(attributes),
            *key,
        ),
    ).fetchall()
    return rows.tree_resource_from(found[0]) if found else None


def _remove(connection: sqlite3.Connection, tenant_id: TenantId, parent: str, name: str) -> bool:
    found = connection.execute(
        "DELETE FROM tree_resource WHERE tenant_id=? AND parent=? AND resource_name=? RETURNING resource_id",
        (tenant_id, parent, name),
    ).fetchall()
    if not found:
        return False
    remove_below(connection, tenant_id, rows.to_json([found[0][0]]))
    return True


def _put(connection: sqlite3.Connection, statement: str, parameters: tuple[Any, ...]) -> int:
    return connection.execute(statement, parameters).rowcount


def _client_from(row: rows.Row) -> ApiClient:
    client_id, secret_hash, tenants, role, created_ms = row
    return ApiClient(client_id, secret_hash, rows.labels_of(tenants), role, created_ms)
