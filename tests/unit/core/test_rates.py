"""Buckets of tokens: how much at once, how much in the long run, and how many buckets."""

import pytest

from stellwerk.core.rates import TokenBuckets


@pytest.mark.spec("LwM2M-contract 15")
def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(2.0, 5.0)
    assert [buckets.take("a", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not buckets.take("a", 0.4)
    assert buckets.take("a", 0.9)
    assert not buckets.take("a", 0.9)
    assert [buckets.take("a", 1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_buckets_do_not_share() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(1.0, 1.0)
    assert [buckets.take(key, 0.0) for key in "aba"] == [True, True, False]


def test_less_than_one_in_a_second_is_seldom_and_not_never() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(0.25, 0.25)
    assert [buckets.take("a", at) for at in (0.0, 1.0, 4.0)] == [True, False, True]


def test_a_rate_of_zero_is_no_bound() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(0.0, 0.0)
    assert all(buckets.take("a", 0.0) for _ in range(1000))
    assert len(buckets) == 0


def test_a_thousand_keys_leave_as_many_buckets_as_may_be() -> None:
    buckets: TokenBuckets[int] = TokenBuckets(1.0, 1.0, keys=10)
    for key in range(1000):
        buckets.take(key, 0.0)
    assert len(buckets) == 10
    assert not buckets.take(999, 0.0)
