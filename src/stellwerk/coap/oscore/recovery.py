"""How two ends agree on another ID Context after one of them lost its state (RFC 8613 App. B.2).

The end that lost it sends its request under the ID Context R1, a random value that it names. The other end answers
under R2 || R1 and names R2; the first sends its request again under R2 || R3, R3 random too, and from then on that is
the ID Context. Whoever sees its own random value come back knows that what carries it is fresh. What is named is the
value as a byte string of CBOR.

No R2 of ours is said twice, and none is remembered (App. B.2.1). Behind its random bytes are two digests of them. One,
under a key out of the master secret, says that it is ours, so that a context made with it can be derived again after a
restart, when its other end still uses it. The other, under a random key that ends with the first request under any R2
made with it, says that nobody has used it yet.
"""

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.entropy import Entropy

_RANDOM: Final = 8
_DIGEST: Final = 4
_OURS: Final = _RANDOM + _DIGEST
_R2: Final = _OURS + _DIGEST
_ROUND_KEY: Final = 16
_MOST_ID_CONTEXT: Final = 64
"""Longer values than this of the other end make no context."""


class Recovery:
    """How far the two ends of one context are."""

    __slots__ = ("_key", "_round_key", "r1", "r3", "starts")

    def __init__(self, material: ContextMaterial) -> None:
        self._key = blake2b(
            material.master_salt + material.recipient_id,
            key=blake2b(material.master_secret, digest_size=32).digest(),
            digest_size=32,
            person=b"OSCORE App. B.2",
        ).digest()
        self._round_key = b""
        """Of every R2 that we have said since a request came under one."""
        self.starts = False
        """We lost our state and have not finished yet."""
        self.r1 = b""
        self.r3 = b""

    def offer(self, entropy: Entropy) -> bytes:
        """An R2 of ours, another one each time."""
        if not self._round_key:
            self._round_key = entropy.take(_ROUND_KEY)
        drawn = entropy.take(_RANDOM)
        return drawn + _digest(self._key, drawn) + _digest(self._round_key, drawn)

    def is_offered(self, id_context: bytes) -> bool:
        """Whether ``id_context`` begins with an R2 that we said since one was used: who uses it has just received
        it."""
        if not self._round_key or not self.is_ours(id_context):
            return False
        return compare_digest(id_context[_OURS:_R2], _digest(self._round_key, id_context[:_RANDOM]))

    def use(self) -> None:
        """A request came under an R2 of ours: no other one that we said counts any more."""
        self._round_key = b""

    def is_ours(self, id_context: bytes) -> bool:
        """Whether ``id_context`` begins with an R2 of ours, of whatever time."""
        if not _R2 < len(id_context) <= _MOST_ID_CONTEXT:
            return False
        return compare_digest(id_context[_RANDOM:_OURS], _digest(self._key, id_context[:_RANDOM]))

    # --- the end that lost its state -----------------------------------------------------------------------------

    def start(self, entropy: Entropy) -> bytes:
        """Our R1, which is the ID Context now."""
        self.starts = True
        self.r1 = entropy.take(_RANDOM)
        self.r3 = b""
        return self.r1

    def answer_context(self, r2: bytes) -> bytes:
        """Under which ID Context the other end answers that names ``r2``."""
        return r2 + self.r1

    def agree(self, r2: bytes, entropy: Entropy) -> bytes:
        """The ID Context from now on."""
        self.r3 = entropy.take(_RANDOM)
        return r2 + self.r3


def _digest(key: bytes, drawn: bytes) -> bytes:
    return blake2b(drawn, key=key, digest_size=_DIGEST).digest()


def is_sound(value: bytes | None) -> bool:
    """Whether an R1 or R2 of the other end can be used."""
    return value is not None and 0 < len(value) <= _MOST_ID_CONTEXT
