"""Background work with an owner: every task has a name, ends with the server, and reports what it did not expect."""

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from types import coroutine
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

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> bool:
        """As `spawn`, but what need not wait for anything is done when this returns, and costs no task. Until it first
        waits, ``work`` runs as its caller: it is no place for time limits."""
        if len(self._running) >= self._limit:
            work.close()
            return False
        try:
            waits_for = work.send(None)
        except StopIteration:
            return True
        except Exception as error:
            _report(name, error)
            return True
        return self.spawn(name, _resumed(work, waits_for))

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
        _report(task.get_name(), error)


def _report(name: str, error: BaseException) -> None:
    if isinstance(error, StoreTrouble):
        # The store says so itself, once; whoever owns the task tries again.
        log.info("task.not_stored", task=name, error=str(error))
    else:
        log.error("task.failed", task=name, exc_info=error)


async def _resumed(work: Coroutine[Any, Any, Any], waits_for: Any) -> None:
    """The rest of ``work``, which waits for a future already."""
    await _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            value = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            step = partial(work.throw, error)
        else:
            step = partial(work.send, value)
        try:
            waits_for = step()
        except StopIteration:
            return
