"""Content-Format numbers that LwM2M uses (IANA registry of CoAP Content-Formats, contract §8)."""

from enum import IntEnum
from typing import Final


class ContentFormat(IntEnum):
    TEXT = 0
    LINK_FORMAT = 40
    OPAQUE = 42
    JSON = 50
    CBOR = 60
    SENML_JSON = 110
    SENML_CBOR = 112
    SENML_ETCH_JSON = 320
    SENML_ETCH_CBOR = 322
    TLV = 11542
    LWM2M_JSON = 11543
    LWM2M_CBOR = 11544


INPUT_ALIASES: Final[dict[int, ContentFormat]] = {
    1541: ContentFormat.TEXT,
    1542: ContentFormat.TLV,
    1543: ContentFormat.LWM2M_JSON,
}
"""Numbers from before the IANA registration: understood from devices, never sent (contract §13)."""
