"""What a device sends by itself: values with their times, one Send at a time (Core 1.1.1 §6.4.4)."""

from typing import Final

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Entry

UNSENT_AT_MOST: Final = 64


class Sending:
    """The values that wait for the next Send, and the Send under way. Each Send is of one tree: the device's own, or
    that of the end device with a prefix. Times are monotonic seconds."""

    __slots__ = ("_under_way", "_unsent", "due")

    def __init__(self) -> None:
        self.due: float | None = None
        """When values are measured next."""
        self._unsent: dict[str, list[Entry]] = {}
        self._under_way: tuple[int, str, list[Entry]] | None = None

    @property
    def is_under_way(self) -> bool:
        return self._under_way is not None

    @property
    def waits_in_turn(self) -> bool:
        """Whether values of an end device wait: they have no time of their own."""
        return any(self._unsent)

    def is_of(self, handle: int) -> bool:
        """Whether the Send under way has this handle."""
        return self._under_way is not None and self._under_way[0] == handle

    def add(self, prefix: str, entries: list[Entry]) -> None:
        """Say these with the next Send; of too many, the newest are kept."""
        self._unsent[prefix] = [*self._unsent.get(prefix, ()), *entries][-UNSENT_AT_MOST:]

    def take(self) -> tuple[str, tuple[Entry, ...]]:
        """What to send now, of the tree whose values wait longest; nothing while a Send is under way: what is measured
        meanwhile waits."""
        if self._under_way is not None or not self._unsent:
            return "", ()
        prefix = next(iter(self._unsent))
        return prefix, tuple(self._unsent[prefix])

    def sent(self, handle: int) -> None:
        """What `take` gave left with the Send ``handle``."""
        prefix = next(iter(self._unsent))
        self._under_way = handle, prefix, self._unsent.pop(prefix)

    def forget(self, prefix: str) -> None:
        """The end device is gone, and with it what it measured."""
        self._unsent.pop(prefix, None)

    def ended(self, code: int | None) -> bool:
        """It was answered with ``code``, or with nothing at all (None). Whether the server has no time: what it did not
        store is kept."""
        assert self._under_way is not None
        _, prefix, entries = self._under_way
        self._under_way = None
        if code is None or code >> 5 == 5 or code == codes.TOO_MANY_REQUESTS:
            # Not stored: said again with the next one, as far as there is room.
            self._unsent[prefix] = [*entries, *self._unsent.pop(prefix, ())][-UNSENT_AT_MOST:]
            return True
        return False

    def abandon(self) -> None:
        """The device restarts: nobody knows any more what was under way."""
        self._under_way = None
