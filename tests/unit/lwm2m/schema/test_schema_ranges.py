"""The free text of a RangeEnumeration becomes something to check, or nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.schema.ranges import Measure, parse_range
from stellwerk.lwm2m.value import ObjectLink, ResourceType

INTEGER, FLOAT, STRING, OPAQUE = ResourceType.INTEGER, ResourceType.FLOAT, ResourceType.STRING, ResourceType.OPAQUE


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("0..100", ((0, 100),)),
        ("0-999", ((0, 999),)),
        ("1...15", ((1, 15),)),
        ("-30..-120", ((-120, -30),)),
        ("-180..180", ((-180, 180),)),
        ("0..3, 99", ((0, 3), (99, 99))),
        ("5, 10, 15, 20", ((5, 5), (10, 10), (15, 15), (20, 20))),
        ("0: off\n1: on\n255: unknown", ((0, 0), (1, 1), (255, 255))),
        ("0..18446744073709551615", ((0, 2**64 - 1),)),
        ('"0", "1", "3"', ((0, 0), (1, 1), (3, 3))),
        ("'1': on\n'2': off", ((1, 1), (2, 2))),
    ],
)
@pytest.mark.spec("Core 1.2.2 App. D")
def test_spans_and_enumerations_bound_a_number(text: str, spans: tuple[tuple[int, int], ...]) -> None:
    parsed = parse_range(text, INTEGER)
    assert parsed is not None
    assert (parsed.spans, parsed.measure) == (spans, Measure.VALUE)


@pytest.mark.parametrize("text", ["8-Bits", "16-bit", "255", "1 bytes", "<7 to >12.5", "[1:4]", "", "0.."])
def test_free_text_and_lone_numbers_bound_no_number(text: str) -> None:
    assert parse_range(text, INTEGER) is None


def test_a_float_may_list_a_value_and_a_span() -> None:
    parsed = parse_range("0; 3.8..20.5", FLOAT)
    assert parsed is not None
    assert parsed.admits(0)
    assert parsed.admits(3.8)
    assert not parsed.admits(2.0)
    assert str(parsed) == "0 or 3.8..20.5"


@pytest.mark.parametrize(
    ("text", "kind", "lengths", "measure"),
    [
        ("0..255", STRING, ((0, 255),), Measure.CHARACTERS),
        ("0..255 bytes", STRING, ((0, 255),), Measure.BYTES),
        ("0 or 26 Bytes", STRING, ((0, 0), (26, 26)), Measure.BYTES),
        ("32 bytes", STRING, ((0, 32),), Measure.BYTES),
        ("16-32-48 bytes", OPAQUE, ((16, 16), (32, 32), (48, 48)), Measure.BYTES),
        ("16,32,48", OPAQUE, ((16, 16), (32, 32), (48, 48)), Measure.BYTES),
        ("6", OPAQUE, ((0, 6),), Measure.BYTES),
    ],
)
@pytest.mark.spec("Core 1.2.2 App. D")
def test_the_range_of_a_text_or_opaque_is_its_length(
    text: str, kind: ResourceType, lengths: tuple[tuple[int, int], ...], measure: Measure
) -> None:
    parsed = parse_range(text, kind)
    assert parsed is not None
    assert (parsed.spans, parsed.measure) == (lengths, measure)


def test_bytes_are_counted_as_utf8_and_characters_as_they_are() -> None:
    in_bytes, in_characters = parse_range("0..3 bytes", STRING), parse_range("0..3", STRING)
    assert in_bytes is not None
    assert in_characters is not None
    assert not in_bytes.admits("äöü")
    assert in_characters.admits("äöü")
    assert not in_characters.admits("äöüß")


def test_types_without_a_measure_have_no_range() -> None:
    assert parse_range("0..65535", ResourceType.BOOLEAN) is None
    assert parse_range("0..65535", ResourceType.OBJLNK) is None
    lengths = parse_range("0..1", STRING)
    assert lengths is not None
    assert lengths.admits(ObjectLink(3, 0))


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(alphabet="0123456789.-,; :\nbytesor"), kind=st.sampled_from(ResourceType))
def test_any_text_is_a_range_or_is_not(text: str, kind: ResourceType) -> None:
    parsed = parse_range(text, kind)
    if parsed is not None:
        assert all(low <= high for low, high in parsed.spans)
        assert parsed.spans


@settings(max_examples=100, deadline=None)
@given(low=st.integers(-(10**18), 10**18), width=st.integers(0, 10**18), value=st.integers(-(2**63), 2**63 - 1))
def test_a_span_admits_exactly_what_lies_in_it(low: int, width: int, value: int) -> None:
    parsed = parse_range(f"{low}..{low + width}", INTEGER)
    if width == 0:
        assert parsed is None
    else:
        assert parsed is not None
        assert parsed.admits(value) == (low <= value <= low + width)
