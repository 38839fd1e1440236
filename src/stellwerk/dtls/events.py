"""What the engine tells. `Endpoint.take_events` yields these, in order.

``address`` is the UDP peer that datagrams go to; ``peer`` is the session itself (`core.ids.session_peer`), which stays
when the address changes. ``handshake`` and ``question`` are the engine's own numbers for what awaits an answer by
``submit``. Answers may come at once or later; what is not answered in time fails by itself.
"""

from dataclasses import dataclass, field

from stellwerk.core.identity import CertificateIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.core.ids import PeerId


@dataclass(slots=True)
class PskQuestion:
    """A client names ``identity`` (1 to 128 octets): what is its key? Answer with `actions.GivePsk` or
    `actions.RefusePeer`."""

    handshake: int
    address: PeerId
    identity: bytes


@dataclass(slots=True)
class CertificateQuestion:
    """The peer has proven that it holds the key to ``identity``; is that somebody we know? Answer with
    `actions.AcceptPeer` or `actions.RefusePeer`. A client engine asks the same about its server."""

    handshake: int
    address: PeerId
    identity: RawKeyIdentity | CertificateIdentity


@dataclass(slots=True)
class ResumptionQuestion:
    """A client wants to go on from an earlier session (its id or a ticket): may ``identity``, bound to ``device``,
    still come in? Answer with `actions.AcceptPeer`; `actions.RefusePeer` makes it a full handshake."""

    handshake: int
    address: PeerId
    identity: SecureIdentity
    device: int
    session_id: bytes = b""
    """Of the session that it goes on from."""


@dataclass(slots=True)
class SessionQuestion:
    """Something is here for a session that is not in memory. It may be stored, by its ``session_id`` (8 bytes, also
    our connection ID and the beginning of its TLS session id) or, without one, by the ``address`` it was last heard
    from. Answer with `actions.RestoreSession` or `actions.NoSession`; a few datagrams wait meanwhile."""

    question: int
    session_id: bytes | None
    address: PeerId | None


@dataclass(slots=True)
class SessionEstablished:
    """A handshake is complete, both ends verified. ``device`` is what the answer to the question said. ``resumed``: the
    session that it goes on from, None after a full handshake (its keys are others; what was told about it is still
    true). ``replaced``: the session that was alive at the same address and ends now. A `SessionState` follows."""

    peer: PeerId
    address: PeerId
    identity: SecureIdentity
    device: int
    suite: int
    has_cid: bool
    resumed: PeerId | None = None
    replaced: PeerId | None = None


@dataclass(slots=True)
class SessionState:
    """Keep this: everything a session needs to go on after a restart, as secret bytes. Records numbered up to the
    ``ceiling`` in it may be sent once it is stored; say so with `actions.SessionStored`. (A new session may send below
    its first ceiling at once: what is not stored cannot be restored.)"""

    peer: PeerId
    session_id: bytes
    device: int
    address: PeerId
    state: bytes = field(repr=False)
    ceiling: int
    by_address: bool = True
    """Whether a `SessionQuestion` may ask for it by its address; with a connection ID of ours in every record none
    does."""


@dataclass(slots=True)
class DataReceived:
    """Application data, one record's worth."""

    peer: PeerId
    data: bytes


@dataclass(slots=True)
class PeerMoved:
    """The newest verified record of ``peer`` came from another address (RFC 9146 §6); answers go there from now on, not
    more than three times what came from there until it has shown that it receives there."""

    peer: PeerId
    old: PeerId
    new: PeerId


@dataclass(slots=True)
class SessionEnded:
    """``peer`` is gone. ``reason``: ``closed`` (by us), ``close-notify``, ``alert`` (fatal, ``detail`` names it),
    ``replaced``, ``evicted`` (from memory only; what is stored stands), ``exhausted`` (sequence numbers)."""

    peer: PeerId
    reason: str
    detail: str = ""


@dataclass(slots=True)
class HandshakeFailed:
    """``reason``: one of `failures.REASONS`, for counters; ``detail`` is a sentence for people: what was wrong and what
    would be right. ``identity``: as far as the peer named one; proven is nothing of it."""

    address: PeerId
    reason: str
    detail: str
    identity: SecureIdentity | None = None


@dataclass(slots=True)
class Dropped:
    """A datagram or record that led to nothing. ``reason``: one of `failures.DROPS`, for counters."""

    address: PeerId
    reason: str


Event = (
    PskQuestion
    | CertificateQuestion
    | ResumptionQuestion
    | SessionQuestion
    | SessionEstablished
    | SessionState
    | DataReceived
    | PeerMoved
    | SessionEnded
    | HandshakeFailed
    | Dropped
)
