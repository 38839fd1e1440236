"""Bounds that keep every decoder total: its memory and time stay proportional to these."""

from typing import Final

MAX_ENTRIES: Final = 4096
"""Most values that one payload may state."""

MAX_CBOR_DEPTH: Final = 8
"""Deepest nesting of CBOR items; a SenML pack needs three."""
