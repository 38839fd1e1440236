"""A simulated device against a bare CoAP engine as its server, in memory."""

from itertools import pairwise

import cbor2
import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import Drop, ForgetObservation, Respond
from stellwerk.coap.options import MAX_AGE, encode_uint
from stellwerk.core.ids import PeerId
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim.device import Device
from stellwerk.sim.enrolment import Patience, State
from stellwerk.sim.faults import MISBEHAVIOUR
from stellwerk.sim.happenings import ObservationEnded, Rebooted, RegistrationLost, RegistrationRefused
from stellwerk.sim.objects import device_types
from stellwerk.sim.population import Poke

EAGER = Patience(first_s=5.0, count=3, pause_s=60.0)


# -- registration --


@pytest.mark.spec("R-10", "R-11", "RFC 6690")
def test_a_device_registers_with_its_name_lifetime_release_and_objects(bench):
    device = bench.start(lifetime_s=120)
    (request,) = bench.requests
    assert request.code == codes.POST
    assert request.path == ("rd",)
    assert set(request.query) == {"ep=dev-1", "lt=120", "lwm2m=1.1", "b=U"}
    assert request.content_format == 40
    links = request.payload.decode().split(",")
    assert links[0] == '</>;rt="oma.lwm2m";ct="60 110 112 11542"'
    assert links[1:] == [
        *("</1/0>", "</3/0>", "</4/0>", "</5/0>", "</6/0>", "</3303>;ver=1.1", "</3303/0>"),
        *("</3311/0>", "</3442/0>"),
    ]
    assert device.is_registered
    assert device.location == "rd/r1"


@pytest.mark.spec("R-12")
def test_the_security_object_is_not_registered(bench):
    bench.start()
    assert b"</0" not in bench.requests[0].payload


@pytest.mark.spec("BIN-3")
def test_a_queue_mode_device_says_so(bench):
    bench.start(queue_mode=True)
    assert "Q" in bench.requests[0].query


@pytest.mark.spec("R-7")
def test_an_update_without_anything_new_is_empty_and_comes_before_the_lifetime_ends(bench):
    bench.start(lifetime_s=100)
    bench.network.run_for(81)
    request = bench.requests[-1]
    assert request.path == ("rd", "r1")
    assert request.query == ()
    assert request.payload == b""
    assert 75 <= bench.times[-1] - bench.times[0] <= 81


def test_the_update_interval_can_be_set(bench):
    bench.start(lifetime_s=86_400, update_every_s=20)
    bench.network.run_for(100)
    assert len(bench.asked(codes.POST, "rd")) == 1 + 5


@pytest.mark.spec("R-6")
def test_an_update_that_is_answered_4_04_makes_the_device_register_again(bench):
    device = bench.start(update_every_s=20)
    bench.decide = lambda request: Respond(request.exchange, codes.NOT_FOUND) if len(request.path) == 2 else None
    bench.network.run_for(25)
    assert bench.requests[-1].path == ("rd",)
    assert device.location == "rd/r2"
    assert RegistrationLost("dev-1", "4.04") in bench.happenings


@pytest.mark.spec("R-17")
def test_a_refused_register_is_repeated_with_doubling_pauses_and_then_a_long_one(bench):
    bench.decide = lambda request: Respond(request.exchange, codes.FORBIDDEN)
    device = bench.start(patience=EAGER)
    bench.network.run_for(100)
    pauses = [after - before for before, after in pairwise(bench.times)]
    assert [round(each / 1.03) for each in pauses[:4]] == pytest.approx([5, 10, 60, 5], rel=0.06)
    assert device.state is not State.REGISTERED


@pytest.mark.spec("MSG-14")
def test_a_server_that_is_too_busy_is_left_alone_as_long_as_it_says(bench):
    busy = ((MAX_AGE, encode_uint(40)),)
    bench.decide = lambda request: (
        Respond(request.exchange, codes.SERVICE_UNAVAILABLE, options=busy) if len(bench.requests) == 1 else None
    )
    device = bench.start(patience=EAGER)
    bench.network.run_for(39)
    assert len(bench.requests) == 1
    bench.network.run_for(5)
    assert device.is_registered


