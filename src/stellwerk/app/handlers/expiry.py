"""Lifetimes that run out (contract R-6). The store's index on deadlines is the wheel: a row's deadline is a lower
bound, moved once a lifetime, so that a plain Update rewrites nothing and expiry never scans (design §4)."""

import asyncio
from typing import Final

import structlog

from stellwerk.app.brake import LONGEST_S, Brake
from stellwerk.app.changes import ChangeRegistration, Commit, DropRegistration
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import DeviceLink
from stellwerk.app.end_devices import ends_behind
from stellwerk.app.handlers.deregistering import forget_registration
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.listener import Listener
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.registry import Registry
from stellwerk.core.instant import Instant
from stellwerk.device.registration import Registration

log = structlog.get_logger(__name__)

SLICE: Final = 200


class Expiry:
    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        clock: Clock,
        link: DeviceLink,
        listener: Listener,
        brake: Brake,
        grace_s: float,
    ) -> None:
        self._brake = brake
        self._store = store
        self._registry = registry
        self._clock = clock
        self._link = link
        self._listener = listener
        self._grace_s = grace_s
        self._ending: set[str] = set()
        """Locations whose end is being stored: a slow store shall not make them expire twice."""

    async def run(self, every_s: float = 1.0) -> None:
        """Look every ``every_s`` seconds, for ever. The first look waits a grace: whoever wanted to update while we
        were away gets the chance to."""
        await asyncio.sleep(max(every_s, self._grace_s))
        while True:
            looked = 0
            try:
                looked = await self.look()
            except Exception:
                # The store is in trouble; its own face says so. Lifetimes wait.
                log.exception("expiry.failed")
            await asyncio.sleep(0.05 if looked == SLICE else every_s)

    async def look(self) -> int:
        """Handle up to a slice of what is due; returns how many rows were looked at."""
        if self._clock.now() < self._brake.updates_refused_at + LONGEST_S + self._grace_s:
            # Nobody expires for an Update that we refused: whoever was asked to come again gets the time to.
            return 0
        now_ms = self._clock.lifetime_ms()
        due = await self._store.registrations_due(now_ms, SLICE)
        at = Instant(self._clock.now(), self._clock.wall_ms())
        for stored, deadline_ms in due:
            if stored.location in self._ending:
                continue
            known = self._registry.at(stored.location)
            if known is not None and (known.leaving is not None or known.updating):
                continue
            registration = stored if known is None else known.pending or known.registration
            true_deadline = registration.deadline_ms(self._grace_s)
            if true_deadline > now_ms:
                # An Update came since the row was written.
                later = max(true_deadline, deadline_ms + 1)
                self._store.submit(Commit((), (ChangeRegistration(registration, later),), _log_failure))
            else:
                await self._expire(registration, at)
        return len(due)

    async def _expire(self, registration: Registration, at: Instant) -> None:
        known = self._registry.at(registration.location)
        record = known.record if known is not None else await self._store.device(registration.device_id)
        detail = f"gateway {registration.endpoint_name} expired"
        ends = await ends_behind(self._store, registration, Kind.EXPIRE, at, detail)
        row = JournalEntry(
            Kind.EXPIRE,
            registration.device_id,
            at.wall_ms,
            labels=record.uplink_labels if record is not None else (),
            location=registration.location,
            detail=f"no Update for {registration.lifetime_s} s",
        )

        def done(error: Exception | None) -> None:
            self._ending.discard(registration.location)
            if error is not None:
                _log_failure(error)
                return
            log.info(
                "registration.expired",
                endpoint_name=registration.endpoint_name,
                lifetime_s=registration.lifetime_s,
                location=registration.location,
            )
            for each in (registration, *ends.registrations):
                forget_registration(self._registry, self._link, self._listener, each, at)

        self._ending.add(registration.location)
        drop = DropRegistration(registration.device_id, registration.location)
        self._store.submit(Commit((row, *ends.entries), (drop, *ends.changes), done))


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "expiry.not_stored", error)
