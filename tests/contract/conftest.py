"""One suite for every store: a new store is one more parameter and a `Stores` of its own."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from stellwerk.app.ports import DecidingStore, Limits
from stellwerk.app.reading_ports import ProjectedStore
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.migrations import migrate
from stellwerk.storage.projector import Projector
from stellwerk.storage.sqlite.store import SqliteStore

LIMITS = Limits(max_instances=5, max_bytes=1000)
"""Small, so that eviction is quick to show."""


class Stores(Protocol):
    """A store with its projection, as a test drives it."""

    deciding: DecidingStore
    projected: ProjectedStore
    durable: bool

    async def open(self, **options: Any) -> None: ...
    async def close(self) -> None: ...
    async def settle(self) -> None:
        """Project all that is committed."""
        ...

    def failures(self) -> int:
        """Entries that could not be projected."""
        ...


class MemoryStores:
    durable = False

    async def open(self, **options: Any) -> None:
        options.pop("now_ms", None)
        self.deciding = MemoryStore(limits=LIMITS, **options)
        self.projected = self.deciding.projection

    async def close(self) -> None:
        await self.deciding.close()

    async def settle(self) -> None:
        pass

    def failures(self) -> int:
        return self.projected.failures()


class SqliteStores:
    durable = True

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    async def open(self, **options: Any) -> None:
        self.deciding = await SqliteStore.open(self.data_dir, limits=LIMITS, **options)
        self.projected = self.deciding.projection

    async def close(self) -> None:
        await self.deciding.close()

    async def settle(self) -> None:
        projector = Projector(self.data_dir, limits=LIMITS)
        projector.run_all()
        projector.close()

    def failures(self) -> int:
        return self.projected.failures()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New database files, to copy: a migration takes longer than most tests."""
    data_dir = tmp_path_factory.mktemp("migrated")
    migrate(data_dir)
    return data_dir


@pytest.fixture
def data_dir(migrated_dir: Path, tmp_path: Path) -> Path:
    """A data directory of the test's own."""
    return Path(shutil.copytree(migrated_dir, tmp_path / "data"))


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        made: Stores = MemoryStores()
    else:
        made = SqliteStores(request.getfixturevalue("data_dir"))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def store(stores: Stores) -> DecidingStore:
    return stores.deciding
