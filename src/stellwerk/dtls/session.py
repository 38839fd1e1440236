"""What stays of a session, as bytes: its secrets, from which another session may go on, and its state, with which it
goes on itself after a restart. All of it is secret; whoever stores it encrypts it.

Compact, and versioned by the first byte: a later version reads the earlier ones.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from stellwerk.core.cursor import Truncated
from stellwerk.core.errors import PeerError
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.core.ids import PeerId, decode_peer, encode_peer
from stellwerk.dtls.extensions import RFC_9146_CODE_POINT
from stellwerk.dtls.prf import MASTER_SECRET_BYTES, KeyBlock
from stellwerk.dtls.suites import SUITES, Suite
from stellwerk.dtls.vectors import Reader, VectorError, vector

SESSION_ID_BYTES: Final = 8

_VERSION: Final = 1
_SECRETS: Final = Struct("!BHB")
_LIVE: Final = Struct("!BHHQQHHH")
_EXTENDED_MASTER_SECRET: Final = 1
_ENCRYPT_THEN_MAC: Final = 2
_CLIENT: Final = 1
_PSK, _RAW_KEY, _CERTIFICATE = 0, 1, 2
_MAX_NAMES: Final = 64
_MAX_CHAIN: Final = 10


class SessionFormatError(PeerError):
    """Bytes are no session. ``rule`` names what is broken."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(rule)


@dataclass(slots=True)
class SessionSecrets:
    """What a resumption needs: inside tickets, and inside every `SessionState`."""

    session_id: bytes
    """Ours: 8 bytes."""
    tls_session_id: bytes
    """That of its ServerHello, up to 32 bytes."""
    suite: int
    master_secret: bytes = field(repr=False)
    extended_master_secret: bool
    encrypt_then_mac: bool
    identity: SecureIdentity
    """Of the peer."""
    device: int
    established_s: int
    """When the full handshake was, in seconds of whatever clock the caller has."""


@dataclass(slots=True)
class SessionState:
    """A live session."""

    secrets: SessionSecrets
    is_client: bool
    keys: KeyBlock = field(repr=False)
    read_epoch: int
    write_epoch: int
    ceiling: int
    """(epoch << 48 | number) below which alone records may be sent."""
    read_highest: int
    """(epoch << 48 | number) of the newest record read; -1: none."""
    own_cid: bytes
    """What the peer puts into records to us; empty: nothing."""
    peer_cid: bytes
    """What we put into records to the peer; empty: nothing."""
    address: PeerId
    cid_code_point: int = RFC_9146_CODE_POINT
    send_limit: int = 1 << 14
    """Plaintext bytes of a record to the peer at most."""
    receive_limit: int = 1 << 14


def encode_secrets(secrets: SessionSecrets) -> bytes:
    """The bytes of ``secrets``."""
    return bytes((_VERSION,)) + _encode_secrets(secrets)


def decode_secrets(data: bytes) -> SessionSecrets:
    """The inverse of `encode_secrets`. Raises `SessionFormatError`."""
    try:
        reader = _reader(data)
        secrets, _ = _read_secrets(reader)
        reader.finish()
    except VectorError as error:
        raise SessionFormatError(error.rule) from None
    except Truncated:
        raise SessionFormatError("ends too early") from None
    return secrets


def encode_session(state: SessionState, secrets: bytes = b"") -> bytes:
    """The bytes of ``state``; they begin with those of its secrets. ``secrets``: these, where they are at hand."""
    keys = state.keys
    return b"".join(
        (
            secrets or encode_secrets(state.secrets),
            _LIVE.pack(
                _CLIENT if state.is_client else 0,
                state.read_epoch,
                state.write_epoch,
                state.ceiling,
                state.read_highest + 1,
                state.cid_code_point,
                state.send_limit,
                state.receive_limit,
            ),
            vector(1, state.own_cid),
            vector(1, state.peer_cid),
            vector(2, encode_peer(state.address).encode()),
            keys.client_write_mac_key,
            keys.server_write_mac_key,
            keys.client_write_key,
            keys.server_write_key,
            keys.client_write_iv,
            keys.server_write_iv,
        )
    )


