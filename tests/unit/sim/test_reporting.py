"""When a device finds a value worth a notification."""

import math
from decimal import Decimal

import pytest

from stellwerk.coap import codes
from stellwerk.lwm2m.attributes import NotificationAttributes
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ResourceType
from stellwerk.sim.reporting import Observation, Reporting, is_worth_telling
from stellwerk.sim.tree import Denied

VALUE = Path(3303, 0, 5700)
SWITCH = Path(3311, 0, 5850)
BEGIN = 1000.0


def content(value: object, path: Path = VALUE) -> Content:
    return Content((Entry(path, value),))


def reporting(*query: str, version: str = "1.2", sample_s: float = 1.0, path: Path = VALUE) -> Reporting:
    made = Reporting(sample_s, version)
    if query:
        made.write_attributes(path, ResourceType.BOOLEAN if path == SWITCH else ResourceType.FLOAT, query)
    return made


def watch(made: Reporting, value: object = 20.0, path: Path = VALUE) -> Observation:
    made.observe(path, b"t", None, 1, content(value, path), BEGIN)
    return made.watched()[0]


def follow(
    made: Reporting, values: dict[float, object], until: float, path: Path = VALUE
) -> list[tuple[float, object]]:
    """The notifications (seconds since the Observe, value) while ``values`` come to be at their times."""
    each = watch(made, values[0], path)
    told, now = [], BEGIN
    while (due := made.deadline()) is not None and due <= BEGIN + until:
        assert due > now
        now = due
        value = values[max(at for at in values if at <= now - BEGIN)]
        if made.is_due(each, content(value, path), now):
            made.told(each, content(value, path), now)
            told.append((now - BEGIN, value))
    return told


@pytest.mark.parametrize(
    ("query", "values", "told"),
    [
        ((), {0: 20.0, 5: 21.0}, [(5, 21.0)]),
        (("pmin=8",), {0: 20.0, 3: 21.0, 5: 22.0}, [(8, 22.0)]),
        (("pmin=8",), {0: 20.0, 3: 21.0, 5: 20.0}, [(8, 20.0)]),
        (("pmax=10",), {0: 20.0}, [(10, 20.0), (20, 20.0)]),
        (("pmax=10",), {0: 20.0, 4: 21.0}, [(4, 21.0), (14, 21.0)]),
        (("pmin=5", "pmax=5"), {0: 20.0, 1: 21.0}, [(5, 21.0), (10, 21.0), (15, 21.0), (20, 21.0)]),
        (("pmin=30", "pmax=10"), {0: 20.0}, []),
        (("gt=25",), {0: 20.0, 3: 24.9, 5: 25.1, 7: 26.0, 9: 25.0}, [(5, 25.1), (9, 25.0)]),
        (("lt=10",), {0: 12.0, 3: 10.0, 5: 9.9, 7: 8.0, 9: 10.0}, [(5, 9.9), (9, 10.0)]),
        (("st=2",), {0: 20.0, 3: 21.0, 5: 22.0, 7: 23.5, 9: 20.0}, [(5, 22.0), (9, 20.0)]),
        (("gt=25", "st=1"), {0: 20.0, 3: 21.0, 5: 20.5, 7: 25.2}, [(3, 21.0), (7, 25.2)]),
        (("gt=25", "pmin=10"), {0: 20.0, 3: 26.0, 5: 20.0}, [(10, 20.0)]),
        (("gt=25", "pmax=6"), {0: 20.0, 3: 21.0}, [(6, 21.0), (12, 21.0), (18, 21.0)]),
        (("epmin=7",), {0: 20.0, 3: 21.0, 10: 22.0}, [(7, 21.0), (14, 22.0)]),
        (("epmin=7", "epmax=9"), {0: 20.0, 3: 21.0}, [(7, 21.0)]),
    ],
)
@pytest.mark.spec("Core 5.1.2", "Core 6.4.2", "ATT-3", "ATT-4")
def test_attributes_decide_when_a_number_is_told(query, values, told):
    assert follow(reporting(*query), values, until=20) == told


@pytest.mark.spec("ATT-5")
def test_without_sampling_epmax_alone_makes_a_device_look():
    assert follow(reporting("epmax=6", sample_s=math.inf), {0: 20.0, 1: 21.0}, until=20) == [(6, 21.0)]
    assert follow(reporting(sample_s=math.inf), {0: 20.0, 1: 21.0}, until=100) == []


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ((), [(2, True), (4, False), (6, True)]),
        (("edge=1",), [(2, True), (6, True)]),
        (("edge=0",), [(4, False)]),
    ],
)
@pytest.mark.spec("Core 5.1.2", "ATT-6")
def test_an_edge_tells_one_direction_of_a_switch(query, told):
    values = {0: False, 2: True, 4: False, 6: True}
    assert follow(reporting(*query, path=SWITCH), values, until=10, path=SWITCH) == told


@pytest.mark.spec("ATT-5")
def test_a_touched_value_is_looked_at_at_once_but_not_before_epmin():
    made = reporting("epmin=7")
    watch(made)
    made.touch()
    assert made.deadline() == BEGIN + 7
    made = reporting()
    each = watch(made)
    made.touch()
    assert made.deadline() <= BEGIN
    assert made.is_due(each, content(30.0), BEGIN)


