"""What the TLS engine tells becomes calls of `app.handlers.tls_connections`, and its answers become actions."""

from collections.abc import Callable
from typing import TypeAlias, assert_never

from stellwerk.app.handlers.tls_connections import TlsConnections
from stellwerk.coap.events import Event
from stellwerk.coap.tcp.endpoint import CloseConnection, StreamAction
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls import events
from stellwerk.net.tls import TLS_EVENTS, TlsAction, TlsEvent
from stellwerk.southbound.handshake_peers import HandshakePeers, in_order
from stellwerk.southbound.link import Link
from stellwerk.southbound.trust import TrustAnchors

Submit: TypeAlias = Callable[[StreamAction | TlsAction], None]


class TlsPeers(HandshakePeers):
    """Implements `app.handlers.tls_connections.TlsLink`. ``submit`` reaches the engines (`net.tls.TlsStack`), ``link``
    gets what the inner one tells. ``check_dates``: whether dates of certificates are looked at."""

    def __init__(self, *, submit: Submit, link: Link, trust: TrustAnchors, check_dates: bool) -> None:
        super().__init__(submit, trust, check_dates)
        self._submit = submit
        self._link = link
        self._connections: TlsConnections

    def connect(self, connections: TlsConnections) -> None:
        """Close the circle with `app`."""
        self._connections = connections

    # -- up --

    def handle(self, batch: list[Event | TlsEvent], at: Instant) -> None:
        """Take the events of one round of the driver, in order."""
        in_order(batch, TLS_EVENTS, self._handle_one, self._link.handle, at)

    def _handle_one(self, event: TlsEvent, at: Instant) -> None:
        connections = self._connections
        match event:
            case events.PskQuestion() | events.CertificateQuestion():
                self.ask(event, connections.handshakes, at)
            case events.SessionEstablished():
                connections.established(event.peer, event.identity, DeviceId(event.device), at)
            case events.SessionEnded():
                connections.ended(event.peer, event.reason, event.detail)
            case events.HandshakeFailed():
                connections.handshakes.failed(event.address, event.reason, event.detail, event.identity, at)
            case events.Dropped():
                self.count(event)
            case _:
                assert_never(event)

    # -- down --

    def close(self, peer: PeerId, why: str, *, is_abort: bool = False) -> None:
        self._submit(CloseConnection(peer, why, is_abort))
