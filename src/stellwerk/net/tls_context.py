"""How OpenSSL, through pyOpenSSL, is set up for CoAP over TLS (RFC 8323 §9.1, RFC 7925; decision 0015).

It proves that the peer holds its key, and nothing else: whom we trust is said elsewhere, by the rules that hold for
DTLS too. Two calls have no public name in pyOpenSSL. Each is looked for, and what hangs on it is left out where it is
not there: pre-shared keys, and the suites with tags of 8 bytes.
"""

from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL

from stellwerk.core.errors import UserError
from stellwerk.dtls.parameters import ClientParameters, ServerIdentity

ALPN: Final = b"coap"
"""RFC 8323 §11.7."""

FindKey = Callable[[bytes], bytes]
"""The key that goes with an identity, empty for none; called in the middle of the handshake."""

_SIGNATURES: Final = b"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512"
"""What peers may sign with: their keys are elliptic (`dtls.certificates`)."""
_ECDHE: Final = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM")
_ECDHE_SHORT: Final = ("ECDHE-ECDSA-AES128-CCM8",)
_ECDHE_CBC: Final = ("ECDHE-ECDSA-AES128-SHA256",)
_PSK: Final = ("PSK-AES128-GCM-SHA256", "PSK-AES128-CCM")
_PSK_SHORT: Final = ("PSK-AES128-CCM8",)
_PSK_CBC: Final = ("PSK-AES128-CBC-SHA256",)
_TLS_1_3: Final = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
)
_TLS_1_3_SHORT: Final = ("TLS_AES_128_CCM_8_SHA256",)
_SECRET: Final = b"SERVER_TRAFFIC_SECRET_0 "


class NoCommonProtocol(Exception):
    """The client names application protocols, and CoAP is none of them."""


class TlsContext:
    """What new connections are made with. ``identity`` None, or without a certificate: pre-shared keys only.

    ``find_key`` is asked for keys, ``keep_secret`` is given the server's first application traffic secret of TLS 1.3;
    both are called while a connection of this context makes its handshake, and by nothing else.
    """

    def __init__(
        self,
        identity: ServerIdentity | None,
        *,
        cbc: bool,
        find_key: FindKey,
        keep_secret: Callable[[bytes], object],
    ) -> None:
        self.has_certificate = identity is not None and bool(identity.chain)
        context = self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        # A session ends with its connection: what was proven is proven anew, and nothing outlives a revocation.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # A pre-shared key of TLS 1.3 is a session to OpenSSL, and has to be of this context.
        context.set_session_id(ALPN)
        context.set_options(
            SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_alpn_select_callback(_select_protocol)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _judged_elsewhere)

        def keep(connection: SSL.Connection, line: bytes) -> None:
            if line.startswith(_SECRET):
                keep_secret(bytes.fromhex(line.rpartition(b" ")[2].decode()))

        context.set_keylog_callback(keep)
        self.has_short_tags = _bar_weak_signatures(context)
        self._callback = _offer_psk(context, find_key)
        """None: this library offers no pre-shared keys."""
        context.set_cipher_list(":".join(self._suites(cbc)).encode())
        context.set_tls13_ciphersuites(":".join(_TLS_1_3 + (_TLS_1_3_SHORT if self.has_short_tags else ())).encode())
        if identity is not None and identity.chain:
            context.use_privatekey(identity.key)
            context.use_certificate(x509.load_der_x509_certificate(identity.chain[0]))
            for each in identity.chain[1:]:
                context.add_extra_chain_cert(x509.load_der_x509_certificate(each))

    @property
    def has_psk(self) -> bool:
        """Whether pre-shared keys are offered."""
        return self._callback is not None

    def connection(self) -> SSL.Connection:
        """A connection of the server's side, over memory."""
        made = SSL.Connection(self._context)
        made.set_accept_state()
        return made

    def _suites(self, cbc: bool) -> list[str]:
        short = self.has_short_tags
        certificates = [*_ECDHE, *(_ECDHE_SHORT if short else ())]
        keys = [*_PSK, *(_PSK_SHORT if short else ())] if self.has_psk else []
        # As over DTLS keys come first: who has none does not offer them, and who has one mostly offers both.
        suites = [*keys, *certificates]
        if cbc:
            suites += [*(_PSK_CBC if self.has_psk else ()), *_ECDHE_CBC]
        # OpenSSL takes a tag of 8 bytes for the strength of a key of 64 bits, and refuses it at any higher level.
        return [*suites, "@SECLEVEL=0" if short else "@SECLEVEL=1"]


