"""The targets of `fuzz` that read what comes to the secure port; they begin with flights of an honest peer."""

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptography.hazmat.primitives.asymmetric import ec
from tests import dtls_hand as hand
from tests.dtls_hand import Hand

Target = Callable[[bytes], None]

_KEY = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())


def _check_text(error: Exception) -> None:
    """Errors end in log lines and messages: what a peer sent does not make them long."""
    assert len(str(error)) < 300, str(error)


def _records() -> Target:
    from stellwerk.dtls.records import RecordFormatError, encode_record, split_records

    def take(data: bytes) -> None:
        cid_length = data[0] & 15 if data else 0
        try:
            found = split_records(data[1:], cid_length)
        except RecordFormatError as error:
            _check_text(error)
            found = error.whole
        again = b"".join(
            encode_record(each.type, each.epoch, each.sequence, each.fragment, version=each.version, cid=each.cid)
            for each in found
        )
        assert data[1:].startswith(again)

    return take


def _messages() -> Target:
    from stellwerk.dtls import messages
    from stellwerk.dtls.messages import HandshakeFormatError

    names = [
        "client_hello",
        "server_hello",
        "hello_verify_request",
        "certificate",
        "raw_key",
        "certificate_request",
        "server_key_exchange_ecdhe",
        "server_key_exchange_psk",
        "client_key_exchange_ecdhe",
        "client_key_exchange_psk",
        "certificate_verify",
        "new_session_ticket",
        "finished",
        "server_hello_done",
    ]
    codecs: list[tuple[Callable[[bytes], Any], Callable[[Any], bytes]]] = [
        (getattr(messages, f"decode_{name}"), getattr(messages, f"encode_{name}")) for name in names
    ]

    def take(data: bytes) -> None:
        decode, encode = codecs[data[0] % len(codecs)] if data else codecs[0]
        try:
            found = decode(data[1:])
        except HandshakeFormatError as error:
            _check_text(error)
            return
        # What is understood survives the way back; the order of extensions does not.
        assert decode(encode(found)) == found

    return take


def _fragments() -> Target:
    from stellwerk.dtls.fragments import decode_fragments, encode_fragment
    from stellwerk.dtls.messages import HandshakeFormatError

    def take(data: bytes) -> None:
        try:
            found = decode_fragments(data)
        except HandshakeFormatError:
            return
        assert b"".join(map(encode_fragment, found)) == data

    return take


def _alerts() -> Target:
    from stellwerk.dtls.alerts import AlertFormatError, decode_alert, encode_alert

    def take(data: bytes) -> None:
        try:
            found = decode_alert(data)
        except AlertFormatError:
            return
        assert len(str(found)) < 100
        assert encode_alert(found.level, found.description) == data

    return take


