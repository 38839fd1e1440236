"""What devices are owed: their commands that wait, in the order of `device.queue`, and the one that is on its way. Rows
of earlier runs stay rows until somebody needs them (design §4: nothing is loaded for all devices at start)."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from stellwerk.app.handlers.observations import Observations
from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Command, Step, after_restart
from stellwerk.device.queue import in_order, turn

log = structlog.get_logger(__name__)

Taken = Callable[[DeviceId, Sequence[Command]], None]
"""Rows of an earlier run are here, and wait; with those that were sent and must not be sent again."""

_ROWS: Final = 100_000
_LONGEST_AGAIN_S: Final = 60.0


class Lane:
    """One device's."""

    __slots__ = ("active", "client_id", "loading", "objects", "removed", "uplink_labels", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Command] = deque()
        self.active: Command | None = None
        """From before it is marked as sent until its end is stored."""
        self.loading: asyncio.Event | None = None
        """Set once the rows of earlier runs are here; None while nobody reads them."""
        self.client_id: DeviceId | None = None
        """Of one behind a gateway: that, when a command was sent last."""
        self.removed = False
        """The device is gone for good: nothing waits for it."""
        self.uplink_labels: tuple[str, ...] = ()
        """Its last messages carry them even when the registration is gone."""
        self.objects: Mapping[int, object] | None = None
        """What the device had registered when commands were posted last."""


