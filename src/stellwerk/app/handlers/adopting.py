"""Whose device an end device is: made for the gateway that lists it, taken over from one that does not any more, or
refused (contract §12)."""

from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.committing import commit
from stellwerk.app.end_devices import Behind
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import AlreadyExists, DeviceChange, DeviceGone, NewDevice
from stellwerk.app.registry import KnownGateway, Registry
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.lwm2m.end_device_names import device_name, is_global, node_id, other_device_name
from stellwerk.lwm2m.gateway import EndDevice

log = structlog.get_logger(__name__)

_ICCID: Final = "ICCID:"
"""A label that says whose SIM card it is: the gateway's."""
_CLAIMS: Final = 10_000


class NotTaken(UserError):
    """An end device that does not become a device here; the text says why."""


class Adoption:
    """``most``: end devices of one gateway, registered or not."""

    def __init__(self, *, store: DecidingStore, registry: Registry, clock: Clock, most: int) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._most = most
        self.claims: dict[DeviceId, DeviceId] = {}
        """End devices that another gateway lists while theirs still does, each with the other."""

    async def adopt(self, gateway: KnownGateway, device: EndDevice, count: int) -> Behind:
        """Make the device, or take it over from a gateway that does not have it any more. Raises `NotTaken`."""
        wanted = node_id(gateway.record.node_id, device.device_id)
        if is_global(device.device_id):
            owner = await self._store.device_by_endpoint(wanted)
            if isinstance(owner, EndDeviceRecord) and owner.node_id == wanted:
                return await self._move(gateway, device, owner)
        if count >= self._most:
            raise NotTaken(f"{count} end devices are behind this gateway already, and {self._most} may be")
        record = gateway.record
        labels = tuple(each for each in record.labels if not each.startswith(_ICCID))
        now_ms = self._clock.wall_ms()
        new = NewDevice("", wanted, labels, record.profile, (), now_ms, None, record.device_id, device.prefix)
        names = (device_name(record.name, device.device_id), other_device_name(record.name, device.device_id))
        trouble: Exception | None = None
        for name in dict.fromkeys(names):
            try:
                made = await self._store.create_device(record.tenant_id, replace(new, name=name))
            except AlreadyExists as error:
                trouble = error
                if error.what == "node ID":
                    break
            except DeviceGone:
                raise NotTaken("the gateway was removed") from None
            else:
                log.info("device.created", tenant=made.tenant, device=made.name, gateway=record.name)
                assert isinstance(made, EndDeviceRecord)
                return made, None
        # Whose it is, is not for this gateway's log: it may be another tenant's.
        what = trouble.what if isinstance(trouble, AlreadyExists) else "name"
        raise NotTaken(f"end device {device.device_id[:60]!r}: its {what} is another device's")

    async def _move(self, gateway: KnownGateway, device: EndDevice, owner: EndDeviceRecord) -> Behind:
        its = await self._store.device(owner.gateway_id)
        if owner.tenant_id != gateway.record.tenant_id or (its and owner.node_id.startswith(f"{its.node_id}:")):
            # Another tenant's, or a name within the other gateway.
            raise NotTaken(f"end device {device.device_id[:60]!r}: its node ID is another device's")
        if await self._store.registration_of(owner.device_id) is not None:
            if len(self.claims) < _CLAIMS:
                self.claims[owner.device_id] = gateway.record.device_id
            raise NotTaken(f"end device {owner.name} is behind gateway {owner.gateway}, which lists it still")
        moved = await self.change(gateway, device, owner)
        now_ms = self._clock.wall_ms()
        text = f"end device {owner.name} is behind gateway {gateway.record.name} now"
        await commit(self._store, (log_line(owner.gateway_id, now_ms, "end-device-moved", text),), ())
        return moved, None

    async def change(self, gateway: KnownGateway, device: EndDevice, record: EndDeviceRecord) -> EndDeviceRecord:
        """Put the device behind ``gateway`` under the prefix that this one says. Raises `NotTaken`."""
        behind = (gateway.record.device_id, device.prefix)
        changed = await self._store.change_device(record.device_id, DeviceChange(self._clock.wall_ms(), behind=behind))
        if not isinstance(changed, EndDeviceRecord):
            raise NotTaken(f"end device {record.name} was removed just now")
        known = self._registry.of(record.device_id)
        if known is not None:
            known.record = changed
        return changed


def log_line(device_id: DeviceId, wall_ms: int, reason: str, text: str) -> JournalEntry:
    """A line of a device's log."""
    return JournalEntry(Kind.LOG, device_id, wall_ms, reason=reason, detail=text)
