"""Stores that are slow, full or broken for a while, as real ones are."""

import asyncio

from stellwerk.app.changes import Commit
from stellwerk.app.ports import Limits, StoreOverloaded
from stellwerk.device.observation import WantedObservation
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.memory_changes import Broken


class TroubledStore(MemoryStore):
    """``full``: commits are refused as an overloaded writer refuses them; ``refuse_next``: so many of them. ``slow``:
    nothing is written until `catch_up`. ``broken``: reads fail. ``cannot``: a change of this kind cannot be stored,
    whatever else can."""

    def __init__(self) -> None:
        super().__init__(library=Library.builtin(), limits=Limits())
        self.full = False
        self.refuse_next = 0
        self.slow = False
        self.broken = False
        self.cannot: type[object] | None = None
        self._held: list[Commit] = []

    def submit(self, commit: Commit) -> None:
        if self.full or self.refuse_next:
            self.refuse_next = max(0, self.refuse_next - 1)
            asyncio.get_running_loop().call_soon(commit.done, StoreOverloaded(1))
        elif self.cannot is not None and any(isinstance(each, self.cannot) for each in commit.changes):
            asyncio.get_running_loop().call_soon(commit.done, Broken("the tables do not take it"))
        elif self.slow:
            self._held.append(commit)
        else:
            super().submit(commit)

    def catch_up(self) -> None:
        """Write what was held, in order."""
        self.slow = False
        held, self._held = self._held, []
        for each in held:
            super().submit(each)

    async def device_by_endpoint(self, endpoint_name: str) -> DeviceRecord | None:
        self._check()
        return await super().device_by_endpoint(endpoint_name)

    async def registration_at(self, location: str) -> Registration | None:
        self._check()
        return await super().registration_at(location)

    async def observation_by_token(self, token: bytes) -> WantedObservation | None:
        self._check()
        return await super().observation_by_token(token)

    def _check(self) -> None:
        if self.broken:
            raise OSError("the disk is gone")
