"""A command's life as a table (design §3): which step may follow which, and what an unanswered one becomes."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from stellwerk.core.errors import StellwerkError
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.operations import Create, Delete, Execute, Operation


class Step(Enum):
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    OUTCOME_UNKNOWN = "outcome unknown"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """Never sent, because a newer Write says the same and more (contract QM-5)."""


FINAL = frozenset(
    {
        Step.SUCCEEDED,
        Step.REFUSED,
        Step.TIMED_OUT,
        Step.OUTCOME_UNKNOWN,
        Step.EXPIRED,
        Step.CANCELLED,
        Step.SUPERSEDED,
    }
)

FOLLOWS: dict[Step, frozenset[Step]] = {
    Step.QUEUED: frozenset({Step.SENT, Step.REFUSED, Step.EXPIRED, Step.CANCELLED, Step.TIMED_OUT, Step.SUPERSEDED}),
    Step.SENT: frozenset(
        {
            Step.DELIVERED,
            Step.SUCCEEDED,
            Step.REFUSED,
            Step.TIMED_OUT,
            Step.OUTCOME_UNKNOWN,
            Step.EXPIRED,
            Step.QUEUED,
        }
    ),
    # Back to `sent` where no answer followed the acknowledgement and it is sent again.
    Step.DELIVERED: frozenset(
        {Step.SENT, Step.SUCCEEDED, Step.REFUSED, Step.TIMED_OUT, Step.OUTCOME_UNKNOWN, Step.EXPIRED}
    ),
    **{step: frozenset() for step in FINAL},
}


NEVER_MS: Final = 1 << 62
"""`Command.expires_ms` of one that ends with the registration and not before."""
UNANSWERED: Final = "unanswered"
"""``Command.reason`` of one that is `Step.SENT` and not on its way."""


class StepRefused(StellwerkError):
    """A command in ``current`` cannot become ``wanted``."""

    def __init__(self, current: Step, wanted: Step) -> None:
        self.current, self.wanted = current, wanted
        super().__init__(f"a command that is {current.value} cannot become {wanted.value}")


@dataclass(slots=True)
class Command:
    """One operation owed to a device. ``request_id`` is its UUID towards applications, ``outgoing_rn`` the message it
    came in, empty where it came in none, and ``outgoing_ri`` what it is found by; ``content`` is what `sent-msg` shows;
    ``method`` the response's word (``read``, ``write``, ``exec`` ...). ``priority``: the higher goes first. ``reason``
    and ``detail`` say more of the step: why it ended so, or that it was sent, went unanswered and waits for another try
    (`UNANSWERED`)."""

    command_id: int
    device_id: DeviceId
    outgoing_ri: str
    outgoing_rn: str
    request_id: str
    method: str
    operation: Operation
    content: str
    content_info: str | None
    step: Step
    created_ms: int
    expires_ms: int
    priority: int = 0
    reason: str = ""
    detail: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The trace labels, in the order they are printed (contract Device to Cloud §8)."""
        request = f"requestId:{self.request_id}"
        return (f"outgoing_msgRN:{self.outgoing_rn}", request) if self.outgoing_rn else (request,)


def advance(current: Step, wanted: Step) -> Step:
    """``wanted`` if it may follow ``current``. Raises `StepRefused`."""
    if wanted not in FOLLOWS[current]:
        raise StepRefused(current, wanted)
    return wanted


def after_restart(operation: Operation) -> Step:
    """What becomes of a command that was sent and not answered when the server died: sent again where repeating is
    harmless; an Execute, Create or Delete is never repeated (design §3)."""
    return Step.OUTCOME_UNKNOWN if isinstance(operation, Execute | Create | Delete) else Step.QUEUED
