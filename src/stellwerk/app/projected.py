"""Waiting until what was committed can be read (design §3: a write through HTTP answers when the projector has passed
it)."""

import asyncio
from typing import Final

from stellwerk.app.reading_ports import ProjectedStore
from stellwerk.core.errors import UserError

WITHIN_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.01


class NotReadableYet(UserError):
    """The change is stored; ``what`` cannot be read after ``waited_s`` seconds, since the projector is behind."""

    def __init__(self, what: str, waited_s: float) -> None:
        self.what, self.waited_s = what, waited_s
        super().__init__(f"{what}, but it cannot be read yet after {waited_s:g} s; look again later, do not repeat it")


class Projected:
    """However many wait, one of them asks the store and wakes the others."""

    def __init__(self, store: ProjectedStore, within_s: float = WITHIN_S) -> None:
        self._store = store
        self._within_s = within_s
        self._seq = 0
        self._asking: asyncio.Future[None] | None = None

    async def reached(self, seq: int, what: str) -> None:
        """Returns once everything up to the journal's ``seq`` is projected. ``what``: what happened, as a sentence.
        Raises `NotReadableYet`."""
        try:
            async with asyncio.timeout(self._within_s):
                await self._reached(seq)
        except TimeoutError:
            raise NotReadableYet(what, self._within_s) from None

    async def _reached(self, seq: int) -> None:
        pause_s = 0.0
        while self._seq < seq:
            if self._asking is not None:
                # Shielded: who gives up must not take the answer from the others.
                await asyncio.shield(self._asking)
                continue
            self._asking = asyncio.get_running_loop().create_future()
            try:
                await asyncio.sleep(pause_s)
                self._seq = max(self._seq, await self._store.projected_seq())
            finally:
                self._asking.set_result(None)
                self._asking = None
            pause_s = min(max(pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
