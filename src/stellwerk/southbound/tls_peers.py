"""What the TLS engine tells becomes calls of `app.handlers.tls_connections`, and its answers become actions."""

from collections.abc import Callable
from typing import TypeAlias, assert_never, cast

import structlog

from stellwerk.app.handlers.tls_connections import TlsConnections
from stellwerk.coap.events import Event
from stellwerk.coap.tcp.endpoint import CloseConnection, StreamAction
from stellwerk.core.identity import RawKeyIdentity
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls import actions, events
from stellwerk.net.tls import TLS_EVENTS, TlsAction, TlsEvent
from stellwerk.southbound.link import Link
from stellwerk.southbound.trust import TrustAnchors, judge

log = structlog.get_logger(__name__)

Submit: TypeAlias = Callable[[StreamAction | TlsAction], None]


class TlsPeers:
    """Implements `app.handlers.tls_connections.TlsLink`. ``submit`` reaches the engines (`net.tls.TlsStack`), ``link``
    gets what the inner one tells. ``check_dates``: whether dates of certificates are looked at."""

    def __init__(self, *, submit: Submit, link: Link, trust: TrustAnchors, check_dates: bool) -> None:
        self._submit = submit
        self._link = link
        self._trust = trust
        self._check_dates = check_dates
        self._connections: TlsConnections
        self.dropped: dict[str, int] = {}
        """Connections that were turned away, or said nothing, by reason."""

    def connect(self, connections: TlsConnections) -> None:
        """Close the circle with `app`."""
        self._connections = connections

    # -- up --

    def handle(self, batch: list[Event | TlsEvent], at: Instant) -> None:
        """Take the events of one round of the driver, in order."""
        messages: list[Event] = []
        for event in batch:
            if type(event) not in TLS_EVENTS:
                messages.append(cast("Event", event))
                continue
            if messages:
                self._link.handle(messages, at)
                messages = []
            try:
                self._handle_one(cast("TlsEvent", event), at)
            except Exception:
                log.exception("event.failed", event_type=type(event).__name__)
        if messages:
            self._link.handle(messages, at)

    def _handle_one(self, event: TlsEvent, at: Instant) -> None:
        connections = self._connections
        match event:
            case events.PskQuestion():
                connections.handshakes.asked_for_key(event.handshake, event.identity, at)
            case events.CertificateQuestion(identity=identity):
                # TLS has no raw public keys here; DTLS has.
                assert not isinstance(identity, RawKeyIdentity)
                trust = judge(identity, self._trust.anchors, at, self._check_dates)
                connections.handshakes.asked_about_certificate(event.handshake, identity, trust, at)
            case events.SessionEstablished():
                connections.established(event.peer, event.identity, DeviceId(event.device), at)
            case events.SessionEnded():
                connections.ended(event.peer, event.reason, event.detail)
            case events.HandshakeFailed():
                connections.handshakes.failed(event.address, event.reason, event.detail, event.identity, at)
            case events.Dropped():
                self.dropped[event.reason] = self.dropped.get(event.reason, 0) + 1
            case _:
                assert_never(event)

    # -- down --

    def give_key(self, handshake: int, key: bytes, device_id: DeviceId) -> None:
        self._submit(actions.GivePsk(handshake, key, device_id))

    def accept(self, handshake: int, device_id: DeviceId) -> None:
        self._submit(actions.AcceptPeer(handshake, device_id))

    def refuse(self, handshake: int, reason: str, detail: str) -> None:
        self._submit(actions.RefusePeer(handshake, reason, detail))

    def close(self, peer: PeerId, why: str, *, is_abort: bool = False) -> None:
        self._submit(CloseConnection(peer, why, is_abort))

    def forget_handshakes(self, device_id: DeviceId) -> None:
        self._submit(actions.ForgetHandshakes(device_id))
