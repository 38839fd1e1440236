"""What the ways between simulated devices and their servers are told, and what they tell (`ways`, `stream_ways`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from stellwerk.core.ids import PeerId
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.faults import FaultKind
from stellwerk.sim.security import Credentials, Security


@dataclass(frozen=True, slots=True)
class OpenWay:
    """From now on ``peer`` is spoken to in sessions that ``credentials`` and ``security`` make; an earlier one ends.
    ``strike``: what befalls a handshake that begins. ``at_once``: without waiting for something to say."""

    peer: PeerId
    endpoint_name: str
    credentials: Credentials
    security: Security
    strike: Callable[[], FaultKind | None]
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class ProtectWay:
    """From now on ``peer`` (``oscore+...``) is spoken to with a context of ``values``, over the way that carries it.
    ``ceiling``: numbers below it may have been used. ``rederive``: what came before is forgotten; the first request
    agrees with the server on another ID Context (RFC 8613 App. B.2)."""

    peer: PeerId
    values: OscoreValues
    ceiling: int = 0
    rederive: bool = False


@dataclass(frozen=True, slots=True)
class DropWay:
    """The session with ``peer`` is gone, and the next thing to say opens another. ``tells``: the server hears of it."""

    peer: PeerId
    tells: bool = False


@dataclass(frozen=True, slots=True)
class CloseWay:
    """``peer`` is not spoken to any more."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class MoveWays:
    """All ways of the local address ``old`` are of ``new`` from now on."""

    old: tuple[str, int]
    new: tuple[str, int]


WayOrder: TypeAlias = OpenWay | ProtectWay | DropWay | CloseWay | MoveWays
ORDERS: Final = (OpenWay, ProtectWay, DropWay, CloseWay, MoveWays)


@dataclass(frozen=True, slots=True)
class WayUp:
    """There is a session with ``peer``."""

    peer: PeerId
    suite: str
    has_cid: bool


@dataclass(frozen=True, slots=True)
class WayFailed:
    """No session could be made; what was to be said is forgotten."""

    peer: PeerId
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class WayLost:
    """The server ended the session."""

    peer: PeerId
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class WayCounted:
    """Numbers of ours below ``ceiling`` are used with ``peer`` from now on: keep that before anything leaves (RFC 8613
    App. B.1.1)."""

    peer: PeerId
    ceiling: int


WayEvent: TypeAlias = WayUp | WayFailed | WayLost | WayCounted


def carrier_of(peer: PeerId) -> PeerId:
    """The way that an OSCORE context is carried by, else itself."""
    return peer._replace(transport=peer.carrier)
