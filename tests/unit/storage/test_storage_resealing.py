"""The master key is exchanged, and nothing that could be read is lost on the way."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary
from tests.contract.builders import make_device
from tests.contract.test_sessions import put, session
from tests.migrations.keep import DATABASES, KEY, VAULT

from stellwerk.config import Settings
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import RPK, Credential
from stellwerk.storage import resealing, schema
from stellwerk.storage.lock import DataDirInUse, DirectoryLock
from stellwerk.storage.migrations import DECIDING_FILE, PROJECTED_FILE, migrate
from stellwerk.storage.resealing import SEALED, find_unreadable, is_all_current, reseal
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.vault import KEY_FILE, MasterKeyUnusable, SecretUnreadable, Vault, read_keys
from stellwerk.vault_commands import NothingToRotate, rotate

OLD, NEW, OTHER = (bytes([each]) * 32 for each in (1, 2, 3))


async def fill(data_dir: Path, vault: Vault | None, count: int = 3) -> None:
    store = await SqliteStore.open(data_dir, vault=vault)
    for number in range(count):
        secret, bootstrap, _ = ALL[number]
        credential = Credential(f"key-{number}", secret, kind=RPK, key_id=f"rpk:{number}", bootstrap=bootstrap)
        device = await make_device(store, f"dev-{number}", credential=credential)
        await put(store, session(device.device_id, number))
    await store.close()


async def secrets_in(data_dir: Path, vault: Vault | None) -> list[tuple[str, str, bytes]]:
    store = await SqliteStore.open(data_dir, vault=vault)
    found = []
    for device_id in map(DeviceId, range(1, 4)):
        credential = await store.credential_of(device_id)
        assert credential is not None
        (kept,) = await store.sessions_of(device_id)
        found.append((credential.secret, credential.bootstrap, kept.state))
    await store.close()
    return found


ALL = [(f"psk-text:secret-{each}", f'{{"n":{each}}}', b"keys %d" % each) for each in range(3)]


def test_a_vault_opens_with_former_keys_and_seals_with_the_first() -> None:
    sealed = Vault(OLD).seal(b"secret", b"whose")
    both = Vault(NEW, OLD)
    assert both.open(sealed, b"whose") == b"secret"
    assert not both.is_current(sealed)
    anew = both.seal(b"secret", b"whose")
    assert both.is_current(anew)
    assert Vault(NEW).open(anew, b"whose") == b"secret"
    for vault, text in ((Vault(NEW), sealed), (Vault(OLD), anew), (both, b""), (both, anew[:-1])):
        with pytest.raises(SecretUnreadable, match="whose"):
            vault.open(text, b"whose")
    with pytest.raises(SecretUnreadable):
        both.open(anew, b"whose else")


def test_a_master_key_that_does_not_fit_is_noticed_without_opening_everything(tmp_path: Path) -> None:
    migrate(tmp_path)
    assert find_unreadable(tmp_path, Vault(NEW)) is None
    asyncio.run(fill(tmp_path, Vault(OLD)))
    assert find_unreadable(tmp_path, Vault(NEW, OLD)) is None
    assert str(find_unreadable(tmp_path, Vault(NEW))).startswith(
        "a stored secret (key of device 1) cannot be decrypted"
    )
    assert find_unreadable(tmp_path, Vault(NEW), look_at=0) is None


def test_what_versions_before_sealed_still_opens_whichever_of_the_keys_it_was(tmp_path: Path) -> None:
    migrate(tmp_path)
    for name in (DECIDING_FILE, PROJECTED_FILE):
        (tmp_path / name).unlink()
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.executescript((DATABASES / "0003-0002" / name).with_suffix(".sql").read_text())
    migrate(tmp_path)
    with closing(sqlite3.connect(tmp_path / DECIDING_FILE)) as connection:
        ((device_id, sealed),) = connection.execute("SELECT device_id,secret FROM credential").fetchall()
    context = f"key of device {device_id}".encode()
    kept_key = b"kept databases, not a secret key"
    assert sealed[:1] == b"\x01"
    for vault in (VAULT, Vault(NEW, kept_key), Vault(kept_key, OLD)):
        assert vault.open(sealed, context).decode() == KEY.secret
        assert not vault.is_current(sealed)
    assert reseal(tmp_path, Vault(NEW, kept_key)).sealed == 1
    assert is_all_current(tmp_path, Vault(NEW))


def test_a_key_file_holds_former_keys_below_and_what_is_no_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / KEY_FILE
    file.write_text(f"{NEW.hex()}\n{OLD.hex()}\n")
    sealed = Vault(OLD).seal(b"secret", b"whose")
    assert Vault.load(tmp_path, None).open(sealed, b"whose") == b"secret"
    assert Vault.load(tmp_path, OTHER.hex()).open(sealed, b"whose") == b"secret"
    assert Vault.load(tmp_path, OTHER.hex()).is_current(Vault(OTHER).seal(b"", b""))
    for text in ("", "xyz", f"{NEW.hex()}\nxyz", "\n".join([NEW.hex()] * 17)):
        file.write_text(text)
        with pytest.raises(MasterKeyUnusable) as caught:
            Vault.load(tmp_path, None)
        assert NEW.hex() not in str(caught.value)
    file.unlink()
    assert Vault.load(tmp_path, NEW.hex(), f"{OTHER.hex()}, {OLD.hex()}").open(sealed, b"whose") == b"secret"
    assert not file.exists()


def test_every_sealed_column_is_known_to_the_rotation() -> None:
    known = {(each.table, each.column) for each in SEALED}
    # Blobs that hold no secrets.
    plain = {
        ("meta", "value"),
        ("registration", "body"),
        ("observation", "token"),
        ("object_model", "source"),
        ("object_list", "body"),
        ("journal", "receipts"),
        ("journal", "entries"),
        ("secure_session", "session_id"),
        ("session_mark", "packed"),
        ("session_read", "session_id"),
        ("oscore_context", "sender_id"),
        ("oscore_context", "id_context"),
        ("oscore_context", "fingerprint"),
        ("oscore_spent", "fingerprint"),
    }
    blobs = {
        (table.name, column.name)
        for table in schema.deciding.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert known == blobs - plain


def test_a_rotation_that_was_killed_goes_on_and_nothing_is_unreadable_meanwhile(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(fill(data_dir, Vault(OLD)))
    monkeypatch.setattr(resealing, "SLICE", 2)

    class Killed(Exception):
        pass

    def kill(count: int) -> None:
        if count:
            raise Killed

    both = Vault(NEW, OLD)
    runs = 0
    while not is_all_current(data_dir, both):
        with pytest.raises(Killed):
            reseal(data_dir, both, kill)
        runs += 1
        assert asyncio.run(secrets_in(data_dir, both)) == ALL
    assert runs > 1
    assert asyncio.run(secrets_in(data_dir, Vault(NEW))) == ALL
    assert reseal(data_dir, both).sealed == 0


def test_what_no_key_opens_stays_as_it_is_and_is_named(data_dir: Path) -> None:
    asyncio.run(fill(data_dir, Vault(OLD), 2))
    other = Vault(OTHER)
    with closing(sqlite3.connect(data_dir / DECIDING_FILE, isolation_level=None)) as connection:
        sealed = other.seal(b"lost", b"key of device 2")
        connection.execute("UPDATE credential SET secret=? WHERE device_id=2", (sealed,))
    done = reseal(data_dir, Vault(NEW, OLD))
    assert (done.sealed, done.unreadable, done.unreadable_count) == (5, ["key of device 2"], 1)
    with closing(sqlite3.connect(data_dir / DECIDING_FILE)) as connection:
        assert connection.execute("SELECT secret FROM credential WHERE device_id=2").fetchall() == [(sealed,)]


def test_the_command_puts_a_new_key_into_the_file_and_keeps_the_former(data_dir: Path) -> None:
    asyncio.run(fill(data_dir, None))
    settings = Settings(data_dir=data_dir)
    (first,) = read_keys(data_dir / KEY_FILE)
    said = rotate(settings)
    assert said[0] == "9 secrets are sealed with the new master key"
    second, former = read_keys(data_dir / KEY_FILE)
    assert former == first
    assert (data_dir / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert asyncio.run(secrets_in(data_dir, Vault(second))) == ALL
    assert not any(first.hex() in each or second.hex() in each for each in said)
    rotate(settings)
    third, former = read_keys(data_dir / KEY_FILE)
    assert former == second
    assert asyncio.run(secrets_in(data_dir, Vault(third))) == ALL
    assert [each.name for each in data_dir.glob(".master*")] == []


def test_the_command_ends_a_rotation_that_was_begun_before_it_begins_another(data_dir: Path) -> None:
    asyncio.run(fill(data_dir, Vault(OLD)))
    (data_dir / KEY_FILE).write_text(f"{NEW.hex()}\n{OLD.hex()}\n")
    assert rotate(Settings(data_dir=data_dir))[0] == "a rotation that was begun is ended"
    assert read_keys(data_dir / KEY_FILE) == [NEW, OLD]
    assert asyncio.run(secrets_in(data_dir, Vault(NEW))) == ALL


def test_the_command_seals_with_the_key_of_the_setting(data_dir: Path) -> None:
    asyncio.run(fill(data_dir, Vault(OLD)))
    settings = Settings(data_dir=data_dir, master_key=NEW.hex(), master_key_old=OLD.hex())
    assert rotate(settings)[0] == "9 secrets are sealed with the new master key"
    assert asyncio.run(secrets_in(data_dir, Vault(NEW))) == ALL
    with pytest.raises(NothingToRotate, match="STELLWERK_MASTER_KEY_OLD"):
        rotate(settings)
    assert not (data_dir / KEY_FILE).exists()


def test_the_command_refuses_beside_a_server_and_where_there_is_nothing(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToRotate, match="no database"):
        rotate(Settings(data_dir=tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(NothingToRotate, match=r"no master\.key"):
        rotate(Settings(data_dir=data_dir))
    asyncio.run(fill(data_dir, None))
    before = (data_dir / KEY_FILE).read_bytes()
    lock = DirectoryLock.take(data_dir)
    with pytest.raises(DataDirInUse):
        rotate(Settings(data_dir=data_dir))
    lock.release()
    assert (data_dir / KEY_FILE).read_bytes() == before
