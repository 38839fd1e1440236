"""Handshakes under way, ours and our clients': how they begin, what they ask, how they end."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from struct import Struct
from typing import Final

from stellwerk.core.ids import PeerId
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.base import Base
from stellwerk.dtls.client import ClientHandshake
from stellwerk.dtls.cookies import Cookies
from stellwerk.dtls.fragments import Fragment, transcript_form
from stellwerk.dtls.half_open import HalfOpen
from stellwerk.dtls.handshake import Handshake
from stellwerk.dtls.live import LiveSessions
from stellwerk.dtls.messages import (
    RANDOM_BYTES,
    HandshakeFormatError,
    HandshakeType,
    HelloOutline,
    HelloVerifyRequest,
    decode_client_hello,
    encode_hello_verify_request,
    outline_client_hello,
)
from stellwerk.dtls.parameters import ClientParameters, ServerIdentity
from stellwerk.dtls.records import DTLS_1_0, ContentType, Record, encode_record
from stellwerk.dtls.resumption import Resumptions
from stellwerk.dtls.server import ServerHandshake, ServerSide
from stellwerk.dtls.session import SessionFormatError
from stellwerk.dtls.session_ids import SessionIds

_LAST_HELLO: Final = 255
"""The highest number of a ClientHello. Clients count from 0 (RFC 6347 §4.2.2), and our answers go on from it."""
_LATE_HELLO_S: Final = 60.0
"""How long after a handshake its ClientHello is still known. No longer: a device without good randomness may begin
every time with the same."""
_BEGUN: Final = Struct(f"{RANDOM_BYTES}sd")
"""The random of a ClientHello, and until when that may come late."""


class Handshakes:
    """``side``, ``ids`` and ``resumer``: of the server, None for an endpoint that is none. ``ask_session`` finds out
    about a stored session."""

    def __init__(
        self,
        base: Base,
        live: LiveSessions,
        side: ServerSide | None,
        ids: SessionIds | None,
        resumer: Resumptions | None,
        ask_session: Callable[[ServerHandshake, bytes, float], bool],
    ) -> None:
        self.base = base
        self.side = side
        self._ids = ids
        self._resumer = resumer
        self._live = live
        self._cookies = Cookies(base.entropy)
        self._ask_session = ask_session
        limits = base.limits
        # Whoever has a link of 10 s answers after that time and no sooner: within the first repetition it is alive.
        patience_s = 2 * side.parameters.first_timeout_s if side is not None else 0.0
        self.half_open: HalfOpen[ServerHandshake] = HalfOpen(limits.half_open, limits.half_open_per_address, patience_s)
        self.clients: dict[PeerId, ClientHandshake] = {}
        self._by_cid: dict[bytes, ServerHandshake] = {}
        self._asking: dict[int, Handshake] = {}
        self._begun: OrderedDict[PeerId, bytes] = OrderedDict()
        """With which ClientHello the last handshake that is over began, as `_BEGUN`; who was last is last."""

    @property
    def resumer(self) -> Resumptions:
        """Of the server."""
        assert self._resumer is not None
        return self._resumer

    def find(self, address: PeerId) -> Handshake | None:
        """The handshake with ``address``."""
        return self.half_open.find(address) or self.clients.get(address)

    def find_cid(self, cid: bytes) -> ServerHandshake | None:
        """The handshake whose session will have this connection ID."""
        return self._by_cid.get(cid)

    # --- beginnings ----------------------------------------------------------------------------------------------

    def receive_hello(self, record: Record, fragment: Fragment, peer: PeerId, now: float) -> None:
        """A ClientHello: nothing is kept for it, and nothing costly is done, until its cookie is right."""
        side = self.side
        if side is None:
            self.base.drop(peer, "type")
            return
        if len(fragment.data) != fragment.length:
            self.base.drop(peer, "fragmented")
            return
        body = fragment.data
        if fragment.message_seq > _LAST_HELLO:
            self.base.drop(peer, "format")
            return
        try:
            outline = outline_client_hello(body)
        except HandshakeFormatError:
            self.base.drop(peer, "format")
            return
        self._cookies.rotate(now)
        if not self._cookies.is_valid(peer, body, outline):
            if outline.cookie > outline.session_id + 1:
                self.base.drop(peer, "cookie")
            self._ask_for_cookie(record, fragment, outline, peer)
            return
        client_random = body[2 : 2 + RANDOM_BYTES]
        known = self.half_open.find(peer)
        if known is not None and (known.client_random, known.first) == (client_random, fragment.message_seq):
            known.receive_messages([fragment], now)
            return
        if self._began_before(client_random, peer, now):
            self.base.drop(peer, "replayed")
            return
        try:
            hello = decode_client_hello(body, side.parameters.cid_code_points)
        except HandshakeFormatError:
            self.base.drop(peer, "format")
            return
        if not self.base.admission.address(peer, now):
            self.base.drop(peer, "rate")
            return
        if known is not None:
            # Its cookie shows that the client at this address is another one now, or the same one that began anew.
            known.cancel("timeout", "the client began another handshake")
            self._note_begun(known, now)
        is_welcome, oldest = self.half_open.make_room(peer, now)
        if not is_welcome:
            self.base.drop(peer, "room")
            return
        if oldest is not None:
            oldest.cancel("room", "too many handshakes are under way; this one was the oldest")
        handshake = ServerHandshake(self, side, peer, hello, fragment.message_seq, record.sequence, now)
        self.half_open.add(handshake)
        handshake.receive_messages([fragment], now)

    def _began_before(self, client_random: bytes, peer: PeerId, now: float) -> bool:
        """Whether the last handshake of ``peer`` began with this ClientHello, which the network kept for a while."""
        before = self._begun.get(peer)
        if before is None:
            return False
        random, until = _BEGUN.unpack(before)
        return bool(random == client_random and now < until)

    def _note_begun(self, handshake: Handshake, now: float) -> None:
        begun = self._begun
        begun.pop(handshake.address, None)
        begun[handshake.address] = _BEGUN.pack(handshake.client_random, now + _LATE_HELLO_S)
        if len(begun) > self.base.limits.half_open:
            begun.popitem(last=False)

    def _ask_for_cookie(self, record: Record, fragment: Fragment, outline: HelloOutline, peer: PeerId) -> None:
        # RFC 6347 4.2.1: version 1.0 whatever will be negotiated; the numbers of record and message are the
        # ClientHello's, as there is nothing that could count.
        cookie = self._cookies.cookie_for(peer, fragment.data, outline)
        body = encode_hello_verify_request(HelloVerifyRequest(DTLS_1_0, cookie))
        content = transcript_form(HandshakeType.HELLO_VERIFY_REQUEST, fragment.message_seq, body)
        answer = encode_record(ContentType.HANDSHAKE, 0, record.sequence, content, version=DTLS_1_0)
        self.base.datagrams.append((peer, answer))

    def connect(self, address: PeerId, parameters: ClientParameters, resume: bytes | None, now: float) -> None:
        """Begin a handshake of ours."""
        before = self.clients.get(address)
        if before is not None:
            before.cancel("timeout", "another handshake with the same server began")
        session_id = self.base.entropy.take(8)
        try:
            handshake = ClientHandshake(self, address, parameters, resume, session_id, now)
        except SessionFormatError:
            handshake = ClientHandshake(self, address, parameters, None, session_id, now)
        self.clients[address] = handshake
        handshake.begin(now)

    # --- what handshakes need (`machine.Host`, `server.ServerHost`) ---------------------------------------------

    def new_session_id(self, handshake: ServerHandshake) -> bytes:
        """See `server.ServerHost`."""
        assert self._ids is not None
        while True:
            session_id = self._ids.draw()
            if self._live.sessions.find(session_id) is None and session_id not in self._by_cid:
                self._by_cid[session_id] = handshake
                return session_id

    def ask(self, handshake: Handshake) -> int:
        """See `machine.Host`."""
        number = self.base.number()
        self._asking[number] = handshake
        handshake.question = number
        return number

    def ask_session(self, handshake: ServerHandshake, session_id: bytes, now: float) -> bool:
        """See `server.ServerHost`."""
        return self._ask_session(handshake, session_id, now)

    def wall_s(self, now: float) -> int:
        """See `server.ServerHost`."""
        return self.base.wall_s(now)

    def is_foreign(self, handshake: Handshake, records: list[Record], now: float) -> bool:
        """See `machine.Host`."""
        session = self._live.sessions.find_at(handshake.address)
        if session is None:
            return False
        claimed = [record for record in records if self._live.claims(session, record)]
        for record in claimed:
            if not session.ended:
                self._live.receive(session, record, handshake.address, now)
        return bool(claimed)

    def established(self, handshake: Handshake, now: float) -> None:
        """See `machine.Host`."""
        self.ended(handshake)
        if isinstance(handshake, ServerHandshake):
            self._note_begun(handshake, now)
        ticket = handshake.ticket if isinstance(handshake, ClientHandshake) else b""
        session = self._live.establish(handshake, ticket, now)
        for record in handshake.take_stash():
            if not session.ended:
                self._live.receive(session, record, handshake.address, now)

    def ended(self, handshake: Handshake) -> None:
        """See `machine.Host`."""
        self._asking.pop(handshake.question, None)
        if isinstance(handshake, ServerHandshake):
            self.half_open.drop(handshake)
            if self._by_cid.get(handshake.session_id) is handshake:
                del self._by_cid[handshake.session_id]
        elif self.clients.get(handshake.address) is handshake:
            del self.clients[handshake.address]

    def replace_identity(self, identity: ServerIdentity) -> None:
        """Handshakes that begin from now on use ``identity``."""
        if self.side is not None:
            self.side = ServerSide.of(replace(self.side.parameters, identity=identity))

    # --- answers -------------------------------------------------------------------------------------------------

    def take_asking(self, number: int) -> Handshake | None:
        """Whose question ``number`` is; None if it is over or answered."""
        return self._asking.pop(number, None)

    def forget_device(self, device: int) -> None:
        """End every handshake for ``device``: its credentials are others now."""
        for handshake in self.half_open.all():
            if device and handshake.device == device:
                handshake.cancel(
                    "credentials-changed",
                    "the device's credentials changed during the handshake",
                    AlertDescription.HANDSHAKE_FAILURE,
                )
