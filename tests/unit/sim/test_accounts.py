"""What a device tells a server of itself: profile, alternate root, formats; and what it keeps for it alone."""

import cbor2
import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import Respond
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.formats.lwm2m_json import decode as decode_json
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.path import Path
from stellwerk.sim.objects import device_types
from stellwerk.sim.release import InvalidFormats
from stellwerk.sim.tree import ObjectTree

SECOND = ("coap://10.0.0.9:5683",)


def execute(bench, path: str) -> str:
    return bench.code(codes.POST, path)


def put(bench, path: str, payload: bytes) -> str:
    return bench.code(codes.PUT, path, content_format=0, payload=payload)


# -- registering --


@pytest.mark.spec("ETS 110", "Core 6.2.1")
def test_a_profile_stands_for_the_object_list(bench):
    device = bench.start(lwm2m_version="1.2", profile_id="6:27354b9a")
    (request,) = bench.requests
    assert "pid=6:27354b9a" in request.query
    assert (request.content_format, request.payload) == (None, b"")
    assert device.is_registered


@pytest.mark.spec("ETS 111")
def test_what_a_profile_does_not_cover_is_listed_beside_it(bench):
    bench.start(
        lwm2m_version="1.2",
        profile_id="6:27354b9a",
        profile_covers=(Path(1, 0), Path(3, 0)),
        object_ids=frozenset({4}),
    )
    assert bench.requests[0].payload.endswith(b",</4/0>")
    assert list(decode_object_list(bench.requests[0].payload).objects) == [4]


@pytest.mark.spec("Core 6.2.1")
def test_a_server_that_does_not_know_the_profile_gets_the_whole_list_at_once(bench):
    bench.decide = lambda request: (
        Respond(request.exchange, codes.CONFLICT) if request.path == ("rd",) and not request.payload else None
    )
    device = bench.start(lwm2m_version="1.2", profile_id="6:27354b9a")
    assert device.is_registered
    assert [bool(each.payload) for each in bench.requests] == [False, True]
    assert "pid=6:27354b9a" in bench.requests[1].query
    bench.network.run_for(1)
    assert len(bench.requests) == 2


@pytest.mark.spec("R-11")
def test_an_alternate_root_stands_before_every_path(bench):
    bench.start(root="/lwm2m", moving=False)
    listed = decode_object_list(bench.requests[0].payload)
    assert (listed.root, 3 in listed.objects) == ("/lwm2m", True)
    assert bench.code(codes.GET, "/3/0/0") == "4.04"
    answer = bench.ask(codes.GET, "/lwm2m/3/0/0", accept=112)
    assert cbor2.loads(answer.payload) == [{-2: "/lwm2m/3/0/0", 3: "Stellwerk"}]
    assert bench.links("/lwm2m/3/0/7") == ["</lwm2m/3/0/7>;dim=2"]
    body = cbor2.dumps([{0: "/lwm2m/3/0/14", 3: "+05:00"}])
    assert bench.code(codes.POST, "/lwm2m/3/0", content_format=112, payload=body) == "2.04"
    assert bench.code(codes.IPATCH, "/", content_format=112, payload=body) == "2.04"
    assert bench.code(codes.IPATCH, "/", content_format=112, payload=cbor2.dumps([{0: "/3/0/14", 3: "x"}])) == "4.00"


@pytest.mark.parametrize(
    ("version", "queue_mode", "binding", "stated"),
    [("1.1", False, "UT", {"b=UT"}), ("1.2", True, "U", {"b=U", "Q"}), ("1.0", True, "US", {"b=USQ"})],
)
@pytest.mark.spec("BIN-1", "BIN-3")
def test_the_binding_is_stated_as_the_release_has_it(bench, version, queue_mode, binding, stated):
    bench.start(lwm2m_version=version, queue_mode=queue_mode, binding=binding)
    assert {each for each in bench.requests[0].query if each[0] in "bQ"} == stated


# -- formats --


def test_a_device_has_the_formats_that_it_is_left_with(bench):
    bench.start(formats=(110, 60))
    assert b';ct="60 110",' in bench.requests[0].payload
    assert bench.ask(codes.GET, "/3/0").content_format == 110
    assert bench.code(codes.GET, "/3/0", accept=112) == "4.06"
    assert bench.code(codes.GET, "/3/0/0", accept=60) == "2.05"
    assert bench.code(codes.PUT, "/3/0/14", content_format=0, payload=b"+05:00") == "4.15"


@pytest.mark.parametrize(("version", "formats"), [("1.0", (112,)), ("1.2", (320,)), ("1.1", (9,))])
def test_formats_that_a_release_does_not_have_are_refused(bench, version, formats):
    with pytest.raises(InvalidFormats, match=f"LwM2M {version}"):
        bench.start(lwm2m_version=version, formats=formats)


