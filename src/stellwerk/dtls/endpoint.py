"""The engine: datagrams and time in, datagrams and meaning out, for both ends of DTLS 1.2.

`Endpoint.feed` finds out whose each record is; `live` has the sessions, `handshakes` what is on its way to one,
`questions` what waits for the store. A record's way: its connection ID or its address leads to a live session, to a
handshake, or to a question about a session that may be stored.

Bounds and what happens at them: the oldest handshake of the busiest network makes room (`half_open`); an idle session
is evicted from memory and stays in the store; questions, what waits for them and what is held are dropped and counted.
"""

from collections.abc import Sequence
from math import inf
from typing import Final, assert_never

from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import PeerId, session_of
from stellwerk.dtls import actions
from stellwerk.dtls.base import Admission, Base
from stellwerk.dtls.client import ClientHandshake
from stellwerk.dtls.events import Event
from stellwerk.dtls.fragments import decode_fragments
from stellwerk.dtls.handshakes import Handshakes
from stellwerk.dtls.live import LiveSessions
from stellwerk.dtls.messages import HandshakeFormatError, HandshakeType
from stellwerk.dtls.parameters import Limits, ServerParameters
from stellwerk.dtls.questions import Question, Questions
from stellwerk.dtls.records import (
    DTLS_1_0,
    DTLS_1_2,
    MAX_PLAINTEXT,
    ContentType,
    Record,
    RecordFormatError,
    split_records,
)
from stellwerk.dtls.resumption import Resumptions
from stellwerk.dtls.server import ServerHandshake, ServerSide
from stellwerk.dtls.session import SESSION_ID_BYTES, SessionFormatError, decode_session
from stellwerk.dtls.session_ids import SessionIds
from stellwerk.dtls.tickets import TicketKey

_TLS12_CID: Final = int(ContentType.TLS12_CID)
_HANDSHAKE: Final = int(ContentType.HANDSHAKE)
_CLIENT_HELLO: Final = int(HandshakeType.CLIENT_HELLO)
_ANSWERS: Final = (actions.GivePsk, actions.AcceptPeer, actions.RefusePeer)


