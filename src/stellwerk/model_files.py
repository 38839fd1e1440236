"""Finding and reading DDF files: single ones, folders, zip archives. What people hand in may be anything: everything
read is bounded, and nothing is ever unpacked to the disk."""

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.schema.ddf import MAX_OCTETS

MAX_FILES: Final = 20_000
MAX_ARCHIVE_OCTETS: Final = 64 << 20
MAX_UNPACKED_OCTETS: Final = 256 << 20
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""The others unpack a piece at once, however much comes out of it."""
_ARCHIVES: Final = frozenset({".zip", ".gz", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz"})
_UNREADABLE: Final = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, ValueError, NotImplementedError)
"""What `zipfile` raises for archives that are damaged, encrypted or of a kind it does not know."""


class NotReadable(UserError):
    """A file that is not even looked into; the text says why."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """``read`` gives at most `MAX_OCTETS`, or raises `NotReadable`. ``named``: the user named this very file."""

    name: str
    read: Callable[[], bytes]
    named: bool = False


def find_model_files(paths: Iterable[Path]) -> tuple[list[ModelFile], int]:
    """The DDF files under ``paths``, and how many others in folders and archives were passed over.

    In a folder those nearest to its top come first: where a registry keeps former files below, the current ones count.
    Hidden files and links to folders are passed over. Raises `NotReadable` for more than `MAX_FILES`.
    """
    found: list[ModelFile] = []
    others = 0
    for path in paths:
        if path.is_dir():
            files, rest = _in_folder(path)
        elif path.is_file() and zipfile.is_zipfile(path):
            files, rest = _in_archive(path)
        else:
            files, rest = [ModelFile(str(path), lambda path=path: _read(path), named=True)], 0  # type: ignore[misc]
        found += files
        others += rest
        if len(found) > MAX_FILES:
            raise NotReadable(f"more than {MAX_FILES} files; import them in portions")
    return found, others


def _in_folder(folder: Path) -> tuple[list[ModelFile], int]:
    found: list[tuple[int, str, Path]] = []
    unread: list[ModelFile] = []
    others = 0

    def closed(error: OSError) -> None:
        unread.append(_refused(str(error.filename), error.strerror or str(error)))

    for root, folders, names in os.walk(folder, onerror=closed):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        depth = len(Path(root).parts)
        for name in names:
            if name.startswith(".") or not name.lower().endswith(".xml"):
                others += 1
                continue
            found.append((depth, name, Path(root, name)))
            if len(found) > MAX_FILES:
                raise NotReadable(f"more than {MAX_FILES} files; import them in portions")
    found.sort()
    files = [ModelFile(str(path), lambda path=path: _read(path)) for _, _, path in found]  # type: ignore[misc]
    if not files and not unread:
        unread.append(_refused(str(folder), "no XML file in it or below it", named=True))
    return files + unread, others


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotReadable("neither a file nor a folder")
        with path.open("rb") as file:
            data = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise NotReadable(error.strerror or str(error)) from None
    return _bounded(data)


def _in_archive(path: Path) -> tuple[list[ModelFile], int]:
    def refused(reason: str) -> tuple[list[ModelFile], int]:
        return [_refused(str(path), reason, named=True)], 0

    try:
        size = path.stat().st_size
        if size > MAX_ARCHIVE_OCTETS:
            return refused(f"the archive has {size} octets, more than {MAX_ARCHIVE_OCTETS}")
        # Open as long as its files are read, which is as long as the command runs.
        archive = zipfile.ZipFile(path)
        entries = archive.infolist()
    except _UNREADABLE as error:
        return refused(f"not a readable archive: {error}")
    if len(entries) > MAX_FILES:
        return refused(f"the archive has {len(entries)} entries, more than {MAX_FILES}")
    # As stated; more than that is never read of an entry.
    unpacked = sum(each.file_size for each in entries)
    if unpacked > MAX_UNPACKED_OCTETS:
        return refused(f"the archive unpacks to {unpacked} octets, more than {MAX_UNPACKED_OCTETS}")
    found: list[tuple[int, str, ModelFile]] = []
    others = 0
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        if entry.is_dir():
            continue
        file = _entry(archive, entry, f"{path}:{name}", parts)
        if file is None:
            others += 1
        else:
            found.append((len(parts), name, file))
    if not found:
        return refused("no XML file in it")
    found.sort(key=lambda each: each[:2])
    return [each for _, _, each in found], others


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, parts: tuple[str, ...]) -> ModelFile | None:
    """None for what is passed over."""
    if not parts or "\\" in entry.filename or ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
        return _refused(name, "the name leads out of the archive")
    if any(each.startswith(".") or each == "__MACOSX" for each in parts):
        return None
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if suffix in _ARCHIVES:
        return _refused(name, "an archive in an archive is not opened; import it by itself")
    if suffix != ".xml":
        return None
    if stat.S_ISLNK(entry.external_attr >> 16):
        return _refused(name, "a link, not a file")
    if entry.flag_bits & 1:
        return _refused(name, "encrypted; unpack it and import the files")
    if entry.compress_type not in _METHODS:
        return _refused(name, f"compressed by method {entry.compress_type}; write the archive with deflate")

    def read() -> bytes:
        try:
            with archive.open(entry) as file:
                # Whatever size the archive states: no more than this is unpacked.
                data = file.read(MAX_OCTETS + 1)
        except _UNREADABLE as error:
            raise NotReadable(f"damaged in the archive: {error}") from None
        return _bounded(data)

    return ModelFile(name, read)


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_OCTETS:
        raise NotReadable(f"more than {MAX_OCTETS} octets; no definition is that long")
    return data


def _refused(name: str, reason: str, named: bool = False) -> ModelFile:
    def read() -> bytes:
        raise NotReadable(reason)

    return ModelFile(name, read, named)
