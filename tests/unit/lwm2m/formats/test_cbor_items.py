"""The guard over the CBOR parser, and the writer, held against an independent implementation."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.formats.cbor_items import check_shape, load, write_value
from stellwerk.lwm2m.formats.errors import DecodeError, LimitExceeded, Malformed

PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(-8, 300) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=15,
)


def depth(item: object) -> int:
    if isinstance(item, list):
        return 1 + max(map(depth, item), default=0)
    if isinstance(item, dict):
        return 1 + max(map(depth, item.values()), default=0)
    return 0


@settings(max_examples=60, deadline=None)
@given(item=PLAIN, indefinite=st.booleans())
def test_every_plain_item_of_bounded_depth_is_loaded(item: object, indefinite: bool) -> None:
    payload = cbor2.dumps(item, indefinite_containers=indefinite)
    if depth(item) < 7:
        check_shape(payload)
        assert load(payload) == item


@settings(max_examples=60, deadline=None)
@given(item=PLAIN, cut=st.integers(1, 8), more=st.binary(min_size=1, max_size=3))
def test_less_or_more_than_one_item_is_refused(item: object, cut: int, more: bytes) -> None:
    payload = cbor2.dumps(item)
    for broken in (payload[: max(0, len(payload) - cut)], payload + more):
        with pytest.raises(DecodeError):
            load(broken)
        with pytest.raises(DecodeError):
            check_shape(broken)


@settings(max_examples=60, deadline=None)
@given(
    value=st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
def test_values_are_written_in_the_shortest_form(value: bool | int | float | str | bytes) -> None:
    assert write_value(value) == cbor2.dumps(value, canonical=True)


@pytest.mark.parametrize("tag", [2, 3, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 1004])
def test_tags_beyond_lwm2m_reach_no_parser(tag: int) -> None:
    for inner in (b"\x61a", b"\x41\x01", b"\x01", b"\x82\x01\x02"):
        with pytest.raises(Malformed):
            load(cbor2.dumps(cbor2.CBORTag(tag, 0))[:-1] + inner)


@pytest.mark.spec("LwM2M-contract 15")
def test_long_payloads_have_their_shape_checked_first() -> None:
    many = bytes.fromhex("9a00011000") + b"\x00" * 0x11000
    with pytest.raises(LimitExceeded):
        load(many)
    keys_of_arrays = bytes.fromhex("b90200") + b"".join(b"\x81" + bytes((0x19, i >> 8, i & 255, 0)) for i in range(512))
    with pytest.raises(Malformed, match="map key"):
        load(keys_of_arrays)
    with pytest.raises(LimitExceeded):
        check_shape(b"\x81" * 20 + b"\x00")


@pytest.mark.parametrize(
    "hexadecimal", ["ff", "81ff", "bf00ff", "1c", "5f6161ff", "5f5fffff", "7f4161ff", "9fff00", "f8"]
)
def test_ill_formed_items_are_refused_by_the_shape(hexadecimal: str) -> None:
    with pytest.raises(Malformed):
        check_shape(bytes.fromhex(hexadecimal))
    with pytest.raises(Malformed):
        load(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("hexadecimal", ["80ff", "80ff00", "80ffff", "00ff8080"])
def test_a_break_cannot_hide_what_follows(hexadecimal: str) -> None:
    with pytest.raises(Malformed):
        load(bytes.fromhex(hexadecimal))
