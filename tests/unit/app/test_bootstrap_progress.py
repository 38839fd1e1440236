"""What the journal says of a bootstrap session, and what that makes of a row that says that it runs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.bootstrap_progress import (
    Progress,
    as_interrupted,
    as_known,
    encode_progress,
    ended,
    progress_in,
    spent_in,
)
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.history import (
    MAX_STEPS,
    BootstrapSession,
    BootstrapState,
    BootstrapTrigger,
    StepRecord,
)

RUNNING = BootstrapSession(
    7, DeviceId(1), "dev1", "udp://192.0.2.7", BootstrapTrigger.CLIENT, BootstrapState.RUNNING, 5
)
texts = st.text(max_size=20)
states = st.none() | st.sampled_from(BootstrapState)
steps = st.builds(StepRecord, st.integers(0, 1 << 50), texts, texts, texts, st.integers(0, 599), texts, texts)


def line(payload: bytes, kind: Kind = Kind.LOG) -> JournalEntry:
    return JournalEntry(kind, 1, 5, payload=payload)


def over(number: int) -> StepRecord:
    return StepRecord(number, "Bootstrap-Write", f"/0/{number}", status=204)


@given(st.builds(Progress, st.integers(1, 1 << 60), over=st.none() | steps, under_way=st.none() | steps, state=states))
def test_what_is_written_is_read(progress: Progress) -> None:
    assert progress_in([line(encode_progress(progress))]) == [progress]


@given(st.binary(max_size=60))
def test_any_bytes_are_understood_or_left_out(payload: bytes) -> None:
    for each in progress_in([line(payload)]):
        assert isinstance(each, Progress)


def test_only_lines_of_the_log_speak_of_sessions() -> None:
    payload = encode_progress(Progress(7))
    assert progress_in([line(payload, Kind.SEND), line(b""), line(payload)]) == [Progress(7)]


@pytest.mark.spec("B-16")
def test_a_session_that_runs_is_known_with_the_step_under_way() -> None:
    asked = StepRecord(9, "Bootstrap-Write", "/1/0")
    known = [Progress(7, None, over(1)), Progress(8, over(3)), Progress(7, over(1), asked)]
    assert as_known(RUNNING, known) == replace(RUNNING, steps=(over(1), asked))
    assert as_known(RUNNING, []) == RUNNING


@pytest.mark.spec("B-16")
def test_of_many_steps_the_first_and_the_last_are_kept() -> None:
    known = [Progress(7, over(number), over(number + 1)) for number in range(MAX_STEPS + 20)]
    interrupted = as_interrupted(RUNNING, known, 99)
    assert len(interrupted.steps) == MAX_STEPS
    assert interrupted.steps[0] == over(0)
    assert (interrupted.steps[-1].path, interrupted.steps[-1].failure) == ("/0/120", "interrupted")
    assert [each.summary for each in interrupted.steps if each.operation == "..."] == ["22 steps are not kept"]


@pytest.mark.spec("B-16")
def test_a_session_between_two_steps_is_interrupted_during_none() -> None:
    interrupted = as_interrupted(RUNNING, [Progress(7, over(1))], 99)
    assert (interrupted.state, interrupted.detail, interrupted.ended_ms) == (BootstrapState.INTERRUPTED, "", 99)
    assert interrupted.steps == (over(1),)


def test_an_end_that_is_known_counts() -> None:
    done = replace(RUNNING, state=BootstrapState.CONFIGURED, ended_ms=8, detail="after a correction", steps=(over(1),))
    known = [Progress(7, over(1)), ended(done, 8)]
    assert as_interrupted(RUNNING, known, 99) == done
    assert (spent_in(done, known), spent_in(replace(done, number=8), known)) == (8, 0)


WHOLE = Progress(3, over(1), replace(over(2), detail="käse"), BootstrapState.LOST, 5, "lost", "the peer closed it", 6)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
def test_what_another_version_wrote_is_left_out_and_the_rest_is_read(changes: list[tuple[int, int]]) -> None:
    changed = bytearray(encode_progress(WHOLE))
    for at, byte in changes:
        changed[at % len(changed)] = byte
    assert progress_in([line(bytes(changed)), line(encode_progress(WHOLE))])[-1] == WHOLE


@pytest.mark.parametrize(("known", "unknown"), [(b"lost", b"lust"), ("ä".encode(), b"\xff\xff")], ids=["end", "text"])
def test_a_line_with_what_this_version_does_not_know_is_left_out(known: bytes, unknown: bytes) -> None:
    payload = encode_progress(WHOLE)
    assert known in payload
    assert progress_in([line(payload.replace(known, unknown)), line(payload)]) == [WHOLE]
