"""A server follows what is imported, and says so in the journal."""

import asyncio
from typing import Any

import pytest
from tests.scenario.stack import WALL_MS, ManualClock

from stellwerk.app.changes import Commit
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.live_models import LiveModels
from stellwerk.app.ports import StoreOverloaded
from stellwerk.app.records import NewModel
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.model import ObjectModel
from stellwerk.storage.memory import MemoryStore


class Noting(MemoryStore):
    """Remembers what was journalled; full when told so."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[JournalEntry] = []
        self.full = False

    def submit(self, commit: Commit) -> None:
        if self.full:
            commit.done(StoreOverloaded(1))
            return
        self.entries.extend(commit.entries)
        super().submit(commit)


def put(object_id: int) -> NewModel:
    model = ObjectModel.define(object_id, "Tank", "1.0", [], multiple=True, mandatory=False)
    return NewModel("", object_id, "1.0", "Tank", "a.xml", encode_ddf(model))


@pytest.fixture
def runner() -> Any:
    with asyncio.Runner() as made:
        yield made


def test_what_was_imported_before_the_start_is_there_without_an_entry(runner: asyncio.Runner) -> None:
    store, library = Noting(), Library.builtin().with_models()
    runner.run(store.put_object_models([put(30000)], WALL_MS))
    live = LiveModels(store=store, library=library, clock=ManualClock())
    runner.run(live.load())
    assert library.get(30000, "1.0") is not None
    assert not runner.run(live.look())
    assert store.entries == []


def test_a_change_is_journalled_and_again_where_that_failed(runner: asyncio.Runner) -> None:
    store, library = Noting(), Library.builtin().with_models()
    live = LiveModels(store=store, library=library, clock=ManualClock())
    runner.run(live.load())
    runner.run(store.put_object_models([put(30000)], WALL_MS))
    store.full = True
    assert runner.run(live.look())
    assert store.entries == []
    store.full = False
    assert runner.run(live.look())
    assert [(each.kind, each.device_id, each.time_ms) for each in store.entries] == [(Kind.MODELS, 0, WALL_MS)]
    assert not runner.run(live.look())


def test_many_different_devices_are_retyped_in_portions(runner: asyncio.Runner) -> None:
    store, library = Noting(), Library.builtin().with_models()
    live = LiveModels(store=store, library=library, clock=ManualClock())
    runner.run(live.load())
    # Each with a list of its own: the most types that can be.
    held = [library.for_device("1.1", {3: None, 30000 + each: None, 30001: None}) for each in range(5_000)]
    assert len({id(each) for each in held}) == len(held)
    for each in held:
        assert each.object(30001) is None
        each.resource_type(Path(3, 0, 9))
    runner.run(store.put_object_models([put(30001)], WALL_MS))
    turns = 0

    async def look() -> None:
        nonlocal turns
        work = asyncio.ensure_future(live.look())
        while not work.done():
            turns += 1
            await asyncio.sleep(0)
        await work

    runner.run(look())
    assert turns >= 5
    assert all(each.object(30001) is not None for each in held)
