"""What the DTLS engine tells becomes calls of whoever keeps its sessions, and the answers become actions."""

from collections.abc import Callable, Container
from typing import Final, Protocol, TypeAlias, assert_never

from stellwerk.app.handlers.handshakes import Handshakes
from stellwerk.app.session import SecureSession
from stellwerk.coap import actions as coap_actions
from stellwerk.coap.events import Event, PeerProbed
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId, session_peer
from stellwerk.core.instant import Instant
from stellwerk.dtls import actions, events
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.net.secure import SECURE_EVENTS, SecureEvent
from stellwerk.southbound.handshake_peers import HandshakePeers, in_order
from stellwerk.southbound.trust import TrustAnchors

_OURS: Final = SECURE_EVENTS | {PeerProbed}

Submit: TypeAlias = Callable[[coap_actions.Action | actions.Action], None]


class MessageLink(Protocol):
    """What becomes of the events of the inner engine, whose messages the sessions carry."""

    refused: dict[str, int]
    """Datagrams that led to nothing, by reason."""

    def handle(self, batch: list[Event], at: Instant) -> None:
        """Take the events of one round of the driver, in order."""
        ...

    def lose_peer(self, peer: PeerId, detail: str, *, unsent: bool = False) -> None:
        """The session that ``peer`` was is no more; ``unsent`` as in `coap.actions.LosePeer`."""
        ...


class SessionKeeper(Protocol):
    """Whose each session is, and which are kept: `app.handlers.secure_sessions` of device management,
    `app.handlers.bootstrap_sessions` of bootstrapping. It answers questions through `app.device_ports.SecureLink`."""

    @property
    def handshakes(self) -> Handshakes:
        """Who makes a handshake."""
        ...

    @property
    def devices(self) -> Container[PeerId]:
        """The sessions in memory."""
        ...

    def may_reach(self, peer: PeerId) -> bool:
        """Whether what is sent to the session may arrive."""
        ...

    def keep(self, session: SecureSession) -> None:
        """The session is, or has become, this."""
        ...

    def asked_to_resume(
        self, handshake: int, identity: SecureIdentity, device_id: DeviceId, session_id: bytes, at: Instant
    ) -> None:
        """May ``identity`` go on from the session that it had?"""
        ...

    def asked_for_session(self, question: int, session_id: bytes | None, address: PeerId | None, at: Instant) -> None:
        """Is there a stored session of this ID, or last heard from ``address``?"""
        ...

    def established(
        self,
        peer: PeerId,
        address: PeerId,
        identity: SecureIdentity,
        device_id: DeviceId,
        at: Instant,
        *,
        resumed: PeerId | None = None,
    ) -> None:
        """A handshake is complete."""
        ...

    def moved(self, peer: PeerId, old: PeerId, new: PeerId) -> None:
        """The session is heard from another address."""
        ...

    def ended(self, peer: PeerId, reason: str, detail: str, at: Instant) -> None:
        """The session is not in memory any more."""
        ...


class SecurePeers(HandshakePeers):
    """Implements `app.device_ports.SecureLink`. ``submit`` reaches the engines (`net.secure.SecureStack`), ``link``
    gets what the inner one tells. ``check_dates``: whether dates of certificates are looked at."""

    def __init__(
        self,
        *,
        submit: Submit,
        link: MessageLink,
        is_live: Callable[[PeerId], bool],
        trust: TrustAnchors,
        check_dates: bool,
    ) -> None:
        """``is_live``: whether the engine has a session in memory."""
        super().__init__(submit, trust, check_dates)
        self._submit = submit
        self._is_live = is_live
        self._link = link
        self._sessions: SessionKeeper
        self._doubted: set[PeerId] = set()
        """Sessions that moved and did not react to the probe; the next message is another occasion."""

    def connect(self, sessions: SessionKeeper) -> None:
        """Close the circle with `app`."""
        self._sessions = sessions

    def may_reach(self, peer: PeerId) -> bool:
        """Whether what is sent to the session may arrive."""
        return self._sessions.may_reach(peer)

    # -- up --

    def handle(self, batch: list[Event | SecureEvent], at: Instant) -> None:
        """Take the events of one round of the driver, in order."""
        in_order(batch, _OURS, self._handle_one, self._pass_on, at)

    def _pass_on(self, messages: list[Event], at: Instant) -> None:
        if self._doubted:
            for peer in {each.peer for each in messages} & self._doubted:
                self._doubted.discard(peer)
                self._submit(coap_actions.ProbePeer(peer))
        self._link.handle(messages, at)

    def _handle_one(self, event: SecureEvent | PeerProbed, at: Instant) -> None:
        sessions = self._sessions
        match event:
            case events.SessionState():
                sessions.keep(
                    SecureSession(
                        event.session_id,
                        DeviceId(event.device),
                        event.address,
                        event.state,
                        event.ceiling,
                        at.wall_ms,
                        by_address=event.by_address,
                    )
                )
            case events.PskQuestion() | events.CertificateQuestion():
                self.ask(event, sessions.handshakes, at)
            case events.ResumptionQuestion():
                sessions.asked_to_resume(event.handshake, event.identity, DeviceId(event.device), event.session_id, at)
            case events.SessionQuestion():
                sessions.asked_for_session(event.question, event.session_id, event.address, at)
            case events.SessionEstablished():
                sessions.established(
                    event.peer,
                    event.address,
                    event.identity,
                    DeviceId(event.device),
                    at,
                    resumed=event.resumed,
                )
            case events.PeerMoved():
                self._doubted.discard(event.peer)
                self._submit(coap_actions.ProbePeer(event.peer))
                sessions.moved(event.peer, event.old, event.new)
            case PeerProbed():
                if event.reached:
                    self._submit(actions.ProvePeer(event.peer))
                elif event.peer in sessions.devices:
                    self._doubted.add(event.peer)
            case events.SessionEnded():
                self._doubted.discard(event.peer)
                if event.reason != "evicted":
                    self._link.lose_peer(event.peer, f"the secure session ended: {event.detail or event.reason}")
                sessions.ended(event.peer, event.reason, event.detail, at)
            case events.HandshakeFailed():
                sessions.handshakes.failed(event.address, event.reason, event.detail, event.identity, at)
            case events.Dropped():
                self.count(event)
            case _:
                assert_never(event)

    # -- down: the SecureLink port --

    def restore(self, question: int, session: SecureSession) -> bool:
        self._submit(actions.RestoreSession(question, session.state, session.read_mark))
        # Who only resumes it does not bring it back.
        return self._is_live(session_peer(session.session_id))

    def no_session(self, question: int) -> None:
        self._submit(actions.NoSession(question))

    def lose(self, peer: PeerId, why: str) -> None:
        self._link.lose_peer(peer, why, unsent=True)

    def stored(self, session_id: bytes, ceiling: int) -> None:
        self._submit(actions.SessionStored(session_id, ceiling))

    def close(self, peer: PeerId, *, revoked: bool = False) -> None:
        # Clients take access_denied for the end of what they were given and go back to their bootstrap server; after a
        # close_notify they come again, with a key that may be newer (contract §2.2).
        self._submit(actions.CloseSession(peer, AlertDescription.ACCESS_DENIED if revoked else None))

    def follow(self, old: PeerId, new: PeerId) -> None:
        self._submit(coap_actions.MovePeer(old, new))
