"""When a registration ends."""

from dataclasses import replace

import pytest

from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.registration import INFINITE_MS, Registration
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.schema.library import Library

BODY = b"</3/0>"


@pytest.fixture
def registration() -> Registration:
    return Registration(
        location="abc",
        device_id=DeviceId(1),
        endpoint_name="dev1",
        peer=PeerId("udp", "192.0.2.1", 5683),
        version="1.1",
        lifetime_s=300,
        binding="U",
        queue_mode=False,
        body=BODY,
        objects=decode_object_list(BODY),
        types=Library.builtin().for_device("1.1", {3: None}),
        registered_ms=1_000,
        updated_ms=5_000,
    )


@pytest.mark.spec("R-6")
def test_it_ends_a_lifetime_and_a_grace_after_the_last_update(registration: Registration) -> None:
    assert registration.deadline_ms(0) == 305_000
    assert registration.deadline_ms(93.5) == 398_500


@pytest.mark.spec("R-5")
def test_a_lifetime_of_zero_has_no_end(registration: Registration) -> None:
    assert replace(registration, lifetime_s=0).deadline_ms(93) == INFINITE_MS
    assert replace(registration, lifetime_s=2**32 - 1).deadline_ms(93) < INFINITE_MS
