"""The exchange layer of contexts, beside that of addresses: who reads protected messages, and what becomes of them.

The engine of an endpoint hands over what carries the OSCORE option, to be read in `requests` and `responses`, and
wishes that are about contexts (`takes`, `submit`).
"""

from collections.abc import Mapping
from typing import Final

from stellwerk.coap import actions
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.engine import ExchangeEngine
from stellwerk.coap.events import ConnectionLost
from stellwerk.coap.layer import MessageLayer
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.observe import cancellation_options
from stellwerk.coap.oscore.context import Keys, refusal_of
from stellwerk.coap.oscore.contexts import Context, ContextPeer
from stellwerk.coap.oscore.layer import GuardedOwner, OscoreLayer
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.requests import RequestReader
from stellwerk.coap.oscore.responses import ResponseReader
from stellwerk.coap.peers import Peer
from stellwerk.coap.serving import Serving
from stellwerk.core.ids import PeerId

_CANCELLED_REMEMBERED: Final = 64
_BY_EXCHANGE: Final = (
    actions.Respond,
    actions.AcceptNotification,
    actions.Proceed,
    actions.Recall,
    actions.Drop,
    actions.RejectToken,
    actions.RejectRequest,
)
_BY_HANDLE: Final = (actions.CancelRequest, actions.HoldRequest, actions.RepeatRequest)
_ABOUT_CONTEXTS: Final = (
    actions.GiveContext,
    actions.NoContext,
    actions.ContextStored,
    actions.AdoptContext,
    actions.DropContext,
)


class _Nobody:
    """The owner of a cancellation: whatever becomes of it, the observation is forgotten."""

    def acknowledged(self, now: float) -> None:
        """It arrived."""

    def reset(self, now: float) -> None:
        """There is no such observation."""

    def unacknowledged(self, now: float) -> None:
        """Its connection will end."""

    def refused(self, bound: str, now: float) -> None:
        """What still comes is passed over."""


_NOBODY: Final = _Nobody()


