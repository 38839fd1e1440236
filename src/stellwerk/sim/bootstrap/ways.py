"""The ways between simulated devices and their servers: a CoAP engine over addresses, and DTLS where there has to be.

An engine of six verbs. What a peer with the transport ``dtls`` is sent goes through the session of its way, which is
opened when there is something to say; a peer with ``udp`` is sent datagrams. Peers stay what they are when another
session takes the place of one that ended, so whoever speaks over a way is told: `WayUp`, `WayFailed`, `WayLost`.

With OSCORE a peer has the transport ``oscore+udp`` or ``oscore+dtls``, and the addresses of what carries it: the engine
below knows it by the number of its context instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias, cast

from stellwerk.coap.actions import Action, AdoptContext, ContextStored, DropContext, ForgetPeer
from stellwerk.coap.events import ContextState, Event
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId, context_of, context_peer
from stellwerk.dtls import events
from stellwerk.dtls.actions import AcceptPeer, CloseSession, Connect, MoveSession, NoSession, RefusePeer, SendData
from stellwerk.dtls.actions import Action as DtlsAction
from stellwerk.dtls.suites import suite_name
from stellwerk.net.driver import Engine
from stellwerk.net.secure import DtlsEvent, SecureEvent
from stellwerk.sim.bootstrap.accounts import OscoreValues
from stellwerk.sim.faults import FaultKind
from stellwerk.sim.security import Credentials, Security, client_parameters
from stellwerk.sim.trust import judge_server

Route: TypeAlias = tuple[str, int, str, int]
"""Remote and local address of a way."""

_HELD: Final = 32
"""Messages that wait for a session; of more, the newest are kept."""


@dataclass(frozen=True, slots=True)
class OpenWay:
    """From now on ``peer`` is spoken to in sessions that ``credentials`` and ``security`` make; an earlier one ends.
    ``strike``: what befalls a handshake that begins. ``at_once``: without waiting for something to say."""

    peer: PeerId
    endpoint_name: str
    credentials: Credentials
    security: Security
    strike: Callable[[], FaultKind | None]
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class ProtectWay:
    """From now on ``peer`` (``oscore+...``) is spoken to with a context of ``values``, over the way that carries it.
    ``ceiling``: numbers below it may have been used. ``rederive``: what came before is forgotten; the first request
    agrees with the server on another ID Context (RFC 8613 App. B.2)."""

    peer: PeerId
    values: OscoreValues
    ceiling: int = 0
    rederive: bool = False


@dataclass(frozen=True, slots=True)
class DropWay:
    """The session with ``peer`` is gone, and the next thing to say opens another. ``tells``: the server hears of it."""

    peer: PeerId
    tells: bool = False


@dataclass(frozen=True, slots=True)
class CloseWay:
    """``peer`` is not spoken to any more."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class MoveWays:
    """All ways of the local address ``old`` are of ``new`` from now on."""

    old: tuple[str, int]
    new: tuple[str, int]


WayOrder: TypeAlias = OpenWay | ProtectWay | DropWay | CloseWay | MoveWays
_ORDERS: Final = (OpenWay, ProtectWay, DropWay, CloseWay, MoveWays)


@dataclass(frozen=True, slots=True)
class WayUp:
    """There is a session with ``peer``."""

    peer: PeerId
    suite: str
    has_cid: bool


@dataclass(frozen=True, slots=True)
class WayFailed:
    """No session could be made; what was to be said is forgotten."""

    peer: PeerId
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class WayLost:
    """The server ended the session."""

    peer: PeerId
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class WayCounted:
    """Numbers of ours below ``ceiling`` are used with ``peer`` from now on: keep that before anything leaves (RFC 8613
    App. B.1.1)."""

    peer: PeerId
    ceiling: int


WayEvent: TypeAlias = WayUp | WayFailed | WayLost | WayCounted


class _Way:
    __slots__ = ("connecting", "held", "order", "peer", "session")

    def __init__(self, order: OpenWay) -> None:
        self.order = order
        self.peer = order.peer
        self.session: PeerId | None = None
        self.connecting = False
        self.held: list[bytes] = []

    @property
    def address(self) -> PeerId:
        """The server as datagrams see it."""
        return self.peer._replace(transport="udp")


