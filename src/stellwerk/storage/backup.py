"""A backup: one tar file with both databases, the keys and the certificates of a data directory, and a manifest with
their checksums.

It is made beside a running server. Each database is copied from one snapshot, that of ``projected.db`` taken first, so
that the projection is never ahead of the journal. The copy pauses as long as it works and lets the disk catch up every
few megabytes, so that no acknowledgement waits for it. Secure sessions are left out: a copy of one that goes on here
would number its records there as it did here, and AES-GCM and CCM forbid that under one key. For the same reason OSCORE
contexts are copied as such whose numbers nobody knows.
"""

import json
import os
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Final

from stellwerk.core.errors import UserError
from stellwerk.storage.backup_format import (
    CHUNK,
    DATABASES,
    FOLDERS,
    FORMAT,
    FORMAT_VERSION,
    KEY_FILES,
    MANIFEST,
    MOST_FILES,
    NAME,
    Contents,
    drop_sessions,
    scratch_folder,
    sync,
    write_whole,
)
from stellwerk.storage.migrations import DECIDING_FILE
from stellwerk.storage.sqlite.connection import connect

_LONGEST_KEY_FILE: Final = 16 << 20
_STEP_PAGES: Final = 128
_SYNC_EVERY: Final = 8 << 20
"""Bytes that the system may hold back at most: a sync of the server's may have to wait for them."""
_LONGEST_PAUSE_S: Final = 0.05


@dataclass
class BackupImpossible(UserError):
    """``file`` cannot be made; ``reason`` says why and what would be right."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"no backup was made to {self.file}: {self.reason}"


def make_backup(
    data_dir: Path,
    file: Path,
    program: str,
    now_ms: int,
    *,
    replace: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Contents:
    """Write ``file``, with mode 0600, whole or not at all; ``replace``: over one that is there. Raises
    `BackupImpossible`."""
    if not (data_dir / DECIDING_FILE).exists():
        raise BackupImpossible(
            file, f"there is no database in {data_dir.absolute()}; name the server's directory in STELLWERK_DATA_DIR"
        )
    if file.exists() and not replace:
        raise BackupImpossible(file, "there is a file of that name; choose another, or say --force")
    try:
        with scratch_folder(file.absolute().parent, f".{file.name}.") as scratch:
            schemas = _copy_databases(data_dir, scratch, _Pace(pause))
            # After the databases: a key that came later opens what was sealed before, not the other way round.
            names = [*DATABASES.values(), *_copy_keys(data_dir, scratch)]
            contents = Contents({name: (scratch / name).stat().st_size for name in names}, now_ms, program, schemas)
            _pack(scratch, contents, scratch / "whole", _Pace(pause))
            os.replace(scratch / "whole", file)
            sync(file.absolute().parent)
            return contents
    except (OSError, sqlite3.Error) as error:
        raise BackupImpossible(file, getattr(error, "strerror", None) or str(error)) from error


class _Pace:
    """Pauses as long as work took, and has the disk catch up with it."""

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self._began = time.monotonic()
        self._unsynced = 0

    def did(self, size: int, descriptor: int) -> None:
        """``size`` bytes were written to ``descriptor`` since the last call."""
        self._unsynced += size
        if self._unsynced >= _SYNC_EVERY:
            os.fdatasync(descriptor)
            self._unsynced = 0
        self._pause(min(time.monotonic() - self._began, _LONGEST_PAUSE_S))
        self._began = time.monotonic()


def _copy_databases(data_dir: Path, scratch: Path, pace: _Pace) -> dict[str, str]:
    """Returns their schemas."""
    schemas = {}
    with ExitStack() as stack:
        sources = {}
        for line in ("projected", "deciding"):
            source = stack.enter_context(closing(connect(data_dir / DATABASES[line], writable=False)))
            # A read opens the snapshot, and as long as it stands no write of the server's makes the copy begin anew.
            source.execute("BEGIN")
            ((schemas[line],),) = source.execute("SELECT version_num FROM alembic_version").fetchall()
            sources[line] = source
        for line, source in sources.items():
            file = scratch / DATABASES[line]
            _copy_database(source, file, pace)
            source.rollback()
            with closing(sqlite3.connect(file, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous=OFF")
                # No log beside the file: it is all there is.
                copy.execute("PRAGMA journal_mode=DELETE")
                if line == "deciding":
                    drop_sessions(copy)
            sync(file)
    return schemas


def _copy_database(source: sqlite3.Connection, file: Path, pace: _Pace) -> None:
    ((page_size,),) = source.execute("PRAGMA page_size").fetchall()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode=OFF")
            copy.execute("PRAGMA synchronous=OFF")
            copy.execute("PRAGMA cache_size=-1024")
            source.backup(
                copy,
                pages=_STEP_PAGES,
                progress=lambda _status, _left, _all: pace.did(_STEP_PAGES * page_size, descriptor),
            )
    finally:
        os.close(descriptor)


def _copy_keys(data_dir: Path, scratch: Path) -> list[str]:
    names = [name for name in KEY_FILES if (data_dir / name).is_file()]
    for folder in FOLDERS:
        if (data_dir / folder).is_dir():
            (scratch / folder).mkdir(mode=0o700)
            found = sorted(each.name for each in (data_dir / folder).iterdir() if each.is_file())
            names += [f"{folder}/{each}" for each in found if NAME.fullmatch(f"{folder}/{each}")]
    if len(names) + len(DATABASES) > MOST_FILES:
        raise OSError(f"there are {len(names)} files of keys and certificates, a backup takes {MOST_FILES}")
    for name in names:
        with (data_dir / name).open("rb") as source:
            content = source.read(_LONGEST_KEY_FILE + 1)
        if len(content) > _LONGEST_KEY_FILE:
            raise OSError(f"{name} is larger than {_LONGEST_KEY_FILE} bytes, so it is no key and no certificate")
        write_whole(scratch / name, content)
    return names


def _pack(scratch: Path, contents: Contents, file: Path, pace: _Pace) -> None:
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "program": contents.program,
        "made_ms": contents.made_ms,
        "schemas": contents.schemas,
        "files": {
            name: {"size": size, "sha256": _checksum(scratch / name, pace)} for name, size in contents.files.items()
        },
    }
    text = json.dumps(manifest, indent=1).encode()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as target,
        tarfile.open(fileobj=target, mode="w:", format=tarfile.PAX_FORMAT) as tar,
    ):
        tar.addfile(_member(MANIFEST, len(text), contents.made_ms), BytesIO(text))
        for name, size in contents.files.items():
            with (scratch / name).open("rb") as source:
                tar.addfile(
                    _member(name, size, contents.made_ms),
                    _Paced(source, pace, target.fileno()),
                )
        tar.close()
        target.flush()
        os.fsync(target.fileno())


def _member(name: str, size: int, made_ms: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    member.mtime = made_ms // 1000
    return member


class _Paced:
    """A file that is read at a pace."""

    def __init__(self, source: IO[bytes], pace: _Pace, written_to: int) -> None:
        self._source = source
        self._pace = pace
        self._written_to = written_to

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self._pace.did(len(chunk), self._written_to)
        return chunk


def _checksum(file: Path, pace: _Pace | None = None) -> str:
    digest = sha256()
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            if pace is not None:
                pace.did(0, source.fileno())
    return digest.hexdigest()
