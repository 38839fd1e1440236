"""A backup: one tar file with both databases, the keys and the certificates of a data directory, and a manifest with
their checksums.

It is made beside a running server. Each database is copied from one snapshot, that of ``projected.db`` taken first, so
that the projection is never ahead of the journal. The copy pauses as long as it works and lets the disk catch up every
few megabytes, so that no acknowledgement waits for it. Secure sessions are left out: a copy of one that goes on here
would number its records there as it did here, and AES-GCM and CCM forbid that under one key.
"""

import json
import os
import re
import secrets
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Final

from stellwerk.core.errors import UserError
from stellwerk.storage.lock import PROJECTOR_LOCK, SERVER_LOCK, DirectoryLock
from stellwerk.storage.migrations import (
    DECIDING_FILE,
    HEADS,
    PROJECTED_FILE,
    UNFINISHED_RESTORE,
    RestoreUnfinished,
    revision,
)
from stellwerk.storage.sqlite.connection import connect
from stellwerk.storage.token_key import TOKEN_KEY_FILE
from stellwerk.storage.vault import KEY_FILE

MANIFEST: Final = "manifest.json"
FORMAT: Final = "stellwerk-backup"
FORMAT_VERSION: Final = 1
SET_ASIDE: Final = "before-restore-"

_SCRATCH: Final = ".restore."
_DATABASES: Final = {"deciding": DECIDING_FILE, "projected": PROJECTED_FILE}
_KEY_FILES: Final = (KEY_FILE, TOKEN_KEY_FILE)
_FOLDERS: Final = ("keys", "trust")
_NAME: Final = re.compile(r"(?:keys|trust)/[0-9A-Za-z_-][0-9A-Za-z_.:@ -]{0,200}")
"""What besides databases and keys may be in a backup: no name leads out of these folders."""
_MOST_FILES: Final = 10_000
_LONGEST_MANIFEST: Final = 8 << 20
_LONGEST_KEY_FILE: Final = 16 << 20
_STEP_PAGES: Final = 128
_CHUNK: Final = 1 << 20
_SYNC_EVERY: Final = 8 << 20
"""Bytes that the system may hold back at most: a sync of the server's may have to wait for them."""
_LONGEST_PAUSE_S: Final = 0.05
_NOT_DATA: Final = frozenset({SERVER_LOCK, PROJECTOR_LOCK, "lost+found"})


@dataclass
class BackupImpossible(UserError):
    """``file`` cannot be made; ``reason`` says why and what would be right."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"no backup was made to {self.file}: {self.reason}"


@dataclass
class RestoreRefused(UserError):
    """``file`` is not restored, and nothing was changed; ``reason`` says why and what would be right."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file} was not restored, nothing was changed: {self.reason}"


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


@dataclass(frozen=True, slots=True)
class Restored:
    """``set_aside``: where what was there before is now. ``sessions``: secure sessions that were dropped."""

    contents: Contents
    set_aside: Path | None
    sessions: int


