"""What becomes of a datagram, and the same between an engine and its driver."""

import pytest

from stellwerk.core.ids import PeerId
from stellwerk.sim.impairment import Conditions, Impairment, is_acknowledgement
from stellwerk.sim.lossy import LossyEngine

PEER = PeerId("udp", "10.0.0.1", 5683, "10.0.0.2", 1)


class Recorder:
    def __init__(self) -> None:
        self.fed: list[bytes] = []
        self.out: list[tuple[PeerId, bytes]] = []
        self.submitted: list[object] = []

    def feed(self, datagram, *, peer, now):
        self.fed.append(datagram)

    def tick(self, now): ...

    def submit(self, action, now):
        self.submitted.append(action)

    def take_datagrams(self):
        out, self.out = self.out, []
        return out

    def take_events(self):
        return ["event"]

    def deadline(self):
        return 50.0


def test_a_perfect_network_delivers_everything_at_once():
    impairment = Impairment(Conditions())
    assert Conditions().perfect
    assert [impairment.fate(b"x") for _ in range(3)] == [(0.0,)] * 3


def test_the_shares_are_about_what_was_asked_for():
    impairment = Impairment(Conditions(loss=0.1, duplication=0.2), seed=1)
    for _ in range(2000):
        impairment.fate(b"x")
    assert impairment.lost == pytest.approx(200, abs=50)
    assert impairment.duplicated == pytest.approx(360, abs=60)
    assert impairment.lost + impairment.delivered == 2000


def test_a_seed_repeats_the_same_fates():
    conditions = Conditions(loss=0.2, duplication=0.2, delay_s=0.1, jitter_s=0.3, reorder=0.1)
    one, other = Impairment(conditions, 9), Impairment(conditions, 9)
    assert [one.fate(b"x") for _ in range(100)] == [other.fate(b"x") for _ in range(100)]


@pytest.mark.parametrize("name", ["loss", "duplication", "reorder"])
def test_a_probability_above_one_is_refused(name):
    with pytest.raises(ValueError, match=name):
        Conditions(**{name: 5})


def test_acknowledgements_are_told_from_other_messages():
    assert is_acknowledgement(bytes.fromhex("60000001"))
    assert not is_acknowledgement(bytes.fromhex("40010001"))
    assert not is_acknowledgement(bytes.fromhex("70000001"))
    assert not is_acknowledgement(b"")


def test_a_lossy_engine_loses_in_both_directions():
    inner = Recorder()
    engine = LossyEngine(inner, Impairment(Conditions(loss=1.0)))
    engine.feed(b"in", peer=PEER, now=1.0)
    inner.out.append((PEER, b"out"))
    assert inner.fed == []
    assert engine.take_datagrams() == []


def test_a_lossy_engine_delays_in_both_directions_and_says_when():
    inner = Recorder()
    engine = LossyEngine(inner, Impairment(Conditions(delay_s=2.0)))
    engine.feed(b"in", peer=PEER, now=1.0)
    inner.out.append((PEER, b"out"))
    assert engine.take_datagrams() == []
    assert engine.deadline() == 3.0
    engine.tick(2.9)
    assert inner.fed == []
    engine.tick(3.0)
    assert inner.fed == [b"in"]
    assert engine.take_datagrams() == [(PEER, b"out")]
    assert engine.deadline() == 50.0


def test_a_lossy_engine_passes_wishes_and_events_untouched():
    inner = Recorder()
    engine = LossyEngine(inner, Impairment(Conditions(loss=1.0)))
    engine.submit("wish", 1.0)
    assert inner.submitted == ["wish"]
    assert engine.take_events() == ["event"]
