"""`ProjectedStore` on the projector's file, read only."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from stellwerk.app.ports import Limits
from stellwerk.app.records import ContainerState, DeviceState, LogLine, MessageRecord, StoredValue
from stellwerk.core.ids import DeviceId
from stellwerk.storage.identifiers import receiving_device
from stellwerk.storage.projection import LOG_KEPT
from stellwerk.storage.sqlite import instances, projected_rows
from stellwerk.storage.sqlite.rows import to_json

_STATE = "device_id,status,last_seen_ms,registered_ms,updated_ms,deregistered_ms,expired_ms,endpoint_name"


class SqliteProjection:
    """Belongs to the event loop that opened ``connection``."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits

    def close(self) -> None:
        self._connection.close()

    async def received_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return instances.page(self._connection, "received_message", device_id, self._limits, limit, offset)

    async def find_received(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        resource_id: str | None = None,
        seq: int | None = None,
    ) -> MessageRecord | None:
        wanted = {"resource_name": name, "resource_id": resource_id, "seq": seq}
        return instances.find(self._connection, "received_message", device_id, self._limits, wanted)

    async def received_by_resource_id(self, resource_id: str) -> tuple[DeviceId, MessageRecord] | None:
        device_id = receiving_device(resource_id)
        if device_id is None:
            return None
        message = await self.find_received(device_id, resource_id=resource_id)
        return None if message is None else (device_id, message)

    async def received_state(self, device_id: DeviceId) -> ContainerState:
        found = self._rows("SELECT message_tag,message_ms FROM device_state WHERE device_id=?", device_id)
        tag, modified_ms = found[0] if found else (0, 0)
        count, size, _ = instances.what_is_kept(self._connection, "received_message", device_id, self._limits)
        return ContainerState(tag, count, size, modified_ms)

    async def state_of(self, device_id: DeviceId) -> DeviceState | None:
        found = self._rows(f"SELECT {_STATE} FROM device_state WHERE device_id=?", device_id)
        return DeviceState(*found[0]) if found else None

    async def recent_states(self, tenant_devices: Sequence[DeviceId]) -> Sequence[DeviceState]:
        query = f"SELECT {_STATE} FROM device_state WHERE device_id IN (SELECT value FROM json_each(?))"
        return [DeviceState(*row) for row in self._rows(query, to_json(list(tenant_devices)))]

    async def current_values(self, device_id: DeviceId) -> Sequence[StoredValue]:
        query = "SELECT path,value,time_ms,seq FROM current_value WHERE device_id=? ORDER BY path"
        return [StoredValue(*row) for row in self._rows(query, device_id)]

    async def value_history(self, device_id: DeviceId, path: str, limit: int) -> Sequence[StoredValue]:
        return projected_rows.read_history(self._connection, device_id, path, limit)

    async def device_log(self, device_id: DeviceId, limit: int) -> Sequence[LogLine]:
        query = "SELECT seq,time_ms,event,detail FROM device_log WHERE device_id=? ORDER BY tag DESC LIMIT ?"
        return [LogLine(*row) for row in self._rows(query, device_id, min(limit, LOG_KEPT))]

    async def projected_seq(self) -> int:
        return self.seq()

    def seq(self) -> int:
        """The projector's cursor."""
        found = self._rows("SELECT seq FROM projection")
        return int(found[0][0]) if found else 0

    def failures(self) -> int:
        """Entries that could not be interpreted, since the file was made."""
        found = self._rows("SELECT failures FROM projection")
        return int(found[0][0]) if found else 0

    def updated_ms(self, device_id: DeviceId) -> int:
        """When the device last registered or updated, as far as it is projected; 0 = never."""
        found = self._rows("SELECT updated_ms FROM device_state WHERE device_id=?", device_id)
        return int(found[0][0]) if found else 0

    def _rows(self, query: str, *parameters: Any) -> list[Any]:
        return self._connection.execute(query, parameters).fetchall()
