"""The engine: bytes and time in, bytes and meaning out. Each datagram passes `feed`, each wish `submit`.

When a bound is full: a new peer is dropped (``peers_total``), a request of ours fails as ``refused``, a question is
dropped and comes again with the peer's repetition, a body is answered 4.13 or 5.03, old answers become message-ID
ranges. Each says so with a `Refused` or `RequestFailed` event.
"""

from collections.abc import Callable, Mapping

from stellwerk.coap import actions, codes
from stellwerk.coap.engine import ExchangeEngine
from stellwerk.coap.exchange import Exchange
from stellwerk.coap.message import ACK, CON, NON, Message, MessageFormatError, decode_message
from stellwerk.coap.options import OSCORE, read_options
from stellwerk.coap.oscore.engine import ProtectedExchanges
from stellwerk.coap.oscore.layer import GuardedOwner
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.peers import Peer
from stellwerk.coap.reliability import DatagramLayer
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId


class Endpoint(ExchangeEngine):
    """One CoAP endpoint over UDP, client and server at once. All times are monotonic seconds.

    ``ask_until``: up to this time requests and notifications that look new may have been answered by an earlier run
    and are asked about; one EXCHANGE_LIFETIME after the start is right, None for an engine without a past.
    ``body_bytes_by_path``: the largest request body by path prefix, e.g. ``{("rd",): 65536}``.
    ``verified``: peers are secure sessions, whose handshakes have proven their addresses. ``room``: how many bytes a
    message to one may have. ``oscore``: messages protected with OSCORE are read, and their contexts asked for by
    `events.ContextQuestion`.
    """

    def __init__(
        self,
        entropy: Entropy,
        limits: Limits | None = None,
        parameters: Parameters | None = None,
        ask_until: float | None = None,
        body_bytes_by_path: Mapping[tuple[str, ...], int] | None = None,
        *,
        verified: bool = False,
        room: Callable[[PeerId], int] | None = None,
        oscore: bool = False,
    ) -> None:
        layer = DatagramLayer(entropy, limits or Limits(), parameters or Parameters(), ask_until, verified)
        layer.room = room
        super().__init__(layer, body_bytes_by_path)
        self._layer = layer
        self._find = layer.peers.find
        layer.abandon = self._abandon
        self._guard: ProtectedExchanges | None = None
        if oscore:
            self._guard = ProtectedExchanges(layer, self._serving, body_bytes_by_path, layer.limits.contexts_total)
            self._protected = self._serving.guard = self._guard

    # --- bytes in ------------------------------------------------------------------------------------------------

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        """Take one datagram from ``peer``. Never raises, whatever the bytes."""
        layer = self._layer
        try:
            message = decode_message(datagram)
        except MessageFormatError as error:
            layer.refuse(peer, "format", error.rule)
            # RFC 7252 4.2, 4.3: only a broken CON gets an answer, and only if its message ID could be read.
            if error.type == CON and error.mid is not None:
                layer.send_reset(peer, error.mid)
            return
        kind, code = message.type, message.code
        if kind in (CON, NON):
            if code == 0:
                # A CON without content is a ping (MSG-10).
                if kind == CON:
                    layer.send_reset(peer, message.mid)
                return
            if code >= 0x20 and not codes.is_response(code):
                layer.refuse(peer, "code", f"code {codes.dotted(code)} is reserved")
                if kind == CON:
                    layer.send_reset(peer, message.mid)
                return
            known = self._find(peer) or layer.peers.find_or_add(peer, now)
            if known is None:
                layer.refuse(peer, "peers_total", "too many peers")
                return
            if not known.verified:
                layer.earn(known, len(datagram))
            if code < 0x20:
                self._serving.receive(known, message, datagram, now)
            else:
                self._receive_response(known, message, datagram, now)
            return
        known = self._find(peer)
        if known is None:
            return
        if kind == ACK:
            self._receive_acknowledgement(known, message, now)
        elif code == 0:
            self._receive_reset(known, message.mid, now)

    def _receive_acknowledgement(self, peer: Peer, message: Message, now: float) -> None:
        sending = peer.sent.get(message.mid) if peer.sent is not None else None
        if sending is None:
            self._layer.take_sent(peer, message.mid)
            return
        owner = sending.owner
        if message.code == 0:
            self._layer.take_sent(peer, message.mid)
            owner.acknowledged(now)
        elif codes.is_response(message.code) and isinstance(owner, Exchange) and owner.token == message.token:
            self._layer.take_sent(peer, message.mid)
            self._requests.answered(owner, message, read_options(message.options), now)
        elif (
            codes.is_response(message.code)
            and isinstance(owner, GuardedOwner)
            and owner.token == message.token
            and self._guard is not None
        ):
            # What does not verify leaves no trace: the request is repeated.
            self._guard.receive_acknowledgement(peer, owner, message, now)
        else:
            # Neither empty nor the answer to what it acknowledges: not from who got our message.
            self._layer.refuse(peer.id, "mismatch", "an acknowledgement with a foreign token or code")

    def _receive_reset(self, peer: Peer, mid: int, now: float) -> None:
        sending = self._layer.take_sent(peer, mid)
        if sending is not None:
            sending.owner.reset(now)
        else:
            self._serving.reset(peer, mid)
            if self._guard is not None:
                self._guard.receive_reset(peer, mid)

    def _receive_response(self, peer: Peer, message: Message, datagram: bytes, now: float) -> None:
        layer = self._layer
        inbound = layer.admit(peer, message, datagram, now)
        if inbound is None:
            return
        if self._guard is not None and peer.guarded is not None and message.token in peer.guarded:
            self._guard.receive_response(peer, inbound, message, now)
            return
        exchange = peer.outgoing.by_token.get(message.token) if peer.outgoing is not None else None
        if exchange is not None:
            view = read_options(message.options)
            # RFC 7641 3.6: the answer to a cancellation has no Observe; with one it is a last notification.
            is_notification = (
                exchange.action.observe == 1
                and view.observe is not None
                and peer.relations is not None
                and message.token in peer.relations
            )
            if not is_notification:
                if view.unknown is not None:
                    layer.reject(inbound, now)
                else:
                    layer.acknowledge(inbound)
                    layer.answers.decided(inbound, now)
                self._requests.answered(exchange, message, view, now)
                return
        elif (
            self._guard is not None
            and not (peer.relations is not None and message.token in peer.relations)
            and any(number == OSCORE for number, _ in message.options)
        ):
            self._guard.receive_stranger(peer, inbound, message, now)
            return
        self._observing.receive(peer, inbound, message, now)

    def _abandon(self, exchange: int) -> None:
        self._drop(exchange)
        if self._guard is not None:
            self._guard.abandon(exchange)

    def _move(self, action: actions.MovePeer, now: float) -> None:
        peers = self._layer.peers
        old = peers.find(action.old)
        if old is None or action.old == action.new:
            return
        new = peers.find_or_add(action.new, now)
        if new is None:
            self._layer.refuse(action.new, "peers_total", "too many peers")
            return
        if new.parameters is None:
            new.parameters = old.parameters
        old.parameters = None
        new.unproven = not new.verified
        self._observing.move_all(old, new)
        self._requests.move_all(old, new, now)
