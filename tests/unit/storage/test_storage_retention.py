"""What the server lets go of by itself."""

from pathlib import Path

import pytest
from tests.contract.builders import NOW_MS, make_commands, make_device, send, write

from stellwerk.app.changes import ChangeCommand
from stellwerk.device.command import Step
from stellwerk.storage.projector import Projector
from stellwerk.storage.retention import COMMANDS_KEEP_S, JOURNAL_KEEP_S, let_go
from stellwerk.storage.sqlite.store import SqliteStore

pytestmark = pytest.mark.anyio


async def test_old_entries_and_commands_that_ended_long_ago_go(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device_id = (await make_device(store)).device_id
    waits, ended = await make_commands(store, device_id, count=2)
    await write(store, [send(device_id, 0)], [ChangeCommand(ended.command_id, Step.EXPIRED, NOW_MS)])
    await write(store, [send(device_id, 1)])
    projector = Projector(data_dir)
    projector.run_all()
    projector.close()
    assert await let_go(store, NOW_MS + JOURNAL_KEEP_S * 1000) == 0
    assert await let_go(store, NOW_MS + COMMANDS_KEEP_S * 1000 + 5) >= 1
    assert await let_go(store, NOW_MS + COMMANDS_KEEP_S * 1000 + 5) == 0
    ((left,),) = store._reader.execute("SELECT count(*) FROM command").fetchall()
    assert left == 1
    assert [each.command_id for each in await store.open_commands(None, 9)] == [waits.command_id]
    await store.close()
