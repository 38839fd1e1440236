"""The order in which commands leave, and which of them a newer one makes needless (contract QM-5).

A Write that waits gives way to a newer Write of the same path: the device wakes up to the last word only. That is safe
only where nobody could tell the difference. So nothing gives way across

* an Execute, whatever its path: it may act on anything that was written before;
* any other command whose path lies above, at or below the path, a Write of more or of less included;
* a Write that was sent already and waits for another try;
* a Write that does not say everything the older one says (an instance of which each writes some resources);
* commands of the same message: whoever posts `1; 0` wants the device to see both.

Writes of other paths in between are no hindrance: what the device ends up with is the same.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from stellwerk.device.command import Command, Step
from stellwerk.lwm2m.operations import Execute, Operation, Write
from stellwerk.lwm2m.path import Path


def turn(command: Command) -> tuple[int, int]:
    """Sorts commands into the order in which they leave: the higher priority first, the older among equals."""
    return -command.priority, command.command_id


def in_order(commands: Iterable[Command]) -> list[Command]:
    return sorted(commands, key=turn)


def overlap(one: Path, other: Path) -> bool:
    """Whether one path is the other or lies below it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def superseded(waiting: Sequence[Command], fresh: Sequence[tuple[Operation, int]]) -> list[Command]:
    """Those of ``waiting``, which leave in that order, that were never sent and that the commands of a new message
    make needless; ``fresh``: these in their order, each with its priority."""
    order: list[tuple[int, Command | None, Operation]] = [(each.priority, each, each.operation) for each in waiting]
    for operation, priority in fresh:
        # Behind all of its priority: they are older.
        place = next((index for index, each in enumerate(order) if each[0] < priority), len(order))
        order.insert(place, (priority, None, operation))
    gone: dict[int, Command] = {}
    for place, (_, command, newer) in enumerate(order):
        if command is not None or not isinstance(newer, Write):
            continue
        for others in (reversed(order[:place]), order[place + 1 :]):
            for _, older, operation in others:
                if older is not None and older.command_id in gone:
                    continue
                unsent = older is not None and older.step is Step.QUEUED
                if older is not None and unsent and isinstance(operation, Write) and _covers(newer, operation):
                    gone[older.command_id] = older
                elif isinstance(operation, Execute) or any(overlap(each, newer.path) for each in _paths(operation)):
                    break
    return list(gone.values())


def _paths(operation: Operation) -> tuple[Path, ...]:
    target: Any = operation.path
    # That of an operation on several paths is a list of them.
    return (target,) if isinstance(target, Path) else tuple(target)


def _covers(newer: Write, older: Write) -> bool:
    if newer.path != older.path or (older.replace and not newer.replace):
        return False
    said = {each.path for each in newer.content.entries} | set(newer.content.empty)
    return said.issuperset([*(each.path for each in older.content.entries), *older.content.empty])
