"""Where a group is written: by the loop while the disk is fast, by the thread after a slow write."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from stellwerk.app.changes import Commit
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import StoreFailing, StoreOverloaded
from stellwerk.app.security_ports import Marks
from stellwerk.storage.sqlite.writer import (
    AWAY_S,
    COMPANY,
    GROUP,
    SLOW_WRITE_S,
    STALLED_WRITE_S,
    TASKS_LIMIT,
    Failures,
    GroupWriter,
    StoreClosed,
    Task,
)


class Disk:
    """A backend whose writes take as long as the test says, on a clock that only they move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.takes_s = 0.001
        self.written_by: list[str] = []

    def clock(self) -> float:
        return self.now

    def write(self, commits: Sequence[Commit], marks: Marks) -> Failures | None:
        self.written_by.append(threading.current_thread().name)
        self.now += self.takes_s
        return None

    def run_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.result = task.work()

    def probe(self) -> StoreFailing | None:
        return None


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


# -- how much may wait, and a disk that takes nothing --


def entry(size: int) -> JournalEntry:
    return JournalEntry(Kind.SEND, 1, 0, payload=bytes(size))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_commits_wait_up_to_a_number_and_a_quarter_more_of_what_may_use_the_reserve() -> None:
    async def story() -> None:
        writer = GroupWriter(Disk(), 8, lambda commits: None)
        told: dict[str, list[Exception | None]] = {"plain": [], "reserve": []}
        for _ in range(12):
            writer.submit(Commit((), (), told["plain"].append))
        for _ in range(4):
            writer.submit(Commit((), (), told["reserve"].append, reserve=True))
        assert len(writer) == 10
        await turns()
        assert told["plain"].count(None) == 8
        assert next(str(each) for each in told["plain"] if each).startswith("8 writes wait")
        assert told["reserve"].count(None) == 2
        assert all(isinstance(each, StoreOverloaded) for each in told["plain"] + told["reserve"] if each)
        assert len(writer) == 0
        await writer.close()

    asyncio.run(story())


def test_commits_wait_up_to_a_number_of_bytes_and_a_quarter_more_of_what_may_use_the_reserve() -> None:
    async def story() -> None:
        writer = GroupWriter(Disk(), 1_000, lambda commits: None, bytes_limit=4_000)
        told: list[tuple[str, bool]] = []

        def submit(name: str, size: int, reserve: bool = False) -> None:
            def done(error: Exception | None) -> None:
                told.append((name, error is None))

            writer.submit(Commit((entry(size), entry(0)), (), done, reserve=reserve))

        submit("a", 2_000)
        submit("b", 2_500)
        submit("c", 1)
        submit("d", 600, reserve=True)
        submit("e", 600, reserve=True)
        assert writer.queued_bytes == 5_100
        await turns()
        assert dict(told) == {"a": True, "b": True, "c": False, "d": True, "e": False}
        assert writer.queued_bytes == 0
        assert writer.meters.journal_bytes == 5_100
        submit("f", 1)
        await turns()
        assert told[-1] == ("f", True)
        await writer.close()

    asyncio.run(story())


def test_bytes_are_counted_where_a_group_is_not_all_that_waits() -> None:
    async def story() -> None:
        disk = Disk()
        disk.takes_s = STALLED_WRITE_S * 2
        writer = GroupWriter(disk, 10_000, lambda commits: None, disk.clock)
        for _ in range(GROUP * 2 + 10):
            writer.submit(Commit((entry(10),), (), lambda error: None))
        assert writer.queued_bytes == (GROUP * 2 + 10) * 10
        await commit(writer)
        assert writer.queued_bytes == 0
        assert writer.meters.journal_bytes == (GROUP * 2 + 10) * 10
        assert writer.meters.groups.sum == GROUP * 2 + 11
        assert writer.meters.group_seconds.count == 3
        await writer.close()

    asyncio.run(story())


class SickDisk(Disk):
    """Takes nothing while ``sick``."""

    def __init__(self) -> None:
        super().__init__()
        self.sick = False
        self.probes: list[str] = []

    def write(self, commits: Sequence[Commit], marks: Marks) -> Failures | None:
        super().write(commits, marks)
        return [StoreFailing("the disk is full")] * len(commits) if self.sick else None

    def run_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.error = StoreFailing("the disk is full") if self.sick else None

    def probe(self) -> StoreFailing | None:
        self.probes.append(threading.current_thread().name)
        return StoreFailing("the disk is full") if self.sick else None


async def well_again(writer: GroupWriter) -> None:
    async with asyncio.timeout(5):
        while writer.failing:  # noqa: ASYNC110 - the thread tells nobody but the writer
            await asyncio.sleep(0.002)


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stellwerk.storage.sqlite.writer.PROBE_EVERY_S", 0.01)


