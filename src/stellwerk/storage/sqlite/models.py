"""Imported object models in SQLite: a part of `store`, and what the projector reads of them."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from stellwerk.app.records import ModelHead, NewModel
from stellwerk.lwm2m.schema.model import parse_version
from stellwerk.storage.sqlite.tree import SqliteTree

_HEADS: Final = (
    "SELECT tenant,object_id,version,name,file_name,length(source),created_ms,modified_ms FROM object_model "
    "ORDER BY tenant,object_id"
)
_SOURCE: Final = "SELECT source FROM object_model WHERE tenant=? AND object_id=? AND version=?"
_PUT: Final = (
    "INSERT INTO object_model(tenant,object_id,version,name,file_name,source,created_ms,modified_ms) "
    "VALUES (?,?,?,?,?,?,?7,?7) ON CONFLICT(tenant,object_id,version) DO UPDATE SET name=excluded.name,"
    # Later even where the clock stands or was set back: who follows the models sees that it changed.
    "file_name=excluded.file_name,source=excluded.source,modified_ms=max(excluded.modified_ms,modified_ms+1)"
)
_REMOVE: Final = "DELETE FROM object_model WHERE tenant=? AND object_id=? AND version=?"
_GENERATION: Final = "SELECT value FROM meta WHERE name='models'"
_COUNT: Final = "INSERT OR REPLACE INTO meta(name,value) VALUES ('models',?)"


class SqliteModels(SqliteTree):
    """A part of `SqliteStore`."""

    async def models_generation(self) -> int:
        return generation(self._reader)

    async def object_models(self) -> Sequence[ModelHead]:
        return heads(self._reader)

    async def model_source(self, tenant: str, object_id: int, version: str) -> bytes | None:
        return source(self._reader, tenant, object_id, version)

    async def put_object_models(self, models: Sequence[NewModel], now_ms: int) -> None:
        await self._task(_put, models, now_ms)

    async def remove_object_models(self, keys: Sequence[tuple[str, int, str]]) -> int:
        return await self._task(_remove, keys)


def generation(connection: sqlite3.Connection) -> int:
    """Counts the changes of the imported models; 0 before the first."""
    found = connection.execute(_GENERATION).fetchall()
    return int(found[0][0]) if found else 0


def heads(connection: sqlite3.Connection) -> list[ModelHead]:
    """By tenant, object and version."""
    found = [ModelHead(*row) for row in connection.execute(_HEADS).fetchall()]
    found.sort(key=lambda each: (each.tenant, each.object_id, parse_version(each.version) or (0, 0)))
    return found


def source(connection: sqlite3.Connection, tenant: str, object_id: int, version: str) -> bytes | None:
    """The DDF file as it came, None where there is none."""
    found = connection.execute(_SOURCE, (tenant, object_id, version)).fetchall()
    return bytes(found[0][0]) if found else None


def _put(connection: sqlite3.Connection, models: Sequence[NewModel], now_ms: int) -> None:
    for new in models:
        row = (new.tenant, new.object_id, new.version, new.name, new.file_name, new.source, now_ms)
        connection.execute(_PUT, row)
    _changed(connection)


def _remove(connection: sqlite3.Connection, keys: Sequence[tuple[str, int, str]]) -> int:
    removed = sum(connection.execute(_REMOVE, key).rowcount for key in keys)
    if removed:
        _changed(connection)
    return removed


def _changed(connection: sqlite3.Connection) -> None:
    connection.execute(_COUNT, (b"%d" % (generation(connection) + 1),))
