"""Bootstrap sessions in SQLite: a part of `store`."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from stellwerk.app.ports import BOOTSTRAP_SESSIONS_KEPT
from stellwerk.app.records import DeviceGone
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.history import (
    BootstrapSession,
    BootstrapState,
    BootstrapTrigger,
)
from stellwerk.storage.bootstrap_text import decode_steps, encode_steps
from stellwerk.storage.schema import RUNNING
from stellwerk.storage.sqlite import rows
from stellwerk.storage.sqlite.credentials import SqliteCredentials

_COLUMNS: Final = "device_id,endpoint_name,peer,started_by,state,started_ms,ended_ms,reason,detail,steps"
_PUT: Final = f"INSERT INTO bootstrap_session({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"
_CHANGE: Final = (
    "UPDATE bootstrap_session SET endpoint_name=?,peer=?,started_by=?,state=?,started_ms=?,ended_ms=?,reason=?,"
    "detail=?,steps=? WHERE id=? AND device_id=?"
)
_TRIM: Final = (
    "DELETE FROM bootstrap_session WHERE device_id=?1 AND id<="
    "(SELECT id FROM bootstrap_session WHERE device_id=?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
)
_FIND: Final = f"SELECT id,{_COLUMNS} FROM bootstrap_session WHERE device_id=? ORDER BY id DESC LIMIT ?"
_INTERRUPT: Final = (
    f"UPDATE bootstrap_session SET state='{BootstrapState.INTERRUPTED.value}',ended_ms=? WHERE {RUNNING}"
)


class SqliteBootstrap(SqliteCredentials):
    """A part of `SqliteStore`."""

    async def put_bootstrap_session(self, session: BootstrapSession) -> int:
        return await self._task(_put, session)

    async def bootstrap_sessions(self, device_id: DeviceId, limit: int) -> Sequence[BootstrapSession]:
        return [_session_from(row) for row in self._rows(_FIND, device_id, limit)]

    async def interrupt_bootstrap_sessions(self, now_ms: int) -> int:
        return await self._task(_interrupt, now_ms)


def _put(connection: sqlite3.Connection, session: BootstrapSession) -> int:
    assert session.device_id is not None
    row = (
        session.endpoint_name,
        session.peer,
        session.trigger.value,
        session.state.value,
        session.started_ms,
        session.ended_ms,
        session.reason,
        session.detail,
        encode_steps(session.steps),
    )
    if session.number:
        # One that is not there any more was pushed out by newer ones, or went with its device.
        connection.execute(_CHANGE, (*row, session.number, session.device_id))
        return session.number
    if rows.read_device(connection, session.device_id) is None:
        raise DeviceGone
    cursor = connection.execute(_PUT, (session.device_id, *row))
    assert cursor.lastrowid is not None
    connection.execute(_TRIM, (session.device_id, BOOTSTRAP_SESSIONS_KEPT))
    return cursor.lastrowid


def _interrupt(connection: sqlite3.Connection, now_ms: int) -> int:
    return connection.execute(_INTERRUPT, (now_ms,)).rowcount


def _session_from(row: rows.Row) -> BootstrapSession:
    number, device_id, endpoint_name, peer, started_by, state, started_ms, ended_ms, reason, detail, steps = row
    return BootstrapSession(
        number,
        DeviceId(device_id),
        endpoint_name,
        peer,
        BootstrapTrigger(started_by),
        BootstrapState(state),
        started_ms,
        ended_ms,
        reason,
        detail,
        decode_steps(steps),
    )
