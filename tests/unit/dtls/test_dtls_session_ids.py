"""Ids of sessions: whether we gave one is seen by itself."""

from random import Random

import pytest
from dtls_wire import Seeded

from stellwerk.dtls.session_ids import SessionIds

SECRET = b"s" * 32


@pytest.mark.spec("RFC 9146 3", "Design 4")
def test_an_id_begins_with_the_node_and_is_known_by_whoever_has_the_secret() -> None:
    given = SessionIds(7, SECRET, Seeded(1)).draw()
    assert (len(given), given[0]) == (8, 7)
    # Another node, and the same one after a restart.
    assert SessionIds(8, SECRET, Seeded(2)).is_given(given)
    assert SessionIds(7, SECRET, Seeded(3)).is_given(given)
    assert not SessionIds(7, b"t" * 32, Seeded(1)).is_given(given)


def test_an_id_with_another_check_or_of_another_length_is_none() -> None:
    ids = SessionIds(0, SECRET, Seeded(1))
    given = ids.draw()
    assert [check for check in range(256) if ids.is_given(given[:7] + bytes((check,)))] == [given[7]]
    for other in (b"", given[:7], given + b"\0", given[:6]):
        assert not ids.is_given(other)


def test_without_a_secret_every_engine_has_its_own() -> None:
    ids, other = (SessionIds(0, None, Seeded(seed)) for seed in (1, 2))
    given = ids.draw()
    assert ids.is_given(given)
    assert not other.is_given(given)


@pytest.mark.spec("LwM2M-contract 15")
def test_of_ids_that_are_made_up_one_in_256_passes() -> None:
    ids, draw = SessionIds(0, SECRET, Seeded(1)), Random(1).randbytes
    assert 40 < sum(ids.is_given(b"\0" + draw(7)) for _ in range(20_000)) < 120
