"""Bounds of handshakes under way."""

from dataclasses import dataclass

import pytest
from dtls_wire import address

from stellwerk.core.ids import PeerId
from stellwerk.dtls.half_open import HalfOpen, network_of


@dataclass(eq=False)
class Begun:
    address: PeerId
    began: float = 0.0


def _enter(table: HalfOpen[Begun], peer: PeerId, now: float) -> Begun | None:
    """Whoever goes for the newcomer; raises if it is not let in."""
    welcome, oldest = table.make_room(peer, now)
    assert welcome
    if oldest is not None:
        table.drop(oldest)
    table.add(Begun(peer, now))
    return oldest


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("2001:db8::1", "2001:db8:0:0:5::", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("1::", "1:0:0:0:8::", True),
    ],
)
def test_an_ipv6_network_is_a_64_and_an_ipv4_network_an_address(one: str, other: str, same: bool) -> None:
    assert (network_of(address(one)) == network_of(address(other))) is same


@pytest.mark.spec("LwM2M-contract 15")
def test_one_network_cannot_take_the_room_of_others() -> None:
    table: HalfOpen[Begun] = HalfOpen(total=8, per_network=6, patience_s=9.0)
    few = [address("203.0.113.1", port) for port in (1, 2)]
    for peer in few:
        _enter(table, peer, 0.0)
    for port in range(6):
        _enter(table, address("198.51.100.1", port), 1.0 + port)
    # The table is full; newcomers from anywhere push out the oldest of the network that has the most.
    for port in range(2):
        gone = _enter(table, address("192.0.2.1", port), 8.0)
        assert gone is not None
        assert gone.address == address("198.51.100.1", port)
    assert all(table.find(peer) is not None for peer in few)
    assert len(table) == 8


def test_a_network_at_its_bound_loses_its_oldest_once_that_has_waited() -> None:
    table: HalfOpen[Begun] = HalfOpen(total=100, per_network=2, patience_s=9.0)
    for port in range(2):
        _enter(table, address(port=port), float(port))
    assert table.make_room(address(port=9), 8.9) == (False, None)
    gone = _enter(table, address(port=9), 9.0)
    assert gone is not None
    assert gone.address == address(port=0)


def test_a_network_that_has_the_most_makes_room_for_itself() -> None:
    table: HalfOpen[Begun] = HalfOpen(total=3, per_network=3, patience_s=9.0)
    _enter(table, address("203.0.113.1"), 0.0)
    for port in range(2):
        _enter(table, address(port=port), 1.0)
    gone = _enter(table, address(port=7), 2.0)
    assert gone is not None
    assert gone.address == address(port=0)
    assert table.find(address("203.0.113.1")) is not None


def test_among_networks_with_one_each_one_of_them_makes_room() -> None:
    table: HalfOpen[Begun] = HalfOpen(total=2, per_network=2, patience_s=9.0)
    for host in ("203.0.113.1", "203.0.113.2"):
        _enter(table, address(host), 0.0)
    welcome, gone = table.make_room(address("203.0.113.3"), 1.0)
    assert welcome
    assert gone is not None
    assert gone.address.remote_host == "203.0.113.1"


def test_everything_is_forgotten_with_the_last_handshake() -> None:
    table: HalfOpen[Begun] = HalfOpen(total=4, per_network=2, patience_s=9.0)
    begun = [Begun(address(host)) for host in ("203.0.113.1", "203.0.113.2")]
    for one in begun:
        table.add(one)
    for one in (*begun, *begun):
        table.drop(one)
    assert len(table) == 0
    assert table.make_room(address(), 0.0) == (True, None)
