"""Randomness as an argument, so that every failure replays exactly."""

from typing import Protocol


class Entropy(Protocol):
    """A source of unpredictable bytes. Production injects the operating system's, tests a seeded one."""

    def take(self, count: int) -> bytes:
        """``count`` fresh bytes."""
        ...
