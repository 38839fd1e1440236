"""Whose each peer is that has proven who it is, and how many one device may have."""

from typing import Final

from stellwerk.core.ids import DeviceId, PeerId

MOST_PER_DEVICE: Final = 4
"""Sessions or connections of one device at the same time; with one more the oldest ends."""


class LivePeers:
    """``devices``: the table of whose each is, for those who look only; others may have theirs in it, too."""

    def __init__(self, devices: dict[PeerId, DeviceId] | None = None, most: int = MOST_PER_DEVICE) -> None:
        self.devices: dict[PeerId, DeviceId] = {} if devices is None else devices
        self._most = most
        self._by_device: dict[DeviceId, tuple[PeerId, ...]] = {}
        """Oldest first."""

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self.devices

    def of(self, device_id: DeviceId) -> tuple[PeerId, ...]:
        """The device's, oldest first."""
        return self._by_device.get(device_id, ())

    def add(self, peer: PeerId, device_id: DeviceId) -> tuple[PeerId, ...]:
        """It is that device's, and its newest. Returns the oldest that are too many now: whoever calls this ends them,
        and says `remove` of each when that is done; until then they count."""
        live = tuple(each for each in self.of(device_id) if each != peer)
        self.devices[peer] = device_id
        self._by_device[device_id] = (*live, peer)
        return live[: max(0, len(live) + 1 - self._most)]

    def remove(self, peer: PeerId) -> DeviceId | None:
        """It is no more; whose it was, None where that is nobody here."""
        device_id = self.devices.pop(peer, None)
        if device_id is None:
            return None
        rest = tuple(each for each in self.of(device_id) if each != peer)
        if rest:
            self._by_device[device_id] = rest
        else:
            self._by_device.pop(device_id, None)
        return device_id
