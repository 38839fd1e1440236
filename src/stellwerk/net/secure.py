"""One DTLS engine around one engine of messages: itself an engine of six verbs, so that any driver runs it.

Datagrams come from addresses, messages from secure sessions (`core.ids.session_peer`). What the outer engine tells
besides data goes up among the events of the inner one, in order; actions go to whichever engine they are for.
"""

from typing import Final, Generic, TypeAlias, TypeVar, cast

from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.net.driver import Engine

SecureEvent: TypeAlias = (
    events.PskQuestion
    | events.CertificateQuestion
    | events.ResumptionQuestion
    | events.SessionQuestion
    | events.SessionEstablished
    | events.SessionState
    | events.PeerMoved
    | events.SessionEnded
    | events.HandshakeFailed
    | events.Dropped
)
"""What comes up of the DTLS engine: all but `events.DataReceived`, which the inner engine gets."""

DtlsEvent: TypeAlias = SecureEvent | events.DataReceived
SECURE_EVENTS: Final = frozenset(SecureEvent.__args__)
_SECURE_ACTIONS: Final = frozenset(actions.Action.__args__)

E = TypeVar("E")
A = TypeVar("A")


class SecureStack(Generic[E, A]):
    """``dtls`` speaks with the network, ``inner`` with peers that are sessions."""

    def __init__(self, dtls: Engine[DtlsEvent, actions.Action], inner: Engine[E, A]) -> None:
        self._dtls = dtls
        self._inner = inner
        self._now = 0.0
        """When a verb with a time was called last: what the engines give one another has no other time."""

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        """One datagram from an address."""
        self._now = now
        self._dtls.feed(datagram, peer=peer, now=now)

    def tick(self, now: float) -> None:
        """Both engines do what is due."""
        self._now = now
        self._dtls.tick(now)
        self._inner.tick(now)

    def submit(self, action: A | actions.Action, now: float) -> None:
        """An action of either engine."""
        self._now = now
        if type(action) in _SECURE_ACTIONS:
            self._dtls.submit(cast("actions.Action", action), now)
        else:
            self._inner.submit(cast("A", action), now)

    def take_events(self) -> list[E | SecureEvent]:
        """What happened, in order. Once there is nothing, all that the inner engine had to send has been protected, and
        what the DTLS engine had to say to that was told too."""
        found: list[E | SecureEvent] = []
        while True:
            for event in self._dtls.take_events():
                if type(event) is events.DataReceived:
                    self._inner.feed(event.data, peer=event.peer, now=self._now)
                else:
                    found += self._inner.take_events()
                    found.append(cast("SecureEvent", event))
            found += self._inner.take_events()
            if found or not self._protect():
                return found

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        """What to send, to addresses."""
        self._protect()
        return self._dtls.take_datagrams()

    def deadline(self) -> float | None:
        """The earlier of both."""
        outer, inner = self._dtls.deadline(), self._inner.deadline()
        if outer is None or inner is None:
            return outer if inner is None else inner
        return min(outer, inner)

    def _protect(self) -> bool:
        """Hand over what the inner engine has to send; whether that was anything."""
        messages = self._inner.take_datagrams()
        submit, now = self._dtls.submit, self._now
        for peer, data in messages:
            submit(actions.SendData(peer, data), now)
        return bool(messages)
