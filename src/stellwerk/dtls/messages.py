"""Handshake messages: bodies to values and back (RFC 5246 §7.4, RFC 6347 §4.3.2, RFC 8422 §5, RFC 4279 §2, RFC 7250 §3,
RFC 5077 §3.3). `fragments` carry them.

A body is a message without its header of 12 bytes. Every ``decode`` takes any bytes and raises `HandshakeFormatError`
or nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import unpack
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from stellwerk.core.cursor import Truncated
from stellwerk.core.errors import PeerError
from stellwerk.dtls.extensions import RFC_9146_CODE_POINT, Extensions, decode_extensions, encode_extensions
from stellwerk.dtls.vectors import Reader, VectorError, numbers, vector

P = ParamSpec("P")
T = TypeVar("T")


class HandshakeType(IntEnum):
    """The messages of a handshake."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20


RANDOM_BYTES: Final = 32
MAX_PSK_IDENTITY: Final = 128
"""Octets of a PSK identity that we take (RFC 4279 §5.3); longer ones are malformed."""
MAX_CHAIN: Final = 10
"""Certificates in one chain."""
ECDSA_SIGN: Final = 64
"""The client certificate type of ECDSA keys (RFC 8422 §5.5)."""

_HELLO_SESSION_ID: Final = 2 + RANDOM_BYTES
"""Where the length of the session id stands in a ClientHello."""
_NAMED_CURVE: Final = 3


class HandshakeFormatError(PeerError):
    """A handshake ``message`` (its name) is malformed; ``rule`` names what is broken."""

    def __init__(self, message: str, rule: str) -> None:
        self.message, self.rule = message, rule
        super().__init__(f"{message}: {rule}")


@dataclass(slots=True)
class ClientHello:
    """``session_id`` 0 to 32 bytes, ``cookie`` 0 to 255."""

    version: int
    random: bytes
    session_id: bytes
    cookie: bytes
    suites: tuple[int, ...]
    compression: bytes = b"\0"
    extensions: Extensions = field(default_factory=Extensions)


@dataclass(slots=True)
class ServerHello:
    """What the server chose."""

    version: int
    random: bytes
    session_id: bytes
    suite: int
    compression: int = 0
    extensions: Extensions = field(default_factory=Extensions)


@dataclass(slots=True)
class HelloVerifyRequest:
    """Asks for the same ClientHello again, with ``cookie`` (RFC 6347 §4.2.1)."""

    version: int
    cookie: bytes


@dataclass(slots=True)
class Certificate:
    """DER certificates, the sender's own first; empty: it has none."""

    chain: tuple[bytes, ...]


@dataclass(slots=True)
class CertificateRequest:
    """``authorities``: DER names, empty for any."""

    types: tuple[int, ...] = (ECDSA_SIGN,)
    signature_schemes: tuple[int, ...] = ()
    authorities: tuple[bytes, ...] = ()


@dataclass(slots=True)
class ServerKeyExchangeEcdhe:
    """An ephemeral public ``point`` on ``group``, signed."""

    group: int
    point: bytes
    scheme: int
    signature: bytes

    @property
    def signed_params(self) -> bytes:
        """What is signed behind both randoms (RFC 8422 §5.4)."""
        return encode_ecdhe_params(self.group, self.point)


@dataclass(slots=True)
class ServerKeyExchangePsk:
    """The identity hint, at most 2^16 - 1 bytes."""

    hint: bytes


@dataclass(slots=True)
class ClientKeyExchangeEcdhe:
    """The client's ephemeral public point."""

    point: bytes


@dataclass(slots=True)
class ClientKeyExchangePsk:
    """Which pre-shared key: 0 to 128 octets. Empty is well-formed, but names nobody."""

    identity: bytes


@dataclass(slots=True)
class CertificateVerify:
    """A signature over all handshake messages before it."""

    scheme: int
    signature: bytes


