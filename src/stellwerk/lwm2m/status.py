"""Response codes of LwM2M operations, as the standard prints them (Transport 1.2.2 §6.4; contract §4-§6)."""

from enum import IntEnum


class Status(IntEnum):
    """``2.04`` is ``204``. Codes a device invents stay plain ints; only ours are named."""

    CREATED = 201
    DELETED = 202
    CHANGED = 204
    CONTENT = 205
    BAD_REQUEST = 400
    UNAUTHORIZED = 401
    BAD_OPTION = 402
    FORBIDDEN = 403
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405
    NOT_ACCEPTABLE = 406
    REQUEST_ENTITY_INCOMPLETE = 408
    CONFLICT = 409
    PRECONDITION_FAILED = 412
    REQUEST_ENTITY_TOO_LARGE = 413
    UNSUPPORTED_CONTENT_FORMAT = 415
    TOO_MANY_REQUESTS = 429
    INTERNAL_SERVER_ERROR = 500
    NOT_IMPLEMENTED = 501
    SERVICE_UNAVAILABLE = 503


def dotted(status: int) -> str:
    """The printed form: ``204`` is ``2.04``."""
    return f"{status // 100}.{status % 100:02d}"


def is_success(status: int) -> bool:
    """Class 2."""
    return 200 <= status < 300
