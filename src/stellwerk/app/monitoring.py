"""Looks at store and projector a few times a second, sets the brake, and says what is wrong: in the log once when it
begins and once when it ends, to the health route, to people (design §3, the brake)."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from stellwerk.app.brake import Brake, Level, Strain
from stellwerk.app.lag import Lag
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.reading_ports import ProjectedStore

log = structlog.get_logger(__name__)

EVERY_S: Final = 0.25
STUCK_AFTER_S: Final = 10.0
"""The projector is stuck when entries wait and it took none for this long; a slice takes a fraction of a second."""
RESTART_AFTER_S: Final = 30.0
"""A projector that is stuck this long is replaced; the next one not before twice that, and so on."""
LONGEST_RESTART_S: Final = 600.0

_REFUSED: Final = {
    Level.SEND: "Sends are",
    Level.REGISTER: "Sends and Registers are",
    Level.UPDATE: "whatever devices start is",
}
_WHY: Final = {
    "queue": "{strain.queue:,} writes wait for the disk",
    "queue-bytes": "writes of {strain.queue_bytes:,} bytes wait for the disk",
    "lag": "{strain.lag:,} messages wait for the projector",
    "lag-bytes": "messages of {strain.lag_bytes:,} bytes wait for the projector",
    "lag-seconds": "the projector is {strain.lag_s:.0f} s behind",
    "disk": "nothing can be stored",
}


class Monitor:
    """``restart_projector`` ends the projector so that another takes its place."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        projected: ProjectedStore,
        brake: Brake,
        clock: Clock,
        restart_projector: Callable[[], None],
        stuck_after_s: float = STUCK_AFTER_S,
        restart_after_s: float = RESTART_AFTER_S,
    ) -> None:
        self._store = store
        self._projected = projected
        self._clock = clock
        self._restart_projector = restart_projector
        self._stuck_after_s = stuck_after_s
        self._restart_after_s = restart_after_s
        self._restart_at_s = restart_after_s
        self._blind = ""
        self.brake = brake
        self.lag = Lag()
        self.stuck = False
        """Whether entries wait and the projector takes none."""
        self.projected_seq = 0
        """As of the last look."""

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look every ``every_s`` seconds, for ever."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("monitor.failed")
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Look once."""
        now = self._clock.now()
        condition = self._store.condition()
        self.projected_seq = await self._read_projected_seq()
        lag = self.lag
        lag.look(condition.last_seq, self.projected_seq, condition.journalled_bytes, now)
        self._watch_projector()
        brake = self.brake
        before = brake.level, brake.since
        strain = Strain(
            condition.queue, condition.queue_bytes, lag.entries, lag.bytes, lag.age_s, failing=condition.failing
        )
        if not brake.measure(strain, now):
            return
        if brake.level:
            log.warning(
                "brake.on",
                level=brake.level.name.lower(),
                why=brake.why,
                detail=self._describe(),
                meaning=f"{_REFUSED[brake.level]} answered 5.03",
            )
        else:
            log.warning("brake.off", level=before[0].name.lower(), after_s=round(now - before[1], 1))

    def missing(self) -> list[str]:
        """What keeps the server from being ready, in words; empty when nothing does. Whether the store can write is
        for the store to say (`DecidingStore.check`)."""
        if not self.stuck:
            return []
        return [f"the projector is stuck: {self.lag.entries} entries wait, none was taken for {self.lag.still_s:.0f} s"]

    def notice(self) -> str:
        """What people should know of the brake, a sentence; empty while all is well."""
        brake = self.brake
        if brake.level:
            return f"{self._describe()}: {_REFUSED[brake.level]} refused for now, and devices are asked to come again."
        if self.stuck:
            return f"The projector has been stuck for {self.lag.still_s:.0f} s: new messages are stored, not yet shown."
        return ""

    def _describe(self) -> str:
        strain = self.brake.strain
        text = _WHY[self.brake.why].format(strain=strain)
        if self.brake.why == "disk" and strain.failing:
            text += f" ({strain.failing})"
        return text[0].upper() + text[1:]

    async def _read_projected_seq(self) -> int:
        """How far it is projected; as far as was last known where that cannot be read."""
        try:
            seq = await self._projected.projected_seq()
        except Exception as error:
            if not self._blind:
                log.error("projection.unreadable", error=repr(error))
            self._blind = repr(error)
            return self.projected_seq
        self._blind = ""
        return seq

    def _watch_projector(self) -> None:
        lag = self.lag
        if lag.still_s <= self._stuck_after_s:
            if self.stuck:
                log.warning("projector.goes_on", entries_waiting=lag.entries)
            self.stuck = False
            self._restart_at_s = self._restart_after_s
            return
        if not self.stuck:
            self.stuck = True
            log.error("projector.stuck", entries_waiting=lag.entries, since_s=round(lag.still_s, 1))
        if lag.still_s >= self._restart_at_s:
            self._restart_at_s = lag.still_s + min(2 * self._restart_at_s, LONGEST_RESTART_S)
            log.error("projector.replaced", entries_waiting=lag.entries, since_s=round(lag.still_s, 1))
            self._restart_projector()