class ProtectedExchanges(ExchangeEngine):
    """Exchanges under OSCORE on ``base``, the message layer of an engine. ``plain`` serves its unprotected requests,
    and answers those that cannot be read."""

    def __init__(
        self,
        base: MessageLayer,
        plain: Serving,
        body_bytes_by_path: Mapping[tuple[str, ...], int] | None,
        contexts: int,
    ) -> None:
        layer = OscoreLayer(base, contexts)
        super().__init__(layer, body_bytes_by_path)
        layer.freshness = self._serving.freshness
        self._layer = layer
        self._contexts = layer.peers
        self._carriers = base
        self._reader = RequestReader(layer, plain, self._serving, self._questions, self._start_anew)
        self._responses = ResponseReader(layer, self._requests, self._observing)
        self._answer_ended_below = base.answer_ended
        base.answer_ended = self._answer_ended

    # --- wishes --------------------------------------------------------------------------------------------------

    def takes(self, action: actions.Action) -> bool:
        """Whether ``action`` is about something here."""
        if isinstance(action, _BY_EXCHANGE):
            return action.exchange < 0
        if isinstance(action, _BY_HANDLE):
            return self._requests.knows(action.handle)
        if isinstance(action, _ABOUT_CONTEXTS):
            return True
        if isinstance(action, actions.MovePeer):
            return action.old.is_context
        return action.peer.is_context

    def submit(self, action: actions.Action, now: float) -> None:
        """As `ExchangeEngine.submit`, and what concerns contexts."""
        if isinstance(action, actions.Respond | actions.SendRequest):
            super().submit(action, now)
        elif isinstance(action, actions.GiveContext):
            self._give(action, now)
        elif isinstance(action, actions.NoContext):
            for arrival in self._reader.take(action.question):
                if action.is_busy:
                    self._reader.put_off(arrival, now)
                else:
                    self._reader.refuse_unknown(arrival, now)
        elif isinstance(action, actions.ContextStored):
            context = self._contexts.by_number(action.number)
            if context is not None:
                context.raise_ceiling(action.unused, action.ceiling)
        elif isinstance(action, actions.AdoptContext):
            self._adopt(action, now)
        elif isinstance(action, actions.DropContext):
            context = self._contexts.by_number(action.number)
            if context is not None:
                self._remove(context, "the context was dropped", now)
        elif isinstance(action, actions.AdoptObservation):
            self._responses.adopt_observation(action, now)
        elif isinstance(action, actions.SetParameters):
            super().submit(action, now)
            self._share_parameters(action.peer)
        elif (
            isinstance(action, actions.RejectToken | actions.Drop)
            and (stranger := self._responses.take_stranger(action.exchange)) is not None
        ):
            if isinstance(action, actions.RejectToken):
                self._carriers.reject(stranger[0], now)
            else:
                self._carriers.answers.forget(stranger[0])
        else:
            super().submit(action, now)

    def _move(self, action: actions.MovePeer, now: float) -> None:
        """A context moves by being heard."""

    def _forget_observation(self, peer: Peer, token: bytes, now: float) -> None:
        """Over a stream there is no RST to the next notification: there the peer is told (RFC 8323 §7)."""
        assert isinstance(peer, ContextPeer)
        relation = (peer.relations or {}).get(token)
        request = relation.request if relation is not None and self._layer.ordered else None
        if request is not None:
            peer.cancelled[token] = None
        super()._forget_observation(peer, token, now)
        if request is not None:
            if len(peer.cancelled) > _CANCELLED_REMEMBERED:
                del peer.cancelled[next(iter(peer.cancelled))]
            options = encode_options(cancellation_options(request))
            self._layer.send_confirmable(peer, request.code, token, options, request.payload, _NOBODY, now)

    def abandon(self, number: int) -> None:
        """The message ``number`` of the layer below needs no decision any more."""
        self._responses.take_stranger(-number)
        self._drop(-number)

    # --- contexts in and out -------------------------------------------------------------------------------------

    def _give(self, action: actions.GiveContext, now: float) -> None:
        arrivals = self._reader.take(action.question)
        if not arrivals:
            return
        context = self._know(action.material, arrivals[0].outer.peer.id, now)
        for arrival in arrivals:
            if context is None or context.keys.recipient_id != arrival.option.kid:
                self._reader.refuse_unknown(arrival, now)
            else:
                self._reader.receive(context, arrival, now)

    def _know(self, material: ContextMaterial, asker: PeerId, now: float) -> Context | None:
        context = self._contexts.by_number(material.number)
        if context is not None and context.material.master_secret == material.master_secret:
            # Asked for by two of its messages; its window must not begin anew.
            return context
        refusal = refusal_of(material)
        if refusal is not None:
            self._layer.refuse(asker, "oscore_material", refusal)
            return None
        if context is not None:
            self._remove(context, "the context was replaced", now)
        context = Context(material, self._layer.entropy)
        if not self._contexts.add(context):
            self._layer.refuse(asker, "contexts_total", "too many OSCORE contexts")
            return None
        return context

    def _adopt(self, action: actions.AdoptContext, now: float) -> None:
        context = self._know(action.material, action.carrier, now)
        if context is None:
            return
        if action.rederive:
            context.keys = Keys(context.material, context.recovery.start(self._layer.entropy))
        peer = self._contexts.peer_of(context, action.carrier.transport, now)
        if peer.carrier is None:
            self._contexts.move(peer, action.carrier)
        self._layer.look_ahead(context)

    def _remove(self, context: Context, detail: str, now: float) -> None:
        self._start_anew(context, detail, now)
        self._contexts.remove(context)

    def _start_anew(self, context: Context, detail: str, now: float) -> None:
        for peer in context.peers.values():
            self._end_all(peer, detail, now)
            self._forget_tokens(peer)

    def _end_all(self, peer: ContextPeer, detail: str, now: float) -> None:
        """What was asked over ``peer`` comes to nothing."""
        self._requests.lose_all(peer, detail, now)
        self._bodies.discard_all(peer)
        self._observing.forget_all(peer, now)
        peer.observed = peer.notified = None
        peer.observers.clear()

    def _forget_tokens(self, peer: ContextPeer) -> None:
        carrier = self._carriers.peers.find(peer.carrier) if peer.carrier is not None else None
        for token in list(peer.sent_requests):
            self._layer.forget_token(peer, carrier, token)

    def _share_parameters(self, id: PeerId) -> None:
        """The message layer below repeats and acknowledges by the parameters of the address."""
        peer = self._contexts.find(id)
        carrier = self._layer.carrier_of(peer) if peer is not None else None
        if peer is not None and carrier is not None:
            carrier.parameters = peer.parameters

    def _forget(self, action: actions.ForgetObservation | actions.ForgetPeer | actions.LosePeer, now: float) -> None:
        super()._forget(action, now)
        self._share_parameters(action.peer)

    def release_carrier(self, id: PeerId, detail: str, now: float) -> None:
        """The peer of the connection ``id`` takes no more requests; those that were sent are still answered."""
        for peer in self._contexts.at(id):
            self._requests.withdraw_waiting(peer, detail, now)

    def is_asking(self, id: PeerId) -> bool:
        """Whether a request to ``id`` waits for its answer."""
        return any(peer.outgoing is not None and peer.outgoing.by_token for peer in self._contexts.at(id))

    def lose_carrier(self, id: PeerId, reason: str, detail: str, now: float) -> None:
        """The connection or session ``id`` is no more."""
        for peer in list(self._contexts.at(id)):
            self._end_all(peer, detail, now)
            self._forget_tokens(peer)
            self._contexts.move(peer, None)
            if self._layer.ordered:
                self._layer.events.append(ConnectionLost(peer.id, reason, detail))

    def _answer_ended(self, carrier: Peer, now: float) -> None:
        self._answer_ended_below(carrier, now)
        for peer in self._contexts.at(carrier.id):
            self._layer.answer_ended(peer, now)

    # --- bytes in ------------------------------------------------------------------------------------------------

    def receive_request(self, inbound: Inbound, payload: bytes, now: float) -> None:
        """A request with the OSCORE option came, as ``inbound`` in the layer below."""
        self._reader.receive_request(inbound, payload, now)

    def receive_acknowledgement(self, carrier: Peer, owner: GuardedOwner, message: Message, now: float) -> None:
        """An acknowledgement with an answer to a protected request came from ``carrier``."""
        self._responses.receive_acknowledgement(carrier, owner, message, now)

    def receive_response(self, carrier: Peer, inbound: Inbound, message: Message, now: float) -> None:
        """A response with the token of a protected request came from ``carrier``."""
        self._responses.receive_response(carrier, inbound, message, now)

    def receive_stranger(self, carrier: Peer, inbound: Inbound, message: Message, now: float) -> None:
        """A protected response came whose token no request here has."""
        self._responses.receive_stranger(carrier, inbound, message, now)

    def receive_reset(self, carrier: Peer, mid: int) -> None:
        """A RST from ``carrier``: perhaps for a non-confirmable notification of ours."""
        for peer in self._contexts.at(carrier.id):
            self._serving.reset(peer, mid)
