"""Which sockets a listener has: one for each family where no address is given, of UDP and TCP alike."""

import contextlib
import socket
from typing import Any, Final

from stellwerk.net.driver import Driver
from stellwerk.net.tcp import StreamDriver
from stellwerk.net.udp import CannotBind, UdpSocket

_FREE_PORT_TRIES: Final = 20


async def listen_alike(
    datagrams: Driver[Any, Any], streams: StreamDriver[Any, Any] | None, host: str, port: int
) -> list[tuple[str, int]]:
    """Bind ``port`` of ``host``, where it is empty of all addresses, for datagrams and for ``streams`` (None: there are
    none); where that became. With port 0 both take the same free one. Raises `CannotBind`; then nothing is bound."""
    for _ in range(_FREE_PORT_TRIES if port == 0 and streams is not None else 1):
        bound: list[UdpSocket] = []
        try:
            bound = bind_datagrams(datagrams, host, port)
            if streams is not None:
                for each in bound:
                    await streams.listen(each.host, each.port)
        except CannotBind as error:
            trouble = error
            for each in bound:
                datagrams.remove(each)
            if streams is not None:
                streams.stop_listening()
            continue
        return [(each.host, each.port) for each in bound]
    raise trouble


def bind_datagrams(driver: Driver[Any, Any], host: str, port: int) -> list[UdpSocket]:
    """Bind ``port`` of ``host``, where it is empty of all addresses, and let ``driver`` read from there. Raises
    `CannotBind`; then nothing is bound."""
    found: list[UdpSocket] = []
    for each in [host] if host else ["0.0.0.0", "::"]:
        try:
            bound = UdpSocket(each, port)
        except CannotBind:
            if host or each != "::" or _has_ipv6():
                for other in found:
                    driver.remove(other)
                raise
            continue
        # With port 0 the second family takes the number that the first one got.
        port = bound.port
        driver.add(bound)
        found.append(bound)
    return found


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False
