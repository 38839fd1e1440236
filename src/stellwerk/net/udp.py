"""UDP sockets that answer from the address they were asked on (contract MSG-11, design §7)."""

import contextlib
import socket
import struct
from sys import intern
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.core.ids import PeerId

BUFFER_BYTES: Final = 65_536
_SOCKET_BUFFER: Final = 4 * 1024 * 1024
_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)
_IPV6_RECVPKTINFO: Final = getattr(socket, "IPV6_RECVPKTINFO", 49)
_IPV6_PKTINFO: Final = getattr(socket, "IPV6_PKTINFO", 50)
_ANCILLARY_BYTES: Final = 64
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
"""Linux's sk_meminfo; the last of its numbers counts drops."""
_WILDCARDS: Final = ("0.0.0.0", "::")


class CannotBind(UserError):
    """``host``:``port`` cannot be bound; ``reason`` is the system's word."""

    def __init__(self, host: str, port: int, reason: str, protocol: str = "UDP") -> None:
        self.host, self.port, self.reason, self.protocol = host, port, reason, protocol
        super().__init__(
            f"cannot listen on {protocol} {host}:{port}: {reason}; choose another address or port, or stop what uses it"
        )


class UdpSocket:
    """One bound, non-blocking UDP socket. A wildcard one learns each datagram's destination address from the kernel
    and sends the answer from there; a specific one needs no such care."""

    __slots__ = ("_buffer", "_hosts", "_view", "host", "ipv6", "port", "raw", "wildcard")

    def __init__(self, host: str, port: int, buffer: bytearray | None = None) -> None:
        """Binds at once. ``buffer``: shared by sockets that one thread reads in turn, at least `BUFFER_BYTES` long.
        Raises `CannotBind`."""
        self.ipv6 = ":" in host
        self.raw = socket.socket(socket.AF_INET6 if self.ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.raw.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                with contextlib.suppress(OSError):
                    self.raw.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
            if self.ipv6:
                self.raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Asked for before the bind, so that no datagram comes without; specific addresses do not read it.
            if self.ipv6:
                self.raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            else:
                self.raw.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self.raw.bind((host, port))
        except (OSError, UnicodeError) as error:
            self.raw.close()
            raise CannotBind(host, port, getattr(error, "strerror", None) or str(error)) from error
        name = self.raw.getsockname()
        self.host, self.port = name[0], name[1]
        # By what the kernel made of it: "0" and "::0" are wildcards too.
        self.wildcard = self.host in _WILDCARDS
        self._buffer = bytearray(BUFFER_BYTES) if buffer is None else buffer
        self._view = memoryview(self._buffer)
        self._hosts: dict[bytes, str] = {}

    def receive(self) -> tuple[bytes, PeerId] | None:
        """The next datagram and who sent it, or None when there is none now."""
        try:
            if not self.wildcard:
                count, address = self.raw.recvfrom_into(self._buffer)
                local: str = self.host
            else:
                count, ancillary, _, address = self.raw.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
                local = self._destination(ancillary)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            # An ICMP error of an earlier send; the next read tells what matters.
            return b"", PeerId("udp", "", 0, self.host, self.port)
        # Many devices behind one gateway share its address; equal texts that are the same also compare faster.
        return bytes(self._view[:count]), PeerId("udp", intern(address[0]), address[1], local, self.port)

    def send(self, datagram: bytes, peer: PeerId) -> bool:
        """Send now. False when the kernel did not take it: the datagram is lost, which CoAP survives."""
        address = (peer.remote_host, peer.remote_port)
        try:
            if not self.wildcard or peer.local_host in _WILDCARDS or not peer.local_host:
                self.raw.sendto(datagram, address)
            elif self.ipv6:
                info = socket.inet_pton(socket.AF_INET6, peer.local_host.partition("%")[0]) + bytes(4)
                self.raw.sendmsg([datagram], [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, info)], 0, address)
            else:
                info = struct.pack("=i4s4s", 0, socket.inet_aton(peer.local_host), bytes(4))
                self.raw.sendmsg([datagram], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, address)
        except OSError:
            return False
        return True

    def dropped(self) -> int:
        """Datagrams that found the receive buffer full; 0 where the kernel does not say."""
        try:
            figures = self.raw.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            return int(_MEMINFO.unpack(figures)[-1])
        except (OSError, struct.error):
            return 0

    def close(self) -> None:
        self.raw.close()

    def _destination(self, ancillary: list[tuple[int, int, bytes]]) -> str:
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                address = data[8:12]
            elif level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
                address = data[:16]
            else:
                continue
            host = self._hosts.get(address)
            if host is None:
                family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
                host = self._hosts[address] = socket.inet_ntop(family, address)
            return host
        return str(self.host)