def test_a_sick_disk_is_left_alone_but_for_a_probe_in_the_thread_and_nobody_waits_for_it(quick_probes: None) -> None:
    async def story() -> None:
        disk = SickDisk()
        writer = GroupWriter(disk, 10_000, lambda commits: None)
        disk.sick = True
        told: list[Exception | None] = []
        for _ in range(GROUP + 50):
            writer.submit(Commit((entry(7),), (), told.append))
        with pytest.raises(StoreFailing):
            await writer.run(lambda: None)
        await turns()
        assert len(told) == GROUP + 50
        assert all(isinstance(each, StoreFailing) for each in told)
        assert (writer.failing, len(writer), writer.queued_bytes) == ("the disk is full", 0, 0)
        writes = len(disk.written_by)
        writer.submit(Commit((), (), told.append, reserve=True))
        with pytest.raises(StoreFailing):
            await writer.run(lambda: None)
        await turns()
        assert isinstance(told[-1], StoreFailing)
        assert len(disk.written_by) == writes
        await asyncio.sleep(0.05)
        assert writer.failing
        disk.sick = False
        await well_again(writer)
        await commit(writer)
        assert set(disk.probes) == {"stellwerk-writer"}
        assert len(disk.probes) >= 2
        assert writer.meters.store_failures == 1
        await writer.close()

    asyncio.run(story())


def test_a_disk_that_falls_sick_under_a_write_of_people_refuses_devices_too(quick_probes: None) -> None:
    async def story() -> None:
        disk = SickDisk()
        writer = GroupWriter(disk, 100, lambda commits: None)
        disk.sick = True
        with pytest.raises(StoreFailing):
            await writer.run(lambda: None)
        assert writer.failing
        await writer.close()
        late: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        writer.submit(Commit((), (), late.set_result))
        assert isinstance(await late, StoreClosed)

    asyncio.run(story())


def test_what_fails_untried_is_told_after_the_group_that_the_thread_is_writing(quick_probes: None) -> None:
    async def story() -> None:
        disk = SickDisk()
        disk.takes_s = STALLED_WRITE_S * 2
        writer = GroupWriter(disk, 10_000, lambda commits: None, disk.clock)
        # So slow that the thread gets the next.
        await commit(writer)
        disk.sick = True
        told: list[int] = []

        def ask(numbers: range) -> None:
            for number in numbers:
                writer.submit(Commit((entry(3),), (), lambda error, number=number: told.append(number)))  # type: ignore[misc]

        first = asyncio.Event()
        writer.submit(Commit((entry(3),), (), lambda error: (told.append(0), first.set())))  # type: ignore[arg-type, return-value]
        await asyncio.sleep(0)
        ask(range(1, 2 * GROUP))
        await first.wait()
        ask(range(2 * GROUP, 2 * GROUP + 5))
        disk.sick = False
        await well_again(writer)
        assert told == list(range(2 * GROUP + 5))
        await writer.close()

    asyncio.run(story())


@pytest.mark.parametrize("takes_s", [0.001, STALLED_WRITE_S * 2])
def test_callbacks_keep_their_order_when_the_disk_falls_sick_and_recovers(quick_probes: None, takes_s: float) -> None:
    async def story() -> None:
        disk = SickDisk()
        disk.takes_s = takes_s
        writer = GroupWriter(disk, 10_000, lambda commits: None, disk.clock)
        told: list[int] = []
        for number in range(3_000):
            writer.submit(Commit((entry(3),), (), lambda error, number=number: told.append(number)))  # type: ignore[misc]
            if number in (700, 1_900):
                disk.sick = True
            if number in (1_200, 2_500):
                disk.sick = False
                await well_again(writer)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await well_again(writer)
        await commit(writer)
        assert told == list(range(3_000))
        assert (len(writer), writer.queued_bytes) == (0, 0)
        await writer.close()

    asyncio.run(story())


def test_writes_of_people_are_bounded() -> None:
    async def story() -> None:
        writer = GroupWriter(Disk(), 100, lambda commits: None)
        outcomes = await asyncio.gather(
            *(writer.run(lambda: None) for _ in range(TASKS_LIMIT + 5)), return_exceptions=True
        )
        assert sum(isinstance(each, StoreOverloaded) for each in outcomes) == 5


def test_under_load_commits_wait_for_company_and_alone_they_do_not() -> None:
    class Counting(Disk):
        def __init__(self) -> None:
            super().__init__()
            self.takes_s = 0.0
            self.groups: list[int] = []

        def write(self, commits: Sequence[Commit], marks: Marks) -> Failures | None:
            self.groups.append(len(commits))
            return super().write(commits, marks)

    async def story() -> None:
        disk = Counting()
        writer = GroupWriter(disk, 10_000, lambda commits: None, disk.clock)
        for _ in range(3):
            writer.submit(Commit((), (), lambda error: None))
            await turns(3)
        assert disk.groups == [1, 1, 1]
        for _ in range(200):
            writer.submit(Commit((), (), lambda error: None))
        disk.now += 0.05
        await turns(3)
        assert disk.groups == [1, 1, 1, 200]
        writer.submit(Commit((), (), lambda error: None))
        await turns(5)
        assert disk.groups == [1, 1, 1, 200]
        await commit(writer)
        assert disk.groups == [1, 1, 1, 200, 2]
        # Enough company: no more waiting.
        for _ in range(COMPANY):
            writer.submit(Commit((), (), lambda error: None))
        await turns(5)
        assert disk.groups == [1, 1, 1, 200, 2, COMPANY]
        # Some time later nobody else is there.
        disk.now += 1.0
        writer.submit(Commit((), (), lambda error: None))
        await turns(3)
        assert disk.groups == [1, 1, 1, 200, 2, COMPANY, 1]
        await writer.close()

    asyncio.run(story())
