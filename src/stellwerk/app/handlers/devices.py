"""What people change of a device that exists: labels, what they know of it, its key (contract Device to Cloud §6.5,
§8.1, §9). A change holds for the device's next message, and for its next datagram."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.credentials import (
    COMMON_NAME,
    Change,
    change_credential,
    endpoint_names,
    in_place_of,
    is_key,
    kind_of,
    written_credential,
    written_secret,
)
from stellwerk.app.device_ports import DeviceLink
from stellwerk.app.handlers.revoking import Revoking
from stellwerk.app.listener import Listener
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import AlreadyExists, DeviceChange, DeviceGone
from stellwerk.app.registry import Registry
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.device.end_device import GATEWAY_LABELS, EndDeviceRecord
from stellwerk.device.record import NOSEC, OSCORE, PSK, X509, Credential, DeviceRecord, without_server_labels

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
        self._relabel = relabel
        self.revoking = Revoking(store=store, registry=registry, clock=clock, link=link, listener=listener)
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
        """Credentials for a device that has none: from now on it may not come without. Raises `AlreadyExists` where it
        has some, or where another device has that identity or key; `BadCredential`, `DeviceGone`."""

        def given(known: Credential | None) -> Credential:
            if known is not None and known.kind != NOSEC:
                raise AlreadyExists("resource name", "credentials")
            if known is None or credential.bootstrap:
                return credential
            return replace(credential, bootstrap=known.bootstrap, spent_ms=known.spent_ms)

        return await self._store_credential(device, given)

    async def change_credential(
        self,
        device: DeviceRecord,
        *,
        identity: str | None = None,
        secret: str | None = None,
        description: str | None = None,
    ) -> DeviceRecord:
        """Another identity, another key (as `app.credentials.written_credential` takes it, so of another kind too), or
        both. Raises `NoCredential`, `AlreadyExists`, `BadCredential`, `DeviceGone`."""

        def changed(known: Credential | None) -> Credential:
            if known is None or known.kind == NOSEC:
                raise NoCredential(device.name)
            new = known
            if identity is not None or secret is not None:
                new = self._rewritten(device, known, identity, secret)
            return new if description is None else replace(new, description=description)

        return await self._store_credential(device, changed)

    def _rewritten(
        self, device: DeviceRecord, known: Credential, identity: str | None, secret: str | None
    ) -> Credential:
        names = endpoint_names(device.node_id, device.name)
        written = written_secret(known) if secret is None else secret
        if secret is None and known.kind == X509 and not known.secret:
            written = COMMON_NAME + (identity or "")
        if identity is None and known.kind == PSK:
            # A new key for the same identity; what is no pre-shared key has an identity of its own.
            identity = known.identity if kind_of(written) == PSK else None
        new = written_credential(identity, written, self._clock.wall_ms(), names)
        placed = in_place_of(known, new)
        # The layer above stays; where it was the only one, it gives way.
        return replace(placed, oscore="") if known.kind == OSCORE else placed

    async def remove_credential(self, device: DeviceRecord) -> DeviceRecord:
        """Take the credentials away: the device may come without. Raises `NoCredential`, `DeviceGone`."""
        async with self._turn:
            # One that the master key does not open can still be taken away.
            if (await self._current(device)).security == NOSEC:
                raise NoCredential(device.name)
            return await self._store_credential(device, None)

    async def _store_credential(self, device: DeviceRecord, change: Change | None) -> DeviceRecord:
        """None: taken away."""
        if change is None:
            stored = await self._store.set_credential(device.device_id, None)
        else:
            stored = await change_credential(self._store, device, change, self._clock.wall_ms())
        changed = self._kept(device, stored)
        action = "removed" if change is None else "set"
        log.info("device.credential_changed", tenant=device.tenant, device=device.name, action=action)
        await self.revoking.look()
        return changed

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
