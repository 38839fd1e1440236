"""One connection of TLS, server's side: bytes of the wire in and out, and what the handshake came to."""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from OpenSSL import SSL, crypto

from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed
from stellwerk.net.tls_alerts import alert_about, plain_alert, sealed_alert
from stellwerk.net.tls_context import NoCommonProtocol, TlsClientContext, TlsContext
from stellwerk.net.tls_hello import Overhearing

_READ_BYTES: Final = 1 << 12
_DRAINED: Final = 1 << 12
"""At a time: pyOpenSSL makes room for as much with each call, and mostly a message comes or goes alone."""
_LONGEST: Final = 200

_REASONS: Final = (
    ("did not return a certificate", "no-client-certificate"),
    ("no shared cipher", "no-common-suite"),
    ("no shared group", "no-common-group"),
    ("no suitable key share", "no-common-group"),
    ("no suitable signature algorithm", "no-common-suite"),
    ("no shared signature algorithms", "no-common-suite"),
    ("unsupported protocol", "version"),
    ("version too low", "version"),
    ("unsupported version", "version"),
    ("inappropriate fallback", "version"),
    ("bad signature", "bad-signature"),
    ("wrong signature type", "bad-signature"),
    ("unexpected message", "unexpected-message"),
    ("alert", "alert"),
)
"""What OpenSSL says, and the word of ours (`dtls.failures.REASONS`)."""
_NO_TLS: Final = "wrong version number"
"""What OpenSSL says of bytes that do not begin as a record of any TLS does."""
_KEY_TROUBLES: Final = ("bad record mac", "binder does not verify", "digest check failed", "psk identity not found")


class Phase(Enum):
    """Where a connection stands."""

    SHAKING = auto()
    ASKING = auto()
    """A question about it is open."""
    OPEN = auto()


