"""The content of messages as stored: compact JSON text, and the size that the containers count."""

import json
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def render(content: Any) -> tuple[str, int]:
    """Compact JSON text with non-ASCII characters as they are, and its size in bytes as UTF-8. Numbers with an exponent
    are spelled ``1e-7``; what JSON has no word for (NaN) is null."""
    try:
        encoded = _encode(content)
    except (TypeError, ValueError, OverflowError):
        # An integer beyond 64 bits or a lone surrogate: JSON can spell them, the fast encoder cannot. No database takes
        # a surrogate as text, so it becomes a question mark.
        encoded = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return encoded.decode(), len(encoded)


def content_size(text: str) -> int:
    """contentSize of a ``con`` given as JSON text: a string counts without quotes and escapes, all else as its text."""
    if text.startswith('"'):
        text = json.loads(text)
    return len(text.encode("utf-8", "replace"))
