"""Which commands give way to a newer Write: nobody can tell the difference (contract QM-5)."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Command, Step
from stellwerk.device.queue import in_order, overlap, superseded
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.operations import Create, Delete, Execute, Observe, Operation, Read, Write, WriteAttributes
from stellwerk.lwm2m.path import Path

ON = Path(3311, 0, 5850)
LAMP = Path(3311, 0)
REBOOT = Path(3, 0, 4)


def writes(path: Path, *values: tuple[Path, Any], replace: bool = True) -> Write:
    return Write(path, Content(tuple(Entry(*each) for each in values or ((path, 1),))), replace)


def command(number: int, operation: Operation, priority: int = 0, step: Step = Step.QUEUED) -> Command:
    return Command(number, DeviceId(1), "ri", "rn", "id", "write", operation, "", None, step, 0, 0, priority)


def gone(waiting: Sequence[Command], *fresh: Operation, priority: int = 0) -> list[int]:
    found = superseded(in_order(waiting), [(each, priority) for each in fresh])
    return sorted(each.command_id for each in found)


def test_an_older_write_of_the_same_path_gives_way() -> None:
    assert gone([command(1, writes(ON)), command(2, writes(ON))], writes(ON)) == [1, 2]


@pytest.mark.parametrize(
    "between",
    [
        Execute(REBOOT),
        Execute(Path(3311, 0, 1)),
        Read(ON),
        Read(LAMP),
        Read(Path(3311)),
        Observe(ON),
        Delete(LAMP),
        Create(Path(3311), Content(())),
        WriteAttributes(ON, ()),
        writes(LAMP, (ON, 5)),
    ],
)
def test_nothing_gives_way_across_what_could_tell(between: Operation) -> None:
    assert gone([command(1, writes(ON)), command(2, between)], writes(ON)) == []
    assert gone([command(1, writes(ON))], between, writes(ON)) == []


@pytest.mark.parametrize(
    "between",
    [Read(Path(3, 0, 9)), writes(Path(3311, 0, 5851)), Delete(Path(3311, 1)), Observe(Path(3303)), Read(Path(331))],
)
def test_what_is_about_other_paths_is_no_hindrance(between: Operation) -> None:
    assert gone([command(1, writes(ON)), command(2, between)], writes(ON)) == [1]


def test_a_write_of_some_resources_gives_way_only_to_one_that_writes_them_all() -> None:
    one, two = Path(3311, 0, 5850), Path(3311, 0, 5851)
    old = [command(1, writes(LAMP, (one, 1), (two, 2), replace=False))]
    assert gone(old, writes(LAMP, (one, 3), replace=False)) == []
    assert gone(old, writes(LAMP, (one, 3), (two, 4), replace=False)) == [1]
    replacing = [command(1, writes(LAMP, (one, 1)))]
    assert gone(replacing, writes(LAMP, (one, 3), replace=False)) == []
    assert gone(replacing, writes(LAMP, (one, 3))) == [1]


def test_what_was_sent_already_stays_and_is_in_the_way() -> None:
    assert gone([command(1, writes(ON), step=Step.SENT)], writes(ON)) == []
    assert gone([command(1, writes(ON)), command(2, writes(ON), step=Step.SENT)], writes(ON)) == []


def test_commands_of_one_message_do_not_give_way_to_each_other() -> None:
    assert gone([command(1, writes(ON))], writes(ON), writes(ON)) == [1]


def test_an_urgent_write_is_the_last_word_although_it_leaves_first() -> None:
    assert gone([command(1, writes(ON))], writes(ON), priority=5) == [1]
    assert gone([command(1, Read(ON)), command(2, writes(ON))], writes(ON), priority=5) == []


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (Path(3), Path(3, 0, 1), True),
        (Path(3, 0, 1), Path(3, 0, 1), True),
        (Path(), Path(3, 0), True),
        (Path(3, 0, 1), Path(3, 0, 10), False),
        (Path(3, 0), Path(3, 1), False),
    ],
)
def test_paths_overlap_where_one_lies_in_the_other(one: Path, other: Path, wanted: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is wanted


# -- against a device --

_RESOURCES = [Path(1, instance, resource) for instance in (0, 1) for resource in (0, 1)]
_PATHS = [Path(1), Path(1, 0), Path(1, 1), *_RESOURCES]


@st.composite
def _operations(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from(["write", "write", "write", "part", "read", "execute", "delete"]))
    if kind in ("write", "part"):
        path = draw(st.sampled_from(_RESOURCES if kind == "write" else _PATHS[1:3]))
        below = [each for each in _RESOURCES if overlap(path, each)]
        chosen = draw(st.lists(st.sampled_from(below), min_size=1, unique=True))
        value = draw(st.integers(0, 1_000_000))
        return writes(path, *((each, value) for each in chosen), replace=draw(st.booleans()))
    path = draw(st.sampled_from(_PATHS))
    return (
        Read(path) if kind == "read" else Delete(path) if kind == "delete" else Execute(draw(st.sampled_from(_PATHS)))
    )


def _run(operations: Sequence[Operation]) -> tuple[dict[Path, Any], list[Any]]:
    """What a device holds after these, and what it was seen to hold by each that looks: an Execute looks at all."""
    held: dict[Path, Any] = {}
    seen: list[Any] = []
    for each in operations:
        below = {path: value for path, value in held.items() if overlap(each.path, path)}
        match each:
            case Write(content=content, replace=replace):
                if replace:
                    held = {path: value for path, value in held.items() if path not in below}
                held |= {entry.path: entry.value for entry in content.entries}
            case Read():
                seen.append(below)
            case Execute():
                seen.append(dict(held))
            case Delete():
                seen.append(below)
                held = {path: value for path, value in held.items() if path not in below}
    return held, seen


@pytest.mark.spec("QM-5")
@settings(max_examples=60)
@given(st.lists(_operations(), max_size=8), st.lists(_operations(), min_size=1, max_size=3))
def test_what_gives_way_makes_no_difference_to_the_device_or_to_whoever_looks(
    old: list[Operation], new: list[Operation]
) -> None:
    waiting = [command(number, each) for number, each in enumerate(old)]
    away = {each.command_id for each in superseded(waiting, [(each, 0) for each in new])}
    kept = [each.operation for each in waiting if each.command_id not in away]
    assert _run([*old, *new]) == _run([*kept, *new])
    assert all(isinstance(old[each], Write) for each in away)


@pytest.mark.spec("QM-5")
@settings(max_examples=30)
@given(st.lists(st.tuples(_operations(), st.integers(-1, 1)), max_size=8), _operations(), st.integers(-1, 1))
def test_with_priorities_too_only_whole_writes_of_the_same_path_give_way(
    old: list[tuple[Operation, int]], new: Operation, priority: int
) -> None:
    waiting = in_order(command(number, each, first) for number, (each, first) in enumerate(old))
    for each in superseded(waiting, [(new, priority)]):
        assert isinstance(new, Write)
        assert isinstance(each.operation, Write)
        assert each.operation.path == new.path
