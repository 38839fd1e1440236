"""Where devices are listened to: a CoAP engine for each transport, its driver, its sockets and its link to `app`."""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.meters import Meters, Transport
from stellwerk.app.ports import DecidingStore
from stellwerk.app.tasks import Tasks
from stellwerk.app.uplinks import Uplinks
from stellwerk.coap.actions import Action
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import Event
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, Limits
from stellwerk.coap.tcp.connection import Role, StreamLimits
from stellwerk.coap.tcp.endpoint import AdoptConnection, ReleaseConnections, StreamAction, StreamEndpoint
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Driver
from stellwerk.net.open_files import raise_open_files
from stellwerk.net.tcp import StreamDriver
from stellwerk.net.udp import CannotBind, UdpSocket
from stellwerk.southbound.link import ConnectionLost, Finished, Link, Reacted
from stellwerk.southbound.links import Links

log = structlog.get_logger(__name__)

REGISTER_BODY_BYTES: Final = 65_536
SEND_BODY_BYTES: Final = 65_536
_BODIES: Final[dict[tuple[str, ...], int]] = {("rd",): REGISTER_BODY_BYTES, ("dp",): SEND_BODY_BYTES}
_FREE_PORT_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """CoAP over TCP: how many connections there may be, together and of one address, and after which silence one is
    asked whether it stands (0: never)."""

    connections: int = 10_000
    per_address: int = 1_000
    ping_after_s: float = 600.0


class Listeners:
    """``links`` is the way down. `connect` closes the circle with `app`, then `listen` binds. ``streams`` None: no
    TCP."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        remembers: bool,
        tasks: Tasks,
        entropy: Entropy,
        clock: SystemClock,
        brake: Brake,
        meters: Meters,
        streams: StreamSettings | None,
        ask_echo: bool = True,
    ) -> None:
        """``remembers``: there is a recent past to ask about. ``ask_echo``: of unproven addresses (RFC 9175)."""
        self._engine = Endpoint(
            entropy,
            Limits(ask_echo=ask_echo),
            ask_until=clock.now() + EXCHANGE_LIFETIME_S if remembers else None,
            body_bytes_by_path=_BODIES,
        )

        def link(submit: Callable[[Action], None], reaches: Callable[[PeerId], bool] | None = None) -> Link:
            return Link(
                submit=submit,
                store=store,
                tasks=tasks,
                entropy=entropy,
                clock=clock,
                brake=brake,
                meters=meters,
                reaches=reaches,
            )

        self._link = link(lambda action: self._driver.submit(action))
        self._driver: Driver[Event, Action] = Driver(self._engine, self._link.handle, clock=clock)
        by_transport = {"udp": self._link}
        self._streams: tuple[StreamEndpoint, StreamDriver[Event, StreamAction], Link] | None = None
        if streams is not None:
            connections = raise_open_files(streams.connections)
            if connections < streams.connections:
                log.warning(
                    "coap_tcp.few_files",
                    connections=connections,
                    wanted=streams.connections,
                    meaning="the limit of open files allows no more connections; raise it (ulimit -Hn)",
                )
            limits = StreamLimits(
                connections_total=max(1, connections),
                connections_per_address=streams.per_address,
                ping_after_s=streams.ping_after_s or None,
            )
            engine = StreamEndpoint(entropy, streams=limits, body_bytes_by_path=_BODIES)
            stream_link = link(lambda action: driver.submit(action), engine.is_connected)
            driver: StreamDriver[Event, StreamAction] = StreamDriver(
                engine, stream_link.handle, clock=clock, adopt=_adopt, is_full=engine.is_full
            )
            self._streams = engine, driver, stream_link
            by_transport["tcp"] = stream_link
        self.links = Links(by_transport, clock=clock)

    def connect(
        self,
        uplinks: Uplinks,
        observations: Observations,
        finished: Finished,
        reacted: Reacted,
        connection_lost: ConnectionLost,
    ) -> None:
        """Who gets what comes up."""
        self.links.connect(uplinks, observations, finished, reacted, connection_lost)

    async def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Bind ``port`` of ``host``, where it is empty of all addresses, for every transport alike; where that became.
        With port 0 all take the same free one. Raises `CannotBind`."""
        for _ in range(_FREE_PORT_TRIES if port == 0 and self._streams is not None else 1):
            bound = self._bind_datagrams(host, port)
            try:
                if self._streams is not None:
                    for each in bound:
                        await self._streams[1].listen(each.host, each.port)
            except CannotBind as error:
                trouble = error
                for each in bound:
                    self._driver.remove(each)
                self._streams[1].stop_listening()  # type: ignore[index]
                continue
            return [(each.host, each.port) for each in bound]
        raise trouble

    def _bind_datagrams(self, host: str, port: int) -> list[UdpSocket]:
        found: list[UdpSocket] = []
        for each in [host] if host else ["0.0.0.0", "::"]:
            try:
                bound = UdpSocket(each, port)
            except CannotBind:
                if host or each != "::" or _has_ipv6():
                    raise
                continue
            # With port 0 the second family takes the number that the first one got.
            port = bound.port
            self._driver.add(bound)
            found.append(bound)
        return found

    def missing(self) -> list[str]:
        """What keeps devices from reaching us, once `listen` is done."""
        if self._streams is not None and not self._streams[1].is_listening:
            return ["CoAP over TCP does not listen"]
        return []

    def stop_reading(self) -> None:
        """Take nothing more in, but keep sending."""
        self._driver.stop_reading()
        if self._streams is not None:
            self._streams[1].stop_reading()

    def close(self) -> None:
        """Send what waits, take leave of connections, close."""
        self._driver.close()
        if self._streams is not None:
            self._streams[1].submit(ReleaseConnections())
            self._streams[1].close()

    def transport(self) -> Transport:
        """What was counted."""
        driver, engine = self._driver, self._engine
        figures = Transport(
            received=driver.received,
            sent=driver.sent,
            lost=driver.lost,
            overflowed=driver.overflowed(),
            duplicates=engine.duplicates,
            retransmissions=engine.retransmissions,
            peers=engine.peers,
            refused=dict(self._link.refused),
        )
        if self._streams is not None:
            streams, stream_driver, link = self._streams
            for reason, count in link.refused.items():
                figures.refused[reason] = figures.refused.get(reason, 0) + count
            figures.connections = streams.peers
            figures.connections_opened = streams.opened
            figures.connections_ended = dict(streams.lost)
            if stream_driver.slow:
                figures.connections_ended["slow-reader"] = stream_driver.slow
            figures.stream_bytes = {"in": stream_driver.received, "out": stream_driver.sent}
        return figures


def _adopt(peer: PeerId, accepted: bool) -> AdoptConnection:
    return AdoptConnection(peer, Role.ACCEPTED if accepted else Role.INITIATED)


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False
