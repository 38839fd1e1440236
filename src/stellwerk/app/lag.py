"""How far the projector is behind the journal: entries, bytes, and the age of the oldest."""

from collections import deque
from typing import Final

_KEPT: Final = 1_000
"""Looks remembered. Beyond that every second one goes, and later ones keep that distance: a lag of hours need not be
known to the second."""


class Lag:
    """Fed a few times a second with what is cheap to know. Times are monotonic seconds."""

    def __init__(self, journalled_bytes: int = 0) -> None:
        self.entries = 0
        self.bytes = 0
        """In entries of this run."""
        self.age_s = 0.0
        """Of the oldest entry that is not projected, to within the time between two looks; since the first look where
        an entry is older than that."""
        self.still_s = 0.0
        """For how long entries wait and none was projected."""
        self._looks: deque[tuple[int, int, float]] = deque()
        self._apart_s = 0.0
        """The least time between two looks that are remembered."""
        self._projected = -1
        self._projected_bytes = journalled_bytes
        self._moved_at = 0.0

    def look(self, last_seq: int, projected_seq: int, journalled_bytes: int, now: float) -> None:
        """``last_seq``: the journal's newest entry; ``projected_seq``: how far it is projected;
        ``journalled_bytes``: payload that this run has put into the journal."""
        looks = self._looks
        while looks and looks[0][0] <= projected_seq:
            self._projected_bytes = looks.popleft()[1]
        if last_seq <= projected_seq:
            self._projected_bytes, self._apart_s = journalled_bytes, 0.0
        elif not looks or (last_seq > looks[-1][0] and now - looks[-1][2] >= self._apart_s):
            looks.append((last_seq, journalled_bytes, now))
        self.entries = max(0, last_seq - projected_seq)
        if projected_seq != self._projected or not self.entries:
            self._projected = projected_seq
            self._moved_at = now
        self.bytes = journalled_bytes - self._projected_bytes if self.entries else 0
        self.age_s = now - looks[0][2] if looks else 0.0
        self.still_s = now - self._moved_at
        if len(looks) > _KEPT:
            # The oldest stays: its age is what is asked for.
            self._looks = deque(look for index, look in enumerate(looks) if index % 2 == 0)
            self._apart_s = 2 * max(self._apart_s, (now - looks[0][2]) / len(looks))
