"""What `storage.backup` made, put into a data directory: verified whole before anything changes there."""

import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
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
from stellwerk.storage.lock import PROJECTOR_LOCK, SERVER_LOCK, DirectoryLock
from stellwerk.storage.migrations import HEADS, UNFINISHED_RESTORE, RestoreUnfinished, revision

SET_ASIDE: Final = "before-restore-"
_SCRATCH: Final = ".restore."
_LONGEST_MANIFEST: Final = 8 << 20
_NOT_DATA: Final = frozenset({SERVER_LOCK, PROJECTOR_LOCK, "lost+found"})


@dataclass
class RestoreRefused(UserError):
    """``file`` is not restored, and nothing was changed; ``reason`` says why and what would be right."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file} was not restored, nothing was changed: {self.reason}"


@dataclass(frozen=True, slots=True)
class Restored:
    """``set_aside``: where what was there before is now. ``sessions``: secure sessions that were dropped."""

    contents: Contents
    set_aside: Path | None
    sessions: int


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
        with scratch_folder(data_dir, _SCRATCH) as scratch:
            contents = _unpack(file, source, scratch)
            sessions = _verify(file, scratch, contents)
            return Restored(contents, _put_in_place(data_dir, scratch, contents, present, now_ms), sessions)
    except OSError as error:
        raise RestoreRefused(file, f"{data_dir.absolute()}: {error.strerror or error}") from error


def _unpack(file: Path, source: IO[bytes], scratch: Path) -> Contents:
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            contents, checksums = _read_manifest(file, tar)
            for folder in FOLDERS:
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
        schemas = {line: str(manifest["schemas"][line]) for line in DATABASES}
        files = {str(name): int(each["size"]) for name, each in manifest["files"].items()}
        checksums = {str(name): str(each["sha256"]) for name, each in manifest["files"].items()}
        contents = Contents(files, int(manifest["made_ms"]), str(manifest["program"])[:40], schemas)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RestoreRefused(file, f"its manifest is damaged: {error!r:.100}; take another backup") from error
    for line, schema in schemas.items():
        if schema > HEADS[line]:
            raise RestoreRefused(
                file,
                f"it has schema {schema[:20]} of {DATABASES[line]}, this version knows {HEADS[line]}; restore it with "
                f"version {contents.program}, which made it",
            )
    missing = [name for name in DATABASES.values() if name not in files]
    if missing:
        raise RestoreRefused(file, f"{missing[0]} is not in it; take another backup")
    known = {*DATABASES.values(), *KEY_FILES}
    strange = [name for name in files if name not in known and not NAME.fullmatch(name)]
    if strange or len(files) > MOST_FILES:
        raise RestoreRefused(file, f"it holds {str(strange[:1])[:80]}, which is in no backup of this program")
    return contents, checksums


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> str:
    source = tar.extractfile(member)
    assert source is not None
    digest = sha256()
    mode = 0o644 if to.suffix == ".pem" else 0o600
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def _verify(file: Path, scratch: Path, contents: Contents) -> int:
    """Looks into both databases, and drops the sessions; returns how many."""
    sessions = 0
    for line, name in DATABASES.items():
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
        sync(scratch / name)
    return sessions


def _put_in_place(
    data_dir: Path, scratch: Path, contents: Contents, present: Sequence[Path], now_ms: int
) -> Path | None:
    """Renames only, all on one disk. Whoever opens the directory while `UNFINISHED_RESTORE` lies in it refuses. Raises
    `RestoreUnfinished`, and OSError where nothing was changed."""
    mark = data_dir / UNFINISHED_RESTORE
    write_whole(mark, b"")
    try:
        set_aside = _set_aside(data_dir, present, now_ms)
    except OSError:
        if mark not in present:
            mark.unlink()
        raise
    try:
        names = [name for name in contents.files if "/" not in name]
        folders = [each for each in FOLDERS if any(name.startswith(f"{each}/") for name in contents.files)]
        for name in (*folders, *names):
            (scratch / name).rename(data_dir / name)
        sync(data_dir)
        mark.unlink()
        sync(data_dir)
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
