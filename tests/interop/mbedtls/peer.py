"""Mbed TLS through its Python binding, as client or as a server that echoes; runs in an environment of its own.

Arguments are NAME=VALUE: role (client, server), port (of the server), suite (as Mbed TLS names it), mode (psk, x509),
identity and key (hex) of psk, folder (of PEM files), own (which of them), fragment (max fragment length, 1 to 4).
Says "port N" (server), "handshake", "got TEXT", "error TEXT". Takes lines of text, which it sends.
"""

# ruff: noqa: T201 - lines on stdout are what it is for
import select
import socket
import sys
import time
from pathlib import Path

from mbedtls import pk, tls, x509

told = dict(each.split("=", 1) for each in sys.argv[1:])
LONGEST_S = 30.0


def say(line: str) -> None:
    print(line, flush=True)


def configuration() -> tls.DTLSConfiguration:
    more: dict[str, object] = {"ciphers": (told["suite"],), "lowest_supported_version": tls.DTLSVersion.DTLSv1_2}
    if "fragment" in told:
        more["max_fragmentation_length"] = tls.MaxFragmentLength(int(told["fragment"]))
    if told["mode"] == "psk":
        key = bytes.fromhex(told["key"])
        if told["role"] == "client":
            more["pre_shared_key"] = (told["identity"], key)
        else:
            more["pre_shared_key_store"] = {told["identity"]: key}
        return tls.DTLSConfiguration(validate_certificates=False, **more)
    folder, own = Path(told["folder"]), told.get("own", told["role"])
    trust = tls.TrustStore()
    trust.add(x509.CRT.from_PEM((folder / "ca.pem").read_text()))
    certificate = x509.CRT.from_PEM((folder / f"{own}.pem").read_text())
    key = pk.ECC.from_PEM((folder / f"{own}-key.pem").read_text())
    return tls.DTLSConfiguration(
        validate_certificates=True, trust_store=trust, certificate_chain=((certificate,), key), **more
    )


def shake(wrapped: tls.TLSWrappedSocket) -> None:
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        try:
            return wrapped.do_handshake()
        except (tls.WantReadError, tls.WantWriteError, BlockingIOError):
            # Its timers are looked at when it is called.
            select.select([wrapped], [], [], 0.2)
    raise TimeoutError("handshake")


def client() -> None:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name = "localhost" if told["mode"] == "x509" else None
    wrapped = tls.ClientContext(configuration()).wrap_socket(plain, server_hostname=name)
    wrapped.connect(("127.0.0.1", int(told["port"])))
    wrapped.setblocking(False)
    shake(wrapped)
    say("handshake")
    talk(wrapped, echoes=False)


def server() -> None:
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wrapped = tls.ServerContext(configuration()).wrap_socket(plain)
    wrapped.bind(("127.0.0.1", 0))
    say(f"port {wrapped.getsockname()[1]}")
    while True:
        connection, address = wrapped.accept()
        connection.setcookieparam(address[0].encode())
        try:
            shake(connection)
            break
        except tls.HelloVerifyRequest:
            wrapped = connection
    say("handshake")
    talk(connection, echoes=True)


def talk(wrapped: tls.TLSWrappedSocket, *, echoes: bool) -> None:
    while True:
        ready, _, _ = select.select([wrapped, sys.stdin], [], [], LONGEST_S)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            wrapped.send(line.strip().encode())
        if wrapped in ready:
            try:
                data = wrapped.recv(4096)
            except (tls.WantReadError, BlockingIOError):
                # A repetition: it was answered.
                continue
            say(f"got {data.decode(errors='replace')}")
            if echoes:
                wrapped.send(data)


try:
    client() if told["role"] == "client" else server()
except Exception as error:
    say(f"error {type(error).__name__} {error}")
    sys.exit(1)
