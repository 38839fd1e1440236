"""One DTLS engine around another engine: what goes in and comes out, and in which order."""

import os
from typing import Any

import pytest

from stellwerk.core.ids import PeerId
from stellwerk.dtls import actions, events
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.parameters import ClientParameters, ServerParameters
from stellwerk.net.secure import SecureStack

FAR = PeerId("udp", "192.0.2.9", 40_000, "192.0.2.1", 5684)
NEAR = PeerId("udp", "192.0.2.1", 5684, "192.0.2.9", 40_000)
KEY = bytes(16)


class Entropy:
    def take(self, count: int) -> bytes:
        return os.urandom(count)


class Echo:
    """Answers every message with itself; tells what came, and what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.out: list[tuple[PeerId, bytes]] = []
        self.due: float | None = None

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self.events.append(("data", datagram, now))
        self.out.append((peer, datagram))

    def tick(self, now: float) -> None:
        self.events.append(("tick", now))

    def submit(self, action: tuple[PeerId, bytes], now: float) -> None:
        self.out.append(action)

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        taken, self.out = self.out, []
        return taken

    def take_events(self) -> list[tuple[Any, ...]]:
        taken, self.events = self.events, []
        return taken

    def deadline(self) -> float | None:
        return self.due


class Ends:
    """A stack as server, and a client engine."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.stack: SecureStack[Any, Any] = SecureStack(Endpoint(Entropy(), ServerParameters()), self.echo)
        self.client = Endpoint(Entropy())
        self.told: list[Any] = []
        self.session: PeerId | None = None
        self.heard: list[bytes] = []

    def connect(self) -> None:
        self.client.submit(actions.Connect(NEAR, ClientParameters(psk_identity=b"i", psk=KEY, cid=b"")), 0.0)
        self.pump()

    def say(self, *data: bytes) -> None:
        assert self.session is not None
        for each in data:
            self.client.submit(actions.SendData(self.session, each), 0.0)

    def pump(self) -> None:
        for _ in range(20):
            self._look()
            for _, datagram in self.client.take_datagrams():
                self.stack.feed(datagram, peer=FAR, now=5.0)
            while found := self.stack.take_events():
                for event in found:
                    self.told.append(event)
                    if isinstance(event, events.PskQuestion):
                        self.stack.submit(actions.GivePsk(event.handshake, KEY, 7), 5.0)
            for _, datagram in self.stack.take_datagrams():
                self.client.feed(datagram, peer=NEAR, now=0.0)
        self._look()

    def _look(self) -> None:
        for event in self.client.take_events():
            if isinstance(event, events.SessionEstablished):
                self.session = event.peer
            elif isinstance(event, events.DataReceived):
                self.heard.append(event.data)


@pytest.fixture
def ends() -> Ends:
    made = Ends()
    made.connect()
    return made


@pytest.mark.spec("SEC-1")
def test_messages_of_a_session_reach_the_inner_engine_and_its_answers_the_session(ends: Ends) -> None:
    ends.say(b"one", b"two")
    ends.pump()
    assert ends.heard == [b"one", b"two"]


def test_what_both_engines_tell_comes_in_the_order_in_which_it_happened(ends: Ends) -> None:
    ends.told.clear()
    ends.say(b"first")
    assert ends.session is not None
    ends.client.submit(actions.CloseSession(ends.session), 0.0)
    ends.pump()
    kinds = [each[0] if isinstance(each, tuple) else type(each) for each in ends.told]
    assert kinds[:2] == ["data", events.SessionEnded]


def test_the_inner_engine_is_fed_with_the_time_of_the_datagram(ends: Ends) -> None:
    ends.told.clear()
    ends.say(b"now")
    ends.pump()
    assert ends.told == [("data", b"now", 5.0)]


def test_what_sending_makes_the_outer_engine_say_is_told_before_the_round_ends(ends: Ends) -> None:
    # So much that a higher ceiling has to be stored: nobody would hear of it in a round that only sends.
    (established,) = [each for each in ends.told if isinstance(each, events.SessionEstablished)]
    for number in range(600):
        ends.stack.submit((established.peer, b"%d" % number), 6.0)
    told = []
    while found := ends.stack.take_events():
        told += found
    assert any(isinstance(each, events.SessionState) for each in told)


def test_the_earlier_deadline_counts(ends: Ends) -> None:
    outer = ends.stack.deadline()
    assert outer is not None
    ends.echo.due = outer + 1
    assert ends.stack.deadline() == outer
    ends.echo.due = outer - 1
    assert ends.stack.deadline() == outer - 1
    ends.stack.tick(outer)
    assert ends.stack.take_events() == [("tick", outer)]
    assert ends.stack.deadline() == outer - 1
