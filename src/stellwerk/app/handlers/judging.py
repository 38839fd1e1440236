"""What a device's answer to a command means, or its silence (contract Device to Cloud §12)."""

from typing import Final, TypeAlias

from stellwerk.app.ports import DeviceAnswer
from stellwerk.app.registry import Known
from stellwerk.app.status_table import reason_for_device_status
from stellwerk.core.errors import PeerError
from stellwerk.core.instant import Instant
from stellwerk.device.command import Step
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.operations import Observe, Operation, Read
from stellwerk.lwm2m.status import dotted, is_success

Judgement: TypeAlias = tuple[Step, str, str]
"""How a command ends: its last step, the key of the status table, and the detail for people."""

LOST: Final[Judgement] = (Step.TIMED_OUT, "timeout-binding", "the registration ended before the device answered")

_FAILURES: Final[dict[str, Judgement]] = {
    "timeout": (Step.TIMED_OUT, "timeout", "sent, no answer"),
    "reset": (Step.REFUSED, "device-bad-request", "the device reset the request"),
    "refused": (Step.REFUSED, "adapter-unavailable", "given up here"),
    "malformed": (Step.REFUSED, "adapter", "the device's answer broke the rules of CoAP"),
    "oversized": (Step.REFUSED, "adapter", "the device's answer is longer than this server takes"),
    "cancelled": LOST,
}


def judge(
    operation: Operation, to_attributes: bool, answer: DeviceAnswer, known: Known | None, at: Instant
) -> Judgement:
    """How a command with ``operation`` ends by ``answer``. ``to_attributes``: it answers the attributes of an Observe
    that was not sent yet. ``known``: whose the answer is, None where the registration has ended."""
    if answer.failure:
        step, reason, text = _FAILURES[answer.failure]
        return step, reason, f"{text}: {answer.detail}" if answer.detail else text
    if not is_success(answer.status):
        text = answer.payload[:200].decode("utf-8", "replace")
        asked = " to the attributes" if isinstance(operation, Observe) and to_attributes else ""
        detail = f"the device answered {dotted(answer.status)}{asked}{': ' + text if text else ''}"
        return Step.REFUSED, reason_for_device_status(answer.status), detail
    if isinstance(operation, Observe) and not answer.observing:
        text = "the device answered with the value alone; it does not observe this path"
        return Step.REFUSED, "observe-no-id", text
    if isinstance(operation, Read | Observe) and known is not None:
        content_format = None if answer.content_format < 0 else answer.content_format
        try:
            decode_content(
                content_format,
                answer.payload,
                operation.path,
                known.registration.types,
                now_s=at.wall_ms / 1000,
                root=known.registration.objects.root,
            )
        except PeerError as error:
            return Step.REFUSED, "adapter", f"the answer does not decode: {error}"
    return Step.SUCCEEDED, "ok", ""
