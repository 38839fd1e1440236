"""The vectors of TLS's presentation language (RFC 5246 §4.3): a length of fixed size, then as many bytes."""

from struct import unpack

from stellwerk.core.cursor import Cursor, Truncated
from stellwerk.core.errors import PeerError


class VectorError(PeerError):
    """A vector's length is none that it may have, or bytes follow where nothing may. ``rule`` names what is broken."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class Reader(Cursor):
    """A cursor over a structure of vectors. Raises `VectorError` and `core.cursor.Truncated`."""

    __slots__ = ()

    def vector(self, length_bytes: int, name: str, least: int = 0, most: int = 1 << 24) -> bytes:
        """The content of a vector whose length, ``length_bytes`` long, is ``least`` to ``most``."""
        start = self.offset + length_bytes
        if start > self.end:
            raise Truncated(self.offset, length_bytes, self.left)
        length = int.from_bytes(self.data[self.offset : start], "big")
        if not least <= length <= most:
            raise VectorError(f"{name} of {length} bytes")
        self.offset = start
        return self.take(length)

    def numbers(self, length_bytes: int, name: str, least: int = 1) -> tuple[int, ...]:
        """The content of a vector of two-byte numbers, ``least`` of them at least."""
        data = self.vector(length_bytes, name, 2 * least)
        if len(data) % 2:
            raise VectorError(f"{name} of {len(data)} bytes, which are not pairs")
        return unpack(f"!{len(data) // 2}H", data)

    def finish(self) -> None:
        """Nothing may follow."""
        if self.offset != self.end:
            raise VectorError(f"{self.end - self.offset} bytes too many")


def vector(length_bytes: int, content: bytes) -> bytes:
    """``content`` behind its length. Raises OverflowError if that does not fit."""
    return len(content).to_bytes(length_bytes, "big") + content


def numbers(length_bytes: int, values: tuple[int, ...]) -> bytes:
    """A vector of two-byte numbers."""
    return vector(length_bytes, b"".join(value.to_bytes(2, "big") for value in values))
