"""Which receipts the journal holds of the last minutes: a few microseconds to say "none of ours"."""

from collections import deque
from collections.abc import Iterable
from typing import Final

KEEP_MS: Final = 247_000
"""EXCHANGE_LIFETIME with default parameters (RFC 7252 4.8.2): no retransmission arrives later."""

_GENERATIONS: Final = 8
_BUCKET_MASK: Final = 0xFFF
_LARGEST_GENERATION: Final = 1_000_000


class _Generation:
    """Receipts of a stretch of the journal, 8 bytes each, in buckets by their first 12 bits."""

    __slots__ = ("buckets", "count", "first_seq", "newest_ms", "oldest_ms")

    def __init__(self, first_seq: int, time_ms: int) -> None:
        self.buckets: dict[int, bytearray] = {}
        self.count = 0
        self.first_seq = first_seq
        self.oldest_ms = self.newest_ms = time_ms


class ReceiptIndex:
    """One thread adds, another asks; each step of either is atomic under the interpreter's lock.

    A dict or set would take ten times the memory and sorted arrays stop the world while they merge.
    """

    def __init__(self, keep_ms: int = KEEP_MS) -> None:
        self._keep_ms = keep_ms
        self._generations: deque[_Generation] = deque([_Generation(1, 0)])

    def __len__(self) -> int:
        return sum(generation.count for generation in self._generations)

    def add(self, receipts: Iterable[bytes], first_seq: int, time_ms: int) -> None:
        """The receipts of a journal batch that starts at ``first_seq``; batches come in order."""
        generation = self._generations[-1]
        if not generation.count:
            generation.first_seq, generation.oldest_ms = first_seq, time_ms
        elif time_ms - generation.oldest_ms > self._keep_ms // _GENERATIONS or generation.count >= _LARGEST_GENERATION:
            generation = _Generation(first_seq, time_ms)
            self._generations.append(generation)
            while len(self._generations) > 1 and self._generations[0].newest_ms < time_ms - self._keep_ms:
                self._generations.popleft()
        generation.newest_ms = max(generation.newest_ms, time_ms)
        buckets = generation.buckets
        for receipt in receipts:
            key = (receipt[0] << 8 | receipt[1]) & _BUCKET_MASK
            bucket = buckets.get(key)
            if bucket is None:
                buckets[key] = bytearray(receipt)
            else:
                bucket += receipt
            generation.count += 1

    def find(self, receipt: bytes) -> list[tuple[int, int | None]]:
        """Stretches of the journal that may hold it, newest first, as (first seq, seq after it or None)."""
        key = (receipt[0] << 8 | receipt[1]) & _BUCKET_MASK
        found: list[tuple[int, int | None]] = []
        end: int | None = None
        for generation in reversed(tuple(self._generations)):
            bucket = generation.buckets.get(key)
            # A match across two neighbours is possible and harmless: the entries themselves decide.
            if bucket is not None and bucket.find(receipt) >= 0:
                found.append((generation.first_seq, end))
            end = generation.first_seq
        return found
