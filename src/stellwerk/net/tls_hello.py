"""What a client of TLS says before its handshake is protected, read along with the library that answers it.

The library asks for a pre-shared key in the middle of a call and knows nothing of questions that take time. The
identity is in the clear: in TLS 1.2 in the ClientKeyExchange (RFC 4279 §2), in TLS 1.3 in the ClientHello (RFC 8446
§4.2.11). So records are looked at before they are handed on, and wait while the key is looked up. Nothing is decided
here; what is malformed is passed on, for the library to say what is wrong with it.
"""

from struct import unpack
from typing import Final, NamedTuple

from stellwerk.core.cursor import Truncated
from stellwerk.dtls.messages import MAX_PSK_IDENTITY, HandshakeType
from stellwerk.dtls.vectors import Reader, VectorError

HANDSHAKE: Final = 22
"""Content type of handshake records."""
_RECORD_HEADER: Final = 5
_MAX_RECORD: Final = (1 << 14) + 2048
"""Bytes of a record's content; 2048 is what protection may add (RFC 5246 §6.2.3)."""
_MESSAGE_HEADER: Final = 4
_MAX_MESSAGE: Final = 1 << 16
_PRE_SHARED_KEY: Final = 41
_PSK_SUITES: Final = frozenset((0x00A8, 0x00A9, 0x00AE, 0x00AF, 0xC0A4, 0xC0A5, 0xC0A8, 0xC0A9, 0xCCAB))
_SIGNALLING_SUITES: Final = frozenset((0x00FF, 0x5600))


class Said(NamedTuple):
    """What a record has told. ``hello``: a ClientHello is whole with it; ``is_psk_only``: that offers nothing that
    costs an operation with public keys. ``identity``: a PSK identity that it names."""

    hello: bool = False
    is_psk_only: bool = False
    identity: bytes | None = None


NOTHING: Final = Said()


class Overhearing:
    """Follows one client until there is nothing more in the clear; then `is_over`."""

    __slots__ = ("_messages", "is_over", "names_identity")

    def __init__(self) -> None:
        self._messages = b""
        self.is_over = False
        self.names_identity = False
        """A PSK identity was named."""

    def cut(self, data: bytes | bytearray) -> bytes | None:
        """The first record of ``data``, None while it is not whole. What is none is all of ``data``."""
        if len(data) < _RECORD_HEADER:
            if data and data[0] != HANDSHAKE:
                return self._end(data)
            return None
        kind, major, _, length = unpack("!BBBH", data[:_RECORD_HEADER])
        if kind != HANDSHAKE or major != 3 or length > _MAX_RECORD:
            return self._end(data)
        return bytes(data[: _RECORD_HEADER + length]) if len(data) >= _RECORD_HEADER + length else None

    def read(self, record: bytes) -> Said:
        """What ``record``, which `cut` has given, tells."""
        if self.is_over:
            return NOTHING
        self._messages += record[_RECORD_HEADER:]
        found = NOTHING
        while len(self._messages) >= _MESSAGE_HEADER:
            size = int.from_bytes(self._messages[1:_MESSAGE_HEADER], "big")
            if size > _MAX_MESSAGE:
                self.is_over = True
                break
            if len(self._messages) < _MESSAGE_HEADER + size:
                return found
            kind, body = self._messages[0], self._messages[_MESSAGE_HEADER : _MESSAGE_HEADER + size]
            self._messages = self._messages[_MESSAGE_HEADER + size :]
            if kind == HandshakeType.CLIENT_HELLO:
                found = self._hello(body)
            else:
                # Whoever has a certificate sends that first, even an empty one.
                if kind == HandshakeType.CLIENT_KEY_EXCHANGE:
                    found = self._key_exchange(body)
                self.is_over = True
                break
        if self.is_over:
            self._messages = b""
        return found

    def _end(self, data: bytes | bytearray) -> bytes:
        self.is_over = True
        return bytes(data)

    def _hello(self, body: bytes) -> Said:
        try:
            suites, identity = _read_hello(body)
        except (VectorError, Truncated):
            return Said(hello=True)
        self.names_identity |= identity is not None
        others = {each for each in suites if each not in _PSK_SUITES and each not in _SIGNALLING_SUITES}
        return Said(True, not others, identity)

    def _key_exchange(self, body: bytes) -> Said:
        try:
            reader = Reader(body)
            identity = reader.vector(2, "psk_identity", 0, MAX_PSK_IDENTITY)
        except (VectorError, Truncated):
            return NOTHING
        self.names_identity = True
        return Said(identity=identity)


def _read_hello(body: bytes) -> tuple[tuple[int, ...], bytes | None]:
    """Suites, and the first PSK identity of TLS 1.3 that is no ticket. Raises `VectorError` and `Truncated`."""
    reader = Reader(body)
    reader.take(2 + 32)
    reader.vector(1, "session_id", 0, 32)
    suites = reader.numbers(2, "cipher_suites")
    reader.vector(1, "compression_methods", 1)
    if not reader.left:
        return suites, None
    extensions = Reader(reader.vector(2, "extensions"))
    while extensions.left:
        kind = extensions.uint(2)
        content = extensions.vector(2, "extension")
        if kind == _PRE_SHARED_KEY:
            identities = Reader(Reader(content).vector(2, "identities"))
            while identities.left:
                identity = identities.vector(2, "identity", 1)
                # RFC 8446 §4.2.11: tickets have an age. Clients put those that they have before the key that they were
                # given; nobody can come back with ours.
                if identities.uint(4) == 0 and len(identity) <= MAX_PSK_IDENTITY:
                    return suites, identity
            return suites, None
    return suites, None
