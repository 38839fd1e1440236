"""`ProjectedStore` with plain dicts: each entry is projected the moment it is committed."""

from collections.abc import Sequence
from typing import Any

from stellwerk.app.journal import JournalEntry
from stellwerk.app.ports import Limits
from stellwerk.app.records import ContainerState, DeviceState, LogLine, MessageRecord, StoredValue
from stellwerk.core.ids import DeviceId
from stellwerk.storage.eviction import kept
from stellwerk.storage.identifiers import receiving_device
from stellwerk.storage.projection import LOG_KEPT, EntryProjector, Shadow, Slice, TypesOf


class MemoryProjection:
    """Belongs to a `MemoryStore`, which tells it of devices and entries."""

    def __init__(self, salt: bytes, types_of: TypesOf, limits: Limits) -> None:
        self.names: dict[DeviceId, str] = {}
        self.tenants: dict[DeviceId, str] = {}
        self._limits = limits
        self._projector = EntryProjector(salt, types_of)
        self._seq = 0
        self._failures = 0
        self._shadows: dict[DeviceId, Shadow] = {}
        self._messages: dict[DeviceId, list[tuple[int, MessageRecord]]] = {}
        """With the sequence numbers of their entries, oldest first."""
        self._current: dict[DeviceId, dict[str, StoredValue]] = {}
        self._history: dict[DeviceId, list[StoredValue]] = {}
        self._log: dict[DeviceId, list[LogLine]] = {}

    async def received_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return [message for _, message in self._kept(device_id)[offset : offset + limit]]

    async def find_received(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        resource_id: str | None = None,
        seq: int | None = None,
    ) -> MessageRecord | None:
        if name is None and resource_id is None and seq is None:
            raise ValueError("a message is found by name, resource_id or seq")
        for number, message in self._kept(device_id):
            named = name in (None, message.resource_name) and resource_id in (None, message.resource_id)
            if named and seq in (None, number):
                return message
        return None

    async def received_by_resource_id(self, resource_id: str) -> tuple[DeviceId, MessageRecord] | None:
        device_id = receiving_device(resource_id)
        if device_id is None:
            return None
        message = await self.find_received(device_id, resource_id=resource_id)
        return None if message is None else (device_id, message)

    async def received_state(self, device_id: DeviceId) -> ContainerState:
        messages = self._kept(device_id)
        shadow = self._shadows.get(device_id)
        tag, modified_ms = (0, 0) if shadow is None else (shadow.message_tag, shadow.message_ms)
        return ContainerState(tag, len(messages), sum(each.content_size for _, each in messages), modified_ms)

    async def state_of(self, device_id: DeviceId) -> DeviceState | None:
        shadow = self._shadows.get(device_id)
        return None if shadow is None else shadow.state()

    async def recent_states(self, tenant_devices: Sequence[DeviceId]) -> Sequence[DeviceState]:
        wanted = dict.fromkeys(tenant_devices)
        return [self._shadows[each].state() for each in wanted if each in self._shadows]

    async def current_values(self, device_id: DeviceId) -> Sequence[StoredValue]:
        return sorted(self._current.get(device_id, {}).values(), key=lambda each: each.path)

    async def value_history(self, device_id: DeviceId, path: str, limit: int) -> Sequence[StoredValue]:
        # Of values with one time, the one that came later is newer, in one entry too.
        found = [each for each in self._history.get(device_id, []) if each.path == path]
        found.reverse()
        found.sort(key=lambda each: (-each.time_ms, -each.seq))
        return found[:limit]

    async def device_log(self, device_id: DeviceId, limit: int) -> Sequence[LogLine]:
        return self._log.get(device_id, [])[::-1][: min(limit, LOG_KEPT)]

    async def projected_seq(self) -> int:
        return self._seq

    def failures(self) -> int:
        """Entries that could not be interpreted."""
        return self._failures

    def remove(self, device_id: DeviceId) -> None:
        """The device was removed; entries of it that still come are skipped."""
        self.names.pop(device_id, None)
        self.tenants.pop(device_id, None)
        tables: tuple[dict[DeviceId, Any], ...] = (
            self._shadows,
            self._messages,
            self._current,
            self._history,
            self._log,
        )
        for table in tables:
            table.pop(device_id, None)

    def project(self, seq: int, entry: JournalEntry) -> None:
        """Called for every entry, in order."""
        self._seq = seq
        device_id = DeviceId(entry.device_id)
        name = self.names.get(device_id)
        if name is None:
            return
        shadow = self._shadows.setdefault(device_id, Shadow(device_id, self.tenants.get(device_id, "")))
        made = Slice()
        self._projector.project(seq, entry, name, shadow, made)
        self._failures += made.failures
        for _, resource_id in made.removed:
            # What the limits have hidden goes first: a removal brings nothing back.
            left = [each for each in reversed(self._kept(device_id)) if each[1].resource_id != resource_id]
            self._messages[device_id] = left
        for message in made.messages:
            record = MessageRecord(
                message.resource_id,
                message.resource_name,
                message.state_tag,
                message.created_ms,
                message.content,
                message.content_info,
                message.content_size,
                message.creator,
                message.labels,
            )
            self._messages.setdefault(device_id, []).append((seq, record))
        for _, _, _, _, values in made.history:
            stored = self._history.setdefault(device_id, [])
            stored.extend(StoredValue(path, value, time_ms, seq) for path, value, time_ms in values)
        current = self._current.setdefault(device_id, {})
        for (_, path), (value, time_ms, _) in made.current.items():
            if path not in current or time_ms >= current[path].time_ms:
                current[path] = StoredValue(path, value, time_ms, seq)
        for _, _, _, time_ms, event, detail in made.log:
            self._log.setdefault(device_id, []).append(LogLine(seq, time_ms, event, detail))

    def _kept(self, device_id: DeviceId) -> list[tuple[int, MessageRecord]]:
        """Newest first."""
        found = self._messages.get(device_id, [])[::-1]
        count, _ = kept((each.content_size for _, each in found), self._limits)
        return found[:count]
