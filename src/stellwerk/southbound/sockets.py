"""Which UDP sockets a listener has: one for each family where no address is given."""

import contextlib
import socket
from typing import Any

from stellwerk.net.driver import Driver
from stellwerk.net.udp import CannotBind, UdpSocket


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
