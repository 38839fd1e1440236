"""How two ends agree on another ID Context after one of them lost its state (RFC 8613 App. B.2).

The end that lost it sends its request under the ID Context R1, a random value that it names. The other end answers
under R2 || R1 and names R2; the first sends its request again under R2 || R3, R3 random too, and from then on that is
the ID Context. Whoever sees its own random value come back knows that what carries it is fresh. What is named is the
value as a byte string of CBOR.

Our R2 is recognised without being remembered, so that a context made with it can be derived again after a restart, when
its other end still uses it: its last bytes are a digest of the others under a key out of the master secret.
"""

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.entropy import Entropy

_RANDOM: Final = 8
_DIGEST: Final = 4
_OURS: Final = _RANDOM + _DIGEST
_MOST_ID_CONTEXT: Final = 64
"""Longer values than this of the other end make no context."""


class Recovery:
    """How far the two ends of one context are."""

    __slots__ = ("_key", "offered", "r1", "r3", "starts")

    def __init__(self, material: ContextMaterial) -> None:
        self._key = blake2b(
            material.master_salt + material.recipient_id,
            key=blake2b(material.master_secret, digest_size=32).digest(),
            digest_size=32,
            person=b"OSCORE App. B.2",
        ).digest()
        self.offered: bytes | None = None
        """Our R2, until a request comes under it."""
        self.starts = False
        """We lost our state and have not finished yet."""
        self.r1 = b""
        self.r3 = b""

    def offer(self, entropy: Entropy) -> bytes:
        """Our R2: the same until it is used, however often it is asked for."""
        if self.offered is None:
            drawn = entropy.take(_RANDOM)
            self.offered = drawn + self._digest(drawn)
        return self.offered

    def is_offered(self, id_context: bytes) -> bool:
        """Whether ``id_context`` begins with the R2 that is not used yet: who uses it has just received it."""
        return self.offered is not None and id_context.startswith(self.offered) and self._holds_more(id_context)

    def is_ours(self, id_context: bytes) -> bool:
        """Whether ``id_context`` begins with an R2 of ours, of whatever time."""
        drawn, digest = id_context[:_RANDOM], id_context[_RANDOM:_OURS]
        return self._holds_more(id_context) and compare_digest(digest, self._digest(drawn))

    def _holds_more(self, id_context: bytes) -> bool:
        return _OURS < len(id_context) <= _MOST_ID_CONTEXT

    def _digest(self, drawn: bytes) -> bytes:
        return blake2b(drawn, key=self._key, digest_size=_DIGEST).digest()

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


def is_sound(value: bytes | None) -> bool:
    """Whether an R1 or R2 of the other end can be used."""
    return value is not None and 0 < len(value) <= _MOST_ID_CONTEXT
