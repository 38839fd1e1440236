"""What one engine knows of each connection, and how many there may be.

A connection is the peer of the exchange layer: it lives and dies with everything that hangs on it.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from stellwerk.coap.actions import SendRequest
from stellwerk.coap.options import BERT, Cut, block_exponent
from stellwerk.coap.peers import Peer
from stellwerk.coap.tcp.frames import FrameDecoder
from stellwerk.coap.tcp.signalling import BASE_MESSAGE_BYTES, Capabilities, ReleaseNotice
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed

if TYPE_CHECKING:
    from stellwerk.coap.duplicates import Inbound

LARGEST_MESSAGE = 65_536
"""Bytes of the largest message that we send or take where nothing else is said."""
_LEAST_AROUND_BODY = 128
"""Room for header, token and options beside a body, as RFC 7252 §4.6 leaves it."""
_AROUND_LARGE_BODY = 1024
_CANCELLED_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of an engine over streams, beside `parameters.Limits`. Times in seconds, sizes in bytes."""

    connections_total: int = 10_000
    """One more is closed at once."""
    connections_per_address: int = 1_000
    half_open: int = 500
    """Connections without a CSM; one more closes the oldest of them."""
    message_bytes: int = LARGEST_MESSAGE
    """Our Max-Message-Size. A longer message ends its connection before it is read."""
    buffered_total_bytes: int = 32 * 1024 * 1024
    """Of messages that are not whole yet, over all connections; beyond it the largest of them ends its connection."""
    pending_pongs: int = 8
    csm_within_s: float = 10.0
    first_message_within_s: float = 60.0
    """After the CSM; a connection is there to say something."""
    frame_within_s: float = 60.0
    """From the first byte of a message to its last."""
    ping_after_s: float | None = 600.0
    """Silence after which we ask whether the peer is there; None asks never."""
    pong_within_s: float = 60.0
    response_within_s: float = 93.0
    """A request without an answer has timed out: MAX_TRANSMIT_WAIT, as over UDP."""


class Role(Enum):
    """Which end of a connection we are."""

    ACCEPTED = auto()
    INITIATED = auto()


