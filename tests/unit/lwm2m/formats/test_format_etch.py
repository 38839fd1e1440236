"""SenML-ETCH: values as SenML has them, and nulls."""

import json
from dataclasses import replace

import cbor2
import pytest

from stellwerk.lwm2m.content import Content, Entry, Untyped
from stellwerk.lwm2m.formats import EncodeError
from stellwerk.lwm2m.formats.etch import encode_changes
from stellwerk.lwm2m.path import Path

VALUES = Content((Entry(Path(1, 0, 1), 60), Entry(Path(3, 0, 15), "UTC")))
REMOVED = (Path(3, 0, 7, 1), Path(3, 0, 7, 2))


def resolved(records: list[dict[int | str, object]], bn: int | str, n: int | str) -> list[str]:
    """The full names."""
    base, names = "", []
    for record in records:
        base = str(record.get(bn, base))
        names.append(base + str(record.get(n, "")))
    return names


@pytest.mark.spec("LwM2M-contract 8")
@pytest.mark.parametrize("root", ["", '/l"w'])
@pytest.mark.parametrize("content", [VALUES, Content()])
def test_nulls_stand_before_the_values_under_full_names(content: Content, root: str) -> None:
    paths = [*map(str, REMOVED), *(str(entry.path) for entry in content.entries)]
    records = cbor2.loads(encode_changes(322, replace(content, removed=REMOVED), Untyped(), root))
    assert resolved(records, -2, 0) == [root + each for each in paths]
    assert [each[2] for each in records[:2]] == [None, None]
    records = json.loads(encode_changes(320, replace(content, removed=REMOVED), Untyped(), root))
    assert resolved(records, "bn", "n") == [root + each for each in paths]
    assert [each["v"] for each in records[:2]] == [None, None]


def test_many_records_have_a_longer_head() -> None:
    content = Content(tuple(Entry(Path(3, 0, each), each) for each in range(22)), removed=REMOVED)
    assert len(cbor2.loads(encode_changes(322, content, Untyped(), ""))) == 24


def test_other_formats_have_no_null() -> None:
    with pytest.raises(EncodeError, match="SenML-ETCH"):
        encode_changes(112, replace(VALUES, removed=REMOVED), Untyped(), "")
