"""The server's side of a handshake (RFC 5246 §7.3, RFC 6347 §4.2): a ClientHello whose cookie is right begins it.

full      ClientHello -> ServerHello [Certificate ServerKeyExchange CertificateRequest] ServerHelloDone
          [Certificate] ClientKeyExchange [CertificateVerify] (ChangeCipherSpec) Finished
          -> [NewSessionTicket] (ChangeCipherSpec) Finished
resumed   ClientHello -> ServerHello [NewSessionTicket] (ChangeCipherSpec) Finished
          (ChangeCipherSpec) Finished
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.certificates import CertificateRefused, read_certificate, read_raw_key
from stellwerk.dtls.ecdhe import Ephemeral, KeyExchangeError
from stellwerk.dtls.events import CertificateQuestion, PskQuestion, ResumptionQuestion
from stellwerk.dtls.extensions import (
    RAW_PUBLIC_KEY_TYPE,
    X509_TYPE,
    Extensions,
)
from stellwerk.dtls.flights import Outgoing
from stellwerk.dtls.handshake import Handshake
from stellwerk.dtls.machine import HandshakeFault, Host, Phase, Step, Timing
from stellwerk.dtls.messages import (
    Certificate,
    CertificateRequest,
    ClientHello,
    HandshakeType,
    NewSessionTicket,
    ServerHello,
    ServerKeyExchangeEcdhe,
    decode_certificate,
    decode_certificate_verify,
    decode_client_key_exchange_ecdhe,
    decode_client_key_exchange_psk,
    decode_raw_key,
    encode_certificate,
    encode_certificate_request,
    encode_ecdhe_params,
    encode_new_session_ticket,
    encode_raw_key,
    encode_server_hello,
    encode_server_key_exchange_ecdhe,
)
from stellwerk.dtls.negotiation import MAX_FRAGMENT_LENGTHS, check_hello, choose_full
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.dtls.prf import psk_premaster
from stellwerk.dtls.records import DTLS_1_2, MAX_PLAINTEXT
from stellwerk.dtls.session import SessionSecrets
from stellwerk.dtls.signatures import ECDSA_SHA256, SCHEMES, sign, verify
from stellwerk.dtls.suites import EMPTY_RENEGOTIATION_INFO, SUITES


class State(Enum):
    """What the server waits for; the text goes into failures."""

    HELLO = "a ClientHello was awaited"
    CERTIFICATE = "the client's Certificate was awaited"
    KEY_EXCHANGE = "the client's ClientKeyExchange was awaited"
    VERIFY = "the client's CertificateVerify was awaited"
    CHANGE = "the client's ChangeCipherSpec was awaited"
    FINISHED = "the client's Finished was awaited"


class Resumer(Protocol):
    """Where the server finds sessions to go on from (`resumption`)."""

    def find(self, hello: ClientHello, now: float) -> SessionSecrets | bytes | None:
        """The secrets of the session that ``hello`` wants to resume; the 8 bytes of the id of one that may be stored;
        None: a full handshake."""
        ...

    def is_good(self, secrets: SessionSecrets, hello: ClientHello, now: float) -> bool:
        """Whether ``hello`` may go on from ``secrets``. Raises `HandshakeFault` where going on at all is wrong."""
        ...

    def issue(self, secrets: SessionSecrets) -> bytes | None:
        """A ticket for a session, None where there are none."""
        ...


class ServerHost(Host, Protocol):
    """Who has handshakes of a server."""

    @property
    def resumer(self) -> Resumer:
        """Where it finds sessions to go on from."""
        ...

    def new_session_id(self, handshake: "ServerHandshake") -> bytes:
        """8 bytes that no session has; records with them as connection ID come to ``handshake`` from now on."""
        ...

    def ask_session(self, handshake: "ServerHandshake", session_id: bytes, now: float) -> bool:
        """Find out whether ``session_id`` is stored; `ServerHandshake.resume_stored` follows later. False: too much is
        being looked up, nothing follows."""
        ...

    def wall_s(self, now: float) -> int:
        """``now`` in seconds that outlive a restart."""
        ...


@dataclass(frozen=True, slots=True)
class ServerSide:
    """What all handshakes of a server share, made once from its parameters."""

    parameters: ServerParameters
    timing: Timing
    raw_key: bytes
    """The body of its Certificate with a raw public key, and with its chain below; empty: it has none."""
    chain: bytes

    @classmethod
    def of(cls, parameters: ServerParameters) -> "ServerSide":
        """Raises nothing: keys are of the right kind when they are made or imported."""
        raw_key = chain = b""
        identity = parameters.identity
        if identity is not None:
            spki = identity.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            raw_key = encode_raw_key(spki)
            if identity.chain:
                chain = encode_certificate(Certificate(identity.chain))
        p = parameters
        timing = Timing(p.first_timeout_s, p.longest_timeout_s, p.repetitions, p.mtu, p.record_size)
        return cls(parameters, timing, raw_key, chain)


class ServerHandshake(Handshake):
    """One client's handshake. Begin it with the record that has its ClientHello."""

    __slots__ = (
        "_accept",
        "_client_type",
        "_ephemeral",
        "_peer_key",
        "_secrets",
        "_side",
        "hello",
    )

    IS_SERVER = True
    AWAIT_CHANGE = State.CHANGE
    AWAIT_FINISHED = State.FINISHED

    host: ServerHost

    def __init__(
        self,
        host: ServerHost,
        side: ServerSide,
        address: PeerId,
        hello: ClientHello,
        message_seq: int,
        record_sequence: int,
        now: float,
    ) -> None:
        super().__init__(host, address, side.timing, message_seq, now)
        self._side = side
        self.hello = hello
        self.client_random = hello.random
        # RFC 6347 4.2.1: a HelloVerifyRequest before has used the numbers up to here, and nothing remembers it.
        self._message_seq = message_seq
        self.plain.sequence = record_sequence
        # Plain functions: a bound method would keep the handshake alive until the collector comes by.
        self._accept: Callable[[ServerHandshake, float], None] = ServerHandshake._go_on_accepted
        self._secrets: SessionSecrets | None = None
        """Of the session that it wants to go on from."""
        self._ephemeral: Ephemeral | None = None
        self._peer_key: EllipticCurvePublicKey | None = None
        self._client_type = X509_TYPE
        self.state = State.HELLO

    # --- steps ---------------------------------------------------------------------------------------------------

    def _take_hello(self, body: bytes, now: float) -> Enum:
        hello = self.hello
        check_hello(hello)
        found = self.host.resumer.find(hello, now)
        if not isinstance(found, bytes):
            return self._answer_hello(found, now)
        if not self.host.ask_session(self, found, now):
            return self._answer_hello(None, now)
        self._pause(now)
        return Phase.ASKING

    def _answer_hello(self, secrets: SessionSecrets | None, now: float) -> Enum:
        if secrets is None or not self.host.resumer.is_good(secrets, self.hello, now):
            return self._begin_full(now)
        self._secrets = secrets
        self.identity = secrets.identity
        self._accept = ServerHandshake._begin_resumed
        question = ResumptionQuestion(
            self._ask(now), self.address, secrets.identity, secrets.device, secrets.session_id
        )
        self.host.base.events.append(question)
        return Phase.ASKING

    def _take_certificate(self, body: bytes, now: float) -> Enum:
        try:
            if self._client_type == RAW_PUBLIC_KEY_TYPE:
                spki = decode_raw_key(body)
                if spki:
                    self._peer_key = read_raw_key(spki)
                    self.identity = RawKeyIdentity(spki)
            else:
                chain = decode_certificate(body).chain
                if chain:
                    leaf = read_certificate(chain[0])
                    self._peer_key = leaf.key
                    self.identity = CertificateIdentity(chain, leaf.common_name, leaf.names)
        except CertificateRefused as refused:
            # None of the alerts that are about certificates: clients give their configuration up at those, and whoever
            # can write from their address could send one to a server.
            raise HandshakeFault(refused.reason, refused.detail, AlertDescription.HANDSHAKE_FAILURE) from None
        if self._peer_key is None:
            raise HandshakeFault(
                "no-client-certificate",
                "the client sent an empty Certificate: give it a raw public key or a certificate, or a pre-shared key",
                AlertDescription.HANDSHAKE_FAILURE,
            )
        return State.KEY_EXCHANGE

    def _take_key_exchange(self, body: bytes, now: float) -> Enum:
        assert self.suite is not None
        if self.suite.exchange == "psk":
            name = decode_client_key_exchange_psk(body).identity
            self.identity = PskIdentity(name)
            if not name:
                self.failure = ("unknown-identity", "the client named no PSK identity: give it one")
                self._derive(psk_premaster(self.host.base.entropy.take(32)))
                return State.CHANGE
            self.host.base.events.append(PskQuestion(self._ask(now), self.address, name))
            return Phase.ASKING
        assert self._ephemeral is not None
        try:
            premaster = self._ephemeral.shared(decode_client_key_exchange_ecdhe(body).point)
        except KeyExchangeError as error:
            raise HandshakeFault("bad-message", str(error), AlertDescription.ILLEGAL_PARAMETER) from None
        self._ephemeral = None
        self._derive(premaster)
        return State.VERIFY

    def _take_verify(self, body: bytes, now: float) -> Enum:
        message = decode_certificate_verify(body)
        assert self._peer_key is not None
        assert isinstance(self.identity, RawKeyIdentity | CertificateIdentity)
        if not verify(self._peer_key, message.scheme, message.signature, self._transcript_before):
            raise HandshakeFault(
                "bad-signature",
                "the client's CertificateVerify is not signed with the key of its Certificate",
                AlertDescription.DECRYPT_ERROR,
            )
        self.host.base.events.append(CertificateQuestion(self._ask(now), self.address, self.identity))
        return Phase.ASKING

    def _take_finished(self, body: bytes, now: float) -> Enum:
        self._check_finished(body)
        if self.resumed is None:
            flight = [*self._ticket(), *self._finished(now)]
            self._send_flight(flight, now, is_last=True)
        return self._complete(now)

    TABLE: ClassVar[dict[tuple[Enum, int], Step]] = {
        (State.HELLO, HandshakeType.CLIENT_HELLO): _take_hello,
        (State.CERTIFICATE, HandshakeType.CERTIFICATE): _take_certificate,
        (State.KEY_EXCHANGE, HandshakeType.CLIENT_KEY_EXCHANGE): _take_key_exchange,
        (State.VERIFY, HandshakeType.CERTIFICATE_VERIFY): _take_verify,
        (State.FINISHED, HandshakeType.FINISHED): _take_finished,
    }

    # --- answers -------------------------------------------------------------------------------------------------

    def give_psk(self, key: bytes, device: int, now: float) -> None:
        """The answer to its `events.PskQuestion`."""
        if not 1 <= len(key) <= 64:
            raise ValueError("a pre-shared key has 1 to 64 bytes")
        self.device = device
        self._derive(psk_premaster(key))
        self._go_on(State.CHANGE, now)

    def accept(self, device: int, now: float) -> None:
        """The answer to its `events.CertificateQuestion` or `events.ResumptionQuestion`."""
        self.device = device
        self._accept(self, now)

    def refuse(self, reason: str, detail: str, alert: int | None, now: float) -> None:
        """The other answer to any question."""
        if self._secrets is not None and self.resumed is None:
            self._secrets = None
            self._guard(self._go_on_full, now)
        elif alert is None and isinstance(self.identity, PskIdentity):
            # As for a wrong key, to the last byte and in the same time: a key that nobody has.
            self.failure = (reason, detail)
            self._derive(psk_premaster(self.host.base.entropy.take(32)))
            self._go_on(State.CHANGE, now)
        else:
            self._fail(reason, detail, AlertDescription.DECRYPT_ERROR if alert is None else alert)

    def resume_stored(self, secrets: SessionSecrets | None, now: float) -> None:
        """What was stored of the session that its ClientHello names."""
        if self.is_over:
            return
        if secrets is not None and secrets.tls_session_id != self.hello.session_id:
            secrets = None
        self._guard(self._answer_stored, secrets, now)

    def _answer_stored(self, secrets: SessionSecrets | None, now: float) -> None:
        self.asked_until = None
        self.state = self._answer_hello(secrets, now)

    def _go_on_accepted(self, now: float) -> None:
        self._go_on(State.CHANGE, now)

    def _go_on_full(self, now: float) -> None:
        self.identity = None
        self.asked_until = None
        self._accept = ServerHandshake._go_on_accepted
        self.state = self._begin_full(now)

    # --- flights -------------------------------------------------------------------------------------------------

    def _begin_full(self, now: float) -> Enum:
        hello, side = self.hello, self._side
        choice = choose_full(hello, side.parameters, has_chain=bool(side.chain))
        self.suite = suite = choice.suite
        self._client_type = choice.client_type
        self.session_id = self.host.new_session_id(self)
        self.established_s = self.host.wall_s(now)
        wants_ticket = hello.extensions.session_ticket is not None and side.parameters.tickets
        # RFC 5077 3.4: whoever is to get a ticket gets no session id.
        self.tls_session_id = b"" if wants_ticket else self.session_id + self.host.base.entropy.take(8)
        flight = [self._hello(choice.reply)]
        if suite.exchange == "psk":
            flight.append(self._message(HandshakeType.SERVER_HELLO_DONE, b""))
            self._send_flight(flight, now)
            return State.KEY_EXCHANGE
        if not self.host.base.admission.public_key(self.address, now):
            # Left without a word, the client repeats its ClientHello after a while: the load spreads by itself.
            raise HandshakeFault("rate", "too many handshakes with public keys at once; it may try again", None)
        identity = side.parameters.identity
        assert identity is not None
        self._ephemeral = ephemeral = Ephemeral(self.host.base.entropy)
        signed = self.client_random + self.server_random + encode_ecdhe_params(ephemeral.group, ephemeral.point)
        exchange = ServerKeyExchangeEcdhe(
            ephemeral.group, ephemeral.point, ECDSA_SHA256, sign(identity.key, ECDSA_SHA256, signed)
        )
        certificate = side.raw_key if choice.server_type == RAW_PUBLIC_KEY_TYPE else side.chain
        request = CertificateRequest(signature_schemes=SCHEMES)
        flight += (
            self._message(HandshakeType.CERTIFICATE, certificate),
            self._message(HandshakeType.SERVER_KEY_EXCHANGE, encode_server_key_exchange_ecdhe(exchange)),
            self._message(HandshakeType.CERTIFICATE_REQUEST, encode_certificate_request(request)),
            self._message(HandshakeType.SERVER_HELLO_DONE, b""),
        )
        self._send_flight(flight, now)
        return State.CERTIFICATE

    def _begin_resumed(self, now: float) -> None:
        secrets = self._secrets
        assert secrets is not None
        self.asked_until = None
        self.suite = SUITES[secrets.suite]
        self.session_id = self.host.new_session_id(self)
        self.resumed = secrets.session_id
        self.tls_session_id = self.hello.session_id
        self.established_s = secrets.established_s
        flight = [self._hello(Extensions())]
        if self.hello.extensions.session_ticket:
            # The client invented the id in its ClientHello, for this one answer.
            self.tls_session_id = b""
        self._use_master(secrets.master_secret)
        self._send_flight([*flight, *self._ticket(), *self._finished(now)], now)
        self.state = State.CHANGE

    def _hello(self, reply: Extensions) -> Outgoing:
        """Our ServerHello; from here on it is settled how the session will be."""
        hello, parameters, suite = self.hello, self._side.parameters, self.suite
        assert suite is not None
        offered = hello.extensions
        if EMPTY_RENEGOTIATION_INFO in hello.suites or offered.renegotiation_info is not None:
            reply.renegotiation_info = b""
        self.extended_master_secret = reply.extended_master_secret = offered.extended_master_secret
        self.encrypt_then_mac = reply.encrypt_then_mac = offered.encrypt_then_mac and suite.cipher == "cbc"
        if offered.connection_id is not None and parameters.cids:
            self.own_cid, self.peer_cid = self.session_id, offered.connection_id
            self.cid_code_point = reply.connection_id_code_point = offered.connection_id_code_point
            reply.connection_id = self.own_cid
        limit = parameters.record_size
        # RFC 8449 5: with a record_size_limit, max_fragment_length means nothing.
        if offered.record_size_limit is not None:
            reply.record_size_limit = MAX_PLAINTEXT
            # In a record with connection ID the type is inside.
            limit = min(limit, offered.record_size_limit - (1 if self.peer_cid else 0))
        elif offered.max_fragment_length is not None:
            reply.max_fragment_length = offered.max_fragment_length
            limit = min(limit, MAX_FRAGMENT_LENGTHS[offered.max_fragment_length])
        if limit < parameters.record_size:
            self.timing = self.timing.limited(limit)
        self.send_limit = limit
        if offered.session_ticket is not None and parameters.tickets:
            reply.session_ticket = b""
        self.server_random = self.host.base.entropy.take(32)
        body = encode_server_hello(
            ServerHello(DTLS_1_2, self.server_random, self.tls_session_id, suite.number, 0, reply)
        )
        return self._message(HandshakeType.SERVER_HELLO, body)

    def _ticket(self) -> list[Outgoing]:
        if self.hello.extensions.session_ticket is None or not self._side.parameters.tickets:
            return []
        # What does not fit a ClientHello in one datagram is resumed by nobody: then it is empty (RFC 5077 3.3).
        ticket = self.host.resumer.issue(self.secrets()) or b""
        lifetime_s = int(self._side.parameters.session_lifetime_s) if ticket else 0
        body = encode_new_session_ticket(NewSessionTicket(lifetime_s, ticket))
        return [self._message(HandshakeType.NEW_SESSION_TICKET, body)]
