"""One CoAP engine of the bootstrap server: its events become calls of `app`, and `app`'s wishes become its actions."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, assert_never

import structlog

from stellwerk.app.device_ports import Acknowledgement, DeviceAnswer
from stellwerk.app.ports import Clock
from stellwerk.coap import actions, codes, events
from stellwerk.coap.options import read_options
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import StellwerkError
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.bootstrap import BootstrapOperation, BootstrapPackRequest, BootstrapUplink, EstRequest
from stellwerk.southbound.link import ContextEvents
from stellwerk.southbound.translate_bootstrap import asked_elsewhere, translate_bootstrap_down, translate_bootstrap_up
from stellwerk.southbound.translate_up import respond, status_of

log = structlog.get_logger(__name__)

TOKEN_BYTES: Final = 8
PATIENCE_S: Final = 60.0
"""How long a step may take after the device has acknowledged it; a session has 247 s for all of them (B-3)."""
LINGER_S: Final = 93.0
"""How long a secure session stays after `BootstrapLink.end`: for as long the last answer may have to be repeated, or a
pack is fetched in blocks (RFC 7252 §4.8.2)."""
STREAM_LINGER_S: Final = 15.0
"""How long a connection stays: nothing is repeated there, and a pack in blocks is fetched at once."""
IDLE_S: Final = 600.0
"""How long a connection without security stays, from its begin or its last request; secure ones have
`app.handlers.bootstrap_channels`. Longer than any session."""
DONE: Final = "bootstrapping is over"

_REFUSALS: Final = {
    codes.NOT_FOUND: "path",
    codes.METHOD_NOT_ALLOWED: "path",
    codes.NOT_ACCEPTABLE: "accept",
    codes.REQUEST_ENTITY_INCOMPLETE: "block",
    codes.UNAUTHORIZED: "open",
}

Submit: TypeAlias = Callable[[actions.Action], None]


class Bootstrapping(Protocol):
    """The use case above the link."""

    def requested(
        self,
        uplink: BootstrapUplink,
        peer: PeerId,
        at: Instant,
        answer: Callable[[Acknowledgement], None],
        fresh: bool,
    ) -> None:
        """A device asks to be bootstrapped, or for a pack. ``answer`` is called once, now or later: 2.04, 2.05 with
        ``payload`` and ``content_format``, or an error. ``fresh``: who sent it has shown that it receives at
        ``peer``, which an answer with ``prove`` asks for; who is not proven and asks for a pack has."""
        ...

    def answered(self, answer: DeviceAnswer, at: Instant) -> None:
        """What came of an operation that `BootstrapLink.send` was given; once for each, never within the call of
        `send` itself."""
        ...

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The connection or secure session ``peer`` has ended. What was asked over it is answered ``lost`` besides,
        before or after this."""
        ...


class BootstrapContexts(ContextEvents, Protocol):
    """Who hears of an engine's OSCORE contexts, and knows where they are."""

    def carrier_of(self, peer: PeerId) -> PeerId | None:
        """Where the device of a context was heard last."""
        ...


