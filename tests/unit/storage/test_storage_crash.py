"""What a kill at any moment leaves behind (design §7)."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.contract.builders import NOW_MS, make_device, receipt, register, send, write

from stellwerk.core.ids import DeviceId
from stellwerk.storage.migrations import DECIDING_FILE, PROJECTED_FILE
from stellwerk.storage.projector import Projector
from stellwerk.storage.sqlite.journal import decode_batch
from stellwerk.storage.sqlite.store import SqliteStore

SCRIPT = Path(__file__).with_name("commit_forever.py")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "acknowledged", [1, pytest.param(1000, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.slow)]
)
def test_a_killed_writer_loses_no_acknowledged_commit_and_doubles_none(data_dir: Path, acknowledged: int) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    writer = subprocess.Popen([sys.executable, SCRIPT, data_dir], stdout=subprocess.PIPE, env=environment)
    assert writer.stdout is not None
    told: list[int] = []
    with contextlib.closing(writer.stdout) as output:
        while len(told) < acknowledged:
            told.append(int(output.readline()))
        writer.send_signal(signal.SIGKILL)
        # What it had printed before it died was acknowledged too.
        told += [int(line) for line in output.read().split(b"\n")[:-1]]
    writer.wait()

    with contextlib.closing(sqlite3.connect(data_dir / DECIDING_FILE)) as connection:
        rows = connection.execute("SELECT first,last,entries FROM journal ORDER BY first").fetchall()
    found = [int.from_bytes(entry.receipt, "little") for _, _, packed in rows for entry in decode_batch(packed)]
    assert found == list(range(len(found)))
    assert set(told) <= set(found)
    assert [row[0] for row in rows[1:]] == [row[1] + 1 for row in rows[:-1]]
    asyncio.run(look_into(data_dir, found))


async def look_into(data_dir: Path, found: list[int]) -> None:
    """The registrations are those of the journal's last commits, no record that led to one of them can be read again,
    and the store goes on."""
    store = await SqliteStore.open(data_dir, now_ms=NOW_MS)
    for device in range(10):
        newest = max((number for number in found if number % 10 == device and number % 3 == 0), default=None)
        kept = await store.registration_of(DeviceId(device + 1))
        assert (None if kept is None else int(kept.location)) == newest
        (session,) = await store.sessions_of(DeviceId(device + 1))
        assert session.read_mark >= max((number for number in found if number % 10 == device), default=0)
    assert await store.recall(receipt(found[-1]), 0) is not None
    await write(store, [send(DeviceId(1), len(found))])
    await store.close()


@pytest.mark.slow
def test_a_killed_projector_goes_on_where_it_was(data_dir: Path) -> None:
    asyncio.run(fill_new(data_dir, 15_000))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "stellwerk.storage.projector", f"--data-dir={data_dir}"]
    for _ in range(2):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        before = cursor(data_dir)
        until = time.monotonic() + 20
        while cursor(data_dir) == before and time.monotonic() < until and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert 0 < cursor(data_dir) <= 15_000
    project_all(data_dir)
    at_the_end = dump(data_dir)
    wipe(data_dir)
    assert project_all(data_dir) == 15_000
    assert dump(data_dir) == at_the_end


def test_replaying_the_journal_gives_the_same_rows(data_dir: Path) -> None:
    asyncio.run(fill_new(data_dir, 1500))
    assert project_all(data_dir) == 1500
    first = dump(data_dir)
    assert len(first["value_history"]) == 1495

    with contextlib.closing(sqlite3.connect(data_dir / PROJECTED_FILE)) as connection:
        connection.execute("UPDATE projection SET seq=0")
        connection.commit()
    assert project_all(data_dir) == 1500
    assert dump(data_dir) == first

    wipe(data_dir)
    assert project_all(data_dir) == 1500
    assert dump(data_dir) == first


async def fill_new(data_dir: Path, entries: int) -> None:
    """Registrations and Sends of five devices."""
    store = await SqliteStore.open(data_dir)
    devices = [(await make_device(store, f"dev-{number}")).device_id for number in range(5)]
    batch = [register(each) for each in devices]
    batch += [send(devices[number % 5], number) for number in range(5, entries)]
    for start in range(0, entries, 1000):
        await write(store, batch[start : start + 1000])
    await store.close()


def project_all(data_dir: Path) -> int:
    projector = Projector(data_dir)
    taken = projector.run_all()
    projector.close()
    return taken


TABLES = (
    "projection",
    "device_state",
    "device_model",
    "current_value",
    "value_history",
    "received_message",
    "device_log",
)


def dump(data_dir: Path) -> dict[str, list[tuple[object, ...]]]:
    """What readers can see: eviction runs in strides, so the message table itself may hold more."""
    with contextlib.closing(sqlite3.connect(data_dir / PROJECTED_FILE)) as connection:
        tables = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1,2,3").fetchall() for name in TABLES}
    newest: dict[object, int] = {}
    for row in tables["received_message"]:
        newest[row[0]] = max(newest.get(row[0], 0), row[1])
    tables["received_message"] = [row for row in tables["received_message"] if row[1] > newest[row[0]] - 100]
    # Of the state, without where eviction stands.
    tables["device_state"] = [(*row[:8], *row[10:12]) for row in tables["device_state"]]
    return tables


def wipe(data_dir: Path) -> None:
    with contextlib.closing(sqlite3.connect(data_dir / PROJECTED_FILE)) as connection:
        for name in TABLES:
            connection.execute(f"DELETE FROM {name}")
        connection.commit()


def cursor(data_dir: Path) -> int:
    with contextlib.closing(sqlite3.connect(data_dir / PROJECTED_FILE, timeout=5)) as connection:
        row = connection.execute("SELECT seq FROM projection").fetchone()
    return 0 if row is None else int(row[0])
