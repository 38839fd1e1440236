"""What live sessions do: read records, send data, move, ask for higher ceilings, begin from stored states, and end.

The hot path of secure devices is `LiveSessions.receive` and `LiveSessions.send`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from stellwerk.core.ids import PeerId, session_peer
from stellwerk.dtls.alerts import AlertDescription, AlertFormatError, AlertLevel, alert_name, decode_alert, encode_alert
from stellwerk.dtls.association import EPOCH, NO_CEILING, Association, Exhausted, Moved, associate
from stellwerk.dtls.base import Base
from stellwerk.dtls.events import DataReceived, PeerMoved, SessionEnded, SessionEstablished, SessionState
from stellwerk.dtls.flights import LastFlight
from stellwerk.dtls.fragments import Fragment, decode_fragments
from stellwerk.dtls.handshake import Handshake
from stellwerk.dtls.messages import HandshakeFormatError, HandshakeType
from stellwerk.dtls.protection import ProtectionError
from stellwerk.dtls.records import HEADER_BYTES, ContentType, Record
from stellwerk.dtls.resumption import Resumptions, encode_client_session
from stellwerk.dtls.session import SessionSecrets, decode_identity, decode_secrets, encode_secrets, encode_session
from stellwerk.dtls.session import SessionState as StoredSession
from stellwerk.dtls.sessions import Sessions
from stellwerk.dtls.suites import SUITES

_APPLICATION_DATA: Final = int(ContentType.APPLICATION_DATA)
_EPOCH_BASE: Final = EPOCH << 48

_LAST_FLIGHT_S: Final = 240.0
"""How long our last flight is repeated for a peer that has not got it: twice the lifetime of a segment (RFC 6347
§4.2.4)."""
_LEFT: Final = 16_384


class LiveSessions:
    """All live sessions of one endpoint. ``gap``: how far a stored ceiling lies ahead; ``resumptions`` of its server's
    side, None without one."""

    def __init__(self, base: Base, gap: int, resumptions: Resumptions | None) -> None:
        self._base = base
        self._gap = gap
        self._early = gap // 2
        self._resumptions = resumptions
        self._amplification = base.limits.move_amplification
        self.sessions = Sessions(base.limits.sessions)
        self._last_flights: dict[PeerId, LastFlight] = {}
        self._marks: dict[bytes, Association | int] = {}
        """Sessions that read since the last call of `take_marks`; of those that left memory, their mark."""
        self._left: OrderedDict[bytes, int] = OrderedDict()
        """Ceilings of sessions that were evicted lately. A state with a lower one was looked up too long ago."""

    # --- records in ----------------------------------------------------------------------------------------------

    def receive(self, session: Association, record: Record, peer: PeerId, now: float) -> bool:
        """A protected record from ``peer`` for ``session``. False: it does not verify, so that it is a waste of time to
        try what else is in its datagram."""
        if record.epoch != EPOCH:
            self._base.drop(peer, "epoch")
            return True
        window = session.window
        if not window.is_new(record.sequence):
            self._base.drop(peer, "replayed")
            return True
        try:
            type, content = session.open(record)
        except ProtectionError:
            # RFC 6347 4.1.2.7: silence.
            self._base.drop(peer, "mac")
            return False
        is_newest = window.take(record.sequence)
        session.heard = True
        if session.is_server:
            self._marks[session.session_id] = session
        if session.moved is not None or peer != session.address:
            self._heard_from(session, peer, is_newest, len(record.fragment) + HEADER_BYTES)
        if type != _APPLICATION_DATA:
            self._receive_other(session, type, content, peer, now)
            return True
        if session.last_flight is not None:
            self._forget_last_flight(session.last_flight)
        self._base.events.append(DataReceived(session.peer, content))
        return True

    def claims(self, session: Association, record: Record) -> bool:
        """Whether ``record`` is one of ``session`` without doubt. Nothing changes by asking."""
        if record.epoch != EPOCH or record.cid != session.own_cid or not session.window.is_new(record.sequence):
            return False
        try:
            session.open(record)
        except ProtectionError:
            return False
        return True

    def receive_repeated(self, fragments: list[Fragment], peer: PeerId, now: float) -> bool:
        """Handshake messages of epoch 0 from where no handshake is under way. Whether the peer repeats with them the
        flight before our last one."""
        flight = self._last_flights.get(peer)
        if flight is None or any(fragment.message_seq > flight.answered for fragment in fragments):
            return False
        self._repeat(flight, now)
        return True

    def _receive_other(self, session: Association, type: int, content: bytes, peer: PeerId, now: float) -> None:
        if type == ContentType.ALERT:
            try:
                alert = decode_alert(content)
            except AlertFormatError:
                self._base.drop(peer, "format")
                return
            if alert.description == AlertDescription.CLOSE_NOTIFY:
                self._send_alert(session, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
                self.end(session, "close-notify", resumable=True)
            elif alert.is_fatal:
                self.end(session, "alert", alert_name(alert.description))
        elif type == ContentType.HANDSHAKE:
            self._receive_handshake(session, content, peer, now)
        elif type != ContentType.CHANGE_CIPHER_SPEC:
            self._base.drop(peer, "type")

    def _receive_handshake(self, session: Association, content: bytes, peer: PeerId, now: float) -> None:
        try:
            fragment = decode_fragments(content)[0]
        except HandshakeFormatError:
            self._base.drop(peer, "format")
            return
        if fragment.type == HandshakeType.FINISHED:
            if session.last_flight is not None:
                self._repeat(session.last_flight, now)
        elif fragment.type in (HandshakeType.CLIENT_HELLO, HandshakeType.HELLO_REQUEST):
            # RFC 5246 7.2.2, RFC 5746 4.5: a session is never negotiated anew.
            self._send_alert(session, AlertLevel.WARNING, AlertDescription.NO_RENEGOTIATION)
        else:
            self._base.drop(peer, "type")

    def _heard_from(self, session: Association, peer: PeerId, is_newest: bool, size: int) -> None:
        """A verified record came from ``peer``, another address than before or one that is not proven yet.

        RFC 9146 6: only the newest record moves a session. The address is proven by `prove`, or by a newer record from
        there once something was sent there.
        """
        if not is_newest or not session.own_cid:
            return
        moved = session.moved
        if peer == session.address:
            if moved is not None:
                if moved.sent:
                    self.prove(session)
                else:
                    moved.credit += self._amplification * size
            return
        old = session.address
        home = moved.home if moved is not None else old
        session.moved = None if peer == home else Moved(home, self._amplification * size)
        self.sessions.move(session, peer)
        self._base.events.append(PeerMoved(session.peer, old, peer))

    def prove(self, session: Association) -> None:
        """Whoever has ``session`` receives at its newest address."""
        if session.moved is not None:
            session.moved = None
            self._tell_state(session)

    # --- data out ------------------------------------------------------------------------------------------------

    def send(self, session: Association, data: bytes) -> None:
        """One record of application data."""
        if len(data) > session.limit:
            self._base.drop(session.address, "size")
            return
        if session.moved is not None and not self._affords(session, session.moved, len(data)):
            return
        try:
            record = session.seal(_APPLICATION_DATA, data)
        except Exhausted:
            if session.next_sequence >= NO_CEILING:
                self.end(session, "exhausted")
            elif not session.hold(data):
                self._base.drop(session.address, "held")
            return
        self._base.datagrams.append((session.address, record))
        if session.next_sequence >= session.asked - self._early:
            self._raise_ceiling(session)

    def _affords(self, session: Association, moved: Moved, length: int) -> bool:
        size = length + session.overhead
        if size > moved.credit:
            self._base.drop(session.address, "moved-amplification")
            return False
        moved.credit -= size
        moved.sent = True
        return True

    def _send_alert(self, session: Association, level: int, description: int) -> None:
        if session.may_seal() and (session.moved is None or self._affords(session, session.moved, 2)):
            record = session.seal(ContentType.ALERT, encode_alert(level, description))
            self._base.datagrams.append((session.address, record))

    def _repeat(self, flight: LastFlight, now: float) -> None:
        address = flight.association.address
        with suppress(Exhausted):
            self._base.datagrams += [(address, datagram) for datagram in flight.repeat(now)]

    def _forget_last_flight(self, flight: LastFlight) -> None:
        self._base.timers.cancel(flight)
        flight.association.last_flight = None
        if self._last_flights.get(flight.address) is flight:
            del self._last_flights[flight.address]

    # --- ceilings ------------------------------------------------------------------------------------------------

    def stored(self, session: Association, ceiling: int) -> None:
        """The state of ``session`` with ``ceiling`` is on disk: what waited for it may leave."""
        number = ceiling - _EPOCH_BASE
        if not session.ceiling < number <= session.asked:
            return
        session.ceiling = number
        held, session.held = session.held, None
        for data in held or ():
            if not session.ended:
                self.send(session, data)

    def _raise_ceiling(self, session: Association) -> None:
        if session.asked < NO_CEILING:
            session.asked = min(session.asked + self._gap, NO_CEILING)
            self._tell_state(session)

    def _tell_state(self, session: Association) -> None:
        """Tell the state anew: with the newest ceiling that was asked for, and where the peer is now."""
        self._base.events.append(self._state(session, decode_secrets(session.secrets)))

    def _state(self, session: Association, secrets: SessionSecrets, ticket: bytes | None = None) -> SessionState:
        """``secrets``: those of ``session``. ``ticket``: of one that a client has just made."""
        state = StoredSession(
            secrets,
            not session.is_server,
            session.keys,
            EPOCH,
            EPOCH,
            _EPOCH_BASE + session.asked,
            session.mark(),
            session.own_cid,
            session.peer_cid,
            session.address,
            session.cid_code_point,
            session.limit,
        )
        encoded = encode_session(state, session.secrets)
        return SessionState(
            session.peer,
            session.session_id,
            session.device,
            session.address,
            encoded if ticket is None else encode_client_session(ticket, encoded),
            state.ceiling,
            not session.own_cid,
        )

    def take_marks(self) -> list[tuple[bytes, int]]:
        """Session id and (epoch << 48 | highest number read) of those that read since the last call."""
        marks, self._marks = self._marks, {}
        return [(id, mark if isinstance(mark, int) else mark.mark()) for id, mark in marks.items()]

    # --- beginnings ----------------------------------------------------------------------------------------------

    def establish(self, handshake: Handshake, ticket: bytes, now: float) -> Association:
        """The session that ``handshake`` made goes live."""
        session, suite, identity = handshake.association, handshake.suite, handshake.identity
        assert session is not None
        assert suite is not None
        assert identity is not None
        session.device = handshake.device
        if session.is_server:
            session.ceiling = session.asked = self._gap
        session.known_by(handshake.tls_session_id)
        secrets = handshake.secrets()
        session.secrets = encode_secrets(secrets)
        before = self.sessions.find_at(session.address)
        resumed = self.sessions.find(handshake.resumed) if handshake.resumed is not None else None
        if (
            before is not None
            and before is not resumed
            and before.own_cid
            and decode_identity(before.secrets) != identity
        ):
            # It may be anywhere: it is known by its connection ID, and somebody else has its address now.
            before = None
        self._add(session)
        flight = handshake.last_flight()
        if flight is not None:
            session.last_flight = self._last_flights[flight.address] = flight
            flight.on_end = self._forget_last_flight
            self._base.timers.arm(flight, now + _LAST_FLIGHT_S)
        self._base.events += (
            SessionEstablished(
                session.peer,
                session.address,
                identity,
                session.device,
                suite.number,
                bool(session.own_cid or session.peer_cid),
                None if handshake.resumed is None else session_peer(handshake.resumed),
                None if before is None else before.peer,
            ),
            self._state(session, secrets, None if session.is_server else ticket),
        )
        for old in (before, resumed):
            if old is not None and not old.ended and old is not session:
                self.end(old, "replaced")
        return session

    def restore(self, stored: StoredSession, read_mark: int, waiting: Sequence[Record] | None) -> Association | None:
        """A session goes on from its ``stored`` state: above every number that it may have used, below none that it may
        have read. None: it has none of either left, or has used numbers since the state was looked up, or nothing of
        what is ``waiting`` for it is its own (None: it is wanted in any case)."""
        secrets = stored.secrets
        live = self.sessions.find(secrets.session_id)
        if live is not None:
            return live
        ceiling = stored.ceiling - _EPOCH_BASE
        if stored.is_client or not self._left.get(secrets.session_id, 0) <= ceiling < NO_CEILING:
            return None
        session = associate(
            SUITES[secrets.suite],
            stored.keys,
            session_id=secrets.session_id,
            address=stored.address,
            is_server=True,
            encrypt_then_mac=secrets.encrypt_then_mac,
            own_cid=stored.own_cid,
            peer_cid=stored.peer_cid,
            cid_code_point=stored.cid_code_point,
            limit=stored.send_limit,
        )
        session.secrets = encode_secrets(secrets)
        session.device = secrets.device
        session.known_by(secrets.tls_session_id)
        session.next_sequence = session.ceiling = session.asked = ceiling
        mark = self.mark_of(stored, read_mark)
        session.window = session.window.from_mark(max(mark - _EPOCH_BASE, -1))
        if waiting is not None and not any(self.claims(session, record) for record in waiting):
            # Whoever can guess an address, or has seen a connection ID, must not cost us more than a look.
            return None
        self._add(session, is_old=True)
        self._raise_ceiling(session)
        return session

    def mark_of(self, stored: StoredSession, read_mark: int) -> int:
        """(epoch << 48 | highest number read) of a session that is not in memory: the highest that anybody knows."""
        pending = self._marks.get(stored.secrets.session_id, 0)
        return max(read_mark, stored.read_highest, pending if isinstance(pending, int) else 0)

    def _add(self, session: Association, *, is_old: bool = False) -> None:
        idle = self.sessions.add(session, is_old=is_old)
        if idle is not None:
            self._left.pop(idle.session_id, None)
            self._left[idle.session_id] = idle.ceiling
            if len(self._left) > _LEFT:
                self._left.popitem(last=False)
            self.end(idle, "evicted")

    # --- ends ----------------------------------------------------------------------------------------------------

    def close(self, session: Association, alert: int | None) -> None:
        """End ``session`` from our side."""
        if alert is None:
            self._send_alert(session, AlertLevel.WARNING, AlertDescription.CLOSE_NOTIFY)
        else:
            self._send_alert(session, AlertLevel.FATAL, alert)
        self.end(session, "closed", resumable=alert is None)

    def end(self, session: Association, reason: str, detail: str = "", *, resumable: bool = False) -> None:
        """Forget ``session`` and tell why."""
        self.sessions.drop(session)
        if session.last_flight is not None:
            self._forget_last_flight(session.last_flight)
        if session.session_id in self._marks:
            self._marks[session.session_id] = session.mark()
        session.held = None
        if self._resumptions is not None and session.is_server:
            if resumable:
                self._resumptions.remember(session.root, session.secrets)
            elif reason != "evicted" and self.sessions.find_root(session.root) is None:
                self._resumptions.forget(session.root)
        self._base.events.append(SessionEnded(session.peer, reason, detail))
