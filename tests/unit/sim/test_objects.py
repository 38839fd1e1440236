"""Objects that live: firmware updates, lights, the test object, instances that come and go, and the three releases."""

import cbor2
import pytest

from stellwerk.coap import codes
from stellwerk.coap.options import LOCATION_PATH
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat, decode_content, encode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim.objects import device_types


def execute(bench, path: str, arguments: bytes = b"") -> str:
    return bench.code(codes.POST, path, content_format=0 if arguments else None, payload=arguments)


def put(bench, path: str, payload: bytes, content_format: int = 0) -> str:
    return bench.code(codes.PUT, path, content_format=content_format, payload=payload)


def values(bench, path: str, accept: int = 112) -> dict[str, object]:
    return {str(entry.path): entry.value for entry in bench.read(path, accept).entries}


# -- object 4 --


@pytest.mark.spec("Core E.5")
def test_connectivity_tells_where_the_device_is_and_a_signal_that_moves(bench):
    bench.start()
    found = values(bench, "/4/0")
    assert found["/4/0/4/0"] == "10.0.0.2"
    assert found["/4/0/0"] == found["/4/0/1/0"] == 7
    seen = set()
    for _ in range(20):
        seen.add(bench.value("/4/0/2"))
        bench.network.run_for(60)
    assert len(seen) > 3
    assert all(-125 <= each <= -60 for each in seen)


# -- object 5 --


def firmware(bench) -> tuple[object, object]:
    return bench.value("/5/0/3"), bench.value("/5/0/5")


@pytest.mark.spec("Core E.6", "ETS 771")
def test_a_pushed_package_is_installed_on_update_and_runs_after_a_restart(bench):
    device = bench.start()
    assert put(bench, "/5/0/0", bytes(5000), 42) == "2.04"
    assert firmware(bench) == (2, 0)
    assert execute(bench, "/5/0/2") == "2.04"
    assert firmware(bench) == (3, 0)
    bench.network.run_for(6)
    assert device.location == "rd/r2"
    assert firmware(bench) == (0, 1)
    assert bench.value("/3/0/3") == bench.value("/5/0/7") == "1.1.0"


@pytest.mark.spec("Core E.6")
def test_a_package_uri_is_fetched_and_every_step_is_told_to_who_observes(bench):
    bench.start()
    bench.ask(codes.GET, "/5/0/3", observe=0)
    assert put(bench, "/5/0/1", b"coap://example.org/new.bin") == "2.04"
    bench.network.run_for(5)
    assert [bench.notified(index).entries[0].value for index in range(2)] == [1, 2]
    assert bench.value("/5/0/1") == "coap://example.org/new.bin"


@pytest.mark.parametrize(
    ("uri", "state", "result"),
    [
        (b"ftp://example.org/x", 0, 9),
        (b"somewhere", 0, 7),
        (b"coap://example.org/x?result=4", 0, 4),
        (b"https://example.org/x#result=5", 0, 5),
        (b"coap://example.org/x?result=8", 2, 0),
    ],
)
@pytest.mark.spec("Core E.6")
def test_every_end_of_a_download_can_be_had(bench, uri, state, result):
    bench.start()
    assert put(bench, "/5/0/1", uri) == "2.04"
    bench.network.run_for(4)
    assert firmware(bench) == (state, result)


def test_an_installation_that_fails_leaves_the_package_and_says_so(bench):
    device = bench.start()
    put(bench, "/5/0/0", b"result=8 and so on", 42)
    execute(bench, "/5/0/2")
    bench.network.run_for(5)
    assert firmware(bench) == (2, 8)
    assert device.location == "rd/r1"


@pytest.mark.spec("Core E.6", "ETS 772")
def test_firmware_refuses_what_its_state_forbids(bench):
    bench.start()
    assert execute(bench, "/5/0/2") == "4.05"
    assert firmware(bench) == (0, 0)
    put(bench, "/5/0/0", b"package", 42)
    execute(bench, "/5/0/2")
    assert put(bench, "/5/0/1", b"coap://example.org/x") == "4.05"
    assert put(bench, "/5/0/0", b"other", 42) == "4.05"
    assert firmware(bench) == (3, 0)


