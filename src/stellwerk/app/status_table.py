"""How a command ended, as received-msg says it (contract Device to Cloud §12)."""

from typing import Final

STATUS: Final[dict[str, tuple[int, str]]] = {
    "ok": (200, "success"),
    "device-bad-request": (400, "bad request"),
    "adapter-bad-request": (400, "bad request"),
    "license": (400, "bad request"),
    "value-missing": (400, "bad request"),
    "adapter-unauthorized": (401, "unauthorized"),
    "device-unauthorized": (401, "unauthorized"),
    "device-forbidden": (403, "forbidden"),
    "path-invalid": (404, "not found"),
    "no-observation": (404, "not found"),
    "device-not-found": (404, "not found"),
    "device-method": (405, "method not allowed"),
    "method-unknown": (405, "method not allowed"),
    "device-not-acceptable": (406, "not acceptable"),
    "not-acceptable": (406, "not acceptable"),
    "timeout-binding": (408, "request timeout"),
    "timeout": (408, "request timeout"),
    "outcome-unknown": (408, "request timeout"),
    "cancelled": (408, "request timeout"),
    "conflict": (409, "request conflict"),
    "superseded": (409, "request conflict"),
    "device-format": (415, "unsupported media type"),
    "format": (415, "unsupported media type"),
    "observe-no-id": (500, "internal server error"),
    "observe-store": (500, "internal server error"),
    "unobserve-delete": (500, "internal server error"),
    "device-data": (500, "internal server error"),
    "tenant-data": (500, "internal server error"),
    "adapter": (500, "internal server error"),
    "adapter-unavailable": (503, "service unavailable"),
}
"""Key (``status.reason`` in a message) to the code and message that clients match on. Messages are lower case, as the
samples print them; the keys are stored in the journal and never renamed. ``outcome-unknown``, ``cancelled``
and ``superseded`` are ours."""

_BY_DEVICE_STATUS: Final[dict[int, str]] = {
    400: "device-bad-request",
    401: "device-unauthorized",
    403: "device-forbidden",
    404: "device-not-found",
    405: "device-method",
    406: "device-not-acceptable",
    415: "device-format",
}


def reason_for_device_status(status: int) -> str:
    """The key for what a device answered, ``404`` for 4.04: class 2 is ``ok``, class 5 ``adapter``, and codes the table
    does not list (4.02, 4.08, 4.12, 4.13 ...) are ``device-bad-request``; their code belongs in the detail (§12)."""
    if 200 <= status < 300:
        return "ok"
    if 500 <= status < 600:
        return "adapter"
    return _BY_DEVICE_STATUS.get(status, "device-bad-request")
