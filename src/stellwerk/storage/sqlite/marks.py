"""Read marks of secure sessions: what no replay gets past, not even after a crash (decision 0013).

A row per message would cost a write of its own for everything a device says. So each group commit writes what its
messages have read as one packed row behind the last, in its own transaction. What such rows say is in memory too, and a
slice of the oldest goes into the rows of the sessions whenever there are more than `FOLD_AT`.
"""

import sqlite3
import struct
import time
from collections.abc import Callable
from typing import Final

from stellwerk.app.ports import Marks

_MARK: Final = struct.Struct(">8sQ")
FOLD_AT: Final = 50_000
"""So many marks may be in packed rows. The more there are the more of them are of sessions that have newer ones."""
_ROW: Final = 512
"""Marks in one packed row at most."""
_SLICE: Final = 256
"""About how many marks move at a time: some milliseconds' worth."""

_INSERT: Final = "INSERT INTO session_mark(time_ms,packed) VALUES (?,?)"
_FOLD: Final = "UPDATE secure_session SET read_mark=?1 WHERE session_id=?2 AND read_mark<?1"
_HEARD: Final = "UPDATE secure_session SET modified_ms=?1 WHERE session_id=?2 AND modified_ms<?1-86400000"


class ReadMarks:
    """Belongs to the event loop, but for `insert` and `fold`."""

    def __init__(self) -> None:
        self.ask: Callable[[], Marks] | None = None
        """`DecidingStore.marks`."""
        self._unfolded: dict[bytes, int] = {}
        """What packed rows say, or are about to."""
        self._back: dict[bytes, int] = {}
        """Of a group that failed."""
        self.rows_hold = 0
        """Marks in packed rows, as many as there are and not how many sessions have one."""

    def load(self, connection: sqlite3.Connection) -> None:
        """What the last run left."""
        unfolded = self._unfolded
        for (packed,) in connection.execute("SELECT packed FROM session_mark ORDER BY id"):
            self.rows_hold += len(packed) // _MARK.size
            # Marks of a session grow, so the last one is the highest; should a clock or a copy have broken that, the
            # highest counts all the same.
            for session_id, mark in _MARK.iter_unpack(packed):
                if mark > unfolded.get(session_id, -1):
                    unfolded[session_id] = mark

    def of(self, session_id: bytes) -> int:
        """The highest mark that packed rows know, 0 where they know none."""
        return self._unfolded.get(session_id, 0)

    def take(self) -> Marks:
        """For a group that forms now."""
        marks = () if self.ask is None else self.ask()
        if self._back:
            merged = self._back
            self._back = {}
            for session_id, mark in marks:
                merged[session_id] = max(mark, merged.get(session_id, 0))
            marks = list(merged.items())
        unfolded = self._unfolded
        for session_id, mark in marks:
            if mark > unfolded.get(session_id, -1):
                unfolded[session_id] = mark
        return marks

    def put_back(self, marks: Marks) -> None:
        """The group failed."""
        for session_id, mark in marks:
            self._back[session_id] = max(mark, self._back.get(session_id, 0))

    def stored(self, marks: Marks) -> None:
        """The group is stored."""
        self.rows_hold += len(marks)

    def folded(self, marks: Marks, count: int) -> None:
        """``count`` marks went out of packed rows; ``marks`` are what they said."""
        self.rows_hold -= count
        for session_id, mark in marks:
            if self._unfolded.get(session_id) == mark:
                del self._unfolded[session_id]

    def forget(self) -> None:
        """Sessions and packed rows are gone."""
        self._unfolded.clear()
        self._back.clear()
        self.rows_hold = 0


def insert(connection: sqlite3.Connection, marks: Marks) -> None:
    """In the transaction of their group."""
    now_ms = time.time_ns() // 1_000_000
    pack = _MARK.pack
    packed = [pack(session_id, mark) for session_id, mark in marks]
    for start in range(0, len(packed), _ROW):
        connection.execute(_INSERT, (now_ms, b"".join(packed[start : start + _ROW])))


def fold(connection: sqlite3.Connection) -> tuple[Marks, int]:
    """In a transaction: move a slice of packed rows, the oldest, into the rows of their sessions. Returns what they
    said, and how many marks they held."""
    highest: dict[bytes, int] = {}
    count = last = time_ms = 0
    found = connection.execute("SELECT id,time_ms,packed FROM session_mark ORDER BY id LIMIT ?", (_SLICE,))
    for row_id, row_ms, packed in found:
        last, time_ms = row_id, row_ms
        count += len(packed) // _MARK.size
        for session_id, mark in _MARK.iter_unpack(packed):
            highest[session_id] = max(mark, highest.get(session_id, 0))
        if count >= _SLICE:
            break
    found.close()
    if count:
        connection.executemany(_FOLD, [(mark, session_id) for session_id, mark in highest.items()])
        connection.executemany(_HEARD, [(time_ms, session_id) for session_id in highest])
        connection.execute("DELETE FROM session_mark WHERE id<=?", (last,))
    return list(highest.items()), count
