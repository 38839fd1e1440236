"""The DTLS engine alone, in memory: what a handshake, a record and a live session cost the server.

    python benchmarks/dtls_micro.py

Hundreds of clients go through each step together, so that the server's share is measured in one piece: CPU time of the
thread, the clients' is left out. No store answers: sessions are said to be stored at once.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import reports
from cryptography.hazmat.primitives.asymmetric import ec
from tests.dtls_hand import DATA, ECDHE_CCM8, PSK_CCM8, PSK_GCM, Hand

from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters

AIMS = {"handshake, PSK": "58 to 91", "echo of 80 bytes, CCM_8 with connection ID": "5 to 7.5"}
KEY = b"0123456789abcdef"
SERVER_KEY = ec.derive_private_key(0x5E44E4, ec.SECP256R1())
ID_SECRET = bytes(32)
CLIENT_KEY = ec.derive_private_key(0xC11E47, ec.SECP256R1())


class SeededEntropy:
    def __init__(self) -> None:
        self._random = Random(1)

    def take(self, count: int) -> bytes:
        return self._random.randbytes(count)


class Bench:
    """A server and so many clients, each at an address of its own."""

    def __init__(self) -> None:
        self.engine = Endpoint(SeededEntropy(), ServerParameters(ServerIdentity(SERVER_KEY)), id_secret=ID_SECRET)
        self.spent_ns = 0
        self.now = 100.0
        self._numbers = iter(range(1 << 24))
        self.on_data: Callable[[events.DataReceived], None] = lambda event: None

    def address(self) -> PeerId:
        number = next(self._numbers)
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        return PeerId("udp", host, 40_000, "192.0.2.1", 5684)

    def serve(self, datagrams: list[tuple[PeerId, bytes]]) -> dict[PeerId, list[bytes]]:
        """Feed all; what comes back, by address. Its time is the server's."""
        engine, now = self.engine, self.now
        began = time.thread_time_ns()
        out: list[tuple[PeerId, bytes]] = []
        for peer, datagram in datagrams:
            engine.feed(datagram, peer=peer, now=now)
            while told := engine.take_events():
                for event in told:
                    kind = type(event)
                    if kind is events.DataReceived:
                        engine.submit(actions.SendData(event.peer, event.data), now)
                    elif kind is events.PskQuestion:
                        engine.submit(actions.GivePsk(event.handshake, KEY, 1), now)
                    elif kind is events.SessionState:
                        engine.submit(actions.SessionStored(event.session_id, event.ceiling), now)
                    elif kind is events.CertificateQuestion or kind is events.ResumptionQuestion:
                        engine.submit(actions.AcceptPeer(event.handshake, 1), now)
            out += engine.take_datagrams()
        self.spent_ns += time.thread_time_ns() - began
        found: dict[PeerId, list[bytes]] = {}
        for peer, datagram in out:
            found.setdefault(peer, []).append(datagram)
        return found

    def connect(self, hands: dict[PeerId, Hand]) -> None:
        def hear(back: dict[PeerId, list[bytes]]) -> None:
            for peer, datagrams in back.items():
                for datagram in datagrams:
                    hands[peer].hear(datagram)

        hear(self.serve([(peer, hand.first_hello()) for peer, hand in hands.items()]))
        hear(self.serve([(peer, hand.second_hello()) for peer, hand in hands.items()]))
        hear(self.serve([(peer, b"".join(hand.last_flight())) for peer, hand in hands.items()]))
        assert all(hand.finished for hand in hands.values())


def psk(number: int, **more: Any) -> Hand:
    return Hand(random=number.to_bytes(32, "big"), psk=KEY, own_cid=b"", **more)


def rpk(number: int) -> Hand:
    return psk(number, key=CLIENT_KEY, suites=(ECDHE_CCM8,))


def handshakes(make: Callable[[int], Hand], count: int, at_a_time: int) -> float:
    """Microseconds each."""
    bench = Bench()
    best = float("inf")
    for first in range(0, count, at_a_time):
        bench.spent_ns = 0
        bench.connect({bench.address(): make(number) for number in range(first, first + at_a_time)})
        best = min(best, bench.spent_ns / at_a_time / 1e3)
    return best


