"""The message layer of streams: TCP repeats, orders and acknowledges, so what is left is frames and their answers.

Nothing comes twice: what a client sends again after its connection was lost is a new request, so there is neither
memory of answers nor a question to the journal, and a message has no receipt.
"""

from collections.abc import Callable
from math import inf

from stellwerk.coap import codes
from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.layer import MessageLayer, Owner, Sending
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.options import MAX_AGE, Cut, encode_uint, read_stream_options
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.peers import Peer
from stellwerk.coap.tcp.connection import Connection, ConnectionTable, StreamLimits
from stellwerk.coap.tcp.frames import encode_frame
from stellwerk.coap.tcp.signalling import encode_pong
from stellwerk.core.entropy import Entropy

_TOO_MANY_MAX_AGE_S = 2
_READ_ALREADY = 4_096
"""Most notifications that one reading may hold."""


class StreamSending(Sending):
    """A request of ours that waits for its answer."""

    __slots__ = ()

    def fire(self, now: float) -> None:
        """None came in time."""
        self.owner.unacknowledged(now)


class _Oversized(Sending):
    """A request that the peer could not take."""

    __slots__ = ()

    def fire(self, now: float) -> None:
        """Whoever made it is not in the middle of it any more."""
        self.owner.refused("the peer's Max-Message-Size", now)


class OpenMessages:
    """What is received and not decided, connection by connection."""

    def __init__(self, layer: "StreamLayer") -> None:
        self._layer = layer

    def decided(self, inbound: Inbound, now: float) -> None:
        """It has its answer."""
        self.forget(inbound)

    def holds(self, inbound: Inbound) -> bool:
        """Whether its connection stands."""
        return inbound.placed

    def forget(self, inbound: Inbound) -> None:
        """Nothing more comes of it."""
        inbound.message = inbound.view = inbound.body = inbound.about = None
        if not inbound.placed:
            return
        inbound.placed = False
        connection = inbound.peer
        assert isinstance(connection, Connection)
        connection.open.pop(inbound.number, None)
        connection.pending -= 1
        if connection.pongs or connection.released is not None:
            self._layer.settled(connection)


class StreamLayer(MessageLayer):
    """All message state of one engine over streams."""

    ordered = True
    sorts_notifications = True
    absent = ("unconnected", "there is no connection")
    absence = absent

    answers: OpenMessages
    peers: ConnectionTable

    def __init__(self, entropy: Entropy, limits: Limits, parameters: Parameters, streams: StreamLimits) -> None:
        super().__init__(entropy, limits, parameters)
        self.streams = streams
        self.peers = ConnectionTable(streams)
        self.answers = OpenMessages(self)
        self.read_options = read_stream_options
        self.finish: Callable[[Connection], None] = lambda connection: None
        """Told of a connection that its peer released and that may have nothing more to do."""

    # --- receiving -----------------------------------------------------------------------------------------------

    def admit(self, peer: Peer, message: Message, datagram: bytes, now: float) -> Inbound | None:
        """The record of a message that must be decided; None, and an answer of ours, when too many are."""
        assert isinstance(peer, Connection)
        if peer.pending >= self.limits.pending_per_peer:
            is_request = codes.is_request(message.code)
            # A notification that is not taken is lost: nobody repeats it here. Of a connection that is full nothing
            # more is read, so only what was read already comes on top.
            if is_request or peer.pending >= self.limits.pending_per_peer + _READ_ALREADY:
                self.refuse(peer.id, "pending_per_peer", "too many undecided messages")
                if is_request:
                    options = encode_options(((MAX_AGE, encode_uint(_TOO_MANY_MAX_AGE_S)),))
                    self.send(peer, codes.SERVICE_UNAVAILABLE, message.token, options, b"")
                return None
        inbound = Inbound(peer, message, b"", inf, len(datagram))
        self.exchanges += 1
        inbound.number = self.exchanges
        inbound.placed = True
        peer.open[inbound.number] = inbound
        peer.pending += 1
        return inbound

    def may_be_old(self, inbound: Inbound, now: float) -> bool:
        """Never: nothing is retransmitted over a stream."""
        return False

    def expect_answer(self, inbound: Inbound, now: float) -> None:
        """A stream acknowledges by itself."""

    def acknowledge(self, inbound: Inbound) -> None:
        """A stream acknowledges by itself."""

    def reject(self, inbound: Inbound, now: float) -> None:
        """There is no RST; the message is passed over."""
        self.answers.forget(inbound)

    def takes_requests(self, peer: Peer) -> bool:
        """Unless it has released the connection (RFC 8323 §5.5)."""
        assert isinstance(peer, Connection)
        return peer.released is None

    def settled(self, connection: Connection) -> None:
        """Something of ``connection`` was decided: Pongs may be due, and after a Release its end."""
        oldest = next(iter(connection.open), None)
        while connection.pongs and (oldest is None or connection.pongs[0][0] < oldest):
            _, token = connection.pongs.popleft()
            self.write(connection, encode_pong(token, True))
        if connection.released is not None:
            self.finish(connection)

    # --- sending -------------------------------------------------------------------------------------------------

    def cut_for(self, peer: Peer) -> Cut:
        """How bodies are cut for ``peer``: as its CSM says."""
        assert isinstance(peer, Connection)
        return peer.cut

    def write(self, connection: Connection, frame: bytes) -> None:
        """Let ``frame`` leave."""
        if not connection.closed:
            self.datagrams.append((connection.id, frame))

    def send(self, connection: Connection, code: int, token: bytes, options: bytes, payload: bytes) -> None:
        """Send a message; one that is too large for the peer goes without its payload."""
        frame = encode_frame(code, token, options, payload)
        if len(frame) > connection.theirs.message_bytes:
            self.refuse(connection.id, "oversized", f"a message of {len(frame)} bytes goes without its payload")
            frame = encode_frame(code, token, options, b"")
        self.write(connection, frame)

    def answer(self, inbound: Inbound, code: int, options: bytes, payload: bytes, now: float) -> None:
        """Send the answer to a request, if its connection still stands."""
        connection, message = inbound.peer, inbound.message
        assert isinstance(connection, Connection)
        assert message is not None
        self.send(connection, code, message.token, options, payload)
        self.answers.decided(inbound, now)

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
        """Send a request, whose answer may take ``response_within_s``; or a notification, which has arrived as far as
        anybody can tell."""
        assert isinstance(peer, Connection)
        if not codes.is_request(code):
            self.send(peer, code, token, options, payload)
            owner.acknowledged(now)
            return StreamSending(owner)
        frame = encode_frame(code, token, options, payload)
        if len(frame) > peer.theirs.message_bytes:
            oversized = _Oversized(owner)
            self.timers.arm(oversized, now)
            return oversized
        self.write(peer, frame)
        sending = StreamSending(owner)
        self.timers.arm(sending, now + self.streams.response_within_s)
        return sending

    def send_non_confirmable(self, peer: Peer, code: int, token: bytes, options: bytes, payload: bytes) -> int | None:
        """Send a notification."""
        assert isinstance(peer, Connection)
        self.send(peer, code, token, options, payload)
        return None

    def repeat(self, sending: Sending, now: float) -> None:
        """TCP repeats by itself."""

    def stop(self, sending: Sending) -> None:
        """Wait no longer for the answer to ``sending``."""
        self.timers.cancel(sending)

    def verify(self, peer: Peer) -> None:
        """Every connection is proven."""

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do everything that is due by ``now``."""
        self.timers.fire_due(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do, None for never."""
        due = self.timers.next_due()
        return due if due < inf else None
