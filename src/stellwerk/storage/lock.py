"""One server on one data directory, one projector on one file: an advisory lock that the system lets go of when its
process ends, however it ends."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from stellwerk.core.errors import UserError

SERVER_LOCK: Final = "stellwerk.lock"
PROJECTOR_LOCK: Final = "projector.lock"
"""The server's helper has one of its own: it ends by itself after a server that was killed, so a moment later than its
server, and must not meet its successor."""


@dataclass
class DataDirInUse(UserError):
    """Another server works in ``data_dir``; ``holder`` is its process, 0 where it is not known."""

    data_dir: Path
    holder: int

    def __str__(self) -> str:
        who = f"another server (process {self.holder})" if self.holder else "another server"
        return (
            f"{who} works in the data directory {self.data_dir.absolute()}; "
            "stop it, or name another directory in STELLWERK_DATA_DIR"
        )


@dataclass
class DataDirUnusable(UserError):
    """``data_dir`` cannot be made, read or written; ``reason`` is the system's word."""

    data_dir: Path
    reason: str

    def __str__(self) -> str:
        return (
            f"cannot work in the data directory {self.data_dir.absolute()}: {self.reason}; "
            "make it writable for this user and make room on its disk, or name another one in STELLWERK_DATA_DIR"
        )


class DirectoryLock:
    """An exclusive lock, held from `take` to `release` or to the end of the process. Children do not inherit it."""

    def __init__(self, descriptor: int) -> None:
        """Use `take`."""
        self._descriptor = descriptor

    @classmethod
    def take(cls, data_dir: Path, name: str = SERVER_LOCK, *, wait: bool = False) -> Self:
        """Make ``data_dir`` where it is missing and lock it. Raises `DataDirInUse` where somebody else has it (with
        ``wait``, comes back when they let go), and `DataDirUnusable`."""
        try:
            # What lies in there is nobody else's to read, keys or not.
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(data_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileExistsError as error:
            raise DataDirUnusable(data_dir, "it is no directory") from error
        except OSError as error:
            raise DataDirUnusable(data_dir, error.strerror or str(error)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise DataDirInUse(data_dir, holder) from None
        except OSError as error:
            os.close(descriptor)
            raise DataDirUnusable(data_dir, error.strerror or str(error)) from error
        return cls(descriptor)

    def release(self) -> None:
        """Let go. The file stays: to remove it would let two processes lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _holder(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0
