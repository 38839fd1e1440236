"""What an entry of the journal says to applications: the shapes of the contract's samples, whatever a device sent."""

import json
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.messages import Interpretation, interpret, json_value
from stellwerk.app.status_table import STATUS
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.value import ObjectLink, ResourceType

TYPES = Library.builtin().for_device("1.1", {1: None, 3: None, 6: None, 3303: None})
NAME = "device001"
TIME_MS = 1_752_761_134_124
SENML_CBOR = 112
SENML_JSON = 110


def senml(*records: dict[int, Any]) -> bytes:
    return cbor2.dumps(list(records))


def of(kind: Kind, **fields: Any) -> Interpretation:
    return interpret(JournalEntry(kind, 1, TIME_MS, **fields), NAME, TYPES)


def content_of(kind: Kind, **fields: Any) -> dict[str, Any]:
    content = of(kind, **fields).content
    assert content is not None
    json.dumps(content, allow_nan=False)
    return content


# -- status messages --


@pytest.mark.spec("D2C 8")
@pytest.mark.parametrize(
    ("kind", "printed", "table"),
    [
        (Kind.REGISTER, "registration", None),
        (Kind.UPDATE, "update", "registration-update"),
        (Kind.DEREGISTER, "deregistration", "de-registration"),
        (Kind.EXPIRE, "registration-expire", None),
    ],
)
def test_a_status_message_is_as_printed_with_the_other_spelling_beside_it(
    kind: Kind, printed: str, table: str | None
) -> None:
    content = content_of(kind, status=204)
    assert {name: content[name] for name in ("nodeResourceName", "time", "messageType")} == {
        "nodeResourceName": NAME,
        "time": TIME_MS,
        "messageType": printed,
    }
    assert content.get("messageTypeName") == table
    assert len(content) == (3 if table is None else 4)


def test_a_plain_update_leaves_no_line_in_the_log_and_one_that_changes_something_does() -> None:
    assert of(Kind.UPDATE).log is None
    assert of(Kind.UPDATE, detail="lt=60").log == ("update", "lt=60")
    assert of(Kind.REGISTER, detail="ep=x").log == ("registration", "ep=x")


# -- responses --


@pytest.mark.spec("D2C 8")
def test_a_read_of_an_object_answers_flat_with_times_in_milliseconds() -> None:
    payload = senml({-2: "/6/0/", 0: "0", 2: -20}, {0: "1", 2: -40}, {0: "5", 2: 1_760_110_380})
    entry = {"path": "/6", "method": "read", "reason": "ok", "status": 205, "payload": payload}
    assert content_of(Kind.ANSWER, content_format=SENML_CBOR, **entry) == {
        "nodeResourceName": NAME,
        "time": TIME_MS,
        "messageType": "response",
        "method": "read",
        "status": {"code": 200, "message": "success", "detail": None, "reason": "ok"},
        "resourcePath": "6",
        "path": "6",
        "data": {"6/0/0": -20, "6/0/1": -40, "6/0/5": 1_760_110_380_000},
    }


@pytest.mark.spec("D2C 8")
def test_the_device_object_of_the_sample_reads_as_printed() -> None:
    sample = {
        "3/0/0": "My Demo Device",
        "3/0/9": 72,
        "3/0/11/0": 0,
        "3/0/13": 1_752_761_133_000,
        "3/0/14": "+02",
        "3/0/16": "U",
        "3/0/21": 129024,
    }
    records = [
        {0: f"/{key}", 3: value} if isinstance(value, str) else {0: f"/{key}", 2: value}
        for key, value in sample.items()
    ]
    records[3] = {0: "/3/0/13", 2: 1_752_761_133}
    found = content_of(
        Kind.ANSWER, path="/3", method="read", reason="ok", content_format=SENML_CBOR, payload=senml(*records)
    )
    assert found["data"] == sample


@pytest.mark.spec("D2C 8")
@pytest.mark.parametrize("method", ["write", "exec", "unobserve"])
def test_what_brings_no_data_says_null(method: str) -> None:
    content = content_of(Kind.ANSWER, path="/3442/0/2", method=method, reason="ok", status=204)
    assert content["data"] is None
    assert content["status"]["detail"] is None
    assert (content["resourcePath"], content["path"], content["method"]) == ("3442/0/2", "3442/0/2", method)