@dataclass(slots=True)
class NewSessionTicket:
    """``lifetime_s``: a hint, 0 for none; ``ticket`` empty: none after all."""

    lifetime_s: int
    ticket: bytes = field(repr=False)


@dataclass(slots=True)
class Finished:
    """12 bytes (RFC 5246 §7.4.9)."""

    verify_data: bytes


@dataclass(slots=True)
class ServerHelloDone:
    """Nothing more from the server for now."""


def _decoder(
    message: str,
) -> Callable[[Callable[Concatenate[Reader, P], T]], Callable[Concatenate[bytes, P], T]]:
    """Makes a function over a reader one over a body, which has to end where it ends."""

    def decorate(read: Callable[Concatenate[Reader, P], T]) -> Callable[Concatenate[bytes, P], T]:
        def decode(body: bytes, /, *args: P.args, **kwargs: P.kwargs) -> T:
            reader = Reader(body)
            try:
                result = read(reader, *args, **kwargs)
                reader.finish()
            except VectorError as error:
                raise HandshakeFormatError(message, error.rule) from None
            except Truncated:
                raise HandshakeFormatError(message, "ends too early") from None
            return result

        decode.__doc__ = read.__doc__
        return decode

    return decorate


class HelloOutline(NamedTuple):
    """Where the variable parts of a ClientHello's body end: session id, cookie, suites, compression methods."""

    session_id: int
    cookie: int
    suites: int
    compression: int


def outline_client_hello(body: bytes) -> HelloOutline:
    """Looks at four lengths and nothing else: whoever floods us with ClientHellos gets no more of our time. Raises
    `HandshakeFormatError`."""
    try:
        session_id = _HELLO_SESSION_ID + 1 + body[_HELLO_SESSION_ID]
        cookie = session_id + 1 + body[session_id]
        suites = cookie + 2 + (body[cookie] << 8 | body[cookie + 1])
        compression = suites + 1 + body[suites]
    except IndexError:
        raise HandshakeFormatError("ClientHello", "ends too early") from None
    if compression > len(body):
        raise HandshakeFormatError("ClientHello", "ends too early")
    return HelloOutline(session_id, cookie, suites, compression)


def decode_client_hello(body: bytes, cid_code_points: Sequence[int] = (RFC_9146_CODE_POINT,)) -> ClientHello:
    """``cid_code_points``: see `extensions.decode_extensions`."""
    ends = outline_client_hello(body)
    suites = body[ends.cookie + 2 : ends.suites]
    compression = body[ends.suites + 1 : ends.compression]
    rule = ""
    if ends.session_id > _HELLO_SESSION_ID + 1 + 32:
        rule = f"a session id of {body[_HELLO_SESSION_ID]} bytes"
    elif not suites or len(suites) % 2:
        rule = f"cipher suites of {len(suites)} bytes"
    elif not compression:
        rule = "no compression methods"
    if rule:
        raise HandshakeFormatError("ClientHello", rule)
    try:
        extensions = _extensions(body[ends.compression :], False, cid_code_points)
    except VectorError as error:
        raise HandshakeFormatError("ClientHello", error.rule) from None
    except Truncated:
        raise HandshakeFormatError("ClientHello", "ends too early") from None
    return ClientHello(
        body[0] << 8 | body[1],
        body[2:_HELLO_SESSION_ID],
        body[_HELLO_SESSION_ID + 1 : ends.session_id],
        body[ends.session_id + 1 : ends.cookie],
        unpack(f"!{len(suites) // 2}H", suites),
        compression,
        extensions,
    )


def encode_client_hello(hello: ClientHello) -> bytes:
    """The body. Without any extension their length is left out too."""
    return b"".join(
        (
            hello.version.to_bytes(2, "big"),
            hello.random,
            vector(1, hello.session_id),
            vector(1, hello.cookie),
            numbers(2, hello.suites),
            vector(1, hello.compression),
            _extension_block(hello.extensions, False),
        )
    )


