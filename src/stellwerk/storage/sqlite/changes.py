"""What decided changes write: those of a whole group commit as few, large statements.

Every step of a statement hands Python's lock to the event loop and waits to get it back, so a statement per change
would cost a switch interval each (design §5). Changes of one registration, observation or command are first folded
into their outcome; then the order between the statements no longer matters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from sqlite3 import Connection
from typing import Any, Final, assert_never

from stellwerk.app.changes import (
    Change,
    ChangeCommand,
    ChangeRegistration,
    CommandNeverSent,
    CommandSent,
    DropObservation,
    DropRegistration,
    DropSession,
    DropSessionsOf,
    PutObservation,
    PutRegistration,
    PutSession,
)
from stellwerk.app.ports import Limits
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Step
from stellwerk.storage.content import content_size
from stellwerk.storage.identifiers import sent_ids
from stellwerk.storage.sqlite import rows, sessions
from stellwerk.storage.vault import Vault

_CHUNK: Final = 512
_SLACK: Final = 16
"""Sent messages beyond the limits that may stay in the table; reads do not show them."""

_PUT_REGISTRATION: Final = (
    "ON CONFLICT(device_id) DO UPDATE SET location=excluded.location,endpoint_name=excluded.endpoint_name,"
    "peer=excluded.peer,version=excluded.version,lifetime_s=excluded.lifetime_s,binding=excluded.binding,"
    "queue_mode=excluded.queue_mode,body=excluded.body,content_formats=excluded.content_formats,"
    "registered_ms=excluded.registered_ms,updated_ms=excluded.updated_ms,sms=excluded.sms,extra=excluded.extra,"
    "deadline_ms=excluded.deadline_ms"
)
_PUT_OBSERVATION: Final = (
    "ON CONFLICT(device_id,path) DO UPDATE SET token=excluded.token,accept=excluded.accept,"
    "attributes=excluded.attributes,labels=excluded.labels,created_ms=excluded.created_ms"
)
_STEPS: Final = """
UPDATE command SET step=j.value->>1, changed_ms=j.value->>2, reason=j.value->>3, detail=j.value->>4
FROM json_each(?) j WHERE command.id = j.value->>0"""
_SENT: Final = """
INSERT INTO sent_message(device_id,state_tag,resource_id,resource_name,created_ms,content_size,content_info,creator,
  labels,content,command_id)
SELECT c.device_id, coalesce(m.state_tag,0) + row_number() OVER (PARTITION BY c.device_id ORDER BY j.key),
  j.value->>1, j.value->>2, j.value->>3, j.value->>5, c.content_info, 'CNI-IPE', j.value->>4,
  c.content, c.id
FROM json_each(?) j CROSS JOIN command c ON c.id = j.value->>0
LEFT JOIN message_container m ON m.device_id = c.device_id AND m.container = 'sent-msg'
WHERE NOT EXISTS (SELECT 1 FROM sent_message s WHERE s.command_id = c.id)"""
_SENT_CONTAINERS: Final = """
INSERT INTO message_container(device_id,container,state_tag,modified_ms)
SELECT s.device_id, 'sent-msg', max(s.state_tag), max(s.created_ms)
FROM json_each(?) j CROSS JOIN sent_message s ON s.command_id = j.value->>0 WHERE true GROUP BY s.device_id
ON CONFLICT(device_id,container) DO UPDATE SET state_tag=excluded.state_tag, modified_ms=excluded.modified_ms
WHERE excluded.state_tag > state_tag"""
_EVICT_SENT: Final = """
DELETE FROM sent_message WHERE (device_id,state_tag) IN (
  SELECT device_id, state_tag FROM (
    SELECT device_id, state_tag, row_number() OVER newest AS place, sum(content_size) OVER newest AS bytes
    FROM sent_message WHERE device_id IN (
      SELECT m.device_id FROM json_each(?) j CROSS JOIN message_container m
      ON m.device_id = j.value AND m.container = 'sent-msg'
      WHERE m.state_tag - (SELECT min(state_tag) FROM sent_message o WHERE o.device_id = m.device_id) >= ?)
    WINDOW newest AS (PARTITION BY device_id ORDER BY state_tag DESC))
  WHERE place > 1 AND (place > ? OR bytes > ?))"""
_OUTGOING_DONE: Final = """
DELETE FROM outgoing_message WHERE resource_id IN (
  SELECT c.outgoing_ri FROM json_each(?) j CROSS JOIN command c ON c.id = j.value->>0)
