"""Group commit: many decisions of the event loop per transaction.

While the disk is fast the loop writes a group itself, at the end of the turn that decided it: a commit of a few hundred
microseconds costs less than handing the interpreter to a thread and back (decision 0005). When writes take longer than
`SLOW_WRITE_S` on average, or one took `STALLED_WRITE_S`, they go to a thread for `AWAY_S`, so that a slow disk delays
acknowledgements but stops nothing else; commits gather meanwhile. What people write (`run`) goes behind the commits,
one transaction per round.

When the database says that nothing can be written (a full disk, say), everything is refused with `StoreFailing`, and a
probe in the thread looks every `PROBE_EVERY_S` whether that is over.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import structlog

from stellwerk.app.changes import Commit
from stellwerk.app.meters import Meters
from stellwerk.app.ports import StoreFailing, StoreOverloaded, StoreTrouble
from stellwerk.app.security_ports import Marks
from stellwerk.storage.sqlite.marks import ReadMarks

log = structlog.get_logger(__name__)

T = TypeVar("T")

GROUP: Final = 512
"""Commits in one transaction at most."""
TASKS_PER_ROUND: Final = 32
"""Writes of people in one transaction at most: the journal waits no longer than these take (design §5)."""

TASKS_LIMIT: Final = 4_000
"""Writes of people that may wait."""
QUEUE_BYTES: Final = 48 * 1024 * 1024
"""Payload that may wait."""
PROBE_EVERY_S: Final = 1.0
"""While nothing can be written: how often to look whether that is over."""
GATHER_S: Final = 0.002
"""Under load, groups start this far apart: each has its price, whatever its size, and an answer may be this much
later."""
COMPANY: Final = 16
"""With so many commits a group does not wait any longer: its price is shared, and whoever is answered may ask again."""
LOAD_RATE: Final = 1_500
"""Commits a second that are load; below, nobody waits for company."""
_LOOK_S: Final = 0.02
"""How long commits are counted before the rate is judged anew."""

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


class StoreClosed(StoreTrouble):
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
    """What the loop or the thread calls, one at a time. No method may raise: what fails is told per commit or task,
    with `StoreFailing` for what is nobody's fault."""

    def write(self, commits: Sequence[Commit], marks: Marks) -> Failures | None:
        """Store all of them; None when nothing failed. ``marks`` are stored if any of them is."""
        ...

    def run_tasks(self, tasks: Sequence[Task]) -> None:
        """Run them, each all or nothing, and set ``result`` or ``error``."""
        ...

    def probe(self) -> StoreFailing | None:
        """Write something of some size; what keeps that from being done, or None."""
        ...


