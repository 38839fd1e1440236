"""What is kept of bootstrap sessions: each step, what came of it, how it ended; secrets never."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from stellwerk.core.ids import DeviceId

MAX_STEPS: Final = 256
"""Steps of one session that are kept."""
MAX_TEXT: Final = 1_200
"""Characters of one text in a step."""
MAX_STEPS_TEXT: Final = 65_536
"""Characters of all steps of one session as `encode_steps` writes them; what is longer loses its texts."""


class BootstrapState(Enum):
    """How a session stands or ended. Each but the first is final."""

    RUNNING = "running"
    CONFIGURED = "configured"
    """Finish was answered 2.04, or the pack was handed over."""
    NOTHING_TO_DO = "nothing to do"
    """The profile gives this device nothing; it was told so with Finish."""
    REFUSED = "refused"
    """Before anything was changed: unknown endpoint, wrong identity, unsupported ``pct``, spent credentials."""
    STEP_FAILED = "step failed"
    """The client refused a step and was left as it was, as far as that can be."""
    INCONSISTENT = "inconsistent"
    """The client refused Finish (4.06), after the correction too."""
    SILENT = "silent"
    """The client did not answer."""
    OVERTIME = "overtime"
    """The client's own time for the session was running out."""
    REPLACED = "replaced"
    """Another request of the same endpoint came in the middle."""
    LOST = "lost"
    """The session or connection ended in the middle."""
    INTERRUPTED = "interrupted"
    """The server stopped in the middle."""


class BootstrapTrigger(Enum):
    CLIENT = "client"
    SERVER = "server"
    PACK = "pack"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """``operation``: ``Bootstrap-Write``; ``path``: ``/0/1``; ``summary``: the payload for people, secrets masked.
    ``status``: the client's code (``204``), 0 without an answer; ``failure`` and ``detail`` as of `DeviceAnswer`."""

    at_ms: int
    operation: str
    path: str
    summary: str = ""
    status: int = 0
    failure: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BootstrapSession:
    """``number`` is the store's, 0 before it has one. ``device_id`` None: nobody's that we know. ``peer`` is a text."""

    number: int
    device_id: DeviceId | None
    endpoint_name: str
    peer: str
    trigger: BootstrapTrigger
    state: BootstrapState
    started_ms: int
    ended_ms: int = 0
    reason: str = ""
    """A stable word: ``unknown-endpoint``, ``wrong-identity``, ``pct``, ``spent``, ``finish-refused`` ..."""
    detail: str = ""
    steps: tuple[StepRecord, ...] = field(default=())


def encode_steps(steps: Sequence[StepRecord]) -> str:
    """The storable form of ``steps``: JSON of at most `MAX_STEPS_TEXT` characters. Of too many steps the first and the
    last stay, with a line between them that says so."""
    kept = list(steps)
    if len(kept) > MAX_STEPS:
        half = MAX_STEPS // 2
        left_out = len(kept) - 2 * half + 1
        gap = StepRecord(kept[half - 1].at_ms, "...", "", summary=f"{left_out} steps are not kept")
        kept = [*kept[: half - 1], gap, *kept[-half:]]
    text = _dump([_fields(each, MAX_TEXT) for each in kept])
    if len(text) > MAX_STEPS_TEXT:
        text = _dump([_fields(each, 0) for each in kept])
    return text


def decode_steps(text: str) -> tuple[StepRecord, ...]:
    """The inverse of `encode_steps`. Raises ValueError on anything else."""
    try:
        found = json.loads(text)
        return tuple(_step(each) for each in found)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"these are no steps of a bootstrap session: {type(error).__name__}: {error}") from error


def _fields(step: StepRecord, most: int) -> dict[str, object]:
    """Without what is empty. ``most``: characters of summary and detail."""
    found: dict[str, object] = {
        "at": step.at_ms,
        "op": step.operation[:32],
        "path": step.path[:32],
        "sum": step.summary[:most],
        "st": step.status,
        "fail": step.failure[:32],
        "det": step.detail[:most],
    }
    return {name: value for name, value in found.items() if value != "" and (value != 0 or name == "at")}


def _dump(steps: list[dict[str, object]]) -> str:
    return json.dumps(steps, separators=(",", ":"), ensure_ascii=False)


def _step(found: dict[str, object]) -> StepRecord:
    at_ms, status = found["at"], found.get("st", 0)
    operation, path = found["op"], found.get("path", "")
    texts = [operation, path, *(found.get(each, "") for each in ("sum", "fail", "det"))]
    if not isinstance(at_ms, int) or not isinstance(status, int) or not all(isinstance(each, str) for each in texts):
        raise TypeError("a field has another type")
    _, _, summary, failure, detail = map(str, texts)
    return StepRecord(at_ms, str(operation), str(path), summary, status, failure, detail)
