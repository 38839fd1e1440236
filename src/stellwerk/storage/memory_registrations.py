"""Registrations, observations and object lists with plain dicts: a part of `memory`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from stellwerk.app.ports import OBJECT_LISTS_KEPT
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration
from stellwerk.device.observation import WantedObservation
from stellwerk.device.registration import Registration
from stellwerk.storage.memory_changes import MemoryChanges
from stellwerk.storage.memory_journal import MemoryJournal


class MemoryRegistrations(MemoryChanges):
    """A part of `MemoryStore`."""

    def __init__(self, salt: bytes, journal: MemoryJournal) -> None:
        super().__init__(salt, journal)
        self._object_lists: dict[DeviceId, dict[str, bytes]] = {}

    async def end_devices(self, gateway_id: DeviceId) -> Sequence[tuple[EndDeviceRecord, EndDeviceRegistration | None]]:
        return [(each, self._end_device_registration(each)) for each in self._behind(gateway_id)]

    async def registration_of(self, device_id: DeviceId) -> Registration | None:
        record = self._devices.get(device_id)
        if isinstance(record, EndDeviceRecord):
            return self._end_device_registration(record)
        found = self._registrations.get(device_id)
        return None if found is None else self._fresh(found[0])

    async def registration_at(self, location: str) -> Registration | None:
        found = (each for each in self._direct() if each.location == location)
        return next(map(self._fresh, found), None)

    async def registration_from(self, peer: PeerId) -> Registration | None:
        found = [each for each in self._direct() if each.peer == peer]
        newest = max(found, key=lambda each: (each.registered_ms, each.device_id), default=None)
        return None if newest is None else self._fresh(newest)

    async def registrations_due(self, before_ms: int, limit: int) -> Sequence[tuple[Registration, int]]:
        found = sorted((each for each in self._registrations.values() if each[1] < before_ms), key=lambda each: each[1])
        return [(self._fresh(registration), deadline_ms) for registration, deadline_ms in found[:limit]]

    async def object_lists_of(self, device_id: DeviceId) -> Mapping[str, bytes]:
        return dict(self._object_lists.get(device_id, {}))

    async def put_object_list(self, device_id: DeviceId, profile_id: str, body: bytes, now_ms: int) -> None:
        lists = self._object_lists.setdefault(device_id, {})
        lists.pop(profile_id, None)
        lists[profile_id] = body
        if len(lists) > OBJECT_LISTS_KEPT:
            del lists[next(iter(lists))]

    async def observations_of(self, device_id: DeviceId) -> Sequence[WantedObservation]:
        found = [each for each in self._observations.values() if each.device_id == device_id]
        return sorted(found, key=lambda each: (each.created_ms, str(each.path)))

    async def observation_by_token(self, token: bytes) -> WantedObservation | None:
        return next((each for each in self._observations.values() if each.token == token), None)

    def _direct(self) -> Iterator[Registration]:
        """Registrations of devices that are behind no gateway."""
        return (each for each, _ in self._registrations.values() if not isinstance(each, EndDeviceRegistration))

    def _behind(self, gateway_id: DeviceId) -> list[EndDeviceRecord]:
        return [
            each
            for each in self._devices.values()
            if isinstance(each, EndDeviceRecord) and each.gateway_id == gateway_id
        ]

    def _end_device_registration(self, record: EndDeviceRecord) -> EndDeviceRegistration | None:
        own, _ = self._registrations.get(record.device_id, (None, 0))
        gateway, _ = self._registrations.get(record.gateway_id, (None, 0))
        if not isinstance(own, EndDeviceRegistration) or gateway is None:
            return None
        moved = replace(own, gateway_id=record.gateway_id, prefix=record.prefix)
        return moved.following(self._fresh(gateway))

    def _fresh(self, registration: Registration) -> Registration:
        updated_ms = max(registration.updated_ms, self._journal.updated_ms(registration.device_id))
        return replace(registration, updated_ms=updated_ms, proven=True)
