"""One engine over streams behind TLS: itself an engine of six verbs, so that `net.tcp.StreamDriver` runs it.

Towards the driver and towards the inner engine a connection is the same peer (its transport is ``tls``); the inner one
hears of it once the handshake is complete and somebody has said whose it is, and of no byte before. What that takes is
asked by the events of `dtls` and answered by its actions: there is one way to prove an identity, whatever carries it.

The library's last flight does not leave before the answer, so a client that may not come in learns why from an alert.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Final, Generic, TypeAlias, TypeVar, cast

from stellwerk.coap.tcp.endpoint import AdoptConnection
from stellwerk.core.entropy import Entropy
from stellwerk.core.identity import CertificateIdentity, PskIdentity
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timers
from stellwerk.dtls import actions, events
from stellwerk.dtls.base import Admission
from stellwerk.dtls.certificates import CertificateRefused, read_certificate
from stellwerk.dtls.half_open import HalfOpen
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.net.driver import Engine
from stellwerk.net.tls_alerts import REASON_ALERTS
from stellwerk.net.tls_channel import Channel, Phase, TlsEnded, TlsFault
from stellwerk.net.tls_context import TlsContext
from stellwerk.net.tls_hello import NOTHING

TlsEvent: TypeAlias = (
    events.PskQuestion
    | events.CertificateQuestion
    | events.SessionEstablished
    | events.SessionEnded
    | events.HandshakeFailed
    | events.Dropped
)
"""What this engine tells; all else comes from the inner one."""
TlsAction: TypeAlias = (
    actions.GivePsk | actions.AcceptPeer | actions.RefusePeer | actions.ForgetHandshakes | actions.ReplaceIdentity
)
TLS_EVENTS: Final = frozenset(TlsEvent.__args__)
_TLS_ACTIONS: Final = frozenset(TlsAction.__args__)
_UNKNOWN_KEY_BYTES: Final = 32

E = TypeVar("E")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class TlsLimits:
    """Bounds of one engine. Times in seconds, sizes in bytes."""

    connections: int = 10_000
    """With those that make their handshake; one more is closed at once."""
    half_open: int = 1_000
    half_open_per_address: int = 250
    """Of one IP address (IPv6: of its /64)."""
    patience_s: float = 5.0
    """How long a handshake may take before it makes room for another of the same address."""
    handshake_s: float = 30.0
    """From the connection to the end of the handshake, whatever the client sends meanwhile."""
    answer_s: float = 10.0
    """How long a handshake waits for the answer to a question."""
    handshake_bytes: int = 32_768
    """Of all that a client sends until its handshake is complete."""
    early_bytes: int = 65_536
    """What may wait of a client that goes on before it is let in; it is read no further then."""


class TlsStack(Generic[E, A]):
    """``inner`` speaks with peers that are let in. ``identity``: what the server proves itself with; None, or without a
    certificate, for pre-shared keys only. ``cbc``: offer CBC suites, too."""

    def __init__(
        self,
        inner: Engine[E, A],
        entropy: Entropy,
        identity: ServerIdentity | None,
        *,
        cbc: bool = False,
        limits: TlsLimits | None = None,
        admission: Admission | None = None,
        is_full: Callable[[PeerId], bool] = lambda peer: False,
    ) -> None:
        """``is_full``: whether the inner engine has enough of a peer for now."""
        self._inner = inner
        self._entropy = entropy
        self._cbc = cbc
        self._limits = limits or TlsLimits()
        self._admission = admission or Admission()
        self._inner_full = is_full
        self._channels: dict[PeerId, Channel] = {}
        self._half_open: HalfOpen[Channel] = HalfOpen(
            self._limits.half_open, self._limits.half_open_per_address, self._limits.patience_s
        )
        self._by_question: dict[int, Channel] = {}
        self._fresh: list[Channel] = []
        """Let in since events were taken last: nobody else knows of them yet."""
        self._numbers = count(1)
        self._timers = Timers()
        self._events: list[E | TlsEvent] = []
        self._out: list[tuple[PeerId, bytes]] = []
        self._now = 0.0
        self._current: Channel | None = None
        """Whose handshake goes on just now."""
        self._context = self._make_context(identity)
        self.opened = 0
        """Connections that were let in."""
        self.ended: dict[str, int] = {}
        """Those of them that ended, by reason."""

    @property
    def has_psk(self) -> bool:
        """Whether pre-shared keys are offered."""
        return self._context.has_psk

    @property
    def has_short_tags(self) -> bool:
        """Whether suites with tags of 8 bytes are offered."""
        return self._context.has_short_tags

    @property
    def has_certificate(self) -> bool:
        """Whether clients may come with certificates."""
        return self._context.has_certificate

    @property
    def half_open(self) -> int:
        """Connections that are not let in yet."""
        return len(self._half_open)

    def is_full(self, peer: PeerId) -> bool:
        """Whether nothing more should be read from ``peer`` for now."""
        channel = self._channels.get(peer)
        if channel is None or channel.phase is Phase.OPEN:
            return self._inner_full(peer)
        return channel.phase is Phase.ASKING and len(channel.held) >= self._limits.early_bytes

    # -- the six verbs --

    def feed(self, data: bytes, *, peer: PeerId, now: float) -> None:
        """The next bytes of ``peer``, none for the end of its stream. Never raises, whatever the bytes."""
        self._now = now
        channel = self._channels.get(peer)
        if channel is None:
            return
        if not data:
            self._lost(channel, now)
        elif channel.phase is Phase.OPEN:
            channel.hand_on(data)
            self._read(channel, now)
        else:
            channel.taken += len(data)
            channel.held += data
            if channel.phase is Phase.SHAKING:
                self._go_on(channel, now)

    def tick(self, now: float) -> None:
        """Do what is due, here and inside."""
        self._now = now
        self._timers.fire_due(now)
        self._inner.tick(now)

    def submit(self, action: A | TlsAction, now: float) -> None:
        """An action of either engine. `coap.tcp.endpoint.AdoptConnection` begins a handshake."""
        self._now = now
        if isinstance(action, AdoptConnection):
            self._adopt(action.peer, now)
        elif type(action) in _TLS_ACTIONS:
            self._submit_ours(cast("TlsAction", action), now)
        else:
            self._inner.submit(cast("A", action), now)

    def take_events(self) -> list[E | TlsEvent]:
        """What happened, in order. Once there is nothing, all that the inner engine had to send is protected."""
        self._gather()
        if not self._events:
            self._protect()
            self._gather()
        found, self._events = self._events, []
        self._fresh.clear()
        return found

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        """What to send; empty bytes end a connection."""
        self._protect()
        found, self._out = self._out, []
        return found

    def deadline(self) -> float | None:
        """The earlier of both."""
        inner = self._inner.deadline()
        ours = self._timers.next_due()
        if inner is not None:
            ours = min(ours, inner)
        return None if ours == inf else ours

    # -- connections begin --

    def _adopt(self, peer: PeerId, now: float) -> None:
        limits = self._limits
        before = self._channels.get(peer)
        if before is not None:
            # The same two ends: the older connection is gone, and nobody has said so.
            self._lost(before, now)
        if not self._admission.address(peer, now):
            self._turn_away(peer, "rate")
            return
        has_room, oldest = self._half_open.make_room(peer, now)
        if not has_room or len(self._channels) >= limits.connections:
            self._turn_away(peer, "room")
            return
        if oldest is not None:
            self._fail(oldest, "room", "it was the oldest of too many handshakes under way")
        channel = Channel(peer, self._context, now, self._late)
        self._channels[peer] = channel
        self._half_open.add(channel)
        self._timers.arm(channel, now + limits.handshake_s)

    def _turn_away(self, peer: PeerId, reason: str) -> None:
        self._tell(events.Dropped(peer, reason))
        self._out.append((peer, b""))

    # -- handshakes --

    def _go_on(self, channel: Channel, now: float) -> None:
        """Let the handshake have what came."""
        if channel.taken > self._limits.handshake_bytes:
            text = f"the handshake takes more than {self._limits.handshake_bytes} bytes of the client"
            self._fail(channel, "bad-message", text)
            return
        try:
            self._hand_on(channel, now)
        except TlsFault as fault:
            self._fail(channel, fault.reason, fault.detail, channel.output())

    def _hand_on(self, channel: Channel, now: float) -> None:
        while channel.overhearing is not None:
            record = channel.overhearing.cut(channel.held)
            if record is None:
                return
            said = NOTHING if channel.is_read else channel.overhearing.read(record)
            if said.hello and not said.is_psk_only and not self._admission.public_key(channel.address, now):
                self._refuse(channel, "rate", "too many handshakes with certificates; it may try again later")
                return
            if said.identity is not None and self.has_psk and not self._knows(channel, said.identity):
                # The record that has told it waits at the head of what is held.
                channel.is_read = True
                self._ask(channel, now)
                self._tell(events.PskQuestion(channel.question, channel.address, said.identity))
                return
            if channel.overhearing.is_over:
                channel.overhearing = None
            channel.is_read = False
            del channel.held[: len(record)]
            channel.hand_on(record)
            if self._shake(channel, now):
                return
        if channel.held:
            channel.hand_on(channel.held)
            channel.held.clear()
            self._shake(channel, now)

    def _knows(self, channel: Channel, identity: bytes) -> bool:
        """Whether there is nothing to ask about ``identity``."""
        if channel.named != identity:
            channel.named, channel.key, channel.device, channel.refused = identity, b"", 0, None
            channel.identity = PskIdentity(identity)
            if not identity:
                channel.refused = ("unknown-identity", "the client named no PSK identity: give it one")
                channel.key = self._entropy.take(_UNKNOWN_KEY_BYTES)
        return bool(channel.key)

    def _find_key(self, identity: bytes) -> bytes:
        """The library wants the key of ``identity``, which ends before its first zero byte."""
        channel = self._current
        if channel is None or channel.named is None or channel.named.partition(b"\0")[0] != identity:
            return b""
        return channel.key

    def _keep_secret(self, secret: bytes) -> None:
        if self._current is not None:
            self._current.secret = secret

    def _shake(self, channel: Channel, now: float) -> bool:
        """Whether the handshake is complete, so that nothing more is to be given to it."""
        self._current = channel
        try:
            is_complete = channel.shake()
        finally:
            self._current = None
        if not is_complete:
            self._send(channel, channel.output())
            return False
        channel.overhearing = None
        channel.withheld = channel.output()
        chain = channel.chain()
        if not chain:
            if not channel.key or channel.refused is not None:
                # Without a certificate only a key that was given leads here.
                self._refuse(channel, "no-client-certificate", "the client has proven nothing")
                return True
            self._let_in(channel, now)
            return True
        try:
            leaf = read_certificate(chain[0])
        except CertificateRefused as refused:
            self._refuse(channel, refused.reason, refused.detail)
            return True
        identity = CertificateIdentity(chain, leaf.common_name, leaf.names)
        channel.identity, channel.named, channel.key = identity, None, b""
        self._ask(channel, now)
        self._tell(events.CertificateQuestion(channel.question, channel.address, identity))
        return True

    def _ask(self, channel: Channel, now: float) -> None:
        channel.phase = Phase.ASKING
        channel.question = next(self._numbers)
        self._by_question[channel.question] = channel
        self._timers.arm(channel, now + self._limits.answer_s)

    def _late(self, channel: Channel, now: float) -> None:
        if channel.phase is Phase.ASKING:
            self._refuse(channel, "not-answered", "nobody said in time who the client is; it may try again")
        elif not channel.taken:
            self._drop_unheard(channel)
            self._out.append((channel.address, b""))
        else:
            text = f"the client did not complete its handshake within {self._limits.handshake_s:g} s"
            self._fail(channel, "timeout", text)

    # -- answers --

    def _submit_ours(self, action: TlsAction, now: float) -> None:
        if isinstance(action, actions.ReplaceIdentity):
            self._context = self._make_context(action.identity)
            return
        if isinstance(action, actions.ForgetHandshakes):
            self._forget_handshakes(action.device, now)
            return
        channel = self._by_question.pop(action.handshake, None)
        if channel is None:
            return
        self._timers.arm(channel, max(channel.began + self._limits.handshake_s, now))
        channel.question = 0
        if isinstance(action, actions.AcceptPeer):
            channel.device = action.device
            self._let_in(channel, now)
            return
        is_proven = channel.named is None
        if isinstance(action, actions.GivePsk):
            channel.device, channel.key = action.device, action.key
        elif is_proven or action.reason in REASON_ALERTS:
            self._refuse(channel, action.reason, action.detail)
            return
        else:
            # As for a wrong key, to the last byte: a key that nobody has.
            channel.refused = (action.reason, action.detail)
            channel.key = self._entropy.take(_UNKNOWN_KEY_BYTES)
        channel.phase = Phase.SHAKING
        self._go_on(channel, now)

    def _forget_handshakes(self, device: int, now: float) -> None:
        text = "the device's credentials changed during the handshake; it may try again"
        for channel in self._half_open.all():
            if channel.device == device:
                self._fail(channel, "credentials-changed", text)
        for channel in [each for each in self._fresh if each.device == device]:
            if self._channels.get(channel.address) is not channel:
                continue
            self._inner.feed(b"", peer=channel.address, now=now)
            self._end(channel, "closed", "the device's credentials changed", channel.goodbye())

    # -- how handshakes end --

    def _let_in(self, channel: Channel, now: float) -> None:
        peer = channel.address
        self._half_open.drop(channel)
        self._timers.cancel(channel)
        channel.phase = Phase.OPEN
        self._send(channel, channel.withheld)
        channel.withheld = channel.secret = channel.key = b""
        self.opened += 1
        self._fresh.append(channel)
        assert channel.identity is not None
        self._tell(events.SessionEstablished(peer, peer, channel.identity, channel.device, 0, False))
        channel.identity = channel.named = None
        self._inner.submit(self._make_adoption(peer), now)
        channel.hand_on(channel.held)
        channel.held = bytearray()
        self._read(channel, now)

    def _make_adoption(self, peer: PeerId) -> A:
        return cast("A", AdoptConnection(peer))

    def _refuse(self, channel: Channel, reason: str, detail: str) -> None:
        """The client hears why, where it can be told."""
        alert = channel.refusal(reason)
        channel.withheld = b""
        self._fail(channel, reason, detail, alert)

    def _fail(self, channel: Channel, reason: str, detail: str, last: bytes = b"") -> None:
        if channel.refused is not None:
            reason, detail = channel.refused
        self._forget(channel)
        self._send(channel, last)
        self._out.append((channel.address, b""))
        self._tell(events.HandshakeFailed(channel.address, reason, detail, channel.identity))

    def _drop_unheard(self, channel: Channel) -> None:
        """It came and went without a word, as whoever looks for open ports does."""
        self._forget(channel)
        self._tell(events.Dropped(channel.address, "silent"))

    # -- connections end --

    def _lost(self, channel: Channel, now: float) -> None:
        """Its stream has ended."""
        peer = channel.address
        if channel.phase is Phase.OPEN:
            self._inner.feed(b"", peer=peer, now=now)
            self._end(channel, "closed", "the peer closed the connection", closes=False)
        elif not channel.taken:
            self._drop_unheard(channel)
        else:
            self._forget(channel)
            detail = "the client closed the connection in the middle of the handshake"
            self._tell(events.HandshakeFailed(peer, *(channel.refused or ("closed", detail)), channel.identity))

    def _read(self, channel: Channel, now: float) -> None:
        """Let the inner engine have what came."""
        peer = channel.address
        try:
            while data := channel.read():
                self._inner.feed(data, peer=peer, now=now)
        except TlsEnded as end:
            last = channel.output()
            self._protect()
            self._inner.feed(b"", peer=peer, now=now)
            if self._channels.get(peer) is channel:
                reason = "alert" if end.detail else "close-notify"
                self._end(channel, reason, end.detail, last or channel.goodbye())
            return
        self._send(channel, channel.output())

    def _end(self, channel: Channel, reason: str, detail: str, last: bytes = b"", *, closes: bool = True) -> None:
        self._forget(channel)
        self._send(channel, last)
        if closes:
            self._out.append((channel.address, b""))
        self.ended[reason] = self.ended.get(reason, 0) + 1
        self._tell(events.SessionEnded(channel.address, reason, detail))

    def _forget(self, channel: Channel) -> None:
        if self._channels.get(channel.address) is channel:
            del self._channels[channel.address]
        self._half_open.drop(channel)
        self._by_question.pop(channel.question, None)
        self._timers.cancel(channel)

    # -- inside --

    def _protect(self) -> None:
        """Protect what the inner engine has to send."""
        for peer, data in self._inner.take_datagrams():
            channel = self._channels.get(peer)
            if channel is None:
                continue
            if not data:
                self._end(channel, "closed", "", channel.goodbye())
            elif channel.write(data):
                self._send(channel, channel.output())

    def _gather(self) -> None:
        self._events += self._inner.take_events()

    def _tell(self, event: TlsEvent) -> None:
        # After whatever the inner engine had to tell before.
        self._gather()
        self._events.append(event)

    def _send(self, channel: Channel, data: bytes) -> None:
        if not data:
            return
        # The end of a handshake and the first message leave together.
        if self._out and self._out[-1][1] and self._out[-1][0] == channel.address:
            data = self._out.pop()[1] + data
        self._out.append((channel.address, data))

    def _make_context(self, identity: ServerIdentity | None) -> TlsContext:
        return TlsContext(identity, cbc=self._cbc, find_key=self._find_key, keep_secret=self._keep_secret)
