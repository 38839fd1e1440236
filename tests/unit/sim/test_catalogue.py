"""Objects to be had on request, and the configurations of OMA's test specification."""

import cbor2
import pytest

from stellwerk.coap import codes
from stellwerk.coap.options import LOCATION_PATH
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.values import objection_to_value
from stellwerk.lwm2m.value import ObjectLink
from stellwerk.sim import catalogue
from stellwerk.sim.body import release_of
from stellwerk.sim.catalogue import UnknownObject
from stellwerk.sim.happenings import Moved
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.release import RELEASES


@pytest.mark.parametrize("version", RELEASES)
def test_every_value_of_every_object_fits_its_model(version):
    options = DeviceOptions("d", lwm2m_version=version, ets=True, access_rights=((Path(3, 0), 1),))
    release = release_of(options)
    tree = catalogue.tree_of(options, release, "192.0.2.2")
    for listing in tree.listings(release.versions):
        model = release.types.object(listing.object_id)
        for instance in listing.instances:
            assert {each.id for each in model.resources.values() if each.mandatory} <= tree.instance(
                Path(listing.object_id, instance)
            ).keys()
        for entry in tree.read(Path(listing.object_id), 0.0)[0]:
            assert objection_to_value(release.types.resource(entry.path), entry.value) is None, entry


def test_a_device_has_the_objects_that_it_is_told_to_have(bench):
    bench.start(object_ids=frozenset({7, 16}))
    assert list(decode_object_list(bench.requests[0].payload).objects) == [1, 3, 7, 16]


def test_an_object_that_is_not_simulated_is_refused(bench):
    with pytest.raises(UnknownObject, match="object 9 is not simulated; one of 0, 1"):
        bench.start(object_ids=frozenset({9}))


@pytest.mark.spec("ETS C.3")
def test_the_configuration_of_the_test_specification_is_there(bench):
    bench.start(ets=True, lifetime_s=86_400)
    server = {each.path[2]: each.value for each in bench.read("/1/0").entries}
    assert server == {0: 1, 1: 86_400, 2: 1, 3: 10, 5: 86_400, 6: False, 7: "U", 23: False}
    assert bench.value("/6/0/0") == 43.5723
    assert bench.links("/10")[0] == "</10>;ver=1.1"


@pytest.mark.spec("ETS 901")
def test_statistics_are_collected_from_start_to_stop(bench):
    bench.start(ets=True)
    assert bench.code(codes.POST, "/7/0/6") == "2.04"
    bench.network.run_for(60)
    assert bench.code(codes.POST, "/7/0/7") == "2.04"
    collected = bench.value("/7/0/2"), bench.value("/7/0/3")
    assert collected[0] > collected[1] > 0
    bench.network.run_for(60)
    assert (bench.value("/7/0/2"), bench.value("/7/0/3")) == collected
    assert bench.code(codes.POST, "/7/0/6") == "2.04"
    assert bench.value("/7/0/2") == 0


@pytest.mark.spec("ETS 1250")
def test_an_enabled_profile_is_an_active_one(bench):
    bench.start(ets=True)
    body = cbor2.dumps([{0: "/11/1/0", 3: "new"}, {0: "/11/1/4", 2: 3}])
    answer = bench.ask(codes.POST, "/11", content_format=112, payload=body)
    assert [value for number, value in answer.options if number == LOCATION_PATH] == [b"11", b"1"]
    assert bench.code(codes.PUT, "/11/1/3", content_format=0, payload=b"1") == "2.04"
    assert [each.value for each in bench.read("/10/0/11").entries] == [ObjectLink(11, 0), ObjectLink(11, 1)]
    assert bench.code(codes.PUT, "/11/0/3", content_format=0, payload=b"0") == "2.04"
    assert [each.value for each in bench.read("/10/0/11").entries] == [ObjectLink(11, 1)]


@pytest.mark.spec("ETS 1350")
def test_another_bearer_brings_another_address_and_an_update(bench):
    bench.start(ets=True)
    body = cbor2.dumps([{0: "/13/0/0/0", 2: 21}])
    assert bench.code(codes.POST, "/13", content_format=112, payload=body) == "2.01"
    assert Moved("dev-1") in bench.happenings
    bench.network.run_for(2)
    assert bench.requests[-1].path == ("rd", "r1")
    assert (bench.value("/12/0/1"), bench.value("/12/0/3")) == (True, 1)
    assert bench.code(codes.POST, "/13", content_format=112, payload=body) == "4.05"
    body = cbor2.dumps([{0: "/13/0/0/0", 2: 5}])
    assert bench.code(codes.PUT, "/13/0/0", content_format=112, payload=body) == "2.04"
    assert bench.value("/12/0/1") is False


@pytest.mark.spec("ETS 1635")
def test_an_object_whose_last_instance_is_deleted_is_still_there(bench):
    bench.start(ets=True)
    assert "</16/0/0>;dim=4" in bench.links("/16/0")
    assert bench.code(codes.DELETE, "/16/0") == "2.02"
    assert bench.links("/16") == ["</16>"]
    bench.network.run_for(1)
    assert decode_object_list(bench.requests[-1].payload).objects[16].instances == ()


@pytest.mark.spec("ETS 2000")
def test_a_log_is_started_and_stopped(bench):
    bench.start(ets=True)
    assert bench.code(codes.POST, "/20/0/4012") == "2.04"
    assert (bench.value("/20/0/4013"), bench.value("/20/0/4014")) == (1, b"started, stopped")
    assert bench.code(codes.POST, "/20/0/4011", content_format=0, payload=b"0='0',1='100'") == "2.04"
    assert bench.value("/20/0/4013") == 3


@pytest.mark.spec("ETS 264")
def test_a_discover_of_1_2_shows_the_periods_of_the_server(bench):
    bench.start(ets=True, lwm2m_version="1.2")
    assert bench.links("/3", query=("depth=1",)) == ["</3>;pmin=1;pmax=10", "</3/0>"]
    assert bench.code(codes.PUT, "/3/0", query=("pmax=200",)) == "2.04"
    assert bench.links("/3", query=("depth=1",)) == ["</3>;pmin=1;pmax=10", "</3/0>;pmax=200"]
