"""Proof that a request is recent and its sender receives what we send to its address: the Echo option (RFC 9175 §2).

Nothing is remembered per peer. A value is a keyed digest of the peer and the minute it was made in, so only whoever
received it at that address can repeat it, and only for a while.
"""

from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId, encode_peer

WINDOW_S: Final = 60.0
"""A value is taken for fresh for at least this long, and less than twice as long."""
KEY_LIFETIME_S: Final = 3600.0
"""How long a key makes new values."""

_KEY_BYTES: Final = 16
_VALUE_BYTES: Final = 8
"""Short, so that 4.01 with an Echo fits into three times the bytes of nearly every request."""


def echo_value(key: bytes, peer: PeerId, now: float) -> bytes:
    """The Echo that ``peer`` has to repeat, made at ``now`` (monotonic seconds) with the secret ``key``."""
    return _digest(key, peer, int(now // WINDOW_S))


def is_fresh(key: bytes, peer: PeerId, value: bytes, now: float) -> bool:
    """Whether ``value`` was made with ``key`` for ``peer`` in the current window or the one before."""
    window = int(now // WINDOW_S)
    return any(compare_digest(value, _digest(key, peer, each)) for each in (window, window - 1))


def _digest(key: bytes, peer: PeerId, window: int) -> bytes:
    return blake2b(f"{window} {encode_peer(peer)}".encode(), key=key, digest_size=_VALUE_BYTES).digest()


class Freshness:
    """Echo values of one engine. Keys are drawn when first needed and changed every `KEY_LIFETIME_S`; values of the key
    before stay good for as long as any value does."""

    __slots__ = ("_before", "_entropy", "_key", "_since")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._key = b""
        self._before = b""
        self._since = 0.0

    def value(self, peer: PeerId, now: float) -> bytes:
        """What ``peer`` has to repeat."""
        if not self._key or now - self._since >= KEY_LIFETIME_S:
            self._before, self._key, self._since = self._key, self._entropy.take(_KEY_BYTES), now
        return echo_value(self._key, peer, now)

    def is_fresh(self, peer: PeerId, value: bytes, now: float) -> bool:
        """Whether we gave ``value`` to ``peer`` a moment ago."""
        if self._key and is_fresh(self._key, peer, value, now):
            return True
        recent = now - self._since < 2 * WINDOW_S
        return bool(self._before) and recent and is_fresh(self._before, peer, value, now)


class RequestTags:
    """Request-Tag values (RFC 9175 §3): each body that we begin to send in blocks gets another one, so that a delayed
    block of an earlier body can never become part of a later one."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def draw(self) -> bytes:
        """A value that this engine has not used before: 1 to 8 bytes."""
        self._last += 1
        return self._last.to_bytes((self._last.bit_length() + 7) // 8, "big")
