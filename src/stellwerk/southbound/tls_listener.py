"""CoAP over TLS: both engines as one, their driver, and the two links to `app` (messages, and whose they are)."""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import structlog

from stellwerk.app.meters import SecureMeters, Transport
from stellwerk.coap.events import Event
from stellwerk.coap.parameters import Limits
from stellwerk.coap.tcp.endpoint import ReleaseConnections, StreamAction, StreamEndpoint
from stellwerk.core.entropy import Entropy
from stellwerk.dtls.actions import ReplaceIdentity
from stellwerk.net.clock import SystemClock
from stellwerk.net.tcp import StreamDriver
from stellwerk.net.tls import TlsAction, TlsEvent, TlsLimits, TlsStack
from stellwerk.southbound.secure_listener import MakeLink, Rates, SecureSettings, ServerIdentities, add_counts
from stellwerk.southbound.secure_peers import MessageLink
from stellwerk.southbound.stream_listener import StreamSettings, adopt
from stellwerk.southbound.tls_peers import TlsPeers

log = structlog.get_logger(__name__)

_HALF_OPEN_SHARE: Final = 4
"""One address may have this part of all handshakes under way."""


L = TypeVar("L", bound=MessageLink)


class TlsListener(Generic[L]):
    """``link`` makes the way from messages to `app`; ``streams`` bounds connections, ``settings`` handshakes."""

    def __init__(
        self,
        *,
        link: MakeLink[L],
        streams: StreamSettings,
        settings: SecureSettings,
        keys: ServerIdentities,
        entropy: Entropy,
        clock: SystemClock,
        meters: SecureMeters,
        bodies: Mapping[tuple[str, ...], int],
        oscore: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._keys = keys
        self._coap = StreamEndpoint(entropy, limits, streams=streams.limits(), body_bytes_by_path=bodies, oscore=oscore)
        half_open = min(settings.half_open, streams.connections)
        self.stack: TlsStack[Event, StreamAction] = TlsStack(
            self._coap,
            entropy,
            keys.identity,
            cbc=settings.cbc,
            limits=TlsLimits(
                connections=streams.connections,
                half_open=half_open,
                half_open_per_address=max(1, half_open // _HALF_OPEN_SHARE),
            ),
            admission=Rates(settings, meters),
            is_full=self._coap.is_full,
        )
        self.link = link(lambda action: self.driver.submit(action), self._coap.is_connected)
        self.peers = TlsPeers(
            submit=lambda action: self.driver.submit(action),
            link=self.link,
            trust=keys,
            check_dates=not settings.clockless,
        )
        self.driver: StreamDriver[Event | TlsEvent, StreamAction | TlsAction] = StreamDriver(
            self.stack,
            self.peers.handle,
            clock=clock,
            adopt=adopt,
            is_full=self.stack.is_full,
            transport="tls",
        )
        if not self.stack.has_psk:
            log.warning("coap_tls.no_psk", meaning="the TLS library here offers no pre-shared keys: certificates only")
        if not self.stack.has_short_tags:
            log.warning("coap_tls.no_ccm_8", meaning="the TLS library here offers no suites of CCM_8: others only")
        if not self.stack.has_certificate:
            log.warning("coap_tls.no_certificate", meaning="the server has no certificate: pre-shared keys only")

    def offers(self) -> str:
        """What clients may prove themselves with, for people."""
        ways = [("certificates", self.stack.has_certificate), ("pre-shared keys", self.stack.has_psk)]
        return " and ".join(name for name, is_there in ways if is_there) or "nothing"

    def replace_identity(self) -> None:
        """The server's keys were replaced: connections from now on see them."""
        identity = self._keys.identity
        if identity is not None:
            self.driver.submit(ReplaceIdentity(identity))

    def close(self) -> None:
        """Take leave of connections, send what waits, close."""
        self.driver.submit(ReleaseConnections())
        self.driver.close()

    def count(self, figures: Transport) -> None:
        """Add what was counted."""
        add_counts(figures.refused, self.link.refused)
        figures.tls_connections = self._coap.peers
        figures.tls_opened = self.stack.opened
        figures.tls_ended = dict(self._coap.lost)
        if self.driver.slow:
            figures.tls_ended["slow-reader"] = self.driver.slow
        figures.tls_handshakes = self.stack.half_open
        figures.tls_bytes = {"in": self.driver.received, "out": self.driver.sent}
        figures.tls_dropped = dict(self.peers.dropped)
