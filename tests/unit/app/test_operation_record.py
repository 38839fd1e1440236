"""Operations as text and back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.operation_record import decode_operation, encode_operation
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.operations import (
    CancelComposite,
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteAttributes,
    WriteComposite,
)
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.paths import PathListError, Paths
from stellwerk.lwm2m.value import ObjectLink

IDS = st.integers(0, 65535)
PATHS = st.lists(IDS, max_size=4).map(lambda ids: Path(*ids))
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.binary(max_size=10),
    st.builds(ObjectLink, IDS, IDS),
)
ENTRIES = st.builds(Entry, PATHS, VALUES, st.one_of(st.none(), st.floats(0, 1e10)))
SOME_PATHS = st.lists(PATHS, max_size=2).map(tuple)
CONTENTS = st.builds(Content, st.lists(ENTRIES, max_size=3).map(tuple), SOME_PATHS, SOME_PATHS)
FORMATS = st.one_of(st.none(), st.integers(0, 65535))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ATTRIBUTES = st.lists(st.tuples(TEXTS, st.one_of(st.none(), TEXTS)), max_size=3).map(tuple)
LISTS = st.lists(PATHS, min_size=1, max_size=4).map(Paths)
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Read, PATHS, FORMATS),
    st.builds(Observe, PATHS, FORMATS),
    st.builds(CancelObservation, PATHS, FORMATS, st.booleans(), ATTRIBUTES),
    st.builds(Observe, PATHS, FORMATS, ATTRIBUTES),
    st.builds(ReadComposite, LISTS, FORMATS, FORMATS),
    st.builds(ObserveComposite, LISTS, FORMATS, FORMATS, ATTRIBUTES),
    st.builds(CancelComposite, LISTS, FORMATS, FORMATS, st.booleans()),
    st.builds(WriteComposite, CONTENTS.filter(lambda each: each.entries or each.removed), FORMATS),
    st.builds(Discover, PATHS, st.one_of(st.none(), st.integers(0, 3))),
    st.builds(Write, PATHS, CONTENTS, st.booleans(), FORMATS),
    st.builds(WriteAttributes, PATHS, st.lists(st.tuples(TEXTS, st.one_of(st.none(), TEXTS)), max_size=3).map(tuple)),
    st.builds(Execute, PATHS, TEXTS),
    st.builds(Create, PATHS, CONTENTS, FORMATS),
    st.builds(Delete, PATHS),
)


def types_in(operation: Operation) -> list[type]:
    content = getattr(operation, "content", None)
    return [type(entry.value) for entry in content.entries] if content is not None else []


@given(OPERATIONS)
@settings(max_examples=100, deadline=None)
def test_a_stored_operation_is_the_same_operation(operation: Operation) -> None:
    text = encode_operation(operation)
    text.encode()
    again = decode_operation(text)
    assert again == operation
    # True is no 1 and 1.0 no 1: the format that carries them says which.
    assert types_in(again) == types_in(operation)


def test_a_number_that_is_none_survives_too() -> None:
    operation = Write(Path(3, 0, 1), Content((Entry(Path(3, 0, 1), float("nan")),)))
    again = decode_operation(encode_operation(operation))
    assert isinstance(again, Write)
    assert str(again.content.entries[0].value) == "nan"


def test_rows_of_the_first_release_stay_readable() -> None:
    text = (
        '{"op":"Write","path":"/3/0/14","content":{"entries":[["/3/0/14","+02",null],'
        '["/3/0/2",{"bytes":"AP8="},1.5],["/3/0/22",{"link":[3,0]},null]],"empty":["/3/0"]},"replace":true,"format":null}'
    )
    operation = decode_operation(text)
    assert operation == Write(
        Path(3, 0, 14),
        Content(
            (
                Entry(Path(3, 0, 14), "+02"),
                Entry(Path(3, 0, 2), b"\x00\xff", 1.5),
                Entry(Path(3, 0, 22), ObjectLink(3, 0)),
            ),
            (Path(3, 0),),
        ),
    )
    assert encode_operation(operation) == text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{}", KeyError),
        ("[]x", ValueError),
        ('{"op":"Reboot","path":"/3"}', ValueError),
        ('{"op":"Read","path":"/3"}', KeyError),
        ('{"op":"Read","path":"3","accept":null}', PathError),
        ('{"op":"ReadComposite","path":"/3/0,3","accept":null,"format":null}', PathError),
        ('{"op":"ReadComposite","path":"' + ",".join(f"/3/{n}" for n in range(101)) + '"}', PathListError),
    ],
)
def test_anything_else_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_operation(text)
