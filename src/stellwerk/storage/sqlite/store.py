"""`DecidingStore` on SQLite: reads on the event loop, writes in groups."""

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from stellwerk.app.changes import Commit
from stellwerk.app.journal import JournalEntry
from stellwerk.app.meters import Meters
from stellwerk.app.ports import UNBOUNDED, Limits, StoreCondition
from stellwerk.app.records import ContainerState, DeviceChange, MessageRecord, NewDevice, NewOutgoing
from stellwerk.app.resource_ids import split_resource_id
from stellwerk.core.ids import DeviceId, PeerId, TenantId, encode_peer
from stellwerk.device.command import Command
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration
from stellwerk.device.observation import WantedObservation
from stellwerk.device.profile import ProfileRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.identifiers import SALT_BYTES
from stellwerk.storage.migrations import DECIDING_FILE, PROJECTED_FILE, require
from stellwerk.storage.receipts import KEEP_MS
from stellwerk.storage.sqlite import instances, rows, tasks
from stellwerk.storage.sqlite.backend import SqliteBackend
from stellwerk.storage.sqlite.bootstrap import SqliteBootstrap
from stellwerk.storage.sqlite.connection import connect
from stellwerk.storage.sqlite.journal import JournalTail
from stellwerk.storage.sqlite.marks import ReadMarks
from stellwerk.storage.sqlite.projected import SqliteProjection
from stellwerk.storage.sqlite.writer import GroupWriter
from stellwerk.storage.vault import Vault

QUEUE_LIMIT: Final = 20_000
JOURNAL_KEEP_MS: Final = 3_600_000
"""The least that a trimmed journal still reaches back. The projected file is written without waiting for the disk:
after a power loss it may be minutes behind, and the journal has to hold what it lost."""

_OPEN: Final = "step IN ('queued','sent','delivered')"
_SENT: Final = "sent-msg"
_OUTGOING: Final = "outgoing-msg"


