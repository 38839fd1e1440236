"""What is wanted of the engine. Each goes to `Endpoint.submit`."""

from dataclasses import dataclass, field

from stellwerk.core.ids import PeerId
from stellwerk.dtls.parameters import ClientParameters, ServerIdentity
from stellwerk.dtls.tickets import TicketKey


@dataclass(slots=True)
class GivePsk:
    """Answers a `PskQuestion`: the ``key`` (1 to 64 bytes) and the number of the device it belongs to."""

    handshake: int
    key: bytes = field(repr=False)
    device: int = 0


@dataclass(slots=True)
class AcceptPeer:
    """Answers a `CertificateQuestion` or a `ResumptionQuestion`."""

    handshake: int
    device: int = 0


@dataclass(slots=True)
class RefusePeer:
    """Answers any question about a peer: ``reason`` and ``detail`` come back in `HandshakeFailed`. ``alert`` None: as
    for a wrong key (decrypt_error), so that nobody learns which identities there are."""

    handshake: int
    reason: str
    detail: str
    alert: int | None = None


@dataclass(slots=True)
class RestoreSession:
    """Answers a `SessionQuestion` with a stored `events.SessionState`. ``read_mark``: the highest
    (epoch << 48 | number) whose effects are stored; nothing up to it is taken again."""

    question: int
    state: bytes = field(repr=False)
    read_mark: int


@dataclass(slots=True)
class NoSession:
    """Answers a `SessionQuestion`."""

    question: int


@dataclass(slots=True)
class SessionStored:
    """The `events.SessionState` of ``session_id`` with this ``ceiling`` is on disk."""

    session_id: bytes
    ceiling: int


@dataclass(slots=True)
class SendData:
    """One record to ``peer``. It is lost, like a datagram, where there is no such session or no room."""

    peer: PeerId
    data: bytes


@dataclass(slots=True)
class CloseSession:
    """End it: with a close_notify, or with the fatal ``alert`` for a session whose right was taken away."""

    peer: PeerId
    alert: int | None = None


@dataclass(slots=True)
class ForgetHandshakes:
    """End every handshake under way for ``device``: its credentials changed."""

    device: int


@dataclass(slots=True)
class Connect:
    """Client: begin a handshake with ``address``; `SessionEstablished` or `HandshakeFailed` follows. ``resume``: the
    `events.SessionState` of an earlier session with that server."""

    address: PeerId
    parameters: ClientParameters
    resume: bytes | None = field(default=None, repr=False)


@dataclass(slots=True)
class MoveSession:
    """Client: speak to the server from another local address from now on (with a connection ID the session lives)."""

    peer: PeerId
    address: PeerId


@dataclass(slots=True)
class ProvePeer:
    """``peer`` has answered something that was sent to its newest address: it receives there."""

    peer: PeerId


@dataclass(slots=True)
class ReplaceTicketKeys:
    """Server: tickets are sealed with the first of ``keys`` from now on and opened with any."""

    keys: tuple[TicketKey, ...]


@dataclass(slots=True)
class ReplaceIdentity:
    """Server: handshakes that begin from now on use this identity."""

    identity: ServerIdentity


Action = (
    GivePsk
    | AcceptPeer
    | RefusePeer
    | RestoreSession
    | NoSession
    | SessionStored
    | SendData
    | CloseSession
    | ForgetHandshakes
    | Connect
    | MoveSession
    | ProvePeer
    | ReplaceTicketKeys
    | ReplaceIdentity
)
