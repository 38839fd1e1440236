"""Bootstrap sessions in SQLite: a part of `store`."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from stellwerk.app.bootstrap_progress import LONGEST_MS, Progress, as_interrupted, as_known, progress_in, spent_in
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
from stellwerk.storage.sqlite.credentials import SqliteCredentials, spend
from stellwerk.storage.sqlite.journal import decode_batch
from stellwerk.storage.vault import SecretUnreadable, Vault

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
_RUNNING: Final = f"SELECT id,{_COLUMNS} FROM bootstrap_session WHERE {RUNNING} ORDER BY id"
_NEWEST: Final = "SELECT max(first),time_ms FROM journal"
_BACK: Final = "SELECT first,time_ms FROM journal WHERE first<? ORDER BY first DESC LIMIT 256"


class SqliteBootstrap(SqliteCredentials):
    """A part of `SqliteStore`."""

    async def put_bootstrap_session(self, session: BootstrapSession) -> int:
        return await self._task(_put, session)

    async def bootstrap_sessions(self, device_id: DeviceId, limit: int) -> Sequence[BootstrapSession]:
        return [_session_from(row) for row in self._rows(_FIND, device_id, limit)]

    async def interrupt_bootstrap_sessions(self, now_ms: int) -> int:
        return await self._task(_interrupt, self._vault, now_ms)

    async def known_bootstrap_session(self, session: BootstrapSession) -> BootstrapSession:
        """One that is stored as running, with what the journal knows of it."""
        return as_known(session, _known(self._reader, session.started_ms))


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


def _interrupt(connection: sqlite3.Connection, vault: Vault, now_ms: int) -> int:
    running = [_session_from(row) for row in connection.execute(_RUNNING).fetchall()]
    if not running:
        return 0
    known = _known(connection, min(each.started_ms for each in running))
    interrupted = 0
    for each in running:
        ended = as_interrupted(each, known, now_ms)
        _put(connection, ended)
        interrupted += ended.state is BootstrapState.INTERRUPTED
        if ended.device_id is not None and (spent_ms := spent_in(each, known)):
            # Another master key, say: the server says that by itself.
            with suppress(SecretUnreadable):
                spend(connection, vault, ended.device_id, spent_ms)
    return interrupted


def _known(connection: sqlite3.Connection, since_ms: int) -> list[Progress]:
    """What the journal says of sessions that began at ``since_ms`` or later, oldest first: of as many milliseconds
    before its end as one can take."""
    newest, newest_ms = connection.execute(_NEWEST).fetchone()
    if newest is None:
        return []
    since_ms = max(since_ms, newest_ms - LONGEST_MS)
    firsts: list[int] = []
    first, is_new = newest + 1, True
    while is_new and (rows_before := connection.execute(_BACK, (first,)).fetchall()):
        # A row's time is that of its newest entry.
        firsts += [first for first, time_ms in rows_before if time_ms >= since_ms]
        first, time_ms = rows_before[-1]
        is_new = time_ms >= since_ms
    known: list[Progress] = []
    for first in reversed(firsts):
        # Beside a running server one may be trimmed meanwhile.
        for (entries,) in connection.execute("SELECT entries FROM journal WHERE first=?", (first,)).fetchall():
            known += progress_in(decode_batch(entries))
    return known


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