def test_text_is_told_when_it_changes_and_never_by_a_threshold():
    both = {VALUE: "a"}, {VALUE: "b"}
    assert is_worth_telling(both[0], *both, NotificationAttributes())
    assert not is_worth_telling(both[0], *both, NotificationAttributes(gt=Decimal(1)))


def test_another_set_of_values_is_always_worth_telling():
    assert is_worth_telling({VALUE: 1.0}, {VALUE: 1.0}, {}, NotificationAttributes(gt=Decimal(100)))


@pytest.mark.spec("Core 5.1.2", "ATT-13")
def test_lower_levels_override_higher_ones_and_all_override_defaults():
    made = reporting("pmin=1")
    made.write_attributes(Path(3303), None, ("pmin=5", "pmax=100"))
    made.set_defaults(9, None)
    assert made.attributes_for(VALUE).to_query() == (("pmin", "1"), ("pmax", "100"))
    assert made.attributes_for(Path(3303, 0)).to_query() == (("pmin", "5"), ("pmax", "100"))
    assert made.attributes_for(Path(3)).to_query() == (("pmin", "9"),)


@pytest.mark.spec("Core 6.4.1")
def test_attributes_of_an_observe_count_for_it_alone_and_over_all_others():
    made = reporting("pmin=5", "pmax=100")
    own = made.parse(VALUE, ResourceType.FLOAT, ("pmin=2", "gt=30", "pmax"))
    assert made.attributes_for(VALUE, own).to_query() == (("pmin", "2"), ("pmax", None), ("gt", "30"))
    assert made.attributes_at(VALUE).to_query() == (("pmin", "5"), ("pmax", "100"))


def test_attributes_written_during_an_observation_count_from_then_on():
    made = reporting()
    watch(made)
    made.write_attributes(Path(3303), None, ("pmax=7",))
    assert made.watched()[0].attributes.pmax == 7


@pytest.mark.spec("Core 5.1.2", "ATT-2")
def test_a_maximum_period_below_the_minimum_is_ignored():
    assert reporting("pmin=50", "pmax=10").attributes_for(VALUE).pmax is None


@pytest.mark.spec("ATT-12")
def test_an_attribute_without_value_is_unset():
    made = reporting("pmin=5", "gt=3")
    made.write_attributes(VALUE, ResourceType.FLOAT, ("pmin",))
    assert made.attributes_at(VALUE).to_query() == (("gt", "3"),)


@pytest.mark.parametrize(
    "query",
    [
        ("pmin=",),
        ("pmin=-1",),
        ("pmin=1.5",),
        ("pmax=x",),
        ("rain=3",),
        ("edge=1",),
        ("con=2",),
        ("pmax=5", "pmax=6"),
        ("epmin=5", "epmax=5"),
        ("lt=5", "gt=4"),
        ("lt=1", "gt=4", "st=2"),
    ],
)
def test_attributes_that_are_wrong_are_refused_and_change_nothing(query):
    made = reporting("pmin=7")
    with pytest.raises(Denied) as denied:
        made.write_attributes(VALUE, ResourceType.FLOAT, query)
    assert denied.value.code == codes.BAD_REQUEST
    assert made.attributes_at(VALUE).to_query() == (("pmin", "7"),)


def test_attributes_that_contradict_earlier_ones_are_refused():
    made = reporting("gt=4")
    with pytest.raises(Denied, match="lt"):
        made.write_attributes(VALUE, ResourceType.FLOAT, ("lt=5",))


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.0", ["pmax"]), ("1.1", ["pmax", "epmin"]), ("1.2", ["pmax", "epmin", "con", "hqmax"])],
)
@pytest.mark.spec("Core 5.1.2", "ATT-14")
def test_each_release_has_its_attributes_and_refuses_later_ones(version, known):
    for name in ("pmax", "epmin", "con", "hqmax"):
        made = Reporting(1.0, version)
        if name in known:
            made.write_attributes(VALUE, ResourceType.FLOAT, (f"{name}=1",))
        else:
            with pytest.raises(Denied):
                made.write_attributes(VALUE, ResourceType.FLOAT, (f"{name}=1",))


@pytest.mark.parametrize(("path", "kind"), [(Path(3303), None), (Path(3, 0, 0), ResourceType.STRING)])
def test_thresholds_are_for_numbers(path, kind):
    with pytest.raises(Denied):
        Reporting(10).write_attributes(path, kind, ("gt=5",))


def test_what_is_deleted_takes_its_attributes_along():
    made = reporting("pmin=5")
    made.forget_below(Path(3303, 0))
    assert made.attributes_at(VALUE).to_query() == ()


def test_a_deadline_that_has_come_always_leads_to_a_later_one():
    made = reporting("pmin=1", "pmax=3", sample_s=0.3)
    assert len(follow(made, {0: 20.0, 33.3: 21.0}, until=60)) == 20


def test_sequence_numbers_wrap_inside_24_bits():
    made = reporting()
    each = watch(made)
    each.sequence = (1 << 24) - 1
    assert made.told(each, content(20.0), 1.0) == 0
