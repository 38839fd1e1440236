"""The engine: bytes and time in, bytes and meaning out. Each datagram passes `feed`, each wish `submit`.

When a bound is full: a new peer is dropped (``peers_total``), a request of ours fails as ``refused``, a question is
dropped and comes again with the peer's repetition, a body is answered 4.13 or 5.03, old answers become message-ID
ranges. Each says so with a `Refused` or `RequestFailed` event.
"""

from collections.abc import Mapping
from typing import assert_never

from stellwerk.coap import actions, codes
from stellwerk.coap.blockwise import Bodies
from stellwerk.coap.events import Event
from stellwerk.coap.exchange import Exchange, Requests
from stellwerk.coap.message import ACK, CON, NON, Message, MessageFormatError, decode_message
from stellwerk.coap.observe import Observing
from stellwerk.coap.options import read_options
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.peers import Peer
from stellwerk.coap.reliability import MessageLayer
from stellwerk.coap.serving import Questions, Serving
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId


class Endpoint:
    """One CoAP endpoint over UDP, client and server at once. All times are monotonic seconds.

    ``ask_until``: up to this time requests and notifications that look new may have been answered by an earlier run
    and are asked about; one EXCHANGE_LIFETIME after the start is right, None for an engine without a past.
    ``body_bytes_by_path``: the largest request body by path prefix, e.g. ``{("rd",): 65536}``.
    """

    def __init__(
        self,
        entropy: Entropy,
        limits: Limits | None = None,
        parameters: Parameters | None = None,
        ask_until: float | None = None,
        body_bytes_by_path: Mapping[tuple[str, ...], int] | None = None,
    ) -> None:
        limits = limits or Limits()
        parameters = parameters or Parameters()
        layer = MessageLayer(entropy, limits, parameters, ask_until)
        self._layer = layer
        self._questions = Questions(layer)
        self._bodies = Bodies(layer.timers, limits, parameters, body_bytes_by_path or {})
        self._serving = Serving(layer, self._questions, self._bodies)
        self._requests = Requests(layer)
        self._observing = Observing(layer, self._questions, self._requests)
        layer.abandon = self._drop

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
            known = layer.peers.find(peer) or layer.peers.find_or_add(peer, now)
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
        known = layer.peers.find(peer)
        if known is None:
            return
        if kind == ACK:
            self._receive_acknowledgement(known, message, now)
        elif code == 0:
            self._receive_reset(known, message.mid, now)

    def _receive_acknowledgement(self, peer: Peer, message: Message, now: float) -> None:
        sending = peer.sent.get(message.mid) if peer.sent is not None else None
        if sending is None:
            return
        owner = sending.owner
        if message.code == 0:
            self._layer.take_sent(peer, message.mid)
            owner.acknowledged(now)
        elif codes.is_response(message.code) and isinstance(owner, Exchange) and owner.token == message.token:
            self._layer.take_sent(peer, message.mid)
            self._requests.answered(owner, message, read_options(message.options), now)
        else:
            # Neither empty nor the answer to what it acknowledges: not from who got our message.
            self._layer.refuse(peer.id, "mismatch", "an acknowledgement with a foreign token or code")

    def _receive_reset(self, peer: Peer, mid: int, now: float) -> None:
        sending = self._layer.take_sent(peer, mid)
        if sending is not None:
            sending.owner.reset(now)
        else:
            self._serving.reset(peer, mid)

    def _receive_response(self, peer: Peer, message: Message, datagram: bytes, now: float) -> None:
        layer = self._layer
        inbound = layer.admit(peer, message, datagram, now)
        if inbound is None:
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
        self._observing.receive(peer, inbound, message, now)

    # --- time in -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due by ``now``: retransmissions, empty acknowledgements, ends of waiting."""
        self._layer.tick(now)

    def deadline(self) -> float | None:
        """When to tick next, None for no need."""
        return self._layer.deadline()

    # --- figures -------------------------------------------------------------------------------------------------

    @property
    def duplicates(self) -> int:
        """Messages that came before and were answered from memory or swallowed."""
        return self._layer.duplicates

    @property
    def retransmissions(self) -> int:
        """Confirmable messages of ours that were sent again."""
        return self._layer.retransmissions

    @property
    def peers(self) -> int:
        """Addresses of which something is remembered."""
        return len(self._layer.peers)

    # --- bytes and meaning out -----------------------------------------------------------------------------------

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        """What to send since the last call, in order."""
        taken, self._layer.datagrams = self._layer.datagrams, []
        return taken

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        taken, self._layer.events = self._layer.events, []
        return taken

    # --- wishes in -----------------------------------------------------------------------------------------------

    def submit(self, action: actions.Action, now: float) -> None:
        """Do what the outside wants. Actions about something that is over already are ignored."""
        # First what the hot path uses: one comparison, no chain.
        if isinstance(action, actions.Respond):
            self._serving.respond(action, now)
        elif isinstance(action, actions.AcceptNotification):
            self._observing.accept(action.exchange, now)
        elif isinstance(action, actions.SendRequest):
            self._requests.submit(action, self._layer.peer_for_request(action.peer, action.once, now), now)
        elif isinstance(action, actions.SendNotification):
            self._send_notification(action, now)
        elif isinstance(action, actions.Proceed):
            held = self._questions.take(action.exchange)
            if held is not None:
                held[1](held[0], now)
        elif isinstance(action, actions.Recall):
            self._recall(action, now)
        elif isinstance(action, actions.Drop):
            self._drop(action.exchange)
        elif isinstance(action, actions.RejectToken):
            held = self._questions.take(action.exchange)
            if held is not None:
                self._layer.reject(held[0], now)
        elif isinstance(action, actions.RejectRequest):
            self._serving.reject(action.exchange, now)
        elif isinstance(action, actions.CancelRequest):
            self._requests.cancel(action.handle, now)
        elif isinstance(action, actions.HoldRequest):
            self._requests.hold(action.handle)
        elif isinstance(action, actions.RepeatRequest):
            self._requests.repeat(action.handle, now)
        else:
            self._submit_about_peer(action, now)

    def _submit_about_peer(
        self,
        action: actions.AdoptObservation
        | actions.ForgetObservation
        | actions.MovePeer
        | actions.VerifyPeer
        | actions.SetParameters
        | actions.ForgetPeer,
        now: float,
    ) -> None:
        peers = self._layer.peers
        if isinstance(action, actions.MovePeer):
            self._move(action, now)
            return
        if isinstance(action, actions.ForgetObservation | actions.ForgetPeer):
            # Whoever is not known is forgotten already: a thousand registrations that expire leave no trace here.
            self._forget(action, now)
            return
        peer = peers.find_or_add(action.peer, now)
        if peer is None:
            self._layer.refuse(action.peer, "peers_total", "too many peers")
        elif isinstance(action, actions.AdoptObservation):
            self._observing.adopt(action, peer, now)
        elif isinstance(action, actions.VerifyPeer):
            self._layer.verify(peer)
        elif isinstance(action, actions.SetParameters):
            peer.parameters = action.parameters
        else:
            assert_never(action)

    def _forget(self, action: actions.ForgetObservation | actions.ForgetPeer, now: float) -> None:
        peer = self._layer.peers.find(action.peer)
        if peer is None:
            return
        if isinstance(action, actions.ForgetObservation):
            self._observing.forget(peer, action.token, now)
            return
        self._requests.cancel_all(peer, now)
        self._observing.forget_all(peer, now)
        peer.parameters = peer.observed = peer.notified = None

    def _send_notification(self, action: actions.SendNotification, now: float) -> None:
        peer = self._layer.peers.find_or_add(action.peer, now)
        if peer is None:
            self._layer.refuse(action.peer, "peers_total", "too many peers")
        else:
            self._serving.notify(action, peer, now)

    def _recall(self, action: actions.Recall, now: float) -> None:
        held = self._questions.take(action.exchange)
        if held is None:
            return
        inbound = held[0]
        if inbound.message is not None and codes.is_request(inbound.message.code):
            self._serving.recall(inbound, action, now)
        else:
            self._observing.recall(inbound, now)

    def _drop(self, exchange: int) -> None:
        held = self._questions.take(exchange)
        if held is not None:
            self._layer.answers.forget(held[0])
        elif not self._serving.drop(exchange):
            self._observing.drop(exchange)

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