class Numbers:
    """Entropy that counts, so that every finding replays."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def take(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(16, "big")[-size:].rjust(size, b"\1")


def _story(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """What happens next: a byte says what, a byte says where, and two how long the following bytes are."""
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at + 2 : at + 4]) & 0x7FF
        yield data[at], data[at + 1], data[at + 4 : at + 4 + size]
        at += 4 + size


def _change(record: bytes, where: int, change: bytes) -> bytes:
    """``record`` with some bytes of it overwritten, cut out or put in."""
    if not change:
        return record
    at = (where * 7) % (len(record) + 1)
    how, change = change[0] & 3, change[1:]
    if how == 0:
        return record[:at] + change + record[at + len(change) :]
    if how == 1:
        return record[:at] + change + record[at:]
    if how == 2:
        return record[:at] + record[at + 1 + len(change) :]
    return record[:at]


def _server() -> Target:
    """A server that fuzzed datagrams come to: some as they are, some the changed records of honest clients, which go on
    with what they hear. Their keys are right, so that what is behind the encryption is reached too."""
    from stellwerk.core.ids import PeerId
    from stellwerk.dtls import actions, events
    from stellwerk.dtls.endpoint import Endpoint
    from stellwerk.dtls.failures import DROPS, REASONS
    from stellwerk.dtls.parameters import Limits, ServerIdentity, ServerParameters
    from stellwerk.dtls.tickets import TicketKey

    peers = [PeerId("udp", "192.0.2.1", port, "198.51.100.1", 5684) for port in (40001, 40002)]
    parameters = ServerParameters(ServerIdentity(_KEY), cbc=True, cid_code_points=(54, 53))
    limits = Limits(half_open=4, half_open_per_address=3, questions=3, sessions=6)

    def take(data: bytes) -> None:
        engine = Endpoint(Numbers(), parameters, limits, ticket_keys=(TicketKey(b"name of the key.", bytes(32)),))
        stored: dict[bytes, bytes] = {}
        now, number = 100.0, 0
        hands = [Hand(), Hand()]
        flights: list[list[bytes]] = [[], []]

        def answer() -> None:
            for event in engine.take_events():
                match event:
                    case events.PskQuestion(handshake, _, identity):
                        engine.submit(
                            actions.GivePsk(handshake, b"0123456789abcdef", 7)
                            if identity == b"device"
                            else actions.RefusePeer(handshake, "unknown-identity", "nobody"),
                            now,
                        )
                    case events.CertificateQuestion(handshake) | events.ResumptionQuestion(handshake):
                        engine.submit(actions.AcceptPeer(handshake, 9), now)
                    case events.SessionState(_, session_id, _, _, state, ceiling):
                        stored[session_id] = state
                        engine.submit(actions.SessionStored(session_id, ceiling), now)
                    case events.SessionQuestion(question, session_id, _):
                        state = stored.get(session_id or b"")
                        engine.submit(
                            actions.RestoreSession(question, state, -1) if state else actions.NoSession(question), now
                        )
                    case events.DataReceived(peer, content):
                        engine.submit(actions.SendData(peer, content[:100]), now)
                    case events.HandshakeFailed(_, reason, detail):
                        assert reason in REASONS
                        assert len(detail) < 500
                    case events.Dropped(_, reason):
                        assert reason in DROPS

        def feed(which: int, datagram: bytes) -> None:
            engine.feed(datagram, peer=peers[which], now=now)
            while True:
                answer()
                sent = engine.take_datagrams()
                for peer, out in sent:
                    assert len(out) <= 1280
                    with suppress(AssertionError, IndexError, KeyError, ValueError, struct.error):
                        hands[peers.index(peer)].hear(out)
                if not sent:
                    return

        for what, where, content in _story(data):
            which = what & 1
            hand = hands[which]
            kind = (what >> 1) % 8
            now += 0.3
            if kind == 0:
                feed(which, content)
            elif kind == 1:
                # Another client at the same address.
                number += 1
                own_cid = (None, b"", b"abc")[where % 3]
                resume = {"session_id": hand.peer_session_id, "ticket": hand.given_ticket or None} if where & 8 else {}
                hands[which] = hand = Hand(random=number.to_bytes(32, "big"), own_cid=own_cid, **resume)  # type: ignore[arg-type]
                if where & 16:
                    hand.key, hand.suites = _KEY, (d_suites(where),)
                feed(which, _change(hand.first_hello(), where, content))
            elif kind == 2:
                feed(which, _change(hand.second_hello(), where, content))
            elif kind == 3 and hand.suite and not flights[which]:
                # A hand that was moved here may not have what it is asked for.
                with suppress(AssertionError, ValueError):
                    flights[which] = hand.last_flight()
            elif kind == 4 and flights[which]:
                feed(which, _change(flights[which].pop(0), where, content))
            elif kind == 5 and hand.write is not None:
                feed(which, hand.sealed(where, content))
            elif kind == 6:
                hands[which] = hands[1 - which]
            else:
                now += where
                engine.tick(now)
                feed(which, b"")
        engine.tick(now + 1000)
        answer()
        assert engine.half_open == 0
        assert engine.sessions <= limits.sessions

    return take


def d_suites(where: int) -> int:
    return (hand.ECDHE_CCM8, hand.ECDHE_GCM)[where & 1]


def _client() -> Target:
    """A client, and a server whose words are fuzzed."""
    from stellwerk.core.ids import PeerId
    from stellwerk.dtls import actions, events
    from stellwerk.dtls.endpoint import Endpoint
    from stellwerk.dtls.parameters import ClientParameters

    server = PeerId("udp", "198.51.100.1", 5684, "192.0.2.1", 40001)
    choices = (
        ClientParameters(psk_identity=b"device", psk=b"0123456789abcdef", cid=b"ab", tickets=True),
        ClientParameters(key=_KEY, raw_keys=True, cid=b"", record_size_limit=512),
    )
    bodies = _bodies()

    def take(data: bytes) -> None:
        engine = Endpoint(Numbers())
        now, message, record = 100.0, 0, 0
        engine.submit(actions.Connect(server, choices[data[0] & 1 if data else 0]), now)
        for what, where, content in _story(data[1:]):
            now += 0.3
            if what % 4 == 0:
                datagram = content
            elif what % 4 == 1:
                # A message of the right number, with a body that is nearly good.
                codec = _CODEC_OF[where % len(_CODEC_OF)]
                body = _change(bodies[codec][1:], where, content)
                fragment = hand.fragment(_TYPE_OF[codec], len(body), message, 0, body)
                message, record = message + 1, record + 1
                datagram = struct.pack("!BHQ", 22, 0xFEFD, record) + hand.vector(2, fragment)
            elif what % 4 == 2:
                datagram = struct.pack("!BHQ", where, 0xFEFD, (what & 4) << 46 | record) + hand.vector(2, content)
            else:
                now += where
                engine.tick(now)
                datagram = b""
            engine.feed(datagram, peer=server, now=now)
            for event in engine.take_events():
                assert not isinstance(event, events.SessionEstablished | events.DataReceived)
                if isinstance(event, events.CertificateQuestion):
                    engine.submit(actions.AcceptPeer(event.handshake), now)
            for _, out in engine.take_datagrams():
                assert len(out) <= 1280
        engine.tick(now + 1000)

    return take


# -- what they begin with --


def _bodies() -> tuple[bytes, ...]:
    """One of each handshake message, behind the number of its codec."""
    psk = Hand(suite=hand.PSK_CCM8, own_cid=b"\1\2\3\4", ticket=b"")
    rpk = Hand(key=_KEY, suites=(hand.ECDHE_CCM8,), suite=hand.ECDHE_CCM8, peer_random=bytes(32))
    rpk.peer_point = rpk.point()
    hello = psk.client_hello(b"cookie", extra={hand.CID: b"\4abcd", 0: b"\0\7\0\0\4host", 1: b"\1", 28: b"\4\0"})
    bodies = [
        hello,
        psk.server_hello(hand.PSK_CCM8, bytes(32), {23: b"", hand.CID: b"\4abcd", 0xFF01: b"\0"}),
        b"\xfe\xff\4abcd",
        rpk.certificate((b"first", b"second")),
        rpk.certificate(),
        b"\1\x40\0\2\4\3\0\0",
        rpk.server_key_exchange(),
        b"\0\4hint",
        rpk.client_key_exchange(),
        psk.client_key_exchange(),
        rpk.certificate_verify(),
        b"\0\0\x0e\x10\0\4abcd",
        bytes(12),
        b"",
    ]
    return tuple(bytes([number]) + body for number, body in enumerate([*bodies, rpk.client_hello(b"")]))


def _flights() -> tuple[bytes, ...]:
    mine = Hand()
    hello = mine.first_hello()
    return b"\0" + hello, b"\4" + hello + mine.change(), b"\4\x19\xfe\xfd" + bytes(8) + b"abcd\0\2xx"


_CODEC_OF = (1, 2, 3, 4, 5, 6, 7, 11, 12, 13)
"""Codecs of what a server says, as in `_bodies`."""
_TYPE_OF = {1: 2, 2: 3, 3: 11, 4: 11, 5: 13, 6: 12, 7: 12, 11: 4, 12: 20, 13: 14}


def _step(what: int, where: int = 0, content: bytes = b"") -> bytes:
    return bytes([what, where]) + hand.vector(2, content)


def _stories() -> tuple[bytes, ...]:
    """Honest handshakes of every kind, with data behind them."""
    found = []
    for how in (0, 1, 16, 17, 18):
        steps = [_step(2, how), _step(4), _step(6), *[_step(8)] * 6, _step(10, 23, b"hello"), _step(10, 21, b"\1\0")]
        again = [_step(2, how | 8), _step(4), _step(6), *[_step(8)] * 4, _step(10, 23, b"again"), _step(14, 200)]
        found += [b"".join(steps), b"".join(steps[:-1] + again)]
    return tuple(found)


def _server_stories() -> tuple[bytes, ...]:
    steps = [_step(1, each) for each in (0, 9, 8, 9)]
    raw = [_step(1, each) for each in (0, 3, 5, 4, 9)]
    return b"\0" + b"".join(steps), b"\1" + b"".join(raw), b"\0" + _step(1, 1) * 3 + _step(2, 20, b"\1") + _step(3, 9)


TARGETS: dict[str, tuple[Callable[[], Target], tuple[bytes, ...]]] = {
    "dtls-records": (_records, _flights()),
    "dtls-messages": (_messages, _bodies()),
    "dtls-fragments": (_fragments, (hand.fragment(1, 9, 0, 2, b"abc"), hand.fragment(20, 12, 3, 0, bytes(12)) * 2)),
    "dtls-alerts": (_alerts, (b"\2\x28", b"\1\0")),
    "dtls-server": (_server, _stories()),
    "dtls-client": (_client, _server_stories()),
}