@pytest.mark.spec("D2C 8", "D2C 12")
@pytest.mark.parametrize("reason", sorted(set(STATUS) - {"ok"}))
def test_every_failure_says_its_code_its_key_and_why_and_has_no_data(reason: str) -> None:
    code, message = STATUS[reason]
    payload = senml({0: "/3/0/9", 2: 1})
    found = of(
        Kind.ANSWER,
        path="/3/0/9",
        method="read",
        reason=reason,
        detail="why",
        content_format=SENML_CBOR,
        payload=payload,
    )
    assert found.content is not None
    assert found.content["status"] == {"code": code, "message": message, "detail": "why", "reason": reason}
    assert found.content["data"] is None
    assert not found.values
    assert found.log is not None
    assert found.log[0] == "command-failed"


def test_an_answer_that_does_not_decode_is_no_success() -> None:
    content = content_of(Kind.ANSWER, path="/3/0/9", method="read", reason="ok", content_format=112, payload=b"\x81")
    assert content["status"]["code"] == 500
    assert content["data"] is None


# -- notifications and Sends --


@pytest.mark.spec("D2C 8")
def test_a_notification_of_one_resource_is_as_the_sample() -> None:
    payload = senml({0: "/3303/0/5602", 2: 25.5})
    found = of(Kind.NOTIFY, path="/3303/0/5602", status=205, content_format=SENML_CBOR, payload=payload)
    assert found.content == {
        "nodeResourceName": NAME,
        "time": TIME_MS,
        "messageType": "notify",
        "resourcePath": "/3303/0/5602",
        "dataValue": 25.5,
        "attributes": {},
    }
    assert list(found.values) == [("/3303/0/5602", "25.5", TIME_MS)]


@pytest.mark.spec("D2C 8")
@pytest.mark.parametrize(
    ("path", "name"), [("/3303", "/3303/0/5700"), ("/3303/0", "/3303/0/5700"), ("/3/0/11", "/3/0/11/0")]
)
def test_a_notification_of_more_than_one_resource_is_flat(path: str, name: str) -> None:
    found = content_of(Kind.NOTIFY, path=path, status=205, content_format=112, payload=senml({0: name, 2: 3}))
    assert found["data"] == {name[1:]: 3}
    assert "dataValue" not in found


def test_observe_attributes_of_the_relation_are_shown() -> None:
    payload = senml({0: "/3303/0/5700", 2: 1})
    found = content_of(
        Kind.NOTIFY, path="/3303/0/5700", status=205, content_format=112, payload=payload, detail='{"pmin":10}'
    )
    assert found["attributes"] == {"pmin": 10}


@pytest.mark.spec("OB-4")
def test_an_error_notification_is_a_message_with_a_status_and_a_line_in_the_log() -> None:
    found = of(Kind.NOTIFY, path="/3303/0/5700", status=404)
    assert found.content is not None
    assert found.content["messageType"] == "notify"
    assert found.content["data"] is None
    assert found.content["status"]["code"] == 404
    assert found.content["status"]["reason"] == "device-not-found"
    assert not found.values
    assert found.log is not None
    assert found.log[0] == "observation-ended"
    assert "4.04" in found.log[1]


@pytest.mark.spec("D-15", "D2C 8")
def test_a_send_keeps_every_time_and_shows_the_newest_value() -> None:
    payload = senml({0: "/3303/0/5700", 2: 21.0, 6: -60}, {0: "/3303/0/5700", 2: 22.0}, {0: "/3/0/9", 2: 80, 6: -5})
    found = of(Kind.SEND, content_format=SENML_CBOR, payload=payload)
    assert found.content is not None
    assert found.content["messageType"] == "send"
    assert found.content["data"] == {"3303/0/5700": 22, "3/0/9": 80}
    # Half-precision numbers without a fraction may come as integers; their text says the same number.
    times = [(path, float(value), time_ms) for path, value, time_ms in found.values]
    assert times[0] == ("/3303/0/5700", 21.0, TIME_MS - 60_000)
    assert times[1][:2] == ("/3303/0/5700", 22.0)
    assert times[2] == ("/3/0/9", 80.0, TIME_MS - 5_000)


def test_the_alternate_path_is_taken_off() -> None:
    payload = senml({0: "/lwm2m/3/0/9", 2: 80})
    found = content_of(Kind.SEND, content_format=SENML_CBOR, payload=payload, root="/lwm2m")
    assert found["data"] == {"3/0/9": 80}