@pytest.mark.parametrize(("path", "payload", "content_format"), [("/5/0/1", b"", 0), ("/5/0/0", b"\0", 42)])
@pytest.mark.spec("Core E.6")
def test_an_empty_uri_or_package_resets(bench, path, payload, content_format):
    bench.start()
    put(bench, "/5/0/0", b"package", 42)
    assert put(bench, path, payload, content_format) == "2.04"
    assert firmware(bench) == (0, 0)


@pytest.mark.spec("Core E.6")
def test_a_download_is_cancelled_from_object_version_1_1_on(bench):
    bench.start(lwm2m_version="1.2")
    assert execute(bench, "/5/0/10") == "4.05"
    put(bench, "/5/0/1", b"coap://example.org/x")
    assert execute(bench, "/5/0/10") == "2.04"
    bench.network.run_for(10)
    assert firmware(bench) == (0, 10)


def test_a_device_that_is_stopped_during_an_installation_stays_stopped(bench):
    device = bench.start()
    put(bench, "/5/0/0", b"package", 42)
    execute(bench, "/5/0/2")
    bench.stop(device)
    bench.network.run_for(60)
    assert len(bench.asked(codes.POST, "rd")) == 1


# -- objects 3303 and 3311 --


def test_extremes_that_are_reset_start_from_now(bench):
    bench.start()
    bench.network.run_for(600)
    assert execute(bench, "/3303/0/5605") == "2.04"
    found = values(bench, "/3303/0")
    assert found["/3303/0/5601"] == found["/3303/0/5602"] == found["/3303/0/5700"]


def test_a_light_counts_the_seconds_that_it_is_on(bench):
    bench.start()
    bench.network.run_for(50)
    assert bench.value("/3311/0/5852") == 0
    assert put(bench, "/3311/0/5850", b"1") == "2.04"
    bench.network.run_for(30)
    assert bench.value("/3311/0/5852") == pytest.approx(30, abs=2)
    put(bench, "/3311/0/5850", b"0")
    bench.network.run_for(30)
    assert bench.value("/3311/0/5852") == pytest.approx(31, abs=2)
    put(bench, "/3311/0/5850", b"1")
    put(bench, "/3311/0/5852", b"0")
    bench.network.run_for(10)
    assert bench.value("/3311/0/5852") == pytest.approx(10, abs=2)


# -- the test object --


@pytest.mark.parametrize("accept", [110, 112, 11542])
def test_the_test_object_has_every_type_once_and_several_times(bench, accept):
    bench.start()
    found = values(bench, "/3442/0", accept)
    assert found["/3442/0/110"] == found["/3442/0/1110/0"] == "initial value"
    assert found["/3442/0/125"] == 2**63
    assert found["/3442/0/150"] == bytes.fromhex("0123456789ABCDEF")
    assert found["/3442/0/170"] == (3, 0)
    assert len(found) == 18


def test_values_are_randomized_cleared_and_reset(bench):
    bench.start()
    before = values(bench, "/3442/0")
    assert execute(bench, "/3442/0/1") == "2.04"
    drawn = values(bench, "/3442/0")
    assert drawn["/3442/0/110"] != "initial value"
    assert execute(bench, "/3442/0/2") == "2.04"
    cleared = values(bench, "/3442/0")
    assert cleared == {
        "/3442/0/110": "",
        "/3442/0/120": 0,
        "/3442/0/125": 0,
        "/3442/0/130": 0.0,
        "/3442/0/140": False,
        "/3442/0/150": b"",
        "/3442/0/160": 0,
        "/3442/0/170": (65535, 65535),
        "/3442/0/180": "",
    }
    assert execute(bench, "/3442/0/0") == "2.04"
    assert values(bench, "/3442/0") == before


