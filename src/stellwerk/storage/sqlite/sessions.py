"""Secure sessions in SQLite: a part of `store`, and what a group writes of them."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import structlog

from stellwerk.app.changes import PutSession
from stellwerk.app.ports import StoreTrouble
from stellwerk.app.security_ports import Marks
from stellwerk.app.session import SESSIONS_PER_DEVICE, SecureSession
from stellwerk.core.ids import DeviceId, PeerId, decode_peer, encode_peer
from stellwerk.storage.sqlite import rows
from stellwerk.storage.sqlite.marks import ReadMarks, Slice, move
from stellwerk.storage.sqlite.models import SqliteModels
from stellwerk.storage.vault import Vault

log = structlog.get_logger(__name__)

_SESSION: Final = (
    "s.session_id,s.device_id,s.address,s.sealed,s.ceiling,s.created_ms,max(s.read_mark,coalesce(r.read_mark,0)),"
    "s.address_key IS NOT NULL "
    "FROM secure_session s LEFT JOIN session_read r ON r.session_id=s.session_id"
)
_PUT: Final = (
    "INSERT INTO secure_session(session_id,device_id,address_key,address,ceiling,read_mark,created_ms,modified_ms,"
    "sealed) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT(session_id) DO UPDATE SET device_id=excluded.device_id,"
    "address_key=excluded.address_key,address=excluded.address,ceiling=excluded.ceiling,"
    "read_mark=max(read_mark,excluded.read_mark),modified_ms=excluded.modified_ms,"
    "sealed=excluded.sealed WHERE excluded.ceiling>=ceiling"
)
"""A state below the stored ceiling is an old one that failed and was tried again: numbers would be used twice."""
_DROP: Final = "DELETE FROM secure_session WHERE session_id=?"
_DROP_OF: Final = "DELETE FROM secure_session WHERE device_id=?"
_EVICT: Final = (
    "DELETE FROM secure_session WHERE id="
    f"(SELECT id FROM secure_session WHERE device_id=? ORDER BY id DESC LIMIT 1 OFFSET {SESSIONS_PER_DEVICE})"
)
"""Once per session that was put: the device has one too many at most."""
_DROP_SLICE: Final = (
    "DELETE FROM secure_session WHERE id IN (SELECT id FROM secure_session WHERE id<=? ORDER BY id LIMIT 500)"
)
_WALK: Final = "SELECT max(id) FROM (SELECT id FROM secure_session WHERE id>? ORDER BY id LIMIT 1000)"
_UNHEARD: Final = (
    "SELECT session_id FROM secure_session s WHERE id>? AND id<=? AND modified_ms<?3 "
    "AND NOT EXISTS (SELECT 1 FROM session_read r WHERE r.session_id=s.session_id AND r.heard_ms>=?3) "
    "AND NOT EXISTS (SELECT 1 FROM registration g WHERE g.peer='dtls '||lower(hex(s.session_id))||' 0  0')"
)
"""A device that is registered over a session may sleep as long as its lifetime."""
_TRIM: Final = "DELETE FROM secure_session WHERE session_id=? AND modified_ms<?"


class SqliteSessions(SqliteModels):
    """A part of `SqliteStore`."""

    _vault: Vault
    _marks: ReadMarks
    _sweeping = False
    _walked = 0
    """The last session that `trim_sessions` looked at."""

    @property
    def marks(self) -> Callable[[], Marks] | None:
        return self._marks.ask

    @marks.setter
    def marks(self, ask: Callable[[], Marks] | None) -> None:
        self._marks.ask = ask

    async def session(self, session_id: bytes) -> SecureSession | None:
        return self._session("s.session_id=?", session_id)

    async def session_from(self, address: PeerId) -> SecureSession | None:
        text = encode_peer(address)
        return self._session("s.address_key=? AND s.address=? ORDER BY s.id DESC LIMIT 1", _address_key(text), text)

    async def sessions_of(self, device_id: DeviceId) -> Sequence[SecureSession]:
        found = self._rows(f"SELECT {_SESSION} WHERE s.device_id=? ORDER BY s.id", device_id)
        return [self._session_from(row) for row in found]

    async def drop_sessions(self) -> int:
        newest = self._row("SELECT coalesce(max(id),0) FROM secure_session") or (0,)
        dropped = 0
        while gone := await self._writer.run(lambda: self._connection.execute(_DROP_SLICE, newest).rowcount):
            dropped += gone
        return dropped

    async def trim_sessions(self, before_ms: int) -> int:
        """Look at some sessions and delete those that nobody is registered over and nothing was heard over since
        ``before_ms``. Returns 0 at the end of the table, where the next call begins anew, else 1."""
        last = self._row(_WALK, self._walked)
        if last is None or last[0] is None:
            self._walked = 0
            return 0
        first, self._walked = self._walked, last[0]
        unheard = self._rows(_UNHEARD, first, last[0], before_ms)
        # What was heard since the last sweep is in memory alone.
        gone = [(session_id, before_ms) for (session_id,) in unheard if not self._marks.of(session_id)]
        if gone:
            await self._writer.run(lambda: self._connection.executemany(_TRIM, gone))
        return 1

    def _sweep_marks(self) -> None:
        """After a group: the next slice of read marks, where there is a sweep to do."""
        if self._sweeping:
            return
        slice_ = self._marks.next_slice(self._reader)
        if slice_ is None:
            return
        try:
            moved = self._writer.start(lambda: move(self._connection, slice_))
        except StoreTrouble:
            return
        self._sweeping = True
        moved.add_done_callback(partial(self._swept, slice_))

    def _swept(self, slice_: Slice, moved: "asyncio.Future[None]") -> None:
        self._sweeping = False
        if moved.cancelled():
            return
        error = moved.exception()
        if error is None:
            self._marks.moved(slice_, self._reader)
        elif not isinstance(error, StoreTrouble):
            log.error("sessions.marks_not_swept", error=repr(error))

    def _session(self, condition: str, *parameters: Any) -> SecureSession | None:
        row = self._row(f"SELECT {_SESSION} WHERE {condition}", *parameters)
        return None if row is None else self._session_from(row)

    def _session_from(self, row: rows.Row) -> SecureSession:
        session_id, device_id, address, sealed, ceiling, created_ms, read_mark, by_address = row
        return SecureSession(
            session_id,
            DeviceId(device_id),
            decode_peer(address),
            self._vault.open(sealed, session_context(session_id)),
            ceiling,
            created_ms,
            max(read_mark, self._marks.of(session_id)),
            bool(by_address),
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
    connection.executemany(_DROP_OF, [(device_id,) for device_id in drops_of])
    connection.executemany(_DROP, [(session_id,) for session_id in drops])
    if puts:
        now_ms = time.time_ns() // 1_000_000
        connection.executemany(_PUT, [_session_row(each.session, vault, now_ms) for each in puts])
        connection.executemany(_EVICT, [(each.session.device_id,) for each in puts])


def _session_row(session: SecureSession, vault: Vault, now_ms: int) -> tuple[Any, ...]:
    address = encode_peer(session.address)
    return (
        session.session_id,
        session.device_id,
        _address_key(address) if session.by_address else None,
        address,
        session.ceiling,
        session.read_mark,
        session.created_ms,
        now_ms,
        vault.seal(session.state, session_context(session.session_id)),
    )


def _address_key(address: str) -> int:
    return int.from_bytes(blake2b(address.encode(), digest_size=8).digest(), signed=True)
