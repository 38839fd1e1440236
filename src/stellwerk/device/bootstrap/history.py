"""What is kept of bootstrap sessions: each step, what came of it, how it ended; secrets never."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from stellwerk.core.ids import DeviceId

MAX_STEPS: Final = 100
"""Steps of one session that are kept: of more the first and the last."""
MAX_TEXT: Final = 1_100
"""Characters of one text in a step."""


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
    """Who began a session, or that the device asked for all in one answer."""

    CLIENT = "client"
    SERVER = "server"
    PACK = "pack"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """``operation``: ``Bootstrap-Write``; ``path``: ``/0/1``; ``summary``: the payload for people, secrets masked.
    ``status``: the client's code (``204``), to its own requests (``EST-sen``) ours, 0 without an answer; ``failure``
    and ``detail`` as of `DeviceAnswer`."""

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

    @property
    def why(self) -> str:
        """Reason and detail, for people who read the state beside it: a reason that is the same word is left out."""
        return ": ".join(each for each in ("" if self.reason == self.state.value else self.reason, self.detail) if each)


def add_step(steps: list[StepRecord], step: StepRecord, left_out: int) -> int:
    """Put ``step`` behind the others, in the place of one in the middle where they are `MAX_STEPS`; a line called
    ``...`` says how many are left out. ``left_out``: how many were before, returned: how many are now."""
    if len(steps) >= MAX_STEPS:
        middle = MAX_STEPS // 2
        # The line that says so takes a place too.
        left_out += 1 if left_out else 2
        del steps[middle + 1]
        steps[middle] = StepRecord(step.at_ms, "...", "", f"{left_out} steps are not kept")
    steps.append(step)
    return left_out