class TlsFault(Exception):
    """The handshake cannot go on: ``reason`` as in `dtls.failures.REASONS`, ``detail`` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class TlsEnded(Exception):
    """No more data will come: the peer took leave, or ``detail`` says what was wrong."""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)


class Channel(Timed):
    """``address`` is its peer's. The one timer bounds the handshake."""

    __slots__ = (
        "_late",
        "_ssl",
        "address",
        "began",
        "context",
        "device",
        "held",
        "identity",
        "is_read",
        "key",
        "named",
        "overhearing",
        "phase",
        "question",
        "refused",
        "secret",
        "taken",
        "withheld",
    )

    def __init__(
        self,
        address: PeerId,
        context: TlsContext | TlsClientContext,
        now: float,
        late: Callable[["Channel", float], None],
    ) -> None:
        super().__init__()
        self._late = late
        self._ssl: SSL.Connection | None = None
        self.address = address
        self.began = now
        self.context = context
        self.phase = Phase.SHAKING
        self.question = 0
        self.overhearing: Overhearing | None = Overhearing()
        self.held = bytearray()
        """What came and was not handed on yet."""
        self.is_read = False
        """The first record of it was looked at already."""
        self.taken = 0
        """Bytes that came in all, while the handshake lasts."""
        self.identity: SecureIdentity | None = None
        self.device = 0
        self.named: bytes | None = None
        """The PSK identity that was asked about."""
        self.key = b""
        self.refused: tuple[str, str] | None = None
        """Why it will come to nothing, though it goes on with a key that nobody has."""
        self.secret = b""
        """What the first record of application data is protected with in TLS 1.3."""
        self.withheld = b""
        """Our last flight; it leaves once the peer is let in."""

    def fire(self, now: float) -> None:
        """The handshake takes too long."""
        self._late(self, now)

    def hand_on(self, data: bytes | bytearray) -> None:
        """Let the library have ``data``."""
        if data:
            self._library().bio_write(bytes(data))

    def shake(self) -> bool:
        """Go on with the handshake as far as what came allows; whether it is complete, and its peer proven. Raises
        `TlsFault`."""
        ssl = self._library()
        try:
            ssl.do_handshake()
        except SSL.WantReadError:
            return False
        except NoCommonProtocol as error:
            text = f"the client offers the application protocols {error} by ALPN, and 'coap' is needed, or no ALPN"
            raise TlsFault("no-common-protocol", text) from None
        except SSL.Error as error:
            raise TlsFault(*self._explained(error)) from None
        return True

    def chain(self) -> tuple[bytes, ...]:
        """The peer's certificates as DER, its own first; empty where a pre-shared key was used."""
        ssl = self._library()
        own = ssl.get_peer_certificate()
        if own is None:
            return ()
        # As bytes, since `cryptography` does not read all that OpenSSL does: `dtls.certificates` says what is wrong.
        first = crypto.dump_certificate(crypto.FILETYPE_ASN1, own)
        rest = tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in ssl.get_peer_cert_chain() or ())
        return rest if rest[:1] == (first,) else (first, *rest)

    @property
    def suite(self) -> str:
        """The name of the cipher suite, empty before there is one."""
        return self._library().get_cipher_name() or ""

    def output(self) -> bytes:
        """What the library wants sent."""
        ssl = self._ssl
        if ssl is None:
            return b""
        found = b""
        try:
            while len(part := ssl.bio_read(_DRAINED)) == _DRAINED:
                found += part
        except SSL.WantReadError:
            return found
        # Less than was asked for is all that there was; one more call would raise.
        return found + part

    def refusal(self, reason: str) -> bytes:
        """The alert that says why a handshake that waits for an answer comes to nothing; `output` is not to be sent."""
        description = alert_about(reason)
        # TLS 1.3 alone has such a secret, and before our ServerHello nothing of it is protected either.
        return sealed_alert(description, self.suite, self.secret) if self.secret else plain_alert(description)

    def read(self) -> bytes:
        """The next data, none where no more is here. Raises `TlsEnded`."""
        try:
            return self._library().recv(_READ_BYTES)
        except SSL.WantReadError:
            return b""
        except SSL.ZeroReturnError:
            raise TlsEnded from None
        except SSL.Error as error:
            raise TlsEnded(_words(error)) from None

    def write(self, data: bytes) -> bool:
        """Protect ``data``; False where that is over."""
        try:
            self._library().sendall(data)
        except SSL.Error:
            return False
        return True

    def goodbye(self) -> bytes:
        """A close_notify, and what waits before it."""
        if self._ssl is None:
            return b""
        try:
            self._ssl.shutdown()
        except SSL.Error:
            # It failed before, and has said so.
            return b""
        return self.output()

    def _library(self) -> SSL.Connection:
        # Whoever only connects costs no more than that.
        if self._ssl is None:
            self._ssl = self.context.connection()
        return self._ssl

    def _explained(self, error: SSL.Error) -> tuple[str, str]:
        words = _words(error)
        if any(each in words for each in _KEY_TROUBLES):
            if self.key:
                text = "the client's pre-shared key is not the one that the server has for this identity"
                return "wrong-key", text
            return "bad-message", f"what the client sent does not verify: {words}"
        if _NO_TLS in words:
            return (
                "version",
                f"what came is no TLS, and coaps+tcp is spoken on this port: are port and scheme right? ({words})",
            )
        for part, reason in _REASONS:
            if part in words:
                return reason, _EXPLAINED.get(reason, "{}").format(words)
        return "bad-message", words or "the client sent what is no TLS"


class ClientChannel(Channel):
    """The same, client's side."""

    __slots__ = ()

    def _explained(self, error: SSL.Error) -> tuple[str, str]:
        words = _words(error)
        if _NO_TLS in words:
            return "version", f"the server speaks no TLS on this port ({words})"
        reason = next((reason for part, reason in _REASONS if part in words), "bad-message")
        return reason, f"the server gave up: {words}" if reason == "alert" else words or "the server speaks no TLS"


_EXPLAINED: Final = {
    "no-client-certificate": "the client sent no certificate although one is needed: give it one, or a pre-shared key",
    "no-common-suite": "the client offers no cipher suite, or no signature algorithm, that we have ({})",
    "version": "TLS 1.2 or 1.3 is needed ({})",
    "alert": "the client gave up: {}",
}


def _words(error: SSL.Error) -> str:
    """What OpenSSL says of an error, the first of them."""
    found = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = "; ".join(str(each[-1]) for each in found[:2] if each) or " ".join(map(str, error.args[1:]))
    return text[:_LONGEST]
