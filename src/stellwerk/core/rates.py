"""How often something may happen: buckets of tokens that fill with time, one for each key, bounded in number."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEYS: Final = 65_536

K = TypeVar("K", bound=Hashable)


class TokenBuckets(Generic[K]):
    """``per_s`` tokens flow into each bucket in a second, up to ``burst``, of which there is room for one at least; 0
    per second: no bound. Of more than ``keys`` buckets the one that was asked longest ago is forgotten, and is full
    when it is asked again."""

    __slots__ = ("_burst", "_by_key", "_keys", "_per_s")

    def __init__(self, per_s: float, burst: float, keys: int = KEYS) -> None:
        self._per_s = per_s
        self._burst = max(1.0, burst)
        self._keys = keys
        # Not a dict: its first key is behind all those that were taken out before, and finding it gets slow.
        self._by_key: OrderedDict[K, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def has(self, key: K, now: float) -> bool:
        """Whether `take` would be granted."""
        return not self._per_s or self._tokens(key, now) >= 1.0

    def _tokens(self, key: K, now: float) -> float:
        tokens, since = self._by_key.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - since) * self._per_s)

    def take(self, key: K, now: float) -> bool:
        """Take one token; False where there is none. ``now``: monotonic seconds."""
        if not self._per_s:
            return True
        tokens = self._tokens(key, now)
        self._by_key.pop(key, None)
        granted = tokens >= 1.0
        self._by_key[key] = (tokens - 1.0 if granted else tokens, now)
        if len(self._by_key) > self._keys:
            self._by_key.popitem(last=False)
        return granted
