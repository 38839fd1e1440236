"""What the writer does with a group of commits and with the writes of people."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from stellwerk.app.changes import Change, Commit
from stellwerk.app.journal import JournalEntry
from stellwerk.app.ports import Limits, StoreFailing
from stellwerk.app.security_ports import Marks
from stellwerk.storage.sqlite.changes import ChangeWriter
from stellwerk.storage.sqlite.journal import Batch, JournalTail
from stellwerk.storage.sqlite.marks import insert
from stellwerk.storage.sqlite.writer import Failures, Task
from stellwerk.storage.vault import Vault

_NOBODYS_FAULT: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Primary result codes that say nothing about a single commit: looking for a culprit would only take longer, and
whoever comes next would hear the same."""

_PROBE_BYTES: Final = 256 * 1024
"""Room that has to be there before commits are taken again; some groups' worth, so that they do not fail at once."""
_PROBE: Final = "INSERT OR REPLACE INTO meta(name,value) VALUES ('probe',zeroblob(?))"


class SqliteBackend:
    """One round at a time, in the loop or in a thread; ``connection`` is its own. Implements `writer.Backend`."""

    def __init__(
        self, connection: sqlite3.Connection, tail: JournalTail, salt: bytes, limits: Limits, vault: Vault
    ) -> None:
        self.connection = connection
        self._tail = tail
        self._changes = ChangeWriter(connection, salt, limits, vault)

    def write(self, commits: Sequence[Commit], marks: Marks) -> Failures | None:
        """All in one transaction; if that fails, one by one, so that only the culprit bears it."""
        try:
            self._write_group(commits, marks)
        except Exception as error:
            failing = _failing(error)
            if failing is not None or len(commits) == 1:
                return [failing or error] * len(commits)
            return self._write_one_by_one(commits, marks)
        return None

    def run_tasks(self, tasks: Sequence[Task]) -> None:
        """In one transaction, each behind a savepoint."""
        next_seq = self._tail.next_seq
        try:
            self._begin()
            for task in tasks:
                self._run_task(task)
            self.connection.execute("COMMIT")
        except Exception as error:
            self._rollback()
            self._tail.next_seq = next_seq
            failing = _failing(error)
            for task in tasks:
                task.error = failing or task.error or error

    def probe(self) -> StoreFailing | None:
        """Write `_PROBE_BYTES` and let go of them; the file keeps the room for what comes."""
        try:
            for size in (_PROBE_BYTES, 0):
                self.connection.execute(_PROBE, (size,))
        except Exception as error:
            self._rollback()
            return _failing(error) or StoreFailing(str(error))
        return None

    def write_changes(self, changes: Sequence[Change]) -> None:
        """For a task: in its transaction."""
        if changes:
            self._changes.write(changes)

    def append(self, entries: Sequence[JournalEntry]) -> None:
        """For a task: journal ``entries`` in its transaction. The tail may then know of entries that were rolled back,
        which only costs it a look at the table."""
        if entries:
            batch = Batch(entries, self._tail.next_seq)
            batch.insert(self.connection)
            self._tail.note(batch)

    def _write_group(self, commits: Sequence[Commit], marks: Marks) -> None:
        entries = [entry for commit in commits for entry in commit.entries]
        changes = [change for commit in commits for change in commit.changes]
        batch = Batch(entries, self._tail.next_seq) if entries else None
        if changes or marks:
            try:
                self._begin()
                if batch is not None:
                    batch.insert(self.connection)
                self._changes.write(changes)
                insert(self.connection, marks)
                self.connection.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
        elif batch is not None:
            # A single statement is a transaction of its own: the common case enters SQLite once.
            batch.insert(self.connection)
        if batch is not None:
            seq = batch.first - 1
            for commit in commits:
                if commit.entries:
                    seq += len(commit.entries)
                    commit.seq = seq
            self._tail.note(batch)

    def _write_one_by_one(self, commits: Sequence[Commit], marks: Marks) -> list[Exception | None]:
        failures: list[Exception | None] = [None] * len(commits)
        batches: list[Batch] = []
        next_seq = self._tail.next_seq
        try:
            self._begin()
            for index, commit in enumerate(commits):
                self.connection.execute("SAVEPOINT one")
                try:
                    if commit.entries:
                        batch = Batch(commit.entries, next_seq)
                        batch.insert(self.connection)
                    self._changes.write(commit.changes)
                except Exception as error:
                    if _failing(error) is not None:
                        raise
                    failures[index] = error
                    self.connection.execute("ROLLBACK TO one")
                else:
                    if commit.entries:
                        batches.append(batch)
                        next_seq = batch.last + 1
                        commit.seq = batch.last
                self.connection.execute("RELEASE one")
            if None in failures:
                insert(self.connection, marks)
            self.connection.execute("COMMIT")
        except Exception as error:
            self._rollback()
            failing = _failing(error)
            return [failing or failure or error for failure in failures]
        for batch in batches:
            self._tail.note(batch)
        return failures

    def _run_task(self, task: Task) -> None:
        next_seq = self._tail.next_seq
        self.connection.execute("SAVEPOINT task")
        try:
            task.result = task.work()
        except Exception as error:
            if _failing(error) is not None:
                # A full disk may have ended the whole transaction already: all of them failed.
                raise
            task.error = error
            # A number nobody has would look like an entry that is never projected.
            self._tail.next_seq = next_seq
            self.connection.execute("ROLLBACK TO task")
        self.connection.execute("RELEASE task")

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def _rollback(self) -> None:
        with suppress(sqlite3.Error):
            self.connection.execute("ROLLBACK")


def _failing(error: Exception) -> StoreFailing | None:
    """What is nobody's fault, with the database's words for it; else None."""
    if not isinstance(error, sqlite3.Error):
        return None
    code: int | None = getattr(error, "sqlite_errorcode", None)
    # The low byte is the primary code of an extended one.
    return StoreFailing(str(error)) if (code or 0) & 0xFF in _NOBODYS_FAULT else None