class Connection(Peer):
    """One connection that stands."""

    __slots__ = (
        "cancelled",
        "closed",
        "cut",
        "decoder",
        "early",
        "frame_since",
        "heard",
        "is_ready",
        "open",
        "opened",
        "pinged",
        "pongs",
        "release_by",
        "released",
        "role",
        "spoke",
        "theirs",
        "watch",
    )

    def __init__(self, id: PeerId, role: Role, limits: StreamLimits, watch: "Watch", now: float) -> None:
        super().__init__(id, now)
        # Whoever completed the handshake of TCP receives at its address.
        self.verified = True
        self.role = role
        self.decoder = FrameDecoder(limits.message_bytes)
        self.theirs = Capabilities()
        self.cut = cut_stream(self.theirs)
        self.is_ready = False
        """Their CSM is here."""
        self.spoke = False
        """A request or an answer came, not only signals."""
        self.opened = now
        self.heard = now
        self.frame_since: float | None = None
        """When the message began to arrive that is not whole yet."""
        self.pinged: float | None = None
        """When a Ping left that nothing followed yet."""
        self.pongs: deque[tuple[int, bytes]] = deque()
        """Pongs that wait until all up to a message are dealt with: its number, and the token of the Ping."""
        self.open: dict[int, Inbound] = {}
        """Messages that are not decided yet, oldest first."""
        self.early: list[SendRequest] = []
        """Requests of ours that wait for their CSM."""
        self.released: ReleaseNotice | None = None
        """The peer wants no more requests."""
        self.release_by = now
        """When the connection ends then, whatever is still outstanding."""
        self.cancelled: dict[bytes, None] = {}
        """Tokens of observations that we cancelled: what still comes with them is passed over."""
        self.closed = False
        self.watch = watch
        watch.connection = self

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is outstanding on either side."""
        return not self.open and not (self.outgoing is not None and self.outgoing.by_token)

    def remember_cancelled(self, token: bytes) -> None:
        """What comes with ``token`` from now on means nothing."""
        self.cancelled[token] = None
        if len(self.cancelled) > _CANCELLED_REMEMBERED:
            del self.cancelled[next(iter(self.cancelled))]

    def learn(self, theirs: Capabilities) -> None:
        """Their CSM came."""
        self.theirs = theirs
        self.cut = cut_stream(theirs)
        self.is_ready = True


class Watch(Timed):
    """The one timer of a connection; looks at all its bounds in time."""

    __slots__ = ("_look", "connection")

    def __init__(self, look: Callable[[Connection, float], None]) -> None:
        super().__init__()
        self._look = look
        self.connection: Connection

    def fire(self, now: float) -> None:
        """Something may be due."""
        self._look(self.connection, now)


class ConnectionTable:
    """The connections of one engine: all of them, by address, and those that have not said what they can take."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._by_id: dict[PeerId, Connection] = {}
        self._of_address: dict[str, int] = {}
        self.half_open: dict[Connection, None] = {}
        self.find: Callable[[PeerId], Connection | None] = self._by_id.get
        self.held: dict[Connection, int] = {}
        """Bytes of messages that are not whole yet."""
        self.held_total = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._by_id.values()))

    def find_or_add(self, id: PeerId, now: float) -> Connection | None:
        """The connection; there is none to make from here."""
        return self._by_id.get(id)

    def refusal(self, id: PeerId) -> tuple[str, str] | None:
        """Why a connection of ``id`` cannot be taken: a word and its meaning."""
        if len(self._by_id) >= self._limits.connections_total:
            return "connections_total", f"{len(self._by_id)} connections"
        count = self._of_address.get(_network_of(id.remote_host), 0)
        if count >= self._limits.connections_per_address:
            return "connections_per_address", f"{count} connections of {id.remote_host}"
        return None

    def add(self, connection: Connection) -> None:
        """It stands."""
        network = _network_of(connection.id.remote_host)
        self._by_id[connection.id] = connection
        self._of_address[network] = self._of_address.get(network, 0) + 1
        self.half_open[connection] = None

    def remove(self, connection: Connection) -> None:
        """It is gone."""
        network = _network_of(connection.id.remote_host)
        if self._by_id.get(connection.id) is connection:
            del self._by_id[connection.id]
            self._of_address[network] -= 1
            if not self._of_address[network]:
                del self._of_address[network]
        self.half_open.pop(connection, None)
        self.note_held(connection, 0)

    def note_held(self, connection: Connection, size: int) -> None:
        """``size`` bytes of a message that is not whole are held for ``connection``."""
        self.held_total += size - self.held.get(connection, 0)
        if size:
            self.held[connection] = size
        else:
            self.held.pop(connection, None)

    def largest_held(self) -> Connection:
        """Whose message that is not whole is the largest."""
        return max(self.held, key=self.held.__getitem__)


def _network_of(host: str) -> str:
    """What counts as one address: of IPv6 the /64, since whoever has one address there has them all."""
    if ":" not in host:
        return host
    with contextlib.suppress(ValueError):
        return str(IPv6Address(int(IPv6Address(host.partition("%")[0])) >> 64 << 64))
    return host


def cut_stream(theirs: Capabilities) -> Cut:
    """How bodies go to an end with these capabilities: whole where they fit, else in blocks (RFC 8323 §6)."""
    # Ours are as long as what we take ourselves at most; a peer may claim gigabytes.
    size = min(theirs.message_bytes, LARGEST_MESSAGE)
    whole = size - (_LEAST_AROUND_BODY if size < 4 * BASE_MESSAGE_BYTES else _AROUND_LARGE_BODY)
    if theirs.bert and whole >= 1024:
        return Cut(BERT, whole // 1024 * 1024, whole, None)
    exponent = block_exponent(whole)
    return Cut(exponent, 16 << exponent, whole, None)
