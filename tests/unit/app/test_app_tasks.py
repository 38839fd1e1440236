"""Background work with an owner."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from stellwerk.app.changes import Commit
from stellwerk.app.committing import commit
from stellwerk.app.ports import StoreOverloaded
from stellwerk.app.tasks import Tasks


def test_work_runs_under_its_name_and_leaves_when_done() -> None:
    async def main() -> None:
        tasks, names = Tasks(), []

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            names.append(task.get_name())

        assert tasks.spawn("observe dev1", work())
        assert len(tasks) == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (names, len(tasks)) == (["observe dev1"], 0)

    asyncio.run(main())


def test_beyond_the_limit_work_is_refused_and_closed() -> None:
    async def main() -> None:
        tasks = Tasks(limit=1)
        forever = asyncio.Event()
        assert tasks.spawn("first", _wait(forever))
        refused = _wait(forever)
        assert not tasks.spawn("second", refused)
        with pytest.raises(RuntimeError, match="already"):
            await refused
        await tasks.close()
        assert len(tasks) == 0
        assert tasks.spawn("third", asyncio.sleep(0))
        await tasks.close()

    asyncio.run(main())


def test_one_that_fails_is_logged_and_takes_nobody_with_it() -> None:
    async def main() -> None:
        tasks = Tasks()
        done: list[int] = []

        async def fail() -> None:
            raise ValueError("unexpected")

        async def go_on() -> None:
            await asyncio.sleep(0)
            done.append(1)

        tasks.spawn("bad", fail())
        tasks.spawn("good", go_on())
        for _ in range(5):
            await asyncio.sleep(0)
        assert (done, len(tasks)) == ([1], 0)

    with capture_logs() as lines:
        asyncio.run(main())
    (line,) = lines
    assert (line["event"], line["task"]) == ("task.failed", "bad")
    assert isinstance(line["exc_info"], ValueError)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


class _Store:
    def __init__(self, error: Exception | None, run: Callable[[Callable[[], Any]], Any]) -> None:
        self.commits: list[Commit] = []
        self._error, self._run = error, run

    def submit(self, made: Commit) -> None:
        self.commits.append(made)
        self._run(lambda: made.done(self._error))


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("error", [None, StoreOverloaded(3)])
def test_an_awaited_commit_returns_once_durable_or_raises_what_kept_it(at_once: bool, error: Exception | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        store = _Store(error, (lambda call: call()) if at_once else loop.call_soon)
        work = commit(store, (), ())  # type: ignore[arg-type]
        if error is None:
            await work
        else:
            with pytest.raises(StoreOverloaded):
                await work
        assert len(store.commits) == 1

    asyncio.run(main())


def test_a_commit_whose_waiter_is_gone_tells_nobody_and_breaks_nothing() -> None:
    async def main() -> None:
        store = _Store(None, lambda call: None)
        waiting = asyncio.ensure_future(commit(store, (), ()))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        store.commits[0].done(None)

    asyncio.run(main())


def test_started_work_that_waits_for_nothing_is_done_at_once_without_a_task() -> None:
    async def main() -> None:
        tasks, done = Tasks(), []

        async def work() -> None:
            done.append(1)

        assert tasks.start("register", work())
        assert (done, len(tasks)) == ([1], 0)

    asyncio.run(main())


def test_started_work_that_waits_goes_on_as_a_task_with_its_name() -> None:
    async def main() -> None:
        tasks, found = Tasks(), []
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            found.append(await first)
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            found.append(task.get_name())
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            try:
                await broken
            except ValueError as error:
                found.append(str(error))

        broken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        assert tasks.start("register", work())
        assert (found, len(tasks)) == ([], 1)
        first.set_result(7)
        broken.set_exception(ValueError("no"))
        await _end(tasks)
        assert found == [7, "register", "no"]

    asyncio.run(main())


def test_started_work_is_cancelled_where_it_waits_and_may_clean_up() -> None:
    async def main() -> None:
        tasks, found = Tasks(), []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                found.append("cancelled")
                await asyncio.sleep(0)
                found.append("clean")
                raise

        assert tasks.start("register", work())
        await asyncio.sleep(0)
        await tasks.close()
        assert found == ["cancelled", "clean"]

    asyncio.run(main())


def test_started_work_that_fails_is_logged_whether_it_waited_or_not() -> None:
    async def main() -> None:
        tasks = Tasks(limit=1)

        async def fail(later: bool) -> None:
            if later:
                await asyncio.sleep(0)
            raise ValueError("unexpected")

        with capture_logs() as logs:
            assert tasks.start("at once", fail(False))
            assert tasks.start("later", fail(True))
            refused = fail(False)
            assert not tasks.start("refused", refused)
            await _end(tasks)
        assert [(each["event"], each["task"]) for each in logs] == [
            ("task.failed", "at once"),
            ("task.failed", "later"),
        ]
        with pytest.raises(RuntimeError, match="already"):
            await refused

    asyncio.run(main())


async def _end(tasks: Tasks) -> None:
    """Let all of them run to their end."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(tasks) == 0
