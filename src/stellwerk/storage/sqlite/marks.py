"""Read marks of secure sessions: what no replay gets past, not even after a crash (decision 0013).

A row per message would cost a page of its own for everything a device says. So each group commit writes what its
messages have read as one packed row behind the last, in its own transaction, and memory holds what packed rows say.
When they hold `SWEEP_AT` marks, or the oldest is `SWEEP_AFTER_MS` old, a sweep begins: slice by slice, in the order of
the session IDs, marks go into the rows of ``session_read``, so that neighbours share a page; at its end the packed rows
it began with are deleted. A crash in the middle costs nothing but the sweep.
"""

import sqlite3
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stellwerk.app.security_ports import Marks

SWEEP_AT: Final = 50_000
"""So many marks may be in packed rows before a sweep begins. The more there are the more of them share a page, and the
more of them are of sessions that have newer ones."""
SWEEP_AFTER_MS: Final = 86_400_000
"""So old may a packed row become: whose session was heard, and when, the retention sees by what is swept."""
_MARK: Final = struct.Struct(">8sQ")
_ROW: Final = 512
"""Marks in one packed row at most."""
_BUCKETS: Final = 256
"""By the second byte of the session ID, which is random: the first is the node's."""

_INSERT: Final = "INSERT INTO session_mark(time_ms,packed) VALUES (?,?)"
_SWEEP: Final = (
    "INSERT INTO session_read(session_id,read_mark,heard_ms) SELECT ?1,?2,?3 "
    "WHERE EXISTS (SELECT 1 FROM secure_session WHERE session_id=?1) "
    "ON CONFLICT(session_id) DO UPDATE SET read_mark=max(read_mark,excluded.read_mark),heard_ms=excluded.heard_ms"
)


@dataclass(slots=True)
class Slice:
    """Of a sweep: ``marks`` to move. ``last``: the packed rows up to this number hold nothing more that is not in
    ``session_read`` once these are; 0 while there are more slices to come."""

    bucket: int
    marks: Marks
    last: int = 0


class ReadMarks:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self.ask: Callable[[], Marks] | None = None
        """`SecurityStore.marks`."""
        self.packed = 0
        """Marks in packed rows, as many as there are and not how many sessions have one."""
        self._since_ms = 0
        """When the oldest packed row was stored, 0 while there is none."""
        self._unswept: list[dict[bytes, int]] = [{} for _ in range(_BUCKETS)]
        """What packed rows say, or are about to."""
        self._back: dict[bytes, int] = {}
        """Of a group that failed."""
        self._next = 0
        """The bucket the sweep goes on with, 0 while there is none."""
        self._last = 0
        """The newest packed row when the sweep began."""

    def load(self, connection: sqlite3.Connection) -> None:
        """What the last run left."""
        unswept = self._unswept
        for time_ms, packed in connection.execute("SELECT time_ms,packed FROM session_mark ORDER BY id"):
            self._since_ms = self._since_ms or time_ms
            self.packed += len(packed) // _MARK.size
            for session_id, mark in _MARK.iter_unpack(packed):
                bucket = unswept[session_id[1]]
                if mark > bucket.get(session_id, -1):
                    bucket[session_id] = mark

    def of(self, session_id: bytes) -> int:
        """The highest mark that memory knows, 0 where it knows none."""
        return self._unswept[session_id[1]].get(session_id, 0)

    def take(self) -> Marks:
        """For a group that forms now."""
        marks = () if self.ask is None else self.ask()
        if self._back:
            merged, self._back = self._back, {}
            for session_id, mark in marks:
                merged[session_id] = max(mark, merged.get(session_id, 0))
            marks = list(merged.items())
        unswept = self._unswept
        for session_id, mark in marks:
            bucket = unswept[session_id[1]]
            if mark > bucket.get(session_id, -1):
                bucket[session_id] = mark
        return marks

    def put_back(self, marks: Marks) -> None:
        """The group failed."""
        for session_id, mark in marks:
            self._back[session_id] = max(mark, self._back.get(session_id, 0))

    def stored(self, marks: Marks) -> None:
        """The group is stored."""
        self.packed += len(marks)
        self._since_ms = self._since_ms or _now_ms()

    def next_slice(self, connection: sqlite3.Connection) -> Slice | None:
        """Of the sweep that is under way or due, for `move`; None when neither is."""
        if not self._next:
            # A command beside a server asks nobody for marks, and leaves this to it.
            is_due = self.packed >= SWEEP_AT or 0 < self._since_ms < _now_ms() - SWEEP_AFTER_MS
            if not is_due or self.ask is None:
                return None
            ((self._last,),) = connection.execute("SELECT coalesce(max(id),0) FROM session_mark").fetchall()
        bucket = self._next
        last = self._last if bucket == _BUCKETS - 1 else 0
        return Slice(bucket, sorted(self._unswept[bucket].items()), last)

    def moved(self, moved: Slice, connection: sqlite3.Connection) -> None:
        """`move` is stored."""
        bucket = self._unswept[moved.bucket]
        for session_id, mark in moved.marks:
            if bucket[session_id] == mark:
                del bucket[session_id]
        self._next = (moved.bucket + 1) % _BUCKETS
        if moved.last:
            # Counted anew: a group may have been stored between that nobody told us of yet.
            query = "SELECT coalesce(sum(length(packed)),0),coalesce(min(time_ms),0) FROM session_mark"
            ((length, self._since_ms),) = connection.execute(query).fetchall()
            self.packed = length // _MARK.size


def insert(connection: sqlite3.Connection, marks: Marks) -> None:
    """In the transaction of their group."""
    now_ms = _now_ms()
    pack = _MARK.pack
    packed: Sequence[bytes] = [pack(session_id, mark) for session_id, mark in marks]
    for start in range(0, len(packed), _ROW):
        connection.execute(_INSERT, (now_ms, b"".join(packed[start : start + _ROW])))


def move(connection: sqlite3.Connection, slice_: Slice) -> None:
    """In a transaction. Marks of sessions that are gone go with them."""
    now_ms = _now_ms()
    connection.executemany(_SWEEP, [(session_id, mark, now_ms) for session_id, mark in slice_.marks])
    if slice_.last:
        connection.execute("DELETE FROM session_mark WHERE id<=?", (slice_.last,))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