def test_why_a_server_refuses_is_told_in_its_own_words(bench):
    text = b"device 'sim-1' has credentials and must use them"
    bench.decide = lambda request: Respond(request.exchange, codes.FORBIDDEN, payload=text)
    bench.start(patience=EAGER)
    refused = next(each for each in bench.happenings if isinstance(each, RegistrationRefused))
    assert (refused.reason, refused.detail) == ("4.03", text.decode())


@pytest.mark.spec("R-17")
def test_a_silent_server_is_tried_again_until_it_is_there(bench):
    bench.network.detach(("10.0.0.1", 5683))
    device = bench.start(patience=EAGER)
    bench.network.run_for(100)
    assert any(isinstance(each, RegistrationRefused) and each.reason == "timeout" for each in bench.happenings)
    bench.network.attach(("10.0.0.1", 5683), bench.server.engine, bench.server.on_events)
    bench.network.run_for(100)
    assert device.is_registered


def test_a_register_answered_without_location_counts_as_failed(bench):
    bench.decide = lambda request: Respond(request.exchange, codes.CREATED) if len(bench.requests) == 1 else None
    device = bench.start(patience=EAGER)
    assert not device.is_registered
    bench.network.run_for(6)
    assert device.is_registered


def test_a_stopped_device_deregisters(bench):
    device = bench.start()
    bench.stop(device)
    assert bench.requests[-1].code == codes.DELETE
    assert bench.requests[-1].path == ("rd", "r1")
    assert device.state is State.OFF
    bench.network.run_for(1000)
    assert bench.requests[-1].code == codes.DELETE


def test_a_device_stopped_during_its_register_deregisters_once_that_succeeds(bench):
    bench.network.detach(("10.0.0.1", 5683))
    device = bench.start()
    bench.stop(device)
    assert device.is_leaving
    bench.network.attach(("10.0.0.1", 5683), bench.server.engine, bench.server.on_events)
    bench.network.run_for(10)
    assert [each.code for each in bench.requests] == [codes.POST, codes.DELETE]
    assert device.state is State.OFF


def test_a_device_can_be_poked_into_an_update(bench):
    device = bench.start()
    bench.devices.submit(Poke(device, Device.trigger_update))
    bench.network.run_for(0.5)
    assert bench.requests[-1].path == ("rd", "r1")


def test_a_device_that_vanishes_says_and_answers_nothing(bench):
    device = bench.start(update_every_s=10)
    bench.vanish(device)
    assert bench.ask(codes.GET, "/3/0/0", wait_s=60) is None
    assert len(bench.requests) == 1


# -- reading --


@pytest.mark.parametrize(
    ("path", "accept", "payload"),
    [
        ("/3/0/0", 0, b"Stellwerk"),
        ("/3/0/10", 0, b"112"),
        ("/3/0/10", 60, bytes.fromhex("1870")),
        ("/3/0/10", 11542, bytes.fromhex("c10a70")),
        ("/3/0/10", 112, bytes.fromhex("81a22167") + b"/3/0/10" + bytes.fromhex("021870")),
        ("/3/0/10", 110, b'[{"bn":"/3/0/10","v":112}]'),
        ("/3/0/7/1", 0, b"5000"),
    ],
)
@pytest.mark.spec("D-1")
def test_a_resource_is_read_in_the_format_asked_for(bench, path, accept, payload):
    bench.start(moving=False)
    answer = bench.ask(codes.GET, path, accept=accept)
    assert codes.dotted(answer.code) == "2.05"
    assert answer.content_format == accept
    assert answer.payload == payload


@pytest.mark.parametrize("accept", [11542, 110, 112, None])
def test_an_instance_reads_the_same_in_every_hierarchical_format(bench, accept):
    bench.start(moving=False)
    values = {str(entry.path): entry.value for entry in bench.read("/3/0", accept).entries}
    assert values["/3/0/0"] == "Stellwerk"
    assert values["/3/0/7/1"] == 5000
    assert values["/3/0/10"] == 112
    assert "/3/0/4" not in values


def test_an_object_is_read_with_its_instances(bench):
    bench.start(moving=False)
    paths = [str(entry.path) for entry in bench.read("/3303", 11542).entries]
    assert "/3303/0/5700" in paths


def test_without_accept_the_answer_is_senml_cbor(bench):
    bench.start()
    assert bench.ask(codes.GET, "/3/0").content_format == 112


