"""What a device sends by itself: values with their times, one Send at a time (Core 1.1.1 §6.4.4)."""

from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Entry

UNSENT_AT_MOST: Final = 64


class Sending:
    """The values that wait for the next Send, and the Send under way. Times are monotonic seconds."""

    __slots__ = ("_under_way", "_unsent", "due")

    def __init__(self) -> None:
        self.due: float | None = None
        """When values are measured next."""
        self._unsent: list[Entry] = []
        self._under_way: tuple[int, list[Entry]] | None = None

    @property
    def is_under_way(self) -> bool:
        return self._under_way is not None

    def is_of(self, handle: int) -> bool:
        """Whether the Send under way has this handle."""
        return self._under_way is not None and self._under_way[0] == handle

    def add(self, entries: list[Entry]) -> None:
        """Say these with the next Send; of too many, the newest are kept."""
        self._unsent = [*self._unsent, *entries][-UNSENT_AT_MOST:]

    def take(self) -> tuple[Entry, ...]:
        """What to send now; nothing while a Send is under way: what is measured meanwhile waits."""
        return () if self._under_way is not None else tuple(self._unsent)

    def sent(self, handle: int) -> None:
        """All that waited left with the Send ``handle``."""
        self._under_way, self._unsent = (handle, self._unsent), []

    def ended(self, code: int | None) -> None:
        """It was answered with ``code``, or with nothing at all (None)."""
        assert self._under_way is not None
        _, entries = self._under_way
        self._under_way = None
        if code is None or code >> 5 == 5 or code == codes.TOO_MANY_REQUESTS:
            # Not stored: said again with the next one, as far as there is room.
            self._unsent = [*entries, *self._unsent][-UNSENT_AT_MOST:]

    def abandon(self) -> None:
        """The device restarts: nobody knows any more what was under way."""
        self._under_way = None
