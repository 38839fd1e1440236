"""How a device has to come, as people are told."""

import pytest

from stellwerk.app.speaking import right_way


@pytest.mark.spec("SEC-6")
@pytest.mark.parametrize(
    ("security", "way"),
    [
        ("psk", "coaps:// or coaps+tcp://, at the port that STELLWERK_COAPS_PORT names"),
        ("x509", "coaps:// or coaps+tcp://, at the port that STELLWERK_COAPS_PORT names"),
        ("rpk", "coaps://, at the port that STELLWERK_COAPS_PORT names"),
        ("rpk+oscore", "OSCORE within coaps://, at the port that STELLWERK_COAPS_PORT names"),
        ("oscore", "OSCORE over coap:// or coap+tcp://, at the port that STELLWERK_COAP_PORT names"),
    ],
)
def test_the_layers_the_schemes_and_the_setting_of_the_port_are_named(security: str, way: str) -> None:
    assert right_way(security) == way
    other = right_way(security, "STELLWERK_BOOTSTRAP_")
    assert other == way.replace("STELLWERK_", "STELLWERK_BOOTSTRAP_")