@pytest.mark.spec("D-8")
def test_arguments_of_an_execute_can_be_read_back(bench):
    bench.start()
    assert execute(bench, "/3442/0/3", b"3='stringValue',4") == "2.04"
    assert values(bench, "/3442/0/4") == {"/3442/0/4/3": "stringValue", "/3442/0/4/4": ""}
    for wrong in (b"3=x", b"0,0", b"a", b"0,", b"10='x'", b"0='\xff'"):
        assert execute(bench, "/3442/0/3", wrong) == "4.00"
    assert values(bench, "/3442/0/4") == {"/3442/0/4/3": "stringValue", "/3442/0/4/4": ""}


def test_an_execute_can_make_a_device_send(bench):
    bench.start()
    body = cbor2.dumps([{-2: "/3442/0/6/", 0: "0", 3: "/3/0/0"}, {0: "1", 3: "/3442/0/1120"}])
    assert put(bench, "/3442/0/6", body, 112) == "2.04"
    assert execute(bench, "/3442/0/5") == "2.04"
    bench.network.run_for(1)
    (request,) = bench.asked(codes.POST, "dp")
    content = decode_content(112, request.payload, Path(), device_types())
    assert [(str(each.path), each.value) for each in content.entries] == [
        ("/3/0/0", "Stellwerk"),
        ("/3442/0/1120/0", 1024),
    ]


def test_paths_to_send_that_are_none_are_refused(bench):
    bench.start()
    put(bench, "/3442/0/6", cbor2.dumps([{-2: "/3442/0/6/0", 3: "anything"}]), 112)
    assert execute(bench, "/3442/0/5") == "4.00"
    put(bench, "/3442/0/6", cbor2.dumps([{-2: "/3442/0/6/0", 3: "/9/9/9"}]), 112)
    assert execute(bench, "/3442/0/5") == "4.04"


def test_devices_do_not_see_what_is_written_to_others(bench, bench_on):
    other = bench_on()
    other.start()
    bench.start()
    before = values(other, "/3442/0")
    body = cbor2.dumps([{-2: "/3442/0/1120/", 0: "5", 2: 7}])
    assert bench.code(codes.POST, "/3442/0/1120", content_format=112, payload=body) == "2.04"
    execute(bench, "/3442/0/2")
    put(bench, "/3311/0/5850", b"1")
    assert values(other, "/3442/0") == before
    assert other.value("/3311/0/5850") is False


# -- instances that come and go --


def created(bench, path: str, entries: dict[str, object], content_format: int = 112, instance: str = "65535"):
    content = Content(tuple(Entry(Path.parse(f"{path}/{instance}/{each}"), value) for each, value in entries.items()))
    body = encode_content(content_format, content, Path.parse(path), device_types())
    return bench.ask(codes.POST, path, content_format=content_format, payload=body)


def location(answer) -> list[str]:
    return [value.decode() for number, value in answer.options if number == LOCATION_PATH]


@pytest.mark.parametrize("content_format", [110, 112, 11542])
@pytest.mark.spec("D-9", "Core 6.3.6")
def test_an_instance_is_created_told_by_an_update_and_deleted(bench, content_format):
    bench.start()
    answer = created(bench, "/3311", {"5850": True, "5851": 40}, content_format)
    assert codes.dotted(answer.code) == "2.01"
    assert location(answer) == ["3311", "1"]
    bench.network.run_for(10)
    assert bench.requests[-1].path == ("rd", "r1")
    assert bench.requests[-1].content_format == 40
    assert b"</3311/0>,</3311/1>" in bench.requests[-1].payload
    found = values(bench, "/3311/1")
    assert found["/3311/1/5851"] == 40
    assert found["/3311/1/5852"] == pytest.approx(10, abs=2)
    assert bench.code(codes.DELETE, "/3311/1") == "2.02"
    bench.network.run_for(1)
    assert b"</3311/1>" not in bench.requests[-1].payload
    assert bench.requests[-1].payload
    assert bench.code(codes.GET, "/3311/1") == "4.04"


