"""The CoAP message over UDP: bytes to `Message` and back (RFC 7252 §3).

Options stay raw here, as (number, value) pairs in wire order; `options` says what they mean. Decoding is the hot path:
one call, one loop, and the option section of short messages, which repeats from message to message, is remembered.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from stellwerk.core.errors import PeerError

Options = tuple[tuple[int, bytes], ...]
"""Options as (number, value), sorted by number; the order of equal numbers is their order on the wire."""

CON: Final = 0
NON: Final = 1
ACK: Final = 2
RST: Final = 3

# Longer option sections are block-wise uploads and registrations, which do not repeat; remembering them only evicts.
_REMEMBERED_BYTES: Final = 36
# The high half of the first byte where OSCORE is the first option: each has a number of its own and comes once.
_OSCORE_FIRST: Final = 9


class MessageFormatError(PeerError):
    """A datagram is no CoAP message. ``rule`` names the broken rule of RFC 7252 §3.

    ``type`` and ``mid`` are the header's when it could be read, else None: a CON is answered with RST (§4.2),
    everything else is dropped silently.
    """

    def __init__(self, rule: str, type: int | None = None, mid: int | None = None) -> None:
        self.rule, self.type, self.mid = rule, type, mid
        super().__init__(rule)


class BrokenOptions(Exception):
    """What the decoders of messages tell each other: which rule the options or the payload broke."""


@dataclass(slots=True)
class Message:
    """One CoAP message. ``type`` is one of `CON`, `NON`, `ACK`, `RST`; ``payload`` is empty for none."""

    type: int
    code: int
    mid: int
    token: bytes = b""
    options: Options = ()
    payload: bytes = b""


def decode_message(data: bytes) -> Message:
    """The message in one datagram. Raises `MessageFormatError`, and nothing else, for any other bytes."""
    if len(data) < 4:
        raise MessageFormatError("shorter than the header")
    first = data[0]
    if first >> 6 != 1:
        raise MessageFormatError("unknown version")
    kind = first >> 4 & 3
    token_length = first & 15
    code = data[1]
    mid = data[2] << 8 | data[3]
    if code == 0:
        # RFC 7252 4.1: an empty message has neither token nor anything after the message ID.
        if len(data) != 4 or token_length:
            raise MessageFormatError("an empty message with content", kind, mid)
        return Message(kind, 0, mid)
    start = 4 + token_length
    if token_length > 8:
        raise MessageFormatError("a token longer than 8 bytes", kind, mid)
    if len(data) < start:
        raise MessageFormatError("a token beyond the end", kind, mid)
    if len(data) == start:
        return Message(kind, code, mid, data[4:start])
    marker = data.find(255, start)
    try:
        # What a registered device says most is done here; the rest goes one step further.
        if marker < 0 and len(data) - start <= _REMEMBERED_BYTES:
            return Message(kind, code, mid, data[4:start], _remember_options(data[start:]))
        if 0 < marker - start <= _REMEMBERED_BYTES and marker < len(data) - 1 and data[start] >> 4 != _OSCORE_FIRST:
            try:
                return Message(
                    kind, code, mid, data[4:start], _remember_options(data[start:marker]), data[marker + 1 :]
                )
            except BrokenOptions:
                # The 0xFF is part of an option; the long way finds the marker.
                pass
        options, payload = decode_section(data, start, marker)
    except BrokenOptions as error:
        raise MessageFormatError(str(error), kind, mid) from None
    return Message(kind, code, mid, data[4:start], options, payload)


def decode_section(data: bytes, start: int, marker: int) -> tuple[Options, bytes]:
    """Options and payload, which are the rest of ``data`` from ``start`` on; ``marker`` is where the first 0xFF is, -1
    for nowhere. Raises `BrokenOptions`."""
    if marker < 0:
        return _remember_options(data[start:]) if len(data) - start <= _REMEMBERED_BYTES else _split(data[start:]), b""
    # The first 0xFF is the payload marker exactly if the bytes before it are whole options. If they are not, it
    # is part of an option, and only the long way finds the marker.
    if marker - start <= _REMEMBERED_BYTES and data[start] >> 4 != _OSCORE_FIRST:
        try:
            options = _remember_options(data[start:marker])
        except BrokenOptions:
            options, marker = _walk(data, start)
    else:
        options, marker = _walk(data, start)
    payload = data[marker + 1 :]
    if not payload and marker < len(data):
        raise BrokenOptions("a payload marker without payload")
    return options, payload


def _walk(data: bytes, at: int) -> tuple[Options, int]:
    """The options from ``at`` on, and where they end: at the payload marker or the end of ``data``."""
    options: list[tuple[int, bytes]] = []
    number = 0
    end = len(data)
    while at < end:
        head = data[at]
        if head == 255:
            break
        at += 1
        delta = head >> 4
        length = head & 15
        if delta > 12:
            if delta == 13 and at < end:
                delta = data[at] + 13
                at += 1
            elif delta == 14 and at + 1 < end:
                delta = (data[at] << 8 | data[at + 1]) + 269
                at += 2
            else:
                raise BrokenOptions("an option delta of 15" if delta == 15 else "an option header beyond the end")
        if length > 12:
            if length == 13 and at < end:
                length = data[at] + 13
                at += 1
            elif length == 14 and at + 1 < end:
                length = (data[at] << 8 | data[at + 1]) + 269
                at += 2
            else:
                raise BrokenOptions("an option length of 15" if length == 15 else "an option header beyond the end")
        number += delta
        stop = at + length
        if stop > end:
            raise BrokenOptions("an option value beyond the end")
        if number > 65_535:
            raise BrokenOptions("an option number above 65535")
        options.append((number, data[at:stop]))
        at = stop
    return tuple(options), at


def _split(section: bytes) -> Options:
    return _walk(section, 0)[0]


_remember_options = lru_cache(maxsize=4096)(_split)


def encode_message(message: Message) -> bytes:
    """The datagram of one message. Raises ValueError when ``message`` could not be said in CoAP."""
    return encode_parts(
        message.type, message.code, message.mid, message.token, encode_options(message.options), message.payload
    )


def encode_parts(type: int, code: int, mid: int, token: bytes, options: bytes, payload: bytes) -> bytes:
    """A datagram from options that are encoded already."""
    token_length = len(token)
    if token_length > 8:
        raise ValueError(f"a token has at most 8 bytes, not {token_length}")
    head = ((4 | type) << 28 | token_length << 24 | code << 16 | mid).to_bytes(4, "big")
    if payload:
        return b"".join((head, token, options, b"\xff", payload))
    return head + token + options


def encode_empty(type: int, mid: int) -> bytes:
    """An empty message: an acknowledgement, a reset or, as CON, a ping."""
    return ((4 | type) << 28 | mid).to_bytes(4, "big")


@lru_cache(maxsize=1024)
def encode_options(options: Options) -> bytes:
    """The option section. Raises ValueError when the numbers are not ascending."""
    parts = bytearray()
    before = 0
    for number, value in options:
        delta = number - before
        length = len(value)
        if delta < 0 or number > 65_535 or length > 65_804:
            raise ValueError(f"option {number} is out of order or out of range")
        before = number
        delta_nibble = delta if delta < 13 else 13 if delta < 269 else 14
        length_nibble = length if length < 13 else 13 if length < 269 else 14
        parts.append(delta_nibble << 4 | length_nibble)
        if delta_nibble == 13:
            parts.append(delta - 13)
        elif delta_nibble == 14:
            parts += (delta - 269).to_bytes(2, "big")
        if length_nibble == 13:
            parts.append(length - 13)
        elif length_nibble == 14:
            parts += (length - 269).to_bytes(2, "big")
        parts += value
    return bytes(parts)
