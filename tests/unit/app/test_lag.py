"""How far the projector is behind, from a few numbers now and then."""

from hypothesis import given
from hypothesis import strategies as st

from stellwerk.app.lag import Lag


def test_a_projector_that_keeps_up_has_no_lag() -> None:
    lag = Lag()
    for step in range(10):
        lag.look(step * 100, step * 100, step * 5_000, step * 0.25)
        assert (lag.entries, lag.bytes, lag.age_s, lag.still_s) == (0, 0, 0.0, 0.0)


def test_lag_is_entries_bytes_and_the_age_of_the_oldest() -> None:
    lag = Lag()
    lag.look(0, 0, 0, 100.0)
    lag.look(10, 0, 1_000, 101.0)
    lag.look(30, 0, 3_000, 102.0)
    assert (lag.entries, lag.bytes, lag.age_s) == (30, 3_000, 1.0)
    lag.look(30, 10, 3_000, 103.0)
    assert (lag.entries, lag.bytes, lag.age_s) == (20, 2_000, 1.0)
    lag.look(30, 30, 3_000, 104.0)
    assert (lag.entries, lag.bytes, lag.age_s) == (0, 0, 0.0)


def test_standing_still_is_counted_from_the_last_step_and_only_while_entries_wait() -> None:
    lag = Lag()
    lag.look(5, 5, 0, 0.0)
    lag.look(5, 5, 0, 1_000.0)
    assert lag.still_s == 0.0
    lag.look(9, 5, 0, 1_001.0)
    lag.look(9, 5, 0, 1_008.0)
    assert lag.still_s == 8.0
    lag.look(20, 6, 0, 1_009.0)
    assert lag.still_s == 0.0
    assert lag.entries == 14


def test_what_an_earlier_run_left_is_as_old_as_the_first_look() -> None:
    lag = Lag()
    lag.look(1_000, 400, 0, 50.0)
    lag.look(1_000, 500, 0, 53.0)
    assert (lag.entries, lag.bytes, lag.age_s) == (500, 0, 3.0)


def test_hours_behind_need_no_more_memory_and_keep_the_age() -> None:
    lag = Lag()
    for step in range(20_000):
        lag.look(step + 1, 0, step * 10, step * 0.25)
    assert lag.age_s == 19_999 * 0.25
    assert len(lag._looks) <= 1_001
    lag.look(20_000, 10_000, 200_000, 5_000.0)
    # To within what the thinned looks know.
    assert 2_400 <= lag.age_s <= 2_600
    assert 95_000 <= lag.bytes <= 105_000


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=80))
def test_numbers_never_go_below_nothing(steps: list[tuple[int, int]]) -> None:
    lag = Lag()
    last = projected = 0
    for step, (written, taken) in enumerate(steps):
        last += written
        projected = min(last, projected + taken)
        lag.look(last, projected, last * 100, float(step))
        assert lag.entries == last - projected
        assert 0 <= lag.bytes <= (last - projected + 50) * 100
        assert 0 <= lag.age_s <= step
        assert (lag.age_s == 0) >= (lag.entries == 0)
