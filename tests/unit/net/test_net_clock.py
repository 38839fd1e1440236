"""Unpredictable bytes in portions."""

from stellwerk.net.clock import SystemEntropy


def test_no_byte_is_given_twice_across_the_portions_it_is_drawn_in() -> None:
    entropy = SystemEntropy()
    taken = [entropy.take(16) for _ in range(1_000)]
    assert {len(each) for each in taken} == {16}
    assert len(set(taken)) == 1_000


def test_more_than_a_portion_comes_whole() -> None:
    entropy = SystemEntropy()
    entropy.take(3)
    assert len(entropy.take(100_000)) == 100_000
    assert entropy.take(0) == b""