class GroupWriter:
    """Owns the writer thread. All methods belong to the event loop."""

    def __init__(
        self,
        backend: Backend,
        queue_limit: int,
        on_commit: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        bytes_limit: int = QUEUE_BYTES,
        meters: Meters | None = None,
        marks: ReadMarks | None = None,
    ) -> None:
        """``on_commit`` runs on the loop after each group that stored something, with its size, before its callbacks.
        ``clock``: seconds that tell how long a write took. ``queue_limit`` commits or ``bytes_limit`` bytes of payload
        may wait, and a quarter more of those that may use the reserve."""
        self._clock = clock
        self.meters = meters or Meters(clock)
        self.failing = ""
        """Why nothing can be written; empty while it can."""
        self.queued_bytes = 0
        """Payload that waits or is being written."""
        self._bytes_limit = bytes_limit
        self._writing_bytes = 0
        self._marks = marks or ReadMarks()
        self._writing_marks: Marks = ()
        self._failing_since = 0.0
        self._refused: tuple[list[Commit], list[Task], StoreFailing] | None = None
        """What fails without a try, to be told once the group that is with the thread is told."""
        self._probing: asyncio.TimerHandle | None = None
        self._away_until = 0.0
        self._usual_s = 0.0
        self._backend = backend
        self._queue_limit = queue_limit
        self._open_to = queue_limit
        """How long the queue may be just now for a commit to be taken without a closer look."""
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._commits: list[Commit] = []
        self._tasks: list[Task] = []
        self._writing = 0
        self._busy = False
        self._planned = False
        self._started = 0.0
        self._looked = 0.0
        self._counted = 0
        self._loaded = False
        self._gathering: asyncio.TimerHandle | None = None
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rounds: SimpleQueue[tuple[list[Commit], list[Task], Marks] | Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stellwerk-writer", daemon=True)
        self._thread.start()

    def submit(self, commit: Commit) -> None:
        """Queue a commit for the next group; its ``done`` runs once, later."""
        commits = self._commits
        if len(commits) + self._writing >= self._open_to or self.queued_bytes >= self._bytes_limit:
            refusal = self._refusal(commit)
            if refusal is not None:
                if self._refused is not None:
                    self._refused[0].append(commit)
                else:
                    self._loop.call_soon(commit.done, refusal)
                return
        for entry in commit.entries:
            self.queued_bytes += len(entry.payload)
        commits.append(commit)
        if self._gathering is not None:
            if len(commits) >= COMPANY:
                self._gathering.cancel()
                self._gathering = None
                self._loop.call_soon(self._dispatch)
        elif not self._planned and not self._busy:
            self._plan()

    def __len__(self) -> int:
        """Commits waiting or being written."""
        return len(self._commits) + self._writing

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a transaction, behind the commits that wait. Raises what it raises."""
        return await self.start(work)

    def start(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """`run`, for whoever does not wait. Raises `StoreTrouble` where it is not even tried."""
        if self._closing:
            raise StoreClosed("the store is closed")
        if self.failing:
            raise StoreFailing(self.failing)
        if len(self._tasks) >= TASKS_LIMIT:
            raise StoreOverloaded(len(self._tasks))
        task = Task(work, self._loop.create_future())
        self._tasks.append(task)
        if not self._planned and not self._busy:
            self._plan()
        return task.future

    async def close(self) -> None:
        """Write all that waits, run the callbacks, end the thread. A second call does nothing."""
        if self._closing:
            return
        self._closing = True
        self._open_to = 0
        if self._probing is not None:
            self._probing.cancel()
        await self._idle.wait()
        self._rounds.put(None)
        self._thread.join()

    def _refusal(self, commit: Commit) -> StoreTrouble | None:
        """Why a commit is not taken although others wait, or None."""
        if self._closing:
            return StoreClosed("the store is closed")
        if self.failing:
            return StoreFailing(self.failing)
        waiting = len(self)
        if (
            commit.reserve
            and waiting < self._queue_limit + self._queue_limit // 4
            and self.queued_bytes < self._bytes_limit + self._bytes_limit // 4
        ):
            return None
        return StoreOverloaded(waiting)

    def _plan(self) -> None:
        # At the end of this turn of the loop: all that its datagrams decided goes in one group.
        self._planned = True
        self._idle.clear()
        if self._loaded and not self._closing:
            wait_s = self._started + GATHER_S - self._clock()
            # The loop counts in milliseconds.
            if wait_s > 0.0005:
                self._gathering = self._loop.call_later(wait_s, self._dispatch)
                return
        self._loop.call_soon(self._dispatch)

    def _dispatch(self, away: bool = False) -> None:
        """``away``: to the thread in any case."""
        self._planned = False
        self._gathering = None
        if self._busy:
            return
        commits, tasks = self._commits[:GROUP], self._tasks[:TASKS_PER_ROUND]
        if not commits and not tasks:
            self._idle.set()
            return
        del self._commits[:GROUP]
        del self._tasks[:TASKS_PER_ROUND]
        self._started = now = self._clock()
        self._counted += len(commits)
        if now - self._looked > _LOOK_S:
            self._loaded = self._counted > LOAD_RATE * (now - self._looked)
            self._looked, self._counted = now, 0
        self._busy = True
        self._writing = len(commits)
        # Nearly always the group is all that waits.
        self._writing_bytes = _bytes_of(commits) if self._commits else self.queued_bytes
        # Asked now, when all is read whose effects are in this group.
        self._writing_marks = self._marks.take() if commits else ()
        if away or self._clock() < self._away_until:
            self._rounds.put((commits, tasks, self._writing_marks))
        else:
            self._write_here(commits, tasks)

    def _write_here(self, commits: list[Commit], tasks: list[Task]) -> None:
        started = self._clock()
        failures = None
        if commits:
            failures = self._backend.write(commits, self._writing_marks)
            self.meters.group_seconds.observe(self._clock() - started)
        if tasks:
            self._backend.run_tasks(tasks)
        self._judge(self._clock() - started)
        self._busy = False
        size = self._wrote(failures)
        if commits:
            self._tell_all(commits, failures, size)
        if tasks:
            self._tell_tasks(tasks)
        if not self._planned:
            if self._commits or self._tasks:
                self._plan()
            else:
                self._idle.set()

    def _run(self) -> None:
        """The thread."""
        while (work := self._rounds.get()) is not None:
            if callable(work):
                work()
                continue
            commits, tasks, marks = work
            if commits:
                started = self._clock()
                failures = self._backend.write(commits, marks)
                took_s = self._clock() - started
                self._loop.call_soon_threadsafe(self._written, commits, failures, not tasks, took_s)
            if tasks:
                started = self._clock()
                self._backend.run_tasks(tasks)
                self._loop.call_soon_threadsafe(self._tasks_ran, tasks, self._clock() - started)

    def _written(self, commits: list[Commit], failures: Failures | None, last: bool, took_s: float) -> None:
        size = self._wrote(failures)
        self.meters.group_seconds.observe(took_s)
        self._after_round(last, took_s, lambda: self._tell_all(commits, failures, size))

    def _tasks_ran(self, tasks: list[Task], took_s: float) -> None:
        self._after_round(True, took_s, lambda: self._tell_tasks(tasks))

    def _judge(self, took_s: float) -> None:
        self._usual_s += (took_s - self._usual_s) / _MEMORY
        if self._usual_s > SLOW_WRITE_S or took_s > STALLED_WRITE_S:
            self._away_until = self._clock() + AWAY_S

    def _after_round(self, last: bool, took_s: float, tell: Callable[[], None]) -> None:
        """The thread is done with (part of) a round."""
        self._judge(took_s)
        refused, self._refused = self._refused, None
        if refused is not None:
            self._loop.call_soon(self._tell_failed, *refused)
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

    def _wrote(self, failures: Failures | None) -> int:
        """What was being written is stored, or refused; the bytes of payload in it."""
        if self._writing_marks:
            if failures is None or None in failures:
                self._marks.stored(self._writing_marks)
            else:
                self._marks.put_back(self._writing_marks)
            self._writing_marks = ()
        size, self._writing_bytes = self._writing_bytes, 0
        self._writing = 0
        self.queued_bytes -= size
        return size

    def _tell_all(self, commits: list[Commit], failures: Failures | None, size: int) -> None:
        if failures is None:
            self._count(len(commits), size)
            self._on_commit(len(commits))
            for commit in commits:
                self._tell(commit, None)
            return
        stored = [commit for commit, failure in zip(commits, failures, strict=True) if failure is None]
        if stored:
            self._count(len(stored), _bytes_of(stored))
            self._on_commit(len(stored))
        for failure in failures:
            if isinstance(failure, StoreFailing):
                self._fail(failure)
                break
        for commit, failure in zip(commits, failures, strict=True):
            self._tell(commit, failure)

    def _tell(self, commit: Commit, failure: Exception | None) -> None:
        try:
            commit.done(failure)
        except Exception as error:
            self._loop.call_exception_handler({"message": "a commit's callback failed", "exception": error})

    def _count(self, commits: int, size: int) -> None:
        self.meters.groups.observe(commits)
        self.meters.journal_bytes += size

    def _tell_tasks(self, tasks: list[Task]) -> None:
        self.meters.writes += len(tasks)
        self._on_commit(len(tasks))
        for task in tasks:
            if isinstance(task.error, StoreFailing):
                self._fail(task.error)
                break
        for task in tasks:
            if task.future.done():
                continue
            if task.error is not None:
                task.future.set_exception(task.error)
            else:
                task.future.set_result(task.result)

    # -- nothing can be written --

    def _fail(self, failure: StoreFailing) -> None:
        if self.failing or self._closing:
            return
        self.failing = failure.reason
        self._failing_since = self._clock()
        self._open_to = 0
        self.meters.store_failures += 1
        log.error("store.failing", reason=failure.reason, meaning="nothing is acknowledged that cannot be stored")
        # What waits behind the group that failed would fail as well, and each try on a sick disk may take seconds.
        commits, self._commits = self._commits, []
        self.queued_bytes = self._writing_bytes
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.error = failure
        if self._busy and self._writing:
            # The group that the thread has just got came before them.
            self._refused = commits, tasks, failure
        else:
            self._loop.call_soon(self._tell_failed, commits, tasks, failure)
        self._probe_later()

    def _tell_failed(self, commits: list[Commit], tasks: list[Task], failure: StoreFailing) -> None:
        for commit in commits:
            self._tell(commit, failure)
        for task in tasks:
            if not task.future.done():
                task.future.set_exception(failure)

    def _probe_later(self) -> None:
        self._probing = self._loop.call_later(PROBE_EVERY_S, self._probe)

    def _probe(self) -> None:
        # In the thread: a disk that is sick takes its time to say so.
        self._probing = None
        self._busy = True
        self._idle.clear()
        self._rounds.put(self._probe_away)

    def _probe_away(self) -> None:
        failure = self._backend.probe()
        self._loop.call_soon_threadsafe(self._probed, failure)

    def _probed(self, failure: StoreFailing | None) -> None:
        self._busy = False
        if failure is None:
            log.warning("store.recovered", reason=self.failing, after_s=round(self._clock() - self._failing_since, 1))
            self.failing = ""
            self._open_to = 0 if self._closing else self._queue_limit
        elif not self._closing:
            self._probe_later()
        if not self._planned:
            # Declares the writer idle.
            self._plan()


def _bytes_of(commits: Sequence[Commit]) -> int:
    return sum(len(entry.payload) for commit in commits for entry in commit.entries)
