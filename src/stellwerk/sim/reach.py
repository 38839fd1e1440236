"""Where the servers of simulated devices are, and from which address of this machine they are reached."""

import asyncio
import socket
from typing import Final
from urllib.parse import urlsplit

from stellwerk.core.errors import UserError

DEFAULT_PORT: Final = 5683
DEFAULT_SECURE_PORT: Final = 5684
TCP_SCHEME: Final = "coap+tcp"
SECURE_SCHEME: Final = "coaps"
TLS_SCHEME: Final = "coaps+tcp"


class NoServer(UserError):
    """``url`` names no server that can be reached; ``reason`` says why and what would be right."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"cannot simulate devices against {url!r}: {reason}")


async def resolve(url: str) -> tuple[str, int]:
    """The address of a server written ``coap://HOST[:PORT]``, ``coaps://HOST[:PORT]``, ``coap+tcp://HOST[:PORT]`` or
    ``coaps+tcp://HOST[:PORT]``. Raises `NoServer`."""
    try:
        parts = urlsplit(url)
        usual = DEFAULT_SECURE_PORT if parts.scheme in (SECURE_SCHEME, TLS_SCHEME) else DEFAULT_PORT
        host, port = parts.hostname, parts.port or usual
    except ValueError as error:
        raise NoServer(url, str(error)) from None
    if parts.scheme not in ("coap", SECURE_SCHEME, TCP_SCHEME, TLS_SCHEME) or not host:
        raise NoServer(url, "write it as coap://HOST:PORT, or so with coaps, coap+tcp or coaps+tcp")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise NoServer(url, "a device knows the paths itself; write no more than the scheme, the host and the port")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise NoServer(url, getattr(error, "strerror", None) or str(error)) from None
    # Where a name has both, IPv4: a server on this machine always has it.
    _, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return str(address[0]), int(address[1])


def local_address(server_host: str, server_port: int) -> str:
    """The address from which this machine reaches the server. Raises `NoServer`."""
    family = socket.AF_INET6 if ":" in server_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((server_host, server_port))
        except OSError as error:
            raise NoServer(f"{server_host}:{server_port}", error.strerror or str(error)) from None
        return str(probe.getsockname()[0])
