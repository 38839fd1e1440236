"""How bootstrap sessions read on the page of a device."""

from dataclasses import replace

import pytest

from stellwerk.app.bootstrap_sight import RefusedPeer
from stellwerk.console.bootstrap_rendering import LONGEST_BRIEF, refused_rows, session_rows
from stellwerk.console.files import asset
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger, StepRecord

STEPS = (
    StepRecord(1_790_000_000_100, "Bootstrap-Discover", "/", "</>;lwm2m=1.1,</0/0>", 205),
    StepRecord(1_790_000_000_200, "Bootstrap-Write", "/0/1", "0 URI: coaps://h; 5 Secret Key: 16 bytes", 400),
    StepRecord(1_790_000_000_300, "Bootstrap-Finish", "", failure="timeout", detail="no answer within 93 s"),
)
SESSION = BootstrapSession(
    7,
    DeviceId(1),
    "meter",
    "udp://192.0.2.1:40000",
    BootstrapTrigger.CLIENT,
    BootstrapState.CONFIGURED,
    1_790_000_000_000,
    1_790_000_001_250,
    steps=STEPS,
)


@pytest.mark.spec("Platform 12")
def test_a_session_opens_to_its_steps_each_with_its_answer_and_its_parts() -> None:
    (row,) = session_rows([SESSION])
    assert (row["id"], row["time"], row["state"], row["brief"]) == (
        7,
        1_790_000_000_000,
        "configured",
        "3 steps in 1.25 s",
    )
    assert row["full"].split("\n") == [
        "the device asked, as meter, from udp://192.0.2.1:40000",
        "began 2026-09-21 14:13:20 UTC; ended 14:13:21, after 1.25 s",
        "",
        "14:13:20  Bootstrap-Discover /  2.05",
        "    </>;lwm2m=1.1,</0/0>",
        "",
        "14:13:20  Bootstrap-Write /0/1  4.00",
        "    0 URI: coaps://h",
        "    5 Secret Key: 16 bytes",
        "",
        "14:13:20  Bootstrap-Finish  timeout",
        "    no answer within 93 s",
    ]


def test_a_session_that_ended_badly_says_why_at_once() -> None:
    ended = replace(SESSION, state=BootstrapState.REFUSED, reason="pct", detail="x" * 300, steps=())
    (row,) = session_rows([ended])
    assert row["brief"].startswith("pct: xxx")
    assert len(row["brief"]) == LONGEST_BRIEF
    assert row["full"].endswith("x" * 300)


def test_a_reason_that_is_the_state_is_not_said_twice() -> None:
    ended = replace(SESSION, state=BootstrapState.LOST, reason="lost", detail="the peer closed", steps=())
    (row,) = session_rows([ended])
    assert row["brief"] == "the peer closed"
    assert row["full"].endswith("\nthe peer closed")


def test_a_session_that_runs_has_no_end_and_its_last_step_no_answer_yet() -> None:
    running = replace(SESSION, state=BootstrapState.RUNNING, ended_ms=0, steps=(replace(STEPS[0], status=0),))
    (row,) = session_rows([running])
    assert row["brief"] == "1 step so far"
    assert "ended" not in row["full"]
    assert "Bootstrap-Discover /  no answer yet" in row["full"]


def test_every_state_of_a_session_but_the_unremarkable_has_a_colour() -> None:
    sheet = asset("console.css")
    assert sheet is not None
    style = sheet.content.decode()
    plain = {BootstrapState.NOTHING_TO_DO, BootstrapState.REPLACED}
    for state in BootstrapState:
        assert (f".chip.is-{state.value.replace(' ', '-')}" in style) == (state not in plain)


def test_a_remark_has_no_answer_to_wait_for() -> None:
    remark = StepRecord(1_790_000_000_000, "Plan", "", "the device does not say what it has")
    (row,) = session_rows([replace(SESSION, steps=(remark,))])
    assert row["full"].endswith("14:13:20  Plan\n    the device does not say what it has")


def test_who_was_refused_leads_to_the_device_that_it_concerns() -> None:
    peer = RefusedPeer("r1", 5, "endpoint 'meter'", "udp://h:1", "wrong-identity", "another device's", "meter", 9)
    (row,) = refused_rows([peer])
    assert (row["id"], row["device"], row["href"]) == ("r1", "meter", "/devices/9")
    assert (row["identity"], row["reason"]) == ("endpoint 'meter'", "wrong-identity")