@_decoder("ServerHello")
def decode_server_hello(reader: Reader, cid_code_points: Sequence[int] = (RFC_9146_CODE_POINT,)) -> ServerHello:
    """``cid_code_points``: see `extensions.decode_extensions`."""
    return ServerHello(
        reader.uint(2),
        reader.take(RANDOM_BYTES),
        reader.vector(1, "a session id", 0, 32),
        reader.uint(2),
        reader.uint(1),
        _extensions(reader.take(reader.left), True, cid_code_points),
    )


def encode_server_hello(hello: ServerHello) -> bytes:
    """The body. Without any extension their length is left out too."""
    return b"".join(
        (
            hello.version.to_bytes(2, "big"),
            hello.random,
            vector(1, hello.session_id),
            hello.suite.to_bytes(2, "big"),
            hello.compression.to_bytes(1, "big"),
            _extension_block(hello.extensions, True),
        )
    )


@_decoder("HelloVerifyRequest")
def decode_hello_verify_request(reader: Reader) -> HelloVerifyRequest:
    """RFC 6347 §4.3.2."""
    return HelloVerifyRequest(reader.uint(2), reader.vector(1, "a cookie", 0, 255))


def encode_hello_verify_request(request: HelloVerifyRequest) -> bytes:
    """The body."""
    return request.version.to_bytes(2, "big") + vector(1, request.cookie)


@_decoder("Certificate")
def decode_certificate(reader: Reader) -> Certificate:
    """A chain of X.509 certificates. What is in them is `certificates`' job."""
    items = Reader(reader.vector(3, "a certificate list"))
    chain: list[bytes] = []
    while items.left:
        chain.append(items.vector(3, "a certificate", 1))
        if len(chain) > MAX_CHAIN:
            raise VectorError(f"more than {MAX_CHAIN} certificates")
    return Certificate(tuple(chain))


def encode_certificate(certificate: Certificate) -> bytes:
    """The body."""
    return vector(3, b"".join(vector(3, item) for item in certificate.chain))


@_decoder("Certificate")
def decode_raw_key(reader: Reader) -> bytes:
    """The one SubjectPublicKeyInfo of a Certificate message of raw public keys (RFC 7250 §3); empty: it has none."""
    return reader.vector(3, "a raw public key")


def encode_raw_key(spki: bytes) -> bytes:
    """The body of a Certificate message with a raw public key."""
    return vector(3, spki)


@_decoder("CertificateRequest")
def decode_certificate_request(reader: Reader) -> CertificateRequest:
    """RFC 5246 §7.4.4."""
    types = tuple(reader.vector(1, "certificate types", 1, 255))
    schemes = reader.numbers(2, "signature algorithms")
    names = Reader(reader.vector(2, "certificate authorities"))
    authorities: list[bytes] = []
    while names.left:
        authorities.append(names.vector(2, "a certificate authority", 1))
    return CertificateRequest(types, schemes, tuple(authorities))


def encode_certificate_request(request: CertificateRequest) -> bytes:
    """The body."""
    return b"".join(
        (
            vector(1, bytes(request.types)),
            numbers(2, request.signature_schemes),
            vector(2, b"".join(vector(2, name) for name in request.authorities)),
        )
    )


@_decoder("ServerKeyExchange")
def decode_server_key_exchange_ecdhe(reader: Reader) -> ServerKeyExchangeEcdhe:
    """RFC 8422 §5.4; named curves alone."""
    if reader.uint(1) != _NAMED_CURVE:
        raise VectorError("a curve without name")
    return ServerKeyExchangeEcdhe(
        reader.uint(2), reader.vector(1, "a point", 1, 255), reader.uint(2), reader.vector(2, "a signature")
    )


def encode_server_key_exchange_ecdhe(exchange: ServerKeyExchangeEcdhe) -> bytes:
    """The body."""
    return exchange.signed_params + exchange.scheme.to_bytes(2, "big") + vector(2, exchange.signature)


