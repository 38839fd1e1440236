"""Messages on a stream: bytes to frames to `Message` and back (RFC 8323 §3.2, §3.3; contract §1.8).

A frame says its own length, so a stream may be cut anywhere. What a frame claims to hold is known before it is here,
so nothing is gathered that would be refused. There are no types and no message IDs: a request counts as `CON`, since it
is answered, everything else as `NON`, since nothing comes of it.
"""

from stellwerk.coap.message import CON, NON, BrokenOptions, Message, decode_section
from stellwerk.core.errors import PeerError


class FrameError(PeerError):
    """A stream does not hold a message. ``rule`` names the broken rule of RFC 8323."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class FrameTooLarge(FrameError):
    """A frame of ``size`` bytes begins, and at most ``limit`` were agreed on."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(f"a message of {size} bytes, of at most {limit}")


class FrameDecoder:
    """Cuts one stream into frames of at most ``limit`` bytes, however it arrives. After an error it is of no more
    use."""

    __slots__ = ("_at", "_data", "_limit")

    def __init__(self, limit: int) -> None:
        self._data: bytes | bytearray = b""
        self._at = 0
        self._limit = limit

    @property
    def held(self) -> int:
        """Bytes that no frame was made of yet."""
        return len(self._data) - self._at

    def append(self, data: bytes) -> None:
        """The stream goes on with ``data``."""
        if not self._data:
            self._data = data
        elif isinstance(self._data, bytearray):
            self._data += data
        else:
            self._data = bytearray(self._data)
            self._data += data

    def next(self) -> bytes | None:
        """The next whole frame, None when there is none yet. Raises `FrameError`."""
        data, at = self._data, self._at
        size = _frame_size(data, at)
        if size > self._limit:
            raise FrameTooLarge(size, self._limit)
        if not size or len(data) - at < size:
            if at:
                # Once per chunk, not per frame.
                self._data = data[at:]
                self._at = 0
            return None
        if not at and len(data) == size:
            self._data = b""
            return bytes(data)
        self._at = at + size
        return bytes(data[at : self._at])


def _frame_size(data: bytes | bytearray, at: int) -> int:
    """Bytes of the frame that begins at ``at``, 0 while that cannot be told. Raises `FrameError`."""
    left = len(data) - at
    if left < 1:
        return 0
    first = data[at]
    if first & 15 > 8:
        raise FrameError("a token longer than 8 bytes")
    length = first >> 4
    if length < 13:
        return 2 + (first & 15) + length
    extension = (1, 2, 4)[length - 13]
    if left < 1 + extension:
        return 0
    length = int.from_bytes(data[at + 1 : at + 1 + extension], "big") + (13, 269, 65_805)[length - 13]
    return 2 + extension + (first & 15) + length


def decode_frame(frame: bytes) -> Message:
    """The message in one whole frame. Raises `FrameError`."""
    first = frame[0]
    start = 1 if first < 0xD0 else (2, 3, 5)[(first >> 4) - 13]
    code = frame[start]
    token_end = start + 1 + (first & 15)
    kind = CON if 0 < code < 0x20 else NON
    if token_end == len(frame):
        return Message(kind, code, 0, frame[start + 1 :])
    try:
        options, payload = decode_section(frame, token_end, frame.find(255, token_end))
    except BrokenOptions as error:
        raise FrameError(str(error)) from None
    return Message(kind, code, 0, frame[start + 1 : token_end], options, payload)


def encode_frame(code: int, token: bytes, options: bytes, payload: bytes) -> bytes:
    """One frame, from options that are encoded already. Raises ValueError when the token is too long."""
    if len(token) > 8:
        raise ValueError(f"a token has at most 8 bytes, not {len(token)}")
    length = len(options) + (1 + len(payload) if payload else 0)
    if length < 13:
        head = bytes((length << 4 | len(token), code))
    elif length < 269:
        head = bytes((0xD0 | len(token), length - 13, code))
    elif length < 65_805:
        head = b"".join((bytes((0xE0 | len(token),)), (length - 269).to_bytes(2, "big"), bytes((code,))))
    else:
        head = b"".join((bytes((0xF0 | len(token),)), (length - 65_805).to_bytes(4, "big"), bytes((code,))))
    if payload:
        return b"".join((head, token, options, b"\xff", payload))
    return head + token + options