class Lanes:
    """``again_s``: when rows are read anew after that failed."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        observations: Observations,
        tasks: Tasks,
        again_s: float,
        taken: Taken,
    ) -> None:
        self._store = store
        self._registry = registry
        self._observations = observations
        self._tasks = tasks
        self._again_s = again_s
        self._taken = taken
        self._lanes: dict[DeviceId, Lane] = {}
        self._stored: dict[DeviceId, None] = {}
        """Devices whose commands of earlier runs are still only rows."""
        self.tries: dict[int, int] = {}
        """How often a command that has not ended was sent; without an entry never."""
        self._ending: set[int] = set()
        """Commands whose end is being stored: their rows are open, and they are not owed any more."""

    def __len__(self) -> int:
        """Commands in memory that have not ended."""
        return sum(len(each.waiting) + (each.active is not None) for each in self._lanes.values())

    def get(self, device_id: DeviceId) -> Lane | None:
        return self._lanes.get(device_id)

    def owes(self, device_id: DeviceId) -> bool:
        """Whether the device has a lane, or rows of earlier runs."""
        return device_id in self._lanes or device_id in self._stored

    def devices(self) -> list[DeviceId]:
        """Those that are owed something that is in memory."""
        return list(self._lanes)

    def of(self, device_id: DeviceId) -> Lane:
        """The device's lane, made if need be."""
        lane = self._lanes.get(device_id)
        if lane is None:
            lane = self._lanes[device_id] = Lane()
        return lane

    def tidy(self, device_id: DeviceId) -> None:
        """Let go of a lane with nothing in it."""
        lane = self._lanes.get(device_id)
        if lane is not None and lane.active is None and not lane.waiting and lane.loading is None:
            del self._lanes[device_id]
            if self._registry.of(device_id) is None:
                # Loaded for commands that waited for a device that is not there.
                self._observations.forget_device(device_id)

    # -- waiting --

    def put(self, device_id: DeviceId, commands: Iterable[Command]) -> Lane:
        """Let commands wait, each at its place; those that are here already, or are ending, stay what they are."""
        lane = self.of(device_id)
        present = {each.command_id for each in lane.waiting}
        if lane.active is not None:
            present.add(lane.active.command_id)
        fresh = [each for each in commands if each.command_id not in present and each.command_id not in self._ending]
        in_place = not lane.waiting or (bool(fresh) and turn(lane.waiting[-1]) < turn(fresh[0]))
        lane.waiting.extend(fresh)
        if fresh and not (in_place and (len(fresh) == 1 or all(a.priority == fresh[0].priority for a in fresh))):
            lane.waiting = deque(in_order(lane.waiting))
        return lane

    def back(self, command: Command) -> None:
        """The command on its way waits again."""
        self.of(command.device_id).active = None
        self.put(command.device_id, (command,))

    def take_out(self, device_id: DeviceId, wanted: Callable[[Command], bool]) -> list[Command]:
        """Those that wait and are wanted, out of the lane; they are ending from now on."""
        lane = self._lanes.get(device_id)
        if lane is None:
            return []
        taken = [each for each in lane.waiting if wanted(each)]
        if taken:
            self._ending.update(each.command_id for each in taken)
            lane.waiting = deque(each for each in lane.waiting if each.command_id not in self._ending)
        return taken

    def ending(self, command: Command) -> None:
        """Its end is being stored."""
        self._ending.add(command.command_id)

    def ended(self, command: Command) -> None:
        """Its end is stored."""
        self._ending.discard(command.command_id)
        self.tries.pop(command.command_id, None)
        lane = self._lanes.get(command.device_id)
        if lane is not None and lane.active is command:
            lane.active = None
        self.tidy(command.device_id)

    def spare(self, commands: Iterable[Command]) -> None:
        """What `take_out` gave does not end after all; `put` lets it wait again."""
        self._ending.difference_update(each.command_id for each in commands)

    def drop(self, device_id: DeviceId) -> None:
        """The device was removed, and its rows with it: forget what waits."""
        self._stored.pop(device_id, None)
        lane = self._lanes.get(device_id)
        if lane is not None:
            lane.removed = True
            for each in lane.waiting:
                self.tries.pop(each.command_id, None)
            lane.waiting.clear()
            self.tidy(device_id)

    # -- rows of earlier runs --

    def is_stored(self, device_id: DeviceId) -> bool:
        """Whether the device's commands of earlier runs are still only rows."""
        return device_id in self._stored

    async def find_stored(self) -> tuple[int, list[DeviceId]]:
        """Look once, at start, which devices have open commands. Returns how many do, and those that are not to wait
        until they are heard."""
        devices = await self._store.devices_with_open_commands()
        self._stored = dict.fromkeys(device_id for device_id, _ in devices)
        return len(devices), [device_id for device_id, at_once in devices if at_once]

    def load_soon(self, device_id: DeviceId, again_s: float | None = None) -> None:
        """`load` in the background, and again after ``again_s`` (then twice that, and so on) should it fail."""
        work = self._load_or_try_again(device_id, self._again_s if again_s is None else again_s)
        if not self._tasks.spawn(f"commands of {device_id}", work):
            asyncio.get_running_loop().call_later(self._again_s, self.load_soon, device_id)

    async def _load_or_try_again(self, device_id: DeviceId, again_s: float) -> None:
        try:
            await self.load(device_id)
        except Exception:
            log.exception("commands.not_loaded", device_id=device_id, again_in_s=again_s)
            later = min(2 * again_s, _LONGEST_AGAIN_S)
            asyncio.get_running_loop().call_later(again_s, self.load_soon, device_id, later)

    async def load(self, device_id: DeviceId) -> None:
        """Know of every open command of the device, and of what is wanted of it. Raises what the store raises."""
        while (lane := self.of(device_id)).loading is not None:
            await lane.loading.wait()
            if device_id not in self._stored:
                return
        loading = lane.loading = asyncio.Event()
        try:
            known = await self._registry.load_of(device_id)
            # What the store wants observed, before a command adds to it.
            await self._observations.load(device_id)
            record = known.record if known is not None else await self._store.device(device_id)
            # Last, so that nothing ends between being read and being taken.
            commands = await self._store.open_commands(device_id, _ROWS) if record is not None else ()
        except BaseException:
            lane.loading = None
            self.tidy(device_id)
            raise
        finally:
            loading.set()
        lane.loading = None
        self._stored.pop(device_id, None)
        if record is None or lane.removed:
            self.drop(device_id)
            return
        lane.uplink_labels = record.uplink_labels
        self._taken(device_id, self._take(lane, commands))
        self.tidy(device_id)

    def _take(self, lane: Lane, commands: Sequence[Command]) -> list[Command]:
        """Let the rows wait; returns those that must not be sent again."""
        present = {each.command_id for each in lane.waiting}
        if lane.active is not None:
            present.add(lane.active.command_id)
        unknown: list[Command] = []
        older: list[Command] = []
        for command in commands:
            if command.command_id in present or command.command_id in self._ending:
                continue
            if command.step is not Step.QUEUED:
                if after_restart(command.operation) is not Step.QUEUED:
                    unknown.append(command)
                    continue
                self.tries[command.command_id] = 1
            older.append(command)
        if older:
            self.put(older[0].device_id, older)
        return unknown
