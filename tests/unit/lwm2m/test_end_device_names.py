"""What an end device is called, whatever its gateway calls it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.lwm2m.end_device_names import device_name, is_global, node_id, other_device_name

NAME = re.compile(r"[0-9A-Za-z_:-]{1,255}")
NODE_ID = re.compile(r"[!-~]{1,255}")
GATEWAY = st.text("0123456789abcXYZ_:-", min_size=1, max_size=255)
DEVICE_ID = st.text(min_size=1, max_size=255)


@pytest.mark.spec("LwM2M-contract 12")
@given(GATEWAY, DEVICE_ID)
def test_a_name_and_a_node_id_are_always_allowed(gateway: str, device_id: str) -> None:
    assert NAME.fullmatch(device_name(gateway, device_id))
    assert NAME.fullmatch(other_device_name(gateway, device_id))
    assert NODE_ID.fullmatch(node_id(f"urn:x:{gateway}"[:255], device_id))


@given(GATEWAY, DEVICE_ID, DEVICE_ID)
def test_two_devices_of_one_gateway_have_two_names(gateway: str, one: str, other: str) -> None:
    if one != other:
        assert node_id(gateway, one) != node_id(gateway, other)
        assert other_device_name(gateway, one) != other_device_name(gateway, other)


def test_names_are_what_people_expect() -> None:
    assert device_name("gw1", "d7") == "gw1-d7"
    assert device_name("gw1", "a.b").startswith("gw1-a_b-")
    assert node_id("urn:imei:35", "d7") == "urn:imei:35:d7"
    assert node_id("urn:imei:35", "urn:dev:mac:0024befffe804ff1") == "urn:dev:mac:0024befffe804ff1"
    assert [is_global(each) for each in ("urn:dev:os:1", "urn:", "urn:dev:a b", "d7")] == [True, False, False, False]
