"""A reading position that never runs past its end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.cursor import Cursor, Truncated
from stellwerk.core.errors import PeerError


def test_fields_are_read_in_order_and_big_endian() -> None:
    cursor = Cursor(b"\x01\x02\x03abc")
    assert cursor.uint(1) == 1
    assert cursor.uint(2) == 0x0203
    assert cursor.take(3) == b"abc"
    assert cursor.left == 0


def test_reading_past_the_end_says_what_was_wanted_and_moves_nothing() -> None:
    cursor = Cursor(b"abcdef", offset=1, end=4)
    with pytest.raises(Truncated) as caught:
        cursor.take(4)
    assert (caught.value.offset, caught.value.wanted, caught.value.left) == (1, 4, 3)
    assert isinstance(caught.value, PeerError)
    assert cursor.take(3) == b"bcd"


@given(st.binary(max_size=40), st.lists(st.integers(0, 12), max_size=12))
@settings(max_examples=80, deadline=None)
def test_whatever_is_taken_are_the_bytes_themselves_up_to_the_end(data: bytes, counts: list[int]) -> None:
    cursor, taken = Cursor(data), b""
    for count in counts:
        try:
            piece = cursor.take(count)
        except Truncated:
            assert count > cursor.left
            continue
        assert len(piece) == count
        taken += piece
        assert cursor.left == len(data) - len(taken)
    assert data.startswith(taken)
