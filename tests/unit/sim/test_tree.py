"""The tree of a device's values, and the values that move."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.values import objection_to_value
from stellwerk.sim.motion import drain, highest, lowest, wander
from stellwerk.sim.objects import build_tree, device_types
from stellwerk.sim.release import RELEASES
from stellwerk.sim.tree import Denied, ObjectTree

NOW_S = 1_800_000_000.0


def make(moving: bool = True, seed: int = 1, release: str = "1.1") -> ObjectTree:
    return build_tree(
        serial="d",
        seed=seed,
        server_uri="coap://x",
        lifetime_s=300,
        binding="U",
        moving=moving,
        release=RELEASES[release],
    )


@pytest.mark.parametrize("release", RELEASES)
def test_every_value_of_a_device_fits_its_model_at_any_time(release):
    for seed in range(7):
        tree = make(seed=seed, release=release)
        utc_s = NOW_S + Random(seed).uniform(0, 10**7)
        for listing in tree.listings(RELEASES[release].versions):
            for entry in tree.read(Path(listing.object_id), utc_s)[0]:
                model = device_types(release).resource(entry.path)
                assert objection_to_value(model, entry.value) is None, entry


@pytest.mark.parametrize("release", RELEASES)
def test_every_mandatory_resource_is_there(release):
    tree = make(release=release)
    for listing in tree.listings(RELEASES[release].versions):
        model = device_types(release).object(listing.object_id)
        for resource in model.resources.values():
            if resource.mandatory:
                tree.require(Path(listing.object_id, 0, resource.id))


def test_a_resource_that_no_model_knows_cannot_be_declared():
    with pytest.raises(ValueError, match="/3/0/999"):
        ObjectTree(device_types(), {3: {0: {999: 1}}})


def test_a_device_that_does_not_move_says_the_same_at_all_times():
    tree = make(moving=False)
    assert tree.read(Path(3303), NOW_S) == tree.read(Path(3303), NOW_S + 12_345)
    assert tree.read(Path(6), NOW_S) == tree.read(Path(6), NOW_S + 12_345)


def test_moving_values_move_and_devices_differ():
    tree, other = make(seed=1), make(seed=2)
    path = Path(3303, 0, 5700)
    seen = {tree.value(path, NOW_S + 60 * minute) for minute in range(30)}
    assert len(seen) > 10
    assert tree.value(path, NOW_S) != other.value(path, NOW_S)
    assert tree.value(path, NOW_S) == make(seed=1).value(path, NOW_S)


@given(st.integers(0, 2**32), st.floats(0, 4e9))
@settings(max_examples=100, deadline=None)
def test_a_wandering_value_stays_in_its_span(seed, utc_s):
    value = wander(seed, around=20.0, by=4.0)
    assert 16.0 <= value(utc_s) <= 24.0
    assert lowest(value)(utc_s) <= value(utc_s) <= highest(value)(utc_s)


def test_a_battery_only_falls_until_it_is_charged():
    level = drain(1, hours=10)
    levels = [level(NOW_S + 60 * minute) for minute in range(601)]
    rises = [after for before, after in pairwise(levels) if after > before]
    assert len(rises) <= 1
    assert min(levels) >= 3
    assert max(levels) == 100


def test_a_partial_write_of_resource_instances_adds_to_them():
    tree = ObjectTree(device_types(), {16: {0: {0: {0: "a"}}}}) if device_types().object(16) else None
    assert tree is not None
    tree.write(Path(16, 0, 0), (Entry(Path(16, 0, 0, 5), "b"),), replace=False)
    assert [each.value for each in tree.read(Path(16, 0, 0), NOW_S)[0]] == ["a", "b"]
    tree.write(Path(16, 0, 0), (Entry(Path(16, 0, 0, 7), "c"),), replace=True)
    assert [str(each.path) for each in tree.read(Path(16, 0, 0), NOW_S)[0]] == ["/16/0/0/7"]
    tree.write(Path(16, 0, 0), (), replace=True)
    assert tree.read(Path(16, 0, 0), NOW_S) == ((), (Path(16, 0, 0),))


@pytest.mark.parametrize(
    ("path", "entry", "code"),
    [
        (Path(1, 0, 1), Entry(Path(1, 0, 1), "soon"), codes.BAD_REQUEST),
        (Path(1, 0, 1), Entry(Path(1, 0, 2), 5), codes.BAD_REQUEST),
        (Path(1, 0), Entry(Path(1, 0, 0), 5), codes.METHOD_NOT_ALLOWED),
        (Path(1, 0), Entry(Path(1, 0, 999), 5), codes.NOT_FOUND),
        (Path(1, 0), Entry(Path(1, 0, 1, 0), 5), codes.BAD_REQUEST),
        (Path(1), Entry(Path(1, 0, 1), 5), codes.METHOD_NOT_ALLOWED),
        (Path(0, 0), Entry(Path(0, 0, 0), "x"), codes.UNAUTHORIZED),
    ],
)
def test_a_write_that_does_not_fit_is_denied_with_its_reason(path, entry, code):
    with pytest.raises(Denied) as denied:
        make().write(path, (entry,), replace=False)
    assert denied.value.code == code
