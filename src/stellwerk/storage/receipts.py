"""Which receipts the journal holds of the last minutes: a few microseconds to say where, or "none of ours"."""

from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final

RECEIPT_BYTES: Final = 8
KEEP_MS: Final = 247_000
"""EXCHANGE_LIFETIME with default parameters (RFC 7252 4.8.2): no retransmission arrives later."""

_GENERATIONS: Final = 8
_BUCKET_MASK: Final = 0xFFF
_LARGEST_GENERATION: Final = 1_000_000
_RECORD_BYTES: Final = RECEIPT_BYTES + 4


class _Generation:
    """Receipts of a stretch of the journal in buckets by their first bits, each followed by the number of its batch in
    ``firsts``: 12 bytes a receipt."""

    __slots__ = ("buckets", "count", "firsts", "newest_ms", "oldest_ms")

    def __init__(self, time_ms: int) -> None:
        self.buckets: dict[int, bytearray] = {}
        self.count = 0
        self.firsts = array("q")
        self.oldest_ms = self.newest_ms = time_ms

    def find(self, receipt: bytes) -> Iterable[int]:
        """The first sequence numbers of the batches that hold it, newest first."""
        bucket = self.buckets.get((receipt[0] << 8 | receipt[1]) & _BUCKET_MASK)
        if bucket is None:
            return
        end = len(bucket)
        while (found := bucket.rfind(receipt, 0, end)) >= 0:
            if found % _RECORD_BYTES:
                # Across two neighbours.
                end = found + RECEIPT_BYTES - 1
                continue
            yield self.firsts[int.from_bytes(bucket[found + RECEIPT_BYTES : found + _RECORD_BYTES], "little")]
            end = found


class ReceiptIndex:
    """One thread adds, another asks; each step of either is atomic under the interpreter's lock.

    A dict or set would take ten times the memory, and sorted arrays stop the world while they merge.
    """

    def __init__(self, keep_ms: int = KEEP_MS) -> None:
        self._keep_ms = keep_ms
        self._generations: deque[_Generation] = deque([_Generation(0)])

    def __len__(self) -> int:
        return sum(generation.count for generation in self._generations)

    def add(self, receipts: Iterable[bytes], first_seq: int, time_ms: int) -> None:
        """The receipts of a journal batch that starts at ``first_seq``; batches come in order."""
        generation = self._generations[-1]
        if not generation.count:
            generation.oldest_ms = time_ms
        elif time_ms - generation.oldest_ms > self._keep_ms // _GENERATIONS or generation.count >= _LARGEST_GENERATION:
            generation = _Generation(time_ms)
            self._generations.append(generation)
            while self._generations[0].newest_ms < time_ms - self._keep_ms:
                self._generations.popleft()
        generation.newest_ms = max(generation.newest_ms, time_ms)
        number = len(generation.firsts).to_bytes(4, "little")
        generation.firsts.append(first_seq)
        buckets = generation.buckets
        for receipt in receipts:
            key = (receipt[0] << 8 | receipt[1]) & _BUCKET_MASK
            bucket = buckets.get(key)
            if bucket is None:
                buckets[key] = bytearray(receipt + number)
            else:
                bucket += receipt + number
            generation.count += 1

    def find(self, receipt: bytes) -> list[int]:
        """Where it is: first sequence numbers of batches, newest first."""
        return [first for generation in reversed(tuple(self._generations)) for first in generation.find(receipt)]
