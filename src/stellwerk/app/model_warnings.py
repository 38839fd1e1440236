"""What devices' logs were told of their models, so that a device that registers every minute fills none."""

from collections import OrderedDict
from typing import Final

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant

_DEVICES_REMEMBERED: Final = 100_000
_LINES_KEPT: Final = 20
"""Lines that one object list may leave in its device's log: it may name two thousand unknown objects."""


class ModelWarnings:
    """The newest warnings of each device that this run wrote; after a restart they are said once more. Devices that
    fell back nowhere take no room."""

    def __init__(self) -> None:
        self._said: OrderedDict[DeviceId, tuple[str, ...]] = OrderedDict()

    def lines(self, device_id: DeviceId, warnings: tuple[str, ...], at: Instant) -> list[JournalEntry]:
        """Entries for those of ``warnings`` that the device's log was not told before; of many, the first ones and how
        many more there are. `note` them once they are stored."""
        if not warnings:
            return []
        said = self._said.get(device_id, ())
        return [
            JournalEntry(Kind.LOG, device_id, at.wall_ms, reason="model-warning", detail=each)
            for each in _shortened(warnings)
            if each not in said
        ]

    def note(self, device_id: DeviceId, warnings: tuple[str, ...]) -> None:
        """``warnings`` hold for the device from now on; what no longer holds would be news again."""
        if warnings:
            self._said[device_id] = _shortened(warnings)
            self._said.move_to_end(device_id)
            if len(self._said) > _DEVICES_REMEMBERED:
                self._said.popitem(last=False)
        elif self._said:
            self._said.pop(device_id, None)


def _shortened(warnings: tuple[str, ...]) -> tuple[str, ...]:
    if len(warnings) <= _LINES_KEPT:
        return warnings
    return (*warnings[:_LINES_KEPT], f"and {len(warnings) - _LINES_KEPT} more")
