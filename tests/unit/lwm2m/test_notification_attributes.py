from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.lwm2m.attributes import InvalidAttribute, NotificationAttributes
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ResourceType

RESOURCE = Path(3303, 0, 5700)


def parse(query: str) -> NotificationAttributes:
    pairs = [part.partition("=") for part in query.split("&")] if query else []
    return NotificationAttributes.parse((name, value if equals else None) for name, equals, value in pairs)


@pytest.mark.spec("LwM2M-contract 7", "ATT-11", "READ-12")
def test_attributes_are_read_from_a_query_and_written_as_plain_decimals() -> None:
    attributes = parse("pmin=5&pmax=60&gt=-1.5e1&st=0.50&epmin&con=1")
    assert attributes == NotificationAttributes(
        pmin=5, pmax=60, gt=Decimal(-15), st=Decimal("0.5"), con=1, unset=frozenset(("epmin",))
    )
    assert attributes.to_query() == (
        ("pmin", "5"),
        ("pmax", "60"),
        ("epmin", None),
        ("gt", "-15"),
        ("st", "0.5"),
        ("con", "1"),
    )


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("foo=1", "foo"),
        ("dim=1", "dim"),
        ("pmin=1&pmin=2", "pmin"),
        ("pmin=1&pmin", "pmin"),
        ("pmin=-1", "pmin"),
        ("pmin=", "pmin"),
        ("pmax=1.5", "pmax"),
        ("pmax=4294967296", "pmax"),
        ("gt=x", "gt"),
        ("gt=nan", "gt"),
        ("gt=1e999", "gt"),
        ("st=-1", "st"),
        ("edge=2", "edge"),
        ("con=true", "con"),
        ("hqmax=-1", "hqmax"),
    ],
)
def test_a_value_that_no_attribute_may_have_is_refused(query: str, name: str) -> None:
    with pytest.raises(InvalidAttribute) as caught:
        parse(query)
    assert caught.value.name == name


@pytest.mark.spec("LwM2M-contract 7", "ATT-10")
@pytest.mark.parametrize(
    ("query", "path", "kind", "name"),
    [
        ("lt=5&gt=5", RESOURCE, ResourceType.FLOAT, "lt"),
        ("lt=5&gt=10&st=2.5", RESOURCE, ResourceType.FLOAT, "st"),
        ("pmin=10&pmax=9", RESOURCE, ResourceType.FLOAT, "pmax"),
        ("epmin=5&epmax=5", RESOURCE, ResourceType.FLOAT, "epmax"),
        ("gt=5", RESOURCE, ResourceType.STRING, "gt"),
        ("st=5", RESOURCE, ResourceType.BOOLEAN, "st"),
        ("edge=1", RESOURCE, ResourceType.INTEGER, "edge"),
        ("gt=5", Path(3303, 0), None, "gt"),
        ("edge", Path(3303), None, "edge"),
        ("pmin=1", Path(), None, "pmin"),
    ],
)
def test_attributes_that_break_a_rule_name_it(query: str, path: Path, kind: ResourceType | None, name: str) -> None:
    with pytest.raises(InvalidAttribute) as caught:
        parse(query).check(path, kind)
    assert caught.value.name == name
    assert caught.value.rule in str(caught.value)


@pytest.mark.spec("LwM2M-contract 7", "ATT-10")
@pytest.mark.parametrize(
    ("query", "path", "kind"),
    [
        ("lt=-5&gt=5&st=1", RESOURCE, ResourceType.FLOAT),
        ("pmin=10&pmax=10", Path(3303), None),
        ("pmin=10&pmax=0", Path(3303, 0), None),
        ("epmin=1&epmax=2&con=0&hqmax=3", Path(3303, 0), None),
        ("edge=0", RESOURCE, ResourceType.BOOLEAN),
        ("gt=5", RESOURCE, None),
        ("gt=5", RESOURCE.child(0), ResourceType.TIME),
        ("gt&lt&st", RESOURCE, ResourceType.INTEGER),
    ],
)
def test_attributes_by_the_rules_pass(query: str, path: Path, kind: ResourceType | None) -> None:
    parse(query).check(path, kind)


@pytest.mark.spec("LwM2M-contract 0.1", "ATT-14")
def test_each_version_knows_its_attributes() -> None:
    attributes = parse("pmin=1&epmin=1&edge=1&hqmax&st=1")
    assert attributes.unknown_to("1.0") == {"epmin", "edge", "hqmax"}
    assert attributes.unknown_to("1.1") == {"edge", "hqmax"}
    assert attributes.unknown_to("1.2") == frozenset()
    assert attributes.restricted_to("1.0") == parse("pmin=1&st=1")
    assert attributes.restricted_to("1.2") == attributes


@pytest.mark.spec("LwM2M-contract 7", "ATT-13")
def test_the_lower_level_wins() -> None:
    above = parse("pmin=1&pmax=10")
    assert parse("pmin=5").inherit(above) == parse("pmin=5&pmax=10")
    assert parse("pmax").inherit(above).pmax is None


@pytest.mark.spec("ATT-9")
def test_a_discovery_says_what_is_set_among_other_things() -> None:
    link = (("pmin", "5"), ("dim", "3"), ("ver", "1.1"), ("obs", None), ("pmax", None), ("gt", "hot"), ("lt", "-1"))
    assert NotificationAttributes.from_discovery(link) == parse("pmin=5&lt=-1")


SECONDS = st.none() | st.integers(0, 2**32 - 1)
NUMBERS = st.none() | st.decimals(-1000000, 1000000, places=6)


@settings(max_examples=80, deadline=None)
@given(
    attributes=st.builds(
        NotificationAttributes,
        pmin=SECONDS,
        epmax=SECONDS,
        gt=NUMBERS,
        lt=NUMBERS,
        edge=st.none() | st.integers(0, 1),
        unset=st.frozensets(st.sampled_from(("pmax", "con"))),
    )
)
def test_what_is_written_is_read_back(attributes: NotificationAttributes) -> None:
    query = attributes.to_query()
    assert NotificationAttributes.parse(query) == attributes
    assert all("e" not in (value or "") and "E" not in (value or "") for _, value in query)


@settings(max_examples=80, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.sampled_from(("pmin", "gt", "st", "edge", "x")), st.none() | st.text(max_size=6)), max_size=4
    )
)
def test_any_pairs_are_attributes_or_refused(pairs: list[tuple[str, str | None]]) -> None:
    try:
        attributes = NotificationAttributes.parse(pairs)
    except InvalidAttribute:
        return
    assert attributes.names() == {name for name, _ in pairs}
