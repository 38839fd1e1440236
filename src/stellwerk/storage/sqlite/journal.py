"""The journal in SQLite: a row per group commit, and what of it is kept in memory."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.status import Status
from stellwerk.storage.receipts import KEEP_MS, RECEIPT_BYTES, ReceiptIndex

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[JournalEntry]).decode
_INSERT: Final = "INSERT INTO journal(first,last,time_ms,receipts,entries) VALUES (?,?,?,?,?)"


def decode_batch(entries: bytes) -> list[JournalEntry]:
    """The entries of a journal row, in order; the sequence number of the first is the row's ``first``."""
    return _decode(entries)


class Batch:
    """The entries of one transaction, numbered and packed. Raises `ValueError` or `TypeError` for what cannot be."""

    __slots__ = ("entries", "first", "last", "receipts", "time_ms")

    def __init__(self, entries: Sequence[JournalEntry], first: int) -> None:
        self.entries = entries
        self.first = first
        self.last = first + len(entries) - 1
        self.receipts = [entry.receipt for entry in entries if entry.receipt]
        for receipt in self.receipts:
            if len(receipt) != RECEIPT_BYTES:
                raise ValueError(f"a receipt has {RECEIPT_BYTES} bytes, not {len(receipt)}")
        self.time_ms = max([entry.time_ms for entry in entries])

    def insert(self, connection: sqlite3.Connection) -> None:
        """One statement; outside a transaction it is one of its own."""
        row = (self.first, self.last, self.time_ms, b"".join(self.receipts), _encode(self.entries))
        connection.execute(_INSERT, row)


class JournalTail:
    """What the newest end of the journal says, in memory: receipts, and the Updates the projector has not passed.

    The writer (perhaps a thread) adds and the loop asks; single steps are atomic under the interpreter's lock.
    """

    def __init__(self, keep_ms: int = KEEP_MS) -> None:
        self.next_seq = 1
        self.projected_seq = 0
        """Set by whoever last looked; Updates up to it are in the projection."""
        self._receipts = ReceiptIndex(keep_ms)
        # Two generations: the older one goes when the projector has passed its end.
        self._updates: dict[int, int] = {}
        self._older_updates: dict[int, int] = {}
        self._older_last = 0

    def load(self, connection: sqlite3.Connection, projected_seq: int, since_ms: int) -> None:
        """Read the rows that matter once, at open: of the last minutes, and those after the projector's cursor."""
        row = connection.execute("SELECT last FROM journal ORDER BY first DESC LIMIT 1").fetchone()
        self.next_seq = 1 if row is None else row[0] + 1
        self.projected_seq = projected_seq
        # Newest first, so that it ends early; a clock that was set back only makes it read on.
        firsts = []
        for first, last, time_ms in connection.execute("SELECT first,last,time_ms FROM journal ORDER BY first DESC"):
            if time_ms < since_ms and last <= projected_seq:
                break
            firsts.append((first, last, time_ms))
        for first, last, time_ms in reversed(firsts):
            receipts, entries = connection.execute(
                "SELECT receipts,entries FROM journal WHERE first=?", (first,)
            ).fetchone()
            if time_ms >= since_ms:
                self._receipts.add(_split(receipts), first, time_ms)
            if last > projected_seq:
                self._note_updates(decode_batch(entries))

    def note(self, batch: Batch) -> None:
        """A batch was committed."""
        self.next_seq = batch.last + 1
        self._receipts.add(batch.receipts, batch.first, batch.time_ms)
        if self.projected_seq >= self._older_last:
            self._older_updates, self._older_last, self._updates = self._updates, batch.last, {}
        self._note_updates(batch.entries)

    def updated_ms(self, device_id: DeviceId) -> int:
        """When the device's newest Update was received, 0 where the tail holds none."""
        return self._updates.get(device_id) or self._older_updates.get(device_id, 0)

    @property
    def remembers(self) -> bool:
        """Whether there is any receipt to find."""
        return len(self._receipts) > 0

    def may_recall(self, receipt: bytes) -> bool:
        """Whether `recall` is worth asking."""
        return bool(self._receipts.find(receipt))

    def recall(self, connection: sqlite3.Connection, receipt: bytes, since_ms: int) -> JournalEntry | None:
        """The newest entry with this receipt that is not older than ``since_ms``."""
        if len(receipt) != RECEIPT_BYTES:
            return None
        for first in self._receipts.find(receipt):
            rows = connection.execute("SELECT entries FROM journal WHERE first=?", (first,)).fetchall()
            for (entries,) in rows:
                for entry in reversed(decode_batch(entries)):
                    if entry.receipt == receipt:
                        return entry if entry.time_ms >= since_ms else None
        return None

    def _note_updates(self, entries: Iterable[JournalEntry]) -> None:
        updates = self._updates
        for entry in entries:
            if entry.kind == Kind.UPDATE and entry.status == Status.CHANGED:
                updates[entry.device_id] = entry.time_ms


def _split(receipts: bytes) -> list[bytes]:
    return [receipts[start : start + RECEIPT_BYTES] for start in range(0, len(receipts), RECEIPT_BYTES)]
