"""Both store ports with plain dicts: for scenario tests and for trying things out. Kept honest by the same contract
tests as the databases."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, assert_never

from stellwerk.app.changes import (
    Change,
    ChangeCommand,
    ChangeRegistration,
    CommandNeverSent,
    CommandSent,
    Commit,
    DropObservation,
    DropRegistration,
    DropSession,
    DropSessionsOf,
    PutObservation,
    PutRegistration,
    PutSession,
)
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import OBJECT_LISTS_KEPT, UNBOUNDED, Limits, StoreCondition, StoreOverloaded
from stellwerk.app.records import (
    AlreadyExists,
    ContainerFull,
    ContainerState,
    DeviceChange,
    DeviceGone,
    MessageRecord,
    NewDevice,
    NewOutgoing,
    ProfileInUse,
    QueueFull,
    TreeResource,
)
from stellwerk.app.resource_ids import device_key, split_resource_id
from stellwerk.app.session import SESSIONS_PER_DEVICE, SecureSession
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.command import FINAL, Command, Step
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration, end_device_aliases
from stellwerk.device.observation import WantedObservation
from stellwerk.device.queue import in_order
from stellwerk.device.record import DeviceRecord, endpoint_aliases, security_of
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.content import Types
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.paths import Target
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.content import content_size
from stellwerk.storage.eviction import kept
from stellwerk.storage.identifiers import SALT_BYTES, sent_ids
from stellwerk.storage.memory_credentials import MemoryCredentials
from stellwerk.storage.memory_projection import MemoryProjection

Scheduler = Callable[[Callable[[], None]], None]
_ABSENT: Final = object()
_NOBODY: Final = DeviceId(0)
_SENT: Final = "sent-msg"
_OUTGOING: Final = "outgoing-msg"


class Broken(Exception):
    """A change that the tables would not take: a location or token that is taken, a device that is not there."""


class MemoryStore(MemoryCredentials):
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
        super().__init__(salt)
        self.on_commit: Callable[[int], None] = _ignore
        self.limits = limits or Limits()
        self._library = library or Library.builtin()
        self._schedule = schedule or _call_soon
        self._queue_limit = queue_limit
        self._waiting = 0
        self._undo: list[Callable[[], None]] = []
        self._tenants: dict[str, TenantId] = {}
        self._by_name: dict[tuple[TenantId, str], DeviceId] = {}
        self._node_ids: set[str] = set()
        self._aliases: dict[str, set[tuple[int, DeviceId]]] = {}
        """By endpoint name: the devices it may mean, each with its rank."""
        self._last_device_id = 0
        self._registrations: dict[DeviceId, tuple[Registration, int]] = {}
        self._observations: dict[tuple[DeviceId, Target], WantedObservation] = {}
        self._commands: dict[int, Command] = {}
        self._last_command_id = 0
        self._outgoing: dict[tuple[DeviceId, str], MessageRecord] = {}
        self._sent: dict[int, tuple[DeviceId, MessageRecord]] = {}
        self._object_lists: dict[DeviceId, dict[str, bytes]] = {}
        self._containers: dict[tuple[DeviceId, str], tuple[int, int]] = {}
        """State tag and time of the last change."""
        self._journal: list[JournalEntry] = []
        self._receipts: dict[bytes, JournalEntry] = {}
        self._updates: dict[DeviceId, int] = {}
        self.projection = MemoryProjection(self._salt, self._types, self.limits)

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
            for change in commit.changes:
                self._apply(change)
        except Broken as broken:
            error = broken
            for undo in reversed(self._undo):
                undo()
        self._undo.clear()
        if error is None:
            self._append(commit.entries)
            commit.seq = len(self._journal) if commit.entries else 0

        def finish() -> None:
            self._waiting -= 1
            if error is None:
                self.on_commit(1)
            commit.done(error)

        self._schedule(finish)

    def queue_length(self) -> int:
        return self._waiting

    def condition(self) -> StoreCondition:
        return StoreCondition(queue=self._waiting, last_seq=len(self._journal))

    # -- tenants and devices --

    async def tenant(self, name: str) -> TenantId | None:
        return self._tenants.get(name)

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
        self._updates.pop(device_id, None)
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

    # -- registrations and observations --

    async def end_devices(self, gateway_id: DeviceId) -> Sequence[tuple[EndDeviceRecord, EndDeviceRegistration | None]]:
        return [(each, self._end_device_registration(each)) for each in self._behind(gateway_id)]

    async def registration_of(self, device_id: DeviceId) -> Registration | None:
        record = self._devices.get(device_id)
        if isinstance(record, EndDeviceRecord):
            return self._end_device_registration(record)
        found = self._registrations.get(device_id)
        return None if found is None else self._fresh(found[0])

    async def registration_at(self, location: str) -> Registration | None:
        found = (each for each in self._direct() if each.location == location)
        return next(map(self._fresh, found), None)

    async def registration_from(self, peer: PeerId) -> Registration | None:
        found = [each for each in self._direct() if each.peer == peer]
        newest = max(found, key=lambda each: (each.registered_ms, each.device_id), default=None)
        return None if newest is None else self._fresh(newest)

    async def object_lists_of(self, device_id: DeviceId) -> Mapping[str, bytes]:
        return dict(self._object_lists.get(device_id, {}))

    async def put_object_list(self, device_id: DeviceId, profile_id: str, body: bytes, now_ms: int) -> None:
        lists = self._object_lists.setdefault(device_id, {})
        lists.pop(profile_id, None)
        lists[profile_id] = body
        if len(lists) > OBJECT_LISTS_KEPT:
            del lists[next(iter(lists))]

    async def registrations_due(self, before_ms: int, limit: int) -> Sequence[tuple[Registration, int]]:
        found = sorted((each for each in self._registrations.values() if each[1] < before_ms), key=lambda each: each[1])
        return [(self._fresh(registration), deadline_ms) for registration, deadline_ms in found[:limit]]

    async def observations_of(self, device_id: DeviceId) -> Sequence[WantedObservation]:
        found = [each for each in self._observations.values() if each.device_id == device_id]
        return sorted(found, key=lambda each: (each.created_ms, str(each.path)))

    async def observation_by_token(self, token: bytes) -> WantedObservation | None:
        return next((each for each in self._observations.values() if each.token == token), None)

    # -- commands and their messages --

    async def post_outgoing(
        self, outgoing: NewOutgoing, limit: int, queue_length: int = UNBOUNDED
    ) -> tuple[MessageRecord, Sequence[Command]]:
        try:
            for each in outgoing.ended:
                self._apply(each)
            return self._post(outgoing, limit, queue_length)
        except UserError:
            for undo in reversed(self._undo):
                undo()
            raise
        finally:
            self._undo.clear()

    def _post(self, outgoing: NewOutgoing, limit: int, queue_length: int) -> tuple[MessageRecord, Sequence[Command]]:
        device_id = outgoing.device_id
        if device_id not in self._devices:
            raise DeviceGone
        is_message = bool(outgoing.resource_name)
        waiting = [message.resource_name for key, message in self._outgoing.items() if key[0] == device_id]
        if is_message and len(waiting) >= limit:
            raise ContainerFull(_OUTGOING, len(waiting), limit)
        count = sum(each.device_id == device_id and each.step not in FINAL for each in self._commands.values())
        if count + len(outgoing.commands) > queue_length:
            raise QueueFull(count, len(outgoing.commands), queue_length)
        if outgoing.resource_name in waiting:
            raise AlreadyExists("resource name", outgoing.resource_name)
        tag = 0
        if is_message:
            tag = self._containers.get((device_id, _OUTGOING), (0, 0))[0] + 1
            self._containers[device_id, _OUTGOING] = (tag, outgoing.created_ms)
        record = MessageRecord(
            outgoing.resource_id,
            outgoing.resource_name,
            tag,
            outgoing.created_ms,
            outgoing.content,
            outgoing.content_info,
            outgoing.content_size,
            outgoing.creator,
            outgoing.labels,
        )
        if outgoing.commands and is_message:
            self._outgoing[device_id, outgoing.resource_id] = record
        commands = []
        for new in outgoing.commands:
            self._last_command_id += 1
            command = Command(
                self._last_command_id,
                device_id,
                outgoing.resource_id,
                outgoing.resource_name,
                new.request_id,
                new.method,
                new.operation,
                new.content,
                new.content_info,
                Step.QUEUED,
                outgoing.created_ms,
                new.expires_ms,
                new.priority,
            )
            self._commands[command.command_id] = command
            commands.append(replace(command))
        self._append(outgoing.entries)
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

    async def outgoing_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return self._messages_in(device_id, _OUTGOING)[offset : offset + limit]

    async def sent_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return self._messages_in(device_id, _SENT)[offset : offset + limit]

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
                for container in (_OUTGOING, _SENT):
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

    async def commands_of_message(self, resource_id: str) -> Sequence[Command]:
        return [replace(each) for each in self._commands.values() if each.outgoing_ri == resource_id]

    async def container_state(self, device_id: DeviceId, container: str) -> ContainerState:
        messages = self._messages_in(device_id, container)
        tag, modified_ms = self._containers.get((device_id, container), (0, 0))
        return ContainerState(tag, len(messages), sum(each.content_size for each in messages), modified_ms)

    # -- journal --

    def may_recall(self, receipt: bytes) -> bool:
        return receipt in self._receipts

    async def recall(self, receipt: bytes, since_ms: int) -> JournalEntry | None:
        entry = self._receipts.get(receipt)
        return entry if entry is not None and entry.time_ms >= since_ms else None

    async def check(self) -> None:
        """It always answers."""

    # -- inside --

    def _append(self, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            self._journal.append(entry)
            if entry.receipt:
                self._receipts[entry.receipt] = entry
            if entry.kind == Kind.UPDATE and entry.status == 204:
                self._updates[DeviceId(entry.device_id)] = entry.time_ms
            self.projection.project(len(self._journal), entry)

    def _apply(self, change: Change) -> None:
        if isinstance(change, PutRegistration | ChangeRegistration):
            self._put_registration(change)
        elif isinstance(change, DropRegistration):
            known = self._registrations.get(change.device_id)
            if known is not None and known[0].location == change.location:
                self._set(self._registrations, change.device_id, _ABSENT)
        elif isinstance(change, PutObservation):
            self._put_observation(change.observation)
        elif isinstance(change, DropObservation):
            self._set(self._observations, (change.device_id, change.path), _ABSENT)
        elif isinstance(change, ChangeCommand):
            self._step(change.command_id, change.step, change.at_ms, change.reason, change.detail)
        elif isinstance(change, CommandSent):
            self._send(change)
            self._step(change.command.command_id, Step.SENT, change.at_ms)
        elif isinstance(change, CommandNeverSent):
            self._step(change.command.command_id, change.step, change.at_ms, change.reason, change.detail)
        elif isinstance(change, PutSession):
            self._put_session(change.session)
        elif isinstance(change, DropSession):
            self._set(self._sessions, change.session_id, _ABSENT)
        elif isinstance(change, DropSessionsOf):
            for each in self._sessions_made(change.device_id):
                self._set(self._sessions, each.session_id, _ABSENT)
        else:
            assert_never(change)

    def _sessions_made(self, device_id: DeviceId) -> list[SecureSession]:
        return [each for each in self._sessions.values() if each.device_id == device_id]

    def _put_session(self, session: SecureSession) -> None:
        if session.device_id not in self._devices:
            raise Broken(f"there is no device {session.device_id}")
        known = self._sessions.get(session.session_id)
        if known is not None and known.ceiling > session.ceiling:
            return
        if known is not None:
            read_mark = max(session.read_mark, known.read_mark)
            session = replace(session, created_ms=known.created_ms, read_mark=read_mark)
        self._set(self._sessions, session.session_id, session)
        for each in self._sessions_made(session.device_id)[:-SESSIONS_PER_DEVICE]:
            self._set(self._sessions, each.session_id, _ABSENT)

    def _put_registration(self, change: PutRegistration | ChangeRegistration) -> None:
        registration = change.registration
        known = self._registrations.get(registration.device_id)
        if isinstance(change, ChangeRegistration) and (known is None or known[0].location != registration.location):
            return
        if registration.device_id not in self._devices:
            raise Broken(f"there is no device {registration.device_id}")
        for other, _ in self._registrations.values():
            if other.location == registration.location and other.device_id != registration.device_id:
                raise Broken(f"location {registration.location} is taken")
        self._set(self._registrations, registration.device_id, (replace(registration), change.deadline_ms))

    def _put_observation(self, wanted: WantedObservation) -> None:
        key = (wanted.device_id, wanted.path)
        if wanted.device_id not in self._devices:
            raise Broken(f"there is no device {wanted.device_id}")
        if any(each.token == wanted.token for other, each in self._observations.items() if other != key):
            raise Broken("the token is taken")
        self._set(self._observations, key, wanted)

    def _send(self, change: CommandSent) -> None:
        command = self._commands.get(change.command.command_id)
        if command is None or not command.outgoing_rn or command.command_id in self._sent:
            return
        container = (command.device_id, _SENT)
        tag = self._containers.get(container, (0, 0))[0] + 1
        self._set(self._containers, container, (tag, change.at_ms))
        ids = sent_ids(self._salt, command.command_id)
        message = MessageRecord(
            *ids,
            tag,
            change.at_ms,
            command.content,
            command.content_info,
            content_size(command.content),
            "CNI-IPE",
            change.labels,
        )
        self._set(self._sent, command.command_id, (command.device_id, message))

    def _step(self, command_id: int, step: Step, at_ms: int, reason: str = "", detail: str = "") -> None:
        command = self._commands.get(command_id)
        if command is None:
            return
        self._set(self._commands, command_id, replace(command, step=step, reason=reason, detail=detail))
        waiting = (each for each in self._commands.values() if each.outgoing_ri == command.outgoing_ri)
        outgoing = (command.device_id, command.outgoing_ri)
        if outgoing in self._outgoing and all(each.step is not Step.QUEUED for each in waiting):
            self._set(self._outgoing, outgoing, _ABSENT)
            container = (command.device_id, _OUTGOING)
            tag, modified_ms = self._containers[container]
            self._set(self._containers, container, (tag, max(modified_ms, at_ms)))

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Write, remembering how to take it back; `_ABSENT` deletes."""
        before = table.get(key, _ABSENT)

        def undo() -> None:
            if before is _ABSENT:
                table.pop(key, None)
            else:
                table[key] = before

        self._undo.append(undo)
        if value is _ABSENT:
            table.pop(key, None)
        else:
            table[key] = value

    def _messages_in(self, device_id: DeviceId, container: str) -> list[MessageRecord]:
        """Newest first."""
        if container == _SENT:
            return self._kept_sent(device_id)
        if container != _OUTGOING:
            raise ValueError(f"{container!r} is neither {_OUTGOING!r} nor {_SENT!r}")
        found = [message for key, message in self._outgoing.items() if key[0] == device_id]
        return sorted(found, key=lambda each: -each.state_tag)

    def _kept_sent(self, device_id: DeviceId) -> list[MessageRecord]:
        found = [message for owner, message in self._sent.values() if owner == device_id]
        found.sort(key=lambda each: -each.state_tag)
        count, _ = kept((each.content_size for each in found), self.limits)
        return found[:count]

    def _direct(self) -> Iterator[Registration]:
        """Registrations of devices that are behind no gateway."""
        return (each for each, _ in self._registrations.values() if not isinstance(each, EndDeviceRegistration))

    def _behind(self, gateway_id: DeviceId) -> list[EndDeviceRecord]:
        return [
            each
            for each in self._devices.values()
            if isinstance(each, EndDeviceRecord) and each.gateway_id == gateway_id
        ]

    def _end_device_registration(self, record: EndDeviceRecord) -> EndDeviceRegistration | None:
        own, _ = self._registrations.get(record.device_id, (None, 0))
        gateway, _ = self._registrations.get(record.gateway_id, (None, 0))
        if not isinstance(own, EndDeviceRegistration) or gateway is None:
            return None
        moved = replace(own, gateway_id=record.gateway_id, prefix=record.prefix)
        return moved.following(self._fresh(gateway))

    def _fresh(self, registration: Registration) -> Registration:
        updated_ms = max(registration.updated_ms, self._updates.get(registration.device_id, 0))
        return replace(registration, updated_ms=updated_ms, proven=True)

    def _types(self, body: bytes, version: str, tenant: str) -> Types:
        versions = {each: listed.version for each, listed in decode_object_list(body).objects.items()}
        return self._library.for_device(version, versions, tenant)


def _key_of(record: DeviceRecord) -> str:
    return device_key(record.tenant, record.name, record.created_ms)


def _call_soon(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)


def _ignore(commits: int) -> None:
    """Nobody asked to be woken."""
