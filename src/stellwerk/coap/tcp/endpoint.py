"""The engine over streams: the same six verbs as over UDP, with connections (RFC 8323).

A connection begins with `AdoptConnection` and ends with empty bytes, in either direction: fed, the peer closed it;
taken, we do, after what was taken before. Bytes may be cut anywhere, so whatever lies between this engine and the
socket, be it TLS, carries bytes in and bytes out.

When a bound is full, a connection is closed at once or the one that holds most loses it, a request of ours fails as
``refused``, a request of theirs is answered 5.03; each says so with a `Refused`, `RequestFailed` or `ConnectionLost`
event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from stellwerk.coap import actions, codes
from stellwerk.coap.engine import ExchangeEngine
from stellwerk.coap.events import ConnectionLost, RequestFailed
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.observe import cancellation_options
from stellwerk.coap.options import OBSERVE, OSCORE
from stellwerk.coap.oscore.engine import ProtectedExchanges
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.peers import Peer
from stellwerk.coap.tcp import signalling
from stellwerk.coap.tcp.connection import Connection, Role, StreamLimits, Watch
from stellwerk.coap.tcp.frames import FrameError, decode_frame
from stellwerk.coap.tcp.layer import StreamLayer
from stellwerk.coap.tcp.signalling import BadSignal, Capabilities, ReleaseNotice
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId

_PING_TOKEN_BYTES = 4
_RELEASED = "the peer has released the connection"


@dataclass(slots=True)
class AdoptConnection:
    """A connection with ``peer`` stands: say what we can take, and listen."""

    peer: PeerId
    role: Role = Role.ACCEPTED


@dataclass(slots=True)
class ReleaseConnections:
    """Take leave of every peer, which shall not come back before ``hold_off_s``."""

    hold_off_s: int = 0


@dataclass(slots=True)
class CloseConnection:
    """End the connection with ``peer``, which is told ``why`` by an Abort, or by a Release where it did no wrong."""

    peer: PeerId
    why: str
    is_abort: bool = False


StreamAction = actions.Action | AdoptConnection | ReleaseConnections | CloseConnection


class StreamEndpoint(ExchangeEngine):
    """One CoAP endpoint over streams, client and server at once. All times are monotonic seconds.

    ``body_bytes_by_path``: as for `coap.endpoint.Endpoint`; it bounds what comes in blocks, and ``message_bytes`` of
    ``streams`` what comes whole. ``oscore``: as for `coap.endpoint.Endpoint`.
    """

    def __init__(
        self,
        entropy: Entropy,
        limits: Limits | None = None,
        parameters: Parameters | None = None,
        streams: StreamLimits | None = None,
        body_bytes_by_path: Mapping[tuple[str, ...], int] | None = None,
        *,
        oscore: bool = False,
    ) -> None:
        streams = streams or StreamLimits()
        layer = StreamLayer(entropy, limits or Limits(), parameters or Parameters(), streams)
        super().__init__(layer, body_bytes_by_path)
        self._layer = layer
        self._streams = streams
        layer.finish = self._finish
        self._guard: ProtectedExchanges | None = None
        if oscore:
            self._guard = ProtectedExchanges(layer, self._serving, body_bytes_by_path, layer.limits.contexts_total)
            self._protected = self._serving.guard = self._guard
        self._greeting = signalling.encode_csm(Capabilities(streams.message_bytes, True))
        self.opened = 0
        """Connections that were taken."""
        self.lost: dict[str, int] = {}
        """Connections that ended, by reason."""

    def is_connected(self, peer: PeerId) -> bool:
        """Whether a request to ``peer`` could leave now."""
        connection = self._layer.peers.find(peer)
        return connection is not None and connection.is_ready and connection.released is None

    def is_full(self, peer: PeerId) -> bool:
        """Whether so much of ``peer`` awaits its decision that nothing more should be read from it for now."""
        connection = self._layer.peers.find(peer)
        return connection is not None and connection.pending >= self._layer.limits.pending_per_peer

    # --- bytes in ------------------------------------------------------------------------------------------------

    def feed(self, data: bytes, *, peer: PeerId, now: float) -> None:
        """Take the next bytes from ``peer``, none for the end of its stream. Never raises, whatever the bytes."""
        connection = self._layer.peers.find(peer)
        if connection is None:
            return
        if not data:
            self._lose(connection, "closed", "the peer closed the connection", now)
            return
        connection.heard = now
        connection.pinged = None
        decoder = connection.decoder
        decoder.append(data)
        try:
            while (frame := decoder.next()) is not None:
                connection.frame_since = None
                self._receive(connection, decode_frame(frame), frame, now)
                if connection.closed:
                    return
        except FrameError as error:
            self._abort(connection, "format", error.rule, now)
            return
        self._hold(connection, decoder.held, now)

    def _hold(self, connection: Connection, held: int, now: float) -> None:
        table = self._layer.peers
        if held or connection in table.held:
            table.note_held(connection, held)
        if not held:
            return
        if connection.frame_since is None:
            connection.frame_since = now
            due = now + self._streams.frame_within_s
            if due < connection.watch.due:
                self._layer.timers.arm(connection.watch, due)
        while table.held_total > self._streams.buffered_total_bytes:
            self._abort(table.largest_held(), "buffered_total_bytes", "no room for so large a message", now)

    def _receive(self, connection: Connection, message: Message, frame: bytes, now: float) -> None:
        code = message.code
        if code == codes.EMPTY:
            # RFC 8323 3.4: always allowed, never of meaning.
            return
        if code >> 5 == 7:
            self._receive_signal(connection, message, now)
        elif not connection.is_ready:
            self._abort(connection, "csm", "the first message has to be a CSM", now)
        elif code < 0x20:
            connection.spoke = True
            self._serving.receive(connection, message, frame, now)
        elif codes.is_response(code):
            connection.spoke = True
            self._receive_response(connection, message, frame, now)
        else:
            self._layer.refuse(connection.id, "code", f"code {codes.dotted(code)} is reserved")

    def _receive_response(self, connection: Connection, message: Message, frame: bytes, now: float) -> None:
        token = message.token
        if self._guard is not None and connection.guarded is not None and token in connection.guarded:
            guarded = self._layer.admit(connection, message, frame, now)
            if guarded is not None:
                self._guard.receive_response(connection, guarded, message, now)
                if connection.released is not None:
                    self._finish(connection)
            return
        outgoing = connection.outgoing
        exchange = outgoing.by_token.get(token) if outgoing is not None else None
        if exchange is not None:
            view = self._layer.read_options(message.options, False)
            # RFC 7641 3.6: the answer to a cancellation has no Observe; with one it is a last notification.
            if exchange.action.observe != 1 or view.observe is None or token not in (connection.relations or ()):
                self._requests.answered(exchange, message, view, now)
                self._layer.settled(connection)
                return
        if token in connection.cancelled:
            if not any(number == OBSERVE for number, _ in message.options):
                del connection.cancelled[token]
            return
        inbound = self._layer.admit(connection, message, frame, now)
        if inbound is None:
            return
        if (
            self._guard is not None
            and token not in (connection.relations or ())
            and any(number == OSCORE for number, _ in message.options)
        ):
            self._guard.receive_stranger(connection, inbound, message, now)
        else:
            self._observing.receive(connection, inbound, message, now)

    # --- signals -------------------------------------------------------------------------------------------------

    def _receive_signal(self, connection: Connection, message: Message, now: float) -> None:
        code = message.code
        if code == signalling.ABORT:
            self._lose(connection, "aborted", signalling.decode_abort(message) or "the peer gave it up", now)
            self._layer.datagrams.append((connection.id, b""))
            return
        try:
            if code == signalling.CSM:
                self._take_csm(connection, signalling.decode_csm(message, connection.theirs), now)
            elif not connection.is_ready:
                self._abort(connection, "csm", "the first message has to be a CSM", now)
            elif code == signalling.PING:
                self._take_ping(connection, message.token, signalling.decode_custody(message))
            elif code == signalling.PONG:
                signalling.decode_custody(message)
            elif code == signalling.RELEASE:
                self._take_release(connection, signalling.decode_release(message), now)
            else:
                self._abort(connection, "signal", f"signal {codes.dotted(code)} is unknown", now)
        except BadSignal as error:
            number = error.number if code == signalling.CSM else None
            self._abort(connection, "signal", error.rule, now, number)

    def _take_csm(self, connection: Connection, theirs: Capabilities, now: float) -> None:
        first = not connection.is_ready
        connection.learn(theirs)
        if not first:
            return
        self._layer.peers.half_open.pop(connection, None)
        early, connection.early = connection.early, []
        for action in early:
            self._requests.submit(action, connection, now)
        self._look(connection, now)

    def _take_ping(self, connection: Connection, token: bytes, custody: bool) -> None:
        # RFC 8323 5.4.1: with Custody, first deal with all that came before.
        if custody and connection.open and len(connection.pongs) < self._streams.pending_pongs:
            connection.pongs.append((next(reversed(connection.open)), token))
        else:
            self._layer.write(connection, signalling.encode_pong(token, custody and not connection.open))

    def _take_release(self, connection: Connection, notice: ReleaseNotice, now: float) -> None:
        # RFC 8323 5.5: what is outstanding ends in peace, nothing new begins.
        connection.released = notice
        connection.release_by = now + self._streams.response_within_s
        self._requests.withdraw_waiting(connection, _RELEASED, now)
        if self._guard is not None:
            self._guard.release_carrier(connection.id, _RELEASED, now)
        self._layer.timers.arm(connection.watch, connection.release_by)
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        """A connection that its peer has released may have nothing more to do."""
        if not connection.closed and self._is_at_rest(connection):
            # Not at once: whoever calls may be in the middle of something with it.
            self._layer.timers.arm(connection.watch, -inf)

    def _is_at_rest(self, connection: Connection) -> bool:
        return connection.is_at_rest and not (self._guard is not None and self._guard.is_asking(connection.id))

    # --- time ----------------------------------------------------------------------------------------------------

    def _look(self, connection: Connection, now: float) -> None:
        """See which bound in time ``connection`` has reached, and when to look again."""
        streams, watch = self._streams, connection.watch
        if connection.released is not None:
            if self._is_at_rest(connection) or connection.release_by <= now:
                self._close(connection, "released", "as the peer asked", now)
            else:
                self._layer.timers.arm(watch, connection.release_by)
            return
        due = inf
        if not connection.is_ready:
            due = connection.opened + streams.csm_within_s
            if due <= now:
                self._abort(connection, "csm", f"no CSM within {streams.csm_within_s:g} s", now)
                return
        elif not connection.spoke and connection.role is Role.ACCEPTED:
            due = connection.opened + streams.first_message_within_s
            if due <= now:
                self._abort(connection, "idle", f"nothing said within {streams.first_message_within_s:g} s", now)
                return
        if connection.frame_since is not None:
            late = connection.frame_since + streams.frame_within_s
            if late <= now:
                self._abort(connection, "slow", f"a message took longer than {streams.frame_within_s:g} s", now)
                return
            due = min(due, late)
        if connection.is_ready and streams.ping_after_s is not None:
            due = min(due, self._look_after(connection, streams.ping_after_s, now))
            if connection.closed:
                return
        if due < inf:
            self._layer.timers.arm(watch, due)

    def _look_after(self, connection: Connection, ping_after_s: float, now: float) -> float:
        """Ask a silent peer whether it is there; returns when to look again."""
        if connection.pinged is None:
            silent_until = connection.heard + ping_after_s
            if now < silent_until:
                return silent_until
            connection.pinged = now
            self._layer.write(connection, signalling.encode_ping(self._layer.entropy.take(_PING_TOKEN_BYTES)))
        gone = connection.pinged + self._streams.pong_within_s
        if gone <= now:
            self._close(connection, "silent", "no Pong came", now)
        return gone

    # --- the end of connections ----------------------------------------------------------------------------------

    def _abort(self, connection: Connection, reason: str, detail: str, now: float, option: int | None = None) -> None:
        """Give ``connection`` up, and say why."""
        self._layer.write(connection, signalling.encode_abort(detail, option))
        self._close(connection, reason, detail, now)

    def _close(self, connection: Connection, reason: str, detail: str, now: float) -> None:
        self._layer.datagrams.append((connection.id, b""))
        self._lose(connection, reason, detail, now)

    def _lose(self, connection: Connection, reason: str, detail: str, now: float) -> None:
        """``connection`` is no more: what hung on it ends."""
        layer = self._layer
        connection.closed = True
        layer.peers.remove(connection)
        layer.timers.cancel(connection.watch)
        connection.pongs.clear()
        for action in connection.early:
            layer.events.append(RequestFailed(action.handle, connection.id, "unconnected", detail))
        connection.early = []
        self._requests.lose_all(connection, detail, now)
        self._bodies.discard_all(connection)
        for exchange in list(connection.open):
            # The answers that are on their way come to nothing.
            self._drop(exchange)
        connection.open.clear()
        connection.relations = connection.observed = None
        self.lost[reason] = self.lost.get(reason, 0) + 1
        notice = connection.released or ReleaseNotice()
        layer.events.append(ConnectionLost(connection.id, reason, detail, notice.alternatives, notice.hold_off_s))
        if self._guard is not None:
            self._guard.lose_carrier(connection.id, reason, detail, now)

    # --- wishes in -----------------------------------------------------------------------------------------------

    def submit(self, action: StreamAction, now: float) -> None:
        """As `ExchangeEngine.submit`, and what concerns connections."""
        if isinstance(action, AdoptConnection):
            self._adopt(action, now)
        elif isinstance(action, ReleaseConnections):
            self._release_all(ReleaseNotice((), action.hold_off_s), now)
        elif isinstance(action, CloseConnection):
            self._close_one(action, now)
        elif isinstance(action, actions.SendRequest) and not action.peer.is_context:
            self._request(action, now)
        else:
            super().submit(action, now)

    def _adopt(self, action: AdoptConnection, now: float) -> None:
        layer, table = self._layer, self._layer.peers
        before = table.find(action.peer)
        if before is not None:
            # The same two ends can only mean that the older one is gone and nobody has said so.
            self._lose(before, "replaced", "another connection between the same ends", now)
        refusal = table.refusal(action.peer)
        if refusal is not None:
            layer.refuse(action.peer, *refusal)
            layer.datagrams.append((action.peer, b""))
            return
        if len(table.half_open) >= self._streams.half_open:
            self._abort(next(iter(table.half_open)), "half_open", "too many connections say nothing", now)
        connection = Connection(action.peer, action.role, self._streams, Watch(self._look), now)
        table.add(connection)
        self.opened += 1
        layer.write(connection, self._greeting)
        layer.timers.arm(connection.watch, now + self._streams.csm_within_s)

    def _release_all(self, notice: ReleaseNotice, now: float) -> None:
        for connection in self._layer.peers:
            self._layer.write(connection, signalling.encode_release(notice))
            self._close(connection, "released", "by us", now)

    def _close_one(self, action: CloseConnection, now: float) -> None:
        connection = self._layer.peers.find(action.peer)
        if connection is None:
            return
        if action.is_abort:
            self._abort(connection, "closed-by-us", action.why, now)
        else:
            self._layer.write(connection, signalling.encode_release(ReleaseNotice()))
            self._close(connection, "released", action.why, now)

    def _request(self, action: actions.SendRequest, now: float) -> None:
        connection = self._layer.peers.find(action.peer)
        if connection is None or connection.released is not None:
            self._layer.events.append(RequestFailed(action.handle, action.peer, *self._layer.absent))
        elif connection.is_ready:
            self._requests.submit(action, connection, now)
        elif len(connection.early) < self._layer.limits.requests_per_peer:
            connection.early.append(action)
        else:
            self._layer.events.append(RequestFailed(action.handle, action.peer, "refused", "requests_per_peer"))

    def _forget_observation(self, peer: Peer, token: bytes, now: float) -> None:
        """There is no RST to the next notification, so the peer is told with GET Observe 1 (RFC 8323 §7)."""
        relation = (peer.relations or {}).get(token)
        super()._forget_observation(peer, token, now)
        if relation is None or relation.request is None or not isinstance(peer, Connection):
            return
        peer.remember_cancelled(token)
        request = relation.request
        options = encode_options(cancellation_options(request))
        self._layer.send(peer, request.code, token, options, request.payload)

    def _move(self, action: actions.MovePeer, now: float) -> None:
        """What hangs on a connection cannot move: it ends for the device that speaks from elsewhere."""
        self._forget(actions.ForgetPeer(action.old), now)
