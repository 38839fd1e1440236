"""Session tickets: the session's secrets travel with the client, sealed under keys of ours (RFC 5077 §4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stellwerk.core.entropy import Entropy

NAME_BYTES: Final = 16

_NONCE: Final = 12
_TAG: Final = 16
_MOST: Final = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class TicketKey:
    """``name``: 16 bytes that every ticket begins with; ``key``: 16 or 32 bytes for AES-GCM."""

    name: bytes
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.name) != NAME_BYTES or len(self.key) not in (16, 32):
            raise ValueError("a ticket key has a name of 16 bytes and 16 or 32 bytes of key")


class Tickets:
    """Seals with the first of ``keys`` and opens with any: a new key goes to the front, an old one leaves once its
    tickets may be worthless. Keys are the caller's, so that tickets outlive a restart. One key is good for 2^32
    tickets (random nonces of 96 bits)."""

    __slots__ = ("_by_name", "_entropy", "_first")

    def __init__(self, keys: Sequence[TicketKey], entropy: Entropy) -> None:
        if not keys:
            raise ValueError("tickets need a key")
        self._first = keys[0].name
        self._by_name = {key.name: AESGCM(key.key) for key in keys}
        self._entropy = entropy

    def seal(self, state: bytes) -> bytes:
        """A ticket: name, nonce, sealed ``state`` with its tag."""
        head = self._first + self._entropy.take(_NONCE)
        return head + self._by_name[self._first].encrypt(head[NAME_BYTES:], state, self._first)

    def open(self, ticket: bytes) -> bytes | None:
        """What was sealed; None for anything that is no ticket of ours."""
        if not NAME_BYTES + _NONCE + _TAG <= len(ticket) <= _MOST:
            return None
        name = ticket[:NAME_BYTES]
        cipher = self._by_name.get(name)
        if cipher is None:
            return None
        at = NAME_BYTES + _NONCE
        try:
            return cipher.decrypt(ticket[NAME_BYTES:at], ticket[at:], name)
        except InvalidTag:
            return None
