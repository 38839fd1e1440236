"""Identities that more than one layer speaks of."""

from typing import NamedTuple, NewType

from stellwerk.core.sharing import share

DeviceId = NewType("DeviceId", int)
"""A device's key in the store. Never shown to devices; oneM2M resource IDs derive from it."""

TenantId = NewType("TenantId", int)


class PeerId(NamedTuple):
    """Who a message came from and which of our addresses it was sent to. Frozen, hashable, storable.

    ``transport`` is ``"udp"`` or ``"tcp"``. Answers and requests to a peer leave from ``local`` (LwM2M MSG-11).
    A wildcard listener reports the destination address of the datagram as ``local_host``.
    """

    transport: str
    remote_host: str
    remote_port: int
    local_host: str = ""
    local_port: int = 0

    @property
    def is_connection(self) -> bool:
        """Whether it stands for a connection, which ends, and not for an address, which stays."""
        return self.transport == "tcp"

    def ended(self) -> "PeerId":
        """What stays of a connection that stands no more. No peer that speaks equals it: the same two ends may meet
        again, and it may be somebody else then."""
        return self._replace(remote_port=0)

    def __str__(self) -> str:
        host = f"[{self.remote_host}]" if ":" in self.remote_host else self.remote_host
        return f"{self.transport}://{host}:{self.remote_port}"


def encode_peer(peer: PeerId) -> str:
    """The one-line storable form of a peer: fields joined by blanks (none of them contains one)."""
    return f"{peer.transport} {peer.remote_host} {peer.remote_port} {peer.local_host} {peer.local_port}"


def decode_peer(text: str) -> PeerId:
    """The inverse of `encode_peer`. Raises ValueError on anything else."""
    transport, remote_host, remote_port, local_host, local_port = text.split(" ")
    return PeerId(share(transport), remote_host, int(remote_port), share(local_host), share(int(local_port)))
