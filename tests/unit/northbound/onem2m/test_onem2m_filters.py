"""Which resources below a target a query means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.northbound.onem2m.filters import labelled, with_attribute
from stellwerk.northbound.onem2m.resources import Resource


def resource(**attributes: Any) -> Resource:
    return Resource("m2m:cin", 4, attributes)


@pytest.mark.spec("D2C 4.3")
@pytest.mark.parametrize(
    ("pattern", "label", "fits"),
    [
        ("Room:1", "Room:1", True),
        ("Room:1", "Room:12", False),
        ("Room:*", "Room:1", True),
        ("*:1", "Room:1", True),
        ("R*m:*1", "Room:21", True),
        ("*", "", True),
        ("**", "x", True),
        ("a*a", "a", False),
        ("a*b*c", "axxbxxc", True),
        ("a*b*c", "acb", False),
        ("room:1", "Room:1", False),
        ("outgoing-msgRN:7", "outgoing_msgRN:7", True),
        ("outgoing_msgRN:7", "outgoing-msgRN:7", True),
        ("outgoing-msgRN:*", "outgoing_msgRN:7", True),
        ("[R]oom:1", "Room:1", False),
    ],
)
def test_a_label_fits_a_pattern(pattern: str, label: str, fits: bool):
    assert labelled([pattern])(resource(lbl=[label])) is fits


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_a_wildcard_stands_for_any_text(pattern: str, text: str):
    def fits(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return fits(pattern[1:], text) or (bool(text) and fits(pattern, text[1:]))
        return bool(text) and text[0] == pattern[0] and fits(pattern[1:], text[1:])

    assert with_attribute("rn", [pattern])(resource(rn=text)) is fits(pattern, text)


@pytest.mark.parametrize(
    ("value", "text"), [(5, "5"), (True, "true"), (2.5, "2.5"), (["a", "b"], "b"), ("x", "x"), ([1], "1")]
)
def test_values_are_compared_as_texts(value: Any, text: str):
    assert with_attribute("x", ["nothing", text])(resource(x=value))
    assert not with_attribute("x", ["nothing"])(resource(x=value))
    assert not with_attribute("y", [text])(resource(x=value))
    assert not with_attribute("x", ["*"])(resource(x={"a": 1}))
