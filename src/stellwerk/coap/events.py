"""What the engine tells: meaning out of datagrams and time. `Endpoint.take_events` yields these, in order.

Every event is a small slotted object. ``handle`` is the caller's own number from `actions.SendRequest`.
``exchange`` is the engine's number for something that awaits an answer by ``submit``.
``receipt`` is 8 bytes that name one received message for ever: a keyed-less digest of peer and datagram, equal
for identical bytes from the same peer, so a journal can recognise a retransmission after a restart.
"""

from dataclasses import dataclass
from typing import Final

from stellwerk.coap.message import Options
from stellwerk.core.ids import PeerId

NO_ANSWER: Final = "no answer after its acknowledgement"
"""``detail`` of a `RequestFailed` ``timeout`` where the peer did get the request."""


@dataclass(slots=True)
class RequestReceived:
    """A whole request (blocks assembled, duplicates removed). Answer it with `actions.Respond`."""

    exchange: int
    peer: PeerId
    code: int
    path: tuple[str, ...]
    query: tuple[str, ...]
    content_format: int | None
    accept: int | None
    options: Options
    payload: bytes
    receipt: bytes
    confirmable: bool
    token: bytes = b""
    fresh: bool = False
    """It repeats an Echo that we gave to this address a moment ago (RFC 9175 §2.3): who sent it receives there."""


@dataclass(slots=True)
class RequestQuestion:
    """A request that may already have been answered, before a restart or before this peer's ring of stored answers
    evicted it. Answer with `actions.Recall` (its stored answer) or `actions.Proceed` (it is new: a `RequestReceived`
    or, for a notification, a `NotificationReceived` follows). Until then duplicates are swallowed."""

    exchange: int
    peer: PeerId
    receipt: bytes


@dataclass(slots=True)
class ResponseReceived:
    """The whole answer to a request of ours. ``observe`` is the Observe number of a relation that now stands;
    ``binding``, of an OSCORE peer, is what its notifications are verified with besides (for
    `actions.AdoptObservation`)."""

    handle: int
    peer: PeerId
    token: bytes
    code: int
    content_format: int | None
    options: Options
    payload: bytes
    observe: int | None
    binding: bytes = b""


@dataclass(slots=True)
class RequestFailed:
    """A request of ours ended without an answer.

    ``reason``: ``timeout`` (retransmissions or EXCHANGE_LIFETIME ran out), ``reset`` (the peer sent RST), ``lost`` (the
    connection ended while it was on its way), ``unconnected`` (there is no connection, or the OSCORE context was not
    heard yet; nothing was sent), ``unprotected`` (an error came without OSCORE to a request with it, ``detail`` says
    which: anybody could have sent it),
    ``refused`` (our own bounds, ``detail`` names it; nothing was sent), ``malformed`` (the answer broke the rules),
    ``oversized`` (the answer is longer than we take, ``detail`` names the bound), ``cancelled`` (by
    `actions.CancelRequest` or a forgotten peer).
    """

    handle: int
    peer: PeerId
    reason: str
    detail: str


@dataclass(slots=True)
class PeerReacted:
    """The peer took a request of ours, or a part of it, and the answer is still to come: it is there. ``complete``: the
    request is acknowledged as a whole (an empty ACK); else a block of it, or the first answer to it, came."""

    handle: int
    peer: PeerId
    complete: bool


@dataclass(slots=True)
class NotificationReceived:
    """A whole, fresh notification of a known observation (stale ones are acknowledged and counted as `Refused`
    ``stale``, RFC 7641 §3.4).
    Answer with `actions.AcceptNotification` once it is stored; until then a confirmable one is not acknowledged.
    An error code (4.xx, 5.xx) has ended the relation; an `ObservationLost` follows."""

    exchange: int
    handle: int
    peer: PeerId
    token: bytes
    code: int
    content_format: int | None
    options: Options
    payload: bytes
    observe: int | None
    receipt: bytes
    confirmable: bool


