"""How often handshakes may begin."""

import pytest

from stellwerk.app.meters import SecureMeters
from stellwerk.core.ids import PeerId
from stellwerk.southbound.secure_listener import Rates, SecureSettings


def at(host: str, port: int = 1000) -> PeerId:
    return PeerId("udp", host, port, "192.0.2.1", 5684)


@pytest.mark.spec("LwM2M-contract 15")
def test_one_address_does_not_take_all_handshakes_with_public_keys() -> None:
    meters = SecureMeters()
    rates = Rates(SecureSettings(with_certificates=400.0), meters)
    greedy = at("198.51.100.1")
    refused = 0
    for tenth in range(100):
        now = 100.0 + tenth / 10
        for _ in range(50):
            refused += not rates.public_key(greedy, now)
        if tenth >= 20:
            assert rates.public_key(at("198.51.100.2", tenth), now)
    assert meters.limited == {"certificates": refused}
    # A village that comes once is let in, and then a quarter of what all have.
    assert 5000 - refused == pytest.approx(400 + 100 * 9.9, abs=2)


def test_rates_of_nought_are_no_bounds() -> None:
    rates = Rates(SecureSettings(with_certificates=0.0, per_address=0.0), SecureMeters())
    assert all(rates.public_key(at("198.51.100.1"), 1.0) for _ in range(1000))
    assert all(rates.address(at("198.51.100.1"), 1.0) for _ in range(1000))
