"""Due times: in order, movable, cancellable."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.timers import Timed, Timers


class Bell(Timed):
    def __init__(self, rung):
        super().__init__()
        self._rung = rung

    def fire(self, now):
        self._rung.append((self, now))


def test_due_times_fire_in_order_and_once():
    timers, rung = Timers(), []
    first, second = Bell(rung), Bell(rung)
    timers.arm(second, 2.0)
    timers.arm(first, 1.0)
    assert timers.next_due() == 1.0
    timers.fire_due(2.5)
    assert [bell for bell, _ in rung] == [first, second]
    timers.fire_due(9.0)
    assert len(rung) == 2
    assert timers.next_due() == float("inf")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(1, 20))), max_size=40))
def test_only_the_last_word_about_each_counts(moves):
    timers, rung = Timers(), []
    bells = [Bell(rung) for _ in range(4)]
    wanted = {}
    for index, due in moves:
        if due is None:
            timers.cancel(bells[index])
            wanted.pop(index, None)
        else:
            timers.arm(bells[index], float(due))
            wanted[index] = float(due)
    assert timers.next_due() == min(wanted.values(), default=float("inf"))
    for now in range(1, 22):
        timers.fire_due(float(now))
    assert sorted((bells.index(bell), now) for bell, now in rung) == sorted(wanted.items())


def test_what_is_armed_and_cancelled_is_let_go_before_its_time():
    timers, rung = Timers(), []
    kept = Bell(rung)
    timers.arm(kept, 50.0)
    gone = []
    for _ in range(10_000):
        bell = Bell(rung)
        timers.arm(bell, 100.0)
        timers.cancel(bell)
        gone.append(bell)
    assert len(timers) < 200
    for bell in gone[:10]:
        timers.arm(bell, 60.0)
    timers.fire_due(55.0)
    assert [bell for bell, _ in rung] == [kept]
    timers.fire_due(99.0)
    assert len(rung) == 11
    assert timers.next_due() == float("inf")
    assert len(timers) == 0