def decode_session(data: bytes) -> SessionState:
    """The inverse of `encode_session`. Raises `SessionFormatError`."""
    try:
        reader = _reader(data)
        secrets, suite = _read_secrets(reader)
        role, read_epoch, write_epoch, ceiling, read_highest, code_point, send_limit, receive_limit = _LIVE.unpack(
            reader.take(_LIVE.size)
        )
        if role > _CLIENT:
            raise VectorError("a role that cannot be")
        own_cid = reader.vector(1, "a connection ID", 0, 255)
        peer_cid = reader.vector(1, "a connection ID", 0, 255)
        address = _read_address(reader)
        mac, key, iv = suite.mac_key_length, suite.key_length, suite.fixed_iv_length
        take = reader.take
        keys = KeyBlock(take(mac), take(mac), take(key), take(key), take(iv), take(iv))
        reader.finish()
    except VectorError as error:
        raise SessionFormatError(error.rule) from None
    except Truncated:
        raise SessionFormatError("ends too early") from None
    return SessionState(
        secrets,
        bool(role & _CLIENT),
        keys,
        read_epoch,
        write_epoch,
        ceiling,
        read_highest - 1,
        own_cid,
        peer_cid,
        address,
        code_point,
        send_limit,
        receive_limit,
    )


def decode_identity(data: bytes) -> SecureIdentity:
    """The peer's, out of what `encode_session` or `encode_secrets` made. Raises as `decode_session`."""
    try:
        secrets, _ = _read_secrets(_reader(data))
    except VectorError as error:
        raise SessionFormatError(error.rule) from None
    except Truncated:
        raise SessionFormatError("ends too early") from None
    return secrets.identity


def _reader(data: bytes) -> Reader:
    reader = Reader(data)
    version = reader.uint(1)
    if version != _VERSION:
        raise VectorError(f"version {version} of its form, which is not known here")
    return reader


def _encode_secrets(secrets: SessionSecrets) -> bytes:
    flags = (_EXTENDED_MASTER_SECRET if secrets.extended_master_secret else 0) | (
        _ENCRYPT_THEN_MAC if secrets.encrypt_then_mac else 0
    )
    return b"".join(
        (
            _SECRETS.pack(flags, secrets.suite, len(secrets.tls_session_id)),
            secrets.tls_session_id,
            secrets.session_id,
            secrets.master_secret,
            secrets.device.to_bytes(8, "big"),
            secrets.established_s.to_bytes(8, "big"),
            _encode_identity(secrets.identity),
        )
    )


def _read_secrets(reader: Reader) -> tuple[SessionSecrets, Suite]:
    flags, number, length = _SECRETS.unpack(reader.take(_SECRETS.size))
    suite = SUITES.get(number)
    if suite is None or flags > _EXTENDED_MASTER_SECRET | _ENCRYPT_THEN_MAC or length > 32:
        raise VectorError("a suite, a flag or a session id that cannot be")
    tls_session_id = reader.take(length)
    session_id = reader.take(SESSION_ID_BYTES)
    master_secret = reader.take(MASTER_SECRET_BYTES)
    device = reader.uint(8)
    established_s = reader.uint(8)
    secrets = SessionSecrets(
        session_id,
        tls_session_id,
        number,
        master_secret,
        bool(flags & _EXTENDED_MASTER_SECRET),
        bool(flags & _ENCRYPT_THEN_MAC),
        _read_identity(reader),
        device,
        established_s,
    )
    return secrets, suite


def _encode_identity(identity: SecureIdentity) -> bytes:
    # Nearly all of them.
    if isinstance(identity, PskIdentity):
        return bytes((_PSK, len(identity.identity))) + identity.identity
    match identity:
        case RawKeyIdentity(spki):
            return bytes((_RAW_KEY,)) + vector(2, spki)
        case CertificateIdentity(chain, common_name, names):
            certificates = b"".join(vector(3, certificate) for certificate in chain)
            texts = b"".join(vector(2, name.encode()) for name in names)
            return b"".join(
                (bytes((_CERTIFICATE,)), vector(3, certificates), vector(2, common_name.encode()), vector(3, texts))
            )


def _read_identity(reader: Reader) -> SecureIdentity:
    kind = reader.uint(1)
    if kind == _PSK:
        return PskIdentity(reader.vector(1, "a PSK identity", 0, 255))
    if kind == _RAW_KEY:
        return RawKeyIdentity(reader.vector(2, "a raw public key", 1))
    if kind != _CERTIFICATE:
        raise VectorError(f"an identity of kind {kind}")
    certificates = Reader(reader.vector(3, "a chain", 1))
    chain: list[bytes] = []
    while certificates.left and len(chain) < _MAX_CHAIN:
        chain.append(certificates.vector(3, "a certificate", 1))
    certificates.finish()
    common_name = _text(reader.vector(2, "a common name"))
    texts = Reader(reader.vector(3, "names"))
    names: list[str] = []
    while texts.left and len(names) < _MAX_NAMES:
        names.append(_text(texts.vector(2, "a name")))
    texts.finish()
    return CertificateIdentity(tuple(chain), common_name, tuple(names))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise VectorError("a text that is no UTF-8") from None


def _read_address(reader: Reader) -> PeerId:
    try:
        return decode_peer(reader.vector(2, "an address").decode())
    except ValueError:
        raise VectorError("an address that is none") from None
