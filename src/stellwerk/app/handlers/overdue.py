"""Commands whose time is over while they wait."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from stellwerk.app.handlers.lanes import Lane, Lanes
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Command, Step

log = structlog.get_logger(__name__)

SLICE: Final = 1000

End = Callable[[Lane, Command, Step, str, str, int], None]
"""Ends a command that waits: with step, reason and detail, at a wall time in milliseconds."""


class Overdue:
    def __init__(self, *, store: DecidingStore, lanes: Lanes, clock: Clock, end: End) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._end = end

    async def look(self) -> int:
        """End a slice of the waiting commands whose time is over; returns how many ended."""
        due: dict[DeviceId, set[int]] = {}
        for command in await self._store.commands_due(self._clock.lifetime_ms(), SLICE):
            due.setdefault(command.device_id, set()).add(command.command_id)
        return sum([await self._expire_those(device_id, command_ids) for device_id, command_ids in due.items()])

    async def _expire_those(self, device_id: DeviceId, command_ids: Collection[int]) -> int:
        if self._lanes.is_stored(device_id):
            try:
                await self._lanes.load(device_id)
            except Exception:
                # One device's rows cannot be read: the others' time is over all the same.
                log.exception("commands.not_loaded", device_id=device_id)
            # A thousand devices' rows are many: others get their turn in between.
            await asyncio.sleep(0)
        lane = self._lanes.get(device_id)
        if lane is None or lane.loading is not None:
            return 0
        # One that is on its way hears from the device or from the engine's timers.
        ended = self._lanes.take_out(device_id, lambda each: each.command_id in command_ids)
        for each in ended:
            self.expire(lane, each)
        return len(ended)

    def expire(self, lane: Lane, command: Command) -> None:
        """Its time is over."""
        if command.command_id in self._lanes.tries:
            text = "sent, no answer within the command's time; check the device's binding mode"
        else:
            text = "the device was not heard within the command's time; check its binding mode and lifetime"
        self._end(lane, command, Step.EXPIRED, "timeout-binding", text, self._clock.wall_ms())
