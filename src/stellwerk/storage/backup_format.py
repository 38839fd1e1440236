"""What a backup looks like, for `storage.backup` and `storage.restore`: names in it, and files as both write them."""

import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stellwerk.app.oscore import UNKNOWN
from stellwerk.storage.migrations import DECIDING_FILE, PROJECTED_FILE
from stellwerk.storage.token_key import TOKEN_KEY_FILE
from stellwerk.storage.vault import KEY_FILE

MANIFEST: Final = "manifest.json"
FORMAT: Final = "stellwerk-backup"
FORMAT_VERSION: Final = 1

DATABASES: Final = {"deciding": DECIDING_FILE, "projected": PROJECTED_FILE}
KEY_FILES: Final = (KEY_FILE, TOKEN_KEY_FILE)
FOLDERS: Final = ("keys", "trust")
NAME: Final = re.compile(r"(?:keys|trust)/[0-9A-Za-z_-][0-9A-Za-z_.:@ -]{0,200}")
"""What besides databases and keys may be in a backup: no name leads out of these folders."""
MOST_FILES: Final = 10_000
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a backup: files with their sizes in bytes, when it was made (UTC milliseconds since 1970), by which
    version of the program, with which schema of either database."""

    files: dict[str, int]
    made_ms: int
    program: str
    schemas: dict[str, str]

    @property
    def size(self) -> int:
        return sum(self.files.values())


def drop_sessions(connection: sqlite3.Connection) -> int:
    """Forget every secure session, every read mark and what tickets are sealed with, and which numbers OSCORE contexts
    have used (`app.oscore.UNKNOWN`); how many sessions there were. Of a schema without sessions: none."""
    if not _has(connection, "secure_session"):
        return 0
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM session_read")
    connection.execute("DELETE FROM session_mark")
    dropped = connection.execute("DELETE FROM secure_session").rowcount
    connection.execute("DELETE FROM meta WHERE name LIKE 'ticket%'")
    if _has(connection, "oscore_context"):
        # Numbers that are used after the copy, here or there, are in neither: a context goes on as itself nowhere but
        # where it is.
        for table in ("oscore_context", "oscore_spent"):
            connection.execute(f"UPDATE {table} SET ceiling=?", (UNKNOWN,))
    connection.execute("COMMIT")
    return dropped


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name=?", (table,)).fetchall())


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def write_whole(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
