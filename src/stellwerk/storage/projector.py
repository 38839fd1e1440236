"""The projector: follows the journal and writes the tables that are only read, a slice at a time.

As a process of its own (``python -m stellwerk.storage.projector --data-dir DIR``) it is woken by a byte on its standard
input and ends when that closes; besides, it looks four times a second. In one process `Projector.run_once` does the
same work for tests and small use. Rows and cursor are written in one transaction, so it may be killed at any moment.
"""

import argparse
import gc
import os
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Limits
from stellwerk.core.sharing import share
from stellwerk.lwm2m.content import Types
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.source import CompressedSource
from stellwerk.storage.lock import PROJECTOR_LOCK, DirectoryLock
from stellwerk.storage.migrations import DECIDING_FILE, PROJECTED_FILE, require
from stellwerk.storage.projection import EntryProjector, Shadow, Slice
from stellwerk.storage.sqlite import models, projected_rows, rows
from stellwerk.storage.sqlite.connection import connect
from stellwerk.storage.sqlite.journal import decode_batch

log = structlog.get_logger(__name__)

HISTORY_KEEP_MS: Final = 30 * 86_400_000
ENTRIES_PER_SLICE: Final = 8_000
"""Whoever is behind takes more at once: a page that several entries change is then written once."""
_BATCHES_PER_READ: Final = 2_000
_LOOK_EVERY_MS: Final = 250
_REST_AFTER_FAILURE_S: Final = 1.0
_DEVICES_REMEMBERED: Final = 100_000

_BAD_ROW = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, ValueError, TypeError)
"""What a single row can do to a statement; anything else is the database's own trouble and worth a later try."""

Numbered = list[tuple[int, JournalEntry]]


