"""The ids of our sessions: their connection IDs (RFC 9146) and the beginning of their TLS session ids. One that we gave
is known without a look into the store, so that those that somebody makes up cost none."""

from hmac import compare_digest
from typing import Final

from stellwerk.core.entropy import Entropy
from stellwerk.dtls.prf import Prf
from stellwerk.dtls.session import SESSION_ID_BYTES

SECRET_BYTES: Final = 32

_CHECK_BYTES: Final = 1
_HEAD_BYTES: Final = SESSION_ID_BYTES - _CHECK_BYTES


class SessionIds:
    """Ids of 8 bytes: ``node_id``, 6 random ones, and the first of HMAC-SHA-256 over those 7 under ``secret``.

    ``secret`` (32 bytes) has to outlive a restart as the sessions do; one that is None is drawn. All nodes of a cluster
    have the same: the node byte says where a record belongs, and any node sees whether its id was given by one of them.
    """

    __slots__ = ("_entropy", "_node", "_prf")

    def __init__(self, node_id: int, secret: bytes | None, entropy: Entropy) -> None:
        self._node = bytes((node_id,))
        self._entropy = entropy
        self._prf = Prf(entropy.take(SECRET_BYTES) if secret is None else secret)

    def draw(self) -> bytes:
        """A new id. Some session may have it already, as they are drawn out of 2^48."""
        head = self._node + self._entropy.take(_HEAD_BYTES - 1)
        return head + self._check(head)

    def is_given(self, session_id: bytes) -> bool:
        """Whether it was drawn under this secret, on whatever node; of 256 that are made up one passes."""
        return len(session_id) == SESSION_ID_BYTES and compare_digest(
            self._check(session_id[:_HEAD_BYTES]), session_id[_HEAD_BYTES:]
        )

    def _check(self, head: bytes) -> bytes:
        return self._prf.hmac(head)[:_CHECK_BYTES]
