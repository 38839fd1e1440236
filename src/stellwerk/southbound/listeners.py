"""Where devices are listened to: a CoAP engine for each transport, its driver, its sockets and its link to `app`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.channels import SecureChannels
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
from stellwerk.dtls.tickets import TicketKey
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Driver
from stellwerk.net.open_files import raise_open_files
from stellwerk.net.tcp import StreamDriver
from stellwerk.net.udp import CannotBind, UdpSocket
from stellwerk.southbound.link import ConnectionLost, Finished, Link, Reacted
from stellwerk.southbound.links import Links
from stellwerk.southbound.secure_listener import SecureListener, SecureSettings, ServerIdentities, add_counts
from stellwerk.southbound.sockets import bind_datagrams
from stellwerk.southbound.tls_listener import TlsListener

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
        secure: SecureSettings | None = None,
        keys: ServerIdentities | None = None,
        ticket_key: TicketKey | None = None,
        id_secret: bytes | None = None,
        ask_echo: bool = True,
        tls: StreamSettings | None = None,
        oscore: bool = True,
    ) -> None:
        """``remembers``: there is a recent past to ask about. ``secure``: None for no DTLS, else with the server's
        ``keys``, that of its tickets, and the secret of its session ids. ``ask_echo``: of unproven addresses
        (RFC 9175). ``tls``: bounds of connections behind TLS, None for none; it has the keys and the bounds of
        handshakes that DTLS has. ``oscore``: messages may be protected with it; who knows the contexts hears so by
        `links`."""
        ask_until = clock.now() + EXCHANGE_LIFETIME_S if remembers else None
        self._engine = Endpoint(
            entropy,
            Limits(ask_echo=ask_echo),
            ask_until=ask_until,
            body_bytes_by_path=_BODIES,
            oscore=oscore,
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
        wanted = [each for each in (streams, tls) if each is not None]
        connections = sum(each.connections for each in wanted)
        allowed = raise_open_files(connections) if connections else 0
        if allowed < connections:
            log.warning(
                "coap_tcp.few_files",
                connections=allowed,
                wanted=connections,
                meaning="the limit of open files allows no more connections; raise it (ulimit -Hn)",
            )
        if streams is not None:
            limits = _stream_limits(streams, allowed // len(wanted))
            engine = StreamEndpoint(entropy, streams=limits, body_bytes_by_path=_BODIES, oscore=oscore)
            stream_link = link(lambda action: driver.submit(action), engine.is_connected)
            driver: StreamDriver[Event, StreamAction] = StreamDriver(
                engine, stream_link.handle, clock=clock, adopt=_adopt, is_full=engine.is_full
            )
            self._streams = engine, driver, stream_link
            by_transport["tcp"] = stream_link
        self.secure: SecureListener[Link] | None = None
        if secure is not None and keys is not None and ticket_key is not None:
            self.secure = SecureListener(
                link=link,
                settings=secure,
                keys=keys,
                entropy=entropy,
                clock=clock,
                meters=meters.secure,
                ticket_key=ticket_key,
                id_secret=id_secret,
                ask_until=ask_until,
                bodies=_BODIES,
                oscore=oscore,
            )
            by_transport["dtls"] = self.secure.link
        self.tls: TlsListener | None = None
        if tls is not None and secure is not None and keys is not None:
            self.tls = TlsListener(
                link=link,
                streams=_stream_limits(tls, allowed // len(wanted)),
                settings=secure,
                keys=keys,
                entropy=entropy,
                clock=clock,
                meters=meters.tls,
                bodies=_BODIES,
                oscore=oscore,
            )
            by_transport["tls"] = self.tls.link
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

    def connect_channels(self, channels: SecureChannels) -> None:
        """Who says whose secure sessions, connections and OSCORE contexts are."""
        if self.secure is not None and channels.sessions is not None:
            self.secure.peers.connect(channels.sessions)
        if self.tls is not None and channels.connections is not None:
            self.tls.peers.connect(channels.connections)
        if channels.contexts is not None:
            self.links.speak_oscore(channels.contexts)

    async def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Bind ``port`` of ``host``, where it is empty of all addresses, for every transport alike; where that became.
        With port 0 all take the same free one. Raises `CannotBind`."""
        for _ in range(_FREE_PORT_TRIES if port == 0 and self._streams is not None else 1):
            bound = bind_datagrams(self._driver, host, port)
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

    async def listen_secure(self, host: str, port: int) -> list[tuple[str, int]]:
        """The same for DTLS and TLS, with a port of their own. Raises `CannotBind`."""
        assert self.secure is not None
        for _ in range(_FREE_PORT_TRIES if port == 0 and self.tls is not None else 1):
            bound: list[UdpSocket] = []
            try:
                bound = bind_datagrams(self.secure.driver, host, port)
                if self.tls is not None:
                    for each in bound:
                        await self.tls.driver.listen(each.host, each.port)
            except CannotBind as error:
                trouble = error
                for each in bound:
                    self.secure.driver.remove(each)
                if self.tls is not None:
                    self.tls.driver.stop_listening()
                continue
            return [(each.host, each.port) for each in bound]
        # Whoever had no secure port so far does not know of it.
        setting = "DTLS: STELLWERK_COAPS_PORT is a port or off"
        if trouble.protocol == "TCP":
            setting = "TLS: STELLWERK_COAP_TLS is on or off"
        hint = f"{trouble.reason} (for CoAP over {setting})"
        raise CannotBind(trouble.host, trouble.port, hint, trouble.protocol) from trouble

    def missing(self) -> list[str]:
        """What keeps devices from reaching us, once `listen` is done."""
        if self._streams is not None and not self._streams[1].is_listening:
            return ["CoAP over TCP does not listen"]
        if self.secure is not None and not self.secure.driver.is_reading:
            return ["CoAP over DTLS does not listen"]
        if self.tls is not None and not self.tls.driver.is_listening:
            return ["CoAP over TLS does not listen"]
        return []

    def stop_reading(self) -> None:
        """Take nothing more in, but keep sending."""
        self._driver.stop_reading()
        if self.secure is not None:
            self.secure.driver.stop_reading()
        if self.tls is not None:
            self.tls.driver.stop_reading()
        if self._streams is not None:
            self._streams[1].stop_reading()

    def close(self) -> None:
        """Send what waits, take leave of connections, close."""
        self._driver.close()
        if self.secure is not None:
            self.secure.driver.close()
        if self.tls is not None:
            self.tls.close()
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
        if self.secure is not None:
            self.secure.count(figures)
        if self.tls is not None:
            add_counts(figures.refused, self.tls.link.refused)
            self.tls.count(figures)
        if self._streams is not None:
            streams, stream_driver, link = self._streams
            add_counts(figures.refused, link.refused)
            figures.connections = streams.peers
            figures.connections_opened = streams.opened
            figures.connections_ended = dict(streams.lost)
            if stream_driver.slow:
                figures.connections_ended["slow-reader"] = stream_driver.slow
            figures.stream_bytes = {"in": stream_driver.received, "out": stream_driver.sent}
        return figures


def _stream_limits(settings: StreamSettings, connections: int) -> StreamLimits:
    return StreamLimits(
        connections_total=max(1, min(settings.connections, connections)),
        connections_per_address=settings.per_address,
        ping_after_s=settings.ping_after_s or None,
    )


def _adopt(peer: PeerId, accepted: bool) -> AdoptConnection:
    return AdoptConnection(peer, Role.ACCEPTED if accepted else Role.INITIATED)
