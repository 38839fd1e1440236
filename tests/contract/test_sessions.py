"""Secure sessions are kept, found and forgotten the same in every store."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stellwerk.app.changes import Change, DropSession, DropSessionsOf, PutSession
from stellwerk.app.ports import DecidingStore
from stellwerk.app.session import SESSIONS_PER_DEVICE, SecureSession
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import Credential
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.sqlite.store import SqliteStore

from .builders import NOW_MS, make_device, peer, send, write
from .conftest import Stores

pytestmark = pytest.mark.anyio

CEILING = (1 << 48) + 1024


def session_id(number: int) -> bytes:
    return b"\x01" + number.to_bytes(7)


def session(device_id: DeviceId, number: int = 1, **fields: object) -> SecureSession:
    known = SecureSession(
        session_id(number), device_id, peer(40_000 + number), b"keys %d" % number, CEILING, NOW_MS + number
    )
    return replace(known, **fields)  # type: ignore[arg-type]


async def put(store: DecidingStore, *sessions: SecureSession) -> None:
    await write(store, [], [PutSession(each) for each in sessions])


async def numbers_of(store: DecidingStore, device_id: DeviceId) -> list[int]:
    return [int.from_bytes(each.session_id[1:]) for each in await store.sessions_of(device_id)]


async def test_a_session_is_found_by_its_id_its_address_and_its_device(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    kept = session(device_id)
    await put(store, kept)
    assert await store.session(kept.session_id) == kept
    assert await store.session_from(kept.address) == kept
    assert await store.sessions_of(device_id) == [kept]
    assert await store.session(session_id(2)) is None
    assert await store.session_from(peer(1)) is None
    assert await store.sessions_of(DeviceId(99)) == []


async def test_at_one_address_the_session_that_was_made_last_counts(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    other_id = (await make_device(store, "dev-2")).device_id
    here = peer(7)
    first, second = session(device_id, 1, address=here), session(other_id, 2, address=here)
    await put(store, first)
    await put(store, second)
    await put(store, replace(first, ceiling=CEILING + 1024))
    assert await store.session_from(here) == second
    await write(store, [], [DropSession(second.session_id)])
    assert await store.session_from(here) == replace(first, ceiling=CEILING + 1024)


async def test_a_session_that_its_connection_id_finds_is_not_found_by_its_address(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    here = peer(7)
    by_address, by_id = session(device_id, 1, address=here), session(device_id, 2, address=here, by_address=False)
    await put(store, by_address, by_id)
    assert await store.session_from(here) == by_address
    assert await store.session(by_id.session_id) == by_id
    assert await store.sessions_of(device_id) == [by_address, by_id]
    await put(store, replace(by_id, by_address=True))
    assert await store.session_from(here) == replace(by_id, by_address=True)


async def test_a_session_moves_and_its_ceiling_rises(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    first = session(device_id)
    moved = replace(first, address=peer(9), state=b"later keys", ceiling=CEILING + 2048)
    await put(store, first)
    await put(store, replace(moved, created_ms=NOW_MS + 999))
    assert await store.session_from(first.address) is None
    assert await store.session_from(peer(9)) == moved
    assert await store.sessions_of(device_id) == [moved]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.spec("SEC-1", "RFC 6347 4.1.2.6")
async def test_the_ceiling_of_a_session_never_comes_down(store: DecidingStore, together: bool) -> None:
    device_id = (await make_device(store)).device_id
    old = session(device_id)
    new = replace(old, address=peer(9), state=b"later keys", ceiling=CEILING + 1024)
    if together:
        await put(store, new, old)
    else:
        await put(store, new)
        await put(store, old)
    assert await store.sessions_of(device_id) == [new]


@pytest.mark.parametrize("together", [True, False])
async def test_a_device_keeps_its_newest_sessions_only(store: DecidingStore, together: bool) -> None:
    device_id = (await make_device(store)).device_id
    other_id = (await make_device(store, "dev-2")).device_id
    await put(store, session(other_id, 99))
    made = [session(device_id, number) for number in range(1, SESSIONS_PER_DEVICE + 4)]
    if together:
        await put(store, *made)
    else:
        for each in made:
            await put(store, each)
    assert await store.sessions_of(device_id) == made[3:]
    assert await numbers_of(store, other_id) == [99]


async def test_changes_of_one_group_hold_in_their_order(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    other_id = (await make_device(store, "dev-2")).device_id
    one, two, three = (session(device_id, number) for number in (1, 2, 3))
    other = session(other_id, 4)
    await write(store, [], [PutSession(one), DropSession(one.session_id), PutSession(two)])
    assert await numbers_of(store, device_id) == [2]
    await write(store, [], [PutSession(three), DropSessionsOf(device_id), PutSession(other)])
    assert await numbers_of(store, device_id) == []
    assert await numbers_of(store, other_id) == [4]
    await write(store, [], [DropSessionsOf(device_id), PutSession(one), DropSession(two.session_id)])
    assert await numbers_of(store, device_id) == [1]
    await write(store, [], [DropSession(one.session_id), PutSession(one)])
    assert await store.session(one.session_id) == one


async def test_sessions_go_with_their_device_and_all_at_once(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    other_id = (await make_device(store, "dev-2")).device_id
    await put(store, session(device_id, 1), session(other_id, 2), session(other_id, 3))
    await store.remove_device(device_id)
    assert await store.session(session_id(1)) is None
    assert await store.drop_sessions() == 2
    assert await store.sessions_of(other_id) == []
    assert await store.drop_sessions() == 0


async def test_a_session_of_no_device_is_refused_and_nothing_else_with_it(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    with pytest.raises(Exception, match=r"(?i)foreign key|no device"):
        await put(store, session(DeviceId(99)))
    await put(store, session(device_id, 2))
    assert await numbers_of(store, device_id) == [2]


@pytest.mark.spec("SEC-1")
async def test_read_marks_are_stored_with_the_next_group_and_never_go_back(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    await put(store, session(device_id, 1, read_mark=7), session(device_id, 2))
    read: list[tuple[bytes, int]] = []

    def take() -> Sequence[tuple[bytes, int]]:
        taken = list(read)
        read.clear()
        return taken

    store.marks = take

    async def marks() -> list[int]:
        return [each.read_mark for each in await store.sessions_of(device_id)]

    assert await marks() == [7, 0]
    read += [(session_id(1), 9), (session_id(9), 5)]
    await write(store, [send(device_id, 1)])
    assert read == []
    assert await marks() == [9, 0]
    read += [(session_id(1), 8), (session_id(2), CEILING)]
    await write(store, [send(device_id, 2)])
    assert await marks() == [9, CEILING]
    # The engine wrote down its state before it read on.
    await put(store, session(device_id, 1, read_mark=8))
    assert await marks() == [9, CEILING]
    found = await store.session_from(session(device_id, 2).address)
    assert found is not None
    assert found.read_mark == CEILING


_NUMBERS = st.integers(1, 2 * SESSIONS_PER_DEVICE)
_CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _NUMBERS, st.integers(0, 9)),
        st.tuples(st.just("drop"), _NUMBERS, st.none()),
        st.tuples(st.just("drop of"), st.integers(0, 1), st.none()),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(_CHANGES, max_size=5))
def test_any_changes_in_any_groups_leave_the_same(data_dir: Path, groups: list[list[tuple[str, int, int]]]) -> None:
    """Of two devices, each with as many sessions as stay."""

    async def left(store: DecidingStore) -> list[SecureSession]:
        devices = [await made(store, name) for name in ("dev-0", "dev-1")]
        await store.drop_sessions()
        for group in groups:
            changes: list[Change] = []
            for what, number, mark in group:
                device_id = devices[number % 2]
                if what == "put":
                    changes.append(PutSession(session(device_id, number, read_mark=mark, created_ms=mark)))
                elif what == "drop":
                    changes.append(DropSession(session_id(number)))
                else:
                    changes.append(DropSessionsOf(device_id))
            await write(store, [], changes)
        return [each for device_id in devices for each in await store.sessions_of(device_id)]

    async def made(store: DecidingStore, name: str) -> DeviceId:
        known = await store.device_by_name(await store.ensure_tenant("default", NOW_MS), name)
        return (known or await make_device(store, name)).device_id

    async def both() -> None:
        sqlite = await SqliteStore.open(data_dir)
        assert await left(sqlite) == await left(MemoryStore())
        await sqlite.close()

    asyncio.run(both())


@pytest.mark.spec("SEC-8")
async def test_sessions_and_marks_outlive_a_restart(stores: Stores) -> None:
    if not stores.durable:
        pytest.skip("nothing of it is kept")
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    kept = session(device_id)
    await put(store, kept)
    store.marks = lambda: [(kept.session_id, 17)]
    await write(store, [send(device_id, 1)])
    await stores.close()
    await stores.open()
    assert await stores.deciding.session(kept.session_id) == replace(kept, read_mark=17)


@pytest.mark.spec("SEC-9", "Platform 12.1")
@pytest.mark.parametrize("kept", [[2], []])
async def test_sessions_of_the_former_credential_go_with_it(store: DecidingStore, kept: list[int]) -> None:
    device_id = (await make_device(store, credential=Credential("old", "key"))).device_id
    other_id = (await make_device(store, "dev-2")).device_id
    await put(store, session(device_id), session(device_id, 2), session(other_id, 3))
    await store.put_fresh_credential(device_id, Credential("new", "key"))
    await store.promote_fresh_credential(device_id, session=session_id(2) if kept else b"")
    assert await numbers_of(store, device_id) == kept
    assert await numbers_of(store, other_id) == [3]
