"""Equal values that a whole fleet repeats, kept once."""

from functools import lru_cache
from typing import Final, TypeVar, cast

T = TypeVar("T", str, bytes, int)

_LONGEST: Final = 2048
"""What is longer is nobody else's, or a fleet that can be told to say less."""


@lru_cache(maxsize=4096, typed=True)
def _first(value: object) -> object:
    return value


def share(value: T) -> T:
    """``value``, or an equal one of the same type that was here before. Two devices that are alike then hold one text.

    For what many say alike (versions, profiles, lifetimes, object lists), not for names.
    """
    if not isinstance(value, int) and len(value) > _LONGEST:
        return value
    return cast(T, _first(value))
