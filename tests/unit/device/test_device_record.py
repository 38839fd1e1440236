"""What people wrote about a device: uplink properties and the endpoint names that mean it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.device.record import endpoint_aliases, uplink_labels


@pytest.mark.spec("D2C 8")
def test_uplink_properties_lose_their_prefix_keep_their_order_and_others_stay_behind() -> None:
    labels = (
        "d2c:1.0",
        "d2c-uplink-property_Room:room123",
        "anyKey:anyValue",
        "UplinkProperty_Floor:2",
        "DeviceProperty_Colour:red",
        "profile:SCS-LwM2M",
    )
    assert uplink_labels(labels) == ("Room:room123", "Floor:2")


def test_without_uplink_properties_nothing_is_copied() -> None:
    assert uplink_labels(()) == ()
    assert uplink_labels(("xd2c-uplink-property_Room:1", "Room:1")) == ()


@pytest.mark.spec("D2C 6.6")
def test_an_imei_node_is_found_by_urn_by_the_rest_by_the_number_and_by_its_name_in_this_order() -> None:
    assert endpoint_aliases("urn:gsma:imei:490154203237518", "meter-7") == (
        ("urn:gsma:imei:490154203237518", 2),
        ("gsma:imei:490154203237518", 3),
        ("490154203237518", 4),
        ("meter-7", 5),
    )


@pytest.mark.spec("D2C 6.6")
def test_a_plain_node_id_has_one_alias_besides_the_name() -> None:
    assert endpoint_aliases("meter-7", "meter-7") == (("meter-7", 2),)
    assert endpoint_aliases("abc", "meter") == (("abc", 2), ("meter", 5))


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_aliases_are_never_empty_texts_and_each_has_one_rank(node_id: str, name: str) -> None:
    aliases = endpoint_aliases(node_id, name)
    texts = [alias for alias, _ in aliases]
    assert all(texts)
    assert len(set(texts)) == len(texts)
    ranks = [rank for _, rank in aliases]
    assert ranks == sorted(ranks)
    if node_id:
        assert aliases[0] == (node_id, 2)
