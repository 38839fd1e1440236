"""A gateway and the end devices behind it (contract §12)."""

import cbor2
import pytest

from stellwerk.coap import codes
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import decode_content, encode_paths
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.path import Path
from stellwerk.sim.objects import device_types


def content_of(answer, prefix: str, path: str = "/", root: str = "") -> Content:
    return decode_content(
        *(answer.content_format, answer.payload, Path.parse(path), device_types("1.2"), 1_800_000_000.0, root),
        prefix=prefix,
    )


def read(bench, prefix: str, path: str, accept: int = 112) -> Content:
    answer = bench.ask(codes.GET, f"/{prefix}{path}", accept=accept)
    assert codes.dotted(answer.code) == "2.05"
    return content_of(answer, prefix, path)


@pytest.mark.spec("LwM2M-contract 12", "GW-2")
def test_a_gateway_registers_an_instance_for_each_end_device_and_none_of_their_objects(bench):
    bench.start(end_devices=2)
    listed = decode_object_list(bench.requests[0].payload)
    assert listed.objects[25].instances == (0, 1)
    assert listed.version(25) == "2.0"
    assert 3304 not in listed.objects


@pytest.mark.spec("LwM2M-contract 12", "GW-3")
def test_object_25_says_how_a_device_is_reached_and_what_it_has(bench):
    bench.start(end_devices=2)
    told = {each.path: each.value for each in bench.read("/25").entries}
    assert told[Path(25, 1, 1)] == "d02"
    assert told[Path(25, 1, 3)] == "</3303/0>,</3304/0>,</3311/0>"
    assert told[Path(25, 0, 0)] != told[Path(25, 1, 0)]


@pytest.mark.spec("LwM2M-contract 12")
def test_version_1_0_has_a_routing_table_and_prefixes_that_can_be_written(bench):
    device = bench.start(end_devices=2, gateway_version="1.0")
    assert decode_object_list(bench.requests[0].payload).objects[26].instances == (0, 1)
    told = {each.path: each.value for each in bench.read("/25/0").entries}
    assert str(told[Path(25, 0, 2)]) == "26:0"
    assert bench.value("/26/0/1") == "</3303/0>,</3304/0>,</3311/0>"
    assert bench.code(codes.PUT, "/25/0/1", content_format=0, payload=b"meter") == "2.04"
    assert device.end_devices == ("d02", "meter")
    assert bench.code(codes.GET, "/meter/3303/0/5700") == "2.05"
    assert bench.code(codes.GET, "/d01/3303/0/5700") == "4.04"
    for taken in (b"d02", b"7", b"a/b"):
        assert bench.code(codes.PUT, "/25/0/1", content_format=0, payload=taken) == "2.04"
        assert bench.value("/25/0/1") == "meter"


@pytest.mark.parametrize("accept", [110, 112, 11542, 11544])
@pytest.mark.spec("LwM2M-contract 12", "LwM2M-contract 8.5", "GW-6")
def test_an_end_device_is_read_in_every_format_with_its_prefix_in_names(bench, accept):
    bench.start(lwm2m_version="1.2", end_devices=2)
    answer = bench.ask(codes.GET, "/d02/3303/0", accept=accept)
    assert answer.content_format == accept
    found = {str(each.path): each.value for each in content_of(answer, "d02", "/3303/0").entries}
    assert found["/3303/0/5701"] == "Cel"
    if accept == 112:
        assert cbor2.loads(answer.payload)[0][-2] == "/d02/3303/0/"
    if accept == 11544:
        assert next(iter(cbor2.loads(answer.payload)))[0] == "d02"


def test_end_devices_have_values_of_their_own(bench):
    bench.start(end_devices=2)
    values = {read(bench, prefix, "/3303/0/5700").entries[0].value for prefix in ("d01", "d02")}
    assert len(values | {bench.value("/3303/0/5700")}) == 3


