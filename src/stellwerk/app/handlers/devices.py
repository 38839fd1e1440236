"""What people change of a device that exists: labels, what they know of it, its key (contract Device to Cloud §6.5,
§8.1, §9). A change holds for the device's next message, and for its next datagram."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.changes import DropRegistration
from stellwerk.app.committing import commit
from stellwerk.app.credentials import BadCredential, check_identity, check_key, is_key
from stellwerk.app.end_devices import ends_behind
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore, DeviceLink
from stellwerk.app.records import AlreadyExists, DeviceChange, DeviceGone
from stellwerk.app.registry import Registry
from stellwerk.app.uplinks import Listener, forget_registration
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.device.end_device import GATEWAY_LABELS, EndDeviceRecord
from stellwerk.device.record import NOSEC, Credential, DeviceRecord, without_server_labels

log = structlog.get_logger(__name__)

LONGEST_LABEL: Final = 1000
MOST_LABELS: Final = 200
"""Uplink properties among them go into the journal with every message."""

Relabel = Callable[[DeviceId, tuple[str, ...]], None]


class NoCredential(UserError):
    """The device has no key that could be changed or taken away."""

    def __init__(self, name: str) -> None:
        super().__init__(f"device {name!r} has no credentials")


class BadLabels(UserError):
    """Labels that no node may have; the text says which rule they break, never what a key was."""


class Devices:
    """``relabel`` hears of a device's uplink labels, for what waits for it already."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        clock: Clock,
        link: DeviceLink,
        listener: Listener,
        relabel: Relabel,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._link = link
        self._listener = listener
        self._relabel = relabel
        # What is changed is read before: one after the other, or the second takes back what the first one wrote.
        self._turn = asyncio.Lock()

    async def set_labels(self, device: DeviceRecord, labels: tuple[str, ...]) -> DeviceRecord:
        """Replace the labels that are not the server's own; uplink properties among them go with every message from now
        on. Raises `BadLabels`, `DeviceGone`."""
        check_labels(labels)
        written = without_server_labels(labels)
        if isinstance(device, EndDeviceRecord):
            written = tuple(each for each in written if not each.startswith(GATEWAY_LABELS))
        change = DeviceChange(self._clock.wall_ms(), labels=written)
        changed = self._kept(device, await self._store.change_device(device.device_id, change))
        self._relabel(device.device_id, changed.uplink_labels)
        log.info("device.labels_changed", tenant=device.tenant, device=device.name, count=len(changed.labels))
        return changed

    async def give_info(self, device: DeviceRecord, info: Mapping[str, str]) -> DeviceRecord:
        """What people say the device is, where nobody said anything. Raises `AlreadyExists`, `DeviceGone`."""
        async with self._turn:
            if (await self._current(device)).device_info:
                raise AlreadyExists("resource name", "device-info")
            return await self._store_info(device, info)

    async def change_info(self, device: DeviceRecord, info: Mapping[str, str | None]) -> DeviceRecord:
        """Change some of what people say the device is; None takes an attribute away. What it reports itself stays.
        Raises `DeviceGone`."""
        async with self._turn:
            merged = {**dict((await self._current(device)).device_info), **info}
            kept = {name: value for name, value in merged.items() if value is not None}
            return await self._store_info(device, kept)

    async def remove_info(self, device: DeviceRecord) -> DeviceRecord:
        """Forget what people say the device is. Raises `DeviceGone`."""
        async with self._turn:
            return await self._store_info(device, {})

    async def _store_info(self, device: DeviceRecord, info: Mapping[str, str]) -> DeviceRecord:
        change = DeviceChange(self._clock.wall_ms(), device_info=tuple(info.items()))
        changed = self._kept(device, await self._store.change_device(device.device_id, change))
        log.info("device.info_changed", tenant=device.tenant, device=device.name, attributes=[*info])
        return changed

    async def _current(self, device: DeviceRecord) -> DeviceRecord:
        found = await self._store.device(device.device_id)
        if found is None:
            raise DeviceGone(device.name)
        return found

    async def give_credential(self, device: DeviceRecord, credential: Credential) -> DeviceRecord:
        """A key for a device that has none: from now on it may not come without. Raises `AlreadyExists` where it has
        one, or where another device has that identity; `BadCredential`, `DeviceGone`."""
        if isinstance(device, EndDeviceRecord):
            raise BadCredential(
                f"device {device.name!r} is reached through gateway {device.gateway!r}, which has the key"
            )
        async with self._turn:
            if await self._store.credential_of(device.device_id) is not None:
                raise AlreadyExists("resource name", "credentials")
            now_ms = self._clock.wall_ms()
            return await self._set_key(device, replace(credential, created_ms=now_ms, modified_ms=now_ms))

    async def change_credential(
        self,
        device: DeviceRecord,
        *,
        identity: str | None = None,
        secret: str | None = None,
        description: str | None = None,
    ) -> DeviceRecord:
        """Another identity, another key, or both. Raises `NoCredential`, `AlreadyExists`, `BadCredential`,
        `DeviceGone`."""
        async with self._turn:
            known = await self._store.credential_of(device.device_id)
            if known is None:
                raise NoCredential(device.name)
            changed = replace(
                known,
                identity=known.identity if identity is None else identity,
                secret=known.secret if secret is None else secret,
                description=known.description if description is None else description,
                modified_ms=self._clock.wall_ms(),
            )
            return await self._set_key(device, changed)

    async def remove_credential(self, device: DeviceRecord) -> DeviceRecord:
        """Take the key away: the device may come without. Raises `NoCredential`, `DeviceGone`."""
        async with self._turn:
            if await self._store.credential_of(device.device_id) is None:
                raise NoCredential(device.name)
            return await self._store_key(device, None)

    async def _set_key(self, device: DeviceRecord, credential: Credential) -> DeviceRecord:
        check_identity(credential.identity)
        check_key(credential.secret)
        return await self._store_key(device, credential)

    async def _store_key(self, device: DeviceRecord, credential: Credential | None) -> DeviceRecord:
        changed = self._kept(device, await self._store.set_credential(device.device_id, credential))
        action = "removed" if credential is None else "set"
        log.info("device.credential_changed", tenant=device.tenant, device=device.name, action=action)
        if changed.security != NOSEC:
            await self._end_unsecured(changed)
        return changed

    async def _end_unsecured(self, device: DeviceRecord) -> None:
        """Whoever registered without the key that the device has now is to come again with it."""
        await self._end(device)
        # Looked at again: a Register that was let in just before may have been on its way to the disk.
        if await self._registry.load_of(device.device_id) is not None:
            await self._end(device)

    async def _end(self, device: DeviceRecord) -> None:
        at = Instant(self._clock.now(), self._clock.wall_ms())
        detail = "the device has credentials now and must use them"
        known = await self._registry.load_of(device.device_id)
        if known is None:
            line = JournalEntry(Kind.LOG, device.device_id, at.wall_ms, reason="credentials-changed", detail=detail)
            await commit(self._store, (line,), ())
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
        await commit(self._store, (entry, *ends.entries), (drop, *ends.changes), done)

    def _kept(self, device: DeviceRecord, changed: DeviceRecord | None) -> DeviceRecord:
        """``changed`` where the registration lives too."""
        if changed is None:
            raise DeviceGone(device.name)
        known = self._registry.of(device.device_id)
        if known is not None:
            known.record = changed
            known.uplink_labels = changed.uplink_labels
        return changed


def check_labels(labels: Sequence[str]) -> None:
    """Raises `BadLabels`."""
    if len(labels) > MOST_LABELS:
        raise BadLabels(f"a node has {MOST_LABELS} labels at most, these are {len(labels)}")
    if any(len(each) > LONGEST_LABEL for each in labels):
        raise BadLabels(f"a label has {LONGEST_LABEL} characters at most")
    if any(map(is_key, labels)):
        raise BadLabels("a label is for all to read; keys belong in credentials (m2m:crds, nodeCredentials)")
