"""A command's life as a table."""

import pytest

from stellwerk.core.ids import DeviceId
from stellwerk.device.command import FINAL, FOLLOWS, Command, Step, StepRefused, advance, after_restart
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.operations import (
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    Operation,
    Read,
    Write,
    WriteAttributes,
)
from stellwerk.lwm2m.path import Path

PATH = Path(3, 0, 0)


def test_every_step_has_a_row_and_final_ones_lead_nowhere() -> None:
    assert set(FOLLOWS) == set(Step)
    assert all((not FOLLOWS[step]) == (step in FINAL) for step in Step)


@pytest.mark.parametrize("current", Step)
def test_a_step_is_taken_exactly_where_the_table_allows_it(current: Step) -> None:
    for wanted in Step:
        if wanted in FOLLOWS[current]:
            assert advance(current, wanted) is wanted
        else:
            with pytest.raises(StepRefused) as caught:
                advance(current, wanted)
            assert (caught.value.current, caught.value.wanted) == (current, wanted)


def test_from_the_queue_every_end_can_be_reached() -> None:
    reached, todo = {Step.QUEUED}, [Step.QUEUED]
    while todo:
        for step in FOLLOWS[todo.pop()] - reached:
            reached.add(step)
            todo.append(step)
    assert reached == set(Step)


def test_what_was_never_sent_has_not_succeeded() -> None:
    assert Step.SUCCEEDED not in FOLLOWS[Step.QUEUED]
    assert Step.OUTCOME_UNKNOWN not in FOLLOWS[Step.QUEUED]


@pytest.mark.spec("Design 3")
@pytest.mark.parametrize(
    ("operation", "step"),
    [
        (Read(PATH), Step.QUEUED),
        (Write(PATH, Content()), Step.QUEUED),
        (Observe(PATH), Step.QUEUED),
        (CancelObservation(PATH), Step.QUEUED),
        (Discover(PATH), Step.QUEUED),
        (WriteAttributes(PATH, ()), Step.QUEUED),
        (Execute(PATH), Step.OUTCOME_UNKNOWN),
        (Create(Path(3), Content()), Step.OUTCOME_UNKNOWN),
        (Delete(Path(3, 1)), Step.OUTCOME_UNKNOWN),
    ],
)
def test_after_a_restart_only_what_is_harmless_is_repeated(operation: Operation, step: Step) -> None:
    assert after_restart(operation) is step
    assert step in FOLLOWS[Step.SENT]


@pytest.mark.spec("D2C 8")
def test_the_trace_labels_come_in_the_printed_order() -> None:
    command = Command(
        1, DeviceId(2), "ri", "msg-1", "7cc-1", "read", Read(PATH), '"READ /3/0/0"', None, Step.QUEUED, 0, 0
    )
    assert command.labels == ("outgoing_msgRN:msg-1", "requestId:7cc-1")
