"""Response status codes of oneM2M, the HTTP status each one travels with, and the one error shape (contract §4.5)."""

from enum import IntEnum
from typing import Final

from stellwerk.core.errors import UserError


class Rsc(IntEnum):
    """TS-0004 6.6.3."""

    OK = 2000
    CREATED = 2001
    DELETED = 2002
    UPDATED = 2004
    BAD_REQUEST = 4000
    RELEASE_VERSION_NOT_SUPPORTED = 4001
    NOT_FOUND = 4004
    OPERATION_NOT_ALLOWED = 4005
    REQUEST_TIMEOUT = 4008
    UNSUPPORTED_MEDIA_TYPE = 4015
    CONTENTS_UNACCEPTABLE = 4102
    ORIGINATOR_HAS_NO_PRIVILEGE = 4103
    CONFLICT = 4105
    INVALID_CHILD_RESOURCE_TYPE = 4108
    ORIGINATOR_HAS_ALREADY_REGISTERED = 4117
    INTERNAL_SERVER_ERROR = 5000
    NOT_IMPLEMENTED = 5001
    NOT_ACCEPTABLE = 5207


HTTP_STATUS: Final[dict[Rsc, int]] = {
    Rsc.OK: 200,
    Rsc.CREATED: 201,
    Rsc.DELETED: 200,
    Rsc.UPDATED: 200,
    Rsc.BAD_REQUEST: 400,
    Rsc.RELEASE_VERSION_NOT_SUPPORTED: 501,
    Rsc.NOT_FOUND: 404,
    Rsc.OPERATION_NOT_ALLOWED: 405,
    Rsc.REQUEST_TIMEOUT: 504,
    Rsc.UNSUPPORTED_MEDIA_TYPE: 415,
    Rsc.CONTENTS_UNACCEPTABLE: 400,
    Rsc.ORIGINATOR_HAS_NO_PRIVILEGE: 403,
    Rsc.CONFLICT: 409,
    Rsc.INVALID_CHILD_RESOURCE_TYPE: 403,
    Rsc.ORIGINATOR_HAS_ALREADY_REGISTERED: 403,
    Rsc.INTERNAL_SERVER_ERROR: 500,
    Rsc.NOT_IMPLEMENTED: 501,
    Rsc.NOT_ACCEPTABLE: 406,
}
"""TS-0009 table 6.3.2-1."""


class Refusal(UserError):
    """A request that gets ``rsc`` and ``{"m2m:dbg": text}``; ``text`` says what was wrong and what would be right.
    ``allow``: the methods that would have been possible, for OPERATION_NOT_ALLOWED."""

    def __init__(self, rsc: Rsc, text: str, allow: tuple[str, ...] = ()) -> None:
        self.rsc, self.text, self.allow = rsc, text, allow
        super().__init__(text)


def error_body(text: str) -> dict[str, str]:
    """The body of every answer that is no success (TS-0004: debug information)."""
    return {"m2m:dbg": text}
