"""What can be wrong with a payload, in either direction."""

from stellwerk.core.errors import PeerError, UserError
from stellwerk.lwm2m.path import Path, shown


class DecodeError(PeerError):
    """A payload is not what its Content-Format promises. Root of the errors below; decoders raise nothing else."""


class UnsupportedFormat(DecodeError):
    """No codec exists for Content-Format number ``content_format``."""

    def __init__(self, content_format: int) -> None:
        self.content_format = content_format
        super().__init__(f"Content-Format {content_format} is not supported")


class Malformed(DecodeError):
    """The bytes break the grammar of ``format_name``; ``offset`` is where, None where the parser cannot say."""

    def __init__(self, format_name: str, reason: str, offset: int | None = None) -> None:
        self.format_name, self.reason, self.offset = format_name, reason, offset
        where = "" if offset is None else f" at offset {offset}"
        super().__init__(f"malformed {format_name}{where}: {reason}")


class BadName(DecodeError):
    """``name`` is not the path of a resource or resource instance; ``reason`` says why."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{shown(name)} does not name a resource: {reason}")


class OutsideBase(DecodeError):
    """The payload speaks of ``path``, which is not in the subtree ``base`` that it answers for."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path, self.base = path, base
        super().__init__(f"{path} is outside of {base}")


class WrongType(DecodeError):
    """``path`` has a value that cannot be of its type: ``expected`` one thing, ``found`` another."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        super().__init__(f"{path} wants {expected}, the payload has {found}")


class Repeated(DecodeError):
    """``path`` occurs twice with the same time (contract §8.4, §16.9)."""

    def __init__(self, path: Path, time_s: float | None) -> None:
        self.path, self.time_s = path, time_s
        when = "" if time_s is None else f" at time {time_s}"
        super().__init__(f"{path} occurs twice{when}")


class LimitExceeded(DecodeError):
    """The payload holds more ``what`` than the ``limit`` that bounds our memory."""

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit = what, limit
        super().__init__(f"more than {limit} {what}")


class EncodeError(UserError):
    """``content_format`` cannot carry the value at ``path``, or the content as a whole (``path`` None)."""

    def __init__(self, content_format: int, path: Path | None, reason: str) -> None:
        self.content_format, self.path, self.reason = content_format, path, reason
        at = "" if path is None else f" of {path}"
        super().__init__(f"Content-Format {content_format} cannot carry the content{at}: {reason}")