@pytest.mark.parametrize(
    ("method", "path", "request_", "code"),
    [
        (codes.GET, "/3/0/99", {}, "4.04"),
        (codes.GET, "/3/1", {}, "4.04"),
        (codes.GET, "/9", {}, "4.04"),
        (codes.GET, "/3/0/6/7", {}, "4.04"),
        (codes.GET, "/3/zero", {}, "4.04"),
        (codes.GET, "/0", {}, "4.01"),
        (codes.GET, "/0/0/0", {}, "4.01"),
        (codes.GET, "/3/0/4", {}, "4.05"),
        (codes.GET, "/", {}, "4.05"),
        (codes.GET, "/3/0", {"accept": 0}, "4.06"),
        (codes.GET, "/3/0/6", {"accept": 60}, "4.06"),
        (codes.GET, "/3/0/0", {"accept": 42}, "4.06"),
        (codes.GET, "/3/0/0", {"accept": 11544}, "4.06"),
        (codes.GET, "/3/0/0", {"query": ("pmin=5",), "observe": 0}, "4.00"),
        (codes.PUT, "/3/0/0", {"content_format": 0, "payload": b"x"}, "4.05"),
        (codes.PUT, "/1/0/1", {"content_format": 0, "payload": b"soon"}, "4.00"),
        (codes.PUT, "/1/0/1", {"content_format": 9999, "payload": b"60"}, "4.15"),
        (codes.PUT, "/1/0", {"content_format": 0, "payload": b"60"}, "4.15"),
        (codes.PUT, "/1/0/99", {"content_format": 0, "payload": b"60"}, "4.04"),
        (codes.POST, "/3/0/0", {}, "4.05"),
        (codes.POST, "/3/0/99", {}, "4.04"),
        (codes.POST, "/3303", {"content_format": 11542, "payload": b"\xe4\x16\x44\x41\xac\x00\x00"}, "4.05"),
        (codes.DELETE, "/3303/0", {}, "4.05"),
        (codes.FETCH, "/3", {"content_format": 112, "payload": b"\x81\xa1\x00\x62/3"}, "4.05"),
    ],
)
@pytest.mark.spec("D-7", "D-14")
def test_what_cannot_be_done_is_refused_with_the_code_that_says_why(bench, method, path, request_, code):
    bench.start()
    assert bench.code(method, path, **request_) == code


# -- writing --


@pytest.mark.parametrize(
    ("content_format", "payload"),
    [
        (0, b"60"),
        (60, bytes.fromhex("183c")),
        (11542, bytes.fromhex("c1013c")),
        (112, bytes.fromhex("81a22166") + b"/1/0/1" + bytes.fromhex("02183c")),
        (110, b'[{"n":"/1/0/1","v":60}]'),
    ],
)
def test_a_lifetime_written_in_any_format_is_taken_and_told_by_an_update(bench, content_format, payload):
    bench.start()
    assert bench.code(codes.PUT, "/1/0/1", content_format=content_format, payload=payload) == "2.04"
    assert bench.value("/1/0/1") == 60
    bench.network.run_for(1)
    assert bench.requests[-1].path == ("rd", "r1")
    assert bench.requests[-1].query == ("lt=60",)
    bench.network.run_for(50)
    assert bench.requests[-1].query == ()


@pytest.mark.parametrize("lifetime", [b"-5", b"4294967296"])
def test_a_lifetime_that_no_update_could_tell_is_refused(bench, lifetime):
    bench.start()
    assert bench.code(codes.PUT, "/1/0/1", content_format=0, payload=lifetime) == "4.00"
    assert bench.value("/1/0/1") == 300
    bench.network.run_for(1)
    assert len(bench.requests) == 1


@pytest.mark.spec("D-6")
def test_a_partial_write_keeps_what_it_does_not_name(bench):
    bench.start()
    body = cbor2.dumps([{-2: "/3/0/", 0: "14", 3: "+02:00"}])
    assert bench.code(codes.POST, "/3/0", content_format=112, payload=body) == "2.04"
    assert bench.value("/3/0/14") == "+02:00"
    assert bench.value("/3/0/15") == "Europe/Berlin"


