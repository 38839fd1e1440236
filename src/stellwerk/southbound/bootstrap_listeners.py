"""Where devices that are to be bootstrapped are listened to: on ports of their own, plain and over DTLS, each with its
CoAP engine, its driver and its link to `app`. The server's keys there are not those of device management (SEC-8)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.meters import SecureMeters, Transport
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
from stellwerk.southbound.secure_listener import SecureListener, SecureSettings, ServerIdentities, add_counts
from stellwerk.southbound.sockets import bind_datagrams
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
        meters: SecureMeters,
        ask_echo: bool = True,
        oscore: bool = True,
    ) -> None:
        """``plain``: whether there is CoAP without security.
        ``secure``: None for no DTLS, else with the bootstrap server's ``keys``. ``ask_echo``: of unproven addresses
        (RFC 9175). ``oscore``: messages may be protected with it; who knows the contexts hears so by `links`."""
        by_transport: dict[str, BootstrapLink] = {}
        self._plain: tuple[Endpoint, Driver[Event, Action], BootstrapLink] | None = None
        if plain:
            engine = Endpoint(
                entropy,
                Limits(body_bytes=REQUEST_BODY_BYTES, response_body_bytes=ANSWER_BODY_BYTES, ask_echo=ask_echo),
                oscore=oscore,
            )
            link = BootstrapLink(submit=lambda action: driver.submit(action), entropy=entropy, clock=clock)
            driver: Driver[Event, Action] = Driver(engine, link.handle, clock=clock)
            self._plain = engine, driver, link
            by_transport["udp"] = link
        self.secure: SecureListener[BootstrapLink] | None = None
        if secure is not None and keys is not None:

            def make(
                submit: Callable[[Action], None], reaches: Callable[[PeerId], bool] | None = None
            ) -> BootstrapLink:
                return BootstrapLink(
                    submit=submit,
                    entropy=entropy,
                    clock=clock,
                    reaches=reaches,
                    close=lambda peer: listener.peers.close(peer),
                )

            listener = SecureListener(
                link=make,
                settings=replace(secure, sessions=min(secure.sessions, MOST_SESSIONS)),
                keys=keys,
                entropy=entropy,
                clock=clock,
                meters=meters,
                ticket_key=None,
                id_secret=None,
                ask_until=None,
                bodies={("bs",): REQUEST_BODY_BYTES, EST: LONGEST_REQUEST},
                oscore=oscore,
            )
            self.secure = listener
            by_transport["dtls"] = listener.link
        self.links = BootstrapLinks(by_transport)

    def connect(self, bootstrapping: Bootstrapping) -> None:
        """Who gets what comes up."""
        self.links.connect(bootstrapping)

    def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Bind ``port`` of ``host``, where it is empty of all addresses; where that became. Raises `CannotBind`."""
        assert self._plain is not None
        return _bind(self._plain[1], host, port, "STELLWERK_BOOTSTRAP_COAP_PORT")

    def listen_secure(self, host: str, port: int) -> list[tuple[str, int]]:
        """The same for DTLS, with a port of its own. Raises `CannotBind`."""
        assert self.secure is not None
        return _bind(self.secure.driver, host, port, "STELLWERK_BOOTSTRAP_COAPS_PORT")

    def missing(self) -> list[str]:
        """What keeps devices from reaching the bootstrap server, once it listens."""
        missing = []
        if self._plain is not None and not self._plain[1].is_reading:
            missing.append("the bootstrap server does not listen")
        if self.secure is not None and not self.secure.driver.is_reading:
            missing.append("the bootstrap server does not listen for DTLS")
        return missing

    def stop_reading(self) -> None:
        """Take nothing more in, but keep sending."""
        for driver in self._drivers():
            driver.stop_reading()

    def close(self) -> None:
        """Send what waits, close."""
        for driver in self._drivers():
            driver.close()

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
        return figures

    def _drivers(self) -> list[Driver[Any, Any]]:
        found: list[Driver[Any, Any]] = []
        if self._plain is not None:
            found.append(self._plain[1])
        if self.secure is not None:
            found.append(self.secure.driver)
        return found


def _bind(driver: Driver[Any, Any], host: str, port: int, setting: str) -> list[tuple[str, int]]:
    try:
        bound = bind_datagrams(driver, host, port)
    except CannotBind as error:
        # Whoever had no bootstrap server so far does not know of it.
        hint = f"{error.reason} (for the bootstrap server: {setting} is a port or off)"
        raise CannotBind(error.host, error.port, hint) from error
    return [(each.host, each.port) for each in bound]
