"""Method and response codes (RFC 7252 §12.1, RFC 8132, contract §1.1). A code is ``class << 5 | detail``."""

from typing import Final

EMPTY: Final = 0x00

GET: Final = 0x01
POST: Final = 0x02
PUT: Final = 0x03
DELETE: Final = 0x04
FETCH: Final = 0x05
PATCH: Final = 0x06
IPATCH: Final = 0x07

CREATED: Final = 0x41
DELETED: Final = 0x42
VALID: Final = 0x43
CHANGED: Final = 0x44
CONTENT: Final = 0x45
CONTINUE: Final = 0x5F

BAD_REQUEST: Final = 0x80
UNAUTHORIZED: Final = 0x81
BAD_OPTION: Final = 0x82
FORBIDDEN: Final = 0x83
NOT_FOUND: Final = 0x84
METHOD_NOT_ALLOWED: Final = 0x85
NOT_ACCEPTABLE: Final = 0x86
REQUEST_ENTITY_INCOMPLETE: Final = 0x88
CONFLICT: Final = 0x89
PRECONDITION_FAILED: Final = 0x8C
REQUEST_ENTITY_TOO_LARGE: Final = 0x8D
UNSUPPORTED_CONTENT_FORMAT: Final = 0x8F
UNPROCESSABLE_ENTITY: Final = 0x96
TOO_MANY_REQUESTS: Final = 0x9D

INTERNAL_SERVER_ERROR: Final = 0xA0
NOT_IMPLEMENTED: Final = 0xA1
BAD_GATEWAY: Final = 0xA2
SERVICE_UNAVAILABLE: Final = 0xA3
GATEWAY_TIMEOUT: Final = 0xA4
PROXYING_NOT_SUPPORTED: Final = 0xA5


def dotted(code: int) -> str:
    """The printed form: ``0x45`` is ``2.05``."""
    return f"{code >> 5}.{code & 31:02d}"


def is_request(code: int) -> bool:
    """Class 0 without the empty message."""
    return 0 < code < 0x20


def is_response(code: int) -> bool:
    """Classes 2, 4 and 5."""
    return code >> 5 in (2, 4, 5)


def is_success(code: int) -> bool:
    """Class 2."""
    return code >> 5 == 2
