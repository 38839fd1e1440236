"""What a device says about a list of paths is about these paths, or it is nothing."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.answers import NotAsked, decode_answer, missing
from stellwerk.lwm2m.content import Content, Untyped
from stellwerk.lwm2m.formats import DecodeError, OutsideBase
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.paths import Paths

LISTED = Paths([Path(3, 0, 9), Path(1)])
LEVEL = cbor2.dumps([{0: "/3/0/9", 2: 80}])


@pytest.mark.spec("D-11")
def test_what_lies_below_the_paths_is_taken_and_what_is_left_out_is_missing() -> None:
    content = decode_answer(112, cbor2.dumps([{-2: "/1/0/", 0: "1", 2: 60}]), LISTED, Untyped())
    assert content.latest() == {Path(1, 0, 1): 60}
    assert missing(content, LISTED) == (Path(3, 0, 9),)
    assert missing(Content(), Path(3)) == ()


@pytest.mark.spec("D-11")
def test_what_was_not_asked_for_is_an_error_with_its_path() -> None:
    with pytest.raises(NotAsked, match="/3/0/1 was not asked for; the list is /1, /3/0/9"):
        decode_answer(112, cbor2.dumps([{0: "/3/0/9", 2: 80}, {0: "/3/0/1", 3: "x"}]), LISTED, Untyped())
    with pytest.raises(OutsideBase):
        decode_answer(112, LEVEL, Path(1), Untyped())


@pytest.mark.spec("D-1")
@pytest.mark.parametrize("payload", [LEVEL, b'[{"n":"/3/0/9","v":80}]'])
def test_an_answer_without_a_format_is_senml_of_either_kind(payload: bytes) -> None:
    assert decode_answer(None, payload, LISTED, Untyped()).latest() == {Path(3, 0, 9): 80}


@given(st.sampled_from([None, 0, 50, 60, 110, 112, 320, 322, 11542, 11543, 11544]), st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_understood_or_refused(content_format: int | None, payload: bytes) -> None:
    try:
        content = decode_answer(content_format, payload, LISTED, Untyped())
    except DecodeError:
        return
    assert all(LISTED.covers(entry.path) for entry in content.entries)