class SqliteStore(SqliteBootstrap):
    """Made by `open`; belongs to the event loop that opened it. The projected file's reads are in ``projection``."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection,
        projection: SqliteProjection,
        *,
        vault: Vault,
        library: Library,
        limits: Limits,
        queue_limit: int,
        now_ms: int,
        meters: Meters,
    ) -> None:
        """Use `open`."""
        self.projection = projection
        self._vault = vault
        self.on_commit: Callable[[int], None] = _ignore
        """Runs on the loop after each group commit: wiring wakes the projector with it."""
        self._reader = reader
        self._connection = writer
        self._limits = limits
        self._model = rows.model_reader(library)
        self._tail = JournalTail()
        self._tail.load(reader, projection.seq(), now_ms - KEEP_MS)
        self._marks = ReadMarks()
        self._marks.load(reader)
        self._salt = _salt(writer)
        self._backend = SqliteBackend(writer, self._tail, self._salt, limits, vault)
        self._writer = GroupWriter(self._backend, queue_limit, self._committed, meters=meters, marks=self._marks)
        self._groups = 0

    @classmethod
    async def open(
        cls,
        data_dir: Path,
        *,
        vault: Vault | None = None,
        library: Library | None = None,
        limits: Limits | None = None,
        queue_limit: int = QUEUE_LIMIT,
        now_ms: int | None = None,
        meters: Meters | None = None,
    ) -> Self:
        """Open the migrated files in ``data_dir``. ``vault`` seals the keys of devices; None: with the master key that
        lies beside the files. ``meters`` counts what is written. Raises `SchemaMismatch` unless `migrations.migrate`
        was here, and `MasterKeyUnusable`."""
        require(data_dir)
        limits = limits or Limits()
        deciding = data_dir / DECIDING_FILE
        return cls(
            connect(deciding, writable=False),
            connect(deciding, writable=True),
            SqliteProjection(connect(data_dir / PROJECTED_FILE, writable=False), limits),
            vault=vault or Vault.load(data_dir, None),
            library=library or Library.builtin(),
            limits=limits,
            queue_limit=queue_limit,
            now_ms=time.time_ns() // 1_000_000 if now_ms is None else now_ms,
            meters=meters or Meters(time.monotonic),
        )

    async def close(self) -> None:
        """Write what waits, then close the files."""
        await self._writer.close()
        self._reader.close()
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA optimize")
        self._connection.close()
        self.projection.close()

    # -- commits --

    def submit(self, commit: Commit) -> None:
        self._writer.submit(commit)

    def queue_length(self) -> int:
        return len(self._writer)

    def condition(self) -> StoreCondition:
        writer = self._writer
        return StoreCondition(
            len(writer), writer.queued_bytes, self._tail.next_seq - 1, writer.meters.journal_bytes, writer.failing
        )

    def _committed(self, commits: int) -> None:
        self._groups += 1
        if self._groups % 64 == 0:
            self._tail.projected_seq = self.projection.seq()
        self.on_commit(commits)
        self._sweep_marks()

    # -- tenants and devices --

    async def tenant(self, name: str) -> TenantId | None:
        row = self._row("SELECT id FROM tenant WHERE name=?", name)
        return None if row is None else TenantId(row[0])

    async def tenants(self) -> Sequence[str]:
        return [name for (name,) in self._rows("SELECT name FROM tenant ORDER BY name")]

    async def ensure_tenant(self, name: str, now_ms: int) -> TenantId:
        known = await self.tenant(name)
        return await self._task(tasks.ensure_tenant, name, now_ms) if known is None else known

    async def create_device(self, tenant_id: TenantId, device: NewDevice) -> DeviceRecord:
        return await self._task(tasks.create_device, self._vault, self._salt, tenant_id, device)

    async def device(self, device_id: DeviceId) -> DeviceRecord | None:
        return self._device("WHERE d.id=?", device_id)

    async def device_by_name(self, tenant_id: TenantId, name: str) -> DeviceRecord | None:
        return self._device("WHERE d.tenant_id=? AND d.name=?", tenant_id, name)

    async def device_by_endpoint(self, endpoint_name: str) -> DeviceRecord | None:
        return self._device(
            "WHERE d.id=(SELECT device_id FROM device_alias WHERE alias=? ORDER BY rank,device_id LIMIT 1)",
            endpoint_name,
        )

    async def devices(self, tenant_id: TenantId, limit: int, offset: int) -> Sequence[DeviceRecord]:
        query = f"SELECT {rows.DEVICE} FROM device d JOIN tenant t ON t.id=d.tenant_id WHERE d.tenant_id=? "
        return [
            rows.device_from(row)
            for row in self._rows(query + "ORDER BY d.name LIMIT ? OFFSET ?", tenant_id, limit, offset)
        ]

    async def device_by_resource_id(self, tenant_id: TenantId, resource_id: str) -> tuple[DeviceRecord, str] | None:
        split = split_resource_id(resource_id)
        if split is None:
            return None
        key, part = split
        found = self._device("WHERE d.resource_key=? AND d.tenant_id=?", key, tenant_id)
        return None if found is None else (found, part)

    async def change_device(self, device_id: DeviceId, change: DeviceChange) -> DeviceRecord | None:
        return await self._task(tasks.change_device, device_id, change)

    async def remove_device(self, device_id: DeviceId) -> bool:
        return await self._writer.run(lambda: tasks.remove_device(self._connection, device_id, self._tail.next_seq - 1))

    # -- registrations and observations --

    async def end_devices(self, gateway_id: DeviceId) -> Sequence[tuple[EndDeviceRecord, EndDeviceRegistration | None]]:
        query = f"SELECT {rows.DEVICE} FROM device d JOIN tenant t ON t.id=d.tenant_id WHERE d.{tasks.OF_GATEWAY} "
        records = [rows.device_from(row) for row in self._rows(query + "ORDER BY d.id", gateway_id)]
        if not records:
            return []
        gateway = self._registration("device_id=?", gateway_id)
        query = (
            f"SELECT {rows.STORED_REGISTRATION} FROM registration WHERE device_id IN "
            f"(SELECT id FROM device WHERE {tasks.OF_GATEWAY})"
        )
        registered = {} if gateway is None else {row[1]: row for row in self._rows(query, gateway_id)}
        found: list[tuple[EndDeviceRecord, EndDeviceRegistration | None]] = []
        for record in records:
            assert isinstance(record, EndDeviceRecord)
            row = registered.get(record.device_id)
            if row is None or gateway is None:
                found.append((record, None))
            else:
                found.append((record, rows.end_device_registration_from(row, record, gateway, self._model)))
        return found

    async def registration_of(self, device_id: DeviceId) -> Registration | None:
        return self._registration("device_id=?", device_id)

    async def registration_at(self, location: str) -> Registration | None:
        return self._registration("location=? AND peer<>''", location)

    async def registration_from(self, peer: PeerId) -> Registration | None:
        return self._registration("peer=? ORDER BY registered_ms DESC, device_id DESC LIMIT 1", encode_peer(peer))

    async def registrations_due(self, before_ms: int, limit: int) -> Sequence[tuple[Registration, int]]:
        query = f"SELECT {rows.STORED_REGISTRATION} FROM registration WHERE deadline_ms<? ORDER BY deadline_ms LIMIT ?"
        found = ((self._registration_from(row), row[-1]) for row in self._rows(query, before_ms, limit))
        return [(registration, deadline_ms) for registration, deadline_ms in found if registration is not None]

    async def object_lists_of(self, device_id: DeviceId) -> Mapping[str, bytes]:
        query = "SELECT profile_id, body FROM object_list WHERE profile_id>=? AND profile_id<?"
        prefix, end = tasks.object_list_range(device_id)
        return {profile_id.removeprefix(prefix): bytes(body) for profile_id, body in self._rows(query, prefix, end)}

    async def put_object_list(self, device_id: DeviceId, profile_id: str, body: bytes, now_ms: int) -> None:
        await self._task(tasks.put_object_list, device_id, profile_id, body, now_ms)

    async def observations_of(self, device_id: DeviceId) -> Sequence[WantedObservation]:
        query = f"SELECT {rows.OBSERVATION} FROM observation WHERE device_id=? ORDER BY created_ms, path"
        return [rows.observation_from(row) for row in self._rows(query, device_id)]

    async def observation_by_token(self, token: bytes) -> WantedObservation | None:
        row = self._row(f"SELECT {rows.OBSERVATION} FROM observation WHERE token=?", token)
        return None if row is None else rows.observation_from(row)

    # -- commands and their messages --

    async def post_outgoing(
        self, outgoing: NewOutgoing, limit: int, queue_length: int = UNBOUNDED
    ) -> tuple[MessageRecord, Sequence[Command]]:
        def work() -> tuple[MessageRecord, Sequence[Command]]:
            self._backend.write_changes(outgoing.ended)
            posted = tasks.post_outgoing(self._connection, outgoing, limit, queue_length)
            self._backend.append(outgoing.entries)
            return posted

        return await self._writer.run(work)

    async def open_commands(self, device_id: DeviceId | None, limit: int) -> Sequence[Command]:
        query = f"SELECT {rows.COMMAND} FROM command WHERE {_OPEN}"
        if device_id is None:
            found = self._rows(query + " ORDER BY id LIMIT ?", limit)
        else:
            found = self._rows(query + " AND device_id=? ORDER BY priority DESC, id LIMIT ?", device_id, limit)
        return [rows.command_from(row) for row in found]

    async def queued_commands(self, device_id: DeviceId, limit: int) -> Sequence[tuple[int, str]]:
        # As the index of open commands has it; one that is sent is left out after that.
        query = f"SELECT id, outgoing_ri FROM command WHERE {_OPEN} AND device_id=? AND step='queued' "
        return [(row[0], row[1]) for row in self._rows(query + "ORDER BY priority DESC, id LIMIT ?", device_id, limit)]

    async def devices_with_open_commands(self) -> Sequence[tuple[DeviceId, bool]]:
        query = (
            "SELECT c.device_id, max(c.step<>'queued' OR r.device_id IS NULL OR NOT r.queue_mode) "
            "FROM command c LEFT JOIN registration r ON r.device_id=c.device_id "
            f"WHERE c.{_OPEN} GROUP BY c.device_id ORDER BY min(c.id)"
        )
        return [(DeviceId(device_id), bool(at_once)) for device_id, at_once in self._rows(query)]

    async def commands_due(self, before_ms: int, limit: int) -> Sequence[Command]:
        query = f"SELECT {rows.COMMAND} FROM command WHERE {_OPEN} AND expires_ms<? ORDER BY expires_ms LIMIT ?"
        return [rows.command_from(row) for row in self._rows(query, before_ms, limit)]

    async def commands_of_message(self, resource_id: str) -> Sequence[Command]:
        query = f"SELECT {rows.COMMAND} FROM command WHERE outgoing_ri=? ORDER BY id"
        return [rows.command_from(row) for row in self._rows(query, resource_id)]

    async def recent_commands(self, device_id: DeviceId, limit: int) -> Sequence[Command]:
        query = f"SELECT {rows.COMMAND} FROM command WHERE device_id=? ORDER BY id DESC LIMIT ?"
        return [rows.command_from(row) for row in self._rows(query, device_id, limit)]

    async def outgoing_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        query = (
            f"SELECT {rows.MESSAGE} FROM outgoing_message WHERE device_id=? ORDER BY state_tag DESC LIMIT ? OFFSET ?"
        )
        return [rows.message_from(row) for row in self._rows(query, device_id, limit, offset)]

    async def sent_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        return instances.page(self._reader, "sent_message", device_id, self._limits, limit, offset)

    async def find_message(
        self, device_id: DeviceId, container: str, *, name: str | None = None, resource_id: str | None = None
    ) -> MessageRecord | None:
        wanted = {"resource_name": name, "resource_id": resource_id}
        if container == _SENT:
            return instances.find(self._reader, "sent_message", device_id, self._limits, wanted)
        condition, values = instances.matching(wanted)
        row = self._row(
            f"SELECT {rows.MESSAGE} FROM outgoing_message WHERE device_id=? AND {condition}", device_id, *values
        )
        return None if row is None else rows.message_from(row)

    async def message_by_resource_id(
        self, tenant_id: TenantId, resource_id: str
    ) -> tuple[DeviceRecord, str, MessageRecord] | None:
        for table, container in (("outgoing_message", _OUTGOING), ("sent_message", _SENT)):
            for (device_id,) in self._rows(f"SELECT device_id FROM {table} WHERE resource_id=?", resource_id):
                device = self._device("WHERE d.id=? AND d.tenant_id=?", device_id, tenant_id)
                found = await self.find_message(device_id, container, resource_id=resource_id)
                if device is not None and found is not None:
                    return device, container, found
        return None

    async def remove_sent_message(self, device_id: DeviceId, resource_id: str) -> bool:
        return await self._task(tasks.remove_sent_message, device_id, resource_id, self._limits)

    async def container_state(self, device_id: DeviceId, container: str) -> ContainerState:
        row = self._row(
            "SELECT state_tag,modified_ms FROM message_container WHERE device_id=? AND container=?",
            device_id,
            container,
        )
        tag, modified_ms = row or (0, 0)
        if container == _SENT:
            count, size, _ = instances.what_is_kept(self._reader, "sent_message", device_id, self._limits)
        elif container == _OUTGOING:
            query = "SELECT count(*),coalesce(sum(content_size),0) FROM outgoing_message WHERE device_id=?"
            ((count, size),) = self._rows(query, device_id)
        else:
            raise ValueError(f"{container!r} is neither {_OUTGOING!r} nor {_SENT!r}")
        return ContainerState(tag, count, size, modified_ms)

    # -- profiles --

    async def profiles(self, tenant_id: TenantId | None = None) -> Sequence[ProfileRecord]:
        query = f"SELECT {rows.PROFILE} FROM profile "
        if tenant_id is None:
            found = self._rows(query + "ORDER BY tenant_id, name")
        else:
            found = self._rows(query + "WHERE tenant_id=? ORDER BY name", tenant_id)
        return [rows.profile_from(row) for row in found]

    async def profile(self, tenant_id: TenantId, name: str) -> ProfileRecord | None:
        row = self._row(f"SELECT {rows.PROFILE} FROM profile WHERE tenant_id=? AND name=?", tenant_id, name)
        return None if row is None else rows.profile_from(row)

    async def put_profile(self, record: ProfileRecord) -> None:
        await self._task(tasks.put_profile, record)

    async def remove_profile(self, tenant_id: TenantId, name: str) -> bool:
        return await self._task(tasks.remove_profile, tenant_id, name)

    async def profiles_version(self) -> int:
        row = self._row("SELECT CAST(value AS INTEGER) FROM meta WHERE name=?", tasks.PROFILES_VERSION)
        return 0 if row is None else int(row[0])

    # -- journal --

    @property
    def remembers(self) -> bool:
        """Whether any message of the last EXCHANGE_LIFETIME is known, so that `recall` could be asked for one."""
        return self._tail.remembers

    def may_recall(self, receipt: bytes) -> bool:
        return self._tail.may_recall(receipt)

    async def recall(self, receipt: bytes, since_ms: int) -> JournalEntry | None:
        return self._tail.recall(self._reader, receipt, since_ms)

    async def trim_journal(self, before_ms: int) -> int:
        """Delete entries older than ``before_ms`` that are projected, a slice at a time, never the newest or those of
        the last `JOURNAL_KEEP_MS`; returns how many rows went, 0 when there is nothing left to do."""
        before_ms = min(before_ms, time.time_ns() // 1_000_000 - JOURNAL_KEEP_MS)
        projected_seq = self.projection.seq()
        return await self._writer.run(
            lambda: (
                self._connection.execute(
                    "DELETE FROM journal WHERE first IN (SELECT first FROM journal ORDER BY first LIMIT 64) "
                    "AND last<=? AND time_ms<? AND first<(SELECT max(first) FROM journal)",
                    (projected_seq, before_ms),
                ).rowcount
            )
        )

    async def trim_commands(self, before_ms: int) -> int:
        """Delete some commands that ended before ``before_ms``, the oldest first; returns how many went, 0 when there
        is nothing left to do."""
        # Numbers grow with time, so the front of the table is where old ones are; one that waits for years hides none.
        return await self._writer.run(
            lambda: (
                self._connection.execute(
                    "DELETE FROM command WHERE id IN (SELECT id FROM command WHERE "
                    f"id<(SELECT min(id)+20000 FROM command WHERE NOT {_OPEN}) AND NOT {_OPEN} AND changed_ms<? "
                    "LIMIT 500)",
                    (before_ms,),
                ).rowcount
            )
        )

    async def check(self) -> None:
        self._row("SELECT 1 FROM meta LIMIT 1")
        await self._writer.run(_nothing)

    # -- reading --

    def _registration(self, condition: str, *parameters: Any) -> Registration | None:
        row = self._row(f"SELECT {rows.STORED_REGISTRATION} FROM registration WHERE {condition}", *parameters)
        return None if row is None else self._registration_from(row)

    def _registration_from(self, row: rows.Row) -> Registration | None:
        if rows.is_behind(row):
            record = self._device("WHERE d.id=?", row[1])
            assert isinstance(record, EndDeviceRecord)
            gateway = self._registration("device_id=?", record.gateway_id)
            if gateway is None:
                return None
            return rows.end_device_registration_from(row, record, gateway, self._model)
        # A plain Update leaves no trace in the row: the journal's tail knows it, and from there on the projection.
        device_id = row[1]
        updated_ms = max(self._tail.updated_ms(device_id), self.projection.updated_ms(device_id))
        return rows.registration_from(row, updated_ms, self._model)


def _ignore(commits: int) -> None:
    """Nobody asked to be woken."""


def _nothing() -> None:
    pass


def _salt(connection: sqlite3.Connection) -> bytes:
    connection.execute("INSERT OR IGNORE INTO meta(name,value) VALUES ('salt',?)", (os.urandom(SALT_BYTES),))
    ((salt,),) = connection.execute("SELECT value FROM meta WHERE name='salt'").fetchall()
    return bytes(salt)