class Endpoint:
    """One DTLS 1.2 endpoint over UDP, client and, with ``server``, server. All times are monotonic seconds.

    A client of an endpoint that is a server too asks for connection IDs of 8 bytes, or for none.

    ``ticket_keys``: the first seals, all open; none: no tickets. ``wall_offset_s``: what to add to a time to get
    seconds that outlive a restart (Unix time), for the age of sessions. ``admission``: how often handshakes may
    begin. ``id_secret``: see `session_ids.SessionIds`.
    """

    def __init__(
        self,
        entropy: Entropy,
        server: ServerParameters | None = None,
        limits: Limits | None = None,
        *,
        ticket_keys: Sequence[TicketKey] = (),
        wall_offset_s: float = 0.0,
        admission: Admission | None = None,
        id_secret: bytes | None = None,
    ) -> None:
        self._base = base = Base(entropy, limits or Limits(), wall_offset_s, admission)
        self._server = server
        side = resumptions = ids = None
        if server is not None:
            side = ServerSide.of(server)
            ids = SessionIds(server.node_id, id_secret, entropy)
            resumptions = Resumptions(
                server, ticket_keys, entropy, self._find_resumable, ids.is_given, base.wall_s, base.limits.resumable
            )
        self._ids = ids
        self._resumptions = resumptions
        self._live = LiveSessions(base, server.sequence_gap if server is not None else 1, resumptions)
        self._handshakes = Handshakes(base, self._live, side, ids, resumptions, self._ask_session)
        self._questions = Questions(base, self._unanswered)
        self._find = self._live.sessions.find
        self._find_at = self._live.sessions.find_at
        self._cid_length = SESSION_ID_BYTES if server is not None else 0

    # --- bytes in ------------------------------------------------------------------------------------------------

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        """Take one datagram from ``peer``. Never raises, whatever the bytes."""
        self._feed(datagram, peer, now, may_ask=True)

    def _feed(self, datagram: bytes, peer: PeerId, now: float, *, may_ask: bool) -> None:
        try:
            records = split_records(datagram, self._cid_length or self._own_cid_length(peer))
        except RecordFormatError as error:
            self._base.drop(peer, "format")
            records = error.whole
        for record in records:
            if record.version != DTLS_1_2 and (record.epoch or record.version != DTLS_1_0):
                self._base.drop(peer, "version")
            elif record.epoch == 0:
                if not self._receive_plain(record, peer, now):
                    return
            elif record.type == _TLS12_CID:
                session = self._find(record.cid)
                if session is not None and session.own_cid == record.cid:
                    if not self._live.receive(session, record, peer, now):
                        return
                elif not self._receive_strange_cid(record, datagram, peer, now, may_ask):
                    return
            elif not self._receive_by_address(record, datagram, peer, now, may_ask):
                return

    def _own_cid_length(self, peer: PeerId) -> int:
        """Of the connection ID in records to us as a client."""
        handshake = self._handshakes.clients.get(peer)
        if handshake is not None:
            return handshake.own_cid_length
        session = self._find_at(peer)
        return len(session.own_cid) if session is not None else 0

    def _receive_plain(self, record: Record, peer: PeerId, now: float) -> bool:
        """A record of epoch 0. None of them harms a live session. False: nothing belongs behind it in a datagram."""
        if record.type != _HANDSHAKE:
            handshake = self._handshakes.find(peer)
            if handshake is not None:
                handshake.receive_plain(record, now)
            else:
                self._base.drop(peer, "plaintext")
            return True
        try:
            fragments = decode_fragments(record.fragment)
        except HandshakeFormatError:
            self._base.drop(peer, "format")
            return True
        if fragments[0].type == _CLIENT_HELLO:
            # A client sends it alone; whoever sends many at once wants many answers for the price of one datagram.
            self._handshakes.receive_hello(record, fragments[0], peer, now)
            return False
        handshake = self._handshakes.find(peer)
        if handshake is not None:
            handshake.receive_messages(fragments, now)
        elif not self._live.receive_repeated(fragments, peer, now):
            self._base.drop(peer, "plaintext")
        return True

    def _receive_strange_cid(self, record: Record, datagram: bytes, peer: PeerId, now: float, may_ask: bool) -> bool:
        """A record with a connection ID that no session of the server has. False: the datagram waits as a whole, or is
        not worth it."""
        handshake = self._handshakes.find_cid(record.cid) or self._handshakes.clients.get(peer)
        # A client's session is where its server is; its connection ID is whatever it chose.
        session = self._find_at(peer)
        if session is not None and not session.is_server and session.own_cid == record.cid:
            if handshake is None or not handshake.has_keys or self._live.claims(session, record):
                self._live.receive(session, record, peer, now)
            else:
                handshake.receive_protected(record, now)
            return True
        if handshake is not None:
            if handshake.address == peer:
                handshake.receive_protected(record, now)
            else:
                self._base.drop(peer, "no-session")
            return True
        if self._ids is None or not may_ask:
            self._base.drop(peer, "no-session")
            return True
        if not self._ids.is_given(record.cid):
            # Made up: as for a record that does not verify, what else is in its datagram is not worth the time.
            self._base.drop(peer, "no-session")
            return False
        return self._wait(self._questions.about(record.cid, None, now, peer), datagram, peer)

    def _receive_by_address(self, record: Record, datagram: bytes, peer: PeerId, now: float, may_ask: bool) -> bool:
        """A protected record without connection ID. False: the rest of the datagram has to wait, or is not worth it."""
        session = self._find_at(peer)
        handshake = self._handshakes.find(peer)
        # RFC 9146 4: where a connection ID is wanted, a record without one is none. Beside a handshake both are at
        # epoch 1, and whoever can open it has it.
        if (
            session is not None
            and not session.own_cid
            and (handshake is None or not handshake.has_keys or self._live.claims(session, record))
        ):
            return self._live.receive(session, record, peer, now)
        if handshake is not None:
            handshake.receive_protected(record, now)
            return True
        if session is not None or self._server is None or not may_ask:
            self._base.drop(peer, "no-session")
            return True
        return self._wait(self._questions.about(None, peer, now, peer), datagram, peer)

    def _wait(self, question: Question | None, datagram: bytes, peer: PeerId) -> bool:
        if question is None or len(question.datagrams) >= self._base.limits.waiting_datagrams:
            self._base.drop(peer, "room")
            return question is None
        question.datagrams.append((peer, datagram))
        return False

    # --- time in -------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Do what is due by ``now``: repetitions, ends of waiting."""
        self._base.timers.fire_due(now)

    def deadline(self) -> float | None:
        """When to tick next, None for no need: live sessions have no timer."""
        due = self._base.timers.next_due()
        return None if due == inf else due

    # --- figures -------------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> int:
        """Live sessions in memory."""
        return len(self._live.sessions)

    @property
    def half_open(self) -> int:
        """Handshakes of clients under way, behind their cookie."""
        return len(self._handshakes.half_open)

    # --- bytes and meaning out -----------------------------------------------------------------------------------

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        """What to send since the last call, in order."""
        taken, self._base.datagrams = self._base.datagrams, []
        return taken

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order."""
        taken, self._base.events = self._base.events, []
        return taken

    def is_live(self, peer: PeerId) -> bool:
        """Whether the session is in memory."""
        return self._find(session_of(peer)) is not None

    def room(self, peer: PeerId) -> int:
        """How many bytes one `actions.SendData` to a session may have; of one that is not in memory, what most take."""
        session = self._find(session_of(peer))
        if session is not None:
            return session.limit
        return self._server.record_size if self._server is not None else MAX_PLAINTEXT

    def take_marks(self) -> list[tuple[bytes, int]]:
        """Session id and (epoch << 48 | highest number read) of each session that read since the last call. Store
        them with what the data caused: a session that is restored takes nothing up to its mark again."""
        return self._live.take_marks()

    # --- wishes in -----------------------------------------------------------------------------------------------

    def submit(self, action: actions.Action, now: float) -> None:
        """Do what the outside wants. Actions about something that is over already are ignored."""
        # First what the hot path uses: one comparison, no chain.
        if isinstance(action, actions.SendData):
            session = self._find(session_of(action.peer))
            if session is not None:
                self._live.send(session, action.data)
            else:
                self._send_later(action, now)
        elif isinstance(action, actions.SessionStored):
            session = self._find(action.session_id)
            if session is not None:
                self._live.stored(session, action.ceiling)
        elif isinstance(action, _ANSWERS):
            self._answer(action, now)
        elif isinstance(action, actions.RestoreSession):
            self._restore(action, now)
        elif isinstance(action, actions.NoSession):
            question = self._questions.take(action.question)
            if question is not None:
                self._unanswered(question, now)
        elif isinstance(action, actions.CloseSession | actions.MoveSession | actions.ProvePeer):
            self._submit_about_session(action)
        elif isinstance(action, actions.Connect):
            self._handshakes.connect(action.address, action.parameters, action.resume, now)
        elif isinstance(action, actions.ForgetHandshakes):
            self._handshakes.forget_device(action.device)
        elif isinstance(action, actions.ReplaceIdentity):
            self._handshakes.replace_identity(action.identity)
        elif isinstance(action, actions.ReplaceTicketKeys):
            if self._resumptions is not None:
                self._resumptions.replace_keys(action.keys)
        else:
            assert_never(action)

    def _submit_about_session(self, action: actions.CloseSession | actions.MoveSession | actions.ProvePeer) -> None:
        session_id = session_of(action.peer)
        session = self._find(session_id)
        if isinstance(action, actions.CloseSession):
            # Who asks for it right now gets none: it must not come back by an answer that is on its way.
            question = self._questions.open_about(session_id)
            if question is not None:
                question.is_void = True
            if session is not None:
                self._live.close(session, action.alert)
        elif session is None:
            return
        elif isinstance(action, actions.MoveSession):
            self._live.sessions.move(session, action.address)
        else:
            self._live.prove(session)

    def _answer(self, action: actions.GivePsk | actions.AcceptPeer | actions.RefusePeer, now: float) -> None:
        handshake = self._handshakes.take_asking(action.handshake)
        if isinstance(handshake, ServerHandshake):
            if isinstance(action, actions.GivePsk):
                handshake.give_psk(action.key, action.device, now)
            elif isinstance(action, actions.AcceptPeer):
                handshake.accept(action.device, now)
            else:
                handshake.refuse(action.reason, action.detail, action.alert, now)
        elif isinstance(handshake, ClientHandshake):
            if isinstance(action, actions.AcceptPeer):
                handshake.accept(action.device, now)
            elif isinstance(action, actions.RefusePeer):
                handshake.refuse(action.reason, action.detail, action.alert, now)

    # --- sessions that are not in memory ---------------------------------------------------------------------------

    def _find_resumable(self, root: bytes) -> bytes | None:
        session = self._live.sessions.find_root(root)
        return session.secrets if session is not None else None

    def _ask_session(self, handshake: ServerHandshake, session_id: bytes, now: float) -> bool:
        question = self._questions.about(session_id, None, now, handshake.address)
        if question is None or len(question.handshakes) >= self._base.limits.waiting_datagrams:
            return False
        question.handshakes.append(handshake)
        return True

    def _send_later(self, action: actions.SendData, now: float) -> None:
        """Data for a session that is not in memory."""
        if self._server is None:
            self._base.drop(action.peer, "no-session")
            return
        question = self._questions.about(session_of(action.peer), None, now)
        if question is None or len(question.sends) >= self._base.limits.waiting_datagrams:
            self._base.drop(action.peer, "room")
        else:
            question.sends.append(action.data)

    def _restore(self, action: actions.RestoreSession, now: float) -> None:
        question = self._questions.take(action.question)
        if question is None:
            return
        try:
            stored = decode_session(action.state)
        except SessionFormatError:
            self._unanswered(question, now)
            return
        session = None
        is_right = question.session_id in (None, stored.secrets.session_id) and not question.is_void
        if is_right and (question.datagrams or question.sends):
            waiting = None if question.sends else self._records(question.datagrams)
            session = self._live.restore(stored, action.read_mark, waiting)
        for handshake in question.handshakes:
            handshake.resume_stored(stored.secrets if is_right else None, now)
        if session is None:
            question.handshakes = []
            self._unanswered(question, now, self._live.mark_of(stored, action.read_mark) if is_right else -1)
            return
        for data in question.sends:
            if not session.ended:
                self._live.send(session, data)
        for peer, datagram in question.datagrams:
            self._feed(datagram, peer, now, may_ask=False)

    def _records(self, datagrams: list[tuple[PeerId, bytes]]) -> list[Record]:
        records: list[Record] = []
        for _, datagram in datagrams:
            try:
                records += split_records(datagram, self._cid_length)
            except RecordFormatError as error:
                records += error.whole
        return records

    def _unanswered(self, question: Question, now: float, read: int = -1) -> None:
        """There is no such session, or nothing that waited for it is its own: it is dropped in silence, and counted.
        ``read``: (epoch << 48 | highest number read) of the session, -1 without one."""
        self._questions.take(question.number)
        for handshake in question.handshakes:
            handshake.resume_stored(None, now)
        for waiting in question.datagrams:
            is_old = read >= 0 and all(
                record.epoch << 48 | record.sequence <= read for record in self._records([waiting])
            )
            self._base.drop(waiting[0], "replayed" if is_old else "no-session")
