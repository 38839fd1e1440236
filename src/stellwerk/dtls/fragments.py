"""Handshake messages out of fragments, in any order, and in the order of their numbers (RFC 6347 §4.2.2, 4.2.3)."""

from typing import Final

from stellwerk.core.errors import PeerError
from stellwerk.dtls.messages import Fragment

_AHEAD: Final = 16
"""Messages beyond the next one that are kept; the longest flight has five."""
_RANGES: Final = 32
"""Separate pieces of one message."""


class FragmentError(PeerError):
    """A fragment contradicts those before it, or is beyond a bound. ``rule`` says which."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class _Partial:
    """A message of which some bytes are here."""

    __slots__ = ("data", "ranges", "type")

    def __init__(self, type: int, length: int) -> None:
        self.type = type
        self.data = bytearray(length)
        self.ranges: list[tuple[int, int]] = []
        """What is here: begin and end, sorted, apart from each other."""

    def add(self, begin: int, data: bytes) -> None:
        end = begin + len(data)
        # Bytes that are here already stay: a later fragment cannot change what an earlier one said.
        free = begin
        for known_begin, known_end in self.ranges:
            if known_begin > free:
                self._copy(begin, data, free, min(end, known_begin))
            free = max(free, known_end)
        self._copy(begin, data, free, end)
        merged: list[tuple[int, int]] = []
        for known in sorted([*self.ranges, (begin, end)]):
            if merged and known[0] <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], known[1]))
            else:
                merged.append(known)
        self.ranges = merged

    def _copy(self, begin: int, data: bytes, start: int, stop: int) -> None:
        if start < stop:
            self.data[start:stop] = data[start - begin : stop - begin]

    def is_whole(self) -> bool:
        return self.ranges == [(0, len(self.data))]


class Reassembly:
    """The messages of one peer in one handshake. ``next``: the number of the message that is to come; ``limit``: bytes
    of one message at most, and half the bytes of all that are unfinished."""

    __slots__ = ("_bytes", "_limit", "_partial", "_whole", "next")

    def __init__(self, next: int, limit: int) -> None:
        self.next = next
        self._limit = limit
        self._bytes = 0
        self._partial: dict[int, _Partial] = {}
        self._whole: dict[int, tuple[int, bytes]] = {}

    def add(self, fragment: Fragment) -> None:
        """Take a fragment. One of a message that was taken already is ignored. Raises `FragmentError`."""
        number = fragment.message_seq
        if number < self.next or number in self._whole:
            return
        if number >= self.next + _AHEAD:
            raise FragmentError("a message too far ahead")
        if fragment.length > self._limit:
            raise FragmentError(f"a message of {fragment.length} bytes; {self._limit} are taken")
        if len(fragment.data) == fragment.length:
            # The usual case: the message is in one fragment.
            self._forget(number)
            self._charge(fragment.length)
            self._whole[number] = (fragment.type, fragment.data)
            return
        partial = self._partial.get(number)
        if partial is None:
            self._charge(fragment.length)
            partial = self._partial[number] = _Partial(fragment.type, fragment.length)
        elif (partial.type, len(partial.data)) != (fragment.type, fragment.length):
            raise FragmentError("fragments of one message differ in its type or length")
        if len(partial.ranges) >= _RANGES:
            raise FragmentError("a message in too many pieces")
        partial.add(fragment.offset, fragment.data)
        if partial.is_whole():
            del self._partial[number]
            self._whole[number] = (partial.type, bytes(partial.data))

    def take(self) -> tuple[int, int, bytes] | None:
        """Type, number and body of the next message, once it is whole."""
        found = self._whole.pop(self.next, None)
        if found is None:
            return None
        number = self.next
        self.next = number + 1
        self._bytes -= len(found[1])
        return found[0], number, found[1]

    def _charge(self, length: int) -> None:
        if self._bytes + length > 2 * self._limit:
            raise FragmentError("too many bytes of unfinished messages")
        self._bytes += length

    def _forget(self, number: int) -> None:
        partial = self._partial.pop(number, None)
        if partial is not None:
            self._bytes -= len(partial.data)
