"""What is refused at which strain, for how long, and who is told when to come again."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scenario.stack import SeededEntropy

from stellwerk.app.brake import HOLD_S, LONGEST_S, Bounds, Brake, Level, Strain
from stellwerk.app.ports import StoreFailing, StoreOverloaded
from stellwerk.lwm2m.status import Status

BOUNDS = Bounds(queue=100, queue_bytes=1_000, lag=1_000, lag_bytes=10_000, lag_s=10.0)


def brake() -> Brake:
    return Brake(SeededEntropy(), BOUNDS)


@pytest.mark.spec("MSG-14")
@pytest.mark.parametrize(
    ("strain", "level", "why"),
    [
        (Strain(), Level.NONE, ""),
        (Strain(queue=99, queue_bytes=999, lag=999, lag_bytes=9_999, lag_s=9.9), Level.NONE, ""),
        (Strain(queue=100), Level.SEND, "queue"),
        (Strain(queue=200), Level.REGISTER, "queue"),
        (Strain(queue=400), Level.UPDATE, "queue"),
        (Strain(queue_bytes=1_000), Level.SEND, "queue-bytes"),
        (Strain(lag=2_000), Level.REGISTER, "lag"),
        (Strain(lag_bytes=40_000), Level.UPDATE, "lag-bytes"),
        (Strain(lag_s=10.0), Level.SEND, "lag-seconds"),
        (Strain(lag_s=20.0), Level.REGISTER, "lag-seconds"),
        (Strain(failing="database or disk is full"), Level.UPDATE, "disk"),
        (Strain(queue=100, lag=3_000), Level.REGISTER, "lag"),
    ],
)
def test_telemetry_goes_first_then_registrations_and_last_what_keeps_one_alive(
    strain: Strain, level: Level, why: str
) -> None:
    tried = brake()
    assert tried.measure(strain, 0.0) is bool(level)
    assert (tried.level, tried.why) == (level, why)


def test_a_projection_that_is_old_never_costs_a_device_its_registration() -> None:
    tried = brake()
    tried.measure(Strain(lag_s=86_400.0), 0.0)
    assert tried.level is Level.REGISTER


def test_a_level_stays_for_a_while_and_ends_well_below_where_it_began() -> None:
    tried = brake()
    assert tried.measure(Strain(queue=100), 0.0)
    assert not tried.measure(Strain(queue=10), HOLD_S / 2)
    assert (tried.level, tried.why) == (Level.SEND, "queue")
    assert not tried.measure(Strain(queue=60), HOLD_S * 2)
    assert tried.level is Level.SEND
    assert tried.measure(Strain(queue=49), HOLD_S * 3)
    assert (tried.level, tried.why) == (Level.NONE, "")


def test_levels_are_left_one_by_one() -> None:
    tried = brake()
    tried.measure(Strain(queue=400), 0.0)
    levels = []
    for step, queue in enumerate((300, 199, 150, 99, 60, 49), 2):
        tried.measure(Strain(queue=queue), HOLD_S * step)
        levels.append(tried.level)
    assert levels == [Level.UPDATE, Level.REGISTER, Level.REGISTER, Level.SEND, Level.SEND, Level.NONE]


def test_a_disk_that_writes_again_is_named_until_the_level_ends() -> None:
    tried = brake()
    tried.measure(Strain(failing="full"), 0.0)
    tried.measure(Strain(), HOLD_S / 2)
    assert (tried.level, tried.why) == (Level.UPDATE, "disk")
    tried.measure(Strain(lag=1_000), HOLD_S)
    assert (tried.level, tried.why) == (Level.SEND, "lag")


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=60))
def test_whatever_comes_and_goes_the_level_fits_the_strain_and_ends(queues: list[int]) -> None:
    tried = brake()
    now = 0.0
    for queue in queues:
        now += 0.25
        before = tried.level
        changed = tried.measure(Strain(queue=queue), now)
        assert changed is (tried.level != before)
        assert tried.level >= (queue >= 100) + (queue >= 200) + (queue >= 400)
        assert bool(tried.why) is bool(tried.level)
    tried.measure(Strain(), now + HOLD_S)
    assert tried.level is Level.NONE


@pytest.mark.spec("MSG-14")
def test_whoever_is_refused_comes_again_later_the_worse_it_is_and_not_all_at_once() -> None:
    tried = brake()
    calm = {tried.max_age_s() for _ in range(300)}
    assert calm == {2, 3, 4}
    tried.measure(Strain(lag=4_000), 0.0)
    strained = {tried.max_age_s() for _ in range(300)}
    assert strained == set(range(8, 17))
    tried.measure(Strain(lag=4_000), 1_000.0)
    long = {tried.max_age_s() for _ in range(1_000)}
    assert (min(long), max(long)) == (30, LONGEST_S)
    assert len(long) == 31


def test_refusals_are_counted_by_what_and_why() -> None:
    tried = brake()
    tried.measure(Strain(lag=4_000), 0.0)
    refusal = tried.refusal("send")
    assert (refusal.status, refusal.detail) == (Status.SERVICE_UNAVAILABLE, "overloaded; come again later")
    tried.refusal("send")
    tried.measure(Strain(failing="full"), 1.0)
    assert tried.refusal("update").detail == "nothing can be stored; come again later"
    tried.not_stored("send", StoreOverloaded(3))
    tried.not_stored("send", StoreFailing("full"))
    tried.not_stored("send", ValueError("x"))
    assert tried.refused == {
        ("send", "lag"): 2,
        ("update", "disk"): 1,
        ("send", "queue-full"): 1,
        ("send", "disk"): 1,
        ("send", "error"): 1,
    }


@pytest.mark.parametrize(
    ("queue", "confirmable", "held"),
    [(0, True, False), (100, True, True), (100, False, False), (200, False, True), (400, True, True)],
)
def test_a_confirmable_notification_is_left_first_for_it_comes_again(queue: int, confirmable: bool, held: bool) -> None:
    tried = brake()
    tried.measure(Strain(queue=queue), 0.0)
    assert tried.holds_notification(confirmable) is held
    what = "notification-left" if confirmable else "notification-dropped"
    assert tried.refused == ({(what, "queue"): 1} if held else {})


def test_the_bounds_stand_in_the_operators_page(project_root: Path) -> None:
    page = (project_root / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = {
        why: tuple(cell.strip() for cell in cells.split("|"))
        for why, cells in re.findall(r"^\| `([a-z-]+)`: [^|]+ \| (.+) \|$", page, re.MULTILINE)
    }
    bounds, mib = Bounds(), 1024 * 1024

    def steps(bound: float, unit: str) -> tuple[str, ...]:
        return tuple(f"{bound * each:,.0f}{unit}" for each in (1, 2, 4))

    assert rows == {
        "queue": steps(bounds.queue, ""),
        "queue-bytes": steps(bounds.queue_bytes / mib, " MiB"),
        "lag": steps(bounds.lag, ""),
        "lag-bytes": steps(bounds.lag_bytes / mib, " MiB"),
        "lag-seconds": (*steps(bounds.lag_s, " s")[:2], "never"),
        "disk": ("", "", "at once"),
    }
