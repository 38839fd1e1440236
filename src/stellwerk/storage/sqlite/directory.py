"""`DeviceDirectory` on the deciding file: a connection and a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from stellwerk.core.ids import TenantId
from stellwerk.device.record import DeviceRecord
from stellwerk.storage.migrations import DECIDING_FILE
from stellwerk.storage.sqlite import rows
from stellwerk.storage.sqlite.connection import connect

T = TypeVar("T")


class SqliteDirectory:
    """Opened with the first question; SQLite lets go of the interpreter while it searches. `close` it."""

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / DECIDING_FILE
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directory")
        self._connection: sqlite3.Connection | None = None

    async def close(self) -> None:
        """Answer what was asked, then close the file."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()

    async def page(
        self,
        tenant_id: TenantId | None,
        text: str,
        limit: int,
        *,
        after: DeviceRecord | None = None,
        before: DeviceRecord | None = None,
    ) -> Sequence[DeviceRecord]:
        condition, parameters = _condition(tenant_id, text)
        order = "d.tenant_id,d.name"
        edge = after or before
        if edge is not None:
            condition += f" AND (d.tenant_id,d.name){'>' if after else '<'}(?,?)"
            parameters += [edge.tenant_id, edge.name]
        backwards = after is None and before is not None
        if backwards:
            order = "d.tenant_id DESC,d.name DESC"
        query = (
            f"SELECT {rows.DEVICE} FROM device d CROSS JOIN tenant t ON t.id=d.tenant_id WHERE {condition} "
            f"ORDER BY {order} LIMIT ?"
        )
        found = await self._run(lambda: self._rows(query, [*parameters, limit]))
        return [rows.device_from(row) for row in (reversed(found) if backwards else found)]

    async def count(self, tenant_id: TenantId | None, text: str, at_most: int) -> int:
        condition, parameters = _condition(tenant_id, text)
        query = f"SELECT count(*) FROM (SELECT 1 FROM device d WHERE {condition} LIMIT ?)"
        ((found,),) = await self._run(lambda: self._rows(query, [*parameters, at_most]))
        return int(found)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        if self._connection is None:
            self._connection = connect(self._file, writable=False)
        return self._connection.execute(query, parameters).fetchall()


def _condition(tenant_id: TenantId | None, text: str) -> tuple[str, list[Any]]:
    parts: list[str] = ["1"]
    parameters: list[Any] = []
    if tenant_id is not None:
        parts.append("d.tenant_id=?")
        parameters.append(tenant_id)
    if text:
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = ("d.name", "d.node_id", "d.labels")
        parts.append("(" + " OR ".join(f"{each} LIKE ? ESCAPE '\\'" for each in columns) + ")")
        parameters += [pattern] * len(columns)
    return " AND ".join(parts), parameters
