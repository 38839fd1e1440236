"""What is over is gone at once: nothing waits for the garbage collector, which a busy server seldom runs."""

import gc

import pytest
from order_lab import HANDS, Server, psk

from stellwerk.core.ids import PeerId
from stellwerk.dtls.association import Association
from stellwerk.dtls.server import ServerHandshake


def count(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


def address(number: int) -> PeerId:
    return PeerId("udp", f"192.0.2.{number}", 40_000, "192.0.2.1", 5684)


def wait(server: Server) -> None:
    """All timers have had their time, dead ones too."""
    server.now += 1000
    server.engine.tick(server.now)
    server.engine.take_events()
    server.engine.take_datagrams()


@pytest.mark.slow
def test_handshakes_that_are_over_are_freed_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        before = count(ServerHandshake)
        server = Server()
        for number in range(20):
            server.greet(HANDS["psk" if number % 2 else "rpk"](random=number.to_bytes(32, "big")), address(number))
        assert count(ServerHandshake) == before + 20
        for number in range(20, 40):
            server.connect(HANDS["psk" if number % 2 else "rpk"](random=number.to_bytes(32, "big")), address(number))
        wait(server)
        assert count(ServerHandshake) == before
    finally:
        gc.enable()


@pytest.mark.slow
def test_sessions_that_ended_are_freed_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        before = count(Association)
        server = Server()
        for number in range(200):
            server.connect(psk(random=number.to_bytes(32, "big")))
        wait(server)
        # Some that ended still stand in line for their turn to be evicted.
        assert count(Association) < before + 80
    finally:
        gc.enable()