def encode_ecdhe_params(group: int, point: bytes) -> bytes:
    """The ServerECDHParams that are signed behind both randoms (RFC 8422 §5.4)."""
    return bytes((_NAMED_CURVE,)) + group.to_bytes(2, "big") + vector(1, point)


@_decoder("ServerKeyExchange")
def decode_server_key_exchange_psk(reader: Reader) -> ServerKeyExchangePsk:
    """RFC 4279 §2."""
    return ServerKeyExchangePsk(reader.vector(2, "a PSK identity hint"))


def encode_server_key_exchange_psk(exchange: ServerKeyExchangePsk) -> bytes:
    """The body."""
    return vector(2, exchange.hint)


@_decoder("ClientKeyExchange")
def decode_client_key_exchange_ecdhe(reader: Reader) -> ClientKeyExchangeEcdhe:
    """RFC 8422 §5.7."""
    return ClientKeyExchangeEcdhe(reader.vector(1, "a point", 1, 255))


def encode_client_key_exchange_ecdhe(exchange: ClientKeyExchangeEcdhe) -> bytes:
    """The body."""
    return vector(1, exchange.point)


def decode_client_key_exchange_psk(body: bytes) -> ClientKeyExchangePsk:
    """RFC 4279 §2."""
    identity = body[2:]
    if len(body) < 2 or body[0] << 8 | body[1] != len(identity):
        raise HandshakeFormatError("ClientKeyExchange", "a PSK identity with a wrong length")
    if len(identity) > MAX_PSK_IDENTITY:
        raise HandshakeFormatError("ClientKeyExchange", f"a PSK identity of {len(identity)} bytes")
    return ClientKeyExchangePsk(identity)


def encode_client_key_exchange_psk(exchange: ClientKeyExchangePsk) -> bytes:
    """The body."""
    return vector(2, exchange.identity)


@_decoder("CertificateVerify")
def decode_certificate_verify(reader: Reader) -> CertificateVerify:
    """RFC 5246 §7.4.8."""
    return CertificateVerify(reader.uint(2), reader.vector(2, "a signature"))


def encode_certificate_verify(verify: CertificateVerify) -> bytes:
    """The body."""
    return verify.scheme.to_bytes(2, "big") + vector(2, verify.signature)


@_decoder("NewSessionTicket")
def decode_new_session_ticket(reader: Reader) -> NewSessionTicket:
    """RFC 5077 §3.3."""
    return NewSessionTicket(reader.uint(4), reader.vector(2, "a ticket"))


def encode_new_session_ticket(message: NewSessionTicket) -> bytes:
    """The body."""
    return message.lifetime_s.to_bytes(4, "big") + vector(2, message.ticket)


@_decoder("Finished")
def decode_finished(reader: Reader) -> Finished:
    """RFC 5246 §7.4.9."""
    return Finished(reader.take(12))


def encode_finished(finished: Finished) -> bytes:
    """The body."""
    return finished.verify_data


@_decoder("ServerHelloDone")
def decode_server_hello_done(reader: Reader) -> ServerHelloDone:
    """RFC 5246 §7.4.5: empty."""
    return ServerHelloDone()


def encode_server_hello_done(message: ServerHelloDone) -> bytes:
    """The body: empty."""
    return b""


def _extensions(rest: bytes, server: bool, cid_code_points: Sequence[int]) -> Extensions:
    """``rest``: what ends a hello."""
    # RFC 5246 7.4.1.2: one of before extensions has nothing there.
    if not rest:
        return Extensions()
    if len(rest) < 2 or rest[0] << 8 | rest[1] != len(rest) - 2:
        raise VectorError("extensions with a wrong length")
    return decode_extensions(rest[2:], server=server, cid_code_points=cid_code_points)


def _extension_block(extensions: Extensions, server: bool) -> bytes:
    block = encode_extensions(extensions, server=server)
    return vector(2, block) if block else b""
