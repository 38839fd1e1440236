"""A lifetime that every sign of life restarts, not the Update alone (contract R-7): no standard's rule, off by default.

A sign of life moves the deadline in memory at once. The stored row follows when an eighth of the lifetime has passed
since it was written, so that a restart forgets no more than that, and a busy device does not rewrite its row each time.
"""

from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.changes import ChangeRegistration, Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.registry import Known
from stellwerk.core.ids import DeviceId

log = structlog.get_logger(__name__)

_STORED_PER_LIFETIME: Final = 8


class Prolonging:
    def __init__(self, *, store: DecidingStore, clock: Clock, grace_s: float) -> None:
        self._store = store
        self._clock = clock
        self._grace_s = grace_s
        self._stored_ms: dict[DeviceId, int] = {}

    def device_heard(self, known: Known) -> None:
        """The device sent something: its lifetime starts anew, which is the gateway's where it is behind one."""
        known = known.household or known
        registration = known.registration
        if known.pending is not None or known.leaving is not None or registration.lifetime_s == 0:
            # An Update that is being stored says it all; whoever leaves is not kept.
            return
        now_ms = self._clock.lifetime_ms()
        stored_ms = max(self._stored_ms.get(registration.device_id, 0), registration.registered_ms)
        registration.updated_ms = now_ms
        if now_ms - stored_ms < registration.lifetime_s * 1000 // _STORED_PER_LIFETIME:
            return
        self._stored_ms[registration.device_id] = now_ms
        stored = replace(registration)
        self._store.submit(Commit((), (ChangeRegistration(stored, stored.deadline_ms(self._grace_s)),), _log_failure))

    def device_lost(self, device_id: DeviceId) -> None:
        """Its registration ended."""
        self._stored_ms.pop(device_id, None)


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "lifetime.not_stored", error)
