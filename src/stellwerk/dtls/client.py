"""The client's side of a handshake (RFC 5246 §7.3, RFC 6347 §4.2); `server` has the pictures.

The simulator's devices are its users, so it can be what devices are: without extended master secret, with wrong keys,
with pre-RFC connection IDs. It is as strict as a server about what comes when.
"""

from dataclasses import replace
from enum import Enum
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.certificates import CertificateRefused, read_certificate, read_raw_key
from stellwerk.dtls.ecdhe import Ephemeral, KeyExchangeError
from stellwerk.dtls.events import CertificateQuestion
from stellwerk.dtls.extensions import RAW_PUBLIC_KEY_TYPE, SECP256R1, UNCOMPRESSED, X509_TYPE, Extensions
from stellwerk.dtls.handshake import Handshake
from stellwerk.dtls.machine import HandshakeFault, Host, Phase, Step, Timing
from stellwerk.dtls.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    ClientKeyExchangeEcdhe,
    ClientKeyExchangePsk,
    HandshakeFormatError,
    HandshakeType,
    ServerHello,
    decode_certificate,
    decode_certificate_request,
    decode_hello_verify_request,
    decode_new_session_ticket,
    decode_raw_key,
    decode_server_hello,
    decode_server_hello_done,
    decode_server_key_exchange_ecdhe,
    decode_server_key_exchange_psk,
    encode_certificate,
    encode_certificate_verify,
    encode_client_hello,
    encode_client_key_exchange_ecdhe,
    encode_client_key_exchange_psk,
    encode_raw_key,
)
from stellwerk.dtls.negotiation import LEAST_RECORD_SIZE, MAX_FRAGMENT_LENGTHS
from stellwerk.dtls.parameters import ClientParameters
from stellwerk.dtls.prf import psk_premaster
from stellwerk.dtls.records import DTLS_1_2, MAX_PLAINTEXT
from stellwerk.dtls.resumption import decode_client_session
from stellwerk.dtls.session import SessionSecrets
from stellwerk.dtls.signatures import ECDSA_SHA256, SCHEMES, sign, verify
from stellwerk.dtls.suites import EMPTY_RENEGOTIATION_INFO, SUITES

_COOKIES: Final = 4
"""HelloVerifyRequests that are followed in one handshake."""


class State(Enum):
    """What the client waits for; the text goes into failures."""

    HELLO = "a ServerHello was awaited"
    CERTIFICATE = "the server's Certificate was awaited"
    KEY_EXCHANGE = "the server's ServerKeyExchange was awaited"
    HINT = "a ServerKeyExchange or ServerHelloDone was awaited"
    REQUEST = "a CertificateRequest or ServerHelloDone was awaited"
    DONE = "a ServerHelloDone was awaited"
    TICKET = "a NewSessionTicket was awaited"
    CHANGE = "the server's ChangeCipherSpec was awaited"
    FINISHED = "the server's Finished was awaited"


