"""Two ends agree on a secret, and nobody makes us compute with a point off the curve."""

import pytest
from dtls_values import CountedEntropy
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.ecdhe import Ephemeral, KeyExchangeError

ONE = Ephemeral(CountedEntropy("one"))
OTHER = Ephemeral(CountedEntropy("other"))


@pytest.mark.spec("RFC 8422 5.10")
def test_both_ends_get_the_same_secret() -> None:
    assert ONE.shared(OTHER.point) == OTHER.shared(ONE.point)
    assert len(ONE.shared(OTHER.point)) == 32
    assert ONE.point != OTHER.point


def test_the_same_entropy_gives_the_same_key() -> None:
    assert Ephemeral(CountedEntropy("one")).point == ONE.point


@pytest.mark.spec("RFC 8422 5.4", "RFC 8422 5.11")
@pytest.mark.parametrize(
    "point",
    [
        b"",
        b"\0",
        b"\2" + OTHER.point[1:33],
        b"\3" + OTHER.point[1:],
        OTHER.point[:-1],
        OTHER.point + b"\0",
        OTHER.point[:-1] + bytes((OTHER.point[-1] ^ 1,)),
        b"\4" + bytes(64),
        b"\4" + b"\xff" * 64,
    ],
)
def test_what_is_no_uncompressed_point_on_the_curve_is_refused(point: bytes) -> None:
    with pytest.raises(KeyExchangeError):
        ONE.shared(point)


@given(st.binary(min_size=63, max_size=65))
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(KeyExchangeError):
        ONE.shared(b"\4" + data)
