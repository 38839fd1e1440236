"""A reading position in a byte string that can never run past its end."""

from stellwerk.core.errors import PeerError


class Truncated(PeerError):
    """A decoder wanted ``wanted`` bytes at ``offset`` but only ``left`` remain."""

    def __init__(self, offset: int, wanted: int, left: int) -> None:
        self.offset, self.wanted, self.left = offset, wanted, left
        super().__init__(f"wanted {wanted} bytes at offset {offset}, only {left} left")


class Cursor:
    """Reads big-endian fields off ``data``; every read raises `Truncated` instead of returning less."""

    __slots__ = ("data", "end", "offset")

    def __init__(self, data: bytes, offset: int = 0, end: int | None = None) -> None:
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self.end - self.offset

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        start = self.offset
        if count > self.end - start:
            raise Truncated(start, count, self.end - start)
        self.offset = start + count
        return self.data[start : self.offset]

    def uint(self, count: int) -> int:
        """The next ``count`` bytes as an unsigned big-endian number."""
        return int.from_bytes(self.take(count), "big")
