"""The OSCORE option, protected messages as such, and the replay window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.coap import codes
from stellwerk.coap.message import Options
from stellwerk.coap.options import MAX_AGE, OBSERVE, URI_HOST, URI_PATH
from stellwerk.coap.oscore.context import (
    AEADS,
    Keys,
    UnusableMaterial,
    Unverified,
    decode_bytes,
    encode_bytes,
    refusal_of,
)
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.option import BrokenOption, OscoreOption, decode_option, encode_number, encode_option
from stellwerk.coap.oscore.protection import open_request, open_response, seal_request, seal_response
from stellwerk.coap.oscore.replay import WINDOW, ReplayWindow

CLIENT = Keys(ContextMaterial(1, b"dev", b"s", b"k" * 16))
SERVER = Keys(ContextMaterial(1, b"s", b"dev", b"k" * 16))
OPTIONS = st.builds(
    OscoreOption,
    st.none() | st.binary(min_size=1, max_size=5),
    st.none() | st.binary(max_size=7),
    st.none() | st.binary(max_size=40),
)
MESSAGE_OPTIONS: st.SearchStrategy[Options] = st.lists(
    st.tuples(st.sampled_from((1, 3, 4, 6, 7, 11, 12, 14, 15, 17, 23, 27, 60, 252, 65_000)), st.binary(max_size=20)),
    max_size=8,
).map(lambda found: tuple(sorted(found, key=lambda option: option[0])))


@pytest.mark.spec("RFC 8613 6.1")
@given(option=OPTIONS)
def test_an_option_is_read_as_it_was_written(option: OscoreOption):
    assert decode_option(encode_option(option)) == option


@pytest.mark.spec("RFC 8613 6.1", "RFC 8613 8.2")
@given(value=st.binary(max_size=40))
def test_any_value_is_read_or_refused(value: bytes):
    try:
        option = decode_option(value)
    except BrokenOption:
        return
    assert encode_option(option) == value


@pytest.mark.spec("RFC 8613 6.1")
@pytest.mark.parametrize(
    "value",
    [
        "00",
        "0000",
        "2914",
        "4914",
        "8914",
        "06010203040506",
        "0701020304050607",
        "02aa",
        "10",
        "1005aa",
        "0114ff",
        "19",
    ],
)
def test_a_value_that_breaks_the_rules_is_refused(value: str):
    with pytest.raises(BrokenOption):
        decode_option(bytes.fromhex(value))


@pytest.mark.spec("RFC 8613 5")
def test_numbers_have_no_leading_zeros_and_zero_is_one_byte():
    assert [encode_number(each).hex() for each in (0, 1, 255, 256, (1 << 40) - 1)] == [
        "00",
        "01",
        "ff",
        "0100",
        "ffffffffff",
    ]


@given(value=st.binary(max_size=70))
def test_a_byte_string_is_unwrapped_and_nothing_else(value: bytes):
    assert decode_bytes(encode_bytes(value)) == value
    held = decode_bytes(value)
    assert held is None or encode_bytes(held) == value


@pytest.mark.spec("RFC 8613 4.1", "RFC 8613 8.1", "RFC 8613 8.2")
@given(
    number=st.integers(0, (1 << 40) - 1),
    code=st.integers(1, 7),
    options=MESSAGE_OPTIONS,
    payload=st.binary(max_size=40),
)
def test_a_request_says_to_the_other_end_what_it_said_before(number: int, code: int, options: Options, payload: bytes):
    sealed, binding = seal_request(CLIENT, number, code, options, payload, None)
    outer = tuple(each for each in options if each[0] in (3, 7))
    opened, bound = open_request(SERVER, OscoreOption(binding.piv, b"dev"), outer, sealed.payload)
    assert (opened.code, opened.payload, bound) == (code, payload, binding)
    assert opened.options == options
    assert sealed.code == (codes.FETCH if any(each == OBSERVE for each, _ in options) else codes.POST)


@pytest.mark.spec("RFC 8613 4.1.3.5", "RFC 8613 8.3", "RFC 8613 8.4")
@given(number=st.none() | st.integers(0, (1 << 40) - 1), options=MESSAGE_OPTIONS, payload=st.binary(max_size=40))
def test_a_response_does_too_and_its_observe_is_its_number(number: int | None, options: Options, payload: bytes):
    _, binding = seal_request(CLIENT, 3, 1, (), b"", None)
    sealed = seal_response(SERVER, binding, number, codes.CONTENT, options, payload)
    piv = None if number is None else encode_number(number)
    outer = tuple(each for each in options if each[0] in (3, 7))
    opened = open_response(CLIENT, binding, OscoreOption(piv), outer, sealed.payload)
    low = ((number or 0) & 0xFFFFFF).to_bytes(3, "big").lstrip(b"\0")
    assert opened.options == tuple((each, low if each == OBSERVE else value) for each, value in options)
    assert (opened.code, opened.payload) == (codes.CONTENT, payload)


@pytest.mark.spec("RFC 8613 8.2", "RFC 8613 D.4")
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_flipped_bit_passes(at: int, bit: int):
    sealed, binding = seal_request(CLIENT, 9, 2, ((URI_PATH, b"rd"),), b"lt=60", None)
    changed = bytearray(binding.piv + sealed.payload)
    changed[at % len(changed)] ^= 1 << bit
    piv, ciphertext = bytes(changed[:1]), bytes(changed[1:])
    with pytest.raises(Unverified):
        open_request(SERVER, OscoreOption(piv, b"dev"), (), ciphertext)
    with pytest.raises(Unverified):
        open_response(CLIENT, binding, OscoreOption(), (), ciphertext)


@pytest.mark.spec("RFC 8613 8.2")
@given(plain=st.binary(max_size=20))
def test_whatever_a_peer_protects_is_read_or_refused(plain: bytes):
    sealed = CLIENT.seal(CLIENT.nonce(b"dev", b"\1"), plain, CLIENT.associated_data(b"dev", b"\1"))
    try:
        opened, _ = open_request(SERVER, OscoreOption(b"\1", b"dev"), (), sealed)
    except Unverified:
        return
    assert codes.is_request(opened.code)


@pytest.mark.spec("RFC 8613 4.1", "RFC 8613 8.2")
def test_what_stands_outside_counts_only_where_it_belongs_there():
    sealed, binding = seal_request(CLIENT, 1, 1, ((URI_HOST, b"inner"), (URI_PATH, b"a")), b"", None)
    outer = ((URI_HOST, b"outer"), (URI_PATH, b"b"), (MAX_AGE, b"\1"))
    opened, _ = open_request(SERVER, OscoreOption(binding.piv, b"dev"), outer, sealed.payload)
    assert opened.options == ((URI_HOST, b"outer"), (URI_PATH, b"a"))


@pytest.mark.spec("RFC 8613 3.2.2", "RFC 8613 7.4")
@given(numbers=st.lists(st.integers(0, 120), max_size=80))
def test_no_number_passes_the_window_twice(numbers: list[int]):
    window = ReplayWindow(10)
    taken = set()
    for number in numbers:
        fresh = window.is_new(number)
        assert fresh == (number > 10 and number not in taken and number > window.highest - WINDOW)
        if fresh:
            window.take(number)
            taken.add(number)


@pytest.mark.spec("RFC 8613 3.2.2", "RFC 8613 7.4")
def test_of_the_last_32_numbers_those_that_did_not_come_may_and_no_older_one():
    window = ReplayWindow(0)
    window.take(40)
    assert [number for number in range(42) if window.is_new(number)] == [*range(9, 40), 41]
    # One far behind is no more than that, and costs nothing.
    far = ReplayWindow((1 << 40) - 1)
    far.take(0)
    assert far.highest == (1 << 40) - 1
    assert not far.is_new(0)


@pytest.mark.spec("RFC 8613 7.4")
def test_a_message_without_effect_may_come_again():
    window = ReplayWindow(0)
    window.take(5)
    assert not window.is_new(5)
    window.forget(5)
    assert window.is_new(5)


@pytest.mark.spec("RFC 8613 3.2.1", "RFC 8613 3.3")
def test_material_that_makes_no_context_is_refused_in_words_without_the_secret():
    good = ContextMaterial(1, b"a", b"b", b"topsecret-0123456")
    assert refusal_of(good) is None
    assert "topsecret" not in repr(good)
    bad = [
        ContextMaterial(1, b"a", b"b", b"topsecret-0123456", aead=99),
        ContextMaterial(1, b"a", b"b", b"topsecret-0123456", hkdf=0),
        ContextMaterial(1, b"12345678", b"b", b"topsecret-0123456"),
        ContextMaterial(1, b"12", b"b", b"topsecret-0123456", aead=12),
        ContextMaterial(1, b"a", b"a", b"topsecret-0123456"),
        ContextMaterial(1, b"a", b"b", b""),
    ]
    for each in bad:
        text = refusal_of(each)
        assert text is not None
        assert "topsecret" not in text
        with pytest.raises(UnusableMaterial):
            Keys(each)
    assert {10, 30} <= set(AEADS)
