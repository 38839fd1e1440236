"""A gateway and those behind it: one client, which has one command at a time (NSTART 1), each device in its turn."""

from stellwerk.app.handlers.lanes import Lanes
from stellwerk.app.registry import Known, KnownGateway
from stellwerk.core.ids import DeviceId


class HouseholdTurns:
    """Who had the turn last, of households that are owed something."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._last: dict[DeviceId, DeviceId] = {}
        """By gateway."""

    def in_turn(self, house: KnownGateway) -> list[DeviceId]:
        """All devices of ``house``, the gateway too, in the order in which they may be asked: whoever comes after the
        one that had the turn last goes first."""
        gateway_id = house.registration.device_id
        members = [gateway_id, *house.behind]
        last = self._last.get(gateway_id)
        place = members.index(last) + 1 if last in members else 0
        return members[place:] + members[:place]

    def took(self, gateway_id: DeviceId, device_id: DeviceId) -> None:
        """A command for the device, itself or behind that gateway, is on its way."""
        self._last[gateway_id] = device_id

    def forget(self, gateway_id: DeviceId) -> None:
        """Nobody of that household is owed anything, or it is no more."""
        self._last.pop(gateway_id, None)

    def is_asked(self, house: KnownGateway, *, but: Known) -> bool:
        """Whether a command is on its way to any of ``house``, other than ``but``."""
        for each in (house, *house.behind.values()):
            lane = self._lanes.get(each.registration.device_id)
            if each is not but and lane is not None and lane.active is not None:
                return True
        return False
