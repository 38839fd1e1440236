"""The value of the OSCORE option: bytes to `OscoreOption` and back (RFC 8613 §6.1).

One byte of flags, then Partial IV, the length and bytes of the kid context, and the kid, each where its flag says so.
"""

from typing import Final, NamedTuple

from stellwerk.core.errors import PeerError

_PIV_LENGTH: Final = 0x07
_KID: Final = 0x08
_KID_CONTEXT: Final = 0x10
_RESERVED: Final = 0xE0
MOST_PIV_BYTES: Final = 5


class BrokenOption(PeerError):
    """The value of an OSCORE option breaks ``rule`` of RFC 8613 §6.1."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class OscoreOption(NamedTuple):
    """What is said in clear of a protected message; None for what is not said."""

    piv: bytes | None = None
    """The Partial IV: the sender's number in 1 to 5 bytes."""
    kid: bytes | None = None
    """What the sender of a request sends as; may be empty."""
    kid_context: bytes | None = None


def encode_option(option: OscoreOption) -> bytes:
    """The shortest value. Raises ValueError for a Partial IV or a kid context that is too long."""
    piv, kid, context = option
    length = len(piv) if piv is not None else 0
    if length > MOST_PIV_BYTES or (context is not None and len(context) > 255):
        raise ValueError("a Partial IV has at most 5 bytes, a kid context at most 255")
    flags = length | (_KID if kid is not None else 0) | (_KID_CONTEXT if context is not None else 0)
    if not flags:
        return b""
    value = bytes((flags,)) + (piv or b"")
    if context is not None:
        value += bytes((len(context),)) + context
    return value + (kid or b"")


def decode_option(value: bytes) -> OscoreOption:
    """The inverse of `encode_option`. Raises `BrokenOption`, and nothing else, for any other bytes."""
    if not value:
        return OscoreOption()
    flags = value[0]
    if not flags:
        raise BrokenOption("a value without any flag has to be empty")
    if flags & _RESERVED:
        raise BrokenOption("reserved flags")
    length = flags & _PIV_LENGTH
    if length > MOST_PIV_BYTES:
        raise BrokenOption("a reserved length of the Partial IV")
    at = 1 + length
    piv = value[1:at] if length else None
    context = None
    if flags & _KID_CONTEXT:
        if len(value) <= at:
            raise BrokenOption("the kid context is beyond the end")
        end = at + 1 + value[at]
        context = value[at + 1 : end]
        at = end
    if len(value) < at:
        raise BrokenOption("it says more than it holds")
    if flags & _KID:
        return OscoreOption(piv, value[at:], context)
    if len(value) > at:
        raise BrokenOption("bytes behind the end")
    return OscoreOption(piv, None, context)


def encode_number(number: int) -> bytes:
    """A sender's number as Partial IV: big-endian, without leading zeros; zero is one byte (RFC 8613 §5)."""
    return number.to_bytes(max(1, (number.bit_length() + 7) >> 3), "big")
