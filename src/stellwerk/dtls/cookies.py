"""Cookies of HelloVerifyRequest: who repeats one receives at the address it writes from, and nothing was kept for it
(RFC 6347 §4.2.1)."""

from hmac import compare_digest
from typing import Final

from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId, encode_peer
from stellwerk.dtls.messages import HelloOutline
from stellwerk.dtls.prf import Prf
from stellwerk.dtls.vectors import vector

SECRET_LIFETIME_S: Final = 120.0
"""How long cookies are made with one secret; they are good for as long again. Slow networks repeat a ClientHello after
9 seconds and more (RFC 7925 §11)."""

_SECRET_BYTES: Final = 32
_COOKIE_BYTES: Final = 16


class Cookies:
    """Cookies of one endpoint, under a secret that changes and the one before it."""

    __slots__ = ("_before", "_current", "_entropy", "_since")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._current: Prf | None = None
        self._before: Prf | None = None
        self._since = 0.0

    def rotate(self, now: float) -> None:
        """Change the secret if it is due. Call it before the others."""
        age = now - self._since
        if self._current is None or age >= SECRET_LIFETIME_S:
            self._before = self._current if age < 2 * SECRET_LIFETIME_S else None
            self._current = Prf(self._entropy.take(_SECRET_BYTES))
            self._since = now

    def cookie_for(self, address: PeerId, hello: bytes, outline: HelloOutline) -> bytes:
        """16 bytes over the ``address`` and what RFC 6347 says has to be the same in the second ClientHello; ``hello``
        is its body."""
        if self._current is None:
            raise ValueError("rotate first: there is no secret yet")
        return self._current.hmac(_covered(address, hello, outline))[:_COOKIE_BYTES]

    def is_valid(self, address: PeerId, hello: bytes, outline: HelloOutline) -> bool:
        """Whether the cookie in ``hello`` is one that ``address`` got for it lately."""
        cookie = hello[outline.session_id + 1 : outline.cookie]
        if len(cookie) != _COOKIE_BYTES:
            return False
        covered = _covered(address, hello, outline)
        for secret in (self._current, self._before):
            if secret is not None and compare_digest(secret.hmac(covered)[:_COOKIE_BYTES], cookie):
                return True
        return False


def _covered(address: PeerId, hello: bytes, outline: HelloOutline) -> bytes:
    # Version, random, session id, suites; the compression methods end it and need no length.
    return b"".join(
        (
            vector(2, encode_peer(address).encode()),
            hello[: outline.session_id],
            hello[outline.cookie : outline.suites],
            hello[outline.suites + 1 : outline.compression],
        )
    )
