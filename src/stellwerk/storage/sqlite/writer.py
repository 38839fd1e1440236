"""Group commit: many decisions of the event loop per transaction.

While the disk is fast the loop writes a group itself, at the end of the turn that decided it: a commit of a few hundred
microseconds costs less than handing the interpreter to a thread and back (decision 0005). When writes take longer than
`SLOW_WRITE_S` on average, or one took `STALLED_WRITE_S`, they go to a thread for `AWAY_S`, so that a slow disk delays
acknowledgements but stops nothing else; commits gather meanwhile. What people write (`run`) goes behind the commits,
one transaction per round.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from stellwerk.app.ports import Commit, StoreOverloaded

T = TypeVar("T")

GROUP: Final = 512
"""Commits in one transaction at most."""
TASKS_PER_ROUND: Final = 32
"""Writes of people in one transaction at most: the journal waits no longer than these take (design §5)."""

SLOW_WRITE_S: Final = 0.01
"""Rounds that take longer than this on average shall not hold up the loop."""
STALLED_WRITE_S: Final = 0.2
"""A single round this slow is enough. Disks stall for some tens of milliseconds now and then; that is no reason."""
_MEMORY: Final = 16
"""About how many rounds the average looks back."""
AWAY_S: Final = 10.0
"""How long rounds go to the thread after a slow one."""

Failures = Sequence[Exception | None]
"""One per commit or task: what kept it from being stored, or None."""


class StoreClosed(Exception):
    """The store takes nothing any more."""


class Task:
    """A write of people: ``work`` runs inside a transaction, its result or error goes to
    ``future``."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Callable[[], Any], future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None


class Backend(Protocol):
    """What the thread calls. Neither method may raise: what fails is told per commit or task."""

    def write(self, commits: Sequence[Commit]) -> Failures | None:
        """Store all of them; None when nothing failed."""
        ...

    def run_tasks(self, tasks: Sequence[Task]) -> None:
        """Run them, each all or nothing, and set ``result`` or ``error``."""
        ...


class GroupWriter:
    """Owns the writer thread. All methods belong to the event loop."""

    def __init__(
        self,
        backend: Backend,
        queue_limit: int,
        on_commit: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_commit`` runs on the loop after each group that stored something, with its size, before its callbacks.
        ``clock``: seconds that tell how long a write took."""
        self._clock = clock
        self._away_until = 0.0
        self._usual_s = 0.0
        self._backend = backend
        self._queue_limit = queue_limit
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._commits: list[Commit] = []
        self._tasks: list[Task] = []
        self._writing = 0
        self._busy = False
        self._planned = False
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rounds: SimpleQueue[tuple[list[Commit], list[Task]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stellwerk-writer", daemon=True)
        self._thread.start()

    def submit(self, commit: Commit) -> None:
        """Queue a commit for the next group; its ``done`` runs once, later."""
        commits = self._commits
        if self._closing:
            self._loop.call_soon(commit.done, StoreClosed("the store is closed"))
            return
        waiting = len(commits) + self._writing
        if waiting >= self._queue_limit:
            self._loop.call_soon(commit.done, StoreOverloaded(waiting))
            return
        commits.append(commit)
        if not self._planned and not self._busy:
            self._plan()

    def __len__(self) -> int:
        """Commits waiting or being written."""
        return len(self._commits) + self._writing

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a transaction, behind the commits that wait. Raises what it raises."""
        if self._closing:
            raise StoreClosed("the store is closed")
        task = Task(work, self._loop.create_future())
        self._tasks.append(task)
        if not self._planned and not self._busy:
            self._plan()
        result: T = await task.future
        return result

    async def close(self) -> None:
        """Write all that waits, run the callbacks, end the thread. A second call does nothing."""
        if self._closing:
            return
        self._closing = True
        await self._idle.wait()
        self._rounds.put(None)
        self._thread.join()

    def _plan(self) -> None:
        # At the end of this turn of the loop: all that its datagrams decided goes in one group.
        self._planned = True
        self._idle.clear()
        self._loop.call_soon(self._dispatch)

    def _dispatch(self, away: bool = False) -> None:
        """``away``: to the thread in any case."""
        self._planned = False
        if self._busy:
            return
        commits, tasks = self._commits[:GROUP], self._tasks[:TASKS_PER_ROUND]
        if not commits and not tasks:
            self._idle.set()
            return
        del self._commits[:GROUP]
        del self._tasks[:TASKS_PER_ROUND]
        self._busy = True
        self._writing = len(commits)
        if away or self._clock() < self._away_until:
            self._rounds.put((commits, tasks))
        else:
            self._write_here(commits, tasks)

    def _write_here(self, commits: list[Commit], tasks: list[Task]) -> None:
        started = self._clock()
        failures = self._backend.write(commits) if commits else None
        if tasks:
            self._backend.run_tasks(tasks)
        self._judge(self._clock() - started)
        self._busy = False
        self._writing = 0
        if commits:
            self._tell_all(commits, failures)
        if tasks:
            self._tell_tasks(tasks)
        if not self._planned:
            # Also with nothing to write: the dispatch is what declares the writer idle.
            self._plan()

    def _run(self) -> None:
        """The thread."""
        while (work := self._rounds.get()) is not None:
            commits, tasks = work
            if commits:
                started = self._clock()
                failures = self._backend.write(commits)
                took_s = self._clock() - started
                self._loop.call_soon_threadsafe(self._written, commits, failures, not tasks, took_s)
            if tasks:
                started = self._clock()
                self._backend.run_tasks(tasks)
                self._loop.call_soon_threadsafe(self._tasks_ran, tasks, self._clock() - started)

    def _written(self, commits: list[Commit], failures: Failures | None, last: bool, took_s: float) -> None:
        self._writing = 0
        self._after_round(last, took_s, lambda: self._tell_all(commits, failures))

    def _tasks_ran(self, tasks: list[Task], took_s: float) -> None:
        self._after_round(True, took_s, lambda: self._tell_tasks(tasks))

    def _judge(self, took_s: float) -> None:
        self._usual_s += (took_s - self._usual_s) / _MEMORY
        if self._usual_s > SLOW_WRITE_S or took_s > STALLED_WRITE_S:
            self._away_until = self._clock() + AWAY_S

    def _after_round(self, last: bool, took_s: float, tell: Callable[[], None]) -> None:
        """The thread is done with (part of) a round."""
        self._judge(took_s)
        if not last:
            tell()
            return
        self._busy = False
        if self._clock() < self._away_until:
            # First the next group, so that the thread works while the callbacks run. Written here it would be told
            # first, should the time have passed between the two looks at the clock.
            self._dispatch(away=True)
            tell()
        else:
            # Here nothing may be written, and told, before what the thread wrote is told.
            self._planned = True
            tell()
            self._dispatch()

    def _tell_all(self, commits: list[Commit], failures: Failures | None) -> None:
        if failures is None:
            self._on_commit(len(commits))
            for commit in commits:
                self._tell(commit, None)
            return
        if not all(failures):
            self._on_commit(len(commits))
        for commit, failure in zip(commits, failures, strict=True):
            self._tell(commit, failure)

    def _tell(self, commit: Commit, failure: Exception | None) -> None:
        try:
            commit.done(failure)
        except Exception as error:
            self._loop.call_exception_handler({"message": "a commit's callback failed", "exception": error})

    def _tell_tasks(self, tasks: list[Task]) -> None:
        self._on_commit(len(tasks))
        for task in tasks:
            if task.future.done():
                continue
            if task.error is not None:
                task.future.set_exception(task.error)
            else:
                task.future.set_result(task.result)
