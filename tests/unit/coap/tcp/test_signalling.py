"""Signalling messages: what they say, and what ends a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.coap.message import encode_options
from stellwerk.coap.tcp import signalling
from stellwerk.coap.tcp.frames import decode_frame, encode_frame
from stellwerk.coap.tcp.signalling import BadSignal, Capabilities, ReleaseNotice


def signal(code, *options, payload=b""):
    return decode_frame(encode_frame(code, b"", encode_options(tuple(options)), payload))


@pytest.mark.spec("RFC 8323 5.3")
def test_capabilities_begin_at_the_base_values_and_change_by_what_a_csm_names():
    base = Capabilities()
    assert (base.message_bytes, base.block_wise, base.bert) == (1152, False, False)
    large = signalling.decode_csm(signal(signalling.CSM, (2, b"\x01\x00\x00"), (4, b"")), base)
    assert (large.message_bytes, large.bert) == (65_536, True)
    # The second CSM says a smaller size and nothing of blocks.
    small = signalling.decode_csm(signal(signalling.CSM, (2, b"\x04\x80")), large)
    assert (small.message_bytes, small.block_wise, small.bert) == (1152, True, False)


@given(st.integers(256, 2**32 - 1), st.booleans())
def test_a_csm_says_what_was_meant(size, block_wise):
    meant = Capabilities(size, block_wise)
    assert signalling.decode_csm(decode_frame(signalling.encode_csm(meant)), Capabilities()) == meant


@pytest.mark.spec("RFC 8323 5.2")
def test_an_unknown_critical_option_is_refused_with_its_number_and_an_elective_one_passed_over():
    with pytest.raises(BadSignal, match="critical option 3 is unknown in a CSM") as refused:
        signalling.decode_csm(signal(signalling.CSM, (3, b"x")), Capabilities())
    assert refused.value.number == 3
    assert signalling.decode_csm(signal(signalling.CSM, (6, b"x")), Capabilities()) == Capabilities()
    # Of a wrong length or repeated, a known elective option is an unknown one.
    wrong = signal(signalling.CSM, (2, b"\x00\x01\x00\x00\x00"), (4, b"1"))
    assert signalling.decode_csm(wrong, Capabilities()) == Capabilities()
    twice = signal(signalling.CSM, (2, b"\x10\x00"), (2, b"\x20\x00"))
    assert signalling.decode_csm(twice, Capabilities()).message_bytes == 4096


def test_an_end_that_takes_next_to_nothing_is_refused():
    with pytest.raises(BadSignal, match="Max-Message-Size of 255") as refused:
        signalling.decode_csm(signal(signalling.CSM, (2, b"\xff")), Capabilities())
    assert refused.value.number == 2


@pytest.mark.spec("RFC 8323 5.5")
def test_a_release_names_addresses_and_a_pause():
    told = signal(signalling.RELEASE, (2, b"a.example:5683"), (2, b"[2001:db8::1]"), (4, b"\x0e\x10"))
    notice = ReleaseNotice(("a.example:5683", "[2001:db8::1]"), 3600)
    assert signalling.decode_release(told) == notice
    assert signalling.decode_release(decode_frame(signalling.encode_release(notice))) == notice
    many = signal(signalling.RELEASE, *((2, b"a") for _ in range(50)))
    assert len(signalling.decode_release(many).alternatives) == 8


@pytest.mark.spec("RFC 8323 5.6")
def test_an_abort_says_why_in_few_words():
    told = decode_frame(signalling.encode_abort("too much", 5))
    assert signalling.decode_abort(told) == "too much (CSM option 5)"
    assert len(signalling.decode_abort(signal(signalling.ABORT, payload=b"\xff" * 5000))) == 200


@pytest.mark.spec("RFC 8323 5.4")
def test_ping_and_pong_carry_their_token():
    ping = decode_frame(signalling.encode_ping(b"tok", custody=True))
    assert (ping.code, ping.token, signalling.decode_custody(ping)) == (signalling.PING, b"tok", True)
    pong = decode_frame(signalling.encode_pong(b"tok", custody=False))
    assert (pong.code, pong.token, signalling.decode_custody(pong)) == (signalling.PONG, b"tok", False)
    with pytest.raises(BadSignal):
        signalling.decode_custody(signal(signalling.PING, (1, b"")))
