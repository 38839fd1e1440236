"""What is told of bootstrap sessions: rows of the device's history and lines of its log, a list of the requests of
recent times that were refused, counters."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from stellwerk.app.bootstrap_progress import Progress, encode_progress
from stellwerk.app.changes import Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.meters import BootstrapMeters
from stellwerk.app.ports import DecidingStore, StoreTrouble
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.records import DeviceGone
from stellwerk.app.speaking import Refusal
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.lwm2m.status import dotted

log = structlog.get_logger(__name__)

RECENT_REFUSALS: Final = 200
REFUSALS_LOGGED_PER_S: Final = 5.0
LONGEST_NAME: Final = 200
_LONGEST_DETAIL: Final = 600
"""Characters that are kept of what a peer may have written."""
_BURST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """For people who look for what is wrong. ``endpoint``: as the peer named it, nothing of it is proven; ``tenant``
    and ``device`` whom the request concerns, empty where that is nobody. ``number`` counts them."""

    number: int
    at_ms: int
    peer: str
    endpoint: str
    reason: str
    detail: str
    tenant: str = ""
    device: str = ""
    device_id: int = 0


class BootstrapHistory:
    """``whence``: where a peer is, for people."""

    def __init__(
        self, store: DecidingStore, lines: RareLines, meters: BootstrapMeters, whence: Callable[[PeerId], str] = str
    ) -> None:
        self._store = store
        self._lines = lines
        self._meters = meters
        self.whence = whence
        self._troubles: TokenBuckets[None] = TokenBuckets(REFUSALS_LOGGED_PER_S, REFUSALS_LOGGED_PER_S * _BURST_S)
        self._unsaid = 0
        self._refused = 0
        self.recent_refusals: deque[RefusedRequest] = deque(maxlen=RECENT_REFUSALS)
        """The newest last."""

    def refusals(self, tenant: str | None) -> list[RefusedRequest]:
        """The newest first: those that concern a device of ``tenant``, all for None."""
        return [each for each in reversed(self.recent_refusals) if tenant is None or each.tenant == tenant]

    async def refused(
        self, refusal: Refusal, endpoint: str | None, peer: PeerId, trigger: BootstrapTrigger, at: Instant
    ) -> None:
        """A request led to nothing. A device that it concerns learns of it once a minute for each reason: anybody may
        cause it."""
        self._meters.refused[refusal.reason] += 1
        name, detail = (endpoint or "")[:LONGEST_NAME], refusal.noted[:_LONGEST_DETAIL]
        if self._troubles.take(None, at.now):
            unsaid, self._unsaid = self._unsaid, 0
            more = {"not_logged": unsaid} if unsaid else {}
            log.info("bootstrap.refused", peer=str(peer), endpoint=name, reason=refusal.reason, detail=detail, **more)
        else:
            self._unsaid += 1
        record = refusal.record
        where = self.whence(peer)
        whose = ("", "", 0) if record is None else (record.tenant, record.name, int(record.device_id))
        self._refused += 1
        self.recent_refusals.append(
            RefusedRequest(self._refused, at.wall_ms, where, name, refusal.reason, detail, *whose)
        )
        if record is None or not self._lines.write(
            record.device_id, "bootstrap-refused", f"from {where}: {refusal.reason}, {detail}", at, also=refusal.reason
        ):
            return
        session = BootstrapSession(
            0,
            record.device_id,
            name,
            where,
            trigger,
            BootstrapState.REFUSED,
            at.wall_ms,
            at.wall_ms,
            refusal.reason,
            detail,
        )
        try:
            await self._store.put_bootstrap_session(session)
        except (StoreTrouble, DeviceGone) as error:
            log_not_stored(log, "bootstrap.history_lost", error)

    def began(self, session: BootstrapSession, progress: Progress | None = None) -> None:
        """It is in the store. ``progress`` here and below: how far it is with that, None of one that is over at
        once."""
        assert session.device_id is not None
        log.info(
            "bootstrap.began",
            device_id=session.device_id,
            endpoint=session.endpoint_name,
            peer=session.peer,
            trigger=session.trigger.value,
        )
        detail = f"from {session.peer} as {session.endpoint_name}, by the {session.trigger.value}"
        self._line(session.device_id, session.started_ms, "bootstrap-began", detail, progress)

    def step(self, device_id: DeviceId, step: StepRecord, progress: Progress | None = None) -> None:
        """One was answered, or was not."""
        said = dotted(step.status) if step.status else step.failure
        if said:
            self._meters.steps[step.operation, said] += 1
        event = step.operation.lower()
        if not event.startswith("bootstrap-"):
            event = f"bootstrap-{event}"
        text = f"{step.path} {said}".strip()
        more = "; ".join(each for each in (step.detail, step.summary) if each)
        self._line(device_id, step.at_ms, event, ": ".join(each for each in (text, more) if each), progress)

    def ended(self, session: BootstrapSession, progress: Progress | None = None) -> None:
        """However it did."""
        assert session.device_id is not None
        self._meters.sessions[session.state.value] += 1
        log.info(
            "bootstrap.ended",
            device_id=session.device_id,
            endpoint=session.endpoint_name,
            state=session.state.value,
            reason=session.reason,
            detail=session.detail,
            steps=len(session.steps),
        )
        text = ", ".join(dict.fromkeys(each for each in (session.state.value, session.reason, session.detail) if each))
        self._line(session.device_id, session.ended_ms, "bootstrap-ended", text, progress)

    def _line(self, device_id: DeviceId, at_ms: int, event: str, detail: str, progress: Progress | None) -> None:
        payload = b"" if progress is None else encode_progress(progress)
        row = JournalEntry(Kind.LOG, device_id, at_ms, payload=payload, reason=event, detail=detail)
        self._store.submit(Commit((row,), (), _log_failure, reserve=True))


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "device_log.lost", error)
