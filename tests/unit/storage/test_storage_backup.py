"""A backup is whole or not there, a restore is what was, without sessions, and nothing foreign gets in."""

import asyncio
import io
import json
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.builders import NOW_MS, make_device, send, write
from tests.contract.test_keys_and_accounts import KEY
from tests.contract.test_sessions import put, session

from stellwerk.core.ids import DeviceId
from stellwerk.storage import backup
from stellwerk.storage.backup import BackupImpossible, make_backup
from stellwerk.storage.backup_format import MANIFEST, Contents
from stellwerk.storage.lock import DataDirInUse, DirectoryLock
from stellwerk.storage.migrations import (
    DECIDING_FILE,
    PROJECTED_FILE,
    UNFINISHED_RESTORE,
    RestoreUnfinished,
    migrate,
)
from stellwerk.storage.projector import Projector
from stellwerk.storage.restore import SET_ASIDE, RestoreRefused, restore_backup
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.token_key import TOKEN_KEY_FILE, load_token_key
from stellwerk.storage.vault import KEY_FILE

Member = tuple[str, bytes]


def no_pause(seconds: float) -> None:
    pass


def make(data_dir: Path, file: Path, **options: object) -> Contents:
    return make_backup(data_dir, file, "1.2.3", NOW_MS, pause=no_pause, **options)  # type: ignore[arg-type]


