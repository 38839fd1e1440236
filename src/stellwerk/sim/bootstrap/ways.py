"""The ways between simulated devices and their servers: a CoAP engine over addresses, and DTLS where there has to be.

An engine of six verbs. What a peer with the transport ``dtls`` is sent goes through the session of its way, which is
opened when there is something to say; a peer with ``udp`` is sent datagrams. Peers stay what they are when another
session takes the place of one that ended, so whoever speaks over a way is told: `WayUp`, `WayFailed`, `WayLost`.
Peers with ``tcp`` and ``tls`` have connections, each kind with a CoAP engine of its own (`stream_ways`).

With OSCORE a peer has the transport ``oscore+udp``, ``oscore+dtls`` and so on, and the addresses of what carries it:
the engine below knows it by the number of its context instead.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeAlias, cast

from stellwerk.coap.actions import (
    Action,
    AdoptContext,
    ContextStored,
    Drop,
    DropContext,
    ForgetPeer,
    Proceed,
    RejectRequest,
    RejectToken,
    Respond,
    SendRequest,
)
from stellwerk.coap.events import ContextState, Event, RequestQuestion, RequestReceived, TokenQuestion
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.entropy import Entropy
from stellwerk.core.identity import CertificateIdentity, RawKeyIdentity
from stellwerk.core.ids import PeerId, context_of, context_peer
from stellwerk.dtls import events
from stellwerk.dtls.actions import AcceptPeer, CloseSession, Connect, MoveSession, NoSession, RefusePeer, SendData
from stellwerk.dtls.actions import Action as DtlsAction
from stellwerk.dtls.suites import suite_name
from stellwerk.net.driver import Engine
from stellwerk.net.secure import DtlsEvent, SecureEvent
from stellwerk.sim.bootstrap.orders import (
    ORDERS,
    CloseWay,
    DropWay,
    MoveWays,
    OpenWay,
    ProtectWay,
    WayCounted,
    WayEvent,
    WayFailed,
    WayLost,
    WayOrder,
    WayUp,
    carrier_of,
)
from stellwerk.sim.bootstrap.stream_ways import NOT_WANTED, Connected, ConnectionReport, Judge, StreamWays, Unconnected
from stellwerk.sim.security import client_parameters
from stellwerk.sim.trust import Refusal, judge_server

Route: TypeAlias = tuple[str, int, str, int]
"""Remote and local address of a way."""

_HELD: Final = 32
"""Messages that wait for a session; of more, the newest are kept."""

_CARRIERS: Final = ("udp", "tcp", "tls")
"""Of which engine an exchange is: its number outside is one of so many beside the engine's own."""
_NUMBERED: Final = (RequestReceived, RequestQuestion, TokenQuestion)
_ANSWERS: Final = (Respond, Drop, Proceed, RejectRequest, RejectToken)


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
    """``coap`` speaks with peers, ``dtls`` in the client's role with addresses. ``streams`` makes what there is of
    connections, given how a server is judged; None: there are none. ``utc_offset_s`` turns monotonic seconds into UTC
    seconds since 1970."""

    def __init__(
        self,
        coap: Engine[Event, Action],
        dtls: Engine[DtlsEvent, DtlsAction],
        *,
        entropy: Entropy,
        utc_offset_s: float,
        streams: Callable[[Judge], StreamWays] | None = None,
    ) -> None:
        self._streams = None if streams is None else streams(self._judge)
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
        if peer.is_connection:
            if self._streams is not None:
                self._streams.feed(datagram, peer, now)
        elif _route(peer) in self._ways:
            self._dtls.feed(datagram, peer=peer, now=now)
        else:
            self._coap.feed(datagram, peer=peer, now=now)
        self._run()

    def tick(self, now: float) -> None:
        self._now = now
        self._dtls.tick(now)
        self._coap.tick(now)
        if self._streams is not None:
            self._streams.tick(now)
        self._run()

    def submit(self, action: Action | WayOrder | ConnectionReport, now: float) -> None:
        self._now = now
        if isinstance(action, Connected | Unconnected):
            if self._streams is not None:
                self._streams.hear(action, now)
        elif not isinstance(action, ORDERS):
            self._submit(action, now)
        elif isinstance(action, ProtectWay):
            self._protect(action)
        elif isinstance(action, MoveWays):
            self._move(action)
        else:
            if isinstance(action, CloseWay):
                self._unprotect(action.peer)
            self._direct(action, now)
        self._run()

    def _direct(self, order: OpenWay | DropWay | CloseWay, now: float) -> None:
        """Do what is ordered of one way."""
        peer = carrier_of(order.peer)
        if peer.is_connection and self._streams is not None:
            if isinstance(order, OpenWay):
                self._streams.open(order, now)
            elif isinstance(order, CloseWay):
                self._streams.close(peer, now)
            else:
                self._streams.drop(peer, now, tells=order.tells)
        elif isinstance(order, OpenWay):
            self._close(peer)
            way = self._ways[_route(peer)] = _Way(order)
            if order.at_once:
                self._connect(way)
        elif isinstance(order, CloseWay):
            self._close(peer)
        elif (dropped := self._ways.get(_route(peer))) is not None:
            self._end(dropped, tells=order.tells)
            dropped.held.clear()

    def take_events(self) -> list[Event | WayEvent]:
        self._run()
        found, self._events = self._events, []
        return found

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        self._run()
        out, self._out = self._out, []
        return out

    def deadline(self) -> float | None:
        times = [self._coap.deadline(), self._dtls.deadline()]
        if self._streams is not None:
            times.append(self._streams.deadline())
        return min((each for each in times if each is not None), default=None)

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
        if self._streams is not None:
            self._streams.move(order.old, order.new, self._now)
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
        if isinstance(action, _ANSWERS):
            action.exchange, carrier = divmod(action.exchange, len(_CARRIERS))
            self._hand(_CARRIERS[carrier], action, None, now)
            return
        peer = getattr(action, "peer", None)
        if not isinstance(peer, PeerId):
            self._coap.submit(action, now)
            if self._streams is not None:
                self._streams.submit_to_all(action, now)
            return
        if peer.is_context:
            number = self._numbers.get(peer)
            if number is None:
                return
            action.peer = context_peer(number, peer.carrier)  # type: ignore[union-attr]
            if isinstance(action, SendRequest) and carrier_of(peer).is_connection:
                # The engine forgets where a context's other end is with the connection that it spoke over.
                adopt = AdoptContext(_material(number, self._contexts[action.peer]), carrier_of(peer))
                self._hand(peer.carrier, adopt, None, now)
        self._hand(peer.carrier, action, carrier_of(peer), now)

    def _hand(self, carrier: str, action: Action, way: PeerId | None, now: float) -> None:
        """Give ``action`` to the engine of ``carrier``; ``way``: whom it concerns, or who carries it."""
        if carrier not in ("tcp", "tls"):
            self._coap.submit(action, now)
        elif self._streams is not None:
            self._streams.submit(carrier, action, way, now)

    def _protect(self, order: ProtectWay) -> None:
        former = self._unprotect(order.peer)
        if former is not None and former.values == order.values:
            # Whoever orders may not have heard of the last ones.
            order = replace(order, ceiling=max(order.ceiling, former.ceiling))
        self._last_number += 1
        peer = order.peer
        self._numbers[peer] = self._last_number
        self._contexts[context_peer(self._last_number, peer.carrier)] = order
        adopt = AdoptContext(_material(self._last_number, order), carrier_of(peer), order.rederive)
        self._hand(peer.carrier, adopt, None, self._now)

    def _unprotect(self, peer: PeerId) -> ProtectWay | None:
        """Forget the context of ``peer``, if any; what was ordered of it."""
        number = self._numbers.pop(peer, None)
        if number is None:
            return None
        former = self._contexts.pop(context_peer(number, peer.carrier), None)
        self._hand(peer.carrier, DropContext(number), None, self._now)
        return former

    def _move_context(self, order: ProtectWay, new: tuple[str, int]) -> None:
        """The engine knows where a context's other end is, and so from where it is spoken to."""
        peer = order.peer._replace(local_host=new[0], local_port=new[1])
        self._unprotect(order.peer)
        self._protect(replace(order, peer=peer))

    def _tell(self, carrier: str, event: Event) -> None:
        peer = event.peer
        if isinstance(event, _NUMBERED):
            event.exchange = event.exchange * len(_CARRIERS) + _CARRIERS.index(carrier)
        if isinstance(event, ContextState):
            order = self._contexts.get(peer)
            if order is not None:
                self._contexts[peer] = replace(order, ceiling=event.ceiling)
                self._events.append(WayCounted(order.peer, event.ceiling))
                self._hand(carrier, ContextStored(event.number, event.ceiling), None, self._now)
            return
        if peer.is_context:
            order = self._contexts.get(peer)
            if order is None or context_of(peer) != self._numbers.get(order.peer):
                return
            event.peer = order.peer
            if self._streams is not None:
                self._streams.note_heard(event, carrier_of(order.peer))
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
                self._tell("udp", told)
            for carrier, heard in self._streams.take_events() if self._streams is not None else ():
                busy = True
                if isinstance(heard, WayUp | WayFailed | WayLost | WayCounted):
                    self._events.append(heard)
                else:
                    self._tell(carrier, heard)
            for peer, message in self._coap.take_datagrams():
                if peer.transport == "udp":
                    self._out.append((peer, message))
                elif (way := self._ways.get(_route(peer))) is not None:
                    busy = True
                    self._say(way, message)
        self._out += self._dtls.take_datagrams()
        if self._streams is not None:
            self._out += self._streams.take_datagrams()

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
            self._ask_about(event)
        elif isinstance(event, events.SessionQuestion):
            self._dtls.submit(NoSession(event.question), self._now)

    def _ask_about(self, question: events.CertificateQuestion) -> None:
        way = self._ways.get(_route(question.address))
        if way is None:
            refusal: Refusal | None = NOT_WANTED
        else:
            refusal = self._judge(way.order, question.identity)
        answer = AcceptPeer(question.handshake) if refusal is None else RefusePeer(question.handshake, *refusal)
        self._dtls.submit(answer, self._now)

    def _judge(self, order: OpenWay, identity: RawKeyIdentity | CertificateIdentity) -> Refusal | None:
        return judge_server(order.security, identity, datetime.fromtimestamp(self._now + self._utc_offset_s, UTC))


def _material(number: int, order: ProtectWay) -> ContextMaterial:
    values = order.values
    return ContextMaterial(
        number,
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


def _route(peer: PeerId) -> Route:
    return peer.remote_host, peer.remote_port, peer.local_host, peer.local_port
