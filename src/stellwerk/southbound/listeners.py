"""Where devices are listened to: a CoAP engine for each transport, its driver, its sockets and its link to `app`."""

from collections.abc import Callable
from typing import Final

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
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.dtls.tickets import TicketKey
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Driver
from stellwerk.net.udp import CannotBind
from stellwerk.southbound.link import ConnectionLost, Finished, Link, Reacted
from stellwerk.southbound.links import Links
from stellwerk.southbound.secure_listener import SecureListener, SecureSettings, ServerIdentities
from stellwerk.southbound.sockets import listen_alike
from stellwerk.southbound.stream_listener import StreamListener, StreamSettings
from stellwerk.southbound.tls_listener import TlsListener

REGISTER_BODY_BYTES: Final = 65_536
SEND_BODY_BYTES: Final = 65_536
_BODIES: Final[dict[tuple[str, ...], int]] = {("rd",): REGISTER_BODY_BYTES, ("dp",): SEND_BODY_BYTES}


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
        self.streams: StreamListener[Link] | None = None
        if streams is not None:
            self.streams = StreamListener(
                link=link, settings=streams, entropy=entropy, clock=clock, bodies=_BODIES, oscore=oscore
            )
            by_transport["tcp"] = self.streams.link
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
        self.tls: TlsListener[Link] | None = None
        if tls is not None and secure is not None and keys is not None:
            self.tls = TlsListener(
                link=link,
                streams=tls,
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
        return await listen_alike(self._driver, None if self.streams is None else self.streams.driver, host, port)

    async def listen_secure(self, host: str, port: int) -> list[tuple[str, int]]:
        """The same for DTLS and TLS, with a port of their own. Raises `CannotBind`."""
        assert self.secure is not None
        try:
            return await listen_alike(self.secure.driver, None if self.tls is None else self.tls.driver, host, port)
        except CannotBind as error:
            # Whoever had no secure port so far does not know of it.
            setting = "DTLS: STELLWERK_COAPS_PORT is a port or off"
            if error.protocol == "TCP":
                setting = "TLS: STELLWERK_COAP_TLS is on or off"
            hint = f"{error.reason} (for CoAP over {setting})"
            raise CannotBind(error.host, error.port, hint, error.protocol) from error

    def missing(self) -> list[str]:
        """What keeps devices from reaching us, once `listen` is done."""
        if self.streams is not None and not self.streams.driver.is_listening:
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
        if self.streams is not None:
            self.streams.driver.stop_reading()

    def close(self) -> None:
        """Send what waits, take leave of connections, close."""
        self._driver.close()
        if self.secure is not None:
            self.secure.driver.close()
        if self.tls is not None:
            self.tls.close()
        if self.streams is not None:
            self.streams.close()

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
            self.tls.count(figures)
        if self.streams is not None:
            self.streams.count(figures)
        return figures
