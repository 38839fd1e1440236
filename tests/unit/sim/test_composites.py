"""Several paths at once: Read-Composite, Write-Composite, Observe-Composite, and devices that have none of them."""

import json

import cbor2
import pytest

from stellwerk.coap import codes
from stellwerk.lwm2m.formats import decode_content, encode_paths
from stellwerk.lwm2m.path import Path
from stellwerk.sim.objects import device_types
from stellwerk.sim.options import Composites
from stellwerk.sim.tree import ObjectTree

FORMATS = [(110, 110), (112, 112), (320, 110), (322, 112), (322, 11544)]


def paths(*texts: str, content_format: int = 112) -> bytes:
    return encode_paths(content_format, [Path.parse(each) for each in texts])


def fetch(bench, *texts: str, content_format: int = 112, accept: int | None = 112, **more):
    return bench.ask(
        codes.FETCH,
        "/",
        content_format=content_format,
        accept=accept,
        payload=paths(*texts, content_format=content_format),
        **more,
    )


def patch(bench, records: list, content_format: int = 112) -> str:
    payload = json.dumps(records).encode() if content_format in (110, 320) else cbor2.dumps(records)
    return bench.code(codes.IPATCH, "/", content_format=content_format, payload=payload)


def values(answer) -> dict[str, object]:
    content = decode_content(answer.content_format, answer.payload, Path(), device_types("1.2"))
    return {str(entry.path): entry.value for entry in content.entries}


# -- reading --


@pytest.mark.parametrize(("content_format", "accept"), FORMATS)
@pytest.mark.spec("ETS 236", "D-11", "RFC 8132")
def test_what_is_there_is_read_and_what_is_not_is_left_out(bench, content_format, accept):
    bench.start(lwm2m_version="1.2", moving=False)
    wanted = ("/3/0/0", "/1/0/1", "/1/0/8", "/9/0", "/0/0/0", "/3/0")
    answer = fetch(bench, *wanted, content_format=content_format, accept=accept)
    assert (codes.dotted(answer.code), answer.content_format) == ("2.05", accept)
    found = values(answer)
    assert found["/3/0/0"] == "Stellwerk"
    assert found["/1/0/1"] == 300
    assert not [each for each in found if each.startswith(("/0", "/9")) or each == "/1/0/8"]


@pytest.mark.spec("ETS 235")
def test_the_root_holds_all_but_the_objects_of_keys(bench):
    bench.start(moving=False)
    found = values(fetch(bench, "/"))
    assert {each.split("/")[1] for each in found} == {"1", "3", "4", "5", "6", "3303", "3311", "3442"}


@pytest.mark.parametrize(("content_format", "answered"), [(320, 110), (322, 112), (110, 110)])
def test_without_accept_the_answer_is_in_the_format_of_the_request(bench, content_format, answered):
    bench.start(lwm2m_version="1.2")
    assert fetch(bench, "/3/0/0", content_format=content_format, accept=None).content_format == answered


@pytest.mark.parametrize(
    ("version", "request_", "code"),
    [
        ("1.1", {"content_format": 322}, "4.15"),
        ("1.1", {"content_format": None}, "4.15"),
        ("1.1", {"content_format": 60}, "4.15"),
        ("1.1", {"accept": 11544}, "4.06"),
        ("1.1", {"accept": 11542}, "4.06"),
        ("1.1", {"accept": 0}, "4.06"),
        ("1.1", {"payload": b"\x80"}, "4.00"),
        ("1.1", {"payload": b"?"}, "4.00"),
        ("1.1", {"query": ("pmin=5",)}, "4.00"),
        ("1.2", {"query": ("gt=5",), "observe": 0}, "4.00"),
        ("1.0", {}, "4.05"),
    ],
)
def test_a_read_composite_that_cannot_be_is_refused(bench, version, request_, code):
    bench.start(lwm2m_version=version)
    request = {"content_format": 112, "payload": paths("/3/0/0"), **request_}
    assert bench.code(codes.FETCH, "/", **request) == code


