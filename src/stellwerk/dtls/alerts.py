"""Alerts (RFC 5246 §7.2): two bytes that say why it ends, or that something is odd."""

from enum import IntEnum
from typing import NamedTuple

from stellwerk.core.errors import PeerError


class AlertLevel(IntEnum):
    """How bad it is."""

    WARNING = 1
    FATAL = 2


class AlertDescription(IntEnum):
    """The alerts of TLS 1.2 and its extensions (IANA, TLS Alerts)."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    DECRYPTION_FAILED = 21
    RECORD_OVERFLOW = 22
    DECOMPRESSION_FAILURE = 30
    HANDSHAKE_FAILURE = 40
    NO_CERTIFICATE = 41
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    EXPORT_RESTRICTION = 60
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    NO_RENEGOTIATION = 100
    UNSUPPORTED_EXTENSION = 110
    CERTIFICATE_UNOBTAINABLE = 111
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    BAD_CERTIFICATE_HASH_VALUE = 114
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120


class AlertFormatError(PeerError):
    """The content of an alert record is no alert. ``rule`` names what is broken."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


class Alert(NamedTuple):
    """``level`` is an `AlertLevel`; ``description`` may be a number that nobody knows."""

    level: int
    description: int

    @property
    def is_fatal(self) -> bool:
        """Whether the connection is over at once."""
        return self.level == AlertLevel.FATAL

    def __str__(self) -> str:
        return alert_name(self.description)


def alert_name(description: int) -> str:
    """The standard's name and number, such as ``handshake_failure (40)``."""
    try:
        return f"{AlertDescription(description).name.lower()} ({description})"
    except ValueError:
        return f"unknown alert ({description})"


def decode_alert(content: bytes) -> Alert:
    """The alert in one record. Raises `AlertFormatError`."""
    if len(content) != 2:
        raise AlertFormatError("an alert is not 2 bytes")
    if content[0] not in (AlertLevel.WARNING, AlertLevel.FATAL):
        raise AlertFormatError("an alert level is neither warning nor fatal")
    return Alert(content[0], content[1])


def encode_alert(level: int, description: int) -> bytes:
    """The content of an alert record."""
    return bytes((level, description))
