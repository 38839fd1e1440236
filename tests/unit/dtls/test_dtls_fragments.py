"""Messages out of fragments."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.fragments import Fragment, FragmentError, Reassembly


def _cut(message_seq: int, body: bytes, size: int) -> list[Fragment]:
    return [Fragment(11, len(body), message_seq, at, body[at : at + size]) for at in range(0, max(len(body), 1), size)]


@settings(max_examples=40)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    st.integers(1, 64),
    st.integers(0, 1 << 32),
    st.booleans(),
)
@pytest.mark.spec("RFC 6347 4.2.3")
def test_messages_come_whole_and_in_order_whatever_the_order_of_their_fragments(
    bodies: list[bytes], size: int, seed: int, doubled: bool
) -> None:
    size = max(size, max(len(body) for body in bodies) // 30 + 1)
    fragments = [fragment for number, body in enumerate(bodies, 3) for fragment in _cut(number, body, size)]
    fragments *= 2 if doubled else 1
    random.Random(seed).shuffle(fragments)
    reassembly = Reassembly(3, 4096)
    taken = []
    for fragment in fragments:
        reassembly.add(fragment)
        while (message := reassembly.take()) is not None:
            taken.append(message)
    assert taken == [(11, number, body) for number, body in enumerate(bodies, 3)]
    assert reassembly.take() is None


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12))
@pytest.mark.spec("RFC 6347 4.2.3")
def test_overlapping_fragments_make_the_message_they_are_pieces_of(pieces: list[tuple[int, int]]) -> None:
    body = bytes(range(60))
    reassembly = Reassembly(0, 4096)
    for at, length in pieces:
        reassembly.add(Fragment(11, 60, 0, at, body[at : at + length]))
    for at in (0, 20, 40):
        reassembly.add(Fragment(11, 60, 0, at, body[at : at + 20]))
    assert reassembly.take() == (11, 0, body)


def test_a_later_fragment_does_not_change_what_an_earlier_one_said() -> None:
    reassembly = Reassembly(0, 100)
    reassembly.add(Fragment(11, 4, 0, 0, b"ab"))
    reassembly.add(Fragment(11, 4, 0, 1, b"XYd"))
    assert reassembly.take() == (11, 0, b"abYd")


@pytest.mark.parametrize(
    ("fragments", "rule"),
    [
        ([Fragment(11, 101, 0, 0, b"x")], "a message of 101 bytes; 100 are taken"),
        ([Fragment(11, 3, 16, 0, b"x")], "a message too far ahead"),
        ([Fragment(11, 3, 0, 0, b"x"), Fragment(12, 3, 0, 1, b"x")], "fragments of one message differ"),
        ([Fragment(11, 3, 0, 0, b"x"), Fragment(11, 4, 0, 1, b"x")], "fragments of one message differ"),
        ([Fragment(11, 100, number, 0, b"x") for number in (1, 2, 3)], "too many bytes of unfinished messages"),
        ([Fragment(11, 100, 0, at, b"x") for at in range(0, 80, 2)], "a message in too many pieces"),
    ],
)
def test_what_contradicts_itself_or_grows_too_large_is_refused(fragments: list[Fragment], rule: str) -> None:
    reassembly = Reassembly(0, 100)

    def add_all() -> None:
        for fragment in fragments:
            reassembly.add(fragment)

    with pytest.raises(FragmentError, match=rule):
        add_all()


def test_bytes_of_messages_that_were_taken_count_no_more() -> None:
    reassembly = Reassembly(0, 100)
    for number in range(50):
        reassembly.add(Fragment(11, 100, number, 50, b"x" * 50))
        reassembly.add(Fragment(11, 100, number, 0, b"x" * 100))
        assert reassembly.take() is not None
