"""Frames: any bytes, cut anywhere, are messages or are refused by name."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.tcp.frames import FrameDecoder, FrameError, FrameTooLarge, decode_frame, encode_frame

PIECES = st.lists(st.integers(1, 400), min_size=1, max_size=40)
OPTIONS = st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=40)), max_size=4).map(
    lambda parts: tuple(sorted(parts, key=lambda part: part[0]))
)
FRAMES = st.builds(
    lambda code, token, options, payload: encode_frame(code, token, encode_options(options), payload),
    st.integers(0, 255),
    st.binary(max_size=8),
    OPTIONS,
    st.one_of(st.binary(max_size=30), st.integers(0, 700).map(lambda size: b"p" * size)),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    return pieces


def frames_of(pieces: list[bytes], limit: int = 1 << 20) -> list[bytes]:
    decoder = FrameDecoder(limit)
    found = []
    for piece in pieces:
        decoder.append(piece)
        while (frame := decoder.next()) is not None:
            found.append(frame)
    return found


@pytest.mark.spec("RFC 8323 3.2")
@given(st.lists(FRAMES, max_size=8), PIECES)
def test_a_stream_cut_anywhere_gives_the_same_frames(frames, sizes):
    assert frames_of(cut(b"".join(frames), sizes)) == frames


@given(FRAMES)
def test_a_frame_that_is_decoded_and_encoded_is_the_same(frame):
    message = decode_frame(frame)
    again = encode_frame(message.code, message.token, encode_options(message.options), message.payload)
    assert again == frame


@settings(max_examples=300)
@given(st.binary(max_size=300), PIECES)
def test_any_bytes_are_frames_or_are_refused(data, sizes):
    with contextlib.suppress(FrameError):
        for frame in frames_of(cut(data, sizes), limit=1000):
            assert isinstance(decode_frame(frame), Message)


@pytest.mark.spec("RFC 8323 3.2")
@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, "00"),
        (12, "c0"),
        (13, "d000"),
        (268, "d0ff"),
        (269, "e00000"),
        (65_804, "e0ffff"),
        (65_805, "f000000000"),
        (70_000, "f000001063"),
    ],
)
def test_the_length_is_written_in_as_few_bytes_as_it_needs(length, head):
    payload = b"p" * (length - 1) if length else b""
    frame = encode_frame(0x45, b"", b"", payload)
    assert frame[: len(head) // 2].hex() == head
    assert frames_of([frame]) == [frame]
    assert decode_frame(frame).payload == payload


@pytest.mark.spec("RFC 8323 3.2")
@pytest.mark.parametrize("token_length", range(9, 16))
def test_a_token_of_more_than_eight_bytes_is_refused_at_its_first_byte(token_length):
    decoder = FrameDecoder(1000)
    decoder.append(bytes((0x50 | token_length,)))
    with pytest.raises(FrameError, match="token longer than 8"):
        decoder.next()


@pytest.mark.spec("RFC 8323 5.3.1")
def test_a_frame_that_is_too_large_is_refused_by_its_header_before_it_is_here():
    decoder = FrameDecoder(1152)
    decoder.append(bytes.fromhex("f0 ffffffff"))
    with pytest.raises(FrameTooLarge) as refused:
        decoder.next()
    assert (refused.value.size, refused.value.limit) == (6 + 65_805 + 0xFFFFFFFF, 1152)
    at_the_limit = encode_frame(0x45, b"", b"", b"p" * 1147)
    assert len(at_the_limit) == 1152
    assert frames_of([at_the_limit], limit=1152) == [at_the_limit]
    with pytest.raises(FrameTooLarge):
        frames_of([at_the_limit], limit=1151)


@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        ("1002ff", "a payload marker without payload"),
        ("1002f0", "an option delta of 15"),
        ("10020f", "an option length of 15"),
        ("1002d0", "an option header beyond the end"),
        ("10023c", "an option value beyond the end"),
        ("30 02 e0fe00 ".replace(" ", ""), None),
        ("60 02 e0fef2 e0fef2".replace(" ", ""), "an option number above 65535"),
    ],
)
def test_broken_options_are_refused_by_name(frame, rule):
    if rule is None:
        assert decode_frame(bytes.fromhex(frame)).options == ((65_293, b""),)
        return
    with pytest.raises(FrameError, match=rule):
        decode_frame(bytes.fromhex(frame))


def test_a_frame_in_single_bytes_costs_no_more_than_itself():
    decoder = FrameDecoder(70_000)
    frame = encode_frame(0x45, b"", b"", b"p" * 60_000)
    for at in range(len(frame) - 1):
        decoder.append(frame[at : at + 1])
        assert decoder.next() is None
    assert decoder.held == len(frame) - 1
    decoder.append(frame[-1:])
    assert decoder.next() == frame
    assert decoder.held == 0


def test_a_token_of_ours_is_at_most_eight_bytes():
    with pytest.raises(ValueError, match="at most 8 bytes"):
        encode_frame(1, b"123456789", b"", b"")
