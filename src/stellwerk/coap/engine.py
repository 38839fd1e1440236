"""The engine above a message layer: what is the same for datagrams and for streams.

`endpoint.Endpoint` is the one over UDP, `tcp.StreamEndpoint` the one over TCP; they differ in `feed`.
"""

from collections.abc import Mapping
from typing import Protocol, assert_never

from stellwerk.coap import actions, codes
from stellwerk.coap.blockwise import Bodies
from stellwerk.coap.events import Event
from stellwerk.coap.exchange import Requests
from stellwerk.coap.layer import MessageLayer
from stellwerk.coap.observe import Observing
from stellwerk.coap.peers import Peer
from stellwerk.coap.serving import Questions, Serving
from stellwerk.core.ids import PeerId


class Protected(Protocol):
    """The exchange layer of OSCORE contexts beside that of addresses (`oscore.engine`)."""

    def takes(self, action: actions.Action) -> bool:
        """Whether ``action`` is about something there."""
        ...

    def submit(self, action: actions.Action, now: float) -> None:
        """Do it."""
        ...

    def lose_carrier(self, id: PeerId, reason: str, detail: str, now: float) -> None:
        """The connection or session ``id`` is no more."""
        ...


class ExchangeEngine:
    """The exchange layer of one engine on ``layer``. All times are monotonic seconds.

    ``body_bytes_by_path``: the largest request body by path prefix, e.g. ``{("rd",): 65536}``.
    """

    def __init__(self, layer: MessageLayer, body_bytes_by_path: Mapping[tuple[str, ...], int] | None) -> None:
        self._base = layer
        self._questions = Questions(layer)
        self._bodies = Bodies(layer, body_bytes_by_path or {})
        self._serving = Serving(layer, self._questions, self._bodies)
        self._requests = Requests(layer)
        self._observing = Observing(layer, self._questions, self._requests)
        self._protected: Protected | None = None

    # --- time in -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due by ``now``: repetitions, empty acknowledgements, ends of waiting."""
        self._base.tick(now)

    def deadline(self) -> float | None:
        """When to tick next, None for no need."""
        return self._base.deadline()

    # --- figures -------------------------------------------------------------------------------------------------

    @property
    def duplicates(self) -> int:
        """Messages that came before and were answered from memory or swallowed."""
        return self._base.duplicates

    @property
    def retransmissions(self) -> int:
        """Confirmable messages of ours that were sent again."""
        return self._base.retransmissions

    @property
    def peers(self) -> int:
        """Peers of which something is remembered."""
        return len(self._base.peers)

    # --- bytes and meaning out -----------------------------------------------------------------------------------

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        """What to send since the last call, in order."""
        taken, self._base.datagrams = self._base.datagrams, []
        return taken

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        taken, self._base.events = self._base.events, []
        return taken

    # --- wishes in -----------------------------------------------------------------------------------------------

    def submit(self, action: actions.Action, now: float) -> None:
        """Do what the outside wants. Actions about something that is over already are ignored."""
        # First what the hot path uses: no chain. Exchanges below zero are protected ones.
        if isinstance(action, actions.Respond):
            if action.exchange >= 0 or self._protected is None:
                self._serving.respond(action, now)
            else:
                self._protected.submit(action, now)
            return
        if self._protected is not None and self._protected.takes(action):
            self._protected.submit(action, now)
            return
        if isinstance(action, actions.AcceptNotification):
            self._observing.accept(action.exchange, now)
        elif isinstance(action, actions.SendRequest):
            self._requests.submit(action, self._base.peer_for_request(action.peer, action.once, now), now)
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
                self._base.reject(held[0], now)
        elif isinstance(action, actions.RejectRequest):
            self._serving.reject(action.exchange, now)
        elif isinstance(action, actions.CancelRequest):
            self._requests.cancel(action.handle, now)
        elif isinstance(action, actions.HoldRequest):
            self._requests.hold(action.handle)
        elif isinstance(action, actions.RepeatRequest):
            self._requests.repeat(action.handle, now)
        elif isinstance(
            action,
            actions.GiveContext
            | actions.NoContext
            | actions.ContextStored
            | actions.AdoptContext
            | actions.DropContext,
        ):
            # Nobody here asks for contexts.
            pass
        else:
            self._submit_about_peer(action, now)

    def _submit_about_peer(
        self,
        action: actions.AdoptObservation
        | actions.ForgetObservation
        | actions.MovePeer
        | actions.VerifyPeer
        | actions.ProbePeer
        | actions.LosePeer
        | actions.SetParameters
        | actions.ForgetPeer,
        now: float,
    ) -> None:
        peers = self._base.peers
        if isinstance(action, actions.MovePeer):
            self._move(action, now)
            return
        if isinstance(action, actions.ForgetObservation | actions.ForgetPeer | actions.LosePeer):
            # Whoever is not known is forgotten already: a thousand registrations that expire leave no trace here.
            self._forget(action, now)
            if self._protected is not None and isinstance(action, actions.LosePeer):
                self._protected.lose_carrier(action.peer, "closed", action.detail, now)
            return
        peer = peers.find_or_add(action.peer, now)
        if peer is None:
            self._base.refuse(action.peer, *self._base.absence)
        elif isinstance(action, actions.AdoptObservation):
            self._observing.adopt(action, peer, now)
        elif isinstance(action, actions.VerifyPeer):
            self._base.verify(peer)
        elif isinstance(action, actions.ProbePeer):
            self._base.probe(peer, now)
        elif isinstance(action, actions.SetParameters):
            peer.parameters = action.parameters
        else:
            assert_never(action)

    def _forget(self, action: actions.ForgetObservation | actions.ForgetPeer | actions.LosePeer, now: float) -> None:
        peer = self._base.peers.find(action.peer)
        if peer is None:
            return
        if isinstance(action, actions.ForgetObservation):
            self._forget_observation(peer, action.token, now)
            return
        if isinstance(action, actions.LosePeer):
            self._requests.lose_all(peer, action.detail, now, unsent=action.unsent)
        else:
            self._requests.cancel_all(peer, now)
        self._observing.forget_all(peer, now)
        peer.parameters = peer.observed = peer.notified = None

    def _send_notification(self, action: actions.SendNotification, now: float) -> None:
        peer = self._base.peers.find_or_add(action.peer, now)
        if peer is None:
            self._base.refuse(action.peer, *self._base.absence)
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
            self._base.answers.forget(held[0])
        elif not self._serving.drop(exchange):
            self._observing.drop(exchange)

    def _forget_observation(self, peer: Peer, token: bytes, now: float) -> None:
        self._observing.forget(peer, token, now)

    def _move(self, action: actions.MovePeer, now: float) -> None:
        raise NotImplementedError
