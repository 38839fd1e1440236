"""Identities that more than one layer speaks of."""

from typing import Final, NamedTuple, NewType

from stellwerk.core.sharing import share

DeviceId = NewType("DeviceId", int)
"""A device's key in the store. Never shown to devices; oneM2M resource IDs derive from it."""

TenantId = NewType("TenantId", int)


_ENDED_SESSION: Final = 1
"""In place of a port, which sessions and contexts have none of."""
_CONTEXT: Final = "oscore+"


class PeerId(NamedTuple):
    """Who a message came from and which of our addresses it was sent to. Frozen, hashable, storable.

    ``transport`` is ``"udp"``, ``"tcp"``, ``"tls"`` or ``"dtls"``, or one of these behind ``"oscore+"``. Answers and
    requests to a peer leave from ``local`` (LwM2M MSG-11). A wildcard listener reports the destination address of the
    datagram as ``local_host``. A DTLS session is a peer wherever it is heard from (`session_peer`), and so is an OSCORE
    context (`context_peer`).
    """

    transport: str
    remote_host: str
    remote_port: int
    local_host: str = ""
    local_port: int = 0

    @property
    def is_connection(self) -> bool:
        """Whether it stands for a connection, which ends, and not for an address, which stays."""
        return self.transport in ("tcp", "tls")

    @property
    def is_proven(self) -> bool:
        """Whether its other end has proven who it is: a secure session, a connection of TLS, an OSCORE context."""
        return self.transport not in ("udp", "tcp")

    @property
    def is_context(self) -> bool:
        """Whether it stands for an OSCORE context, whatever carries its messages."""
        return self.transport.startswith(_CONTEXT)

    @property
    def carrier(self) -> str:
        """The transport whose engine it is a peer of."""
        return self.transport.removeprefix(_CONTEXT)

    @property
    def is_over_tcp(self) -> bool:
        """Whether its messages go over TCP in the end, whatever is above."""
        return self.carrier in ("tcp", "tls")

    @property
    def is_session(self) -> bool:
        """Whether it stands for a secure session of DTLS."""
        return self.transport == "dtls"

    @property
    def is_channel(self) -> bool:
        """Whether what is asked over it, and observed, ends with it: a connection, a secure session, or an OSCORE
        context, whose device is known to be somewhere only once it was heard."""
        return self.transport != "udp"

    @property
    def has_ended(self) -> bool:
        """Whether `ended` made it."""
        return self.is_channel and self.remote_port == (0 if self.is_connection else _ENDED_SESSION)

    def ended(self) -> "PeerId":
        """What stays of a connection or session that stands no more. No peer that speaks equals it: the same two ends
        may meet again, and it may be somebody else then."""
        return self._replace(remote_port=0 if self.is_connection else _ENDED_SESSION)

    def __str__(self) -> str:
        if self.is_session:
            return f"dtls session {self.remote_host}"
        if self.is_context:
            return f"oscore context {self.remote_host} over {self.carrier}{', not heard' if self.has_ended else ''}"
        host = f"[{self.remote_host}]" if ":" in self.remote_host else self.remote_host
        return f"{self.transport}://{host}:{self.remote_port}"


def session_peer(session_id: bytes) -> PeerId:
    """The peer that a secure session is; ``session_id`` has 8 bytes."""
    return PeerId("dtls", session_id.hex(), 0)


def session_of(peer: PeerId) -> bytes:
    """The inverse of `session_peer`."""
    return bytes.fromhex(peer.remote_host)


def context_peer(number: int, carrier: str) -> PeerId:
    """The peer that an OSCORE context is over ``carrier`` (``"udp"``, ``"tcp"`` ...); ``number`` is the store's."""
    return PeerId(f"{_CONTEXT}{carrier}", str(number), 0)


def context_of(peer: PeerId) -> int:
    """The inverse of `context_peer`."""
    return int(peer.remote_host)


def encode_peer(peer: PeerId) -> str:
    """The one-line storable form of a peer: fields joined by blanks (none of them contains one)."""
    return f"{peer.transport} {peer.remote_host} {peer.remote_port} {peer.local_host} {peer.local_port}"


def decode_peer(text: str) -> PeerId:
    """The inverse of `encode_peer`. Raises ValueError on anything else."""
    transport, remote_host, remote_port, local_host, local_port = text.split(" ")
    return PeerId(share(transport), remote_host, int(remote_port), share(local_host), share(int(local_port)))
