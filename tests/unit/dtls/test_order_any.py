"""Any sequence of messages from one who knows every key: a session comes of the one legal order alone."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from order_lab import HANDS, Server
from tests import dtls_hand as d
from tests.dtls_hand import ALERT, CCS, DATA, HANDSHAKE, Hand

from stellwerk.dtls import events

KINDS = (d.CERTIFICATE, d.CLIENT_KEY_EXCHANGE, d.CERTIFICATE_VERIFY, d.FINISHED)
LEGAL = {
    "psk": [(d.CLIENT_KEY_EXCHANGE, 0), (d.FINISHED, 1)],
    "rpk": [(d.CERTIFICATE, 0), (d.CLIENT_KEY_EXCHANGE, 0), (d.CERTIFICATE_VERIFY, 0), (d.FINISHED, 1)],
}


class AnyOrder(RuleBasedStateMachine):
    """``spoken``: the handshake messages of the newest handshake in the order of their numbers, with their epochs."""

    server: Server
    hand: Hand

    @initialize(kind=st.sampled_from(["psk", "psk", "rpk"]))
    def begin(self, kind: str) -> None:
        self.kind = kind
        self.server = Server()
        self.hellos = 0
        self.told_data: list[bytes] = []
        self.sessions = 0
        self.kept: list[bytes] = []
        self.say_hello()

    def say_hello(self) -> None:
        self.hellos += 1
        self.hand = HANDS[self.kind](random=self.hellos.to_bytes(32, "big"))
        self.spoken: list[tuple[int, int]] = []
        self.changed = False
        self.server.greet(self.hand)

    def feed(self, record: bytes) -> None:
        before = len(self.server.established)
        self.kept.append(record)
        # One of an earlier handshake will do: nothing protects it.
        self.changed = self.changed or record[0] == CCS
        self.server.feed(record)
        if len(self.server.established) > before:
            assert len(self.server.established) == before + 1
            # What is numbered behind the Finished is of no handshake.
            assert self.spoken[: len(LEGAL[self.kind])] == LEGAL[self.kind], self.spoken
            assert self.changed
            assert self.hand.random not in self.told_data
            self.told_data.append(self.hand.random)

    @precondition(lambda self: self.hellos < 4)
    @rule()
    def hello(self) -> None:
        self.say_hello()

    @rule(kind=st.sampled_from(KINDS), epoch=st.sampled_from([0, 0, 0, 1]), proper=st.booleans())
    def message(self, kind: int, epoch: int, proper: bool) -> None:
        hand = self.hand
        if self.kind == "psk" and kind in (d.CERTIFICATE, d.CERTIFICATE_VERIFY):
            body = b"\0\0\0" if kind == d.CERTIFICATE else b"\4\3\0\0"
        elif kind == d.CERTIFICATE:
            body = hand.certificate()
        elif kind == d.CLIENT_KEY_EXCHANGE:
            body = hand.client_key_exchange()
        else:
            if not hand.premaster:
                hand.client_key_exchange()
            if hand.write is None:
                hand.derive()
            body = hand.certificate_verify() if kind == d.CERTIFICATE_VERIFY else hand.verify_data()
        if proper:
            # Where it belongs, so that the legal order is not too rare.
            epoch = 1 if kind == d.FINISHED else 0
        if epoch and hand.write is None:
            hand.derive()
        self.spoken.append((kind, epoch))
        content = hand.message(kind, body)
        if kind == d.CLIENT_KEY_EXCHANGE:
            hand.derive()
        self.feed(hand.sealed(HANDSHAKE, content) if epoch else hand.plain(HANDSHAKE, content))

    @rule()
    def next_legal(self) -> None:
        at = len(self.spoken)
        if self.spoken == LEGAL[self.kind][:at] and at < len(LEGAL[self.kind]):
            if at == len(LEGAL[self.kind]) - 1:
                self.change()
            self.message(LEGAL[self.kind][at][0], 0, True)

    @rule()
    def change(self) -> None:
        self.feed(self.hand.plain(CCS, b"\1"))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def say_again(self, data: st.DataObject) -> None:
        """The same bytes, of this handshake or an earlier one."""
        self.feed(data.draw(st.sampled_from(self.kept)))

    @precondition(lambda self: self.hand.write is not None)
    @rule(kind=st.sampled_from([DATA, CCS, ALERT]))
    def sealed(self, kind: int) -> None:
        self.feed(self.hand.sealed(kind, {DATA: self.hand.random, CCS: b"\1", ALERT: b"\1\x64"}[kind]))

    @rule(kind=st.sampled_from([DATA, 99, ALERT]))
    def clear(self, kind: int) -> None:
        self.feed(self.hand.plain(kind, b"\1\x64"))

    @rule(seconds=st.sampled_from([0.3, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.server.wait(seconds)

    @invariant()
    def data_only_of_sessions(self) -> None:
        if hasattr(self, "server"):
            for each in self.server.data:
                assert each in self.told_data, "data of a handshake that was never complete"
            failed = len(self.server.of(events.HandshakeFailed))
            assert failed + len(self.server.established) + self.server.engine.half_open >= self.hellos - 1

    def teardown(self) -> None:
        if hasattr(self, "server"):
            self.server.connect(HANDS[self.kind](random=bytes(range(1, 33))))


AnyOrder.TestCase.settings = settings(
    max_examples=12, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = pytest.mark.spec("SEC-1", "RFC 5246 7.3", "LwM2M-contract 15")(AnyOrder.TestCase)


class LongOrder(AnyOrder):
    pass


LongOrder.TestCase.settings = settings(
    max_examples=1200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLongOrder = pytest.mark.slow(pytest.mark.timeout(600)(LongOrder.TestCase))
