"""Which numbers of the other end came already (RFC 8613 §7.4)."""

from typing import Final

WINDOW: Final = 32
"""The default of RFC 8613 §3.2.2."""


class ReplayWindow:
    """Numbers up to ``highest``; of the last `WINDOW` each is known, older ones count as seen.

    It begins with one number that is known to be fresh, by an Echo or a new key: whatever is older may be a replay
    (RFC 8613 App. B.1.2).
    """

    __slots__ = ("_seen", "first", "highest")

    def __init__(self, first: int) -> None:
        self.first = self.highest = first
        # Bit n: the number ``highest`` - n came. What is older than the first may have come before we looked.
        self._seen = (1 << WINDOW) - 1

    def is_new(self, number: int) -> bool:
        """Whether ``number`` may be taken."""
        behind = self.highest - number
        if behind < 0:
            return True
        return behind < WINDOW and not self._seen >> behind & 1

    def take(self, number: int) -> None:
        """``number`` came, in a message that verified."""
        ahead = number - self.highest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & (1 << WINDOW) - 1
            self.highest = number
        elif ahead > -WINDOW:
            self._seen |= 1 << -ahead

    def forget(self, number: int) -> None:
        """The message with ``number`` had no effect: it may come again."""
        behind = self.highest - number
        if 0 <= behind < WINDOW:
            self._seen &= ~(1 << behind)
