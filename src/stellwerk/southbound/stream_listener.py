"""CoAP over TCP: the engine, its driver and the link to `app`; and how many connections every listener may have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import structlog

from stellwerk.app.meters import Transport
from stellwerk.coap.events import Event
from stellwerk.coap.parameters import Limits
from stellwerk.coap.tcp.connection import Role, StreamLimits
from stellwerk.coap.tcp.endpoint import (
    AdoptConnection,
    CloseConnection,
    ReleaseConnections,
    StreamAction,
    StreamEndpoint,
)
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.net.clock import SystemClock
from stellwerk.net.open_files import raise_open_files
from stellwerk.net.tcp import StreamDriver
from stellwerk.southbound.secure_listener import MakeLink, add_counts
from stellwerk.southbound.secure_peers import MessageLink

log = structlog.get_logger(__name__)

L = TypeVar("L", bound=MessageLink)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """CoAP over TCP: how many connections there may be, together and of one address, and after which silence one is
    asked whether it stands (0: never)."""

    connections: int = 10_000
    per_address: int = 1_000
    ping_after_s: float = 600.0

    def limits(self) -> StreamLimits:
        """As the engine takes them."""
        return StreamLimits(
            connections_total=self.connections,
            connections_per_address=self.per_address,
            ping_after_s=self.ping_after_s or None,
        )


def within_open_files(*wanted: StreamSettings | None) -> tuple[StreamSettings | None, ...]:
    """The same, with no more connections than this process may have: where that is less than they want, each has its
    share. The limit of open files is raised for them."""
    connections = sum(each.connections for each in wanted if each is not None)
    allowed = raise_open_files(connections) if connections else 0
    if allowed >= connections:
        return wanted
    log.warning(
        "coap_tcp.few_files",
        connections=allowed,
        wanted=connections,
        meaning="the limit of open files allows no more connections; raise it (ulimit -Hn)",
    )
    return tuple(
        None if each is None else replace(each, connections=max(1, each.connections * allowed // connections))
        for each in wanted
    )


class StreamListener(Generic[L]):
    """``link`` makes the way from messages to `app`; ``settings`` bounds connections. ``opened`` is told of each before
    it is taken; `coap.events.ConnectionLost` or `coap.events.Refused` is its end."""

    def __init__(
        self,
        *,
        link: MakeLink[L],
        settings: StreamSettings,
        entropy: Entropy,
        clock: SystemClock,
        bodies: Mapping[tuple[str, ...], int],
        oscore: bool = False,
        limits: Limits | None = None,
        opened: Callable[[PeerId], None] = lambda peer: None,
    ) -> None:
        self._opened = opened
        self._engine = StreamEndpoint(
            entropy, limits, streams=settings.limits(), body_bytes_by_path=bodies, oscore=oscore
        )
        self.link = link(lambda action: self.driver.submit(action), self._engine.is_connected)
        self.driver: StreamDriver[Event, StreamAction] = StreamDriver(
            self._engine, self.link.handle, clock=clock, adopt=self._adopt, is_full=self._engine.is_full
        )

    def _adopt(self, peer: PeerId, accepted: bool) -> AdoptConnection:
        self._opened(peer)
        return adopt(peer, accepted)

    def hang_up(self, peer: PeerId, why: str) -> None:
        """End a connection; its device is told ``why``."""
        self.driver.submit(CloseConnection(peer, why))

    def close(self) -> None:
        """Take leave of connections, send what waits, close."""
        self.driver.submit(ReleaseConnections())
        self.driver.close()

    def count(self, figures: Transport) -> None:
        """Add what was counted."""
        add_counts(figures.refused, self.link.refused)
        figures.connections = self._engine.peers
        figures.connections_opened = self._engine.opened
        figures.connections_ended = dict(self._engine.lost)
        if self.driver.slow:
            figures.connections_ended["slow-reader"] = self.driver.slow
        figures.stream_bytes = {"in": self.driver.received, "out": self.driver.sent}


def adopt(peer: PeerId, accepted: bool) -> AdoptConnection:
    """What tells the engine of a connection."""
    return AdoptConnection(peer, Role.ACCEPTED if accepted else Role.INITIATED)
