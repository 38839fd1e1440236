"""When a device finds a value worth a notification."""

import pytest

from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.path import Path
from stellwerk.sim.reporting import Reporting, is_worth_telling
from stellwerk.sim.tree import Denied

VALUE = Path(3303, 0, 5700)


@pytest.mark.parametrize(
    ("attributes", "before", "after", "worth"),
    [
        ({}, 20.0, 20.0, False),
        ({}, 20.0, 20.1, True),
        ({"gt": 25.0}, 20.0, 24.0, False),
        ({"gt": 25.0}, 20.0, 26.0, True),
        ({"gt": 25.0}, 26.0, 20.0, True),
        ({"lt": 10.0}, 20.0, 9.0, True),
        ({"lt": 10.0}, 20.0, 11.0, False),
        ({"st": 2.0}, 20.0, 21.9, False),
        ({"st": 2.0}, 20.0, 18.0, True),
        ({"gt": 25.0, "st": 1.0}, 20.0, 21.0, True),
    ],
)
def test_thresholds_decide_what_is_worth_telling(attributes, before, after, worth):
    assert is_worth_telling({VALUE: before}, {VALUE: after}, attributes) is worth


def test_lower_levels_override_higher_ones_and_all_override_defaults():
    reporting = Reporting(10)
    reporting.write_attributes(Path(3303), ("pmin=5", "pmax=100"))
    reporting.write_attributes(VALUE, ("pmin=1",))
    assert reporting.attributes_for(VALUE, {"pmin": 9.0}) == {"pmin": 1.0, "pmax": 100.0}
    assert reporting.attributes_for(Path(3), {"pmin": 9.0}) == {"pmin": 9.0, "pmax": 0.0}


def test_a_maximum_period_below_the_minimum_is_ignored():
    reporting = Reporting(10)
    reporting.write_attributes(VALUE, ("pmin=50", "pmax=10"))
    assert reporting.attributes_for(VALUE, {})["pmax"] == 0.0


def test_an_attribute_without_value_is_unset():
    reporting = Reporting(10)
    reporting.write_attributes(VALUE, ("pmin=5", "gt=3"))
    reporting.write_attributes(VALUE, ("pmin",))
    assert reporting.attributes_at(VALUE) == {"gt": 3.0}


@pytest.mark.parametrize(
    "query",
    [
        ("pmin=",),
        ("pmin=-1",),
        ("pmin=1.5",),
        ("pmax=x",),
        ("hqmax=3",),
        ("gt=1e3",),
        ("lt=5", "gt=4"),
        ("lt=1", "gt=4", "st=2"),
    ],
)
def test_attributes_that_are_wrong_are_refused_and_change_nothing(query):
    reporting = Reporting(10)
    reporting.write_attributes(VALUE, ("pmin=7",))
    with pytest.raises(Denied):
        reporting.write_attributes(VALUE, query)
    assert reporting.attributes_at(VALUE) == {"pmin": 7.0}


def test_thresholds_are_for_resources():
    with pytest.raises(Denied):
        Reporting(10).write_attributes(Path(3303), ("gt=5",))


def test_a_deadline_that_has_come_always_leads_to_a_later_one():
    reporting = Reporting(0.3)
    reporting.write_attributes(VALUE, ("pmin=1", "pmax=3"))
    content = Content((Entry(VALUE, 20.0),))
    reporting.observe(VALUE, b"t", None, 1, content, 1000.1)
    (each,) = reporting.watched()
    before = 1000.1
    for _ in range(200):
        now = reporting.deadline({})
        assert now > before
        reporting.start_round(now)
        if reporting.is_due(each, content, {}, now):
            reporting.told(each, content, now)
        before = now


def test_sequence_numbers_wrap_inside_24_bits():
    reporting = Reporting(10)
    content = Content((Entry(VALUE, 20.0),))
    reporting.observe(VALUE, b"t", None, 1, content, 0.0)
    (each,) = reporting.watched()
    each.sequence = (1 << 24) - 1
    assert reporting.told(each, content, 1.0) == 0
