"""Ways over connections (RFC 8323): those of `ways` whose peers have the transport ``tcp`` or ``tls``.

Who has the sockets opens a connection when it is asked for and says so (`Connected`, `Unconnected`); its bytes come
and go under the name of the way, and empty ones are its end. A way whose connection has ended opens another when there
is something to say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias, cast

from stellwerk.coap.actions import Action, ForgetPeer, SendRequest, VerifyPeer
from stellwerk.coap.events import ConnectionLost, Event, RequestFailed, RequestReceived, ResponseReceived
from stellwerk.coap.tcp.connection import Role
from stellwerk.coap.tcp.endpoint import AdoptConnection, CloseConnection
from stellwerk.core.entropy import Entropy
from stellwerk.core.identity import CertificateIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls import events
from stellwerk.dtls.actions import AcceptPeer, Connect, RefusePeer
from stellwerk.net.driver import Engine
from stellwerk.net.tls import TLS_EVENTS, TlsEvent
from stellwerk.net.tls_client import TlsClients
from stellwerk.sim.bootstrap.orders import OpenWay, WayEvent, WayFailed, WayLost, WayUp
from stellwerk.sim.security import RawKey, client_parameters
from stellwerk.sim.trust import Refusal

Judge: TypeAlias = Callable[[OpenWay, CertificateIdentity], Refusal | None]
"""Whether the other end of a way is its server; None: it is."""

NOT_WANTED: Final[Refusal] = ("unknown-identity", "nobody wants this handshake any more", 90)

UNCONNECTED: Final = "unconnected"
"""The reason of a `WayFailed` whose connection could not be opened."""

_HELD: Final = 32
"""Requests that wait for a connection; of more, the newest are kept."""
_GONE: Final = ("lost", "unconnected")
"""Why a request failed whose connection has ended, which is told by itself."""


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection for the way of ``peer``."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Unconnected:
    """None could be opened."""

    peer: PeerId
    why: str


ConnectionReport: TypeAlias = Connected | Unconnected


class _Stage(Enum):
    DOWN = auto()
    CONNECTING = auto()
    UP = auto()


class _Way:
    __slots__ = ("heard", "held", "lost", "order", "peer", "stage")

    def __init__(self, peer: PeerId, order: OpenWay | None) -> None:
        self.peer = peer
        self.order = order
        self.stage = _Stage.DOWN
        self.heard = False
        """The server has asked or answered something over the connection."""
        self.held: list[SendRequest] = []
        self.lost: ConnectionLost | None = None
        """What CoAP told of the end of a connection whose end by TLS is still to come."""


class StreamWays:
    """``plain`` is CoAP over TCP, ``secure`` over TLS; ``connect`` asks for a connection. Pieces of an engine: what
    ``take_events`` gives of CoAP has the names and numbers of the engine that it came from."""

    def __init__(
        self,
        plain: Engine[Event, Any],
        secure: TlsClients[Event, Any],
        *,
        connect: Callable[[PeerId], None],
        judge: Judge,
        entropy: Entropy,
    ) -> None:
        self._engines: dict[str, Engine[Any, Any]] = {"tcp": plain, "tls": secure}
        self._secure = secure
        self._ask = connect
        self._judge = judge
        self._entropy = entropy
        self._ways: dict[PeerId, _Way] = {}
        self._events: list[tuple[str, Event | WayEvent]] = []
        self._out: list[tuple[PeerId, bytes]] = []

    # -- the six verbs, with what the streams need besides --

    def feed(self, data: bytes, peer: PeerId, now: float) -> None:
        way = self._ways.get(peer)
        if way is not None and way.stage is not _Stage.DOWN:
            self._engines[peer.transport].feed(data, peer=peer, now=now)
            self.gather(now)

    def tick(self, now: float) -> None:
        for each in self._engines.values():
            each.tick(now)
        self.gather(now)

    def deadline(self) -> float | None:
        times = [each.deadline() for each in self._engines.values()]
        return min((each for each in times if each is not None), default=None)

    def submit(self, carrier: str, action: Action, peer: PeerId | None, now: float) -> None:
        """An action for the engine of ``carrier``; ``peer``: the way that it concerns. A request opens a connection
        where there is none."""
        if isinstance(action, VerifyPeer):
            # Whoever answers over a connection receives there.
            return
        if isinstance(action, ForgetPeer) and peer in self._ways:
            self._ways[peer].held = []
        if isinstance(action, SendRequest) and peer is not None:
            way = self._ways.get(peer) or self._ways.setdefault(peer, _Way(peer, None))
            if way.stage is not _Stage.UP:
                way.held = [*way.held, action][-_HELD:]
                self.connect(way)
                return
        self._engines[carrier].submit(action, now)
        self.gather(now)

    def submit_to_all(self, action: Action, now: float) -> None:
        for each in self._engines.values():
            each.submit(action, now)
        self.gather(now)

    def take_events(self) -> list[tuple[str, Event | WayEvent]]:
        """Each with the carrier whose engine it came from."""
        found, self._events = self._events, []
        return found

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        for each in self._engines.values():
            self._out += each.take_datagrams()
        out, self._out = self._out, []
        return out

    # -- ways --

    def open(self, order: OpenWay, now: float) -> None:
        self.close(order.peer, now)
        way = self._ways[order.peer] = _Way(order.peer, order)
        if order.at_once:
            self.connect(way)

    def connect(self, way: _Way) -> None:
        if way.stage is _Stage.DOWN:
            way.stage = _Stage.CONNECTING
            self._ask(way.peer)

    def drop(self, peer: PeerId, now: float, *, tells: bool) -> None:
        """End the connection of a way; the next thing to say opens another. ``tells``: the server is taken leave of."""
        way = self._ways.get(peer)
        if way is None:
            return
        stage, way.stage, way.held = way.stage, _Stage.DOWN, []
        if stage is _Stage.UP and tells:
            self._engines[peer.transport].submit(CloseConnection(peer, "the device has no more to say"), now)
        elif stage is not _Stage.DOWN:
            self._engines[peer.transport].feed(b"", peer=peer, now=now)
        if stage is not _Stage.DOWN:
            self.gather(now)
            last = self._engines[peer.transport].take_datagrams()
            self._out += last
            # Whoever has the sockets counts: each connection that was asked for has one end.
            if (peer, b"") not in last:
                self._out.append((peer, b""))
        way.lost = None

    def close(self, peer: PeerId, now: float) -> None:
        self.drop(peer, now, tells=True)
        self._ways.pop(peer, None)

    def move(self, old: tuple[str, int], new: tuple[str, int], now: float) -> None:
        """What is connected from another address is another connection."""
        for peer in [each for each in self._ways if (each.local_host, each.local_port) == old]:
            way = self._ways[peer]
            self.drop(peer, now, tells=False)
            del self._ways[peer]
            way.peer = peer._replace(local_host=new[0], local_port=new[1])
            self._ways[way.peer] = way

    # -- what becomes of connections --

    def hear(self, report: ConnectionReport, now: float) -> None:
        way = self._ways.get(report.peer)
        if way is None or way.stage is not _Stage.CONNECTING:
            if isinstance(report, Connected):
                self._out.append((report.peer, b""))
            return
        if isinstance(report, Unconnected):
            self._fail(way, UNCONNECTED, report.why)
            return
        self._engines[way.peer.transport].submit(AdoptConnection(way.peer, Role.INITIATED), now)
        order = way.order
        if way.peer.transport == "tcp":
            self._go_on(way, now)
        elif order is None or isinstance(order.credentials, RawKey):
            self._out.append((way.peer, b""))
            text = "over TLS a device proves itself with a pre-shared key or a certificate, not with a raw public key"
            self._fail(way, "no-credentials", text)
        else:
            parameters = client_parameters(
                order.security, order.credentials, order.endpoint_name, order.strike(), self._entropy
            )
            self._secure.submit(Connect(way.peer, parameters), now)
        self.gather(now)

    def _go_on(self, way: _Way, now: float) -> None:
        way.stage, way.heard, held, way.held = _Stage.UP, False, way.held, []
        for each in held:
            self._engines[way.peer.transport].submit(each, now)

    def _fail(self, way: _Way, reason: str, detail: str) -> None:
        way.stage, way.held = _Stage.DOWN, []
        self._tell(way, WayFailed(way.peer, reason, detail))

    def _lose(self, way: _Way, reason: str, detail: str) -> None:
        way.stage, way.held, way.lost = _Stage.DOWN, [], None
        # A server that closes without a word has not let the device in: in TLS 1.3 that comes after the handshake.
        self._tell(way, (WayLost if way.heard else WayFailed)(way.peer, reason, detail))

    def _tell(self, way: _Way, event: Event | WayEvent) -> None:
        self._events.append((way.peer.transport, event))

    def gather(self, now: float) -> None:
        """Take what the engines have to tell."""
        for carrier, engine in self._engines.items():
            while found := engine.take_events():
                for event in found:
                    if type(event) in TLS_EVENTS:
                        self._hear_of_tls(cast("TlsEvent", event), now)
                    elif isinstance(event, ConnectionLost) and not event.peer.is_context:
                        self._hear_of_end(event)
                    elif not (isinstance(event, RequestFailed) and event.reason in _GONE):
                        self._events.append((carrier, event))
                        self.note_heard(event, event.peer)

    def note_heard(self, event: Event, carrier: PeerId) -> None:
        """What ``carrier`` brought shows that the server has let the device in."""
        way = self._ways.get(carrier)
        if way is not None and isinstance(event, RequestReceived | ResponseReceived):
            way.heard = True

    def _hear_of_end(self, event: ConnectionLost) -> None:
        way = self._ways.get(event.peer)
        if way is None or way.stage is not _Stage.UP:
            return
        if way.peer.transport == "tls":
            # TLS may know better: an alert instead of an end.
            way.lost = event
        else:
            self._lose(way, event.reason, event.detail)

    def _hear_of_tls(self, event: TlsEvent, now: float) -> None:
        if isinstance(event, events.CertificateQuestion):
            assert isinstance(event.identity, CertificateIdentity)
            asking = self._ways.get(event.address)
            if asking is None or asking.order is None:
                refusal: Refusal | None = NOT_WANTED
            else:
                refusal = self._judge(asking.order, event.identity)
            answer = AcceptPeer(event.handshake) if refusal is None else RefusePeer(event.handshake, *refusal)
            self._secure.submit(answer, now)
            return
        address = getattr(event, "address", None) or getattr(event, "peer", None)
        way = self._ways.get(cast("PeerId", address))
        if way is None or way.stage is _Stage.DOWN:
            return
        if isinstance(event, events.SessionEstablished):
            self._tell(way, WayUp(way.peer, self._secure.suite_of(way.peer), False))
            self._go_on(way, now)
        elif isinstance(event, events.HandshakeFailed):
            self._fail(way, event.reason, event.detail)
        elif isinstance(event, events.SessionEnded):
            told = way.lost
            if event.detail or told is None:
                self._lose(way, event.reason, event.detail)
            else:
                self._lose(way, told.reason, told.detail)