# -- writing --


@pytest.mark.parametrize("content_format", [110, 112, 320, 322])
@pytest.mark.spec("ETS 257", "D-11")
def test_values_of_several_objects_are_written_at_once(bench, content_format):
    bench.start(lwm2m_version="1.2")
    is_json = content_format in (110, 320)
    name, value, text = ("n", "v", "vs") if is_json else (0, 2, 3)
    records = [{name: "/1/0/1", value: 600}, {name: "/3/0/14", text: "+05:00"}]
    assert patch(bench, records, content_format) == "2.04"
    assert (bench.value("/1/0/1"), bench.value("/3/0/14")) == (600, "+05:00")
    assert bench.requests[-1].query == ("lt=600",)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({0: "/3/0/0", 3: "Other"}, "4.05"),
        ({0: "/3/0/99", 2: 1}, "4.04"),
        ({0: "/7/0/8", 2: 1}, "4.04"),
        ({0: "/0/0/0", 3: "coap://x"}, "4.01"),
        ({0: "/1/0/2", 3: "soon"}, "4.00"),
        ({0: "/1/0/1", 2: -1}, "4.00"),
    ],
)
@pytest.mark.spec("D-11")
def test_one_value_that_cannot_be_written_leaves_all_as_they_were(bench, bad, code):
    bench.start()
    assert patch(bench, [{0: "/3/0/14", 3: "+05:00"}, bad]) == code
    assert bench.value("/3/0/14") == "+01:00"


@pytest.mark.parametrize("content_format", [320, 322])
@pytest.mark.spec("LwM2M-contract 8.4")
def test_a_null_takes_a_resource_instance_away(bench, content_format):
    bench.start(lwm2m_version="1.2", ets=True)
    bn, n, v, vs = ("bn", "n", "v", "vs") if content_format == 320 else (-2, 0, 2, 3)
    assert patch(bench, [{bn: "/16/0/0/", n: "1", v: None}, {n: "7", vs: "new"}], content_format) == "2.04"
    found = values(fetch(bench, "/16/0/0"))
    assert "/16/0/0/1" not in found
    assert found["/16/0/0/7"] == "new"
    assert patch(bench, [{n: "/16/0/0/7", v: None}, {n: "/16/0/0/9", v: None}], content_format) == "4.04"
    assert "/16/0/0/7" in values(fetch(bench, "/16/0/0"))
    assert patch(bench, [{n: "/3/0/14", v: None}], content_format) == "4.00"
    assert patch(bench, [{n: "/3/0/11/0", v: None}], content_format) == "4.05"


# -- observing --


@pytest.mark.spec("OB-1", "ETS 305")
def test_every_notification_holds_all_paths_until_the_same_list_cancels(bench):
    device = bench.start(moving=False)
    assert fetch(bench, "/1/0/1", "/3/0/14", observe=0, token=b"several!").observe == 1
    bench.code(codes.PUT, "/3/0/14", content_format=0, payload=b"+05:00")
    bench.network.run_for(0.5)
    told = {str(each.path): each.value for each in bench.notified().entries}
    assert told == {"/1/0/1": 300, "/3/0/14": "+05:00"}
    assert codes.dotted(fetch(bench, "/1/0/1", "/3/0/14", observe=1, token=b"several!").code) == "2.05"
    assert device.observed_paths == ()


@pytest.mark.spec("ETS 304", "ETS 310")
def test_the_periods_of_all_paths_count(bench):
    device = bench.start(moving=False)
    bench.code(codes.PUT, "/1/0/1", query=("pmin=30", "pmax=45"))
    fetch(bench, "/1/0/1", "/3/0/11/0", "/3/0/16", observe=0)
    began = bench.network.now
    bench.network.run(began + 44)
    assert bench.notifications == []
    bench.network.run(began + 46)
    assert len(bench.notifications) == 1
    bench.code(codes.PUT, "/3/0", query=("pmax=31",))
    bench.network.run(began + 45 + 32)
    assert len(bench.notifications) == 2
    told_at = bench.network.now
    bench.poke(device, lambda device, now: device.change(Path(3, 0, 16), "UQ", now))
    bench.network.run(told_at + 27)
    assert len(bench.notifications) == 2
    bench.network.run(told_at + 31)
    assert len(bench.notifications) == 3
    assert bench.notified().entries[-1].value == "UQ"


