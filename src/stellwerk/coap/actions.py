"""What we want of the engine: the arguments of `Endpoint.submit`."""

from dataclasses import dataclass

from stellwerk.coap.message import Options
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.parameters import EXCHANGE_LIFETIME_S, Parameters
from stellwerk.core.ids import PeerId


@dataclass(slots=True)
class SendRequest:
    """A confirmable request to ``peer``. ``handle`` is the caller's number, repeated in what comes of it.

    ``token`` is drawn by the caller (at least 4 unguessable bytes), so that a wanted observation is stored before its
    Observe leaves. ``observe``: None for a plain request, 0 to observe, 1 to cancel (with the relation's token).
    Bodies above the block size go block-wise. Over NSTART it waits its turn; over the bound it fails as ``refused``.
    ``once``: the peer's address is not proven; after the first transmission, repeat only what the peer's own datagrams
    pay for (three times their bytes, decision 0006). ``patience_s``: how long an answer may take after the request was
    acknowledged. ``ack_timeout_s``: this request's ACK_TIMEOUT, None for the peer's. ``after_answers``: it leaves once
    all that we answered separately to this peer has arrived, or is given up: the peer hears things in their order.
    """

    handle: int
    peer: PeerId
    code: int
    token: bytes
    path: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    content_format: int | None = None
    accept: int | None = None
    observe: int | None = None
    payload: bytes = b""
    once: bool = False
    patience_s: float = EXCHANGE_LIFETIME_S
    ack_timeout_s: float | None = None
    after_answers: bool = False


@dataclass(slots=True)
class CancelRequest:
    """Give up on a request: it ends as `events.RequestFailed` ``cancelled``."""

    handle: int


@dataclass(slots=True)
class HoldRequest:
    """The peer sleeps: repeat the request no more, but go on waiting for its acknowledgement as long as if it were
    repeated. Ignored for a request that has none outstanding."""

    handle: int


@dataclass(slots=True)
class RepeatRequest:
    """The peer listens again: repeat a request that is not acknowledged at once, with its message ID, and then by its
    timers as before. What left within the last ACK_TIMEOUT may have arrived: it is repeated by its timer, once even if
    it is held by then."""

    handle: int


@dataclass(slots=True)
class Respond:
    """The answer to a `RequestReceived`, stored for its duplicates for EXCHANGE_LIFETIME."""

    exchange: int
    code: int
    location: tuple[str, ...] = ()
    content_format: int | None = None
    options: Options = ()
    payload: bytes = b""
    ask_echo: bool = False
    """Add an Echo for the client to repeat its request with (RFC 9175 §2.3); goes with 4.01."""


@dataclass(slots=True)
class SendNotification:
    """A notification to ``peer``, who observes with ``token`` (the observed side, RFC 7641 §4). ``observe`` is its
    sequence number. Confirmable ones end as `events.NotificationAcked` or `events.NotificationRejected`."""

    handle: int
    peer: PeerId
    token: bytes
    code: int
    observe: int | None = None
    content_format: int | None = None
    payload: bytes = b""
    confirmable: bool = False


@dataclass(slots=True)
class Recall:
    """Answers `RequestQuestion`: this request was answered with ``code`` before; send that again, run nothing."""

    exchange: int
    code: int
    location: tuple[str, ...] = ()


@dataclass(slots=True)
class Proceed:
    """Answers `RequestQuestion`: nothing is known of it; treat it as new."""

    exchange: int


@dataclass(slots=True)
class Drop:
    """Forget a received message without any answer (the brake: a notification left unacknowledged)."""

    exchange: int


@dataclass(slots=True)
class RejectRequest:
    """Refuse a `RequestReceived` without an answer: CON gets RST, NON is dropped (RFC 7252 §4.2)."""

    exchange: int


@dataclass(slots=True)
class AcceptNotification:
    """The notification is stored: acknowledge it if it was confirmable."""

    exchange: int


