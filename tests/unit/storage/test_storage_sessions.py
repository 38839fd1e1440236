"""What only a database has of sessions: sealed rows, packed marks and their sweep, slices of old ones."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.builders import make_device, registration, send, write
from tests.contract.test_sessions import put, session, session_id

from stellwerk.app.changes import PutRegistration
from stellwerk.core.ids import DeviceId, session_peer
from stellwerk.storage.sqlite import marks
from stellwerk.storage.sqlite.marks import ReadMarks, insert, move
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.vault import SecretUnreadable

pytestmark = pytest.mark.anyio


def asked(*answers: Sequence[tuple[bytes, int]]) -> Callable[[], Sequence[tuple[bytes, int]]]:
    """One answer per group, then nothing."""
    waiting = list(answers)
    return lambda: waiting.pop(0) if waiting else ()


async def test_the_state_of_a_session_is_sealed_and_bound_to_its_session(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    await put(store, session(device_id, 1, state=b"very secret keys"), session(device_id, 2))
    files = [(data_dir / each).read_bytes() for each in ("stellwerk.db", "stellwerk.db-wal")]
    assert not any(b"very secret keys" in each for each in files)
    store._connection.execute(
        "UPDATE secure_session SET sealed=(SELECT sealed FROM secure_session WHERE session_id=?1) WHERE session_id=?2",
        (session_id(1), session_id(2)),
    )
    with pytest.raises(SecretUnreadable, match="secure session 0100000000000002"):
        await store.session(session_id(2))
    await store.close()


@pytest.mark.spec("SEC-1")
async def test_marks_of_a_group_that_failed_are_stored_with_the_next(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    await put(store, session(device_id, 1), session(device_id, 2))
    store.marks = asked([(session_id(1), 5), (session_id(2), 6)], [(session_id(2), 4)])
    with pytest.raises(sqlite3.IntegrityError):
        await write(store, [], [PutRegistration(registration(DeviceId(99)), 0)])
    assert store._reader.execute("SELECT count(*) FROM session_mark").fetchall() == [(0,)]
    await write(store, [send(device_id, 1)])
    await store.close()
    store = await SqliteStore.open(data_dir)
    assert [each.read_mark for each in await store.sessions_of(device_id)] == [5, 6]
    await store.close()


async def test_a_group_without_marks_writes_no_row_of_them(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    store.marks = asked()
    await write(store, [send(device_id, 1)])
    assert store._reader.execute("SELECT count(*) FROM session_mark").fetchall() == [(0,)]
    await store.close()


async def test_many_marks_are_swept_into_rows_and_the_packed_ones_go(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "SWEEP_AT", 4)
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    one, two = b"\x01\x07sweep1", b"\x01\xf0sweep2"
    await put(store, session(device_id, 1, session_id=one), session(device_id, 2, session_id=two))
    store.marks = asked([(one, 1), (two, 1)], [(one, 2), (b"\x01\x10nobody", 3)], [(two, 9)])
    for number in range(3):
        await write(store, [send(device_id, number)])
    # The sweep goes on with every group of commits or tasks, a slice each.
    for _ in range(2 * 256):
        await store.check()
    assert store._marks.packed < 4
    assert store._reader.execute("SELECT session_id,read_mark FROM session_read").fetchall() == [(one, 2), (two, 9)]
    ((packed,),) = store._reader.execute("SELECT count(*) FROM session_mark").fetchall()
    assert packed <= 1
    assert [each.read_mark for each in await store.sessions_of(device_id)] == [2, 9]
    await store.close()
    store = await SqliteStore.open(data_dir)
    assert [each.read_mark for each in await store.sessions_of(device_id)] == [2, 9]
    await store.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("group"), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=4)),
            st.tuples(st.just("fail"), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=4)),
            st.tuples(st.just("slice"), st.integers(1, 300)),
            st.tuples(st.just("crash"), st.none()),
        ),
        max_size=20,
    )
)
def test_no_mark_that_was_stored_is_ever_lost(migrated_dir: Path, steps: list[tuple[str, object]]) -> None:
    ids = [bytes([1, each * 51, *b"abcdef"]) for each in range(6)]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with sqlite3.connect(migrated_dir / "stellwerk.db") as source:
        source.backup(connection)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.executemany("INSERT INTO secure_session VALUES (?,?,1,0,'',0,0,0,0,x'')", enumerate(ids, 1))
    read: list[tuple[bytes, int]] = []

    def fresh() -> ReadMarks:
        made = ReadMarks()
        made.ask = lambda: read
        made.load(connection)
        return made

    known = fresh()
    stored: dict[bytes, int] = {}
    pending: dict[bytes, int] = {}
    for what, value in steps:
        if what in ("group", "fail"):
            read = [(ids[index], mark) for index, mark in value]  # type: ignore[attr-defined]
            taken = known.take()
            for session, mark in [*read, *pending.items()]:
                pending[session] = max(mark, pending.get(session, 0))
            assert set(pending.items()) <= {(each, max(m for s, m in taken if s == each)) for each, _ in taken}
            if what == "fail":
                known.put_back(taken)
                continue
            insert(connection, taken)
            known.stored(taken)
            for session, mark in pending.items():
                stored[session] = max(mark, stored.get(session, 0))
            pending = {}
        elif what == "slice":
            for _ in range(value):  # type: ignore[call-overload]
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(marks, "SWEEP_AT", 1)
                    slice_ = known.next_slice(connection)
                if slice_ is not None:
                    move(connection, slice_)
                    known.moved(slice_, connection)
        else:
            known, pending = fresh(), {}
        rows = dict(connection.execute("SELECT session_id,read_mark FROM session_read").fetchall())
        for session, mark in stored.items():
            assert max(rows.get(session, 0), known.of(session)) >= mark
            assert max(rows.get(session, 0), fresh().of(session)) >= mark
    connection.close()


async def test_sessions_unheard_for_long_are_let_go_in_slices(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    devices = [(await make_device(store, f"dev-{each}")).device_id for each in range(3)]
    await put(store, *(session(device_id, 10 + device_id) for device_id in devices))
    now_ms = time.time_ns() // 1_000_000
    store._connection.execute("UPDATE secure_session SET modified_ms=?", (now_ms - 1_000_000,))
    store._connection.execute("UPDATE secure_session SET modified_ms=? WHERE device_id=?", (now_ms, devices[0]))
    store._connection.execute(
        "INSERT INTO session_read VALUES (?,1,?),(?,1,?)",
        (session_id(10 + devices[1]), now_ms, session_id(10 + devices[2]), now_ms - 500_000),
    )
    while await store.trim_sessions(now_ms - 400_000):
        pass
    assert [len(await store.sessions_of(each)) for each in devices] == [1, 1, 0]
    assert store._reader.execute("SELECT count(*) FROM session_read").fetchall() == [(1,)]
    await store.close()


@pytest.mark.spec("Design 7", "SEC-8")
async def test_a_session_that_a_device_is_registered_over_stays_as_long_as_its_lifetime(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    devices = [(await make_device(store, f"dev-{each}")).device_id for each in range(3)]
    sleeper, elsewhere, gone = (session(each, 10 + each) for each in devices)
    await put(store, sleeper, elsewhere, gone)
    now_ms = time.time_ns() // 1_000_000
    await write(
        store,
        [],
        [
            PutRegistration(replace(registration(sleeper.device_id), peer=session_peer(sleeper.session_id)), 0),
            PutRegistration(registration(elsewhere.device_id, "elsewhere"), 0),
        ],
    )
    store._connection.execute("UPDATE secure_session SET modified_ms=?", (now_ms - 1_000_000,))
    while await store.trim_sessions(now_ms - 400_000):
        pass
    assert [len(await store.sessions_of(each)) for each in devices] == [1, 0, 0]
    await store.close()


async def test_a_session_that_was_heard_is_not_let_go_although_its_mark_waits_for_a_sweep(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    await put(store, session(device_id, 1), session(device_id, 2))
    now_ms = time.time_ns() // 1_000_000
    store._connection.execute("UPDATE secure_session SET modified_ms=?", (now_ms - 1_000_000,))
    store.marks = asked([(session_id(1), 5)])
    await write(store, [send(device_id, 1)])
    while await store.trim_sessions(now_ms - 400_000):
        pass
    assert await store.sessions_of(device_id) == [session(device_id, 1, read_mark=5)]
    await store.close()


async def test_few_marks_are_swept_once_they_are_a_day_old(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    one = b"\x01\x07sweep1"
    await put(store, session(device_id, 1, session_id=one))
    store.marks = asked([(one, 7)])
    await write(store, [send(device_id, 1)])
    await store.check()
    rows = "SELECT session_id,read_mark FROM session_read"
    assert store._reader.execute(rows).fetchall() == []
    store._connection.execute("UPDATE session_mark SET time_ms=time_ms-?", (marks.SWEEP_AFTER_MS + 1,))
    await store.close()
    store = await SqliteStore.open(data_dir)
    store.marks = asked()
    for _ in range(300):
        await store.check()
    assert store._reader.execute(rows).fetchall() == [(one, 7)]
    assert store._reader.execute("SELECT count(*) FROM session_mark").fetchall() == [(0,)]
    assert (await store.sessions_of(device_id))[0].read_mark == 7
    await store.close()
