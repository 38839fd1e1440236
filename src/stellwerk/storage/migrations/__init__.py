"""Bring the database files of a data directory to the schema of this version, before anything else opens them.

``deciding`` and ``projected`` hold the revisions of ``stellwerk.db`` and ``projected.db``, each a line of its own.
A new revision: change `storage.schema`, add ``000N_what.py`` to the folder, set the head below, and keep a database
of the version before in ``tests/migrations``.
"""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stellwerk.core.errors import UserError

DECIDING_FILE: Final = "stellwerk.db"
PROJECTED_FILE: Final = "projected.db"
UNFINISHED_RESTORE: Final = "restore.unfinished"
"""Lies in a data directory while a backup is put there (`storage.restore`)."""
HEADS: Final = {"deciding": "0005", "projected": "0002"}
"""The newest revision of each line. Known here so that a start with nothing to do needs no migration library."""

_FILES: Final = {"deciding": DECIDING_FILE, "projected": PROJECTED_FILE}


@dataclass
class SchemaMismatch(UserError):
    """``file`` is at ``revision``, this program works with ``wanted`` only."""

    file: str
    revision: str | None
    wanted: str

    def __str__(self) -> str:
        text = f"{self.file} has schema {self.revision or 'none'}, this version needs {self.wanted}"
        if self.revision is None:
            return text
        return f"{text}; start the version that wrote it, or name another directory in STELLWERK_DATA_DIR"


@dataclass
class DatabaseUnusable(UserError):
    """``file`` cannot be opened, read or written as a database; ``reason`` is SQLite's word."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return (
            f"cannot work with the database {self.file.absolute()}: {self.reason}; "
            "make it readable and writable for this user, or restore a backup"
        )


@dataclass
class RestoreUnfinished(UserError):
    """A restore into ``data_dir`` ended in the middle."""

    data_dir: Path

    def __str__(self) -> str:
        return (
            f"a restore into {self.data_dir.absolute()} did not come to its end; run it again: "
            "stellwerk restore --replace FILE (what was there before is in a folder before-restore-... in there)"
        )


def migrate(data_dir: Path) -> list[str]:
    """Migrate both files, making them where they are missing; says what was done, nothing when all was done before.

    Raises `SchemaMismatch` for a file of a newer version, `DatabaseUnusable`, and `RestoreUnfinished`.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    if (data_dir / UNFINISHED_RESTORE).exists():
        raise RestoreUnfinished(data_dir)
    done = []
    for line, name in _FILES.items():
        file = data_dir / name
        try:
            before = revision(file)
            if before != HEADS[line]:
                _upgrade(file, line, before)
                done.append(f"{name}: {before or 'new'} -> {HEADS[line]}")
        except sqlite3.Error as error:
            raise DatabaseUnusable(file, str(error)) from error
        if not os.access(file, os.R_OK | os.W_OK):
            raise DatabaseUnusable(file, "permission denied")
    return done


def require(data_dir: Path) -> None:
    """Raises `SchemaMismatch` unless both files are at this version's schema."""
    for line, name in _FILES.items():
        found = revision(data_dir / name)
        if found != HEADS[line]:
            raise SchemaMismatch(name, found, HEADS[line])


def revision(file: Path) -> str | None:
    """The schema revision of a database file, None where there is no file or no schema in it."""
    if not file.exists():
        return None
    with closing(sqlite3.connect(file)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None
    return None if row is None else str(row[0])


def _upgrade(file: Path, line: str, before: str | None) -> None:
    # Imported late: half a second of start-up that only a migration pays.
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from sqlalchemy import URL, create_engine, event
    from sqlalchemy.exc import DBAPIError

    from stellwerk.storage.migrations.configuration import configuration

    config = configuration(line)
    if before is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(before)
        except CommandError:
            raise SchemaMismatch(file.name, before, HEADS[line]) from None
    engine = create_engine(URL.create("sqlite", database=str(file)))

    # The driver's own transaction control would commit before DDL: all of a migration or nothing.
    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise error.orig or error from error
    finally:
        engine.dispose()
