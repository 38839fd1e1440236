"""No record is taken twice, and none from before the window."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.replay import WIDTH, ReplayWindow


@pytest.mark.spec("RFC 6347 4.1.2.6")
@given(st.lists(st.integers(0, 200), max_size=60), st.integers(-1, 100))
@settings(max_examples=60, deadline=None)
def test_the_window_remembers_as_a_set_would(numbers: list[int], mark: int) -> None:
    window = ReplayWindow.from_mark(mark)
    seen: set[int] = set()
    highest = mark
    for number in numbers:
        expected = number not in seen and number > mark and number > highest - WIDTH
        assert window.is_new(number) is expected
        if expected:
            assert window.take(number) is (number > highest)
            seen.add(number)
            highest = max(highest, number)
    assert window.highest == highest
    assert window.bitmap < 1 << WIDTH


def test_a_fresh_window_takes_zero_once() -> None:
    window = ReplayWindow()
    assert window.is_new(0)
    assert window.take(0)
    assert not window.is_new(0)


@pytest.mark.parametrize("gap", [63, 64, 65, 1 << 47])
def test_a_leap_leaves_nothing_of_before_open_twice(gap: int) -> None:
    window = ReplayWindow()
    window.take(5)
    window.take(5 + gap)
    assert not window.is_new(5)
    assert window.is_new(5 + gap - 62)
