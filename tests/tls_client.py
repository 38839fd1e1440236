"""The client's side of TLS in memory: Python's own ssl, or what somebody else may send."""

import contextlib
import os
import ssl
import tempfile
from functools import cache

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stellwerk.issuing import Issued
from tests.dtls_keys import Certificate, authority

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = (V12, V13)


@cache
def file_with(text: str) -> str:
    """Its name; Python's ssl takes certificates from nowhere else."""
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return name


def pem(own: Certificate | Issued) -> str:
    """Chain and key."""
    if isinstance(own, Certificate):
        return own.pem + own.key_pem
    key = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (b"".join(each.public_bytes(Encoding.PEM) for each in own.chain) + key).decode()


class TlsClient:
    """Says what it is told to say; ``sent`` is what waits to go to the server."""

    def __init__(
        self,
        version: ssl.TLSVersion = V13,
        own: Certificate | Issued | None = None,
        *,
        alpn: tuple[str, ...] = ("coap",),
        suites: str = "",
        trusts: bool = True,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = version
        if trusts:
            context.load_verify_locations(cadata=authority().pem)
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if own is not None:
            context.load_cert_chain(file_with(pem(own)))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if suites:
            context.set_ciphers(suites)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self.is_ready = False
        self.heard = b""
        """What the server said behind TLS."""
        self.trouble = ""
        """What the library says went wrong."""
        self.has_ended = False
        """The server took leave."""

    def take(self, data: bytes = b"") -> bytes:
        """Hear ``data``; what to send then."""
        if data:
            self._in.write(data)
        try:
            if not self.is_ready and not self.trouble:
                self.tls.do_handshake()
                self.is_ready = True
            while self.is_ready and not self.trouble and (found := self.tls.read(65_536)):
                self.heard += found
            self.has_ended = self.is_ready and not self.trouble
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        except ssl.SSLError as error:
            self.trouble = (error.reason or str(error)).lower()
        return self._out.read()

    def say(self, data: bytes) -> bytes:
        """Protect ``data``; what to send."""
        self.tls.write(data)
        return self._out.read()

    def close(self) -> bytes:
        """A close_notify; what to send."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()
