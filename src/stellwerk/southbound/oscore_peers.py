"""What an engine tells of OSCORE contexts becomes calls of `app.handlers.oscore_contexts`, and its answers actions."""

from typing import assert_never

from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.oscore import ContextName, OscoreContext
from stellwerk.coap import actions, events
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.southbound.link import ContextEvent, Submit


class OscorePeers:
    """Of one engine, which ``submit`` reaches. Implements `app.handlers.oscore_contexts.ContextLink` and
    `southbound.bootstrap_link.BootstrapContexts` with its base `southbound.link.ContextEvents`."""

    def __init__(self, *, submit: Submit, contexts: OscoreContexts) -> None:
        self._submit = submit
        self._contexts = contexts

    def may_reach(self, peer: PeerId) -> bool:
        return self._contexts.may_reach(peer)

    def carrier_of(self, peer: PeerId) -> PeerId | None:
        return self._contexts.carrier_of(peer)

    # -- up --

    def take(self, event: ContextEvent, at: Instant) -> None:
        contexts = self._contexts
        match event:
            case events.ContextQuestion():
                contexts.asked(self, event.question, event.peer, ContextName(event.kid, event.kid_context), at)
            case events.ContextState():
                contexts.wants_numbers(self, event.number, event.ceiling)
            case events.ContextMoved():
                contexts.heard(self, event.number, event.peer, event.carrier, at)
            case events.ContextRederived():
                contexts.rederived(event.peer, at)
            case _:
                assert_never(event)

    def refused(self, event: events.Refused, at: Instant) -> None:
        self._contexts.refused(event.context, event.peer, event.reason, event.detail, at)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        if peer.is_context:
            self._contexts.lost(peer, why, at)
        else:
            self._contexts.carrier_lost(peer, why, at)

    # -- down: the ContextLink port --

    def give(self, question: int, context: OscoreContext, unused: int, ceiling: int) -> None:
        # What the device sends as, we receive from, and the other way round.
        material = ContextMaterial(
            context.number,
            context.recipient_id,
            context.sender_id,
            context.master_secret,
            context.master_salt,
            context.id_context,
            context.aead,
            context.hkdf,
            unused,
            ceiling,
        )
        self._submit(actions.GiveContext(question, material))

    def no_context(self, question: int, *, is_busy: bool = False) -> None:
        self._submit(actions.NoContext(question, is_busy))

    def stored(self, number: int, unused: int, ceiling: int) -> None:
        self._submit(actions.ContextStored(number, ceiling, unused))

    def drop(self, number: int) -> None:
        self._submit(actions.DropContext(number))