@pytest.mark.spec("D-6")
def test_a_replacing_write_clears_what_it_does_not_name_but_nothing_mandatory(bench):
    bench.start()
    body = cbor2.dumps([{-2: "/3/0/", 0: "14", 3: "+02:00"}])
    assert bench.code(codes.PUT, "/3/0", content_format=112, payload=body) == "2.04"
    assert bench.code(codes.GET, "/3/0/15") == "4.04"
    assert bench.value("/3/0/0") == "Stellwerk"


@pytest.mark.spec("D-6")
def test_a_write_with_one_bad_value_changes_nothing(bench):
    bench.start()
    body = cbor2.dumps([{-2: "/3/0/", 0: "14", 3: "+02:00"}, {0: "0", 3: "Other"}])
    assert bench.code(codes.POST, "/3/0", content_format=112, payload=body) == "4.05"
    assert bench.value("/3/0/14") == "+01:00"


def test_a_clock_that_is_set_goes_on_from_there(bench):
    bench.start()
    assert bench.code(codes.PUT, "/3/0/13", content_format=0, payload=b"1000000000") == "2.04"
    bench.network.run_for(60)
    assert bench.value("/3/0/13") == pytest.approx(1_000_000_060, abs=2)


# -- executing --


@pytest.mark.spec("ETS 256")
def test_the_update_trigger_makes_an_update(bench):
    bench.start()
    assert bench.code(codes.POST, "/1/0/8") == "2.04"
    bench.network.run_for(1)
    assert [each.path for each in bench.requests] == [("rd",), ("rd", "r1")]


@pytest.mark.spec("D-16")
def test_a_reboot_is_answered_and_followed_by_silence_and_a_register(bench):
    device = bench.start()
    bench.ask(codes.GET, "/3/0/9", observe=0)
    assert bench.code(codes.POST, "/3/0/4") == "2.04"
    assert Rebooted("dev-1") in bench.happenings
    assert bench.ask(codes.GET, "/3/0/0", wait_s=0.5) is None
    bench.network.run_for(3)
    assert device.location == "rd/r2"
    assert device.observed_paths == ()


@pytest.mark.spec("D-16")
def test_a_disabled_device_deregisters_is_silent_and_comes_back(bench):
    device = bench.start()
    assert bench.code(codes.PUT, "/1/0/5", content_format=0, payload=b"30") == "2.04"
    assert bench.code(codes.POST, "/1/0/4") == "2.04"
    bench.network.run_for(2)
    assert bench.requests[-1].code == codes.DELETE
    assert bench.ask(codes.GET, "/3/0/0", wait_s=10) is None
    bench.network.run_for(25)
    assert device.location == "rd/r2"


def test_resetting_the_error_code_is_answered(bench):
    bench.start()
    assert bench.code(codes.POST, "/3/0/12", content_format=0, payload=b"0='x'") == "2.04"


# -- discovering --


@pytest.mark.spec("D-13")
def test_discover_lists_what_is_there_with_the_attributes_written(bench):
    bench.start()
    assert bench.code(codes.PUT, "/3303/0/5700", query=("pmin=10", "pmax=60", "gt=21.5")) == "2.04"
    answer = bench.ask(codes.GET, "/3303", accept=40)
    assert answer.content_format == 40
    links = answer.payload.decode().split(",")
    assert links[:2] == ["</3303>;ver=1.1", "</3303/0>"]
    assert "</3303/0/5700>;pmin=10;pmax=60;gt=21.5" in links
    assert "</3303/0/5701>" in links


def test_discover_of_an_instance_and_of_a_resource_stay_at_their_level(bench):
    bench.start()
    assert bench.ask(codes.GET, "/1/0", accept=40).payload.startswith(b"</1/0>,</1/0/0>,</1/0/1>")
    assert bench.ask(codes.GET, "/3/0/7", accept=40).payload == b"</3/0/7>;dim=2"