class Projector:
    """One writer of ``projected.db``. ``limits`` as the readers have them."""

    def __init__(
        self,
        data_dir: Path,
        *,
        library: Library | None = None,
        limits: Limits | None = None,
        history_keep_ms: int = HISTORY_KEEP_MS,
    ) -> None:
        """``history_keep_ms``: values older than a device's newest by more may go. Raises `SchemaMismatch` unless the
        files are migrated."""
        require(data_dir)
        self._journal = connect(data_dir / DECIDING_FILE, writable=False)
        self._connection = connect(data_dir / PROJECTED_FILE, writable=True, synchronous="NORMAL", cache_kib=32_000)
        # Fewer, larger checkpoints: each writes a page once, however often it changed.
        self._connection.execute("PRAGMA wal_autocheckpoint=8000")
        self._limits = limits or Limits()
        self._history_keep_ms = history_keep_ms
        self._library = library or Library.builtin().with_models()
        self._model = rows.model_reader(self._library)
        self._sources: dict[tuple[str, int, str], tuple[int, CompressedSource]] = {}
        self._entries: EntryProjector | None = None
        self._names: dict[int, str] = {}
        self._shadows: dict[int, Shadow] = {}
        self.seq, self._removals, self.failures = self._cursor()
        self._take_models()

    def close(self) -> None:
        """Close the files; nothing is lost by not calling it."""
        self._journal.close()
        self._connection.close()

    def run_once(self) -> int:
        """Project one slice of what is committed; returns how many entries it took, 0 when there was nothing new.
        Raises sqlite3.Error when a file does not take part; then nothing of the slice is written."""
        removed = self._read_removals()
        last, entries = self._read_slice()
        if last == self.seq and not removed:
            return 0
        if self._entries is None:
            self._entries = EntryProjector(self._salt(), self._types)
        if len(self._shadows) > _DEVICES_REMEMBERED:
            self._forget_devices()
        try:
            self._transact(last, removed, lambda: self._project_together(entries))
        except _BAD_ROW:
            self._transact(last, removed, lambda: self._project_apart(entries))
        return len(entries)

    def run_all(self) -> int:
        """Slices until there is nothing new; returns how many entries they took."""
        total = 0
        while taken := self.run_once():
            total += taken
        return total

    # -- reading --

    def _read_slice(self) -> tuple[int, Numbered]:
        """The next entries and the sequence number they reach to. The snapshot is given back before the slice is
        worked on."""
        found = self._journal.execute(
            "SELECT first,last,entries FROM journal WHERE first>? ORDER BY first LIMIT ?", (self.seq, _BATCHES_PER_READ)
        )
        entries: Numbered = []
        reached = self.seq
        for first, last, packed in found:
            entries.extend(enumerate(decode_batch(packed), first))
            reached = last
            if len(entries) >= ENTRIES_PER_SLICE:
                break
        found.close()
        return reached, entries

    def _read_removals(self) -> list[tuple[int, int]]:
        return self._journal.execute(
            "SELECT id,device_id FROM removed_device WHERE id>? ORDER BY id LIMIT 100", (self._removals,)
        ).fetchall()

    def _cursor(self) -> tuple[int, int, int]:
        found = self._connection.execute("SELECT seq,removals,failures FROM projection").fetchall()
        return tuple(found[0]) if found else (0, 0, 0)

    def _salt(self) -> bytes:
        # Made when the server first opened its file, so before any entry.
        ((salt,),) = self._journal.execute("SELECT value FROM meta WHERE name='salt'").fetchall()
        return bytes(salt)

    def _types(self, body: bytes, version: str, tenant: str) -> Types:
        return self._model(body, version, tenant)[2]

    def _take_models(self) -> None:
        """The imported object models as they are now. The types that shadows hold follow them."""
        sources: dict[tuple[str, int, str], tuple[int, CompressedSource]] = {}
        for head in models.heads(self._journal):
            known = self._sources.get(head.key)
            if known is None or known[0] != head.modified_ms:
                xml = models.source(self._journal, *head.key)
                if xml is None:
                    continue
                known = (head.modified_ms, CompressedSource.of(head.object_id, head.version, xml))
            sources[head.key] = known
        self._sources = sources
        for types in self._library.replace_imported((key[0], each) for key, (_, each) in sources.items()):
            types.refresh()

    def _load_devices(self, wanted: Iterable[int]) -> None:
        """Names from what decides, shadows from what was projected before. A device without name is not there."""
        assert self._entries is not None
        missing = msgspec.json.encode([each for each in wanted if each not in self._names]).decode()
        if missing == "[]":
            return
        query = (
            "SELECT d.id,d.name,t.name FROM device d JOIN tenant t ON t.id=d.tenant_id "
            "WHERE d.id IN (SELECT value FROM json_each(?))"
        )
        shadows = {each.device_id: each for each in projected_rows.read_shadows(self._connection, missing)}
        for device_id, name, tenant in self._journal.execute(query, (missing,)).fetchall():
            self._names[device_id] = name
            shadow = self._shadows[device_id] = shadows.get(device_id) or Shadow(device_id)
            shadow.tenant = share(tenant)
            if shadow.model is not None:
                self._entries.set_model(shadow, *shadow.model)

    def _forget_devices(self) -> None:
        self._names.clear()
        self._shadows.clear()

    # -- writing --

    def _transact(self, last: int, removed: Sequence[tuple[int, int]], work: Any) -> None:
        connection = self._connection
        failures = self.failures
        try:
            connection.execute("BEGIN IMMEDIATE")
            for _, device_id in removed:
                projected_rows.remove_device(connection, device_id)
                self._names.pop(device_id, None)
                self._shadows.pop(device_id, None)
            work()
            removals = removed[-1][0] if removed else self._removals
            projected_rows.write_cursor(connection, last, removals, self.failures)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # Shadows have run ahead of their rows.
            self._forget_devices()
            self.failures = failures
            raise
        self.seq, self._removals = last, removals

    def _project_together(self, entries: Numbered) -> None:
        assert self._entries is not None
        made = Slice()
        names, shadows, project = self._names, self._shadows, self._entries.project
        self._load_devices({entry.device_id for _, entry in entries})
        for seq, entry in entries:
            device_id = entry.device_id
            name = names.get(device_id)
            if name is None:
                if entry.kind == Kind.MODELS:
                    self._take_models()
                continue
            shadow = shadows[device_id]
            if entry.kind == Kind.MESSAGE_REMOVED:
                # What it leaves depends on all that came before.
                self._write(made)
                made = Slice()
                project(seq, entry, name, shadow, made)
                self._write(made)
                made = Slice()
                continue
            project(seq, entry, name, shadow, made)
        self._write(made)

    def _project_apart(self, entries: Numbered) -> None:
        """Entry by entry, after a slice would not go in: whoever cannot be written leaves a line in the log instead."""
        assert self._entries is not None
        for seq, entry in entries:
            self._connection.execute("SAVEPOINT entry")
            try:
                self._project_together([(seq, entry)])
            except _BAD_ROW as error:
                self._connection.execute("ROLLBACK TO entry")
                self._forget_devices()
                self._load_devices([entry.device_id])
                made = Slice()
                shadow = self._shadows.setdefault(entry.device_id, Shadow(entry.device_id))
                self._entries.fail(seq, entry, shadow, made, error)
                self._write(made)
            self._connection.execute("RELEASE entry")

    def _write(self, made: Slice) -> None:
        self.failures += made.failures
        projected_rows.write_slice(self._connection, made, self._limits, self._history_keep_ms)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until standard input closes."""
    parser = argparse.ArgumentParser(prog="stellwerk-projector", description="Project the journal into tables.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--max-instances", type=int, default=Limits().max_instances)
    parser.add_argument("--max-bytes", type=int, default=Limits().max_bytes)
    parser.add_argument("--history-keep-ms", type=int, default=HISTORY_KEEP_MS)
    options = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # A keyboard's interrupt and a supervisor's SIGTERM reach the whole group; the server then closes our input, and
    # that ends us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Rows come and go by the ten thousand and hold no cycles: to look for some often is wasted time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    limits = Limits(options.max_instances, options.max_bytes)
    # The helper of a server that was killed may be at its last slice: whoever reads the cursor before the end of it
    # projects that slice twice.
    lock = DirectoryLock.take(options.data_dir, PROJECTOR_LOCK, wait=True)
    projector = Projector(options.data_dir, limits=limits, history_keep_ms=options.history_keep_ms)
    follow(projector, sys.stdin.fileno())
    projector.close()
    lock.release()
    return 0


def follow(projector: Projector, wake: int) -> None:
    """Project what comes until the descriptor ``wake`` reads end-of-file, then stop after the slice at hand."""
    poll = select.poll()
    poll.register(wake, select.POLLIN | select.POLLHUP)
    pending = True
    waits = False
    while True:
        if poll.poll(0 if pending else _LOOK_EVERY_MS) and not os.read(wake, 65536):
            return
        try:
            pending = projector.run_once() > 0
            waits = False
        except (sqlite3.Error, OSError) as error:
            # A full disk, most likely. The journal keeps what waits.
            if not waits:
                log.warning("projector.waits", error=repr(error))
            waits = True
            pending = False
            time.sleep(_REST_AFTER_FAILURE_S)


if __name__ == "__main__":
    sys.exit(main())