@pytest.mark.spec("R-13")
def test_an_update_without_news_of_instances_has_no_body(bench):
    bench.start(update_every_s=20)
    created(bench, "/3442", {"110": "x"})
    bench.network.run_for(50)
    assert [bool(each.payload) for each in bench.requests] == [True, True, False, False]


def test_an_instance_gets_the_identifier_it_asks_for(bench):
    bench.start()
    assert location(created(bench, "/3442", {"110": "x"}, instance="7")) == ["3442", "7"]
    assert bench.value("/3442/7/120") == 1024
    assert codes.dotted(created(bench, "/3442", {"110": "y"}, instance="7").code) == "4.00"
    assert bench.value("/3442/7/110") == "x"
    assert location(created(bench, "/3442", {"110": "z"})) == ["3442", "1"]


@pytest.mark.parametrize(
    ("path", "entries", "code"),
    [
        ("/3311", {"5851": 40}, "4.00"),
        ("/3311", {"5850": True, "5851": 400}, "4.00"),
        ("/3303", {"5700": 1.0}, "4.05"),
        ("/3", {"0": "x"}, "4.05"),
        ("/9", {"14": "x"}, "4.04"),
    ],
)
def test_what_cannot_be_created_is_refused_and_nothing_is_there(bench, path, entries, code):
    bench.start()
    assert codes.dotted(created(bench, path, entries).code) == code
    assert bench.code(codes.GET, f"{path}/1") == "4.04"
    bench.network.run_for(1)
    assert len(bench.requests) == 1


def test_there_is_room_for_so_many_instances_and_no_more(bench):
    bench.start()
    found = [codes.dotted(created(bench, "/3442", {"110": "x"}).code) for _ in range(32)]
    assert found == ["2.01"] * 31 + ["5.00"]


@pytest.mark.spec("D-10")
def test_what_must_stay_is_not_deleted(bench):
    bench.start()
    for path in ("/3/0", "/3303/0", "/3442", "/3442/0/110", "/3/0/7/0"):
        assert bench.code(codes.DELETE, path) == "4.05", path
    assert bench.code(codes.DELETE, "/0/0") == "4.01"
    assert bench.code(codes.DELETE, "/3442/5") == "4.04"


def test_attributes_of_a_deleted_instance_do_not_come_back_with_another(bench):
    bench.start()
    created(bench, "/3442", {"110": "x"})
    assert bench.code(codes.PUT, "/3442/1", query=("pmin=5",)) == "2.04"
    assert bench.code(codes.DELETE, "/3442/1") == "2.02"
    created(bench, "/3442", {"110": "x"})
    assert bench.ask(codes.GET, "/3442/1", accept=40).payload.startswith(b"</3442/1>,")


def test_an_instance_of_a_resource_is_deleted(bench):
    bench.start()
    assert bench.code(codes.PUT, "/3442/0/1110/0", query=("pmin=5",)) == "2.04"
    assert bench.code(codes.DELETE, "/3442/0/1110/0") == "2.02"
    body = cbor2.dumps([{-2: "/3442/0/1110/0", 3: "back"}])
    assert bench.code(codes.POST, "/3442/0/1110", content_format=112, payload=body) == "2.04"
    bench.ask(codes.GET, "/3442/0/1110/0", observe=0)
    put(bench, "/3442/0/1110/0", b"again")
    bench.network.run_for(1)
    assert bench.notified().entries[0].value == "again"
    assert bench.code(codes.DELETE, "/3442/0/1110/0") == "2.02"
    assert bench.read("/3442/0/1110").empty == (Path(3442, 0, 1110),)
    assert bench.code(codes.DELETE, "/3442/0/1110/0") == "4.04"


