"""Where devices that are to be bootstrapped are listened to: on ports of their own, over UDP and TCP, DTLS and TLS,
each with its CoAP engine, its driver and its link to `app`. The server's keys there are not those of device management
(SEC-8)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.meters import Meters, Transport
from stellwerk.coap.actions import Action
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import Event
from stellwerk.coap.parameters import Limits
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.device.bootstrap.enrolment import LONGEST_REQUEST
from stellwerk.lwm2m.bootstrap import BootstrapOperation
from stellwerk.net.clock import SystemClock
from stellwerk.net.driver import Driver
from stellwerk.net.udp import CannotBind
from stellwerk.southbound.bootstrap_link import BootstrapLink, Bootstrapping
from stellwerk.southbound.oscore_peers import OscorePeers
from stellwerk.southbound.secure_listener import MakeLink, SecureListener, SecureSettings, ServerIdentities, add_counts
from stellwerk.southbound.sockets import listen_alike
from stellwerk.southbound.stream_listener import StreamListener, StreamSettings
from stellwerk.southbound.tls_listener import TlsListener
from stellwerk.southbound.translate_bootstrap import EST

REQUEST_BODY_BYTES: Final = 1_024
"""Of what a device asks: it has no payload."""
ANSWER_BODY_BYTES: Final = 65_536
"""Of what it answers to a Discover or a Read."""
MOST_SESSIONS: Final = 100_000
"""Secure sessions in memory: each ends soon after its bootstrapping."""


class BootstrapLinks:
    """Implements `app.device_ports.BootstrapLink` over the links of ``by_transport``, at least one."""

    def __init__(self, by_transport: dict[str, BootstrapLink]) -> None:
        self._by_transport = by_transport

    def connect(self, bootstrapping: Bootstrapping) -> None:
        """Close the circle with `app`."""
        for link in self._by_transport.values():
            link.connect(bootstrapping)

    def speak_oscore(self, contexts: OscoreContexts) -> None:
        """Messages may be protected with OSCORE; ``contexts`` knows whose."""
        for link in self._by_transport.values():
            link.oscore = OscorePeers(submit=link.submit, contexts=contexts)

    def speaks(self, transport: str) -> bool:
        """Whether there is an engine for peers of ``transport``."""
        return transport in self._by_transport

    def send(self, handle: int, peer: PeerId, operation: BootstrapOperation) -> None:
        self._by_transport[peer.carrier].send(handle, peer, operation)

    def cancel(self, handle: int) -> None:
        for link in self._by_transport.values():
            link.cancel(handle)

    def end(self, peer: PeerId) -> None:
        self._by_transport[peer.carrier].end(peer)

    def shut(self) -> None:
        """The server has closed."""
        for link in self._by_transport.values():
            link.shut()


class BootstrapListeners:
    """``links`` is the way down. `connect` closes the circle with `app`, then `listen` and `listen_secure` bind."""

    def __init__(
        self,
        *,
        entropy: Entropy,
        clock: SystemClock,
        plain: bool,
        secure: SecureSettings | None = None,
        keys: ServerIdentities | None = None,
        meters: Meters,
        streams: StreamSettings | None = None,
        tls: StreamSettings | None = None,
        ask_echo: bool = True,
        oscore: bool = True,
    ) -> None:
        """``plain``: whether there is CoAP without security; ``streams``: over TCP besides, None for none. ``secure``:
        None for no DTLS, else with the bootstrap server's ``keys``; ``tls``: over TLS besides. ``ask_echo``: of
        unproven addresses (RFC 9175). ``oscore``: messages may be protected with it; who knows the contexts hears so by
        `links`."""
        by_transport: dict[str, BootstrapLink] = {}
        limits = Limits(body_bytes=REQUEST_BODY_BYTES, response_body_bytes=ANSWER_BODY_BYTES, ask_echo=ask_echo)

        def making(close: Callable[[PeerId, str], None]) -> MakeLink[BootstrapLink]:
            def make(
                submit: Callable[[Action], None], reaches: Callable[[PeerId], bool] | None = None
            ) -> BootstrapLink:
                return BootstrapLink(submit=submit, entropy=entropy, clock=clock, reaches=reaches, close=close)

            return make

        self._plain: tuple[Endpoint, Driver[Event, Action], BootstrapLink] | None = None
        self.streams: StreamListener[BootstrapLink] | None = None
        if plain:
            engine = Endpoint(entropy, limits, oscore=oscore)
            link = BootstrapLink(submit=lambda action: driver.submit(action), entropy=entropy, clock=clock)
            driver: Driver[Event, Action] = Driver(engine, link.handle, clock=clock)
            self._plain = engine, driver, link
            by_transport["udp"] = link
            if streams is not None:
                listening = self.streams = StreamListener(
                    link=making(lambda peer, why: listening.hang_up(peer, why)),
                    settings=streams,
                    entropy=entropy,
                    clock=clock,
                    bodies={},
                    oscore=oscore,
                    limits=limits,
                    opened=lambda peer: listening.link.opened(peer),
                )
                by_transport["tcp"] = listening.link
        self.secure: SecureListener[BootstrapLink] | None = None
        self.tls: TlsListener[BootstrapLink] | None = None
        if secure is not None and keys is not None:
            secured = self.secure = SecureListener(
                link=making(lambda peer, why: secured.peers.close(peer)),
                settings=replace(secure, sessions=min(secure.sessions, MOST_SESSIONS)),
                keys=keys,
                entropy=entropy,
                clock=clock,
                meters=meters.secure,
                ticket_key=None,
                id_secret=None,
                ask_until=None,
                bodies={EST: LONGEST_REQUEST},
                oscore=oscore,
                coap_limits=limits,
            )
            by_transport["dtls"] = secured.link
            if tls is not None:
                behind_tls = self.tls = TlsListener(
                    link=making(lambda peer, why: behind_tls.peers.close(peer, why)),
                    streams=tls,
                    settings=secure,
                    keys=keys,
                    entropy=entropy,
                    clock=clock,
                    meters=meters.tls,
                    bodies={},
                    oscore=oscore,
                    limits=limits,
                )
                by_transport["tls"] = behind_tls.link
        self.links = BootstrapLinks(by_transport)

    def connect(self, bootstrapping: Bootstrapping) -> None:
        """Who gets what comes up."""
        self.links.connect(bootstrapping)

    async def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Bind ``port`` of ``host``, where it is empty of all addresses, for UDP and TCP alike; where that became.
        Raises `CannotBind`."""
        assert self._plain is not None
        return await _listen(self._plain[1], self.streams, host, port, "STELLWERK_BOOTSTRAP_COAP_PORT")

    async def listen_secure(self, host: str, port: int) -> list[tuple[str, int]]:
        """The same for DTLS and TLS, with a port of their own. Raises `CannotBind`."""
        assert self.secure is not None
        return await _listen(self.secure.driver, self.tls, host, port, "STELLWERK_BOOTSTRAP_COAPS_PORT")

    def replace_identity(self) -> None:
        """The bootstrap server's keys were replaced."""
        if self.secure is not None:
            self.secure.replace_identity()
        if self.tls is not None:
            self.tls.replace_identity()

    def missing(self) -> list[str]:
        """What keeps devices from reaching the bootstrap server, once it listens."""
        missing = []
        if self._plain is not None and not self._plain[1].is_reading:
            missing.append("the bootstrap server does not listen")
        if self.streams is not None and not self.streams.driver.is_listening:
            missing.append("the bootstrap server does not listen for TCP")
        if self.secure is not None and not self.secure.driver.is_reading:
            missing.append("the bootstrap server does not listen for DTLS")
        if self.tls is not None and not self.tls.driver.is_listening:
            missing.append("the bootstrap server does not listen for TLS")
        return missing

    def stop_reading(self) -> None:
        """Take nothing more in, but keep sending."""
        for driver in self._drivers():
            driver.stop_reading()
        for listener in self._over_streams():
            listener.driver.stop_reading()

    def close(self) -> None:
        """Send what waits, take leave of connections, close."""
        for driver in self._drivers():
            driver.close()
        for listener in self._over_streams():
            listener.close()
        self.links.shut()

    def transport(self) -> Transport:
        """What was counted."""
        figures = Transport()
        if self._plain is not None:
            engine, driver, link = self._plain
            figures.received, figures.sent, figures.lost = driver.received, driver.sent, driver.lost
            figures.overflowed = driver.overflowed()
            figures.duplicates, figures.retransmissions = engine.duplicates, engine.retransmissions
            figures.peers = engine.peers
            add_counts(figures.refused, link.refused)
        if self.secure is not None:
            self.secure.count(figures)
        for listener in self._over_streams():
            listener.count(figures)
        return figures

    def _drivers(self) -> list[Driver[Any, Any]]:
        found: list[Driver[Any, Any]] = []
        if self._plain is not None:
            found.append(self._plain[1])
        if self.secure is not None:
            found.append(self.secure.driver)
        return found

    def _over_streams(self) -> list[StreamListener[BootstrapLink] | TlsListener[BootstrapLink]]:
        return [each for each in (self.streams, self.tls) if each is not None]


async def _listen(
    driver: Driver[Any, Any],
    streams: StreamListener[BootstrapLink] | TlsListener[BootstrapLink] | None,
    host: str,
    port: int,
    setting: str,
) -> list[tuple[str, int]]:
    try:
        return await listen_alike(driver, None if streams is None else streams.driver, host, port)
    except CannotBind as error:
        # Whoever had no bootstrap server so far does not know of it.
        hint = f"{error.reason} (for the bootstrap server: {setting} is a port or off)"
        raise CannotBind(error.host, error.port, hint, error.protocol) from error
