"""Every schema there ever was leads to today's, once and without harm when asked again (design §7)."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, MetaData, create_engine

from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.configuration import NO_BOOTSTRAP
from stellwerk.storage import schema
from stellwerk.storage.migrations import (
    DECIDING_FILE,
    HEADS,
    PROJECTED_FILE,
    DatabaseUnusable,
    SchemaMismatch,
    migrate,
    require,
)
from stellwerk.storage.migrations.configuration import configuration
from stellwerk.storage.projector import Projector
from stellwerk.storage.sqlite.store import SqliteStore
from tests.contract.builders import NOW_MS, receipt, send, write

from .keep import COMMISSIONED, DATABASES, KEY, SESSION, VAULT

LINES = {
    "deciding": (DECIDING_FILE, schema.deciding),
    "projected": (PROJECTED_FILE, schema.projected),
}


def contents(data_dir: Path) -> list[str]:
    """All that both files hold, as SQL."""
    lines = []
    for name, _ in LINES.values():
        with closing(sqlite3.connect(data_dir / name)) as connection:
            lines += connection.iterdump()
    return lines


def restore(revision: str, data_dir: Path) -> None:
    data_dir.mkdir()
    for name, _ in LINES.values():
        with closing(sqlite3.connect(data_dir / name)) as connection:
            connection.executescript((DATABASES / revision / name).with_suffix(".sql").read_text())


@pytest.mark.parametrize("line", LINES)
def test_the_migrations_lead_to_the_schema_in_the_code(tmp_path: Path, line: str) -> None:
    migrate(tmp_path)
    name, metadata = LINES[line]
    known = MetaData()
    engine = create_engine(URL.create("sqlite", database=str(tmp_path / name)))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        known.reflect(connection)
    engine.dispose()
    assert set(known.tables) == {*metadata.tables, "alembic_version"}


def test_a_new_schema_is_the_same_with_and_without_migrations(tmp_path: Path) -> None:
    migrate(tmp_path)
    for name, metadata in LINES.values():
        engine = create_engine("sqlite://")
        with engine.connect() as connection:
            metadata.create_all(connection)
            query = "SELECT name,sql FROM sqlite_master WHERE name NOT IN ('alembic_version') AND sql IS NOT NULL"
            wanted = {row[0]: tidy(row[1]) for row in connection.exec_driver_sql(query)}
        engine.dispose()
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            assert {row[0]: tidy(row[1]) for row in connection.execute(query)} == wanted


def tidy(sql: str) -> list[str]:
    """Constraints come in any order; a column that was added later stands behind another one in its line."""
    lines = re.sub(r", (?=\w+ [A-Z]+(?: DEFAULT|[,)]))", "\n", sql.replace("\n\t", "\n")).split("\n")
    return sorted(each.strip(" ,)") for each in lines)


@pytest.mark.parametrize("line", LINES)
def test_the_head_known_to_the_start_is_the_newest_revision(line: str) -> None:
    assert ScriptDirectory.from_config(configuration(line)).get_heads() == [HEADS[line]]


def test_a_second_migration_does_nothing(tmp_path: Path) -> None:
    assert len(migrate(tmp_path)) == 2
    before = contents(tmp_path)
    assert migrate(tmp_path) == []
    assert contents(tmp_path) == before
    require(tmp_path)


@pytest.mark.parametrize("revision", sorted(each.name for each in DATABASES.iterdir()))
def test_an_older_database_is_migrated_twice_and_works(tmp_path: Path, revision: str) -> None:
    data_dir = tmp_path / "data"
    restore(revision, data_dir)
    migrate(data_dir)
    once = contents(data_dir)
    assert migrate(data_dir) == []
    assert contents(data_dir) == once
    asyncio.run(look_around(data_dir))


async def look_around(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir, vault=VAULT, now_ms=NOW_MS)
    device = await store.device_by_endpoint("1234")
    assert device is not None
    assert (device.name, device.labels) == ("meter-1", ("d2c-uplink-property_Room:1",))
    found = await store.registration_of(device.device_id)
    assert found is not None
    assert (found.location, found.updated_ms) == ("loc1", NOW_MS + 3)
    assert len(await store.observations_of(device.device_id)) == 1
    assert len(await store.open_commands(device.device_id, 9)) == 1
    assert len(await store.sent_messages(device.device_id, 9, 0)) == 1
    assert len(await store.outgoing_messages(device.device_id, 9, 0)) == 1
    assert len(await store.resources(device.tenant_id, "default", 9, 0)) == 1
    assert await store.recall(receipt(2), 0) is not None
    assert len(await store.projection.received_messages(device.device_id, 9, 0)) == 3
    assert len(await store.projection.value_history(device.device_id, "/3303/0/5700", 9)) == 1
    credential = await store.credential_of(device.device_id)
    assert credential in (None, KEY)
    if credential is not None:
        assert await store.credential_by_identity(KEY.identity) == (device, KEY)
    assert [each.session_id for each in await store.sessions_of(device.device_id)] in ([], [SESSION.session_id])
    commissioned = await store.device_by_endpoint("meter-2")
    if commissioned is not None:
        assert await store.bootstrap_credential("psk:meter-2@bs") is None
    assert await store.name_bootstrap_credentials() == (0 if credential is None else 1 if commissioned is None else 2)
    assert await store.name_bootstrap_credentials() == 0
    if commissioned is not None:
        assert await store.bootstrap_credential("psk:meter-2@bs") == (commissioned, COMMISSIONED)
        (profile,) = await store.profiles()
        assert (profile.profile.awake_s, profile.bootstrap) == (10.0, NO_BOOTSTRAP)
    await write(store, [send(DeviceId(device.device_id), 7)])
    projector = Projector(data_dir)
    assert projector.run_all() == 2
    projector.close()
    assert len(await store.projection.received_messages(device.device_id, 9, 0)) == 5
    await store.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    migrate(tmp_path)
    with closing(sqlite3.connect(tmp_path / PROJECTED_FILE)) as connection:
        connection.execute("UPDATE alembic_version SET version_num='9999'")
        connection.commit()
    before = contents(tmp_path)
    with pytest.raises(SchemaMismatch, match=r"projected\.db has schema 9999"):
        migrate(tmp_path)
    assert contents(tmp_path) == before
    with pytest.raises(SchemaMismatch):
        require(tmp_path)


def test_a_folder_without_databases_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch, match=r"stellwerk\.db has schema none"):
        asyncio.run(SqliteStore.open(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_an_error_for_people_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / DECIDING_FILE).write_bytes(b"certainly not SQLite" * 100)
    with pytest.raises(DatabaseUnusable, match=r"stellwerk\.db: file is not a database; .*backup"):
        migrate(tmp_path)
    assert (tmp_path / DECIDING_FILE).read_bytes().startswith(b"certainly")
