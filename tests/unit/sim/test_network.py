"""The network in memory: time, loss, doubles, delay, and addresses that move."""

import pytest

from stellwerk.core.ids import PeerId
from stellwerk.sim.network import MemoryNetwork

HERE, THERE = ("10.0.0.1", 1), ("10.0.0.2", 2)


class Parrot:
    """An engine that says what it is told to, remembers what it hears and echoes it if asked to."""

    def __init__(self, echo: bool = False) -> None:
        self.heard: list[tuple[float, bytes, PeerId]] = []
        self.ticks: list[float] = []
        self.due: float | None = None
        self._echo = echo
        self._out: list[tuple[PeerId, bytes]] = []
        self._events: list[str] = []

    def feed(self, datagram, *, peer, now):
        self.heard.append((now, datagram, peer))
        self._events.append("heard")
        if self._echo:
            self._out.append((peer, datagram))

    def tick(self, now):
        self.ticks.append(now)
        self.due = None

    def submit(self, action, now):
        self._out.append(action)

    def take_datagrams(self):
        out, self._out = self._out, []
        return out

    def take_events(self):
        events, self._events = self._events, []
        return events

    def deadline(self):
        return self.due


def connect(**conditions):
    network = MemoryNetwork(**conditions)
    one, other = Parrot(), Parrot(echo=True)
    station = network.attach(HERE, one)
    network.attach(THERE, other)
    return network, station, one, other


def say(station, text: bytes) -> None:
    station.submit((PeerId("udp", *THERE, *HERE), text))


def test_a_datagram_arrives_after_the_delay_from_who_sent_it():
    network, station, one, other = connect(delay_s=0.25)
    say(station, b"hello")
    network.run_for(1)
    assert other.heard == [(1000.25, b"hello", PeerId("udp", *HERE, *THERE))]
    assert one.heard == [(1000.5, b"hello", PeerId("udp", *THERE, *HERE))]
    assert network.now == 1001


def test_both_clocks_of_the_network_move_together():
    network, *_ = connect(start=5.0, epoch_ms=1_000)
    network.run_for(2.5)
    assert network.instant() == (7.5, 3_500)


def test_events_of_a_round_are_handed_over_with_its_time():
    network, told = MemoryNetwork(delay_s=0.5), []
    station = network.attach(HERE, Parrot())
    network.attach(THERE, Parrot(), lambda events, instant: told.append((events, instant.now)))
    say(station, b"x")
    network.run_for(1)
    assert told == [(["heard"], 1000.5)]


def test_an_engine_is_ticked_at_its_deadline():
    network, _, one, _ = connect()
    one.due = 1007.0
    network.run_for(10)
    assert one.ticks == [1007.0]


def test_some_datagrams_are_lost_and_some_come_twice():
    network, station, _, other = connect(seed=1, loss=0.3, duplication=0.3)
    for number in range(1000):
        say(station, bytes([number % 256]))
    network.run_for(1)
    assert network.impairment.lost > 400
    assert 850 <= len(other.heard) <= 970


def test_reordered_datagrams_are_overtaken():
    network, station, _, other = connect(seed=1, reorder=0.3, reorder_delay_s=0.5)
    for number in range(20):
        say(station, bytes([number]))
        network.run_for(0.01)
    network.run_for(2)
    order = [datagram[0] for _, datagram, _ in other.heard]
    assert sorted(order) == list(range(20))
    assert order != sorted(order)


def test_the_next_datagram_can_be_dropped_by_choice():
    network, station, _, other = connect()
    network.impairment.drop_next(lambda datagram: datagram == b"b")
    for text in (b"a", b"b", b"b"):
        say(station, text)
    network.run_for(1)
    assert [datagram for _, datagram, _ in other.heard] == [b"a", b"b"]


def test_a_moved_address_is_seen_anew_and_lost_at_the_old_one():
    network, station, one, other = connect()
    network.move(HERE, ("10.9.9.9", 99))
    say(station, b"x")
    network.run_for(1)
    assert other.heard[0][2] == PeerId("udp", "10.9.9.9", 99, *THERE)
    assert one.heard[0][2] == PeerId("udp", *THERE, *HERE)
    other.submit((PeerId("udp", *HERE, *THERE), b"to the old one"), network.now)
    network.run_for(1)
    other.due = network.now
    network.run_for(1)
    assert len(one.heard) == 1


def test_an_address_moves_again_and_back():
    network, station, one, _ = connect()
    network.move(HERE, ("10.9.9.9", 99))
    network.move(("10.9.9.9", 99), HERE)
    say(station, b"x")
    network.run_for(1)
    assert len(one.heard) == 1


def test_nobody_hears_what_is_sent_to_a_detached_address():
    network, station, one, other = connect()
    network.detach(THERE)
    say(station, b"x")
    network.run_for(1)
    assert other.heard == one.heard == []


def test_an_engine_that_never_lets_time_pass_is_an_error():
    class Restless(Parrot):
        def deadline(self):
            return 0.0

    network = MemoryNetwork()
    network.attach(HERE, Restless())
    with pytest.raises(RuntimeError, match="does not move on"):
        network.run_for(1)


def test_waiting_ends_when_the_condition_holds_or_time_is_over():
    network, station, one, _ = connect(delay_s=1)
    say(station, b"x")
    assert network.run_until(lambda: bool(one.heard), 10)
    assert network.now == 1002
    assert not network.run_until(lambda: False, 10)
    assert network.now == 1012
