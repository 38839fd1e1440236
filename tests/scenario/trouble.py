"""Stores that are slow, full or broken for a while, as real ones are."""

import asyncio
from collections.abc import Callable
from typing import Any

from stellwerk.app.ports import Commit, Limits, StoreOverloaded
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore


class TroubledStore(MemoryStore):
    """``full``: commits are refused as an overloaded writer refuses them; ``refuse_next``: so many of them. ``slow``:
    nothing is told until `catch_up`. ``broken``: reads fail."""

    def __init__(self) -> None:
        super().__init__(library=Library.builtin(), limits=Limits(), schedule=self._later)
        self.full = False
        self.refuse_next = 0
        self.slow = False
        self.broken = False
        self._held: list[Callable[[], None]] = []

    def submit(self, commit: Commit) -> None:
        if self.full or self.refuse_next:
            self.refuse_next = max(0, self.refuse_next - 1)
            self._later(lambda: commit.done(StoreOverloaded(1)))
        else:
            super().submit(commit)

    def catch_up(self) -> None:
        """Tell what was held, in order."""
        self.slow = False
        held, self._held = self._held, []
        for each in held:
            each()

    async def device_by_endpoint(self, endpoint_name: str) -> DeviceRecord | None:
        self._check()
        return await super().device_by_endpoint(endpoint_name)

    async def registration_at(self, location: str) -> Registration | None:
        self._check()
        return await super().registration_at(location)

    async def observation_by_token(self, token: bytes) -> Any:
        self._check()
        return await super().observation_by_token(token)

    def _check(self) -> None:
        if self.broken:
            raise OSError("the disk is gone")

    def _later(self, call: Callable[[], None]) -> None:
        if self.slow:
            self._held.append(call)
        else:
            asyncio.get_running_loop().call_soon(call)
