"""What tables say about what the stores hold."""

import json
from dataclasses import replace
from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.records import MessageRecord
from stellwerk.app.security_facts import SecurityFacts
from stellwerk.app.views import DeviceDetail, DeviceLine, RegistrationFacts, ValueLine
from stellwerk.console import rendering
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.command import UNANSWERED, Command, Step
from stellwerk.device.end_device import EndDeviceRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.operations import Read
from stellwerk.lwm2m.path import Path

RECORD = DeviceRecord(DeviceId(1), TenantId(1), "acme", "meter", "urn:dev:meter", (), "SCS-LwM2M", 0, 0)
LINE = DeviceLine(RECORD, "registered", 5, 4)


def brief_of(content: Any) -> tuple[str, str]:
    text = json.dumps(content)
    message = MessageRecord("ri", "rn", 1, 7, text, None, len(text), "CNI-IPE", ("Room:12",))
    (row,) = rendering.message_rows(DeviceDetail(LINE, messages=(message,)))
    return row["kind"], row["brief"]


@pytest.mark.parametrize(
    ("content", "kind", "brief"),
    [
        (
            {"messageType": "send", "data": {"3303/0/5700": 21.5, "3/0/0": "ACME"}},
            "send",
            "3303/0/5700 = 21.5, 3/0/0 = ACME",
        ),
        (
            {
                "messageType": "response",
                "method": "read",
                "resourcePath": "3/0/0",
                "status": {"code": 404, "message": "not found", "detail": "no such resource"},
                "data": None,
            },
            "response",
            "read 3/0/0: not found (no such resource)",
        ),
        ({"messageType": "notify", "resourcePath": "/3/0/9", "dataValue": 80}, "notify", "/3/0/9 = 80"),
        ({"messageType": "registration", "time": 1}, "registration", "registration"),
        ("plain text", "message", "plain text"),
        ({"own": [1, 2]}, "message", '{"own": [1, 2]}'),
        ([1], "message", "[1]"),
    ],
)
def test_a_message_is_a_line_that_says_the_point(content: Any, kind: str, brief: str) -> None:
    assert brief_of(content) == (kind, brief)


def test_a_long_message_is_cut_and_says_so() -> None:
    _, brief = brief_of({"data": {"a": "x" * 100_000}})
    assert len(brief) == rendering.LONGEST_BRIEF
    assert brief.endswith("…")


def test_values_have_their_names_and_units_and_stand_together_by_object_instance() -> None:
    values = (
        ValueLine("/3/0/0", "Device", "Manufacturer", "", '"ACME"', 2),
        ValueLine("/3/0/7/1", "Device", "Power Source Voltage", "mV", "3800", 1),
        ValueLine("/3/0/9", "Device", "Battery Level", "%", "80", 1),
        ValueLine("/3/1/9", "Device", "Battery Level", "%", "81", 1),
        ValueLine("/9999/0/1", "", "", "", "true", 3),
    )
    rows = rendering.value_rows(DeviceDetail(LINE, values=values))
    assert [(each.get("group"), each["name"], each["value"], each["units"]) for each in rows] == [
        ("Device /3/0", "Manufacturer", "ACME", ""),
        (None, "Power Source Voltage", "3800", "mV"),
        (None, "Battery Level", "80", "%"),
        ("Device /3/1", "Battery Level", "81", "%"),
        ("/9999/0", "", "true", ""),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1795867087000", "2026-11-28 11:58:07 UTC"),
        ("-1", "1969-12-31 23:59:59 UTC"),
        ("9223372036854775807000", "9223372036854775807000"),
        ('"soon"', "soon"),
        ("true", "true"),
    ],
)
def test_a_time_is_a_date_and_what_is_none_stays(value: str, shown: str) -> None:
    line = ValueLine("/3/0/13", "Device", "Current Time", "", value, 1, is_time=True)
    (row,) = rendering.value_rows(DeviceDetail(LINE, values=(line,)))
    assert row["value"] == shown


def test_only_a_command_that_waits_can_be_cancelled() -> None:
    commands = tuple(
        Command(number, DeviceId(1), "ri", "rn", "id", "read", Read(Path(3)), '"READ /3"', None, step, 1, 2)
        for number, step in enumerate(Step)
    )
    rows = rendering.command_rows(DeviceDetail(LINE, commands=commands))
    assert {each["step"] for each in rows if each["cancel"]} == {"queued"}
    assert {each["content"] for each in rows} == {"READ /3"}