@pytest.mark.spec("ETS 261", "Core 6.3.2")
def test_what_is_discovered_shows_what_it_inherits_and_the_rest_what_was_attached(bench):
    bench.start()
    for path, query in (("/3", "pmin=5"), ("/3/0", "pmax=60"), ("/3/0/9", "st=2")):
        assert bench.code(codes.PUT, path, query=(query,)) == "2.04"
    assert bench.ask(codes.GET, "/3/0/9", accept=40).payload == b"</3/0/9>;pmin=5;pmax=60;st=2"
    assert bench.ask(codes.GET, "/3/0", accept=40).payload.startswith(b"</3/0>;pmin=5;pmax=60,</3/0/0>,")
    assert b"</3/0/9>;st=2," in bench.ask(codes.GET, "/3", accept=40).payload
    assert bench.code(codes.PUT, "/3/0", query=("pmax",)) == "2.04"
    assert bench.ask(codes.GET, "/3/0/9", accept=40).payload == b"</3/0/9>;pmin=5;st=2"


# -- observing --


@pytest.mark.spec("OB-1")
def test_an_observed_value_is_told_when_it_moves(bench):
    bench.start(sample_every_s=10)
    first = bench.ask(codes.GET, "/3303/0/5700", observe=0, accept=112)
    assert first.observe == 1
    bench.network.run_for(35)
    assert [each.observe for each in bench.notifications] == [2, 3, 4]
    assert bench.notified().entries[0].path == Path(3303, 0, 5700)


def test_a_value_that_does_not_move_is_not_told(bench):
    bench.start(moving=False)
    bench.ask(codes.GET, "/3/0", observe=0)
    bench.network.run_for(300)
    assert bench.notifications == []


def test_a_written_value_is_told_at_once(bench):
    bench.start(moving=False)
    bench.ask(codes.GET, "/3/0/14", observe=0)
    bench.code(codes.PUT, "/3/0/14", content_format=0, payload=b"+03:00")
    bench.network.run_for(0.5)
    assert bench.notified().entries[0].value == "+03:00"


@pytest.mark.spec("ATT-1", "ATT-2")
def test_pmin_holds_a_change_back_and_pmax_tells_without_one(bench):
    bench.start(moving=False)
    bench.code(codes.PUT, "/3/0/14", query=("pmin=20", "pmax=50"))
    bench.ask(codes.GET, "/3/0/14", observe=0)
    began = bench.network.now
    bench.code(codes.PUT, "/3/0/14", content_format=0, payload=b"+03:00")
    bench.network.run(began + 19)
    assert bench.notifications == []
    bench.network.run(began + 21)
    assert len(bench.notifications) == 1
    bench.network.run(began + 69)
    assert len(bench.notifications) == 1
    bench.network.run(began + 72)
    assert len(bench.notifications) == 2


@pytest.mark.spec("OB-5")
def test_a_cancelled_observation_is_told_no_more(bench):
    device = bench.start(sample_every_s=5)
    bench.ask(codes.GET, "/3303/0/5700", observe=0, token=b"watching")
    bench.network.run_for(6)
    assert len(bench.notifications) == 1
    assert bench.code(codes.GET, "/3303/0/5700", observe=1, token=b"watching") == "2.05"
    assert device.observed_paths == ()
    bench.network.run_for(60)
    assert len(bench.notifications) == 1


@pytest.mark.spec("OB-3")
def test_a_reset_notification_ends_the_observation(bench):
    device = bench.start(sample_every_s=5, confirm_every=1)
    bench.ask(codes.GET, "/3303/0/5700", observe=0, token=b"watching")
    bench.server.submit(ForgetObservation(PeerId("udp", *bench.device_address, "10.0.0.1", 5683), b"watching"))
    bench.network.run_for(20)
    assert device.observed_paths == ()
    assert ObservationEnded("dev-1", "reset") in bench.happenings


@pytest.mark.parametrize(("con", "confirmable"), [("con=1", True), ("con=0", False)])
@pytest.mark.spec("Core 5.1.2", "ATT-7")
def test_con_says_whether_notifications_are_confirmable(bench, con, confirmable):
    bench.start(lwm2m_version="1.2", sample_every_s=5, confirm_every=2)
    bench.code(codes.PUT, "/3303/0", query=(con,))
    bench.ask(codes.GET, "/3303/0/5700", observe=0)
    bench.network.run_for(46)
    assert {each.confirmable for each in bench.notifications} == {confirmable}


