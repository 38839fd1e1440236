"""What the server counts of itself: plain numbers, written where things happen and read by ``/metrics``.

Nothing here knows how it is shown. Hot paths add to a number they already hold; what takes longer is done by whoever
reads.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Final

from stellwerk.app.histogram import LONG_SECONDS, SECONDS, SIZES, Histogram
from stellwerk.core.instant import Instant

UPLINK_KINDS: Final = ("register", "update", "deregister", "send", "other")
"""``other``: a request that means nothing to us."""
SUCCESSES: Final = 300
"""Statuses below this are."""
STORED: Final = "stored"
LEFT: Final = "left"


class UplinkMeter:
    """One kind of uplink: how often it got which answer, and how long those took that it is about. ``now``: monotonic
    seconds.

    Whoever answers adds to ``answers``; of a success (below `SUCCESSES`) it says `arrived` before, unless that arrived
    at the same ``at``. So the clock is read once for those that arrived, were stored and are answered together.
    """

    __slots__ = ("_now", "_seconds", "_settled", "_took_s", "answers", "at")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._took_s = 0.0
        self._settled = 0
        self._seconds = Histogram(SECONDS)
        self.at: Instant | None = None
        """When the last of the answered arrived."""
        self.answers: dict[int, int] = defaultdict(int)
        """By status: ``204``."""

    def arrived(self, at: Instant) -> None:
        """The successes that are counted from here on arrived ``at``, and have their answer now."""
        self._settle()
        self.at = at
        self._took_s = self._now() - at.now

    @property
    def seconds(self) -> Histogram:
        """From reception to the answer, of successes: a refusal is quick, and would hide a slow disk."""
        self._settle()
        return self._seconds

    def _settle(self) -> None:
        successes = sum(count for status, count in self.answers.items() if status < SUCCESSES)
        if successes > self._settled:
            self._seconds.observe(self._took_s, successes - self._settled)
            self._settled = successes


class SecureMeters:
    """Of secure sessions."""

    def __init__(self) -> None:
        self.handshakes: dict[tuple[str, str], int] = defaultdict(int)
        """By result (``full``, ``resumed``, ``failed``) and, of those that failed, reason."""
        self.limited: dict[str, int] = defaultdict(int)
        """What was refused since there was too much of it, by whose bound that is: ``address``, ``tenant``,
        ``certificates``, ``look-up``."""
        self.ended: dict[str, int] = defaultdict(int)
        """Sessions that left memory, by reason."""
        self.moved = 0
        """Times that a session was heard from another address."""
        self.restored = 0
        """Sessions that were loaded from the store."""


class BootstrapMeters:
    """Of the bootstrap server."""

    def __init__(self) -> None:
        self.running: Callable[[], int] = lambda: 0
        """Sessions under way."""
        self.sessions: dict[str, int] = defaultdict(int)
        """Those that ended, by state (`device.bootstrap.history.BootstrapState`)."""
        self.steps: dict[tuple[str, str], int] = defaultdict(int)
        """By operation (``Bootstrap-Write``) and what came of it: the device's code (``2.04``), or the word of a
        failure."""
        self.refused: dict[str, int] = defaultdict(int)
        """Requests that led to nothing, by reason."""


class OscoreMeters:
    """Of OSCORE contexts."""

    def __init__(self) -> None:
        self.contexts: dict[str, int] = defaultdict(int)
        """By what happened: ``given`` (to an engine that asked), ``heard`` (verified and fresh), ``moved`` (heard from
        another address), ``rederived``, ``refused`` (unknown, over the wrong layers, not verified), ``limited`` (asked
        too often)."""


class Meters:
    """``now``: monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.uplinks = {kind: UplinkMeter(now) for kind in UPLINK_KINDS}
        self.notifications: dict[tuple[str, str], int] = defaultdict(int)
        """By type (``con``, ``non``) and what became of it: `STORED` or `LEFT` (neither stored nor acknowledged)."""
        self.registers_refused: dict[str, int] = defaultdict(int)
        """By reason."""
        self.identities_refused: dict[str, int] = defaultdict(int)
        """By what was said in the name of a device by whoever has not proven to be it."""
        self.secure = SecureMeters()
        self.tls = SecureMeters()
        """Of connections behind TLS."""
        self.bootstrap = BootstrapMeters()
        self.oscore = OscoreMeters()
        self.commands: dict[str, Histogram] = defaultdict(_long)
        """Seconds from post to end, by the last step's word (`device.command.Step`)."""
        self.http: dict[tuple[str, int], int] = defaultdict(int)
        """Answers by face and HTTP status."""
        self.http_seconds: dict[str, Histogram] = defaultdict(Histogram)
        """By face."""
        self.journal_bytes = 0
        """Payload that was stored."""
        self.groups = Histogram(SIZES)
        """Commits in a transaction of the journal."""
        self.group_seconds = Histogram(SECONDS)
        """How long such a transaction took."""
        self.writes = 0
        """What people wrote, each a create or a change."""
        self.store_failures = 0
        """Times in which nothing could be written, however long."""

    def command_ended(self, outcome: str, after_s: float) -> None:
        """A command took its last step, ``after_s`` seconds after it was posted."""
        # Both ends are read off the wall, which may have been set back between.
        self.commands[outcome].observe(max(0.0, after_s))


@dataclass(slots=True)
class Transport:
    """What sockets and engine counted. ``lost``: the system did not take it; ``overflowed``: it came faster than it was
    read, and the system dropped it. ``refused``: by reason. Of TCP: how many connections stand, were opened and ended
    (by reason), and bytes by direction (``in``, ``out``)."""

    received: int = 0
    sent: int = 0
    lost: int = 0
    overflowed: int = 0
    duplicates: int = 0
    retransmissions: int = 0
    peers: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    connections: int = 0
    connections_opened: int = 0
    connections_ended: dict[str, int] = field(default_factory=dict)
    stream_bytes: dict[str, int] = field(default_factory=dict)
    sessions: int = 0
    """Secure sessions in memory."""
    handshakes: int = 0
    """Handshakes under way."""
    records_dropped: dict[str, int] = field(default_factory=dict)
    """Records of DTLS that led to nothing, by reason."""
    tls_connections: int = 0
    """Connections behind TLS that stand; the same of them as of TCP above."""
    tls_opened: int = 0
    tls_ended: dict[str, int] = field(default_factory=dict)
    tls_bytes: dict[str, int] = field(default_factory=dict)
    tls_handshakes: int = 0
    """Handshakes under way."""
    tls_dropped: dict[str, int] = field(default_factory=dict)
    """Connections that were turned away or said nothing, by reason."""

    def add(self, other: "Transport") -> None:
        """Count what ``other`` counted besides."""
        for each in fields(self):
            ours, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(ours, dict):
                for word, count in theirs.items():
                    ours[word] = ours.get(word, 0) + count
            else:
                setattr(self, each.name, ours + theirs)


def _long() -> Histogram:
    return Histogram(LONG_SECONDS)
