"""What the TLS engine tells becomes calls of whoever keeps its connections, and the answers become actions."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, assert_never

from stellwerk.app.handlers.handshakes import Handshakes
from stellwerk.coap.events import Event
from stellwerk.coap.tcp.endpoint import CloseConnection, StreamAction
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls import events
from stellwerk.net.tls import TLS_EVENTS, TlsAction, TlsEvent
from stellwerk.southbound.handshake_peers import HandshakePeers, in_order
from stellwerk.southbound.secure_peers import MessageLink
from stellwerk.southbound.trust import TrustAnchors

Submit: TypeAlias = Callable[[StreamAction | TlsAction], None]


class ConnectionKeeper(Protocol):
    """Whose each connection is: `app.handlers.tls_connections` of device management,
    `app.handlers.bootstrap_connections` of bootstrapping. It answers through `app.handlers.tls_connections.TlsLink`."""

    @property
    def handshakes(self) -> Handshakes:
        """Who makes a handshake."""
        ...

    def established(self, peer: PeerId, identity: SecureIdentity, device_id: DeviceId, at: Instant) -> None:
        """A handshake is complete."""
        ...

    def ended(self, peer: PeerId, reason: str, detail: str) -> None:
        """The connection is no more."""
        ...


class TlsPeers(HandshakePeers):
    """Implements `app.handlers.tls_connections.TlsLink`. ``submit`` reaches the engines (`net.tls.TlsStack`), ``link``
    gets what the inner one tells. ``check_dates``: whether dates of certificates are looked at."""

    def __init__(self, *, submit: Submit, link: MessageLink, trust: TrustAnchors, check_dates: bool) -> None:
        super().__init__(submit, trust, check_dates)
        self._submit = submit
        self._link = link
        self._connections: ConnectionKeeper

    def connect(self, connections: ConnectionKeeper) -> None:
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
