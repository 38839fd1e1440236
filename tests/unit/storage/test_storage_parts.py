"""The small parts that stores share: receipts, identifiers, eviction, content."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.ports import Limits
from stellwerk.storage.content import content_size, render
from stellwerk.storage.eviction import kept
from stellwerk.storage.identifiers import received_ids, sent_ids
from stellwerk.storage.receipts import KEEP_MS, ReceiptIndex

SALT = bytes(range(16))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        # Few different bytes, so that buckets are shared and receipts occur across the border of two neighbours.
        st.lists(st.lists(st.sampled_from([0, 1]), min_size=8, max_size=8).map(bytes), max_size=20),
        max_size=20,
    )
)
def test_a_receipt_is_found_in_exactly_the_batches_that_hold_it(batches: list[list[bytes]]) -> None:
    index = ReceiptIndex()
    for number, receipts in enumerate(batches):
        index.add(receipts, 100 * number, number)
    for wanted in {receipt for batch in batches for receipt in batch} | {bytes(8), bytes([1] * 8)}:
        holders = [100 * number for number, batch in reversed(list(enumerate(batches))) if wanted in batch]
        assert sorted(set(index.find(wanted)), reverse=True) == holders


@pytest.mark.spec("RFC 7252 4.8.2")
def test_receipts_are_forgotten_when_no_retransmission_can_come_any_more() -> None:
    index = ReceiptIndex()
    for second in range(2000):
        index.add([second.to_bytes(8, "big")], second, second * 1000)
    now_s = 1999
    for second in range(now_s - KEEP_MS // 1000, now_s + 1):
        assert index.find(second.to_bytes(8, "big")) == [second]
    assert len(index) < 2 * KEEP_MS // 1000


def test_a_clock_set_back_loses_no_receipt() -> None:
    index = ReceiptIndex()
    index.add([b"received"], 1, 1_000_000)
    index.add([b"set back"], 2, 500_000)
    for later in range(8):
        index.add([later.to_bytes(8, "big")], 3 + later, 500_000 + later * 20_000)
    assert index.find(b"received") == [1]
    assert index.find(b"set back") == [2]


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
@settings(max_examples=100, deadline=None)
def test_identifiers_are_stable_and_differ(first: int, second: int) -> None:
    ids = received_ids(SALT, 7, first)
    assert ids == received_ids(SALT, 7, first)
    assert len(ids.resource_id) == 24
    assert set(ids.resource_id) <= set("0123456789abcdef")
    assert str(uuid.UUID(ids.resource_name)) == ids.resource_name
    assert uuid.UUID(ids.resource_name).variant == uuid.RFC_4122
    assert uuid.UUID(ids.resource_name).version == 8
    assert sent_ids(SALT, first) != ids
    assert received_ids(bytes(16), 7, first) != ids
    assert (received_ids(SALT, 7, second) == ids) == (first == second)


@pytest.mark.spec("D2C 4.4")
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], (0, 0)),
        ([10, 10], (2, 20)),
        ([10, 10, 10, 10], (3, 30)),
        ([60, 40], (2, 100)),
        ([60, 41, 1], (1, 60)),
        ([500, 1], (1, 500)),
    ],
)
def test_the_newest_are_kept_and_the_stricter_limit_wins(sizes: list[int], expected: tuple[int, int]) -> None:
    assert kept(sizes, Limits(max_instances=3, max_bytes=100)) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_content_is_compact_json_of_the_same_value_and_its_size_is_in_bytes(content: Any) -> None:
    text, size = render(content)
    assert json.loads(text) == content
    assert size == len(text.encode())
    if not isinstance(content, str):
        assert content_size(text) == size


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_a_string_counts_without_quotes_and_escapes(content: str) -> None:
    assert content_size(json.dumps(content)) == len(content.encode())


def test_content_is_what_compact_json_would_be() -> None:
    content = {"a": [1, 2.5, True, None, 'ü\n"\\\u0001'], "b": {}, "c": -0.25, "d": 123456789012345678901234567890}
    assert render(content)[0] == json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def test_half_a_surrogate_pair_becomes_storable() -> None:
    text, size = render({"a": "\ud800"})
    assert (text, size) == ('{"a":"?"}', 9)
