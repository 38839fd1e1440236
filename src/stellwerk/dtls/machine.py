"""What a handshake machine is made of: its steps and their faults, its timing, and whoever has it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from stellwerk.core.errors import PeerError
from stellwerk.dtls.base import Base
from stellwerk.dtls.records import HEADER_BYTES, Record

if TYPE_CHECKING:
    from stellwerk.dtls.handshake import Handshake

_EXPANSION: Final = 24
"""Of a record by protection: explicit nonce and tag."""


class HandshakeFault(PeerError):
    """It cannot go on. ``alert`` tells the peer (None: nothing does), ``reason`` (of `failures.REASONS`) and ``detail``
    tell us."""

    def __init__(self, reason: str, detail: str, alert: int | None) -> None:
        self.reason, self.detail, self.alert = reason, detail, alert
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Timing:
    """How a flight is repeated, and how large its datagrams and records are."""

    first_timeout_s: float
    longest_timeout_s: float
    repetitions: int
    mtu: int
    size: int

    def limited(self, size: int) -> "Timing":
        """For a peer that asked for records with at most ``size`` bytes of plaintext. It has little memory for what it
        reads at once (RFC 6066 §4): a datagram that is longer than one such record loses its end there."""
        return replace(self, mtu=min(self.mtu, size + HEADER_BYTES + _EXPANSION), size=min(self.size, size))


class Host(Protocol):
    """Who has handshakes (`handshakes`)."""

    base: Base

    def ask(self, handshake: "Handshake") -> int:
        """The number of a question of ``handshake``."""
        ...

    def is_foreign(self, handshake: "Handshake", records: list[Record], now: float) -> bool:
        """Whether ``records``, which ``handshake`` cannot open, are of a session that is live at its address. They are
        taken there then."""
        ...

    def established(self, handshake: "Handshake", now: float) -> None:
        """Both ends are verified: the association of ``handshake`` is live."""
        ...

    def ended(self, handshake: "Handshake") -> None:
        """``handshake`` is over without one."""
        ...


class Phase(Enum):
    """States that both machines have."""

    ASKING = "a question to the outside is open"
    OVER = "established or failed"


Step = Callable[[Any, bytes, float], Enum]
"""Takes a machine, the body of its message and the time; returns the next state. Raises `HandshakeFault` and
`messages.HandshakeFormatError`."""