# -- the rest --


def test_a_line_for_the_log_is_only_that() -> None:
    found = of(Kind.LOG, reason="send-refused", detail="object 99")
    assert (found.content, list(found.values), found.log) == (None, [], ("send-refused", "object 99"))


@pytest.mark.spec("D2C 8")
def test_what_an_application_injects_stays_as_it_is() -> None:
    found = of(Kind.INJECTED, payload=b'{"any":[1,"x"]}')
    assert found.content == {"any": [1, "x"]}
    assert not found.values


@pytest.mark.spec("D2C 8")
@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (True, ResourceType.BOOLEAN, True),
        (5, ResourceType.INTEGER, 5),
        (5, None, 5),
        (1.5, ResourceType.FLOAT, 1.5),
        ("x", ResourceType.STRING, "x"),
        (b"\x00\xff", ResourceType.OPAQUE, "AP8="),
        (ObjectLink(3, 0), ResourceType.OBJLNK, "3:0"),
        (1_700_000_000, ResourceType.TIME, 1_700_000_000_000),
        (1.5, ResourceType.TIME, 1500),
        (-1, ResourceType.TIME, -1000),
        (float("nan"), ResourceType.FLOAT, "nan"),
        (float("-inf"), None, "-inf"),
    ],
)
def test_values_are_shown_as_json(value: Any, kind: ResourceType | None, shown: Any) -> None:
    assert json_value(value, kind) == shown
    assert type(json_value(value, kind)) is type(shown)


# -- any bytes --

ENTRIES = st.builds(
    JournalEntry,
    st.sampled_from([Kind.REGISTER, Kind.UPDATE, Kind.DEREGISTER, Kind.EXPIRE, Kind.SEND, Kind.NOTIFY, Kind.ANSWER]),
    st.just(1),
    st.just(TIME_MS),
    status=st.sampled_from([0, 204, 205, 404, 699]),
    path=st.sampled_from(["/", "/3", "/3/0", "/3/0/13", "/3/0/11/0", "/3303/0/5700"]),
    content_format=st.sampled_from([-1, 0, 40, 42, 50, 60, 110, 112, 320, 11542, 11543, 64000]),
    payload=st.binary(max_size=60),
    method=st.sampled_from(["read", "write", "exec", "observe", "unobserve"]),
    reason=st.sampled_from(sorted(STATUS)),
)


@given(ENTRIES)
@settings(max_examples=100, deadline=None)
def test_no_payload_makes_it_raise_and_what_comes_out_is_json(entry: JournalEntry) -> None:
    found = interpret(entry, NAME, TYPES)
    json.dumps(found.content, allow_nan=False)
    assert found.content is not None or found.log is not None
    for path, value, time_ms in found.values:
        assert path.startswith("/")
        json.loads(value)
        assert isinstance(time_ms, int)


_NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([1e306, -1e308, 10**30, 2**64 - 1, -(2**63)]))


@given(
    st.lists(
        st.fixed_dictionaries(
            {0: st.sampled_from(["/3/0/13", "/3/0/9", "/6/0/5", "/3303/0/5700", "/9/0/1", "/3/0/11/1"]), 2: _NUMBERS},
            optional={6: _NUMBERS, -3: _NUMBERS},
        ),
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_no_number_and_no_time_makes_it_raise(records: list[dict[int, Any]]) -> None:
    found = interpret(JournalEntry(Kind.SEND, 1, TIME_MS, content_format=112, payload=senml(*records)), NAME, TYPES)
    json.dumps(found.content, allow_nan=False)


# -- commands without a message --


def test_the_end_of_a_command_that_came_in_no_message_is_none_either() -> None:
    fields: dict[str, Any] = {"path": "/3/0/9", "method": "read", "reason": "ok", "status": 205}
    read = of(Kind.OUTCOME, content_format=SENML_CBOR, payload=senml({0: "/3/0/9", 2: 80}), **fields)
    assert read == Interpretation(None, [("/3/0/9", "80", TIME_MS)])
    failed = of(Kind.OUTCOME, **(fields | {"reason": "timeout", "status": 0, "detail": "sent, no answer"}))
    assert (failed.content, failed.values) == (None, ())
    assert failed.log == ("command-failed", "read /3/0/9: 408 request timeout: sent, no answer")
