"""The client's role of CoAP over TLS: `tls.TlsStack` for connections that were opened from here.

A connection says nothing before somebody has said by `dtls.actions.Connect` what it is to prove itself with; the
server's certificate is asked about as a client's is.
"""

from typing import TypeVar, cast

from stellwerk.coap.tcp.connection import Role
from stellwerk.coap.tcp.endpoint import AdoptConnection
from stellwerk.core.entropy import Entropy
from stellwerk.core.identity import CertificateIdentity, PskIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls import events
from stellwerk.dtls.actions import Connect
from stellwerk.dtls.certificates import CertificateRefused, read_certificate
from stellwerk.net.driver import Engine
from stellwerk.net.tls import TlsAction, TlsLimits, TlsStack
from stellwerk.net.tls_channel import Channel, ClientChannel, Phase, TlsFault
from stellwerk.net.tls_context import TlsClientContext

E = TypeVar("E")
A = TypeVar("A")


class TlsClients(TlsStack[E, A]):
    """``inner`` speaks with servers that have proven who they are. ``handshake_s``: how long that may take."""

    def __init__(self, inner: Engine[E, A], entropy: Entropy, *, handshake_s: float = 30.0) -> None:
        super().__init__(inner, entropy, None, limits=TlsLimits(handshake_s=handshake_s))
        self._idle: set[PeerId] = set()
        """Connections that nobody has said anything about yet."""

    def suite_of(self, peer: PeerId) -> str:
        """The cipher suite of a connection, empty where there is none."""
        channel = self._channels.get(peer)
        return channel.suite if channel is not None else ""

    def feed(self, data: bytes, *, peer: PeerId, now: float) -> None:
        """As `TlsStack.feed`."""
        if peer in self._idle:
            if not data:
                self._idle.discard(peer)
            return
        super().feed(data, peer=peer, now=now)

    def submit(self, action: A | TlsAction | Connect, now: float) -> None:
        """An action of either engine. `coap.tcp.endpoint.AdoptConnection` tells of a connection, and
        `dtls.actions.Connect` begins its handshake; one that is gone fails at once. Raises `NoPreSharedKeys`."""
        if isinstance(action, Connect):
            self._now = now
            self._begin(action, now)
        else:
            super().submit(action, now)

    def _adopt(self, peer: PeerId, now: float) -> None:
        before = self._channels.get(peer)
        if before is not None:
            self._lost(before, now)
        self._idle.add(peer)

    def _begin(self, action: Connect, now: float) -> None:
        peer, parameters = action.address, action.parameters
        if peer not in self._idle:
            self._tell(events.HandshakeFailed(peer, "closed", "the server closed the connection at once"))
            return
        self._idle.discard(peer)
        channel = ClientChannel(peer, TlsClientContext(parameters), now, self._late)
        channel.identity = PskIdentity(parameters.psk_identity)
        self._channels[peer] = channel
        self._timers.arm(channel, now + self._limits.handshake_s)
        self._go_on(channel, now)

    def _go_on(self, channel: Channel, now: float) -> None:
        channel.hand_on(channel.held)
        channel.held.clear()
        try:
            if not channel.shake():
                self._send(channel, channel.output())
                return
        except TlsFault as fault:
            self._fail(channel, fault.reason, fault.detail, channel.output())
            return
        # In TLS 1.3 what shows who we are has not left yet.
        channel.withheld = channel.output()
        chain = channel.chain()
        if not chain:
            self._let_in(channel, now)
            return
        try:
            leaf = read_certificate(chain[0])
        except CertificateRefused as refused:
            self._refuse(channel, refused.reason, refused.detail)
            return
        identity = channel.identity = CertificateIdentity(chain, leaf.common_name, leaf.names)
        self._ask(channel, now)
        self._tell(events.CertificateQuestion(channel.question, channel.address, identity))

    def _refuse(self, channel: Channel, reason: str, detail: str) -> None:
        """The server hears nothing more."""
        channel.withheld = b""
        self._fail(channel, reason, detail)

    def _late(self, channel: Channel, now: float) -> None:
        text = f"the server did not complete the handshake within {self._limits.handshake_s:g} s"
        self._fail(channel, "timeout", text)

    def _lost(self, channel: Channel, now: float) -> None:
        if channel.phase is Phase.OPEN:
            super()._lost(channel, now)
        else:
            self._fail(channel, "closed", "the server closed the connection in the middle of the handshake")

    def _make_adoption(self, peer: PeerId) -> A:
        return cast("A", AdoptConnection(peer, Role.INITIATED))