@dataclass(slots=True)
class TokenQuestion:
    """A response arrived whose token no exchange or observation here knows. Answer with
    `actions.AdoptObservation` (then its `NotificationReceived` follows) or `actions.RejectToken` (a CON gets RST)."""

    exchange: int
    peer: PeerId
    token: bytes


@dataclass(slots=True)
class ObservationLost:
    """The peer reset a relation's request or the relation ended with an error code."""

    handle: int
    peer: PeerId
    token: bytes
    reason: str


@dataclass(slots=True)
class NotificationAcked:
    """A confirmable notification of ours arrived."""

    handle: int
    peer: PeerId
    token: bytes


@dataclass(slots=True)
class NotificationRejected:
    """A notification of ours was not wanted (``reason`` ``reset``) or never acknowledged (``timeout``): the observer is
    gone, RFC 7641 §4.5."""

    handle: int
    peer: PeerId
    token: bytes
    reason: str


@dataclass(slots=True)
class ConnectionLost:
    """A connection stands no more, with all that hung on it: its requests have failed, its observations are gone.

    ``reason``: ``closed`` or ``aborted`` by the peer, ``released`` as agreed, ``replaced`` by another between the same
    ends, ``silent`` (no Pong), or what the peer did wrong: ``format``, ``csm``, ``signal``, ``slow``, ``idle``, or the
    name of a bound. ``alternatives`` (``host:port``) and ``hold_off_s`` are the peer's last wish (RFC 8323 §5.5)."""

    peer: PeerId
    reason: str
    detail: str
    alternatives: tuple[str, ...] = ()
    hold_off_s: int = 0


@dataclass(slots=True)
class PeerProbed:
    """What came of `actions.ProbePeer`: ``reached`` where the peer reacted."""

    peer: PeerId
    reached: bool


@dataclass(slots=True)
class Refused:
    """A message was refused or dropped. ``reason`` is a stable word for counting, ``detail`` is for people.
    ``context``: the number of the OSCORE context in whose name it came, 0: of none."""

    peer: PeerId
    reason: str
    detail: str
    context: int = 0


@dataclass(slots=True)
class ContextQuestion:
    """A message protected with an OSCORE context that is not at hand came from ``peer``, the carrier. ``kid`` is what
    its sender sends as, our recipient ID; ``kid_context`` the ID Context that it names, None where it names none. It
    may name one that nobody knows and mean a context that shall be derived anew (RFC 8613 App. B.2): then the one with
    this ``kid`` is meant. Answer with `actions.GiveContext` or `actions.NoContext`."""

    question: int
    peer: PeerId
    kid: bytes
    kid_context: bytes | None


@dataclass(slots=True)
class ContextState:
    """Numbers of ours below ``ceiling`` shall be used next for the context ``number``, and none twice in all time:
    store that, then answer with `actions.ContextStored` (RFC 8613 App. B.1.1). Few are left when this is asked."""

    number: int
    peer: PeerId
    ceiling: int


@dataclass(slots=True)
class ContextMoved:
    """The OSCORE context ``number`` was heard, verified and fresh, from ``carrier`` for the first time, or from there
    anew: requests to ``peer`` (`core.ids.context_peer`) go to there from now on."""

    number: int
    peer: PeerId
    carrier: PeerId


@dataclass(slots=True)
class ContextRederived:
    """Both ends have agreed on another ID Context (RFC 8613 App. B.2): observations and requests of before have come
    to an end. Who stores it may give it with the context after a restart; it is recognised without, too."""

    number: int
    peer: PeerId
    id_context: bytes


Event = (
    RequestReceived
    | RequestQuestion
    | ResponseReceived
    | RequestFailed
    | PeerReacted
    | NotificationReceived
    | TokenQuestion
    | ObservationLost
    | NotificationAcked
    | NotificationRejected
    | ConnectionLost
    | PeerProbed
    | ContextQuestion
    | ContextState
    | ContextMoved
    | ContextRederived
    | Refused
)
