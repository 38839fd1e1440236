"""A fleet's numbers as a line for people."""

from stellwerk.coap import codes
from stellwerk.sim.happenings import (
    HandshakeDone,
    HandshakeFailed,
    Registered,
    RegistrationRefused,
    Resumed,
    Served,
    SessionLost,
)
from stellwerk.sim.summary import Tally


def line(tally: Tally, registered: int = 0) -> str:
    return str(tally.summarize(1.0, devices=3, registered=registered, asleep=0, faults=0, lost=0))


def test_silence_is_said():
    tally = Tally()
    tally.started = 3
    assert line(tally).startswith("0 of 3 registered: 0 registrations")
    assert line(tally).endswith("; no answer from the server yet")


def test_a_server_that_asks_in_the_middle_of_a_bootstrap_is_not_called_silent():
    tally = Tally()
    tally.started = 3
    tally.count(Served("a", codes.PUT, "/0/1", codes.BAD_REQUEST, "refuse"))
    assert line(tally).endswith(" 1 requests served")


def test_troubles_are_named_only_where_there_are_some():
    tally = Tally()
    tally.started = 3
    tally.count(Registered("a", "rd/1"))
    assert line(tally, 1) == (
        "1 of 3 registered: 1 registrations, 0 updates, 0 Sends, 0 notifications, 0 requests served"
    )
    tally.count(RegistrationRefused("b", "4.03"))
    assert line(tally, 1).endswith(", 1 registrations or updates refused or unanswered")


def test_handshakes_are_counted_and_why_they_failed():
    tally = Tally()
    tally.started = 3
    for reason in ("alert", "timeout", "alert"):
        tally.count(HandshakeFailed("a", reason, "a sentence"))
    assert line(tally).endswith(", 3 handshakes failed (alert 2, timeout 1)")
    tally.count(HandshakeDone("a", "SUITE", True))
    tally.count(Resumed("a", "SUITE", True))
    tally.count(SessionLost("a", "timeout", ""))
    assert ", 1 handshakes, 1 sessions resumed, 1 sessions lost, 3 handshakes failed" in line(tally)
