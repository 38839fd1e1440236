"""One server works in a data directory; the next one is told, and may when the first has ended, however it ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stellwerk.storage.lock import PROJECTOR_LOCK, SERVER_LOCK, DataDirInUse, DataDirUnusable, DirectoryLock
from stellwerk.storage.token_key import load_token_key

HOLD = """
import sys
from pathlib import Path
from stellwerk.storage.lock import DirectoryLock
lock = DirectoryLock.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_lock_is_refused_with_directory_holder_and_remedy(tmp_path: Path) -> None:
    lock = DirectoryLock.take(tmp_path / "new" / "data")
    with pytest.raises(DataDirInUse) as refused:
        DirectoryLock.take(tmp_path / "new" / "data")
    text = str(refused.value)
    assert str(tmp_path / "new" / "data") in text
    assert f"process {os.getpid()}" in text
    assert "STELLWERK_DATA_DIR" in text
    lock.release()
    lock.release()
    DirectoryLock.take(tmp_path / "new" / "data").release()


def test_the_two_locks_are_strangers_to_each_other(tmp_path: Path) -> None:
    first, second = DirectoryLock.take(tmp_path, SERVER_LOCK), DirectoryLock.take(tmp_path, PROJECTOR_LOCK)
    first.release()
    second.release()


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataDirInUse) as refused:
            DirectoryLock.take(tmp_path)
        assert refused.value.holder == holder.pid
        holder.kill()
        # Comes back only because the kernel lets go for the dead.
        DirectoryLock.take(tmp_path, wait=True).release()


def test_a_directory_that_cannot_be_made_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirUnusable, match=r"file/data: Not a directory; .*STELLWERK_DATA_DIR"):
        DirectoryLock.take(tmp_path / "file" / "data")
    with pytest.raises(DataDirUnusable, match="no directory"):
        DirectoryLock.take(tmp_path / "file")


def test_a_new_data_directory_is_for_its_user_alone(tmp_path: Path) -> None:
    DirectoryLock.take(tmp_path / "by-server").release()
    load_token_key(tmp_path / "by-command")
    for name in ("by-server", "by-command"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