async def fill(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device = await make_device(store, "meter", credential=KEY)
    await write(store, [send(device.device_id, number) for number in range(4)])
    await put(store, session(device.device_id))
    await store.close()
    projector = Projector(data_dir)
    projector.run_all()
    projector.close()


@pytest.fixture
def filled(data_dir: Path) -> Path:
    asyncio.run(fill(data_dir))
    load_token_key(data_dir)
    (data_dir / "keys").mkdir()
    (data_dir / "keys" / "server.key").write_bytes(b"a private key")
    (data_dir / "keys" / "server.pem").write_bytes(b"a certificate")
    (data_dir / "trust").mkdir()
    (data_dir / "trust" / "acme ca.pem").write_bytes(b"an authority")
    return data_dir


def rows(data_dir: Path) -> list[str]:
    lines: list[str] = []
    for name in (DECIDING_FILE, PROJECTED_FILE):
        with closing(sqlite3.connect(data_dir / name)) as connection:
            lines += (each for each in connection.iterdump() if 'INTO "secure_session"' not in each)
    return lines


def files(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()}


def members(file: Path) -> list[Member]:
    with tarfile.open(file) as tar:
        return [(each.name, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]


def pack(file: Path, contents: list[Member], change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in contents:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            tar.addfile(member, io.BytesIO(content))


def test_what_was_backed_up_is_there_after_a_restore(filled: Path, tmp_path: Path) -> None:
    file, target = tmp_path / "backup.tar", tmp_path / "restored"
    made = make(filled, file)
    assert file.stat().st_mode & 0o777 == 0o600
    restored = restore_backup(target, file, NOW_MS)
    assert restored.contents == made
    assert restored.set_aside is None
    assert rows(target) == rows(filled)
    for name in (KEY_FILE, TOKEN_KEY_FILE, "keys/server.key", "keys/server.pem", "trust/acme ca.pem"):
        assert (target / name).read_bytes() == (filled / name).read_bytes()
    assert (target / "keys" / "server.key").stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in target.iterdir() if each.name.startswith(".")) == []
    assert migrate(target) == []

    async def look() -> None:
        store = await SqliteStore.open(target)
        assert await store.credential_of(DeviceId(1)) == KEY
        assert len(await store.projection.received_messages(DeviceId(1), 9, 0)) == 4
        await store.close()

    asyncio.run(look())


@pytest.mark.spec("SEC-1", "SEC-8")
def test_no_session_comes_back_from_a_backup(filled: Path, tmp_path: Path) -> None:
    file, target = tmp_path / "backup.tar", tmp_path / "restored"
    with closing(sqlite3.connect(filled / DECIDING_FILE)) as connection:
        connection.execute("INSERT INTO session_mark(time_ms,packed) VALUES (0,zeroblob(16))")
        connection.execute("INSERT INTO session_read SELECT session_id,1,1 FROM secure_session")
        connection.execute("INSERT INTO meta VALUES ('ticket-keys',x'00')")
        ((sealed,),) = connection.execute("SELECT sealed FROM secure_session").fetchall()
        connection.commit()
    make(filled, file)
    # Nor is there one in the file, for whoever unpacks it with other tools.
    assert sealed not in file.read_bytes()
    restore_backup(target, file, NOW_MS)
    with closing(sqlite3.connect(target / DECIDING_FILE)) as connection:
        for query in ("secure_session", "session_mark", "session_read", "meta WHERE name LIKE 'ticket%'"):
            assert connection.execute(f"SELECT count(*) FROM {query}").fetchall() == [(0,)]
    # A file made by other means may have some.
    contents = dict(members(file))
    copy = tmp_path / "copy.db"
    copy.write_bytes(contents[DECIDING_FILE])
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("INSERT INTO secure_session VALUES (1,x'01',1,0,'',0,0,0,0,x'')")
        connection.commit()
    manifest = json.loads(contents[MANIFEST])
    contents[DECIDING_FILE] = copy.read_bytes()
    manifest["files"][DECIDING_FILE] = {"size": copy.stat().st_size, "sha256": backup._checksum(copy)}
    contents[MANIFEST] = json.dumps(manifest).encode()
    pack(file, list(contents.items()))
    assert restore_backup(tmp_path / "other", file, NOW_MS).sessions == 1


def test_a_backup_is_of_one_moment_although_writes_go_on(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that begins anew whenever something is written would never end here."""
    monkeypatch.setattr(backup, "_STEP_PAGES", 16)
    started, stop = threading.Event(), threading.Event()
    written = 0

    def work() -> None:
        nonlocal written
        with closing(sqlite3.connect(filled / DECIDING_FILE, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE one(x)")
            connection.execute("CREATE TABLE two(x)")
            while not stop.is_set():
                connection.executescript("BEGIN; INSERT INTO one VALUES (1); INSERT INTO two VALUES (1); COMMIT")
                written += 1
                started.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    before = written

    def pause(seconds: float) -> None:
        # At every step of the copy there is something new.
        seen = written
        while written == seen and thread.is_alive():
            pass

    try:
        make_backup(filled, tmp_path / "backup.tar", "1", NOW_MS, pause=pause)
    finally:
        stop.set()
        thread.join()
    restore_backup(tmp_path / "restored", tmp_path / "backup.tar", NOW_MS)
    with closing(sqlite3.connect(tmp_path / "restored" / DECIDING_FILE)) as connection:
        ((one,),) = connection.execute("SELECT count(*) FROM one").fetchall()
        ((two,),) = connection.execute("SELECT count(*) FROM two").fetchall()
    assert before <= one == two < written


def test_a_backup_is_whole_or_not_there_and_replaces_nothing_unasked(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    file = folder / "backup.tar"
    make(filled, file)
    first = file.read_bytes()
    with pytest.raises(BackupImpossible, match="--force"):
        make(filled, file)

    class Full(OSError):
        pass

    def fail(seconds: float) -> None:
        raise Full("no room")

    with pytest.raises(BackupImpossible, match="no room"):
        make_backup(filled, file, "1", NOW_MS, replace=True, pause=fail)
    assert files(folder) == {"backup.tar": first}
    make(filled, file, replace=True)
    with pytest.raises(BackupImpossible, match="no database"):
        make(tmp_path / "nowhere", folder / "other.tar")
    with pytest.raises(BackupImpossible, match="No such file"):
        make(filled, folder / "missing" / "other.tar")
    assert [each.name for each in folder.iterdir()] == ["backup.tar"]


def test_a_directory_that_is_in_use_or_not_empty_is_left_alone(filled: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    make(filled, file)
    before = files(filled)
    with pytest.raises(RestoreRefused, match=r"not empty.*--replace"):
        restore_backup(filled, file, NOW_MS)
    lock = DirectoryLock.take(filled)
    with pytest.raises(DataDirInUse):
        restore_backup(filled, file, NOW_MS, replace=True)
    lock.release()
    assert {name: content for name, content in files(filled).items() if not name.endswith(".lock")} == {
        name: content for name, content in before.items() if not name.endswith(".lock")
    }


def test_what_is_replaced_is_set_aside_whole(filled: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    make(filled, file)
    with closing(sqlite3.connect(filled / DECIDING_FILE)) as connection:
        connection.execute("UPDATE device SET name='later'")
        connection.commit()
    later = {name: each for name, each in files(filled).items() if not name.endswith(".lock")}
    first = restore_backup(filled, file, NOW_MS, replace=True).set_aside
    assert first is not None
    assert first.name.startswith(SET_ASIDE)
    assert files(first) == later
    second = restore_backup(filled, file, NOW_MS, replace=True).set_aside
    assert second not in (None, first)
    assert files(first) == later
    with closing(sqlite3.connect(filled / DECIDING_FILE)) as connection:
        assert connection.execute("SELECT name FROM device").fetchall() == [("meter",)]


def test_where_something_cannot_be_set_aside_all_stays_in_its_place(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup.tar"
    make(filled, file)
    before = files(filled)
    rename = Path.rename

    def mounted(self: Path, target: Path) -> Path:
        if self == filled / "trust":
            raise OSError("Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", mounted)
    with pytest.raises(RestoreRefused, match=r"nothing was changed.*resource busy"):
        restore_backup(filled, file, NOW_MS, replace=True)
    after = {name: each for name, each in files(filled).items() if not name.endswith(".lock")}
    assert after == {name: each for name, each in before.items() if not name.endswith(".lock")}
    assert migrate(filled) == []


def test_a_restore_that_was_cut_off_is_no_empty_server(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backup.tar"
    make(filled, file)
    rename = Path.rename

    def stop_at_database(self: Path, target: Path) -> Path:
        if self.name == DECIDING_FILE and self.parent.name.startswith(".restore."):
            raise OSError("the power went")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop_at_database)
    with pytest.raises(RestoreUnfinished, match="--replace"):
        restore_backup(filled, file, NOW_MS, replace=True)
    monkeypatch.undo()
    with pytest.raises(RestoreUnfinished):
        migrate(filled)
    assert not (filled / DECIDING_FILE).exists()
    restore_backup(filled, file, NOW_MS, replace=True)
    assert not (filled / UNFINISHED_RESTORE).exists()
    assert migrate(filled) == []


def tampered(contents: list[Member]) -> dict[str, tuple[list[Member], str]]:
    """By what was done: members, and what the refusal says."""
    names = [name for name, _ in contents]
    at = names.index(DECIDING_FILE)

    listed = json.loads(contents[0][1])["files"]

    def manifest(**changes: object) -> list[Member]:
        text = json.dumps(json.loads(contents[0][1]) | changes).encode()
        return [(MANIFEST, text), *contents[1:]]

    def renamed(new: str) -> list[Member]:
        known = dict(listed)
        known[new] = known.pop("keys/server.key")
        return manifest(files=known)[:1] + [(new if n == "keys/server.key" else n, c) for n, c in contents[1:]]

    flipped = bytearray(contents[at][1])
    flipped[5000] ^= 1
    return {
        "no manifest": (contents[1:], "begins with manifest.json"),
        "empty": ([], "begins with manifest.json"),
        "no json": ([(MANIFEST, b"{"), *contents[1:]], "manifest is damaged"),
        "a list": ([(MANIFEST, b"[]"), *contents[1:]], "manifest is damaged"),
        "deep": ([(MANIFEST, b"[" * 100_000), *contents[1:]], "manifest is damaged"),
        "foreign": (manifest(format="something"), "no backup of this program"),
        "newer format": (manifest(format_version=9), "newer"),
        "newer schema": (manifest(schemas={"deciding": "9999", "projected": "0001"}), "9999"),
        "another schema": (manifest(schemas={"deciding": "0001", "projected": "0002"}), "another schema"),
        "sizes": (
            manifest(files={**json.loads(contents[0][1])["files"], KEY_FILE: {"size": 1, "sha256": ""}}),
            KEY_FILE,
        ),
        "a bit": ([*contents[:at], (DECIDING_FILE, bytes(flipped)), *contents[at + 1 :]], "stellwerk.db is damaged"),
        "one missing": (contents[:-1], "ends too early"),
        "one twice": ([*contents, contents[-1]], "does not name so"),
        "one more": ([*contents, ("more", b"")], "does not name so"),
        "up and out": (renamed("../outside.key"), "no backup of this program"),
        "through a folder": (renamed("keys/../../outside.key"), "no backup of this program"),
        "absolute": (renamed("/tmp/outside.key"), "no backup of this program"),
        "hidden": (renamed("keys/.hidden"), "no backup of this program"),
        "a lock": (renamed("stellwerk.lock"), "no backup of this program"),
    }


def test_a_damaged_or_foreign_file_is_refused_with_the_reason(filled: Path, tmp_path: Path) -> None:
    file, target = tmp_path / "backup.tar", tmp_path / "deep" / "target"
    make(filled, file)
    for contents, reason in tampered(members(file)).values():
        pack(file, contents)
        with pytest.raises(RestoreRefused, match=reason.replace(".", r"\.")):
            restore_backup(target, file, NOW_MS)
        assert {each.name for each in target.iterdir()} <= {"stellwerk.lock", "projector.lock"}
        assert sorted(each.name for each in tmp_path.iterdir()) == ["backup.tar", "data", "deep"]


def test_links_and_odd_members_are_refused_and_so_is_every_shorter_file(filled: Path, tmp_path: Path) -> None:
    file, target = tmp_path / "backup.tar", tmp_path / "target"
    make(filled, file)
    whole, contents = file.read_bytes(), members(file)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE):

        def change(member: tarfile.TarInfo, kind: bytes = kind) -> None:
            if member.name == "keys/server.key":
                member.type, member.linkname = kind, "/etc/passwd"

        pack(file, contents, change)
        with pytest.raises(RestoreRefused):
            restore_backup(target, file, NOW_MS)
    end = len(whole.rstrip(b"\0"))
    for size in (0, 100, 512, 1500, 30_000, end // 2, end - 10):
        file.write_bytes(whole[:size])
        with pytest.raises(RestoreRefused):
            restore_backup(target, file, NOW_MS)
    file.write_bytes(b"certainly no tar file" * 1000)
    with pytest.raises(RestoreRefused, match="no backup"):
        restore_backup(target, file, NOW_MS)
    file.unlink()
    with pytest.raises(RestoreRefused, match="No such file"):
        restore_backup(target, file, NOW_MS)
    assert {each.name for each in target.iterdir()} <= {"stellwerk.lock", "projector.lock"}
