"""Pings of ours (RFC 7252 §4.3), which every endpoint answers with RST: who hears what became of them."""

from typing import TYPE_CHECKING, Final

from stellwerk.coap.events import PeerProbed
from stellwerk.coap.peers import Peer

if TYPE_CHECKING:
    from stellwerk.coap.reliability import DatagramLayer


class AddressProbe:
    """The owner of a ping: any reaction to it proves the address, which `DatagramLayer.verify` is told anyway."""

    def acknowledged(self, now: float) -> None:
        """Not what a ping is for, but a reaction."""

    def reset(self, now: float) -> None:
        """The address listens."""

    def unacknowledged(self, now: float) -> None:
        """Whatever waits for the proof ends by its own time."""

    def refused(self, bound: str, now: float) -> None:
        """Four bytes are never too many."""


ADDRESS_PROBE: Final = AddressProbe()


class ReachProbe:
    """The owner of the ping to a session that moved: only a reaction to this very ping shows that it receives where it
    is now, since what is under way besides may have reached it where it was."""

    def __init__(self, layer: "DatagramLayer", peer: Peer) -> None:
        self._layer = layer
        self._peer = peer

    def _tell(self, reached: bool) -> None:
        self._layer.events.append(PeerProbed(self._peer.id, reached))

    def acknowledged(self, now: float) -> None:
        """Not what a ping is for, but a reaction."""
        self._tell(True)

    def reset(self, now: float) -> None:
        """It listens there."""
        self._tell(True)

    def unacknowledged(self, now: float) -> None:
        """It may still be there: its next message is another occasion to ask."""
        self._tell(False)

    def refused(self, bound: str, now: float) -> None:
        """Four bytes are never too many."""
