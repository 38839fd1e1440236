"""The fragments that carry handshake messages: bytes to values and back, and messages out of fragments that come in any
order, in the order of their numbers (RFC 6347 §4.2.2, 4.2.3)."""

from struct import Struct
from typing import Final, NamedTuple

from stellwerk.core.errors import PeerError
from stellwerk.dtls.messages import HandshakeFormatError

HEADER_BYTES: Final = 12

_MAX_FRAGMENTS: Final = 32
"""In one record."""
_HEADER: Final = Struct("!IHHI")
"""Type and length, sequence number, offset without its last byte, that byte and the length of the fragment."""
_AHEAD: Final = 16
"""Messages beyond the next one that are kept; the longest flight has five."""
_PIECES: Final = 32
"""Of one message, with gaps in between."""


class Fragment(NamedTuple):
    """A piece of a handshake message: ``data`` stands at ``offset`` of a body of ``length`` bytes."""

    type: int
    length: int
    message_seq: int
    offset: int
    data: bytes


def decode_fragments(plaintext: bytes) -> list[Fragment]:
    """The fragments in one handshake record, 1 to 32. Raises `HandshakeFormatError`, also for a fragment that does not
    lie in its message (RFC 6347 §4.2.3)."""
    fragments: list[Fragment] = []
    at, end = 0, len(plaintext)
    while True:
        start = at + HEADER_BYTES
        if start > end:
            raise HandshakeFormatError("handshake fragment", "a header beyond the end")
        first, message_seq, high, low = _HEADER.unpack_from(plaintext, at)
        length = first & 0xFF_FFFF
        offset = high << 8 | low >> 24
        size = low & 0xFF_FFFF
        at = start + size
        if at > end:
            raise HandshakeFormatError("handshake fragment", "a fragment beyond the end")
        if offset + size > length:
            raise HandshakeFormatError("handshake fragment", "a fragment beyond its message")
        if not size and length:
            raise HandshakeFormatError("handshake fragment", "a fragment of nothing")
        fragments.append(Fragment(first >> 24, length, message_seq, offset, plaintext[start:at]))
        if at == end:
            return fragments
        if len(fragments) == _MAX_FRAGMENTS:
            raise HandshakeFormatError("handshake fragment", f"more than {_MAX_FRAGMENTS} in one record")


def encode_fragment(fragment: Fragment) -> bytes:
    """Header and data."""
    kind, length, message_seq, offset, data = fragment
    return _HEADER.pack(kind << 24 | length, message_seq, offset >> 8, (offset & 0xFF) << 24 | len(data)) + data


def transcript_form(type: int, message_seq: int, body: bytes) -> bytes:
    """The message as hashes of the handshake take it: as if sent in one fragment (RFC 6347 §4.2.6)."""
    length = len(body)
    return _HEADER.pack(type << 24 | length, message_seq, 0, length) + body


class FragmentError(PeerError):
    """A fragment contradicts those before it, or is beyond a bound. ``rule`` says which."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class _Partial:
    """A message of which some bytes are here. It takes as much memory as came, whatever length it claims."""

    __slots__ = ("length", "pieces", "type")

    def __init__(self, type: int, length: int) -> None:
        self.type = type
        self.length = length
        self.pieces: list[tuple[int, bytes]] = []
        """Where each begins and its bytes: sorted, apart from each other."""

    def add(self, begin: int, data: bytes) -> None:
        # Bytes that are here already stay: a later fragment cannot change what an earlier one said.
        end = begin + len(data)
        fresh: list[tuple[int, bytes]] = []
        at = begin
        for known, content in self.pieces:
            if at < min(end, known):
                fresh.append((at, data[at - begin : min(end, known) - begin]))
            at = max(at, known + len(content))
        if at < end:
            fresh.append((at, data[at - begin :]))
        pieces: list[tuple[int, bytes]] = []
        for place, content in sorted(self.pieces + fresh):
            if pieces and pieces[-1][0] + len(pieces[-1][1]) == place:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + content)
            else:
                pieces.append((place, content))
        self.pieces = pieces

    def whole(self) -> bytes | None:
        """The message, once nothing is missing."""
        return self.pieces[0][1] if len(self.pieces[0][1]) == self.length else None


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
            if number in self._partial:
                self._forget(number)
            self._charge(fragment.length)
            self._whole[number] = (fragment.type, fragment.data)
            return
        partial = self._partial.get(number)
        if partial is None:
            self._charge(fragment.length)
            partial = self._partial[number] = _Partial(fragment.type, fragment.length)
        elif (partial.type, partial.length) != (fragment.type, fragment.length):
            raise FragmentError("fragments of one message differ in its type or length")
        if len(partial.pieces) >= _PIECES:
            raise FragmentError("a message in too many pieces")
        partial.add(fragment.offset, fragment.data)
        body = partial.whole()
        if body is not None:
            del self._partial[number]
            self._whole[number] = (partial.type, body)

    def take(self) -> tuple[int, int, bytes] | None:
        """Type, number and body of the next message, once it is whole."""
        found = self._whole.pop(self.next, None)
        if found is None:
            return None
        number = self.next
        self.next = number + 1
        self._bytes -= len(found[1])
        return found[0], number, found[1]

    def forget_unfinished(self) -> None:
        """Of all messages that are to come nothing is here."""
        self._bytes = 0
        self._partial.clear()
        self._whole.clear()

    def _charge(self, length: int) -> None:
        if self._bytes + length > 2 * self._limit:
            raise FragmentError("too many bytes of unfinished messages")
        self._bytes += length

    def _forget(self, number: int) -> None:
        self._bytes -= self._partial.pop(number).length
