"""Changed credentials act at once on what lives (SEC-9; contract device platform §4): the sessions of the device end,
so does its registration, and it has to come again as it now must.

Whoever changes a credential, this process or a command beside it, the store notes whose it was in the same transaction.
What is noted is worked off here: right after a change of our own, every second for those of others, and at the start
for what was changed while nobody listened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog

from stellwerk.app.changes import DropRegistration, DropSessionsOf
from stellwerk.app.committing import commit
from stellwerk.app.device_ports import DeviceLink
from stellwerk.app.end_devices import ends_behind
from stellwerk.app.handlers.deregistering import forget_registration
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.listener import Listener
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.registry import Registry
from stellwerk.app.security_ports import CredentialChange
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.record import NOSEC, DeviceRecord

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
AT_ONCE: Final = 100
"""Devices between two looks at the store."""

_GIVEN: Final = "credentials changed: the device has to come again and must use those it has now"
_TAKEN: Final = "credentials were taken away: the device has to come again without"


class Revoking:
    """``revoked`` hears of each device whose live sessions and handshakes are to end: before its registration ends, and
    once more after that, for what was under way. ``bootstrap_revoked`` hears of those whose sessions with the bootstrap
    server are to end, be it these alone. ``withdraw`` ends the commands that wait for a device whose
    credentials were taken away, for the reason given."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        clock: Clock,
        link: DeviceLink,
        listener: Listener,
        revoked: Callable[[DeviceRecord], object] = lambda device: None,
        withdraw: Callable[[DeviceRecord, str], Awaitable[object]] | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._link = link
        self._listener = listener
        self.revoked = revoked
        self.bootstrap_revoked: Callable[[DeviceRecord], object] = lambda device: None
        self.withdraw = withdraw
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:
                log.exception("credentials.not_revoked")

    async def look(self) -> int:
        """Work off what was noted; returns of how many devices."""
        done = 0
        async with self._turn:
            while changes := await self._store.credential_changes(AT_ONCE):
                # Together, so that they share their commits: an authority may concern a whole fleet. One that fails
                # keeps no other from its end.
                outcomes = await asyncio.gather(*(self._work_off(change) for change in changes), return_exceptions=True)
                for failure in filter(None, outcomes):
                    raise failure
                done += len(changes)
        return done

    async def _work_off(self, change: CredentialChange) -> None:
        device = await self._store.device(change.device_id)
        if device is not None:
            self.bootstrap_revoked(device)
            if not change.only_bootstrap:
                await self._revoke(device)
        await self._store.forget_credential_change(change.number)

    async def trust(self, fingerprints: Collection[str]) -> None:
        """These authorities are trusted from now on. Where one is trusted no more, also since an earlier run, whoever
        may have come in by it has to come again. Pinned certificates, raw public keys and pre-shared keys have nothing
        to do with it."""
        devices = await self._store.trust_authorities(fingerprints)
        if devices:
            log.warning("credentials.authority_distrusted", devices=devices, meaning="they have to come again")
            await self.look()

    async def _revoke(self, device: DeviceRecord) -> None:
        known = self._registry.of(device.device_id)
        if known is not None:
            known.record = device
        self.revoked(device)
        if device.security == NOSEC and self.withdraw is not None:
            # What waits was meant for who holds the key; without one, anybody may come.
            await self.withdraw(device, _TAKEN)
        await self._end(device)
        # Looked at again: a Register that was let in just before may have been on its way to the disk.
        if await self._registry.load_of(device.device_id) is not None:
            await self._end(device)
        self.revoked(device)
        log.info("device.credentials_revoked", tenant=device.tenant, device=device.name, security=device.security)

    async def promoted(self, device: DeviceRecord, peer: PeerId) -> None:
        """The device has used its fresh credential, over ``peer``: its registration goes by what it proves itself with
        from now on, and moves there with the Register that follows. What else came in with the former ends with it."""
        known = self._registry.of(device.device_id)
        if known is not None:
            known.record = device

    async def _end(self, device: DeviceRecord) -> None:
        at = Instant(self._clock.now(), self._clock.wall_ms())
        detail = _TAKEN if device.security == NOSEC else _GIVEN
        forget = DropSessionsOf(device.device_id)
        known = await self._registry.load_of(device.device_id)
        if known is None:
            line = JournalEntry(Kind.LOG, device.device_id, at.wall_ms, reason="credentials-changed", detail=detail)
            await commit(self._store, (line,), (forget,))
            return
        registration = known.registration
        entry = JournalEntry(
            Kind.EXPIRE,
            device.device_id,
            at.wall_ms,
            labels=device.uplink_labels,
            location=registration.location,
            detail=detail,
        )
        ends = await ends_behind(self._store, registration, Kind.EXPIRE, at, f"gateway {device.name} has to come again")

        def done(error: Exception | None) -> None:
            if error is None:
                log.info("registration.ended", endpoint_name=registration.endpoint_name, reason=detail)
                for each in (registration, *ends.registrations):
                    forget_registration(self._registry, self._link, self._listener, each, at)

        drop = DropRegistration(device.device_id, registration.location)
        await commit(self._store, (entry, *ends.entries), (drop, forget, *ends.changes), done)
