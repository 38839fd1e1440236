"""One confirmable message on its way over UDP (RFC 7252 §4.2): when it is repeated, and what that may cost."""

from typing import TYPE_CHECKING

from stellwerk.coap.layer import Owner, Sending
from stellwerk.coap.peers import Peer

if TYPE_CHECKING:
    from stellwerk.coap.reliability import DatagramLayer


class Transmission(Sending):
    """One confirmable message under way."""

    __slots__ = (
        "_layer",
        "ack_timeout_s",
        "budget",
        "datagram",
        "last_sent",
        "left",
        "mid",
        "owed",
        "peer",
        "started",
        "timeout",
        "unpaid",
    )

    def __init__(
        self,
        layer: "DatagramLayer",
        peer: Peer,
        mid: int,
        datagram: bytes,
        owner: Owner,
        timeout: float,
        left: int,
        now: float,
        ack_timeout_s: float,
    ) -> None:
        super().__init__(owner)
        self._layer = layer
        self.peer = peer
        self.mid = mid
        self.datagram = datagram
        self.timeout = timeout
        self.ack_timeout_s = ack_timeout_s
        """How soon the peer acknowledges, if it was reached."""
        self.left = left
        self.unpaid = False
        """It has not been sent: the peer has to prove its address first, for so many bytes nobody has paid."""
        self.owed = False
        """The peer was heard so soon after this left that it may have missed it: the next repetition leaves, held or
        not."""
        self.started = now
        self.last_sent = now
        self.budget: int | None = None
        """Bytes that may still go to an unverified peer in answer to its request, None for no bound."""

    @property
    def is_repeated(self) -> bool:
        """Whether it left more than once."""
        return self.last_sent > self.started

    def redirect(self, new: Peer) -> None:
        """It goes to ``new`` from now on, with its message ID."""
        old = self.peer
        if old.sent is not None:
            old.sent.pop(self.mid, None)
            if not old.sent:
                old.sent = None
        if new.sent is None:
            new.sent = {}
        new.sent.setdefault(self.mid, self)
        self.peer = new

    def fire(self, now: float) -> None:
        """The peer was silent for one timeout."""
        self._layer.retransmit(self, now)
