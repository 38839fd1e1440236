"""Who waits in memory for the end of a command.

The end of a command is its row's; a program that posted it may want to hear of it as soon as it is stored. What is kept
here is kept by whoever waits: once nobody does, nothing is left of it, and however many commands nobody asks about cost
nothing. A restart forgets who waited; the row is still there to be asked.
"""

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

from stellwerk.app.journal import JournalEntry
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Step
from stellwerk.lwm2m.content import Types


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. ``row`` is the journal's entry about it, ``types`` what the registration that answered calls
    its resources, None where there was none."""

    step: Step
    row: JournalEntry
    types: Types | None = None


class Wait:
    """The end of one command, once it is stored."""

    __slots__ = ("__weakref__", "_stored", "device_id", "ended")

    def __init__(self, device_id: DeviceId) -> None:
        self.device_id = device_id
        self.ended: Ended | None = None
        self._stored = asyncio.Event()

    def end(self, ended: Ended) -> None:
        """The first end counts."""
        if self.ended is None:
            self.ended = ended
            self._stored.set()

    def give_up(self) -> None:
        """Nobody will tell of its end: whoever waits hears None."""
        self._stored.set()

    async def for_end(self, within_s: float) -> Ended | None:
        """The end, or None when it did not come within so many seconds. Whoever gives up takes it from nobody."""
        if self.ended is None and within_s > 0:
            try:
                async with asyncio.timeout(within_s):
                    await self._stored.wait()
            except TimeoutError:
                pass
        return self.ended


class Awaited:
    """Waits by the request ID of their command."""

    def __init__(self) -> None:
        self._waits: WeakValueDictionary[str, Wait] = WeakValueDictionary()
        self.closed = False

    def close(self) -> None:
        """The server ends, and the store with it: nobody hears anything any more."""
        self.closed = True
        for wait in list(self._waits.values()):
            wait.give_up()
        self._waits.clear()

    def __len__(self) -> int:
        return len(self._waits)

    def wait(self, request_id: str, device_id: DeviceId) -> Wait:
        """Those who ask for the same while it lives share it."""
        found = self._waits.get(request_id)
        if found is None:
            found = self._waits[request_id] = Wait(device_id)
            if self.closed:
                found.give_up()
        return found

    def ended(self, request_id: str, ended: Ended) -> None:
        """The command has ended, and that is stored."""
        wait = self._waits.pop(request_id, None)
        if wait is not None:
            wait.end(ended)

    def of_device(self, device_id: DeviceId) -> list[str]:
        """The request IDs that somebody waits for."""
        return [request_id for request_id, wait in list(self._waits.items()) if wait.device_id == device_id]