@pytest.mark.spec("Core E.2", "ATT-18")
def test_default_periods_of_the_server_object_count_where_no_attribute_does(bench):
    bench.start(moving=False)
    bench.ask(codes.GET, "/3/0/14", observe=0)
    assert bench.code(codes.PUT, "/1/0/3", content_format=0, payload=b"10") == "2.04"
    bench.network.run_for(35)
    assert len(bench.notifications) == 3
    bench.code(codes.PUT, "/3", query=("pmax=1000",))
    bench.network.run_for(35)
    assert len(bench.notifications) == 3


def test_each_so_many_th_notification_is_confirmable(bench):
    bench.start(sample_every_s=5, confirm_every=3)
    bench.ask(codes.GET, "/3303/0/5700", observe=0)
    bench.network.run_for(46)
    assert [each.confirmable for each in bench.notifications[:6]] == [False, False, True, False, False, True]


@pytest.mark.spec("OB-9")
def test_a_path_observed_twice_has_one_relation(bench):
    device = bench.start()
    bench.ask(codes.GET, "/3303/0/5700", observe=0)
    bench.ask(codes.GET, "/3303/0/5700", observe=0)
    assert device.observed_paths == (Path(3303, 0, 5700),)


# -- sending --


def test_a_send_carries_timed_values_as_senml_cbor(bench):
    bench.start(send_every_s=30)
    bench.network.run_for(31)
    request = bench.asked(codes.POST, "dp")[0]
    assert request.content_format == 112
    content = decode_content(112, request.payload, Path(), device_types())
    assert [str(entry.path) for entry in content.entries] == ["/3303/0/5700", "/3/0/9"]
    now_s = bench.network.instant().wall_ms / 1000
    assert all(now_s - 31 <= entry.time_s <= now_s for entry in content.entries)


def test_values_of_a_send_that_failed_come_with_the_next_one(bench):
    bench.start(send_every_s=30, send_paths=(Path(3303, 0, 5700),))
    bench.decide = lambda request: (
        Respond(request.exchange, codes.SERVICE_UNAVAILABLE)
        if request.path == ("dp",) and len(bench.asked(codes.POST, "dp")) == 1
        else None
    )
    bench.network.run_for(61)
    first, second = (len(cbor2.loads(each.payload)) for each in bench.asked(codes.POST, "dp"))
    assert (first, second) == (1, 2)


def test_a_muted_device_sends_nothing(bench):
    bench.start(send_every_s=30)
    assert bench.code(codes.PUT, "/1/0/23", content_format=0, payload=b"1") == "2.04"
    bench.network.run_for(100)
    assert bench.asked(codes.POST, "dp") == []


# -- sleeping and misbehaving --


@pytest.mark.spec("QM-2")
def test_a_sleeper_answers_only_inside_its_awake_window(bench):
    device = bench.start(queue_mode=True, awake_s=10, update_every_s=120)
    assert bench.code(codes.GET, "/3/0/0") == "2.05"
    bench.network.run_for(11)
    assert not device.is_listening(bench.network.now)
    assert bench.ask(codes.GET, "/3/0/0", wait_s=5) is None
    bench.network.run_until(lambda: len(bench.requests) == 2, 120)
    bench.network.run_for(0.1)
    assert bench.code(codes.GET, "/3/0/1", wait_s=5) == "2.05"


@pytest.mark.spec("QM-2")
def test_a_sleeper_wakes_for_its_update_alone_and_sends_then_what_it_measured(bench):
    bench.start(queue_mode=True, awake_s=10, update_every_s=60, send_every_s=7, sample_every_s=5)
    bench.network.run_for(300)
    assert len(bench.asked(codes.POST, "rd")) == 1 + 5
    sends = [at for at, each in zip(bench.times, bench.requests, strict=True) if each.path == ("dp",)]
    updates = [at for at, each in zip(bench.times, bench.requests, strict=True) if len(each.path) == 2]
    assert [after - before for before, after in zip(updates, sends, strict=True)] == pytest.approx([0.02] * 5)
    assert len(cbor2.loads(bench.asked(codes.POST, "dp")[-1].payload)) >= 2 * 8