@dataclass(slots=True)
class AdoptObservation:
    """Make ``token`` from ``peer`` a known observation; with ``exchange`` the waiting `TokenQuestion` is answered.

    ``request`` is the observe request as it was sent: further blocks of a large notification are fetched with it.
    ``binding``: of an OSCORE peer, what `events.ResponseReceived` had; without it no notification can be verified."""

    handle: int
    peer: PeerId
    token: bytes
    exchange: int | None = None
    request: SendRequest | None = None
    binding: bytes = b""


@dataclass(slots=True)
class RejectToken:
    """Answers `TokenQuestion`: nobody wants it. CON gets RST (the passive cancel, RFC 7641 §3.6), NON is dropped."""

    exchange: int


@dataclass(slots=True)
class ForgetObservation:
    """Drop a relation locally; its next notification is a `TokenQuestion`."""

    peer: PeerId
    token: bytes


@dataclass(slots=True)
class MovePeer:
    """The device behind ``old`` speaks from ``new`` now: relations and waiting requests follow it. De-duplication
    stays with ``old``."""

    old: PeerId
    new: PeerId


@dataclass(slots=True)
class VerifyPeer:
    """The peer's address is proven (it answered something we sent); answers to it need no size bound any more."""

    peer: PeerId


@dataclass(slots=True)
class ProbePeer:
    """A secure session speaks from another address: ask for a reaction that only who receives there can give. What
    comes of it is `events.PeerProbed`; a probe that is under way already counts no more."""

    peer: PeerId


@dataclass(slots=True)
class LosePeer:
    """The session that ``peer`` was is no more: requests to it end as ``lost``, its relations are forgotten.
    ``unsent``: there was none when they left for the first time; what was not repeated since is ``unconnected``."""

    peer: PeerId
    detail: str
    unsent: bool = False


@dataclass(slots=True)
class SetParameters:
    """Transmission parameters of one peer from now on."""

    peer: PeerId
    parameters: Parameters


@dataclass(slots=True)
class ForgetPeer:
    """The registration behind ``peer`` is gone: cancel its requests and relations. De-duplication stays."""

    peer: PeerId


@dataclass(slots=True)
class GiveContext:
    """Answers `events.ContextQuestion`. Where its ID Context is not the one that was asked for, the two ends agree on
    another one (RFC 8613 App. B.2)."""

    question: int
    material: ContextMaterial


@dataclass(slots=True)
class NoContext:
    """Answers `events.ContextQuestion`: there is none. A CON gets 4.01; 5.03 with ``is_busy``, where nobody could look:
    who is told that its context is gone may well give it up."""

    question: int
    is_busy: bool = False


@dataclass(slots=True)
class ContextStored:
    """Answers `events.ContextState`: numbers below ``ceiling`` may be used. ``unused``: those from there on, and none
    between the ceiling of before and it, which somebody else was given. 0 and 0: nothing was stored, it is to be asked
    again when a number is wanted."""

    number: int
    ceiling: int
    unused: int = 0


@dataclass(slots=True)
class AdoptContext:
    """Know a context without being asked by its other end: as a client, or as a server that knows where a device was
    before a restart. Requests to ``context_peer(material.number, carrier.transport)`` go to ``carrier``.
    ``rederive``: our numbers and what came are lost; agree on another ID Context with the first request (RFC 8613
    App. B.2)."""

    material: ContextMaterial
    carrier: PeerId
    rederive: bool = False


@dataclass(slots=True)
class DropContext:
    """The context ``number`` is revoked or replaced: nothing of it is sent or taken any more, requests to it end as
    ``lost``."""

    number: int


Action = (
    SendRequest
    | CancelRequest
    | HoldRequest
    | RepeatRequest
    | Respond
    | SendNotification
    | Recall
    | Proceed
    | Drop
    | RejectRequest
    | AcceptNotification
    | AdoptObservation
    | RejectToken
    | ForgetObservation
    | MovePeer
    | VerifyPeer
    | ProbePeer
    | LosePeer
    | SetParameters
    | ForgetPeer
    | GiveContext
    | NoContext
    | ContextStored
    | AdoptContext
    | DropContext
)
