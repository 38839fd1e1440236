"""Bootstrap sessions, and what a device would be given, as people read them: pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from stellwerk.app.bootstrap_sight import RefusedPeer
from stellwerk.console.live_table import Row
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord
from stellwerk.lwm2m.status import dotted

LONGEST_BRIEF: Final = 140

_BEGUN_BY: Final = {
    BootstrapTrigger.CLIENT: "the device asked",
    BootstrapTrigger.SERVER: "the server began",
    BootstrapTrigger.PACK: "the device asked for a pack",
}


def session_rows(sessions: Iterable[BootstrapSession]) -> list[Row]:
    """One row each; opened, a session has its steps."""
    return [
        {
            "id": each.number,
            "time": each.started_ms,
            "state": each.state.value,
            "brief": _cut(_brief(each)),
            "full": "\n".join([_about(each), *(f"\n{_step(step)}" for step in each.steps)]),
        }
        for each in sessions
    ]


def refused_rows(refused: Iterable[RefusedPeer]) -> list[Row]:
    return [
        {
            "id": each.key,
            "at": each.at_ms,
            "device": each.device,
            "href": f"/devices/{each.device_id}",
            "identity": each.said,
            "address": each.address,
            "reason": each.reason,
            "detail": each.detail,
        }
        for each in refused
    ]


def _brief(session: BootstrapSession) -> str:
    """Why it ended as it did; of one that went well, how much it took."""
    if session.why:
        return session.why
    count = len(session.steps)
    steps = f"{count} step{'' if count == 1 else 's'}"
    return f"{steps} in {_seconds(session)}" if session.ended_ms else f"{steps} so far"


def _about(session: BootstrapSession) -> str:
    ended = ""
    if session.state is not BootstrapState.RUNNING:
        ended = f"; ended {_clock(session.ended_ms)}, after {_seconds(session)}"
    lines = [
        f"{_BEGUN_BY[session.trigger]}, as {session.endpoint_name}, from {session.peer}",
        f"began {datetime.fromtimestamp(session.started_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC{ended}",
        session.why,
    ]
    return "\n".join(each for each in lines if each)


def _step(step: StepRecord) -> str:
    """The operation and its answer, then what it carried, a line for each part."""
    said = dotted(step.status) if step.status else step.failure
    if not said and step.operation.startswith("Bootstrap-"):
        # Others are remarks: of a plan, of steps that are not kept.
        said = "no answer yet"
    head = f"{_clock(step.at_ms)}  {' '.join(each for each in (step.operation, step.path) if each)}  {said}".rstrip()
    # A summary has its parts in a row, as it stands in logs.
    parts = [part for text in (step.detail, step.summary) for part in text.split("; ") if part]
    return "\n".join([head, *(f"    {part}" for part in parts)])


def _clock(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S}"


def _seconds(session: BootstrapSession) -> str:
    return f"{max(session.ended_ms - session.started_ms, 0) / 1000:.2f} s"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_BRIEF else text[: LONGEST_BRIEF - 1] + "…"