@pytest.mark.spec("QM-5")
@pytest.mark.parametrize(
    ("standing", "shown"),
    [
        ("asleep", "queued, 2 of 2, until it wakes"),
        ("registered", "queued, 2 of 2"),
        ("expired", "queued, 2 of 2, until it registers"),
    ],
)
def test_a_command_that_waits_shows_its_place_and_what_it_waits_for(standing: Any, shown: str) -> None:
    command = Command(7, DeviceId(1), "ri", "rn", "id", "read", Read(Path(3)), '"READ /3"', None, Step.QUEUED, 1, 2)
    line = replace(LINE, standing=standing)
    (row,) = rendering.command_rows(DeviceDetail(line, commands=(command,), queue=(3, 7)))
    assert row["step"] == shown


@pytest.mark.spec("QM-4")
def test_a_command_that_went_unanswered_shows_that_it_waits_again() -> None:
    sent = Command(7, DeviceId(1), "ri", "rn", "id", "read", Read(Path(3)), '"READ /3"', None, Step.SENT, 1, 2)
    again = replace(sent, reason=UNANSWERED)
    rows = rendering.command_rows(DeviceDetail(LINE, commands=(sent, again)))
    assert [each["step"] for each in rows] == ["sent", "sent, no answer; again when it is heard"]


def test_facts_say_how_a_device_registered() -> None:
    registration = RegistrationFacts("meter", "192.0.2.7:5683", "1.1", 300, "UQ", True, ("/1/0", "/3/0"))
    text = rendering.facts(RECORD, DeviceDetail(LINE, registration))
    how = "LwM2M 1.1 · 192.0.2.7:5683 · lifetime 300 s · binding UQ · queue mode"
    assert text == f"urn:dev:meter · {how} · objects /1/0 /3/0"
    assert rendering.facts(RECORD, None) == "urn:dev:meter"


def test_flaws_of_a_text_are_said_in_their_own_words() -> None:
    good = CommandRequest("read", "/3", "READ /3")
    bad = RefusedRequest("read", "x", "path-invalid", "a path is like /3/0/0", "READ x")
    assert rendering.flaws([good]) == ""
    assert rendering.flaws([good, bad]) == "a path is like /3/0/0"


@pytest.mark.spec("LwM2M-contract 12")
def test_an_end_device_says_which_gateway_it_is_behind() -> None:
    fields = [getattr(RECORD, each) for each in DeviceRecord.__slots__]
    record = EndDeviceRecord(*fields, DeviceId(9), "gw1", "d01")
    assert rendering.facts(record, None) == "urn:dev:meter · behind gateway gw1, prefix d01"


def said_of(security: SecurityFacts, registration: RegistrationFacts | None = None) -> dict[str, str]:
    detail = DeviceDetail(LINE, registration, security=security)
    return {each["what"]: each["says"] for each in rendering.security_rows(RECORD, detail)}


@pytest.mark.spec("SEC-3", "Platform 4")
def test_how_a_device_proves_itself_is_said_in_words() -> None:
    assert said_of(SecurityFacts()) == {"Proves itself by": "nothing: it comes without security (NoSec)"}
    psk = said_of(SecurityFacts("psk", "id-1", changed_ms=1_790_000_000_000))
    assert (psk["PSK identity"], psk["Endpoint name"], psk["Set"][:4]) == ("id-1", "any that means this device", "2026")
    rpk = said_of(SecurityFacts("rpk", "meter", "meter", "ab" * 32))
    assert (rpk["Public key, SHA-256"], rpk["Endpoint name"]) == ("ab" * 32, "meter")
    pinned = said_of(SecurityFacts("x509", "cd" * 32, "", "ab" * 32, "CN=meter", 1_790_000_000_000))
    assert pinned["Certificate"] == "CN=meter, until 2026-09-21"
    assert said_of(SecurityFacts("x509", "meter"))["Endpoint name"] == "meter, which the certificate names"
    assert said_of(SecurityFacts(trouble="sealed with another key"))["Why"] == "sealed with another key"


def test_whether_a_device_speaks_over_a_secure_session_now_is_said() -> None:
    facts = RegistrationFacts("meter", "dtls session 00", "1.1", 300, "U", False, ())
    assert said_of(SecurityFacts(), facts)["Speaks now"] == "without security"
    assert said_of(SecurityFacts(), replace(facts, secure=True))["Speaks now"] == "over a secure session"
    assert "Speaks now" not in said_of(SecurityFacts())