# -- making one --


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
        with _scratch_folder(file.absolute().parent, f".{file.name}.") as scratch:
            schemas = _copy_databases(data_dir, scratch, _Pace(pause))
            # After the databases: a key that came later opens what was sealed before, not the other way round.
            names = [*_DATABASES.values(), *_copy_keys(data_dir, scratch)]
            contents = Contents({name: (scratch / name).stat().st_size for name in names}, now_ms, program, schemas)
            _pack(scratch, contents, scratch / "whole", _Pace(pause))
            os.replace(scratch / "whole", file)
            _sync(file.absolute().parent)
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
            source = stack.enter_context(closing(connect(data_dir / _DATABASES[line], writable=False)))
            # A read opens the snapshot, and as long as it stands no write of the server's makes the copy begin anew.
            source.execute("BEGIN")
            ((schemas[line],),) = source.execute("SELECT version_num FROM alembic_version").fetchall()
            sources[line] = source
        for line, source in sources.items():
            file = scratch / _DATABASES[line]
            _copy_database(source, file, pace)
            source.rollback()
            with closing(sqlite3.connect(file, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous=OFF")
                # No log beside the file: it is all there is.
                copy.execute("PRAGMA journal_mode=DELETE")
                if line == "deciding":
                    drop_sessions(copy)
            _sync(file)
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


def drop_sessions(connection: sqlite3.Connection) -> int:
    """Forget every secure session, every read mark and what tickets are sealed with; how many sessions there were. Of a
    schema without sessions: none."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='secure_session'").fetchall():
        return 0
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM session_read")
    connection.execute("DELETE FROM session_mark")
    dropped = connection.execute("DELETE FROM secure_session").rowcount
    connection.execute("DELETE FROM meta WHERE name LIKE 'ticket%'")
    connection.execute("COMMIT")
    return dropped


def _copy_keys(data_dir: Path, scratch: Path) -> list[str]:
    names = [name for name in _KEY_FILES if (data_dir / name).is_file()]
    for folder in _FOLDERS:
        if (data_dir / folder).is_dir():
            (scratch / folder).mkdir(mode=0o700)
            found = sorted(each.name for each in (data_dir / folder).iterdir() if each.is_file())
            names += [f"{folder}/{each}" for each in found if _NAME.fullmatch(f"{folder}/{each}")]
    if len(names) + len(_DATABASES) > _MOST_FILES:
        raise OSError(f"there are {len(names)} files of keys and certificates, a backup takes {_MOST_FILES}")
    for name in names:
        with (data_dir / name).open("rb") as source:
            content = source.read(_LONGEST_KEY_FILE + 1)
        if len(content) > _LONGEST_KEY_FILE:
            raise OSError(f"{name} is larger than {_LONGEST_KEY_FILE} bytes, so it is no key and no certificate")
        _write(scratch / name, content)
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
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            if pace is not None:
                pace.did(0, source.fileno())
    return digest.hexdigest()


# -- restoring one --


def restore_backup(data_dir: Path, file: Path, now_ms: int, *, replace: bool = False) -> Restored:
    """Make ``data_dir`` what it was when the backup was made, without its secure sessions. It has to be empty;
    ``replace``: what is in there is set aside first. Everything is verified before anything changes. Raises
    `RestoreRefused`, `DataDirInUse` beside a server, and `RestoreUnfinished`."""
    try:
        source = file.open("rb")
    except OSError as error:
        raise RestoreRefused(file, error.strerror or str(error)) from error
    with source:
        lock = DirectoryLock.take(data_dir)
        try:
            helper = DirectoryLock.take(data_dir, PROJECTOR_LOCK)
            try:
                return _restore(data_dir, file, source, now_ms, replace)
            finally:
                helper.release()
        finally:
            lock.release()


def _restore(data_dir: Path, file: Path, source: IO[bytes], now_ms: int, replace: bool) -> Restored:
    for left in data_dir.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    present = [each for each in sorted(data_dir.iterdir()) if each.name not in _NOT_DATA]
    if present and not replace:
        raise RestoreRefused(
            file,
            f"{data_dir.absolute()} is not empty ({present[0].name} ...); name another directory in "
            "STELLWERK_DATA_DIR, or say --replace: what is there is set aside then",
        )
    try:
        with _scratch_folder(data_dir, _SCRATCH) as scratch:
            contents = _unpack(file, source, scratch)
            sessions = _verify(file, scratch, contents)
            return Restored(contents, _put_in_place(data_dir, scratch, contents, present, now_ms), sessions)
    except OSError as error:
        raise RestoreRefused(file, f"{data_dir.absolute()}: {error.strerror or error}") from error


def _unpack(file: Path, source: IO[bytes], scratch: Path) -> Contents:
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            contents, checksums = _read_manifest(file, tar)
            for folder in _FOLDERS:
                (scratch / folder).mkdir(mode=0o700)
            left = dict(contents.files)
            while (member := tar.next()) is not None:
                size = left.pop(member.name, -1)
                if size != member.size or not _is_plain(member):
                    raise RestoreRefused(file, f"it holds {member.name[:80]!r}, which its manifest does not name so")
                if _unpack_member(tar, member, scratch / member.name) != checksums[member.name]:
                    raise RestoreRefused(
                        file, f"{member.name} is damaged, its checksum is another; take another backup"
                    )
            if left:
                raise RestoreRefused(file, f"it ends too early: {next(iter(left))} is missing; take another backup")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise RestoreRefused(file, f"it is no backup, or damaged: {error}") from error
    return contents


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


def _read_manifest(file: Path, tar: tarfile.TarFile) -> tuple[Contents, dict[str, str]]:
    first = tar.next()
    if first is None or first.name != MANIFEST or not _is_plain(first) or first.size > _LONGEST_MANIFEST:
        raise RestoreRefused(file, f"it is no backup of this program: a backup begins with {MANIFEST}")
    extracted = tar.extractfile(first)
    assert extracted is not None
    try:
        manifest = json.loads(extracted.read())
        if manifest["format"] != FORMAT:
            raise RestoreRefused(file, "it is no backup of this program: its manifest says something else")
        if manifest["format_version"] > FORMAT_VERSION:
            raise RestoreRefused(
                file, f"a newer version made it ({str(manifest['program'])[:40]}); restore with that one"
            )
        schemas = {line: str(manifest["schemas"][line]) for line in _DATABASES}
        files = {str(name): int(each["size"]) for name, each in manifest["files"].items()}
        checksums = {str(name): str(each["sha256"]) for name, each in manifest["files"].items()}
        contents = Contents(files, int(manifest["made_ms"]), str(manifest["program"])[:40], schemas)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RestoreRefused(file, f"its manifest is damaged: {error!r:.100}; take another backup") from error
    for line, schema in schemas.items():
        if schema > HEADS[line]:
            raise RestoreRefused(
                file,
                f"it has schema {schema[:20]} of {_DATABASES[line]}, this version knows {HEADS[line]}; restore it with "
                f"version {contents.program}, which made it",
            )
    missing = [name for name in _DATABASES.values() if name not in files]
    if missing:
        raise RestoreRefused(file, f"{missing[0]} is not in it; take another backup")
    known = {*_DATABASES.values(), *_KEY_FILES}
    strange = [name for name in files if name not in known and not _NAME.fullmatch(name)]
    if strange or len(files) > _MOST_FILES:
        raise RestoreRefused(file, f"it holds {str(strange[:1])[:80]}, which is in no backup of this program")
    return contents, checksums


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> str:
    source = tar.extractfile(member)
    assert source is not None
    digest = sha256()
    mode = 0o644 if to.suffix == ".pem" else 0o600
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def _verify(file: Path, scratch: Path, contents: Contents) -> int:
    """Looks into both databases, and drops the sessions; returns how many."""
    sessions = 0
    for line, name in _DATABASES.items():
        try:
            if revision(scratch / name) != contents.schemas[line]:
                raise RestoreRefused(file, f"{name} has another schema than its manifest says; take another backup")
            with closing(sqlite3.connect(scratch / name, isolation_level=None)) as connection:
                ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
                if verdict != "ok":
                    raise RestoreRefused(file, f"{name} is damaged ({str(verdict)[:100]}); take another backup")
                if line == "deciding":
                    sessions = drop_sessions(connection)
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise RestoreRefused(file, f"{name} is no database, or damaged: {error}; take another backup") from error
        _sync(scratch / name)
    return sessions


def _put_in_place(
    data_dir: Path, scratch: Path, contents: Contents, present: Sequence[Path], now_ms: int
) -> Path | None:
    """Renames only, all on one disk. Whoever opens the directory while `UNFINISHED_RESTORE` lies in it refuses. Raises
    `RestoreUnfinished`, and OSError where nothing was changed."""
    mark = data_dir / UNFINISHED_RESTORE
    _write(mark, b"")
    try:
        set_aside = _set_aside(data_dir, present, now_ms)
    except OSError:
        if mark not in present:
            mark.unlink()
        raise
    try:
        names = [name for name in contents.files if "/" not in name]
        folders = [each for each in _FOLDERS if any(name.startswith(f"{each}/") for name in contents.files)]
        for name in (*folders, *names):
            (scratch / name).rename(data_dir / name)
        _sync(data_dir)
        mark.unlink()
        _sync(data_dir)
    except OSError as error:
        raise RestoreUnfinished(data_dir) from error
    return set_aside


def _set_aside(data_dir: Path, present: Sequence[Path], now_ms: int) -> Path | None:
    moving = [each for each in present if each.name != UNFINISHED_RESTORE and not each.name.startswith(SET_ASIDE)]
    if not moving:
        return None
    folder = data_dir / f"{SET_ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now_ms / 1000))}"
    while folder.exists():
        folder = folder.with_name(folder.name + "x")
    folder.mkdir(mode=0o700)
    moved: list[Path] = []
    try:
        for each in moving:
            each.rename(folder / each.name)
            moved.append(each)
    except OSError:
        # Something that cannot be moved, a mounted folder say.
        for each in moved:
            (folder / each.name).rename(each)
        folder.rmdir()
        raise
    return folder


# -- files --


@contextmanager
def _scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
