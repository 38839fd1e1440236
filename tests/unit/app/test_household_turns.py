"""A gateway and those behind it take turns."""

from types import SimpleNamespace
from typing import Any

from stellwerk.app.handlers.household_turns import HouseholdTurns
from stellwerk.app.handlers.lanes import Lanes

GATEWAY, FIRST, SECOND = 1, 2, 3


def known(device_id: int) -> Any:
    return SimpleNamespace(registration=SimpleNamespace(device_id=device_id))


def household() -> Any:
    house = known(GATEWAY)
    house.behind = {each: known(each) for each in (FIRST, SECOND)}
    return house


def lanes() -> Lanes:
    nobody: Any = None
    return Lanes(
        store=nobody, registry=nobody, observations=nobody, tasks=nobody, again_s=1.0, taken=lambda device, rows: None
    )


def test_whoever_comes_after_the_one_that_had_the_turn_last_goes_first() -> None:
    turns, house = HouseholdTurns(lanes()), household()
    assert turns.in_turn(house) == [GATEWAY, FIRST, SECOND]
    turns.took(GATEWAY, FIRST)
    assert turns.in_turn(house) == [SECOND, GATEWAY, FIRST]
    turns.took(GATEWAY, SECOND)
    assert turns.in_turn(house) == [GATEWAY, FIRST, SECOND]


def test_the_order_begins_anew_when_the_last_one_left_or_nobody_is_owed_anything() -> None:
    turns, house = HouseholdTurns(lanes()), household()
    turns.took(GATEWAY, FIRST)
    del house.behind[FIRST]
    assert turns.in_turn(house) == [GATEWAY, SECOND]
    house = household()
    turns.forget(GATEWAY)
    assert turns.in_turn(house) == [GATEWAY, FIRST, SECOND]


def test_one_that_is_asked_keeps_the_others_waiting_but_not_itself() -> None:
    queue = lanes()
    turns, house = HouseholdTurns(queue), household()
    assert not turns.is_asked(house, but=house)
    command: Any = object()
    queue.of(FIRST).active = command
    assert turns.is_asked(house, but=house)
    assert turns.is_asked(house, but=house.behind[SECOND])
    assert not turns.is_asked(house, but=house.behind[FIRST])
