"""What a device's answer to an operation means, or its silence (contract Device to Cloud §12; D-1, OB-1)."""

from typing import Final, TypeAlias

from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.app.registry import Known
from stellwerk.app.status_table import reason_for_device_status
from stellwerk.core.errors import PeerError
from stellwerk.core.instant import Instant
from stellwerk.device.command import Step
from stellwerk.lwm2m.answers import decode_answer
from stellwerk.lwm2m.link_format import decode_links
from stellwerk.lwm2m.operations import AnyObserve, AnyRead, Discover, Operation
from stellwerk.lwm2m.status import dotted, is_success

Judgement: TypeAlias = tuple[Step, str, str]
"""How a command ends: its last step, the key of the status table, and the detail for people, empty after a success."""

LOST: Final[Judgement] = (Step.TIMED_OUT, "timeout-binding", "the registration ended before the device answered")

_FAILURES: Final[dict[str, Judgement]] = {
    "timeout": (Step.TIMED_OUT, "timeout", "sent, no answer"),
    "reset": (Step.REFUSED, "device-bad-request", "the device reset the request"),
    "refused": (Step.REFUSED, "adapter-unavailable", "given up here"),
    "malformed": (Step.REFUSED, "adapter", "the device's answer broke the rules of CoAP"),
    "oversized": (Step.REFUSED, "adapter", "the device's answer is longer than this server takes"),
    "lost": (Step.TIMED_OUT, "timeout-binding", "sent, and the connection ended before the device answered"),
    "unconnected": (Step.TIMED_OUT, "timeout-binding", "the device has no connection"),
    "unprotected": (Step.REFUSED, "adapter", "the device, or somebody else, answered without OSCORE"),
    "undecodable": (Step.REFUSED, "adapter", "the answer does not decode"),
    "unsupported": (Step.REFUSED, "not-acceptable", ""),
    "cancelled": LOST,
}


def judge(operation: Operation, answer: DeviceAnswer, known: Known | None, at: Instant) -> Judgement:
    """How a command with ``operation`` ends by ``answer``. One that does not decode, or speaks of what was not asked,
    is a refusal that says where and why: nothing of it counts. ``known``: whose the answer is, None where the
    registration has ended; then nobody knows the types, and it is taken as it is."""
    if answer.failure:
        step, reason, text = _FAILURES[answer.failure]
        return step, reason, ": ".join(each for each in (text, answer.detail) if each)
    if not is_success(answer.status):
        text = answer.payload[:200].decode("utf-8", "replace")
        asked = " to the attributes" if answer.to_attributes else ""
        detail = f"the device answered {dotted(answer.status)}{asked}{': ' + text if text else ''}"
        return Step.REFUSED, reason_for_device_status(answer.status), detail
    if isinstance(operation, AnyObserve) and not answer.observing:
        text = "the device answered with the value alone; it does not observe this path"
        return Step.REFUSED, "observe-no-id", text
    try:
        if isinstance(operation, AnyRead) and known is not None:
            decode_answer(
                None if answer.content_format < 0 else answer.content_format,
                answer.payload,
                operation.path,
                known.registration.types,
                now_s=at.wall_ms / 1000,
                root=known.registration.objects.root,
            )
        elif isinstance(operation, Discover):
            decode_links(answer.payload)
    except PeerError as error:
        return Step.REFUSED, "adapter", f"the answer does not decode: {error}"
    return Step.SUCCEEDED, "ok", ""