class ClientHandshake(Handshake):
    """One handshake of ours with a server. `begin` it."""

    __slots__ = (
        "_after",
        "_certificate_type",
        "_cookies",
        "_ephemeral",
        "_hello",
        "_parameters",
        "_peer_key",
        "_peer_point",
        "_requested",
        "_secrets",
        "_server_type",
        "ticket",
    )

    IS_SERVER = False
    AWAIT_CHANGE = State.CHANGE
    AWAIT_FINISHED = State.FINISHED

    def __init__(
        self,
        host: Host,
        address: PeerId,
        parameters: ClientParameters,
        resume: bytes | None,
        session_id: bytes,
        now: float,
    ) -> None:
        p = parameters
        size = MAX_FRAGMENT_LENGTHS.get(p.max_fragment_length, MAX_PLAINTEXT)
        timing = Timing(p.first_timeout_s, p.longest_timeout_s, p.repetitions, p.mtu, size)
        super().__init__(host, address, timing, 0, now)
        self.session_id = session_id
        self._parameters = parameters
        self._cookies = 0
        self._ephemeral: Ephemeral | None = None
        self._peer_key: EllipticCurvePublicKey | None = None
        self._peer_point = b""
        self._requested = False
        self._after: Enum = State.CHANGE
        """What is awaited when keys are settled."""
        self._certificate_type = self._server_type = X509_TYPE
        self.ticket = b""
        """What the server gave for the next time."""
        self._secrets: SessionSecrets | None = None
        offered_ticket = b""
        if resume is not None:
            offered_ticket, self._secrets = decode_client_session(resume)
        self._hello = self._build_hello(offered_ticket)
        self.client_random = self._hello.random
        self.state = State.HELLO

    def begin(self, now: float) -> None:
        """Send the first ClientHello."""
        self._send_hello(now)

    def _build_hello(self, ticket: bytes) -> ClientHello:
        p = self._parameters
        suites = p.suites or tuple(
            suite.number
            for suite in SUITES.values()
            if suite.cipher != "cbc" and (p.psk_identity if suite.exchange == "psk" else p.key)
        )
        extensions = Extensions(
            extended_master_secret=p.extended_master_secret,
            encrypt_then_mac=p.encrypt_then_mac and any(SUITES[n].cipher == "cbc" for n in suites if n in SUITES),
            session_ticket=ticket if p.tickets or ticket else None,
            connection_id=p.cid,
            connection_id_code_point=p.cid_code_point,
            record_size_limit=p.record_size_limit or None,
            max_fragment_length=p.max_fragment_length or None,
            server_name=p.server_name.encode() or None,
        )
        if p.key is not None:
            extensions.supported_groups = (SECP256R1,)
            extensions.point_formats = (UNCOMPRESSED,)
            extensions.signature_algorithms = SCHEMES
            if p.raw_keys:
                extensions.client_certificate_types = (RAW_PUBLIC_KEY_TYPE,)
                extensions.server_certificate_types = (RAW_PUBLIC_KEY_TYPE,)
        session_id = b""
        if ticket:
            # RFC 5077 3.4: the server shows by the same id that it took the ticket.
            session_id = self.host.base.entropy.take(32)
        elif self._secrets is not None:
            session_id = self._secrets.tls_session_id
        random = self.host.base.entropy.take(32)
        return ClientHello(DTLS_1_2, random, session_id, b"", (*suites, EMPTY_RENEGOTIATION_INFO), b"\0", extensions)

    def _send_hello(self, now: float) -> None:
        # RFC 6347 4.2.1: the ClientHello without cookie and what asked for one are in no hash.
        self.transcript.clear()
        self._send_flight([self._message(HandshakeType.CLIENT_HELLO, encode_client_hello(self._hello))], now)

    @property
    def own_cid_length(self) -> int:
        """Of the connection ID that records to it may carry."""
        return len(self._parameters.cid or b"")

    # --- steps ---------------------------------------------------------------------------------------------------

    def _take_verify_request(self, body: bytes, now: float) -> Enum:
        cookie = decode_hello_verify_request(body).cookie
        self._cookies += 1
        if self._cookies > _COOKIES:
            raise HandshakeFault(
                "unexpected-message", "the server takes none of its own cookies", AlertDescription.UNEXPECTED_MESSAGE
            )
        self._hello = replace(self._hello, cookie=cookie)
        self._send_hello(now)
        return State.HELLO

    def _take_hello(self, body: bytes, now: float) -> Enum:
        reply = decode_server_hello(body, (self._parameters.cid_code_point,))
        self._check_hello(reply)
        offered, answered = self._hello.extensions, reply.extensions
        self.suite = SUITES[reply.suite]
        self.server_random = reply.random
        self.tls_session_id = reply.session_id
        self.extended_master_secret = answered.extended_master_secret
        self.encrypt_then_mac = answered.encrypt_then_mac
        if offered.connection_id is not None and answered.connection_id is not None:
            self.own_cid, self.peer_cid = offered.connection_id, answered.connection_id
            self.cid_code_point = self._parameters.cid_code_point
        if answered.record_size_limit is not None:
            self.send_limit = min(MAX_PLAINTEXT, answered.record_size_limit) - (1 if self.peer_cid else 0)
        elif answered.max_fragment_length is not None:
            self.send_limit = MAX_FRAGMENT_LENGTHS[answered.max_fragment_length]
        self.timing = self.timing.limited(self.send_limit)
        if answered.client_certificate_types is not None:
            self._certificate_type = answered.client_certificate_types[0]
        if answered.server_certificate_types is not None:
            self._server_type = answered.server_certificate_types[0]
        if answered.session_ticket is not None:
            self._after = State.TICKET
        secrets = self._secrets
        if secrets is not None and self._hello.session_id and reply.session_id == self._hello.session_id:
            return self._resume(secrets, reply)
        self.established_s = 0
        if self.suite.exchange == "psk":
            self.identity = PskIdentity(self._parameters.psk_identity)
            return State.HINT
        return State.CERTIFICATE

    def _resume(self, secrets: SessionSecrets, reply: ServerHello) -> Enum:
        if reply.suite != secrets.suite or self.extended_master_secret is not secrets.extended_master_secret:
            raise HandshakeFault(
                "bad-message",
                "the server resumes a session with another suite or master secret",
                AlertDescription.ILLEGAL_PARAMETER,
            )
        self.resumed = secrets.session_id
        self.identity = secrets.identity
        self.device = secrets.device
        self.established_s = secrets.established_s
        if self._hello.extensions.session_ticket:
            self.tls_session_id = b""
            self.ticket = self._hello.extensions.session_ticket
        self._use_master(secrets.master_secret)
        return self._after

    def _take_certificate(self, body: bytes, now: float) -> Enum:
        try:
            if self._server_type == RAW_PUBLIC_KEY_TYPE:
                spki = decode_raw_key(body)
                self._peer_key = read_raw_key(spki)
                self.identity = RawKeyIdentity(spki)
            else:
                chain = decode_certificate(body).chain
                if not chain:
                    raise HandshakeFormatError("Certificate", "a server without certificate")
                leaf = read_certificate(chain[0])
                self._peer_key = leaf.key
                self.identity = CertificateIdentity(chain, leaf.common_name, leaf.names)
        except CertificateRefused as refused:
            raise HandshakeFault(refused.reason, refused.detail, AlertDescription.BAD_CERTIFICATE) from None
        return State.KEY_EXCHANGE

    def _take_key_exchange(self, body: bytes, now: float) -> Enum:
        exchange = decode_server_key_exchange_ecdhe(body)
        assert self._peer_key is not None
        assert isinstance(self.identity, RawKeyIdentity | CertificateIdentity)
        if exchange.group != SECP256R1:
            raise HandshakeFault(
                "no-common-group", f"the server uses group {exchange.group}", AlertDescription.ILLEGAL_PARAMETER
            )
        signed = self.client_random + self.server_random + exchange.signed_params
        if not verify(self._peer_key, exchange.scheme, exchange.signature, signed):
            raise HandshakeFault(
                "bad-signature",
                "the server's ServerKeyExchange is not signed with the key of its Certificate",
                AlertDescription.DECRYPT_ERROR,
            )
        self._peer_point = exchange.point
        self.host.base.events.append(CertificateQuestion(self._ask(now), self.address, self.identity))
        return Phase.ASKING

    def _take_hint(self, body: bytes, now: float) -> Enum:
        # There is one identity for one server; a hint changes nothing.
        decode_server_key_exchange_psk(body)
        return State.DONE

    def _take_request(self, body: bytes, now: float) -> Enum:
        decode_certificate_request(body)
        self._requested = True
        return State.DONE

    def _take_done(self, body: bytes, now: float) -> Enum:
        decode_server_hello_done(body)
        assert self.suite is not None
        flight = []
        sign_with = None
        if self._requested:
            certificate, sign_with = self._own_certificate()
            flight.append(self._message(HandshakeType.CERTIFICATE, certificate))
        if self.suite.exchange == "psk":
            exchange = encode_client_key_exchange_psk(ClientKeyExchangePsk(self._parameters.psk_identity))
            premaster = psk_premaster(self._parameters.psk)
        else:
            ephemeral = Ephemeral(self.host.base.entropy)
            exchange = encode_client_key_exchange_ecdhe(ClientKeyExchangeEcdhe(ephemeral.point))
            try:
                premaster = ephemeral.shared(self._peer_point)
            except KeyExchangeError as error:
                raise HandshakeFault("bad-message", str(error), AlertDescription.ILLEGAL_PARAMETER) from None
        flight.append(self._message(HandshakeType.CLIENT_KEY_EXCHANGE, exchange))
        self._derive(premaster)
        if sign_with is not None:
            signature = sign(sign_with, ECDSA_SHA256, bytes(self.transcript))
            verify_message = encode_certificate_verify(CertificateVerify(ECDSA_SHA256, signature))
            flight.append(self._message(HandshakeType.CERTIFICATE_VERIFY, verify_message))
        self._send_flight([*flight, *self._finished(now)], now)
        return self._after

    def _take_ticket(self, body: bytes, now: float) -> Enum:
        ticket = decode_new_session_ticket(body).ticket
        if ticket:
            self.ticket = ticket
        return State.CHANGE

    def _take_finished(self, body: bytes, now: float) -> Enum:
        self._check_finished(body)
        if self.resumed is not None:
            self._send_flight(self._finished(now), now, is_last=True)
        return self._complete(now)

    TABLE: ClassVar[dict[tuple[Enum, int], Step]] = {
        (State.HELLO, HandshakeType.HELLO_VERIFY_REQUEST): _take_verify_request,
        (State.HELLO, HandshakeType.SERVER_HELLO): _take_hello,
        (State.CERTIFICATE, HandshakeType.CERTIFICATE): _take_certificate,
        (State.KEY_EXCHANGE, HandshakeType.SERVER_KEY_EXCHANGE): _take_key_exchange,
        (State.HINT, HandshakeType.SERVER_KEY_EXCHANGE): _take_hint,
        (State.HINT, HandshakeType.SERVER_HELLO_DONE): _take_done,
        (State.REQUEST, HandshakeType.CERTIFICATE_REQUEST): _take_request,
        (State.REQUEST, HandshakeType.SERVER_HELLO_DONE): _take_done,
        (State.DONE, HandshakeType.SERVER_HELLO_DONE): _take_done,
        (State.TICKET, HandshakeType.NEW_SESSION_TICKET): _take_ticket,
        (State.FINISHED, HandshakeType.FINISHED): _take_finished,
    }

    # --- answers -------------------------------------------------------------------------------------------------

    def accept(self, device: int, now: float) -> None:
        """The answer to its `events.CertificateQuestion`."""
        self.device = device
        self._go_on(State.REQUEST, now)

    def refuse(self, reason: str, detail: str, alert: int | None, now: float) -> None:
        """The other answer."""
        self._fail(reason, detail, AlertDescription.DECRYPT_ERROR if alert is None else alert)

    # --- what it says --------------------------------------------------------------------------------------------

    def _own_certificate(self) -> tuple[bytes, EllipticCurvePrivateKey | None]:
        """The body of its Certificate and the key that proves it; an empty one, and None, if it has none that fits."""
        p = self._parameters
        if p.key is None:
            return encode_certificate(Certificate(())), None
        if self._certificate_type == RAW_PUBLIC_KEY_TYPE:
            spki = p.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return encode_raw_key(spki), p.key
        return encode_certificate(Certificate(p.chain)), p.key if p.chain else None

    def _check_hello(self, reply: ServerHello) -> None:
        """Raises `HandshakeFault` for an answer to something that was not said."""
        offered, answered = self._hello.extensions, reply.extensions
        illegal = AlertDescription.ILLEGAL_PARAMETER
        if reply.version != DTLS_1_2:
            detail = f"the server's version is {reply.version:#06x}; DTLS 1.2 is {DTLS_1_2:#06x}"
            raise HandshakeFault("version", detail, AlertDescription.PROTOCOL_VERSION)
        if reply.suite not in self._hello.suites or reply.suite not in SUITES:
            raise HandshakeFault("no-common-suite", "the server took a suite that was not offered", illegal)
        if reply.compression:
            raise HandshakeFault("bad-message", "the server compresses", illegal)
        unasked = [
            name
            for name in (
                "connection_id",
                "session_ticket",
                "record_size_limit",
                "max_fragment_length",
                "client_certificate_types",
                "server_certificate_types",
                "extended_master_secret",
                "encrypt_then_mac",
            )
            if _is_there(getattr(answered, name)) and not _is_there(getattr(offered, name))
        ]
        if unasked or answered.unknown:
            detail = f"the ServerHello has extensions that were not offered: {', '.join(unasked) or 'unknown ones'}"
            raise HandshakeFault("bad-message", detail, AlertDescription.UNSUPPORTED_EXTENSION)
        for mine, theirs in (
            (offered.client_certificate_types, answered.client_certificate_types),
            (offered.server_certificate_types, answered.server_certificate_types),
        ):
            if mine is not None and theirs is not None and theirs[0] not in mine:
                raise HandshakeFault(
                    "no-common-certificate-type", "the server took a type that was not offered", illegal
                )
        if answered.max_fragment_length is not None and answered.max_fragment_length != offered.max_fragment_length:
            raise HandshakeFault("bad-message", "the server answers another max_fragment_length", illegal)
        if answered.record_size_limit is not None and answered.record_size_limit < LEAST_RECORD_SIZE:
            raise HandshakeFault("bad-message", "the server's record_size_limit is below 64", illegal)
        if answered.renegotiation_info:
            raise HandshakeFault("bad-message", "the server renegotiates", AlertDescription.HANDSHAKE_FAILURE)


def _is_there(value: object) -> bool:
    return value is not None and value is not False
