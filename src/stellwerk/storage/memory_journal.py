"""The journal as a list, with what is looked up in it: a part of `memory`."""

from collections.abc import Sequence

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.status import Status
from stellwerk.storage.memory_projection import MemoryProjection


class MemoryJournal:
    """Entries in order, numbered from 1; each is projected the moment it is appended."""

    def __init__(self, projection: MemoryProjection) -> None:
        self._projection = projection
        self.entries: list[JournalEntry] = []
        """Oldest first."""
        self._by_receipt: dict[bytes, JournalEntry] = {}
        self._updated_ms: dict[DeviceId, int] = {}

    @property
    def last_seq(self) -> int:
        """The number of the newest entry; 0 before the first."""
        return len(self.entries)

    def append(self, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            self.entries.append(entry)
            if entry.receipt:
                self._by_receipt[entry.receipt] = entry
            if entry.kind == Kind.UPDATE and entry.status == Status.CHANGED:
                self._updated_ms[DeviceId(entry.device_id)] = entry.time_ms
            self._projection.project(len(self.entries), entry)

    def by_receipt(self, receipt: bytes) -> JournalEntry | None:
        """The newest entry whose message had this receipt."""
        return self._by_receipt.get(receipt)

    def updated_ms(self, device_id: DeviceId) -> int:
        """When the device's newest Update that changed nothing but the lifetime's start was received; 0 without one.
        Such an Update is an entry alone: the row of its registration stays as it was."""
        return self._updated_ms.get(device_id, 0)

    def forget_device(self, device_id: DeviceId) -> None:
        """Its entries stay."""
        self._updated_ms.pop(device_id, None)