AND NOT EXISTS (SELECT 1 FROM command w WHERE w.outgoing_ri = outgoing_message.resource_id AND w.step = 'queued')
RETURNING device_id"""
_OUTGOING_MODIFIED: Final = """
UPDATE message_container SET modified_ms = max(modified_ms, ?)
WHERE container = 'outgoing-msg' AND device_id IN (SELECT value FROM json_each(?))"""


class ChangeWriter:
    """Writes changes over ``connection``, inside a transaction its caller opened."""

    def __init__(self, connection: Connection, salt: bytes, limits: Limits, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault
        self._salt = salt
        self._limits = limits

    def write(self, changes: Iterable[Change]) -> None:
        """Write them all. Raises sqlite3.Error; then the caller rolls back."""
        outcome = _Outcome()
        for change in changes:
            outcome.fold(change)
        if outcome.registrations or outcome.dropped_registrations:
            self._write_registrations(outcome)
        if outcome.observations:
            self._write_observations(outcome)
        if outcome.steps:
            self._write_commands(outcome)
        if outcome.sessions or outcome.dropped_sessions or outcome.dropped_sessions_of:
            sessions.drop_and_put(
                self._connection,
                self._vault,
                outcome.dropped_sessions,
                outcome.dropped_sessions_of,
                list(outcome.sessions.values()),
            )

    def _write_registrations(self, outcome: "_Outcome") -> None:
        # Drops first: a location or token that is free again may be taken in the same group.
        if outcome.dropped_registrations:
            self._connection.execute(
                "DELETE FROM registration WHERE (device_id,location) IN "
                "(SELECT value->>0, value->>1 FROM json_each(?))",
                (rows.to_json(outcome.dropped_registrations),),
            )
        puts, updates, ends = [], [], []
        for device_id, change in outcome.registrations.items():
            if change is None:
                ends.append(device_id)
            elif isinstance(change, PutRegistration):
                puts.append(rows.registration_row(change.registration, change.deadline_ms))
            else:
                updates.append(rows.registration_row(change.registration, change.deadline_ms))
        if ends:
            self._connection.execute(
                "DELETE FROM registration WHERE device_id IN (SELECT value FROM json_each(?))", (rows.to_json(ends),)
            )
        self._insert(f"INSERT INTO registration({rows.REGISTRATION}) VALUES ", puts, _PUT_REGISTRATION)
        # Only a registration that is still there may change: one that ended meanwhile does not come back.
        self._insert(
            f"INSERT INTO registration({rows.REGISTRATION}) SELECT v.* FROM (VALUES ",
            updates,
            ") v JOIN registration r ON r.device_id=v.column1 AND r.location=v.column2 WHERE true " + _PUT_REGISTRATION,
        )

    def _write_observations(self, outcome: "_Outcome") -> None:
        dropped = [key for key, observation in outcome.observations.items() if observation is None]
        if dropped:
            self._connection.execute(
                "DELETE FROM observation WHERE (device_id,path) IN (SELECT value->>0, value->>1 FROM json_each(?))",
                (rows.to_json(dropped),),
            )
        puts = [rows.observation_row(each.observation) for each in outcome.observations.values() if each is not None]
        self._insert(f"INSERT INTO observation({rows.OBSERVATION}) VALUES ", puts, _PUT_OBSERVATION)

    def _write_commands(self, outcome: "_Outcome") -> None:
        execute = self._connection.execute
        steps = list(outcome.steps.values())
        if outcome.sent:
            sent = rows.to_json([self._sent_fields(change) for change in outcome.sent.values()])
            execute(_SENT, (sent,))
            execute(_SENT_CONTAINERS, (sent,))
            devices = rows.to_json(list({change.command.device_id for change in outcome.sent.values()}))
            limits = self._limits
            execute(_EVICT_SENT, (devices, limits.max_instances + _SLACK, limits.max_instances, limits.max_bytes))
        execute(_STEPS, (rows.to_json(steps),))
        moved = [step for step in steps if step[1] != Step.QUEUED.value]
        if moved:
            done = execute(_OUTGOING_DONE, (rows.to_json(moved),)).fetchall()
            if done:
                newest_ms = max(step[2] for step in moved)
                execute(_OUTGOING_MODIFIED, (newest_ms, rows.to_json([row[0] for row in done])))

    def _sent_fields(self, change: CommandSent) -> tuple[Any, ...]:
        ids = sent_ids(self._salt, change.command.command_id)
        size = content_size(change.command.content)
        labels = rows.to_json(change.labels)
        return change.command.command_id, ids.resource_id, ids.resource_name, change.at_ms, labels, size

    def _insert(self, head: str, values: Sequence[Sequence[Any]], tail: str) -> None:
        """One statement per `_CHUNK` rows. A chunk is filled up to a power of two by repeating its last row, which the
        conflict clause makes harmless: few different statements, all of them kept prepared."""
        for start in range(0, len(values), _CHUNK):
            chunk = list(values[start : start + _CHUNK])
            wanted = 1 << (len(chunk) - 1).bit_length()
            chunk += [chunk[-1]] * (wanted - len(chunk))
            one = "(" + ",".join("?" * len(chunk[0])) + ")"
            parameters = [value for row in chunk for value in row]
            self._connection.execute(f"{head}{','.join([one] * wanted)} {tail}", parameters)


class _Outcome:
    """Changes in order, folded to what is left of them."""

    def __init__(self) -> None:
        self.registrations: dict[DeviceId, PutRegistration | ChangeRegistration | None] = {}
        """None: the device ends without a registration, whatever the row says."""
        self.dropped_registrations: list[tuple[DeviceId, str]] = []
        self.observations: dict[tuple[DeviceId, str], PutObservation | None] = {}
        self.steps: dict[int, tuple[int, str, int, str, str]] = {}
        self.sent: dict[int, CommandSent] = {}
        self.sessions: dict[bytes, PutSession] = {}
        self.dropped_sessions: set[bytes] = set()
        self.dropped_sessions_of: set[DeviceId] = set()

    def fold(self, change: Change) -> None:
        if isinstance(change, PutRegistration):
            self.registrations[change.registration.device_id] = change
        elif isinstance(change, ChangeRegistration):
            self._change_registration(change)
        elif isinstance(change, DropRegistration):
            self._drop_registration(change)
        elif isinstance(change, PutObservation):
            wanted = change.observation
            self.observations[wanted.device_id, str(wanted.path)] = change
        elif isinstance(change, DropObservation):
            self.observations[change.device_id, str(change.path)] = None
        elif isinstance(change, ChangeCommand):
            self._step(change.command_id, change.step, change.at_ms, change.reason, change.detail)
        elif isinstance(change, CommandSent):
            if change.command.outgoing_rn:
                self.sent[change.command.command_id] = change
            self._step(change.command.command_id, Step.SENT, change.at_ms, "", "")
        elif isinstance(change, CommandNeverSent):
            self._step(change.command.command_id, change.step, change.at_ms, change.reason, change.detail)
        elif isinstance(change, PutSession):
            self._put_session(change)
        elif isinstance(change, DropSession):
            self.sessions.pop(change.session_id, None)
            self.dropped_sessions.add(change.session_id)
        elif isinstance(change, DropSessionsOf):
            for put in [each.session for each in self.sessions.values() if each.session.device_id == change.device_id]:
                del self.sessions[put.session_id]
            self.dropped_sessions_of.add(change.device_id)
        else:
            assert_never(change)

    def _put_session(self, change: PutSession) -> None:
        before = self.sessions.get(change.session.session_id)
        if before is not None:
            first, read_mark = before.session, max(before.session.read_mark, change.session.read_mark)
            newest = first if first.ceiling > change.session.ceiling else change.session
            change = PutSession(replace(newest, created_ms=first.created_ms, read_mark=read_mark))
        self.sessions[change.session.session_id] = change

    def _change_registration(self, change: ChangeRegistration) -> None:
        device_id = change.registration.device_id
        if device_id not in self.registrations:
            self.registrations[device_id] = change
            return
        before = self.registrations[device_id]
        if before is None or before.registration.location != change.registration.location:
            return
        if isinstance(before, PutRegistration):
            self.registrations[device_id] = PutRegistration(change.registration, change.deadline_ms)
        else:
            self.registrations[device_id] = change

    def _drop_registration(self, change: DropRegistration) -> None:
        before = self.registrations.get(change.device_id)
        if isinstance(before, PutRegistration):
            if before.registration.location == change.location:
                self.registrations[change.device_id] = None
            return
        if before is not None and before.registration.location == change.location:
            del self.registrations[change.device_id]
        self.dropped_registrations.append((change.device_id, change.location))

    def _step(self, command_id: int, step: Step, at_ms: int, reason: str, detail: str) -> None:
        # The last step of a command in the group is the one that counts.
        self.steps.pop(command_id, None)
        self.steps[command_id] = (command_id, step.value, at_ms, reason, detail)