@pytest.mark.parametrize("path", ["/3", "/3/0", "/3/0/7", "/3/0/7/1", "/3/0/0", "/3441/0"])
@pytest.mark.spec("ETS 204")
def test_the_json_of_1_0_says_what_tlv_says(bench, path):
    bench.start(lwm2m_version="1.0", moving=False)
    answer = bench.ask(codes.GET, path, accept=11543)
    assert answer.content_format == 11543
    types = device_types("1.0")
    as_json = decode_json(answer.payload, Path.parse(path), types).entries
    tlv = bench.ask(codes.GET, path, accept=11542)
    expected = decode_content(11542, tlv.payload, Path.parse(path), types).entries
    assert {each for each in as_json if each.path != Path(3, 0, 13)} == {
        each for each in expected if each.path != Path(3, 0, 13)
    }


# -- several servers --


@pytest.fixture
def second(bench, bench_on):
    return bench_on(beside=bench)


@pytest.mark.spec("R-18", "ETS 950")
def test_a_device_registers_with_each_of_its_servers(bench, second):
    device = bench.start(other_server_uris=SECOND)
    assert [each.path for each in bench.requests] == [each.path for each in second.requests] == [("rd",)]
    assert b"</1/1>" in second.requests[0].payload
    assert device.is_registered
    bench.stop(device)
    assert bench.requests[-1].code == second.requests[-1].code == codes.DELETE


@pytest.mark.spec("R-18", "ETS 951")
def test_attributes_and_observations_are_each_servers_own(bench, second):
    bench.start(other_server_uris=SECOND, moving=False)
    assert bench.code(codes.PUT, "/3/0", query=("pmin=2", "pmax=10")) == "2.04"
    assert second.code(codes.PUT, "/3/0", query=("pmin=15", "pmax=50")) == "2.04"
    assert bench.links("/3/0")[0] == "</3/0>;pmin=2;pmax=10"
    assert second.links("/3/0")[0] == "</3/0>;pmin=15;pmax=50"
    for each in (bench, second):
        each.ask(codes.GET, "/3/0/14", observe=0)
    bench.network.run_for(49)
    assert (len(bench.notifications), len(second.notifications)) == (4, 0)
    bench.network.run_for(2)
    assert len(second.notifications) == 1


@pytest.mark.spec("R-18")
def test_each_account_has_its_own_lifetime_trigger_and_disable(bench, second):
    device = bench.start(other_server_uris=SECOND)
    assert put(second, "/1/1/1", b"600") == "2.04"
    bench.network.run_for(1)
    assert second.requests[-1].query == ("lt=600",)
    assert execute(bench, "/1/0/8") == "2.04"
    bench.network.run_for(1)
    assert (len(bench.requests), len(second.requests)) == (2, 2)
    assert put(second, "/1/1/5", b"30") == "2.04"
    assert execute(second, "/1/1/4") == "2.04"
    bench.network.run_for(1)
    assert second.requests[-1].code == codes.DELETE
    assert bench.code(codes.GET, "/3/0/0") == "2.05"
    assert second.ask(codes.GET, "/3/0/0", wait_s=5) is None
    bench.network.run_for(30)
    assert second.requests[-1].path == ("rd",)
    assert device.is_registered
    assert len(bench.requests) == 2


@pytest.mark.spec("D-14", "Core 8.2")
def test_an_account_of_another_server_is_not_for_everybody(bench, second):
    bench.start(other_server_uris=SECOND)
    assert bench.code(codes.GET, "/1/1/1") == "4.01"
    assert put(second, "/1/0/1", b"600") == "4.01"
    assert execute(second, "/1/0/8") == "4.01"
    assert {each.path[1] for each in bench.read("/1").entries} == {0}
    assert "</1/1/1>" in bench.links("/1")
    assert put(bench, "/3/0/14", b"+05:00") == put(second, "/3/0/14", b"+06:00") == "2.04"


# -- rights --


@pytest.mark.spec("D-14", "Core 8.2")
def test_rights_say_what_a_server_may_do(bench):
    bench.start(access_rights=((Path(3, 0), 1), (Path(3303, 0), 0), (Path(3311), 0), (Path(3311, 0), 2 + 8)))
    assert bench.code(codes.GET, "/3/0/0") == "2.05"
    assert put(bench, "/3/0/14", b"+05:00") == "4.01"
    assert execute(bench, "/3/0/4") == "4.01"
    assert bench.code(codes.GET, "/3303/0/5700", observe=0) == "4.01"
    assert bench.code(codes.PUT, "/3303/0", query=("pmin=5",)) == "4.01"
    assert bench.links("/3303/0/5700") == ["</3303/0/5700>"]
    assert bench.code(codes.GET, "/3311/0") == "4.01"
    assert put(bench, "/3311/0/5850", b"1") == "2.04"
    body = cbor2.dumps([{0: "/3311/5/5850", 4: True}])
    assert bench.code(codes.POST, "/3311", content_format=112, payload=body) == "4.01"
    assert bench.code(codes.DELETE, "/3311/0") == "2.02"
    assert bench.code(codes.GET, "/2/0/0") == "2.05"
    assert put(bench, "/2/1/2/1", b"31") == "4.01"
    assert bench.code(codes.GET, "/6/0") == "2.05"


# -- restarts --


