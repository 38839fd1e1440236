"""The one error shape of routes outside the oneM2M tree: ``{"status", "message", "errorCode", "timestamp"}``
(contract device-platform)."""

from typing import Any, Final

_ERROR_CODES: Final = {400: 31, 401: 10, 403: 20, 404: 32, 405: 31, 422: 30, 429: 33}
_GENERAL: Final = 2


def error_body(status: int, message: str, now_ms: int) -> dict[str, Any]:
    """``timestamp`` is UTC milliseconds since 1970, ``errorCode`` the platform's own number for the kind of error."""
    return {
        "status": status,
        "message": message,
        "errorCode": _ERROR_CODES.get(status, _GENERAL),
        "timestamp": now_ms,
    }
