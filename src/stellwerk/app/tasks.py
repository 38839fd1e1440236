"""Background work with an owner: every task has a name, ends with the server, and reports what it did not expect."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from stellwerk.app.ports import StoreTrouble

log = structlog.get_logger(__name__)


class Tasks:
    """A bounded set of named tasks. A failing one is logged with its traceback and takes nobody with it."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> bool:
        """Start ``work``; False, and ``work`` closed, when as many run as may."""
        if len(self._running) >= self._limit:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return True

    async def close(self) -> None:
        """Cancel all and wait for them."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, StoreTrouble):
            # The store says so itself, once; whoever owns the task tries again.
            log.info("task.not_stored", task=task.get_name(), error=str(error))
        else:
            log.error("task.failed", task=task.get_name(), exc_info=error)