class Ways:
    """``coap`` speaks with peers, ``dtls`` in the client's role with addresses. ``utc_offset_s`` turns monotonic
    seconds into UTC seconds since 1970."""

    def __init__(
        self,
        coap: Engine[Event, Action],
        dtls: Engine[DtlsEvent, DtlsAction],
        *,
        entropy: Entropy,
        utc_offset_s: float,
    ) -> None:
        self._coap = coap
        self._dtls = dtls
        self._entropy = entropy
        self._utc_offset_s = utc_offset_s
        self._ways: dict[Route, _Way] = {}
        self._by_session: dict[PeerId, _Way] = {}
        self._contexts: dict[PeerId, ProtectWay] = {}
        """By what the engine below calls them."""
        self._numbers: dict[PeerId, int] = {}
        """Of contexts, by what those above call them."""
        self._last_number = 0
        self._events: list[Event | WayEvent] = []
        self._out: list[tuple[PeerId, bytes]] = []
        self._now = 0.0

    # -- the six verbs --

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._now = now
        if _route(peer) in self._ways:
            self._dtls.feed(datagram, peer=peer, now=now)
        else:
            self._coap.feed(datagram, peer=peer, now=now)
        self._run()

    def tick(self, now: float) -> None:
        self._now = now
        self._dtls.tick(now)
        self._coap.tick(now)
        self._run()

    def submit(self, action: Action | WayOrder, now: float) -> None:
        self._now = now
        if not isinstance(action, _ORDERS):
            self._submit(action, now)
        elif isinstance(action, OpenWay):
            self._close(action.peer)
            way = self._ways[_route(action.peer)] = _Way(action)
            if action.at_once:
                self._connect(way)
        elif isinstance(action, ProtectWay):
            self._protect(action)
        elif isinstance(action, MoveWays):
            self._move(action)
        elif isinstance(action, CloseWay):
            self._unprotect(action.peer)
            self._close(action.peer)
        elif (dropped := self._ways.get(_route(action.peer))) is not None:
            self._end(dropped, tells=action.tells)
            dropped.held.clear()
        self._run()

    def take_events(self) -> list[Event | WayEvent]:
        self._run()
        found, self._events = self._events, []
        return found

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        self._run()
        out, self._out = self._out, []
        return out

    def deadline(self) -> float | None:
        times = [each for each in (self._coap.deadline(), self._dtls.deadline()) if each is not None]
        return min(times, default=None)

    # -- sessions --

    def _connect(self, way: _Way) -> None:
        way.connecting = True
        order = way.order
        parameters = client_parameters(
            order.security, order.credentials, order.endpoint_name, order.strike(), self._entropy
        )
        self._dtls.submit(Connect(way.address, parameters), self._now)

    def _say(self, way: _Way, message: bytes) -> None:
        if way.session is not None:
            self._dtls.submit(SendData(way.session, message), self._now)
            return
        # While a handshake takes its time a message is repeated; it is said once.
        if message not in way.held:
            way.held = [*way.held, message][-_HELD:]
        if not way.connecting:
            self._connect(way)

    def _end(self, way: _Way, *, tells: bool) -> None:
        session, way.session, way.connecting = way.session, None, False
        if session is not None:
            self._by_session.pop(session, None)
            if tells:
                self._dtls.submit(CloseSession(session), self._now)

    def _close(self, peer: PeerId) -> None:
        way = self._ways.pop(_route(peer), None)
        if way is not None:
            self._end(way, tells=True)

    def _move(self, order: MoveWays) -> None:
        for each in [*self._contexts.values()]:
            if (each.peer.local_host, each.peer.local_port) == order.old:
                self._move_context(each, order.new)
        for route in [each for each in self._ways if each[2:] == order.old]:
            way = self._ways.pop(route)
            way.peer = way.peer._replace(local_host=order.new[0], local_port=order.new[1])
            self._ways[_route(way.peer)] = way
            if way.session is not None:
                self._dtls.submit(MoveSession(way.session, way.address), self._now)
            elif way.connecting:
                # The answers go to the old address.
                self._connect(way)

    # -- contexts --

    def _submit(self, action: Action, now: float) -> None:
        peer = getattr(action, "peer", None)
        if isinstance(peer, PeerId) and peer.is_context:
            number = self._numbers.get(peer)
            if number is None:
                return
            action.peer = context_peer(number, peer.carrier)  # type: ignore[union-attr]
        self._coap.submit(action, now)

    def _protect(self, order: ProtectWay) -> None:
        former = self._unprotect(order.peer)
        if former is not None and former.values == order.values:
            # Whoever orders may not have heard of the last ones.
            order = replace(order, ceiling=max(order.ceiling, former.ceiling))
        self._last_number += 1
        values, peer = order.values, order.peer
        material = ContextMaterial(
            self._last_number,
            values.sender_id,
            values.recipient_id,
            values.master_secret,
            values.master_salt,
            values.id_context,
            values.aead,
            values.hkdf,
            order.ceiling,
            order.ceiling,
        )
        self._numbers[peer] = self._last_number
        self._contexts[context_peer(self._last_number, peer.carrier)] = order
        carrier = peer._replace(transport=peer.carrier)
        self._coap.submit(AdoptContext(material, carrier, order.rederive), self._now)

    def _unprotect(self, peer: PeerId) -> ProtectWay | None:
        """Forget the context of ``peer``, if any; what was ordered of it."""
        number = self._numbers.pop(peer, None)
        if number is None:
            return None
        former = self._contexts.pop(context_peer(number, peer.carrier), None)
        self._coap.submit(DropContext(number), self._now)
        return former

    def _move_context(self, order: ProtectWay, new: tuple[str, int]) -> None:
        """The engine knows where a context's other end is, and so from where it is spoken to."""
        peer = order.peer._replace(local_host=new[0], local_port=new[1])
        self._unprotect(order.peer)
        self._protect(replace(order, peer=peer))

    def _tell(self, event: Event) -> None:
        peer = event.peer
        if isinstance(event, ContextState):
            order = self._contexts.get(peer)
            if order is not None:
                self._contexts[peer] = replace(order, ceiling=event.ceiling)
                self._events.append(WayCounted(order.peer, event.ceiling))
                self._coap.submit(ContextStored(event.number, event.ceiling), self._now)
            return
        if peer.is_context:
            order = self._contexts.get(peer)
            if order is None or context_of(peer) != self._numbers.get(order.peer):
                return
            event.peer = order.peer
        self._events.append(event)

    # -- inside --

    def _run(self) -> None:
        """Let everything through that one engine has for the other, or for outside."""
        busy = True
        while busy:
            busy = False
            for event in self._dtls.take_events():
                busy = True
                if type(event) is events.DataReceived:
                    way = self._by_session.get(event.peer)
                    if way is not None:
                        self._coap.feed(event.data, peer=way.peer, now=self._now)
                else:
                    self._hear(cast(SecureEvent, event))
            for told in self._coap.take_events():
                busy = True
                self._tell(told)
            for peer, message in self._coap.take_datagrams():
                if peer.transport == "udp":
                    self._out.append((peer, message))
                elif (way := self._ways.get(_route(peer))) is not None:
                    busy = True
                    self._say(way, message)
        self._out += self._dtls.take_datagrams()

    def _hear(self, event: SecureEvent) -> None:
        if isinstance(event, events.SessionEstablished):
            way = self._ways.get(_route(event.address))
            if way is None or not way.connecting:
                self._dtls.submit(CloseSession(event.peer), self._now)
                return
            way.connecting, way.session = False, event.peer
            self._by_session[event.peer] = way
            self._events.append(WayUp(way.peer, suite_name(event.suite), event.has_cid))
            held, way.held = way.held, []
            for message in held:
                self._say(way, message)
        elif isinstance(event, events.HandshakeFailed):
            way = self._ways.get(_route(event.address))
            if way is not None and way.connecting:
                way.connecting, way.held = False, []
                self._coap.submit(ForgetPeer(way.peer), self._now)
                self._events.append(WayFailed(way.peer, event.reason, event.detail))
        elif isinstance(event, events.SessionEnded):
            way = self._by_session.pop(event.peer, None)
            if way is not None:
                way.session = None
                self._events.append(WayLost(way.peer, event.reason, event.detail))
        elif isinstance(event, events.CertificateQuestion):
            self._judge(event)
        elif isinstance(event, events.SessionQuestion):
            self._dtls.submit(NoSession(event.question), self._now)

    def _judge(self, question: events.CertificateQuestion) -> None:
        way = self._ways.get(_route(question.address))
        if way is None:
            refusal: tuple[str, str, int] | None = ("unknown-identity", "nobody wants this handshake any more", 90)
        else:
            at = datetime.fromtimestamp(self._now + self._utc_offset_s, UTC)
            refusal = judge_server(way.order.security, question.identity, at)
        answer = AcceptPeer(question.handshake) if refusal is None else RefusePeer(question.handshake, *refusal)
        self._dtls.submit(answer, self._now)


def _route(peer: PeerId) -> Route:
    return peer.remote_host, peer.remote_port, peer.local_host, peer.local_port
