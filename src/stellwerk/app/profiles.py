"""Which profile holds for a device, with the server's settings where it says nothing. Profiles are few and change
seldom: all of them are in memory, and read again when the store has others, whoever changed them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import Known, Registry
from stellwerk.core.ids import TenantId
from stellwerk.device.profile import DEFAULT, Profile
from stellwerk.device.record import DeviceRecord

log = structlog.get_logger(__name__)

EVERY_S: Final = 2.0
"""How often the store is asked whether profiles changed."""
QUEUE_LENGTH: Final = 1_000
_SLICE: Final = 200


class Profiles:
    """``awake_s``: how long a sleeper listens after it was heard; ``queue_s``: how long commands may wait, None: as
    long as the registration lasts; ``queue_length``: how many commands may wait for one device. Each holds where a
    profile says nothing."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        awake_s: float,
        queue_s: float | None = None,
        queue_length: int = QUEUE_LENGTH,
    ) -> None:
        self._store = store
        self._registry = registry
        self._awake_s = awake_s
        self._queue_s = queue_s
        self._queue_length = queue_length
        self._version = -1
        self._profiles: dict[tuple[TenantId, str], Profile] = {}
        self.on_change: Callable[[], None] = _nobody
        """Runs after another profile holds for devices."""

    def of(self, record: DeviceRecord) -> Profile:
        """The device's; one that says nothing where there is none of that name."""
        return self._profiles.get((record.tenant_id, record.profile), DEFAULT)

    def radio(self, known: Known) -> Profile:
        """The profile that says when the device listens and how soon it acknowledges: of one behind a gateway, the
        gateway's."""
        return self.of((known.household or known).record)

    def sleeps(self, known: Known) -> bool:
        """Whether the device listens only for a while after it was heard."""
        return self.radio(known).sleeps(known.registration.queue_mode)

    def window_s(self, record: DeviceRecord) -> float:
        """How long the device listens after it was heard, if it sleeps (QM-2)."""
        return self.of(record).window_s(self._awake_s)

    def longest_answer_s(self, known: Known) -> float | None:
        """When an answer is given up although the device may still send it; None: by CoAP's own times."""
        own = self.of(known.record).request_timeout_s
        return self.radio(known).longest_answer_s if own is None else own

    def queue_s(self, record: DeviceRecord) -> float | None:
        """How long a command may wait that says nothing itself; None: as long as the registration lasts."""
        own = self.of(record).queue_s
        return self._queue_s if own is None else own

    def queue_length(self, record: DeviceRecord) -> int:
        """How many commands may wait for the device."""
        return self.of(record).queue_length or self._queue_length

    async def refresh(self) -> bool:
        """Take up what changed since the last call; False for nothing."""
        version = await self._store.profiles_version()
        if version == self._version:
            return False
        first = self._version < 0
        self._profiles = {(each.tenant_id, each.name): each.profile for each in await self._store.profiles()}
        if not first:
            await self._reassign()
        self._version = version
        self.on_change()
        return True

    async def run(self, every_s: float = EVERY_S) -> None:
        """`refresh` every ``every_s`` seconds, for ever."""
        while True:
            try:
                if await self.refresh():
                    log.info("profiles.read", count=len(self._profiles))
            except Exception:
                log.exception("profiles.not_read")
            await asyncio.sleep(every_s)

    async def _reassign(self) -> None:
        """Devices in memory may have got another profile. That is somebody's doing and rare, so all are looked at, some
        at a time."""
        for number, known in enumerate(list(self._registry)):
            record = await self._store.device(known.registration.device_id)
            if record is not None and record.profile != known.record.profile:
                known.record = replace(known.record, profile=record.profile, labels=record.labels)
            if number % _SLICE == 0:
                await asyncio.sleep(0)


def _nobody() -> None:
    pass
