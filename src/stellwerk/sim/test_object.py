"""The test object, 3442 (3441 for LwM2M 1.0): a resource of every type, and what its executables do."""

import re
from collections.abc import Mapping
from random import Random
from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.value import ObjectLink, Value
from stellwerk.sim.tree import EXECUTABLE, Cell, Denied, Instance

RESET: Final = 0
RANDOMIZE: Final = 1
CLEAR: Final = 2
EXECUTE_WITH_ARGUMENTS: Final = 3
ARGUMENTS: Final = 4
SEND: Final = 5
PATHS_TO_SEND: Final = 6

_SINGLES: Final[Mapping[int, Value]] = {
    110: "initial value",
    120: 1024,
    125: 2**63,
    130: 3.14159,
    140: True,
    150: bytes.fromhex("0123456789ABCDEF"),
    160: 946_684_800,
    170: ObjectLink(3, 0),
    180: "</3442>",
}
_CLEARED: Final[Mapping[int, Value]] = {
    110: "",
    120: 0,
    125: 0,
    130: 0.0,
    140: False,
    150: b"",
    160: 0,
    170: ObjectLink(65535, 65535),
    180: "",
}
_MULTIPLE: Final = 1000
"""A multiple resource has the identifier of the single one of its type, and so much."""

_SINCE_1_1: Final = frozenset({SEND, PATHS_TO_SEND, 125, 180, 1125, 1180})
_MOST_INSTANCES: Final = 5

_ARGUMENT: Final = re.compile(r"([0-9])(?:='([!#-&(-\[\]-~]*)')?")


def initial_instance(object_id: int) -> Instance:
    """A fresh instance with the values that the object's definition states."""
    return _only_known(
        object_id,
        {
            **dict.fromkeys((RESET, RANDOMIZE, CLEAR, EXECUTE_WITH_ARGUMENTS, SEND), EXECUTABLE),
            ARGUMENTS: {},
            PATHS_TO_SEND: {},
            **initial_values(object_id),
        },
    )


def initial_values(object_id: int) -> Instance:
    """What Reset Values sets."""
    several: Instance = {each + _MULTIPLE: {0: value} for each, value in _SINGLES.items()}
    return _only_known(object_id, {**_SINGLES, **several})


def cleared_values(object_id: int) -> Instance:
    """What Clear Values sets."""
    several: Instance = {each + _MULTIPLE: {} for each in _CLEARED}
    return _only_known(object_id, {**_CLEARED, **several})


def random_values(object_id: int, random: Random) -> Instance:
    """What Randomize Values sets; small, so that an instance stays a short message."""
    cells: Instance = {}
    for each in _SINGLES:
        cells[each] = _draw(each, random)
        cells[each + _MULTIPLE] = {index: _draw(each, random) for index in range(random.randint(0, _MOST_INSTANCES))}
    return _only_known(object_id, cells)


def parse_arguments(text: str) -> dict[int, Value]:
    """The arguments ``0='a',1`` of an Execute by number, empty where there is no value (contract D-8).

    Raises `Denied` 4.00.
    """
    arguments: dict[int, Value] = {}
    for each in text.split(",") if text else ():
        match = _ARGUMENT.fullmatch(each)
        if match is None or int(match[1]) in arguments:
            raise Denied(codes.BAD_REQUEST, f"{each[:40]!r} is no argument like 0='value', or comes twice")
        arguments[int(match[1])] = match[2] or ""
    return arguments


def _only_known(object_id: int, cells: Mapping[int, Cell]) -> Instance:
    return {each: cell for each, cell in cells.items() if object_id != 3441 or each not in _SINCE_1_1}


def _draw(resource_id: int, random: Random) -> Value:
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = "".join(random.choice(letters) for _ in range(random.randint(1, 20)))
    drawn: dict[int, Value] = {
        110: text,
        120: random.randint(-(2**31), 2**31 - 1),
        125: random.getrandbits(40),
        130: round(random.uniform(-1000, 1000), 3),
        140: random.random() < 0.5,
        150: random.randbytes(random.randint(1, 20)),
        160: random.randint(0, 2**31 - 1),
        170: ObjectLink(random.randint(0, 9), random.randint(0, 9)),
        180: f"</{random.randint(0, 9)}/{random.randint(0, 9)}>",
    }
    return drawn[resource_id]