@pytest.mark.spec("D-16", "Core E.4")
def test_a_factory_reset_brings_back_what_was_there_first(bench):
    device = bench.start()
    assert put(bench, "/3/0/14", b"+05:00") == "2.04"
    body = cbor2.dumps([{0: "/3311/5/5850", 4: True}])
    assert bench.code(codes.POST, "/3311", content_format=112, payload=body) == "2.01"
    assert execute(bench, "/3/0/4") == "2.04"
    bench.network.run_for(3)
    assert bench.value("/3/0/14") == "+05:00"
    assert execute(bench, "/3/0/5") == "2.04"
    bench.network.run_for(3)
    assert device.location == "rd/r3"
    assert bench.value("/3/0/14") == "+01:00"
    assert bench.code(codes.GET, "/3311/5") == "4.04"


# -- sending --


@pytest.mark.parametrize(("version", "content_format"), [("1.1", 110), ("1.1", 112), ("1.2", 11544)])
@pytest.mark.spec("ETS 306", "ETS 311")
def test_a_send_says_what_is_there_in_each_format(bench, version, content_format):
    device = bench.start(lwm2m_version=version, send_format=content_format, moving=False)
    bench.poke(device, lambda device, now: device.send((Path(1, 0, 1), Path(3, 0, 11, 0)), now))
    (request,) = bench.asked(codes.POST, "dp")
    assert request.content_format == content_format
    content = decode_content(content_format, request.payload, Path(), device_types(version))
    assert {str(each.path): each.value for each in content.entries} == {"/1/0/1": 300, "/3/0/11/0": 0}
    assert all((each.time_s is None) is (content_format == 11544) for each in content.entries)


@pytest.mark.spec("ETS 307")
def test_a_device_that_is_mute_speaks_once_it_is_unmuted(bench):
    device = bench.start(muted=True)
    bench.poke(device, lambda device, now: device.send((Path(1, 0, 1),), now))
    assert bench.asked(codes.POST, "dp") == []
    assert put(bench, "/1/0/23", b"0") == "2.04"
    bench.poke(device, lambda device, now: device.send((Path(1, 0, 1),), now))
    assert len(bench.asked(codes.POST, "dp")) == 1


# -- what happened while it slept --


@pytest.mark.parametrize(("accept", "most", "kept"), [(112, "3", 3), (110, "100", 9)])
@pytest.mark.spec("Core 5.1.2", "LwM2M-contract 7", "ATT-8")
def test_hqmax_keeps_what_happens_while_a_sleeper_sleeps(bench, accept, most, kept):
    bench.start(lwm2m_version="1.2", queue_mode=True, awake_s=5, update_every_s=60, sample_every_s=5)
    assert bench.code(codes.PUT, "/3303/0/5700", query=(f"hqmax={most}",)) == "2.04"
    bench.ask(codes.GET, "/3303/0/5700", observe=0, accept=accept)
    bench.network.run_for(50)
    before = len(bench.notifications)
    bench.network.run_until(lambda: len(bench.requests) == 2, 60)
    bench.network.run_for(0.5)
    told = bench.notified().entries
    assert len(bench.notifications) == before + 1
    assert kept < len(told) <= kept + (1 if most == "3" else 3)
    times = [each.time_s for each in told]
    assert times == sorted(times)
    assert times[-1] - times[0] >= 10
    assert times[-1] == pytest.approx(bench.network.instant().wall_ms / 1000, abs=1)


@pytest.mark.spec("Core 5.1.2")
def test_a_format_without_times_says_what_is_now_alone(bench):
    bench.start(lwm2m_version="1.2", queue_mode=True, awake_s=5, update_every_s=60, sample_every_s=5)
    assert bench.code(codes.PUT, "/3303/0/5700", query=("hqmax=3",)) == "2.04"
    bench.ask(codes.GET, "/3303/0/5700", observe=0, accept=0)
    bench.network.run_until(lambda: len(bench.requests) == 2, 80)
    bench.network.run_for(0.5)
    assert float(bench.notifications[-1].payload) == pytest.approx(bench.value("/3303/0/5700"), abs=0.5)


@pytest.mark.spec("Core E.2", "LwM2M-contract 7", "ATT-18")
def test_nothing_is_kept_where_the_server_wants_no_storing(bench):
    bench.start(lwm2m_version="1.2", queue_mode=True, awake_s=5, update_every_s=60, sample_every_s=5)
    assert put(bench, "/1/0/6", b"0") == "2.04"
    assert bench.code(codes.PUT, "/3303/0/5700", query=("hqmax=3",)) == "2.04"
    bench.ask(codes.GET, "/3303/0/5700", observe=0)
    bench.network.run_for(62)
    assert all(len(bench.notified(index).entries) == 1 for index in range(len(bench.notifications)))


def test_a_tree_that_is_reset_does_not_share_what_was_written():
    there = {3: {0: {14: "+01:00"}}}
    tree = ObjectTree(device_types(), there)
    tree.put(Path(3, 0, 14), "+02:00")
    tree.reset()
    tree.put(Path(3, 0, 14), "+03:00")
    assert there == {3: {0: {14: "+01:00"}}}
