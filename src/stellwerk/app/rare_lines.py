"""Lines in a device's log about what others may cause in its name: seldom enough that nobody can fill the disk."""

from typing import Final

import structlog

from stellwerk.app.changes import Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant

log = structlog.get_logger(__name__)

EVERY_S: Final = 60.0
_REMEMBERED: Final = 10_000


class RareLines:
    """At most one line about one kind of event in `EVERY_S` for each device."""

    def __init__(self, store: DecidingStore) -> None:
        self._store = store
        self._written: dict[tuple[DeviceId, str], float] = {}

    def write(self, device_id: DeviceId, event: str, detail: str, at: Instant, *, also: str = "") -> bool:
        """``event``: a stable word; ``detail``: for people; ``also``: what makes it another kind of event. Whether it
        is written."""
        key = device_id, f"{event} {also}" if also else event
        if at.now - self._written.get(key, float("-inf")) < EVERY_S:
            return False
        self._written.pop(key, None)
        self._written[key] = at.now
        if len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]
        row = JournalEntry(Kind.LOG, device_id, at.wall_ms, reason=event, detail=detail)
        self._store.submit(Commit((row,), (), _log_failure))
        return True


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "device_log.lost", error)