@pytest.mark.spec("QM-2")
def test_a_sleeper_that_is_observed_sleeps_all_the_same_and_tells_when_it_wakes(bench):
    device = bench.start(queue_mode=True, awake_s=10, update_every_s=60, sample_every_s=5)
    bench.ask(codes.GET, "/3303/0/5700", observe=0)
    awake = []
    for _ in range(120):
        awake.append(device.is_listening(bench.network.now))
        bench.network.run_for(1)
    assert 20 <= awake.count(True) <= 36
    assert len(bench.notifications) == 2


@pytest.mark.spec("QM-2", "Core 5.1.2")
def test_a_sleeper_wakes_for_the_maximum_period_of_an_observation(bench):
    bench.start(queue_mode=True, awake_s=10, update_every_s=600, moving=False)
    bench.ask(codes.GET, "/3/0/14", observe=0)
    assert bench.code(codes.PUT, "/3/0/14", query=("pmax=100",)) == "2.04"
    bench.network.run_for(99)
    assert bench.notifications == []
    assert bench.ask(codes.GET, "/3/0/14", wait_s=0.4) is None
    bench.network.run_for(2)
    assert len(bench.notifications) == 1
    assert bench.code(codes.GET, "/3/0/15", wait_s=60) == "2.05"


def test_a_sleeper_tells_what_a_server_changed_at_once(bench):
    bench.start(queue_mode=True, awake_s=10, update_every_s=600, moving=False)
    bench.ask(codes.GET, "/3/0/14", observe=0)
    bench.code(codes.PUT, "/3/0/14", content_format=0, payload=b"+03:00")
    bench.network.run_for(0.5)
    assert bench.notified().entries[0].value == "+03:00"


def test_a_misbehaving_device_is_wrong_now_and_then_but_stays_registered(bench):
    device = bench.start(faults=MISBEHAVIOUR * 3, seed=5)
    answers = [bench.ask(codes.GET, "/3/0/0", wait_s=20, accept=0) for _ in range(40)]
    good = [each for each in answers if each is not None and each.payload == b"Stellwerk"]
    assert device.faults_committed >= 10
    assert 15 <= len(good) < 40
    assert device.is_registered


def test_a_request_without_answer_from_the_server_does_not_stop_the_device(bench):
    bench.decide = lambda request: Drop(request.exchange) if request.path == ("dp",) else None
    device = bench.start(send_every_s=20, lifetime_s=100)
    bench.network.run_for(400)
    assert device.is_registered
    assert bench.code(codes.GET, "/3/0/0") == "2.05"


# -- a bad network --


@pytest.mark.spec("MSG-1")
def test_on_a_bad_network_a_device_registers_answers_and_reports_all_the_same(bench_on):
    bench = bench_on(seed=7, loss=0.2, duplication=0.2, delay_s=0.2, reorder=0.2, reorder_delay_s=1.0)
    device = bench.start(sample_every_s=10, send_every_s=30)
    bench.network.run_for(120)
    assert device.is_registered
    answers = [bench.ask(codes.GET, "/3/0/0", wait_s=93, accept=0) for _ in range(10)]
    assert sum(each is not None and each.payload == b"Stellwerk" for each in answers) >= 9
    bench.ask(codes.GET, "/3303/0/5700", observe=0, wait_s=93)
    bench.network.run_for(200)
    assert len(bench.notifications) > 5
    assert len(bench.asked(codes.POST, "dp")) > 5


@pytest.mark.spec("R-14")
def test_a_device_behind_a_nat_that_forgot_it_is_heard_from_its_new_port_and_answers_there(bench):
    bench.start(update_every_s=30)
    bench.network.move(("10.0.0.2", 40_000), ("10.0.0.2", 50_123))
    assert bench.ask(codes.GET, "/3/0/0", wait_s=5) is None
    bench.network.run_for(30)
    assert bench.requests[-1].peer.remote_port == 50_123
    bench.device_address = ("10.0.0.2", 50_123)
    assert bench.code(codes.GET, "/3/0/1", wait_s=95) == "2.05"


def test_the_same_seed_tells_the_same_story(bench_on):
    def story():
        bench = bench_on(seed=3, loss=0.3, duplication=0.3, delay_s=0.1, jitter_s=0.5)
        wire = []
        bench.network.trace = lambda now, source, target, datagram: wire.append((now, source, datagram))
        bench.start(send_every_s=10, seed=4)
        bench.network.run_for(60)
        return wire

    first = story()
    assert len(first) > 15
    assert first == story()
