"""Who was turned away before anything was known of him, for people who look for what is wrong (device platform §5)."""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import UserError
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.record import DeviceRecord

log = structlog.get_logger(__name__)

RECENT_FAILURES: Final = 200
TROUBLES_LOGGED_PER_S: Final = 5.0
LONGEST_IDENTITY: Final = 200
_LONGEST_DETAIL: Final = 600
"""Characters that are kept of what a peer may have written."""
_BURST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class FailedHandshake:
    """For people who look for what is wrong. ``identity``: as far as the peer named one, nothing of it is proven;
    ``tenant`` and ``device`` whose that would be, empty where it is nobody's. ``number`` counts them."""

    number: int
    at_ms: int
    address: str
    identity: str
    reason: str
    detail: str
    tenant: str = ""
    device: str = ""
    device_id: int = 0


@dataclass(frozen=True, slots=True)
class Security:
    """What people see of it: ``sessions`` in memory (of all tenants, so None for people of one), recent ``failures``,
    the newest first."""

    sessions: int | None
    failures: tuple[FailedHandshake, ...]


class Failures:
    """The newest `RECENT_FAILURES` of all that make handshakes or hold contexts; at most `TROUBLES_LOGGED_PER_S` are
    written down, of more only how many there were."""

    def __init__(self, *, tasks: Tasks, lines: RareLines) -> None:
        self._tasks = tasks
        self._lines = lines
        self._troubles: TokenBuckets[None] = TokenBuckets(TROUBLES_LOGGED_PER_S, TROUBLES_LOGGED_PER_S * _BURST_S)
        self._unsaid = 0
        self._failed = 0
        self.newest: deque[FailedHandshake] = deque(maxlen=RECENT_FAILURES)
        """The newest last."""

    def note(
        self,
        event: str,
        address: PeerId,
        identity: str,
        reason: str,
        detail: str,
        named: Callable[[], Awaitable[DeviceRecord | None]],
        at: Instant,
    ) -> None:
        """``event``: a word for the device's log (``handshake-failed``); ``named``: looks up whom ``identity`` names,
        which nobody has proven."""
        if not self._troubles.take(None, at.now):
            self._unsaid += 1
            return
        unsaid, self._unsaid = self._unsaid, 0
        more = {"not_logged": unsaid} if unsaid else {}
        identity, detail = identity[:LONGEST_IDENTITY], detail[:_LONGEST_DETAIL]
        said = event.replace("-", ".", 1)
        log.info(said, address=str(address), identity=identity, reason=reason, detail=detail, **more)
        self._tasks.start("handshake failure", self._note(event, address, identity, reason, detail, named, at))

    async def _note(
        self,
        event: str,
        address: PeerId,
        identity: str,
        reason: str,
        detail: str,
        named: Callable[[], Awaitable[DeviceRecord | None]],
        at: Instant,
    ) -> None:
        record: DeviceRecord | None = None
        try:
            with suppress(UserError):
                record = await named()
        finally:
            whose = ("", "", 0) if record is None else (record.tenant, record.name, int(record.device_id))
            self._failed += 1
            self.newest.append(
                FailedHandshake(self._failed, at.wall_ms, str(address), identity, reason, detail, *whose)
            )
        if record is not None:
            self._lines.write(record.device_id, event, f"from {address} as {identity}: {reason}, {detail}", at)

    def recent(self, tenant: str | None) -> list[FailedHandshake]:
        """The newest first: those that name a device of ``tenant``, all for None."""
        return [each for each in reversed(self.newest) if tenant is None or each.tenant == tenant]

    def summary(self, tenant: str | None) -> Security:
        """What somebody of ``tenant`` may see, None for all, where there are no secure sessions."""
        return Security(None, tuple(self.recent(tenant)))
