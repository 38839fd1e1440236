"""The eviction rules of message containers (contract Device to Cloud §4.4): newest kept, the stricter limit wins."""

from collections.abc import Iterable

from stellwerk.app.ports import Limits


def kept(sizes: Iterable[int], limits: Limits) -> tuple[int, int]:
    """How many of the messages with these ``sizes`` in bytes, newest first, stay, and their bytes together.

    The newest stays whatever its size: refusing one that is too large is for whoever takes it in.
    """
    count = total = 0
    for size in sizes:
        if count and (count >= limits.max_instances or total + size > limits.max_bytes):
            break
        count += 1
        total += size
    return count, total
