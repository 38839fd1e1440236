"""Commands and the messages around them with plain dicts: a part of `memory`."""

from collections.abc import Sequence
from dataclasses import replace

from stellwerk.app.ports import UNBOUNDED, Limits
from stellwerk.app.records import (
    AlreadyExists,
    ContainerFull,
    ContainerState,
    DeviceGone,
    MessageRecord,
    NewOutgoing,
    QueueFull,
)
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.command import FINAL, Command, Step
from stellwerk.device.queue import in_order
from stellwerk.device.record import DeviceRecord
from stellwerk.storage.eviction import kept
from stellwerk.storage.memory_changes import OUTGOING, SENT
from stellwerk.storage.memory_journal import MemoryJournal
from stellwerk.storage.memory_registrations import MemoryRegistrations


class MemoryCommands(MemoryRegistrations):
    """A part of `MemoryStore`."""

    def __init__(self, salt: bytes, journal: MemoryJournal, limits: Limits) -> None:
        super().__init__(salt, journal)
        self.limits = limits
        self._last_command_id = 0

    async def post_outgoing(
        self, outgoing: NewOutgoing, limit: int, queue_length: int = UNBOUNDED
    ) -> tuple[MessageRecord, Sequence[Command]]:
        with self._undo:
            for each in outgoing.ended:
                self._apply(each)
            return self._post(outgoing, limit, queue_length)

    def _post(self, outgoing: NewOutgoing, limit: int, queue_length: int) -> tuple[MessageRecord, Sequence[Command]]:
        device_id = outgoing.device_id
        if device_id not in self._devices:
            raise DeviceGone
        is_message = bool(outgoing.resource_name)
        waiting = [message.resource_name for key, message in self._outgoing.items() if key[0] == device_id]
        if is_message and len(waiting) >= limit:
            raise ContainerFull(OUTGOING, len(waiting), limit)
        count = sum(each.device_id == device_id and each.step not in FINAL for each in self._commands.values())
        if count + len(outgoing.commands) > queue_length:
            raise QueueFull(count, len(outgoing.commands), queue_length)
        if outgoing.resource_name in waiting:
            raise AlreadyExists("resource name", outgoing.resource_name)
        tag = 0
        if is_message:
            tag = self._containers.get((device_id, OUTGOING), (0, 0))[0] + 1
            self._containers[device_id, OUTGOING] = (tag, outgoing.created_ms)
        record = outgoing.message(tag)
        if outgoing.commands and is_message:
            self._outgoing[device_id, outgoing.resource_id] = record
        commands = []
        for new in outgoing.commands:
            self._last_command_id += 1
            command = outgoing.command(new, self._last_command_id)
            self._commands[command.command_id] = command
            commands.append(replace(command))
        self._journal.append(outgoing.entries)
        return record, commands

    async def open_commands(self, device_id: DeviceId | None, limit: int) -> Sequence[Command]:
        found = [
            replace(each)
            for each in self._commands.values()
            if each.step not in FINAL and device_id in (None, each.device_id)
        ]
        return (found if device_id is None else in_order(found))[:limit]

    async def queued_commands(self, device_id: DeviceId, limit: int) -> Sequence[tuple[int, str]]:
        found = (each for each in self._commands.values() if (each.device_id, each.step) == (device_id, Step.QUEUED))
        return [(each.command_id, each.outgoing_ri) for each in in_order(found)[:limit]]

    async def recent_commands(self, device_id: DeviceId, limit: int) -> Sequence[Command]:
        found = [replace(each) for each in self._commands.values() if each.device_id == device_id]
        return found[::-1][:limit]

    async def devices_with_open_commands(self) -> Sequence[tuple[DeviceId, bool]]:
        found: dict[DeviceId, bool] = {}
        for each in self._commands.values():
            if each.step not in FINAL:
                registration = await self.registration_of(each.device_id)
                asleep = registration is not None and registration.queue_mode
                at_once = each.step is not Step.QUEUED or not asleep
                found[each.device_id] = found.get(each.device_id, False) or at_once
        return list(found.items())

    async def commands_due(self, before_ms: int, limit: int) -> Sequence[Command]:
        due = [replace(each) for each in self._commands.values() if each.step not in FINAL]
        return sorted((each for each in due if each.expires_ms < before_ms), key=lambda each: each.expires_ms)[:limit]

    async def commands_of_message(self, resource_id: str) -> Sequence[Command]:
        return [replace(each) for each in self._commands.values() if each.outgoing_ri == resource_id]

    async def outgoing_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return self._messages_in(device_id, OUTGOING)[offset : offset + limit]

    async def sent_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return self._messages_in(device_id, SENT)[offset : offset + limit]

    async def find_message(
        self, device_id: DeviceId, container: str, *, name: str | None = None, resource_id: str | None = None
    ) -> MessageRecord | None:
        if name is None and resource_id is None:
            raise ValueError("a message is found by name or resource_id")
        for message in self._messages_in(device_id, container):
            if name in (None, message.resource_name) and resource_id in (None, message.resource_id):
                return message
        return None

    async def message_by_resource_id(
        self, tenant_id: TenantId, resource_id: str
    ) -> tuple[DeviceRecord, str, MessageRecord] | None:
        for record in self._devices.values():
            if record.tenant_id == tenant_id:
                for container in (OUTGOING, SENT):
                    found = await self.find_message(record.device_id, container, resource_id=resource_id)
                    if found is not None:
                        return record, container, found
        return None

    async def remove_sent_message(self, device_id: DeviceId, resource_id: str) -> bool:
        kept_ids = {message.resource_id for message in self._kept_sent(device_id)}
        # What the limits have hidden goes too: a removal brings nothing back.
        left = kept_ids - {resource_id}
        self._sent = {
            key: each for key, each in self._sent.items() if each[0] != device_id or each[1].resource_id in left
        }
        return resource_id in kept_ids

    async def container_state(self, device_id: DeviceId, container: str) -> ContainerState:
        messages = self._messages_in(device_id, container)
        tag, modified_ms = self._containers.get((device_id, container), (0, 0))
        return ContainerState(tag, len(messages), sum(each.content_size for each in messages), modified_ms)

    def _messages_in(self, device_id: DeviceId, container: str) -> list[MessageRecord]:
        """Newest first."""
        if container == SENT:
            return self._kept_sent(device_id)
        if container != OUTGOING:
            raise ValueError(f"{container!r} is neither {OUTGOING!r} nor {SENT!r}")
        found = [message for key, message in self._outgoing.items() if key[0] == device_id]
        return sorted(found, key=lambda each: -each.state_tag)

    def _kept_sent(self, device_id: DeviceId) -> list[MessageRecord]:
        found = [message for owner, message in self._sent.values() if owner == device_id]
        found.sort(key=lambda each: -each.state_tag)
        count, _ = kept((each.content_size for each in found), self.limits)
        return found[:count]
