"""Where a group is written: by the loop while the disk is fast, by the thread after a slow write."""

import asyncio
import threading
from collections.abc import Sequence

from stellwerk.app.ports import Commit
from stellwerk.storage.sqlite.writer import AWAY_S, SLOW_WRITE_S, STALLED_WRITE_S, Failures, GroupWriter, Task


class Disk:
    """A backend whose writes take as long as the test says, on a clock that only they move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.takes_s = 0.001
        self.written_by: list[str] = []

    def clock(self) -> float:
        return self.now

    def write(self, commits: Sequence[Commit]) -> Failures | None:
        self.written_by.append(threading.current_thread().name)
        self.now += self.takes_s
        return None

    def run_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.result = task.work()


async def commit(writer: GroupWriter) -> None:
    stored: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    writer.submit(Commit((), (), stored.set_result))
    assert await stored is None


def test_a_stalled_write_sends_the_next_ones_to_the_thread_until_the_disk_had_time_to_recover() -> None:
    async def story() -> None:
        disk = Disk()
        writer = GroupWriter(disk, 100, lambda commits: None, disk.clock)
        here = threading.current_thread().name
        await commit(writer)
        disk.takes_s = STALLED_WRITE_S / 2
        await commit(writer)
        disk.takes_s = STALLED_WRITE_S * 2
        await commit(writer)
        assert disk.written_by == [here, here, here]
        disk.takes_s = 0.001
        await commit(writer)
        assert disk.written_by[-1] == "stellwerk-writer"
        disk.now += AWAY_S
        await commit(writer)
        assert disk.written_by[-1] == here
        await writer.close()

    asyncio.run(story())


def test_writes_that_are_slow_on_average_go_to_the_thread() -> None:
    async def story() -> None:
        disk = Disk()
        disk.takes_s = SLOW_WRITE_S * 3
        writer = GroupWriter(disk, 100, lambda commits: None, disk.clock)
        for _ in range(20):
            await commit(writer)
        assert disk.written_by[0] == threading.current_thread().name
        assert disk.written_by[-1] == "stellwerk-writer"
        await writer.close()

    asyncio.run(story())


def test_a_group_behind_one_of_the_thread_is_not_told_before_it() -> None:
    async def story() -> None:
        disk = Disk()
        looks: list[float] = []
        loop_thread = threading.current_thread()

        def clock() -> float:
            # The time away ends between two looks of the loop at the clock.
            return looks.pop(0) if looks and threading.current_thread() is loop_thread else disk.now

        writer = GroupWriter(disk, 100, lambda commits: None, clock)
        disk.takes_s = STALLED_WRITE_S * 2
        await commit(writer)
        disk.takes_s = 0.001
        told: list[int] = []
        last: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def second(error: Exception | None) -> None:
            told.append(2)
            last.set_result(None)

        writer.submit(Commit((), (), lambda error: told.append(1)))
        writer._dispatch()
        writer.submit(Commit((), (), second))
        end = writer._away_until
        looks += [end - AWAY_S, end - 1.0, end + 1.0]
        await last
        assert told == [1, 2]
        await writer.close()

    asyncio.run(story())


def test_callbacks_keep_the_order_of_the_commits_across_the_change_of_writers() -> None:
    async def story() -> None:
        disk = Disk()
        writer = GroupWriter(disk, 10_000, lambda commits: None, disk.clock)
        told: list[int] = []
        last: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def submit(number: int) -> None:
            def done(error: Exception | None) -> None:
                told.append(number)
                if number == 599:
                    last.set_result(None)

            writer.submit(Commit((), (), done))

        for number in range(600):
            disk.takes_s = STALLED_WRITE_S * 2 if number % 50 == 0 else 0.001
            if number % 70 == 0:
                disk.now += AWAY_S
            submit(number)
            if number % 7 == 0:
                await asyncio.sleep(0)
        await last
        assert told == list(range(600))
        assert {"stellwerk-writer", threading.current_thread().name} == set(disk.written_by)
        await writer.close()

    asyncio.run(story())
