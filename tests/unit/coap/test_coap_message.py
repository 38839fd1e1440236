"""The codec: what is a message, what is not, and that nothing else happens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap.message import (
    ACK,
    CON,
    NON,
    RST,
    Message,
    MessageFormatError,
    decode_message,
    encode_empty,
    encode_message,
    encode_options,
)

options_strategy = st.lists(
    st.tuples(st.one_of(st.integers(0, 40), st.integers(0, 65_535)), st.binary(max_size=300)), max_size=8
).map(lambda items: tuple(sorted(items, key=lambda item: item[0])))

messages = st.builds(
    Message,
    type=st.integers(0, 3),
    code=st.integers(1, 255),
    mid=st.integers(0, 65_535),
    token=st.binary(max_size=8),
    options=options_strategy,
    payload=st.binary(max_size=64),
)


@pytest.mark.spec("RFC 7252 3")
@settings(max_examples=150, deadline=None)
@given(messages)
def test_every_message_survives_the_wire(message):
    assert decode_message(encode_message(message)) == message


@pytest.mark.spec("RFC 7252 3")
@settings(max_examples=250, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=30).map(lambda tail: b"\x41\x02\x12\x34\x01" + tail)))
def test_any_bytes_are_a_message_or_a_format_error(data):
    try:
        message = decode_message(data)
    except MessageFormatError:
        return
    again = decode_message(encode_message(message))
    assert again == message


@pytest.mark.spec("RFC 7252 3.1")
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120), st.binary(min_size=1, max_size=20))
def test_a_marker_byte_inside_an_option_value_ends_nothing(prefix, payload):
    value = prefix + b"\xff" + prefix
    message = Message(CON, 2, 7, b"t", ((11, b"rd"), (2049, value)), payload)
    assert decode_message(encode_message(message)) == message


@pytest.mark.spec("RFC 7252 3")
@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ("", "shorter than the header"),
        ("400112", "shorter than the header"),
        ("00011234", "unknown version"),
        ("80011234", "unknown version"),
        ("49011234" + "00" * 9, "a token longer than 8 bytes"),
        ("4f011234" + "00" * 15, "a token longer than 8 bytes"),
        ("4401123401", "a token beyond the end"),
        ("41001234aa", "an empty message with content"),
        ("40001234ff", "an empty message with content"),
        ("40011234ff", "a payload marker without payload"),
        ("40011234b1", "an option value beyond the end"),
        ("40011234b272", "an option value beyond the end"),
        ("40011234d0", "an option header beyond the end"),
        ("40011234e000", "an option header beyond the end"),
        ("400112340d", "an option header beyond the end"),
        ("400112340e00", "an option header beyond the end"),
        ("40011234f000", "an option delta of 15"),
        ("400112340f00", "an option length of 15"),
        ("40011234e0ffffe0ffff", "an option number above 65535"),
    ],
)
def test_a_broken_rule_is_named(data, rule):
    with pytest.raises(MessageFormatError) as caught:
        decode_message(bytes.fromhex(data))
    assert caught.value.rule == rule


@pytest.mark.spec("RFC 7252 4.2")
def test_a_format_error_says_what_a_reset_needs():
    with pytest.raises(MessageFormatError) as caught:
        decode_message(bytes.fromhex("40011234ff"))
    assert (caught.value.type, caught.value.mid) == (CON, 0x1234)
    with pytest.raises(MessageFormatError) as caught:
        decode_message(bytes.fromhex("80011234"))
    assert (caught.value.type, caught.value.mid) == (None, None)


@pytest.mark.spec("RFC 7252 4.1")
@pytest.mark.parametrize(("kind", "first"), [(CON, "40"), (NON, "50"), (ACK, "60"), (RST, "70")])
def test_an_empty_message_is_four_bytes(kind, first):
    assert encode_empty(kind, 0xABCD).hex() == first + "00abcd"
    assert decode_message(encode_empty(kind, 0xABCD)) == Message(kind, 0, 0xABCD)


def test_what_cannot_be_said_is_our_mistake():
    with pytest.raises(ValueError, match="at most 8"):
        encode_message(Message(CON, 1, 1, bytes(9)))
    with pytest.raises(ValueError, match="out of order"):
        encode_options(((11, b"a"), (6, b"")))