@pytest.mark.spec("Core 5.1.2")
def test_a_threshold_of_one_path_counts_for_that_path(bench):
    device = bench.start(moving=False)
    bench.code(codes.PUT, "/3303/0/5700", query=("gt=100",))
    fetch(bench, "/3303/0/5700", "/3/0/14", observe=0)
    bench.poke(device, lambda device, now: device.change(Path(3303, 0, 5700), 99.0, now))
    assert bench.notifications == []
    bench.poke(device, lambda device, now: device.change(Path(3303, 0, 5700), 101.0, now))
    assert len(bench.notifications) == 1
    bench.poke(device, lambda device, now: device.change(Path(3, 0, 14), "+09:00", now))
    assert len(bench.notifications) == 2


@pytest.mark.spec("Core 6.4.1")
def test_attributes_in_an_observe_composite_count_for_it(bench):
    bench.start(lwm2m_version="1.2", moving=False)
    fetch(bench, "/3/0/14", "/1/0/1", observe=0, query=("pmax=20", "con=1"))
    bench.network.run_for(41)
    assert [each.confirmable for each in bench.notifications] == [True, True]
    assert bench.links("/3/0/14") == ["</3/0/14>"]


@pytest.mark.spec("ETS 308", "ETS 309")
def test_what_is_created_and_deleted_comes_and_goes_in_the_notifications(bench):
    bench.start(ets=True)
    fetch(bench, "/16/0", "/16/1", observe=0)
    body = cbor2.dumps([{0: "/16/1/0/0", 3: "new"}])
    assert bench.code(codes.POST, "/16", content_format=112, payload=body) == "2.01"
    bench.network.run_for(2)
    assert Path(16, 1, 0, 0) in [each.path for each in bench.notified().entries]
    assert bench.code(codes.DELETE, "/16/1") == "2.02"
    bench.network.run_for(2)
    assert {each.path[1] for each in bench.notified().entries} == {0}


# -- devices without them --


@pytest.mark.parametrize(
    ("composites", "code"), [(Composites.METHOD_NOT_ALLOWED, "4.05"), (Composites.NOT_IMPLEMENTED, "5.01")]
)
@pytest.mark.spec("D-12")
def test_a_device_without_composites_says_so(bench, composites, code):
    bench.start(composites=composites)
    assert codes.dotted(fetch(bench, "/3/0/0").code) == code
    assert patch(bench, [{0: "/3/0/14", 3: "+05:00"}]) == code
    assert bench.code(codes.GET, "/3/0/0") == "2.05"


@pytest.mark.spec("D-12")
def test_a_device_without_composites_acknowledges_and_is_silent(bench):
    bench.start(composites=Composites.SILENCE)
    wire = []
    bench.network.trace = lambda now, source, target, datagram: wire.append((source, datagram))
    assert fetch(bench, "/3/0/0", wait_s=300) is None
    answers = [datagram for source, datagram in wire if source == bench.device_address and len(datagram) == 4]
    assert [each[0] >> 4 & 3 for each in answers] == [2]
    assert [each.reason for each in bench.failures.values()] == ["timeout"]
    assert bench.code(codes.GET, "/3/0/0") == "2.05"


def test_a_tree_writes_all_or_nothing():
    tree = ObjectTree(device_types(), {16: {0: {0: {0: "a", 1: "b"}}}})
    tree.write_all((), (Path(16, 0, 0, 1),))
    assert [str(each.path) for each in tree.read(Path(16), 0.0)[0]] == ["/16/0/0/0"]
    tree.reset()
    assert len(tree.read(Path(16), 0.0)[0]) == 2
