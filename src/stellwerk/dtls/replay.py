"""The anti-replay window of one epoch (RFC 6347 §4.1.2.6)."""

from typing import Final

WIDTH: Final = 64
_MASK: Final = (1 << WIDTH) - 1


class ReplayWindow:
    """Which record numbers were read: everything up to ``highest`` - 64, and those whose bit is set. Ask `is_new`
    before verification, `take` only after it."""

    __slots__ = ("bitmap", "highest")

    def __init__(self) -> None:
        self.highest = -1
        """The highest number taken; -1: none yet."""
        self.bitmap = 0
        """Bit n: ``highest`` - n was taken."""

    @classmethod
    def from_mark(cls, mark: int) -> "ReplayWindow":
        """A window that takes nothing up to and including ``mark`` (-1: everything is new)."""
        window = cls()
        window.highest = mark
        window.bitmap = _MASK
        return window

    def is_new(self, sequence: int) -> bool:
        """Whether ``sequence`` was not taken yet and is not older than the window."""
        behind = self.highest - sequence
        return behind < 0 or (behind < WIDTH and not self.bitmap >> behind & 1)

    def take(self, sequence: int) -> bool:
        """Note a verified record. Whether it is the newest so far."""
        behind = self.highest - sequence
        if behind < 0:
            self.bitmap = (self.bitmap << -behind | 1) & _MASK if behind > -WIDTH else 1
            self.highest = sequence
            return True
        if behind < WIDTH:
            self.bitmap |= 1 << behind
        return False
