"""Floods of the secure port from any number of addresses of the loopback: each datagram names its own source."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from random import Random

from tests import dtls_hand as d
from tests.dtls_hand import DATA, WITH_CID, Hand

IP_PKTINFO = 8
_BURST = 50


class Flood:
    """Sends to ``port`` of 127.0.0.1. ``replies`` is how many datagrams came back, as far as they were read."""

    def __init__(self, port: int, *, sockets: int = 16, seed: int = 1) -> None:
        self._to = ("127.0.0.1", port)
        self._random = Random(seed)
        self.sent = 0
        self.replies = 0
        self.reply_bytes = 0
        self.sent_bytes = 0
        self._sockets = []
        for _ in range(sockets):
            each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            each.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            each.setblocking(False)
            each.bind(("0.0.0.0", 0))  # every address of the loopback is ours
            self._sockets.append(each)

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def source(self) -> bytes:
        """An address of 127.0.0.0/8, not of its first network."""
        return struct.pack("!I", 0x7F010000 + self._random.randrange(1 << 23))

    def put(self, datagram: bytes, source: bytes, via: socket.socket | None = None) -> None:
        """One datagram, from the address ``source``."""
        chosen = via or self._sockets[self.sent % len(self._sockets)]
        information = struct.pack("=I4s4s", 0, source, bytes(4))
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            chosen.sendmsg([datagram], [(socket.IPPROTO_IP, IP_PKTINFO, information)], 0, self._to)
            self.sent_bytes += len(datagram)
        self.sent += 1

    def run(self, kind: str, rate: float, seconds: float) -> float:
        """So many datagrams a second (0: as many as go), for so long; how many it were a second."""
        make = KINDS[kind]
        began, first = time.monotonic(), self.sent
        while (spent := time.monotonic() - began) < seconds:
            if rate and self.sent - first >= rate * spent:
                self.read_replies()
                time.sleep(0.0005)
                continue
            for _ in range(_BURST):
                make(self)
            if self.sent % 500 < _BURST:
                self.read_replies()
        self.read_replies()
        return (self.sent - first) / (time.monotonic() - began)

    def read_replies(self, most: int = 2000) -> int:
        """Read what came back; how much that was since the beginning. Whoever asked for a cookie has one now, and goes
        on with it."""
        for each in self._sockets:
            for _ in range(most):
                try:
                    datagram, ancillary, _, _ = each.recvmsg(2048, 64)
                except (BlockingIOError, ConnectionRefusedError):
                    break
                self.replies += 1
                self.reply_bytes += len(datagram)
                if datagram[13] == d.HELLO_VERIFY_REQUEST and ancillary:
                    own = ancillary[0][2][8:12]
                    if (then := _AFTER_COOKIE.get(self._kind_of(own))) is not None:
                        self.put(then(own, datagram[28:]), own, each)
        return self.replies

    # Who goes on behind its cookie is told by its address.
    @staticmethod
    def _kind_of(source: bytes) -> str:
        return _BY_NETWORK.get(source[1], "")

    def hand_at(self, network: int) -> tuple[bytes, Hand]:
        source = bytes([127, network]) + self._random.randbytes(2)
        return source, _hand(source)


def _hand(source: bytes, **more: object) -> Hand:
    """A client whose hello depends on its address alone, so that nothing has to be remembered."""
    return Hand(random=source * 8, own_cid=b"", **more)  # type: ignore[arg-type]


_TEMPLATE = Hand().first_hello()
_RANDOM_AT = _TEMPLATE.index(bytes(range(32)))


def _hello(flood: Flood) -> None:
    random = flood._random.randbytes(32)
    flood.put(_TEMPLATE[:_RANDOM_AT] + random + _TEMPLATE[_RANDOM_AT + 32 :], flood.source())


_COOKIED = Hand(cookie=bytes(16)).second_hello()


def _forged_cookie(flood: Flood) -> None:
    at = _COOKIED.index(bytes(range(32)))
    random = flood._random.randbytes(32)
    cookie = flood._random.randbytes(16)
    flood.put(_COOKIED[:at] + random + _COOKIED[at + 32 : at + 34] + cookie + _COOKIED[at + 50 :], flood.source())


def _half_open(flood: Flood) -> None:
    source, hand = flood.hand_at(0x81)
    flood.put(hand.first_hello(), source)


def _forged_ticket(flood: Flood) -> None:
    source, hand = flood.hand_at(0x82)
    hand.ticket, hand.session_id = source * 40, source * 8
    flood.put(hand.first_hello(), source)


def _forged_session(flood: Flood) -> None:
    """As long as one of ours: a full handshake."""
    source, hand = flood.hand_at(0x83)
    hand.session_id = source * 4
    flood.put(hand.first_hello(), source)


def _strange_cid(flood: Flood) -> None:
    """Of our node; that we did not give it shows."""
    draw = flood._random.randbytes
    head = struct.pack("!BHQ", WITH_CID, d.DTLS_1_2, 1 << 48 | 7)
    flood.put(head + b"\0" + draw(7) + d.vector(2, draw(40)), flood.source())


def _strange_record(flood: Flood) -> None:
    head = struct.pack("!BHQ", DATA, d.DTLS_1_2, 1 << 48 | 7)
    flood.put(head + d.vector(2, flood._random.randbytes(40)), flood.source())


def _noise(flood: Flood) -> None:
    """Hellos and records with something wrong."""
    draw = flood._random
    data = bytearray(draw.choice((_TEMPLATE, _COOKIED, _TEMPLATE + _COOKIED)))
    for _ in range(1 + draw.randrange(3)):
        at = draw.randrange(len(data))
        how = draw.randrange(4)
        if how == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            data[at] = draw.choice((0, 0xFF, 0x7F, 0x80, 22, 25))
        elif how == 2:
            del data[at : at + 1 + draw.randrange(8)]
        else:
            data[at:at] = draw.randbytes(1 + draw.randrange(8))
        if not data:
            data += b"\x16"
    flood.put(bytes(data), flood.source())


def _mixed(flood: Flood) -> None:
    flood._random.choice(_ALL)(flood)


_BY_NETWORK = {0x81: "half-open", 0x82: "ticket", 0x83: "session"}


def _second(change: Callable[[Hand, bytes], None]) -> Callable[[bytes, bytes], bytes]:
    def make(source: bytes, cookie: bytes) -> bytes:
        hand = _hand(source, cookie=cookie)
        change(hand, source)
        return hand.second_hello()

    return make


def _with_ticket(hand: Hand, source: bytes) -> None:
    hand.ticket, hand.session_id = source * 40, source * 8


def _with_session(hand: Hand, source: bytes) -> None:
    hand.session_id = source * 4


_AFTER_COOKIE = {
    "half-open": _second(lambda hand, source: None),
    "ticket": _second(_with_ticket),
    "session": _second(_with_session),
}
_ALL = (_hello, _forged_cookie, _half_open, _forged_ticket, _forged_session, _strange_cid, _strange_record, _noise)
KINDS: dict[str, Callable[[Flood], None]] = {
    "hellos": _hello,
    "forged cookies": _forged_cookie,
    "handshakes that never end": _half_open,
    "forged tickets": _forged_ticket,
    "forged session ids": _forged_session,
    "strange connection IDs": _strange_cid,
    "strange records": _strange_record,
    "noise": _noise,
    "all of it": _mixed,
}