class BootstrapLink:
    """Implements `app.device_ports.BootstrapLink`. ``submit`` reaches the engine (the driver's, or a test's). `connect`
    closes the circle with `app`."""

    def __init__(
        self,
        *,
        submit: Submit,
        entropy: Entropy,
        clock: Clock,
        reaches: Callable[[PeerId], bool] | None = None,
        close: Callable[[PeerId, str], None] | None = None,
    ) -> None:
        """``reaches``: whether a request to a peer could leave; None where it always can. ``close``: end a secure
        session or a connection, and say why; None where there are none."""
        self.submit = self._submit = submit
        self._entropy = entropy
        self._clock = clock
        self._reaches = reaches
        self._close = close
        self.closing: dict[PeerId, asyncio.TimerHandle] = {}
        """Secure sessions and connections that are closed in a while."""
        self._bootstrapping: Bootstrapping
        self.oscore: BootstrapContexts | None = None
        """What the engine tells of OSCORE contexts; None where it speaks none."""
        self.refused: dict[str, int] = {}
        """Datagrams that led to nothing, by reason."""

    def connect(self, bootstrapping: Bootstrapping) -> None:
        self._bootstrapping = bootstrapping

    # -- down: the BootstrapLink port --

    def send(self, handle: int, peer: PeerId, operation: BootstrapOperation) -> None:
        if not self._may_reach(peer):
            self._end_unsent(DeviceAnswer(handle, failure="unconnected", detail=f"{peer} has ended"))
            return
        try:
            down = translate_bootstrap_down(operation)
        except StellwerkError as error:
            self._end_unsent(DeviceAnswer(handle, failure="refused", detail=str(error)))
            return
        request = actions.SendRequest(
            handle,
            peer,
            down.code,
            self._entropy.take(TOKEN_BYTES),
            down.path,
            down.query,
            down.content_format,
            down.accept,
            payload=down.payload,
            # Whoever asked in somebody else's name shall get no more than it paid for; the first answer proves it.
            once=not (peer.is_proven or peer.is_connection),
            patience_s=PATIENCE_S,
            # B-1: whoever has to hear that it may begin hears it first.
            after_answers=True,
        )
        self._submit(request)

    def cancel(self, handle: int) -> None:
        self._submit(actions.CancelRequest(handle))

    def end(self, peer: PeerId) -> None:
        self._submit(actions.ForgetPeer(peer))
        channel = self._carrier(peer)
        if channel is not None and channel.is_channel and self._may_reach(channel):
            # One that is gone may have a successor of the same name, which is not to be closed.
            self._close_later(channel, STREAM_LINGER_S if channel.is_connection else LINGER_S)

    def opened(self, peer: PeerId) -> None:
        """A connection without security is there: whatever it says, it ends in a while where that is of no use."""
        self._close_later(peer, IDLE_S)

    def shut(self) -> None:
        """The server has closed, and every connection with it."""
        for peer in list(self.closing):
            self._stay_open(peer)

    def lose_peer(self, peer: PeerId, detail: str, *, unsent: bool = False) -> None:
        """The session that ``peer`` was is no more; ``unsent`` as in `coap.actions.LosePeer`."""
        self._submit(actions.LosePeer(peer, detail, unsent))
        if self.oscore is not None:
            self.oscore.lost(peer, detail, self._now())
        self._bootstrapping.lost(peer, detail, self._now())
        # Whatever ended with it wanted to close it.
        self._stay_open(peer)

    def _may_reach(self, peer: PeerId) -> bool:
        if peer.is_context:
            return self.oscore is not None and self.oscore.may_reach(peer)
        return self._reaches is None or self._reaches(peer)

    def _carrier(self, peer: PeerId) -> PeerId | None:
        """What carries the messages of ``peer``: of an OSCORE context what it was heard over last, else itself."""
        if peer.is_context:
            return None if self.oscore is None else self.oscore.carrier_of(peer)
        return peer

    def _close_later(self, channel: PeerId, after_s: float) -> None:
        self._stay_open(channel)
        if self._close is not None:
            self.closing[channel] = asyncio.get_running_loop().call_later(after_s, self._close_peer, channel)

    def _close_peer(self, peer: PeerId) -> None:
        del self.closing[peer]
        if self._close is not None:
            self._close(peer, DONE)

    def _stay_open(self, peer: PeerId) -> None:
        closing = self.closing.pop(peer, None)
        if closing is not None:
            closing.cancel()

    def _end_unsent(self, answer: DeviceAnswer) -> None:
        # Later, like every outcome: whoever called `send` has not returned yet.
        asyncio.get_running_loop().call_soon(self._tell_unsent, answer)

    def _tell_unsent(self, answer: DeviceAnswer) -> None:
        self._bootstrapping.answered(answer, self._now())

    def _now(self) -> Instant:
        return Instant(self._clock.now(), self._clock.wall_ms())

    # -- up: events of the engine --

    def handle(self, batch: list[events.Event], at: Instant) -> None:
        """Take the events of one round of the driver. A mistake of ours with one of them does not touch the others."""
        for event in batch:
            try:
                self._handle_one(event, at)
            except Exception:
                log.exception("event.failed", event_type=type(event).__name__, peer=str(event.peer))
                if isinstance(event, events.RequestReceived):
                    self._submit(actions.Respond(event.exchange, codes.INTERNAL_SERVER_ERROR))

    def _handle_one(self, event: events.Event, at: Instant) -> None:
        match event:
            case events.RequestReceived():
                self._request(event, at)
            case events.ResponseReceived():
                content_format = -1 if event.content_format is None else event.content_format
                answer = DeviceAnswer(event.handle, status_of(event.code), content_format, event.payload)
                self._bootstrapping.answered(answer, at)
            case events.RequestFailed():
                if event.reason == "unconnected" and event.peer.is_context and self.oscore is not None:
                    self.oscore.lost(event.peer, event.detail, at)
                silent = event.detail == events.NO_ANSWER
                answer = DeviceAnswer(event.handle, failure=event.reason, detail=event.detail, acknowledged=silent)
                self._bootstrapping.answered(answer, at)
            case events.RequestQuestion():
                # Sessions do not outlast this run, and an old request that runs again is a new one.
                self._submit(actions.Proceed(event.exchange))
            case events.TokenQuestion():
                # An answer to a step that was given up, or a notification: nothing is observed here.
                self._count("token")
                self._submit(actions.RejectToken(event.exchange))
            case events.ConnectionLost():
                log.debug("connection.lost", peer=str(event.peer), reason=event.reason, detail=event.detail)
                if self.oscore is not None:
                    self.oscore.lost(event.peer, event.detail, at)
                if not event.peer.is_context:
                    self._bootstrapping.lost(event.peer, event.detail, at)
                self._stay_open(event.peer)
            case events.Refused():
                self._count(event.reason)
                if event.peer.transport == "tcp" and not self._may_reach(event.peer):
                    # It was not taken at all.
                    self._stay_open(event.peer)
                log.debug("datagram.refused", peer=str(event.peer), reason=event.reason, detail=event.detail)
                if self.oscore is not None and event.context:
                    self.oscore.refused(event, at)
            case events.ContextQuestion() | events.ContextState() | events.ContextMoved() | events.ContextRederived():
                if self.oscore is not None:
                    self.oscore.take(event, at)
            case (
                events.PeerReacted()
                | events.PeerProbed()
                | events.NotificationReceived()
                | events.NotificationAcked()
                | events.NotificationRejected()
                | events.ObservationLost()
            ):
                pass
            case _:
                assert_never(event)

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _request(self, event: events.RequestReceived, at: Instant) -> None:
        exchange, peer = event.exchange, event.peer
        carrier = self._carrier(peer)
        if carrier is not None and carrier.transport == "tcp":
            self._close_later(carrier, IDLE_S)
        uplink = translate_bootstrap_up(event)
        if isinstance(uplink, BootstrapPackRequest | EstRequest):
            block = read_options(event.options).block2
            if block is not None and block.number:
                # Another pack or certificate is no continuation of the one that it has the beginning of.
                uplink = codes.REQUEST_ENTITY_INCOMPLETE
        if isinstance(uplink, EstRequest) and not (peer.is_proven and peer.carrier == "dtls"):
            # RFC 9148 §3: over DTLS and nothing else.
            uplink = codes.UNAUTHORIZED
        if isinstance(uplink, int):
            self._count(_REFUSALS[uplink])
            path, detail = "/" + "/".join(event.path), asked_elsewhere(event.path, is_bootstrap=True)
            log.info("bootstrap_request.refused", peer=str(peer), code=codes.dotted(uplink), path=path, detail=detail)
            self._submit(actions.Respond(exchange, uplink))
            return
        if isinstance(uplink, BootstrapPackRequest) and not (event.fresh or peer.is_proven):
            # A pack is many times its request, and nobody is to be told what nobody may hear (contract §1.7).
            self._count("unproven")
            self._submit(actions.Respond(exchange, codes.UNAUTHORIZED, ask_echo=True))
            return
        if carrier is not None and carrier.transport != "tcp":
            self._stay_open(carrier)

        def answer(acknowledgement: Acknowledgement) -> None:
            self._submit(respond(exchange, acknowledgement))

        self._bootstrapping.requested(uplink, peer, at, answer, event.fresh)
