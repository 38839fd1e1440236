"""Peers that have proven whose they are."""

from stellwerk.app.live_peers import LivePeers
from stellwerk.core.ids import DeviceId, PeerId, session_peer

ONE, TWO, THREE = (session_peer(each) for each in (b"session1", b"session2", b"session3"))
METER, PUMP = DeviceId(1), DeviceId(2)


def test_the_oldest_of_a_device_are_too_many_until_they_are_removed() -> None:
    live = LivePeers(most=1)
    assert live.add(ONE, METER) == ()
    assert live.add(TWO, PUMP) == ()
    assert live.add(THREE, METER) == (ONE,)
    assert live.of(METER) == (ONE, THREE)
    assert live.remove(ONE) == METER
    assert live.of(METER) == (THREE,)
    assert ONE not in live
    assert THREE in live


def test_a_peer_that_comes_again_is_the_newest_and_counts_once() -> None:
    live = LivePeers(most=2)
    for each in (ONE, TWO, ONE):
        assert live.add(each, METER) == ()
    assert live.of(METER) == (TWO, ONE)


def test_what_others_have_in_the_table_is_nobodys_here_but_is_removed() -> None:
    table: dict[PeerId, DeviceId] = {}
    live, others = LivePeers(table), LivePeers(table)
    others.add(ONE, METER)
    assert ONE in live
    assert live.of(METER) == ()
    assert live.remove(ONE) == METER
    assert table == {}
    assert live.remove(ONE) is None
