"""Secure sessions in SQLite: a part of `store`, and what a group writes of them."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog

from stellwerk.app.changes import PutSession
from stellwerk.app.ports import Marks, StoreTrouble
from stellwerk.app.session import SESSIONS_PER_DEVICE, SecureSession
from stellwerk.core.ids import DeviceId, PeerId, decode_peer, encode_peer
from stellwerk.storage.sqlite import rows
from stellwerk.storage.sqlite.marks import FOLD_AT, ReadMarks, fold
from stellwerk.storage.sqlite.models import SqliteModels
from stellwerk.storage.vault import Vault

log = structlog.get_logger(__name__)

_SESSION: Final = "session_id,device_id,address,sealed,ceiling,created_ms,read_mark"
_PUT: Final = (
    "INSERT INTO secure_session(session_id,device_id,address,ceiling,read_mark,created_ms,modified_ms,sealed) "
    "VALUES (?,?,?,?,?,?,?,?) ON CONFLICT(session_id) DO UPDATE SET device_id=excluded.device_id,"
    "address=excluded.address,ceiling=excluded.ceiling,read_mark=max(read_mark,excluded.read_mark),"
    "created_ms=excluded.created_ms,modified_ms=excluded.modified_ms,sealed=excluded.sealed"
)
_DROP: Final = "DELETE FROM secure_session WHERE session_id=?"
_DROP_OF: Final = "DELETE FROM secure_session WHERE device_id IN (SELECT value FROM json_each(?))"
_EVICT: Final = f"""
DELETE FROM secure_session WHERE id IN (
  SELECT id FROM (
    SELECT s.id, row_number() OVER (PARTITION BY s.device_id ORDER BY s.id DESC) AS place
    FROM json_each(?) j CROSS JOIN secure_session s ON s.device_id=j.value)
  WHERE place>{SESSIONS_PER_DEVICE})"""
_DROP_SLICE: Final = (
    "DELETE FROM secure_session WHERE id IN (SELECT id FROM secure_session WHERE id<=? ORDER BY id LIMIT 500)"
)
_TRIM: Final = (
    "DELETE FROM secure_session WHERE id IN "
    "(SELECT id FROM secure_session WHERE modified_ms<? ORDER BY modified_ms LIMIT 500)"
)


class SqliteSessions(SqliteModels):
    """A part of `SqliteStore`."""

    _vault: Vault
    _marks: ReadMarks
    _folding = False

    @property
    def marks(self) -> Callable[[], Marks] | None:
        return self._marks.ask

    @marks.setter
    def marks(self, ask: Callable[[], Marks] | None) -> None:
        self._marks.ask = ask

    async def session(self, session_id: bytes) -> SecureSession | None:
        return self._session("session_id=?", session_id)

    async def session_from(self, address: PeerId) -> SecureSession | None:
        return self._session("address=? ORDER BY id DESC LIMIT 1", encode_peer(address))

    async def sessions_of(self, device_id: DeviceId) -> Sequence[SecureSession]:
        query = f"SELECT {_SESSION} FROM secure_session WHERE device_id=? ORDER BY id"
        return [self._session_from(row) for row in self._rows(query, device_id)]

    async def drop_sessions(self) -> int:
        newest = self._row("SELECT coalesce(max(id),0) FROM secure_session") or (0,)
        dropped = 0
        while gone := await self._writer.run(lambda: self._connection.execute(_DROP_SLICE, newest).rowcount):
            dropped += gone
        return dropped

    async def trim_sessions(self, before_ms: int) -> int:
        """Delete some sessions whose device was not heard since ``before_ms``; returns how many went, 0 when there is
        nothing left to do."""
        return await self._writer.run(lambda: self._connection.execute(_TRIM, (before_ms,)).rowcount)

    def _fold_marks(self) -> None:
        """After a group: a slice of read marks, where there are many."""
        if self._marks.rows_hold <= FOLD_AT or self._folding:
            return
        try:
            folded = self._writer.start(lambda: fold(self._connection))
        except StoreTrouble:
            return
        self._folding = True
        folded.add_done_callback(self._marks_folded)

    def _marks_folded(self, folded: "asyncio.Future[tuple[Marks, int]]") -> None:
        self._folding = False
        if folded.cancelled():
            return
        error = folded.exception()
        if error is None:
            self._marks.folded(*folded.result())
        elif not isinstance(error, StoreTrouble):
            log.error("sessions.marks_not_folded", error=repr(error))

    def _session(self, condition: str, *parameters: Any) -> SecureSession | None:
        row = self._row(f"SELECT {_SESSION} FROM secure_session WHERE {condition}", *parameters)
        return None if row is None else self._session_from(row)

    def _session_from(self, row: rows.Row) -> SecureSession:
        session_id, device_id, address, sealed, ceiling, created_ms, read_mark = row
        return SecureSession(
            session_id,
            DeviceId(device_id),
            decode_peer(address),
            self._vault.open(sealed, session_context(session_id)),
            ceiling,
            created_ms,
            max(read_mark, self._marks.of(session_id)),
        )


def session_context(session_id: bytes) -> bytes:
    """What the state of a session is sealed with."""
    return b"secure session " + session_id.hex().encode()


def drop_and_put(
    connection: sqlite3.Connection,
    vault: Vault,
    drops: Iterable[bytes],
    drops_of: Iterable[DeviceId],
    puts: Sequence[PutSession],
) -> None:
    """What is left of a group's changes: first the drops, then the puts, then what a device has too many of."""
    devices = list(drops_of)
    if devices:
        connection.execute(_DROP_OF, (rows.to_json(devices),))
    connection.executemany(_DROP, [(session_id,) for session_id in drops])
    if puts:
        now_ms = time.time_ns() // 1_000_000
        connection.executemany(_PUT, [_session_row(each.session, vault, now_ms) for each in puts])
        connection.execute(_EVICT, (rows.to_json(list({each.session.device_id for each in puts})),))


def _session_row(session: SecureSession, vault: Vault, now_ms: int) -> tuple[Any, ...]:
    return (
        session.session_id,
        session.device_id,
        encode_peer(session.address),
        session.ceiling,
        session.read_mark,
        session.created_ms,
        now_ms,
        vault.seal(session.state, session_context(session.session_id)),
    )