@pytest.mark.spec("LwM2M-contract 12")
def test_an_end_device_is_written_executed_and_discovered(bench):
    bench.start(end_devices=2)
    body = cbor2.dumps([{0: "/d01/3311/0/5850", 4: True}])
    assert bench.code(codes.POST, "/d01/3311/0", content_format=112, payload=body) == "2.04"
    assert read(bench, "d01", "/3311/0/5850").entries[0].value is True
    assert read(bench, "d02", "/3311/0/5850").entries[0].value is False
    assert bench.value("/3311/0/5850") is False
    assert bench.code(codes.POST, "/d01/3303/0/5605") == "2.04"
    assert bench.code(codes.PUT, "/d01/3303/0/5700", query=("pmin=5",)) == "2.04"
    assert bench.links("/d01/3303")[:2] == ["</3303>;ver=1.1", "</3303/0>"]
    assert "</3303/0/5700>;pmin=5" in bench.links("/d01/3303")
    assert "</3303/0/5700>" in bench.links("/3303")
    assert bench.code(codes.GET, "/d03/3303/0") == "4.04"
    assert bench.code(codes.GET, "/d01/3/0") == "4.04"


@pytest.mark.spec("LwM2M-contract 12", "OB-1")
def test_an_end_device_is_observed_through_its_gateway(bench):
    bench.start(end_devices=1, sample_every_s=10)
    assert bench.ask(codes.GET, "/d01/3303/0/5700", observe=0, accept=112, token=b"watching").observe == 1
    bench.network.run_for(25)
    assert len(bench.notifications) == 2
    assert content_of(bench.notifications[-1], "d01").entries[0].path == Path(3303, 0, 5700)
    assert bench.code(codes.GET, "/d01/3303/0/5700", observe=1, token=b"watching") == "2.05"
    bench.network.run_for(25)
    assert len(bench.notifications) == 2


@pytest.mark.spec("LwM2M-contract 12", "D-11")
def test_a_composite_request_is_for_the_end_device_that_its_names_say(bench):
    bench.start(end_devices=2)
    body = encode_paths(112, [Path(3303, 0, 5701), Path(3311, 0, 5850)], prefix="d02")
    answer = bench.ask(codes.FETCH, "/", content_format=112, accept=112, payload=body)
    assert [str(each.path) for each in content_of(answer, "d02").entries] == ["/3303/0/5701", "/3311/0/5850"]
    body = cbor2.dumps([{0: "/d02/3311/0/5850", 4: True}])
    assert bench.code(codes.IPATCH, "/", content_format=112, payload=body) == "2.04"
    assert read(bench, "d02", "/3311/0/5850").entries[0].value is True


@pytest.mark.spec("LwM2M-contract 12")
def test_each_end_device_sends_under_its_prefix(bench):
    bench.start(end_devices=2, send_every_s=30)
    bench.network.run_for(31)
    packs = [cbor2.loads(each.payload)[0] for each in bench.asked(codes.POST, "dp")]
    names = [pack.get(-2, "") + pack.get(0, "") for pack in packs]
    assert names == ["/3303/0/5700", "/d01/3303/0/5700", "/d02/3303/0/5700"]


@pytest.mark.spec("LwM2M-contract 12", "R-13")
def test_end_devices_come_and_go_and_the_gateway_says_so(bench):
    device = bench.start(end_devices=3, end_devices_leave_every_s=60)
    bench.ask(codes.GET, "/d01/3303/0/5700", observe=0)
    bench.network.run_for(61)
    assert device.end_devices == ("d02", "d03")
    assert decode_object_list(bench.requests[-1].payload).objects[25].instances == (1, 2)
    assert bench.code(codes.GET, "/d01/3303/0/5700") == "4.04"
    before = len(bench.notifications)
    bench.network.run_for(58)
    assert len(bench.notifications) == before
    bench.network.run_for(3)
    assert sorted(device.end_devices) == ["d01", "d02"]
    assert decode_object_list(bench.requests[-1].payload).objects[25].instances == (0, 1)
    assert bench.code(codes.GET, "/d01/3303/0/5700") == "2.05"
    bench.stop(device)
    count = len(bench.requests)
    bench.network.run_for(300)
    assert len(bench.requests) == count


@pytest.mark.spec("LwM2M-contract 12", "R-11", "GW-4")
def test_the_alternate_root_stands_before_the_prefix(bench):
    bench.start(end_devices=1, root="/lwm2m")
    answer = bench.ask(codes.GET, "/lwm2m/d01/3303/0/5701", accept=112)
    assert cbor2.loads(answer.payload)[0][-2] == "/lwm2m/d01/3303/0/5701"
    assert bench.code(codes.GET, "/d01/3303/0/5701") == "4.04"
