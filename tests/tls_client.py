"""The client's side of TLS in memory: Python's own ssl, or what somebody else may send."""

import atexit
import contextlib
import os
import ssl
import tempfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from stellwerk.issuing import Issued
from tests.dtls_keys import Certificate, authority

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = (V12, V13)


@cache
def file_with(text: str) -> str:
    """Its name; Python's ssl takes certificates from nowhere else. It goes with the process."""
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    atexit.register(Path(name).unlink, missing_ok=True)
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
        like: "TlsClient | None" = None,
    ) -> None:
        """``trusts``: whom the server's certificate has to come from. ``like``: wants to go on from that session."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if like is None else like.tls.context
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
        session = None if like is None else like.tls.session
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost", session=session)
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


class OpenSslClient:
    """The same on pyOpenSSL, which lets more be chosen."""

    def __init__(self, version: ssl.TLSVersion = V13, own: Certificate | None = None, suites_1_3: str = "") -> None:
        context = self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(int(version))
        context.set_max_proto_version(int(version))
        context.set_alpn_protos([b"coap"])
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        if suites_1_3:
            context.set_tls13_ciphersuites(suites_1_3.encode())
        if own is not None:
            context.use_privatekey(own.key)
            context.use_certificate(own.certificate)
        self.is_ready = False
        self.heard = b""
        self.trouble = ""
        self.has_ended = False

    @cached_property
    def _tls(self) -> SSL.Connection:
        made = SSL.Connection(self.context)
        made.set_connect_state()
        return made

    def take(self, data: bytes = b"") -> bytes:
        if data:
            self._tls.bio_write(data)
        try:
            if not self.is_ready and not self.trouble:
                self._tls.do_handshake()
                self.is_ready = True
            while self.is_ready and not self.trouble:
                self.heard += self._tls.recv(65_536)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.has_ended = True
        except SSL.Error as error:
            self.trouble = "; ".join(each[-1] for each in error.args[0])
        return self._waiting()

    def say(self, data: bytes) -> bytes:
        self._tls.send(data)
        return self._waiting()

    def close(self) -> bytes:
        self._tls.shutdown()
        return self._waiting()

    def come_again(self, like: "OpenSslClient") -> None:
        """Want to go on from the session of ``like``, which was made with the same keys."""
        self.context = like.context
        session = like._tls.get_session()
        assert session is not None
        self._tls.set_session(session)

    def renegotiate(self) -> bytes:
        """Begin another handshake inside the connection; what to send."""
        self._tls.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            self._tls.do_handshake()
        return self._waiting()

    def _waiting(self) -> bytes:
        try:
            return self._tls.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""


class PskClient(OpenSslClient):
    """With a pre-shared key, which Python's own ssl has none of before 3.13."""

    def __init__(
        self, identity: bytes, key: bytes, version: ssl.TLSVersion = V12, suites: str = "PSK-AES128-CCM8"
    ) -> None:
        super().__init__(version)
        self.context.set_cipher_list(f"{suites}:@SECLEVEL=0".encode())
        binding: Any = vars(SSL)
        ffi, lib = binding["_ffi"], binding["_lib"]

        def say_key(connection: Any, hint: Any, name: Any, name_room: int, room: Any, key_room: int) -> int:
            ffi.memmove(name, identity + b"\0", len(identity) + 1)
            ffi.memmove(room, key, len(key))
            return len(key)

        self._callback = ffi.callback(
            "unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int)", say_key
        )
        lib.SSL_CTX_set_psk_client_callback(self.context._context, self._callback)
