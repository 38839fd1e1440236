"""What bootstrapping and OSCORE keep on disk: sealed, found by an index, with the key that seals now."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.builders import NOW_MS, make_device
from tests.contract.test_bootstrap import blocks, fresh, session
from tests.contract.test_oscore_contexts import context, credential

from stellwerk.app.oscore import render_oscore
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import Credential
from stellwerk.storage.migrations import DECIDING_FILE
from stellwerk.storage.resealing import is_all_current, reseal
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.vault import Vault

OLD, NEW = (Vault(bytes([each]) * 32) for each in (1, 2))
BOTH = Vault(b"\x02" * 32, b"\x01" * 32)
FRESH = fresh(is_fresh=True, oscore=render_oscore(context(sender_id=b"\x02", master_secret=b"fresh secret")))


async def fill(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir, vault=OLD)
    device = await make_device(store, credential=credential())
    await store.put_fresh_credential(device.device_id, FRESH)
    await store.put_bootstrap_session(session(device.device_id))
    await store.close()


async def kept(data_dir: Path, vault: Vault) -> tuple[object, ...]:
    store = await SqliteStore.open(data_dir, vault=vault)
    found = (
        await store.credential_of(DeviceId(1)),
        await store.fresh_credential(DeviceId(1)),
        await store.oscore_context(b"\x01\xff", None),
        await store.oscore_context(b"\x02", None),
    )
    await store.close()
    return found


def test_fresh_credentials_and_contexts_are_sealed_and_sealed_anew_with_another_master_key(data_dir: Path) -> None:
    asyncio.run(fill(data_dir))
    before = asyncio.run(kept(data_dir, OLD))
    assert None not in before
    for each in data_dir.iterdir():
        content = each.read_bytes()
        for secret in (bytes(range(16)), b"fresh secret", b"psk-text:fresh", bytes(range(16)).hex().encode()):
            assert secret not in content, each.name
    assert not is_all_current(data_dir, BOTH)
    # Two credentials, one with its context, and two contexts.
    assert reseal(data_dir, BOTH).sealed == 5
    assert is_all_current(data_dir, NEW)
    assert asyncio.run(kept(data_dir, NEW)) == before


def test_contexts_that_two_ends_agreed_on_leave_no_trace(data_dir: Path) -> None:
    """Else a device that asks for them again and again would fill the disk."""

    async def derive() -> None:
        store = await SqliteStore.open(data_dir, vault=OLD)
        for number in range(4):
            made = await store.put_oscore_context(context(1, id_context=b"derived %d" % number))
            await store.raise_oscore_ceiling(made.number, 10)
        await store.close()

    asyncio.run(fill(data_dir))
    asyncio.run(derive())
    with closing(sqlite3.connect(data_dir / DECIDING_FILE)) as connection:
        assert connection.execute("SELECT count(*) FROM oscore_spent").fetchall() == [(0,)]
        assert connection.execute("SELECT count(*) FROM oscore_context").fetchall() == [(2,)]


async def look(store: SqliteStore) -> None:
    await store.bootstrap_credential("psk:x")
    await store.credential_by_identity("nobody")
    await store.credential_by_key("rpk:0")
    await store.fresh_credential(DeviceId(1))
    await store.oscore_context(b"\x01\xff", None)
    await store.oscore_context(b"\x01\xff", b"")
    await store.oscore_context(b"\x01\xff", None, is_bootstrap=True)
    await store.oscore_context_of(DeviceId(1))
    await store.oscore_context_of(DeviceId(1), is_bootstrap=True)
    await store.bootstrap_sessions(DeviceId(1), 9)


async def change(store: SqliteStore) -> None:
    await store.put_fresh_credential(DeviceId(1), FRESH)
    await store.put_bootstrap_session(session(DeviceId(1)))
    await store.put_bootstrap_session(session(DeviceId(1), number=1))
    await store.interrupt_bootstrap_sessions(NOW_MS)
    await store.raise_oscore_ceiling(1, 100)
    await store.promote_fresh_credential(DeviceId(1))
    await store.set_credential(DeviceId(1), None)


def test_nothing_is_looked_for_without_an_index(data_dir: Path) -> None:
    async def traced() -> list[str]:
        store = await SqliteStore.open(data_dir, vault=OLD)
        said: list[str] = []
        for connection in (store._reader, store._connection):
            connection.set_trace_callback(said.append)
        await look(store)
        await change(store)
        await store.close()
        return said

    asyncio.run(fill(data_dir))
    statements = [each for each in asyncio.run(traced()) if each.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))]
    assert len(statements) > 20
    with closing(sqlite3.connect(data_dir / DECIDING_FILE)) as connection:
        for each in statements:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
            # A constant table, or what a partial index holds: nothing that grows with the devices.
            scans = [step for step in plan if step.startswith("SCAN") and "bootstrap_session_running" not in step]
            assert [step for step in scans if "CONSTANT" not in step] == [], each


# -- what earlier versions stored --


async def store_as_before(data_dir: Path, *credentials: Credential) -> list[DeviceId]:
    """As a version did that had no bootstrap IDs."""
    store = await SqliteStore.open(data_dir, vault=OLD)
    made = [(await make_device(store, f"d{n}", credential=each)).device_id for n, each in enumerate(credentials)]
    await store.close()
    with closing(sqlite3.connect(data_dir / DECIDING_FILE, isolation_level=None)) as connection:
        connection.execute("UPDATE credential SET bootstrap_id=NULL")
    return made


async def name_all(data_dir: Path, vault: Vault = OLD) -> list[int]:
    store = await SqliteStore.open(data_dir, vault=vault)
    looked_at = []
    while count := await store.name_bootstrap_credentials():
        looked_at.append(count)
    await store.close()
    return looked_at


def one(number: int, identity: str | None = None) -> Credential:
    bootstrap = blocks(identity) if identity else ""
    return replace(fresh(f"psk-{number}"), bootstrap=bootstrap)


def test_credentials_of_earlier_versions_are_found_by_the_bootstrap_server_slice_by_slice(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stellwerk.storage.sqlite.credentials._SLICE", 2)
    made = asyncio.run(store_as_before(data_dir, one(0, "a@bs"), one(1), one(2, "c@bs")))
    assert asyncio.run(name_all(data_dir)) == [2, 1]
    assert asyncio.run(name_all(data_dir)) == []

    async def found(identity: str) -> DeviceId | None:
        store = await SqliteStore.open(data_dir, vault=OLD)
        known = await store.bootstrap_credential(identity)
        await store.close()
        return None if known is None else known[0].device_id

    assert [asyncio.run(found(f"psk:{each}@bs")) for each in "abc"] == [made[0], None, made[2]]


def test_what_cannot_be_found_by_its_identity_is_said_and_keeps_nobody_from_the_start(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = asyncio.run(store_as_before(data_dir, one(0, "a@bs"), one(1), one(2, "c@bs")))
    bootstrap = OLD.seal(json.dumps(json.loads(blocks("a@bs"))).encode(), b"bootstrap of device %d" % made[1])
    with closing(sqlite3.connect(data_dir / DECIDING_FILE, isolation_level=None)) as connection:
        connection.execute("UPDATE credential SET bootstrap=? WHERE device_id=?", (bootstrap, made[1]))
        connection.execute("UPDATE credential SET bootstrap=x'00' WHERE device_id=?", (made[2],))
    assert asyncio.run(name_all(data_dir)) == [3]
    with closing(sqlite3.connect(data_dir / DECIDING_FILE)) as connection:
        ids = connection.execute("SELECT bootstrap_id FROM credential ORDER BY device_id").fetchall()
    assert ids == [("psk:a@bs",), (None,), (None,)]


def test_there_is_nothing_to_bring_up_to_date_in_a_new_database(data_dir: Path) -> None:
    assert asyncio.run(name_all(data_dir)) == []
