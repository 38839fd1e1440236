"""The steps of a session as the store keeps them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.device.bootstrap.history import MAX_STEPS, MAX_STEPS_TEXT, StepRecord, decode_steps, encode_steps

STEPS = st.builds(
    StepRecord,
    st.integers(0, 2**50),
    st.sampled_from(["Bootstrap-Write", "Bootstrap-Finish"]),
    st.sampled_from(["/", "/0/1"]),
    st.text(max_size=50),
    st.sampled_from([0, 204, 400]),
    st.sampled_from(["", "timeout"]),
    st.text(max_size=50),
)


@given(st.lists(STEPS, max_size=5))
def test_steps_come_back_as_they_were(steps: list[StepRecord]):
    assert decode_steps(encode_steps(steps)) == tuple(steps)


def test_of_too_many_steps_the_first_and_the_last_stay():
    steps = [StepRecord(each, "Bootstrap-Write", f"/0/{each}") for each in range(MAX_STEPS + 10)]
    kept = decode_steps(encode_steps(steps))
    assert len(kept) == MAX_STEPS
    assert (kept[0], kept[-1]) == (steps[0], steps[-1])
    assert [each.summary for each in kept if each.operation == "..."] == ["11 steps are not kept"]


def test_long_texts_never_make_a_row_long():
    steps = [StepRecord(each, "Bootstrap-Write", "/0/1", "s" * 1000, 204, "", "d" * 9000) for each in range(MAX_STEPS)]
    text = encode_steps(steps)
    assert len(text) <= MAX_STEPS_TEXT
    assert [each.status for each in decode_steps(text)] == [204] * MAX_STEPS


@pytest.mark.parametrize("text", ["", "5", "[5]", "[{}]", '[{"at":"x","op":"y"}]', '[{"at":1,"op":2}]', "[" * 100_000])
def test_anything_else_is_refused(text: str):
    with pytest.raises(ValueError):
        decode_steps(text)