@pytest.mark.spec("OB-4")
def test_who_observes_what_is_deleted_is_told_4_04_and_no_more(bench):
    device = bench.start()
    created(bench, "/3442", {"110": "x"})
    bench.ask(codes.GET, "/3442/1", observe=0)
    bench.code(codes.DELETE, "/3442/1")
    bench.network.run_for(100)
    assert [codes.dotted(each.code) for each in bench.notifications] == ["4.04"]
    assert device.observed_paths == ()


def test_an_observed_object_tells_of_instances_that_come(bench):
    bench.start(moving=False)
    bench.ask(codes.GET, "/3311", observe=0, accept=112)
    created(bench, "/3311", {"5850": False})
    bench.network.run_for(1)
    assert Path(3311, 1, 5850) in [entry.path for entry in bench.notified().entries]


# -- the releases --


@pytest.mark.spec("BIN-1", "R-10", "R-11")
def test_a_device_of_lwm2m_1_0_speaks_as_one(bench):
    bench.start(lwm2m_version="1.0", queue_mode=True, send_every_s=5)
    (request,) = bench.requests
    assert set(request.query) == {"ep=dev-1", "lt=300", "lwm2m=1.0", "b=UQ"}
    assert request.payload.startswith(b'</>;rt="oma.lwm2m",</1/0>')
    assert request.payload.endswith(b"</3441/0>")
    assert bench.ask(codes.GET, "/3/0").content_format == 11542
    assert bench.code(codes.GET, "/3/0", accept=112) == "4.06"
    assert bench.code(codes.PUT, "/3303/0/5700", query=("epmin=5",)) == "4.00"
    assert bench.code(codes.GET, "/1/0/23") == "4.04"
    assert bench.code(codes.DELETE, "/3441/0/1110/0") == "4.05"
    bench.network.run_for(300)
    assert bench.asked(codes.POST, "dp") == []


def test_a_device_of_lwm2m_1_2_speaks_as_one(bench):
    bench.start(lwm2m_version="1.2", moving=False)
    assert "lwm2m=1.2" in bench.requests[0].query
    answer = bench.ask(codes.GET, "/3/0", accept=ContentFormat.LWM2M_CBOR)
    assert answer.content_format == 11544
    values_found = decode_content(11544, answer.payload, Path(3, 0), device_types("1.2")).entries
    assert "Stellwerk" in [each.value for each in values_found]


@pytest.mark.parametrize(
    ("path", "query", "links"),
    [
        ("/3442", ("depth=0",), 1),
        ("/3442", ("depth=1",), 2),
        ("/3442/0/1110", (), 2),
        ("/3442/0/1110", ("depth=0",), 1),
        ("/3442/0", ("depth=1",), 26),
        ("/3442/0", ("depth=2",), 35),
    ],
)
@pytest.mark.spec("ETS 264", "D-13")
def test_a_discover_goes_as_deep_as_it_says(bench, path, query, links):
    bench.start(lwm2m_version="1.2")
    answer = bench.ask(codes.GET, path, accept=40, query=query)
    assert len(answer.payload.split(b",")) == links


def test_a_depth_that_is_none_is_refused(bench):
    bench.start(lwm2m_version="1.2")
    assert bench.code(codes.GET, "/3", accept=40, query=("depth=4",)) == "4.00"


@pytest.mark.spec("ETS 312")
def test_attributes_in_an_observe_count_for_it_and_are_not_discovered(bench):
    bench.start(lwm2m_version="1.2", moving=False)
    assert bench.ask(codes.GET, "/3/0/14", observe=0, query=("pmax=20",)).observe == 1
    bench.network.run_for(41)
    assert len(bench.notifications) == 2
    assert bench.ask(codes.GET, "/3/0/14", accept=40).payload == b"</3/0/14>"
    assert bench.code(codes.GET, "/3/0/14", observe=0, query=("gt=5",)) == "4.00"
    assert bench.code(codes.GET, "/3/0/14", query=("pmax=20",)) == "4.00"
