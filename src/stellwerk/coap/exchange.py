"""One request of ours and what is known of its answer, and the requests to one peer (RFC 7252 §5). `requests` says how
they go."""

from collections import deque
from typing import TYPE_CHECKING

from stellwerk.coap.actions import SendRequest
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.events import NO_ANSWER
from stellwerk.coap.layer import Sending
from stellwerk.coap.peers import Peer
from stellwerk.coap.transfers import Download, Upload
from stellwerk.core.timers import Timed

if TYPE_CHECKING:
    from stellwerk.coap.requests import Requests


class Outgoing:
    """The requests of ours to one peer."""

    __slots__ = ("by_token", "running", "waiting")

    def __init__(self) -> None:
        self.by_token: dict[bytes, Exchange] = {}
        """Every request that may still be answered."""
        self.running = 0
        """Requests that are outstanding in the sense of NSTART."""
        self.waiting: deque[Exchange] = deque()

    def __bool__(self) -> bool:
        return bool(self.by_token or self.waiting)

    def uses(self, token: bytes) -> bool:
        """Whether a request with ``token`` is live, be it that it fetches its blocks with other tokens just now."""
        if token in self.by_token:
            return True
        live = (*self.by_token.values(), *self.waiting)
        return any(item.notification is None and item.action.token == token for item in live)


class Exchange(Timed):
    """One request of the outside, which may take many messages when its bodies come in blocks. The owner of each of
    them while it is under way (`layer.Owner`)."""

    __slots__ = (
        "_requests",
        "action",
        "download",
        "echo",
        "notification",
        "observe",
        "outstanding",
        "peer",
        "sending",
        "token",
        "upload",
    )

    def __init__(self, requests: "Requests", peer: Peer, action: SendRequest, notification: Inbound | None) -> None:
        super().__init__()
        self._requests = requests
        self.peer = peer
        self.action = action
        self.token = action.token
        self.notification = notification
        """Set when this fetches the rest of a notification: nobody outside asked for it."""
        self.sending: Sending | None = None
        self.outstanding = False
        self.upload: Upload | None = None
        self.download: Download | None = None
        self.echo: bytes | None = None
        """What the peer wants repeated to believe our address (RFC 9175 §2.3)."""
        self.observe: int | None = None
        """The sequence number of the relation that this request set up."""

    def acknowledged(self, now: float) -> None:
        """An empty ACK: the answer comes separately, and the next request may start (RFC 7252 §4.7)."""
        self._requests.wait(self, now)

    def reset(self, now: float) -> None:
        """The peer refuses the request."""
        self._requests.fail(self, "reset", "the peer sent RST", now)

    def unacknowledged(self, now: float) -> None:
        """The peer was silent."""
        self._requests.fail(self, "timeout", self._requests.silence, now)

    def refused(self, bound: str, now: float) -> None:
        """It cannot be sent."""
        self._requests.fail(self, "refused", bound, now)

    def fire(self, now: float) -> None:
        """Acknowledged, but never answered."""
        self._requests.fail(self, "timeout", NO_ANSWER, now)
