"""What options mean, and which requests they rule out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import codes, message, options
from stellwerk.coap.options import (
    BLOCK1,
    RULES,
    Block,
    block_exponent,
    decode_block,
    decode_uint,
    encode_block,
    encode_uint,
    is_critical,
    read_options,
    sort_options,
    text_options,
)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_numbers_survive_and_are_as_short_as_can_be(value):
    assert decode_uint(encode_uint(value)) == value
    assert encode_uint(value)[:1] != b"\x00"


@pytest.mark.spec("RFC 7252 3.2")
def test_leading_zeros_are_accepted():
    assert read_options(((12, b"\x00\x28"),)).content_format == 40


@pytest.mark.spec("RFC 7959 2.2")
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**20 - 1), st.booleans(), st.integers(0, 6))
def test_block_values_survive(number, more, exponent):
    assert decode_block(encode_block(number, more, exponent)) == Block(number, more, exponent)


@pytest.mark.spec("RFC 7959 2.2")
def test_block_sizes_and_offsets():
    assert [Block(3, False, exponent).size for exponent in range(7)] == [16, 32, 64, 128, 256, 512, 1024]
    assert Block(2, False, 5).offset == Block(1, False, 6).offset == 1024
    assert [block_exponent(size) for size in (1, 16, 31, 32, 512, 1000, 1024, 9999)] == [0, 0, 0, 1, 5, 5, 6, 6]
    assert decode_block(b"\x07") is None
    assert read_options(((BLOCK1, b"\x0f"),)).refusal == (codes.BAD_REQUEST, "Block1 with the reserved size 7")


def test_a_register_is_read_by_meaning():
    view = read_options(
        sort_options([*text_options(11, ("rd",)), *text_options(15, ("ep=dev1", "Q")), (12, b"\x28"), (17, b"\x70")])
    )
    assert (view.path, view.query, view.content_format, view.accept) == (("rd",), ("ep=dev1", "Q"), 40, 112)
    assert view.refusal is None


@pytest.mark.spec("RFC 7252 5.4.1")
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 65_535).filter(lambda number: number not in RULES), st.binary(max_size=4))
def test_unknown_options_matter_only_when_critical(number, value):
    refusal = read_options(((number, value),)).refusal
    if is_critical(number):
        assert refusal == (codes.BAD_OPTION, f"option {number} unknown")
    else:
        assert refusal is None


@pytest.mark.spec("RFC 7252 5.4.5")
def test_a_repeated_option_counts_as_unknown_from_the_second_on():
    assert read_options(((17, b"\x01"), (17, b"\x02"))).refusal == (codes.BAD_OPTION, "Accept 17 repeated")
    # Content-Format is elective: the second is ignored.
    view = read_options(((12, b"\x01"), (12, b"\x02")))
    assert (view.content_format, view.refusal) == (1, None)
    assert read_options(((292, b"a"), (292, b"b"))).request_tag == (b"a", b"b")


@pytest.mark.spec("RFC 7252 5.4.3")
def test_a_wrong_length_counts_as_unknown():
    assert read_options(((17, b"\x00\x00\x01"),)).refusal == (codes.BAD_OPTION, "Accept 17 has a wrong length")
    assert read_options(((12, b"\x00\x00\x01"),)).content_format is None
    assert read_options(((11, b"x" * 256),)).refusal == (codes.BAD_OPTION, "Uri-Path 11 has a wrong length")


@pytest.mark.spec("RFC 7252 5.10.1")
def test_a_path_that_is_no_text_is_not_understood():
    assert read_options(((11, b"\xff\xfe"),)).refusal == (codes.BAD_OPTION, "Uri-Path 11 is not UTF-8")
    assert read_options(((15, b"\xc3"),)).refusal == (codes.BAD_OPTION, "Uri-Query 15 is not UTF-8")


@pytest.mark.parametrize(
    ("number", "value", "code"),
    [
        (1, b"", codes.PRECONDITION_FAILED),
        (5, b"", codes.PRECONDITION_FAILED),
        (35, b"coap://x", codes.PROXYING_NOT_SUPPORTED),
        (39, b"coap", codes.PROXYING_NOT_SUPPORTED),
        (9, b"", codes.BAD_OPTION),
    ],
)
@pytest.mark.spec("RFC 7252 5.10")
def test_some_options_rule_a_request_out(number, value, code):
    refusal = read_options(((number, value),)).refusal
    assert refusal is not None
    assert refusal[0] == code


@pytest.mark.parametrize(("number", "value"), [(3, b"host"), (7, b"\x16\x33"), (258, b""), (16, b"\x10"), (252, b"e")])
def test_some_options_change_nothing(number, value):
    assert read_options(((number, value),)).refusal is None


@pytest.mark.spec("RFC 8613 2", "RFC 8613 8.2")
@given(st.binary(max_size=20))
def test_the_oscore_option_means_the_same_with_and_without_others(value):
    alone = read_options(((9, value),), True)
    among = read_options(((9, value), (14, b"\x3c")), True)
    assert alone.oscore == among.oscore == value
    assert alone.refusal == among.refusal == (codes.BAD_OPTION, "option 9 unknown")
    assert (alone.unknown, alone.around) == (among.unknown, among.around) == ("option 9 unknown", None)
    assert read_options(((9, value), (9, value)), True).unknown == "option 9 unknown"


def test_options_that_come_once_take_no_place_of_those_that_come_again():
    before = message._remember_options.cache_info().currsize, options._remember_view.cache_info().currsize
    for number in range(50):
        section = b"\x93\x09" + number.to_bytes(2, "big")
        read = message.decode_message(b"\x40\x02\x00\x01" + section + b"\xff" + bytes(9))
        assert options.read_options(read.options, True).oscore == section[1:]
    after = message._remember_options.cache_info().currsize, options._remember_view.cache_info().currsize
    assert after == before
