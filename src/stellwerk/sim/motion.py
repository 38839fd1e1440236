"""Values that move by themselves, as pure functions of time: a device asked twice in one moment answers the same."""

import math
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from stellwerk.lwm2m.value import Value

Motion: TypeAlias = Callable[[float], Value]
"""The value at a time in UTC seconds since 1970."""

_PACES: Final = tuple(2 * math.pi / period_s for period_s in (47.0, 311.0, 1_873.0, 86_400.0))
_LOOK_BACK_S: Final = 1_800
_LOOKS: Final = 12


def wander(seed: int, *, around: float, by: float, digits: int = 2) -> Callable[[float], float]:
    """Drifts around ``around`` within about ``by``, on several time scales from under a minute to a day."""
    random = Random(seed)
    waves = tuple((pace, random.uniform(0, 2 * math.pi), random.uniform(0.5, 1.0)) for pace in _PACES)
    scale = by / sum(height for _, _, height in waves)

    def value(utc_s: float) -> float:
        return round(
            around + scale * sum(height * math.sin(pace * utc_s + phase) for pace, phase, height in waves), digits
        )

    return value


def drain(seed: int, *, hours: float, floor: int = 3) -> Callable[[float], int]:
    """A battery in per cent: falls from 100 to ``floor`` in ``hours`` hours, then is charged at once."""
    period_s = hours * 3600
    offset = Random(seed).uniform(0, period_s)

    def value(utc_s: float) -> int:
        spent = (utc_s + offset) % period_s / period_s
        return 100 - round(spent * (100 - floor))

    return value


def lowest(of: Callable[[float], float], since_s: float = 0.0) -> Callable[[float], float]:
    """The least of ``of`` in the last half hour, but not before ``since_s``, as a sensor that is read every few minutes
    would remember it."""
    return lambda utc_s: min(map(of, _looks(utc_s, since_s)))


def highest(of: Callable[[float], float], since_s: float = 0.0) -> Callable[[float], float]:
    """The greatest of ``of`` in the last half hour, but not before ``since_s``."""
    return lambda utc_s: max(map(of, _looks(utc_s, since_s)))


def whole(of: Callable[[float], float]) -> Callable[[float], int]:
    """``of`` without its fraction."""
    return lambda utc_s: round(of(utc_s))


def running(since_s: float, already_s: int = 0) -> Callable[[float], int]:
    """Whole seconds that something has been on: ``already_s`` before ``since_s``, and all the time since then."""
    return lambda utc_s: already_s + max(0, int(utc_s - since_s))


def clock(offset_s: float = 0.0) -> Callable[[float], int]:
    """The device's own clock, ``offset_s`` ahead of the true time."""
    return lambda utc_s: int(utc_s + offset_s)


def _looks(utc_s: float, since_s: float) -> list[float]:
    step = _LOOK_BACK_S / _LOOKS
    first = utc_s - utc_s % step
    return [utc_s, *(at for number in range(_LOOKS) if (at := first - step * number) >= since_s)]
