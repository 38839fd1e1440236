"""Commands that were sent and not answered yet: what is stored of them, and which are sent again."""

from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.changes import ChangeCommand, Commit
from stellwerk.app.handlers.flight import Flight
from stellwerk.app.handlers.lanes import Lanes
from stellwerk.app.handlers.unanswered import TRIES, Unanswered
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import UNANSWERED, Command, Step
from stellwerk.lwm2m.operations import Execute, Read
from stellwerk.lwm2m.path import Path

NOW_MS = 1_790_000_000_000


class Clock:
    def wall_ms(self) -> int:
        return NOW_MS

    def lifetime_ms(self) -> int:
        return NOW_MS


class Written:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        self.commits.append(commit)

    @property
    def changes(self) -> list[Any]:
        return [change for commit in self.commits for change in commit.changes]


class Bench:
    def __init__(self) -> None:
        self.store: Any = Written()
        nobody: Any = None
        self.lanes = Lanes(
            store=nobody,
            registry=nobody,
            observations=nobody,
            tasks=nobody,
            again_s=1.0,
            taken=lambda device, rows: None,
        )
        clock: Any = Clock()
        self.unanswered = Unanswered(store=self.store, lanes=self.lanes, clock=clock)


def command(operation: Any = None, step: Step = Step.SENT, number: int = 7) -> Command:
    operation = Read(Path(3, 0, 0)) if operation is None else operation
    return Command(
        number, DeviceId(1), "ri", "rn", "id", "read", operation, "READ", None, step, NOW_MS - 1_000, NOW_MS + 1_000
    )


def test_what_was_delivered_and_is_still_on_its_way_is_stored_in_one_commit() -> None:
    bench = Bench()
    flights = {each: Flight(command(number=each)) for each in (1, 2, 3)}
    for each in (1, 2, 9):
        bench.unanswered.delivered(each)
    bench.unanswered.note_delivered(flights)
    assert len(bench.store.commits) == 1
    assert sorted(change.command_id for change in bench.store.changes) == [1, 2]
    assert [flights[each].command.step for each in (1, 2, 3)] == [Step.DELIVERED, Step.DELIVERED, Step.SENT]
    bench.unanswered.note_delivered(flights)
    assert len(bench.store.commits) == 1


def test_a_command_is_repeated_while_it_does_no_harm_and_has_tries_and_time_left() -> None:
    bench = Bench()
    assert bench.unanswered.may_repeat(command())
    assert not bench.unanswered.may_repeat(command(Execute(Path(3, 0, 4))))
    assert not bench.unanswered.may_repeat(replace(command(), expires_ms=NOW_MS))
    bench.lanes.tries[7] = TRIES
    assert not bench.unanswered.may_repeat(command())


@pytest.mark.parametrize("step", [Step.SENT, Step.DELIVERED])
def test_a_command_that_waits_for_another_try_says_so_in_its_row(step: Step) -> None:
    bench, waiting = Bench(), command(step=step)
    bench.lanes.tries[7] = 2
    bench.unanswered.wait_again(waiting, "no answer came", NOW_MS)
    detail = f"no answer came; 2 of {TRIES} tries made, the next when the device is heard"
    assert (waiting.step, waiting.reason, waiting.detail) == (Step.SENT, UNANSWERED, detail)
    assert bench.store.changes == [ChangeCommand(7, Step.SENT, NOW_MS, UNANSWERED, detail)]
    assert list(bench.lanes.of(waiting.device_id).waiting) == [waiting]
