"""What the exchange layer needs of a message layer: `reliability` is the one for UDP, `tcp` has the one for streams.

The exchange layer speaks of requests, answers and notifications; a message layer knows how they travel, and whether
they come twice, late or out of order.
"""

from collections.abc import Callable
from typing import Protocol

from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import Event, Refused
from stellwerk.coap.message import Message, Options
from stellwerk.coap.options import Cut, OptionView, read_options
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.peers import Peer
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed, Timers

USUAL_ANSWER = 48
"""2.01 with a location and a long token, as a separate answer."""


class Owner(Protocol):
    """Whoever has a message under way."""

    def acknowledged(self, now: float) -> None:
        """It arrived; its answer, if it wants one, comes separately."""
        ...

    def reset(self, now: float) -> None:
        """A RST came."""
        ...

    def unacknowledged(self, now: float) -> None:
        """Nobody reacted in time."""
        ...

    def refused(self, bound: str, now: float) -> None:
        """It was not sent: ``bound`` forbids it."""
        ...


class Sending(Timed):
    """One message of ours under way."""

    __slots__ = ("held", "once", "owner")

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self.owner = owner
        self.once = False
        """Repeat it only as far as its receiver's own bytes pay for it (decision 0006)."""
        self.held = False
        """The peer sleeps: time passes, and nothing is repeated."""

    @property
    def is_repeated(self) -> bool:
        """Whether it left more than once."""
        return False


class Decisions(Protocol):
    """What is known of messages that were received."""

    def decided(self, inbound: Inbound, now: float) -> None:
        """It has its answer."""
        ...

    def holds(self, inbound: Inbound) -> bool:
        """Whether an undecided message still has its place: its sender has not forgotten it."""
        ...

    def forget(self, inbound: Inbound) -> None:
        """As if it had never come."""
        ...


class Peers(Protocol):
    """The peers of one engine."""

    @property
    def find(self) -> Callable[[PeerId], Peer | None]:
        """The peer, if known."""
        ...

    def __len__(self) -> int: ...

    def find_or_add(self, id: PeerId, now: float) -> Peer | None:
        """The peer to send something to; None when there cannot be one."""
        ...


class MessageLayer:
    """What the layers of one engine share: outbox, events, timers, bounds; and what they ask of the message layer."""

    ordered = False
    """Whether messages arrive in the order in which they were sent."""
    sorts_notifications = False
    """Whether no notification comes from here that is older than one before, so that their numbers say nothing."""
    absent = ("refused", "peers_total")
    """Why a request fails whose peer `peers` does not give: `events.RequestFailed` reason and detail."""
    absence = ("peers_total", "too many peers")
    """The same for everything else: `events.Refused` reason and detail."""

    answers: Decisions
    peers: Peers

    def __init__(self, entropy: Entropy, limits: Limits, parameters: Parameters) -> None:
        self.entropy = entropy
        self.limits = limits
        self.parameters = parameters
        self.datagrams: list[tuple[PeerId, bytes]] = []
        self.events: list[Event] = []
        self.timers = Timers()
        self.exchanges = 0
        self.duplicates = 0
        """Messages that came before."""
        self.retransmissions = 0
        """Messages of ours that were sent again."""
        self.read_options: Callable[[Options, bool], OptionView] = read_options
        self.answer_ended: Callable[[Peer, float], None] = lambda peer, now: None
        """Told once a separate answer has arrived or is given up."""

    def parameters_of(self, peer: Peer) -> Parameters:
        """The transmission parameters that hold for ``peer``."""
        return peer.parameters or self.parameters

    def refuse(self, peer: PeerId, reason: str, detail: str) -> None:
        """Tell that something from or for ``peer`` was refused or dropped."""
        self.events.append(Refused(peer, reason, detail))

    # --- receiving -----------------------------------------------------------------------------------------------

    def admit(self, peer: Peer, message: Message, datagram: bytes, now: float) -> Inbound | None:
        """The record of a message that must be decided; None for one that is dealt with here."""
        raise NotImplementedError

    def may_be_old(self, inbound: Inbound, now: float) -> bool:
        """Whether a message that looks new may have been decided before."""
        raise NotImplementedError

    def expect_answer(self, inbound: Inbound, now: float) -> None:
        """The answer to ``inbound`` may take a while."""
        raise NotImplementedError

    def acknowledge(self, inbound: Inbound) -> None:
        """Tell its sender that ``inbound`` arrived, where that is told."""
        raise NotImplementedError

    def reject(self, inbound: Inbound, now: float) -> None:
        """Refuse a message without an answer."""
        raise NotImplementedError

    # --- sending -------------------------------------------------------------------------------------------------

    def cut_for(self, peer: Peer) -> Cut:
        """How bodies are cut for ``peer``."""
        raise NotImplementedError

    def answer(self, inbound: Inbound, code: int, options: bytes, payload: bytes, now: float) -> None:
        """Send the answer to a request, which is decided by it."""
        raise NotImplementedError

    def peer_for_request(self, id: PeerId, once: bool, now: float) -> Peer | None:
        """Whom a request of ours goes to; None when there cannot be one. ``once``: the address is not proven."""
        return self.peers.find_or_add(id, now)

    def takes_requests(self, peer: Peer) -> bool:
        """Whether another request may go to ``peer``."""
        return True

    def has_answers_under_way(self, peer: Peer) -> bool:
        """Whether a separate answer to ``peer`` may not have arrived yet, and what is sent now could overtake it."""
        return False

    def room_for_answer(self, inbound: Inbound) -> int:
        """The largest answer, in bytes, that an unverified peer may get."""
        raise NotImplementedError

    def send_confirmable(
        self,
        peer: Peer,
        code: int,
        token: bytes,
        options: bytes,
        payload: bytes,
        owner: Owner,
        now: float,
        once: bool = False,
        ack_timeout_s: float | None = None,
    ) -> Sending:
        """Send a request, or a notification that shall be acknowledged; ``owner`` hears what became of it. ``once``:
        the address is not proven. ``ack_timeout_s``: until it is repeated first, None for the peer's."""
        raise NotImplementedError

    def send_paid(self, sending: Sending, now: float) -> None:
        """Send anew what is under way already, to where its peer is now."""
        raise NotImplementedError

    def repeat(self, sending: Sending, now: float) -> None:
        """The peer is heard again: what is under way may be repeated."""
        raise NotImplementedError

    def send_non_confirmable(self, peer: Peer, code: int, token: bytes, options: bytes, payload: bytes) -> int | None:
        """Send a message once. Gives its message ID, None where there are none."""
        raise NotImplementedError

    def stop(self, sending: Sending) -> None:
        """Wait no longer for a reaction to ``sending``."""
        raise NotImplementedError

    def verify(self, peer: Peer) -> None:
        """The address of ``peer`` is proven."""
        raise NotImplementedError

    def release_token(self, peer: Peer, token: bytes) -> None:
        """A request or an observation with ``token`` is over."""

    def binding_of(self, peer: Peer, token: bytes) -> bytes:
        """What notifications with ``token`` are verified with, where anything is needed: see
        `actions.AdoptObservation`."""
        return b""

    def probe(self, peer: Peer, now: float) -> None:
        """Ask ``peer`` for a reaction; `events.PeerProbed` says what came of it."""
        raise NotImplementedError

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do everything that is due by ``now``."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """When `tick` has something to do, None for never."""
        raise NotImplementedError
