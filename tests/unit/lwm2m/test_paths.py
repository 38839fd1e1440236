"""A list of paths is a set with one order and one text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.paths import MAX_PATHS, PathListError, Paths, parse_target

PATHS = st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=4).map(lambda ids: Path(*ids)), min_size=1)


@pytest.mark.spec("OB-9")
@given(PATHS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_same_paths_are_the_same_list_and_its_text_means_it(paths: list[Path], order: object) -> None:
    listed = Paths(paths)
    order.shuffle(paths)  # type: ignore[attr-defined]
    assert Paths(paths + paths) == listed
    assert parse_target(str(listed)) == listed
    assert isinstance(parse_target(str(listed)), Paths)
    assert hash(Paths(paths)) == hash(listed)


def test_a_list_of_one_path_is_not_that_path() -> None:
    assert str(Paths([Path(3, 0, 9)])) == "/3/0/9,"
    assert parse_target("/3/0/9") == Path(3, 0, 9)
    assert parse_target("/3/0/9,") == Paths([Path(3, 0, 9)])
    assert Paths([Path(3)]) != Path(3)


def test_it_covers_what_lies_at_or_below_its_paths_and_names_the_outermost() -> None:
    listed = Paths([Path(3, 0), Path(3, 0, 9), Path(1, 0, 1)])
    assert listed.covers(Path(3, 0, 7, 1))
    assert listed.covers(Path(1, 0, 1))
    assert not listed.covers(Path(1, 0))
    assert listed.outermost() == (Path(1, 0, 1), Path(3, 0))


@pytest.mark.parametrize("text", ["", ",", "/3,,/4", "/3,x", "/3, /4", "3"])
def test_text_that_is_no_list_is_refused(text: str) -> None:
    with pytest.raises((PathError, PathListError)):
        Paths.parse(text)


def test_an_empty_list_and_one_without_end_are_refused() -> None:
    with pytest.raises(PathListError, match="at least one"):
        Paths([])
    Paths(Path(3, 0, each) for each in range(MAX_PATHS))
    with pytest.raises(PathListError, match="100 may be"):
        Paths(Path(3, 0, each) for each in range(MAX_PATHS + 1))
