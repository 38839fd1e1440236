"""The helper process: woken, watched, ended."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.contract.builders import make_device, send, write

from stellwerk.storage.lock import PROJECTOR_LOCK, DataDirInUse, DirectoryLock
from stellwerk.storage.projector_process import ProjectorProcess
from stellwerk.storage.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(store: SqliteStore, data_dir: Path) -> AsyncIterator[ProjectorProcess]:
    process = ProjectorProcess(data_dir)
    await process.start()
    store.on_commit = process.wake
    try:
        yield process
    finally:
        await process.stop()
        await store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        # Another process brings it about: there is nothing to wait on but its file.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_what_is_committed_is_projected_by_a_process_that_ends_when_asked(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    async with running(store, data_dir) as process:
        device_id = (await make_device(store)).device_id
        assert process.alive
        await write(store, [send(device_id, 1)])
        await until(lambda: store.projection.seq() == 1)
        await write(store, [send(device_id, 2)])
        await until(lambda: store.projection.seq() == 2)
        assert len(await store.projection.received_messages(device_id, 9, 0)) == 2
    assert not process.alive
    assert process.restarts == 0


async def test_a_projector_that_works_keeps_every_other_away_from_its_file(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    async with running(store, data_dir) as process:
        device_id = (await make_device(store)).device_id
        await write(store, [send(device_id, 1)])
        await until(lambda: store.projection.seq() == 1)
        assert process._process is not None
        with pytest.raises(DataDirInUse) as refused:
            DirectoryLock.take(data_dir, PROJECTOR_LOCK)
        assert refused.value.holder == process._process.pid
    DirectoryLock.take(data_dir, PROJECTOR_LOCK).release()


async def test_a_projector_that_dies_is_started_again(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    async with running(store, data_dir) as process:
        device_id = (await make_device(store)).device_id
        assert process._process is not None
        process._process.kill()
        await until(lambda: process.restarts == 1)
        await write(store, [send(device_id, 1)])
        await until(lambda: store.projection.seq() == 1)
        assert process.alive


async def test_stopping_while_it_is_down_takes_no_longer(tmp_path: Path) -> None:
    process = ProjectorProcess(tmp_path, command=(sys.executable, "-c", "raise SystemExit(3)"))
    await process.start()
    await until(lambda: not process.alive)
    process.wake()
    async with asyncio.timeout(5):
        await process.stop()
    assert not process.alive


async def test_one_that_was_stopped_is_replaced_when_asked_and_nothing_is_lost(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    async with running(store, data_dir) as process:
        device_id = (await make_device(store)).device_id
        stopped = process.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        await write(store, [send(device_id, 1)])
        process.restart()
        await until(lambda: store.projection.seq() == 1)
        assert process.restarts == 1
        assert process.pid not in (None, stopped)
    assert process.pid is None
    process.restart()
