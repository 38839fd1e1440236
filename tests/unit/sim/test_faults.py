"""Faults on request: how they are written, and what a device does that has them."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import codes
from stellwerk.lwm2m.formats import DecodeError, decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.sim.faults import Fault, FaultKind, InvalidFault
from stellwerk.sim.happenings import Moved, Rebooted
from stellwerk.sim.objects import device_types


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("silence", Fault(FaultKind.SILENCE)),
        ("silence:20%", Fault(FaultKind.SILENCE, share=0.2)),
        ("silence:2.5%@/3/0/9", Fault(FaultKind.SILENCE, Path(3, 0, 9), 0.025)),
        ("late", Fault(FaultKind.LATE, seconds=5.0)),
        ("late:0.5s:10%", Fault(FaultKind.LATE, share=0.1, seconds=0.5)),
        ("late:10%:0.5s", Fault(FaultKind.LATE, share=0.1, seconds=0.5)),
        ("refuse:4.04", Fault(FaultKind.REFUSE, code=codes.NOT_FOUND)),
        ("refuse:5.31@/3", Fault(FaultKind.REFUSE, Path(3), code=0xBF)),
        ("format", Fault(FaultKind.FORMAT)),
        ("format:65000@/3/0/0", Fault(FaultKind.FORMAT, Path(3, 0, 0), content_format=65000)),
        ("garbage:1%", Fault(FaultKind.GARBAGE, share=0.01)),
        ("plain-observe", Fault(FaultKind.PLAIN_OBSERVE)),
        ("reset", Fault(FaultKind.RESET)),
        ("reboot:60s", Fault(FaultKind.REBOOT, seconds=60.0)),
        ("move@/3/0/9", Fault(FaultKind.MOVE, Path(3, 0, 9))),
        ("wrong-key", Fault(FaultKind.WRONG_KEY)),
        ("wrong-identity:5%", Fault(FaultKind.WRONG_IDENTITY, share=0.05)),
        ("expired-certificate", Fault(FaultKind.EXPIRED_CERTIFICATE)),
    ],
)
def test_a_fault_is_a_kind_with_words_and_a_path(text, fault):
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("noise", "one of silence, reset, refuse, late, format, garbage, plain-observe, reboot, move"),
        ("", "one of silence"),
        ("silence:5s", "silence:20%"),
        ("silence:101%", "silence:20%"),
        ("silence:20%:30%", "silence:20%"),
        ("late:0s", "late:5s"),
        ("refuse", "refuse:4.04"),
        ("refuse:2.05", "refuse:4.04"),
        ("refuse:4.32", "refuse:4.04"),
        ("format:65536", "format:65000"),
        ("reboot:60s:20%", "reboot:60s"),
        ("move:60s@/3", "move:60s"),
        ("wrong-key@/3", "wrong-key:20%"),
        ("wrong-identity:5s", "wrong-identity:20%"),
        ("reset@3/0/9", "a path starts with '/'"),
        ("reset@/3/0/9/1/2", "write a path like /3/0/9"),
    ],
)
def test_what_is_no_fault_is_answered_with_what_would_be_right(text, advice):
    with pytest.raises(InvalidFault) as refused:
        Fault.parse(text)
    assert advice in str(refused.value)
    assert repr(text) in str(refused.value)


@given(st.text(max_size=30) | st.from_regex(r"[a-z-]{1,8}(:[0-9.%s]{0,6}){0,3}(@[/0-9]*)?", fullmatch=True))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_fault_or_refused(text):
    try:
        fault = Fault.parse(text)
    except InvalidFault:
        return
    assert 0.0 <= fault.share <= 1.0
    assert fault.code is None or codes.is_response(fault.code)


def faulty(*texts: str, **options: object) -> dict:
    return {"faults": tuple(map(Fault.parse, texts)), "moving": False, **options}


@pytest.mark.parametrize(
    "code",
    [
        "4.00",
        "4.01",
        "4.02",
        "4.03",
        "4.04",
        "4.05",
        "4.06",
        "4.08",
        "4.09",
        "4.12",
        "4.13",
        "4.15",
        "5.00",
        "5.01",
        "5.03",
    ],
)
def test_every_code_can_be_had_at_one_path_and_nothing_else_changes(bench, code):
    bench.start(**faulty(f"refuse:{code}@/3/0/14"))
    assert bench.code(codes.GET, "/3/0/14") == code
    assert bench.code(codes.PUT, "/3/0/14", content_format=0, payload=b"+03:00") == code
    assert bench.value("/3/0") == "Stellwerk"
    assert "+01:00" in [entry.value for entry in bench.read("/3/0").entries]


def test_silence_lasts_through_all_repetitions_and_nothing_happens(bench):
    device = bench.start(**faulty("silence@/3/0/14"))
    answer = bench.ask(codes.PUT, "/3/0/14", wait_s=120, content_format=0, payload=b"+03:00")
    assert answer is None
    assert [each.reason for each in bench.failures.values()] == ["timeout"]
    assert device.faults_committed == 1
    assert "+01:00" in [entry.value for entry in bench.read("/3/0").entries]


def test_a_share_of_silence_befalls_whole_requests_not_single_datagrams(bench):
    device = bench.start(**faulty("silence:50%"), seed=3)
    answers = [bench.ask(codes.GET, "/3/0/0", wait_s=120, accept=0) for _ in range(40)]
    assert 10 <= answers.count(None) <= 30
    assert device.faults_committed == answers.count(None)


def test_a_reset_ends_a_request_at_once(bench):
    bench.start(**faulty("reset@/3/0/0"))
    assert bench.ask(codes.GET, "/3/0/0") is None
    assert [each.reason for each in bench.failures.values()] == ["reset"]


def test_a_late_answer_comes_as_a_separate_response_and_its_effect_at_once(bench):
    bench.start(**faulty("late:6s@/3/0/14"))
    began = bench.network.now
    assert bench.ask(codes.PUT, "/3/0/14", wait_s=5, content_format=0, payload=b"+03:00") is None
    assert bench.network.run_until(lambda: bool(bench.responses), 5)
    assert 6 <= bench.network.now - began < 6.5
    assert codes.dotted(bench.responses[1].code) == "2.04"


def test_an_answer_in_a_format_that_nobody_asked_for_can_still_be_decoded(bench):
    bench.start(**faulty("format@/3/0/0"))
    answer = bench.ask(codes.GET, "/3/0/0", accept=112)
    assert answer.content_format == 11542
    content = decode_content(11542, answer.payload, Path(3, 0, 0), device_types())
    assert content.entries[0].value == "Stellwerk"
    assert bench.ask(codes.GET, "/3/0/0", accept=11542).content_format == 110


def test_an_answer_can_be_called_what_it_is_not(bench):
    bench.start(**faulty("format:65000"))
    assert bench.ask(codes.GET, "/3/0/0", accept=112).content_format == 65000


@pytest.mark.parametrize("accept", [0, 60, 110, 112, 11542])
def test_garbage_cannot_be_decoded_in_any_format(bench, accept):
    bench.start(**faulty("garbage"))
    for _ in range(20):
        answer = bench.ask(codes.GET, "/3/0/2", accept=accept)
        with pytest.raises(DecodeError):
            decode_content(accept, answer.payload, Path(3, 0, 2), device_types())


def test_garbage_befalls_notifications_of_its_path_and_sends_only_where_no_path_is_named(bench):
    bench.start(**faulty("garbage@/3303", moving=True), sample_every_s=5, send_every_s=20)
    bench.ask(codes.GET, "/3303/0/5700", observe=0, accept=112)
    bench.network.run_for(30)
    with pytest.raises(DecodeError):
        bench.notified()
    assert cbor2.loads(bench.asked(codes.POST, "dp")[0].payload)


def test_an_observe_answered_plainly_starts_no_observation(bench):
    device = bench.start(**faulty("plain-observe@/3/0/9"))
    answer = bench.ask(codes.GET, "/3/0/9", observe=0)
    assert (codes.dotted(answer.code), answer.observe) == ("2.05", None)
    assert device.observed_paths == ()
    assert bench.ask(codes.GET, "/3/0/14", observe=0).observe == 1


def test_a_device_restarts_instead_of_answering(bench):
    device = bench.start(**faulty("reboot@/3/0/9"))
    assert bench.ask(codes.GET, "/3/0/9", wait_s=1) is None
    bench.network.run_for(3)
    assert device.location == "rd/r2"
    assert Rebooted("dev-1") in bench.happenings


def test_a_device_restarts_each_time_its_seconds_have_passed(bench):
    device = bench.start(**faulty("reboot:60s"))
    bench.network.run_for(200)
    assert bench.happenings.count(Rebooted("dev-1")) == 3
    assert device.faults_committed == 3
    bench.stop(device)
    bench.network.run_for(500)
    assert bench.happenings.count(Rebooted("dev-1")) == 3


def test_a_device_moves_after_its_answer_or_by_time(bench):
    bench.start(**faulty("move@/3/0/9", "move:100s"))
    assert bench.code(codes.GET, "/3/0/9") == "2.05"
    assert bench.happenings.count(Moved("dev-1")) == 1
    bench.network.run_for(101)
    assert bench.happenings.count(Moved("dev-1")) == 2


def test_the_first_fault_that_befalls_a_request_counts(bench):
    bench.start(**faulty("refuse:4.04@/3/0/0", "refuse:4.05@/3", "refuse:5.00"))
    found = [bench.code(codes.GET, path) for path in ("/3/0/0", "/3/0/1", "/6/0", "/nonsense")]
    assert found == ["4.04", "4.05", "5.00", "5.00"]
