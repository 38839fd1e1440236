"""What became of an operation: the device's answer, judged (contract Device to Cloud §12; D-1, OB-1)."""

from dataclasses import dataclass
from typing import Final

from stellwerk.app.ports import DeviceAnswer
from stellwerk.app.status_table import reason_for_device_status
from stellwerk.core.errors import PeerError
from stellwerk.core.instant import Instant
from stellwerk.device.command import Step
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.answers import decode_answer
from stellwerk.lwm2m.link_format import decode_links
from stellwerk.lwm2m.operations import AnyObserve, AnyRead, Discover, Operation
from stellwerk.lwm2m.status import dotted, is_success

_FAILURES: Final = {
    "timeout": (Step.TIMED_OUT, "timeout", "sent, no answer"),
    "reset": (Step.REFUSED, "device-bad-request", "the device reset the request"),
    "refused": (Step.REFUSED, "adapter-unavailable", "given up here"),
    "malformed": (Step.REFUSED, "adapter", "the device's answer broke the rules of CoAP"),
    "oversized": (Step.REFUSED, "adapter", "the device's answer is longer than this server takes"),
    "cancelled": (Step.TIMED_OUT, "timeout-binding", "the registration ended before the device answered"),
    "undecodable": (Step.REFUSED, "adapter", "the answer does not decode"),
    "unsupported": (Step.REFUSED, "not-acceptable", "the device cannot do this"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason``: a key of the status table; ``detail``: for people, empty after a success."""

    step: Step
    reason: str
    detail: str = ""


def judge_failure(answer: DeviceAnswer) -> Verdict:
    """An operation that ended without an answer: ``answer.failure`` says how."""
    step, reason, text = _FAILURES[answer.failure]
    return Verdict(step, reason, f"{text}: {answer.detail}" if answer.detail else text)


def judge_answer(operation: Operation, answer: DeviceAnswer, registration: Registration | None, at: Instant) -> Verdict:
    """What the device's answer means. One that does not decode, or speaks of what was not asked, is a refusal that says
    where and why: nothing of it counts. Without a registration nobody knows the types, and it is taken as it is."""
    if not is_success(answer.status):
        reason = reason_for_device_status(answer.status)
        text = answer.payload[:200].decode("utf-8", "replace")
        asked = " to the attributes" if answer.to_attributes else ""
        return Verdict(
            Step.REFUSED, reason, f"the device answered {dotted(answer.status)}{asked}{': ' + text if text else ''}"
        )
    if isinstance(operation, AnyObserve) and not answer.observing:
        text = "the device answered with the value alone; it does not observe this path"
        return Verdict(Step.REFUSED, "observe-no-id", text)
    try:
        if isinstance(operation, AnyRead) and registration is not None:
            decode_answer(
                None if answer.content_format < 0 else answer.content_format,
                answer.payload,
                operation.path,
                registration.types,
                now_s=at.wall_ms / 1000,
                root=registration.objects.root,
            )
        elif isinstance(operation, Discover):
            decode_links(answer.payload)
    except PeerError as error:
        return Verdict(Step.REFUSED, "adapter", f"the answer does not decode: {error}")
    return Verdict(Step.SUCCEEDED, "ok")