def echoes(suite: int, cid: bool, devices: int, rounds: int) -> float:
    """Microseconds of an echo of 80 bytes."""
    bench = Bench()
    hands = {bench.address(): psk(number, suites=(suite,)) for number in range(devices)}
    if not cid:
        for hand in hands.values():
            hand.own_cid = None
    bench.connect(hands)
    best = float("inf")
    for _ in range(rounds):
        records = [(peer, hand.sealed(DATA, bytes(80))) for peer, hand in hands.items()]
        bench.spent_ns = 0
        back = bench.serve(records)
        assert len(back) == devices
        best = min(best, bench.spent_ns / devices / 1e3)
    return best


def hellos(rounds: int) -> float:
    """Microseconds of a ClientHello without a cookie."""
    bench = Bench()
    best = float("inf")
    for turn in range(rounds):
        flood = [(bench.address(), psk(200 * turn + number).first_hello()) for number in range(200)]
        bench.spent_ns = 0
        assert len(bench.serve(flood)) == 200
        best = min(best, bench.spent_ns / 200 / 1e3)
    return best


def resident() -> int:
    gc.collect()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("bench: no smaps_rollup")


def memory(sessions: int) -> tuple[float, float]:
    """Bytes of a live session: at once, and when what ends its handshake is forgotten."""
    bench = Bench()
    bench.connect({bench.address(): psk(0)})
    before = resident()
    for first in range(0, sessions, 100):
        bench.connect({bench.address(): psk(first + number) for number in range(100)})
        # As in life: timers that were stopped go when they would have been due.
        bench.now += 1
        bench.engine.tick(bench.now)
    fresh = resident() - before
    bench.now += 300
    bench.engine.tick(bench.now)
    return fresh / sessions, (resident() - before) / sessions


def restores(sessions: int) -> tuple[float, float]:
    """Microseconds to go on with a stored session at its first record, and bytes of its state."""
    bench = Bench()
    states: dict[bytes, bytes] = {}
    hands = {bench.address(): psk(number) for number in range(sessions)}
    take = bench.engine.take_events

    def keeping() -> list[Any]:
        told = take()
        states.update((each.session_id, each.state) for each in told if type(each) is events.SessionState)
        return told

    bench.engine.take_events = keeping  # type: ignore[method-assign]
    bench.connect(hands)
    after = Endpoint(SeededEntropy(), ServerParameters(ServerIdentity(SERVER_KEY)), id_secret=ID_SECRET)
    records = [(peer, hand.sealed(DATA, bytes(80))) for peer, hand in hands.items()]
    began = time.thread_time_ns()
    data = 0
    for peer, record in records:
        after.feed(record, peer=peer, now=1.0)
        while told := after.take_events():
            for event in told:
                if type(event) is events.SessionQuestion:
                    assert event.session_id is not None
                    after.submit(actions.RestoreSession(event.question, states[event.session_id], -1), 1.0)
                elif type(event) is events.DataReceived:
                    data += 1
    spent = time.thread_time_ns() - began
    assert data == sessions
    return spent / sessions / 1e3, sum(map(len, states.values())) / len(states)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=3000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    count = options.handshakes
    rows = [
        ["handshake, PSK", f"{handshakes(psk, count, 100):.0f}"],
        ["handshake, ECDHE with raw public keys", f"{handshakes(rpk, count // 5, 100):.0f}"],
        ["echo of 80 bytes, CCM_8 with connection ID", f"{echoes(PSK_CCM8, True, 200, 30):.1f}"],
        ["echo of 80 bytes, CCM_8", f"{echoes(PSK_CCM8, False, 200, 30):.1f}"],
        ["echo of 80 bytes, GCM with connection ID", f"{echoes(PSK_GCM, True, 200, 30):.1f}"],
    ]
    rows.append(["ClientHello without a cookie", f"{hellos(20):.1f}"])
    restore_us, state = restores(1000)
    rows.append(["first record of a stored session", f"{restore_us:.0f}"])
    fresh, settled = memory(options.sessions)
    rows = [[name, value, AIMS.get(name, "")] for name, value in rows]
    text = "\n\n".join(
        [
            f"`{reports.command_line()}`",
            f"Microseconds of CPU of the server, the best of many groups of 100 or 200; {reports.machine()}.",
            reports.table(("what", " us", " aim"), rows),
            f"A live session: {fresh:,.0f} bytes of memory at once, {settled:,.0f} when the flight that ended its "
            f"handshake is forgotten; {state:.0f} bytes of state to store.",
        ]
    )
    reports.publish("dtls-micro", text, options.write)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