class TlsClientContext:
    """What a client makes its connections with, by its ``parameters``: a pre-shared key, or a key with a chain. Raises
    `NoPreSharedKeys`."""

    def __init__(self, parameters: ClientParameters) -> None:
        context = self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_alpn_protos([ALPN])
        context.set_verify(SSL.VERIFY_PEER, _judged_elsewhere)
        self._name = parameters.server_name
        short = _bar_weak_signatures(context)
        if parameters.psk_identity:
            self._callback = _bring_psk(context, parameters.psk_identity, parameters.psk)
            if self._callback is None:
                raise NoPreSharedKeys
            suites = [*_PSK_SHORT, *_PSK] if short else [*_PSK]
        else:
            suites = [*_ECDHE_SHORT, *_ECDHE] if short else [*_ECDHE]
        context.set_cipher_list(":".join([*suites, "@SECLEVEL=0" if short else "@SECLEVEL=1"]).encode())
        context.set_tls13_ciphersuites(":".join(_TLS_1_3).encode())
        if parameters.key is not None:
            context.use_privatekey(parameters.key)
            context.use_certificate(x509.load_der_x509_certificate(parameters.chain[0]))
            for each in parameters.chain[1:]:
                context.add_extra_chain_cert(x509.load_der_x509_certificate(each))

    def connection(self) -> SSL.Connection:
        """A connection of the client's side, over memory."""
        made = SSL.Connection(self._context)
        made.set_connect_state()
        if self._name:
            made.set_tlsext_host_name(self._name.encode("idna"))
        return made


class NoPreSharedKeys(UserError):
    """The library has no call for pre-shared keys."""

    def __init__(self) -> None:
        super().__init__("the TLS library here offers no pre-shared keys; use a certificate")


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """RFC 7301 §3.2: without a common protocol it ends. Who offers none is not asked (RFC 8323 §8.2)."""
    if ALPN in offered:
        return ALPN
    raise NoCommonProtocol(", ".join(repr(each.decode("ascii", "backslashreplace")) for each in offered[:4]))


def _judged_elsewhere(connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:
    return True


def _bar_weak_signatures(context: SSL.Context) -> bool:
    """Let peers sign with what we trust only, whatever the security level allows; whether that could be had."""
    try:
        return bool(_private("SSL_CTX_set1_sigalgs_list")(context._context, _SIGNATURES) == 1)
    except (AttributeError, TypeError):
        return False


def _offer_psk(context: SSL.Context, find_key: FindKey) -> Any:
    """Ask ``find_key`` for keys; returns what has to live as long as ``context``, None where that cannot be had."""
    try:
        ffi: Any = vars(SSL)["_ffi"]
        offer = _private("SSL_CTX_set_psk_server_callback")

        def find(connection: object, identity: Any, room: Any, room_bytes: int) -> int:
            key = find_key(ffi.string(identity))
            if len(key) > room_bytes:
                return 0
            ffi.memmove(room, key, len(key))
            return len(key)

        # An exception is no key.
        callback = ffi.callback("unsigned int(SSL *, char *, unsigned char *, unsigned int)", find, error=0)
        offer(context._context, callback)
    except (AttributeError, KeyError, TypeError):
        return None
    return callback


def _bring_psk(context: SSL.Context, identity: bytes, key: bytes) -> Any:
    """Come as ``identity``; as `_offer_psk`."""
    try:
        ffi: Any = vars(SSL)["_ffi"]
        bring = _private("SSL_CTX_set_psk_client_callback")

        def say(connection: object, hint: object, name: Any, name_bytes: int, room: Any, room_bytes: int) -> int:
            if len(identity) + 1 > name_bytes or len(key) > room_bytes:
                return 0
            ffi.memmove(name, identity + b"\0", len(identity) + 1)
            ffi.memmove(room, key, len(key))
            return len(key)

        signature = "unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int)"
        callback = ffi.callback(signature, say, error=0)
        bring(context._context, callback)
    except (AttributeError, KeyError, TypeError):
        return None
    return callback


def _private(name: str) -> Any:
    """A function of OpenSSL as `cryptography` binds it. Raises AttributeError."""
    return getattr(vars(SSL).get("_lib"), name)
