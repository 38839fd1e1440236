"""Figures that cost little to take."""

import pytest

from stellwerk.app.histogram import SIZES, Histogram
from stellwerk.app.meters import Meters, UplinkMeter
from stellwerk.core.instant import Instant


def test_a_histogram_has_each_value_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    for value in (0.5, 1.0, 1.5, 5.0, 7.0):
        histogram.observe(value)
    histogram.observe(2.0, 3)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 6), (5.0, 7), (float("inf"), 8)]
    assert (histogram.count, histogram.sum) == (8, 21.0)


@pytest.mark.parametrize("bounds", [SIZES, Histogram().bounds])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


class Uplink:
    """Answers as southbound does."""

    def __init__(self) -> None:
        self.now = 10.0
        self.meter = UplinkMeter(lambda: self.now)

    def answer(self, status: int, at: Instant) -> None:
        if status < 300 and self.meter.at is not at:
            self.meter.arrived(at)
        self.meter.answers[status] += 1


def test_answers_are_timed_from_the_arrival_of_what_they_answer() -> None:
    uplink = Uplink()
    first, second = Instant(9.8, 0), Instant(9.999, 0)
    for at in (first, first, second):
        uplink.answer(204, at)
    seconds = uplink.meter.seconds
    assert seconds.count == 3
    assert seconds.sum == pytest.approx(0.2 + 0.2 + 0.001)
    uplink.now = 11.0
    uplink.answer(204, Instant(10.5, 0))
    assert uplink.meter.seconds.sum == pytest.approx(0.901)
    assert uplink.meter.answers == {204: 4}


def test_a_refusal_is_counted_and_not_timed() -> None:
    uplink = Uplink()
    at = Instant(9.0, 0)
    uplink.answer(503, at)
    uplink.now = 12.0
    uplink.answer(201, at)
    assert uplink.meter.answers == {503: 1, 201: 1}
    assert (uplink.meter.seconds.count, uplink.meter.seconds.sum) == (1, 3.0)


def test_a_clock_that_was_set_back_makes_no_negative_duration() -> None:
    meters = Meters(lambda: 0.0)
    meters.command_ended("succeeded", -5.0)
    assert (meters.commands["succeeded"].count, meters.commands["succeeded"].sum) == (1, 0.0)
