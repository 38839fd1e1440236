"""The journal's entry about the end of a command as a value for programs."""

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.handlers.awaiting import Ended
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.outcome import Outcome, outcome_of, stored_outcome
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Command, Step
from stellwerk.lwm2m.content import Entry
from stellwerk.lwm2m.operations import Read
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.schema.library import Library

TYPES = Library.builtin().for_device("1.1", {1: None, 3: None, 3303: None})


def of(step: Step, typed: bool = True, **fields: Any) -> Outcome:
    known: dict[str, Any] = {"reason": "ok", "status": 205, "method": "read", "path": "/3/0/9"}
    row = JournalEntry(Kind.OUTCOME, 1, 1_752_761_134_124, **(known | fields))
    return outcome_of(Ended(step, row, TYPES if typed else None), "ref", "asked", "/asked")


def senml(*records: dict[int, Any]) -> bytes:
    return cbor2.dumps(list(records))


def command(**fields: Any) -> Command:
    known: dict[str, Any] = {"step": Step.SENT, "reason": "", "detail": ""} | fields
    return Command(
        1, DeviceId(1), "ref", "", "id", "read", Read(Path(3, 0, 9)), "", None, created_ms=0, expires_ms=0, **known
    )


def test_a_history_is_kept_with_its_times_and_the_newest_counts() -> None:
    payload = senml({-3: 1.7e9, 0: "/3303/0/5700", 2: 20.5}, {0: "/3303/0/5700", 2: 21.5, 6: 60})
    outcome = of(Step.SUCCEEDED, path="/3303/0/5700", content_format=112, payload=payload)
    place = Path(3303, 0, 5700)
    assert outcome.values == (Entry(place, 20.5, 1.7e9), Entry(place, 21.5, 1.7e9 + 60))
    assert outcome.latest() == {place: 21.5}
    assert (outcome.value(), outcome.value(place), outcome.value("/3303/0/5701")) == (21.5, 21.5, None)
    with pytest.raises(PathError):
        outcome.value("3303")


def test_the_single_instance_of_a_resource_is_its_value_and_one_of_several_is_not() -> None:
    payload = senml({0: "/3/0/11/0", 2: 1})
    assert of(Step.SUCCEEDED, path="/3/0/11", content_format=112, payload=payload).value() == 1
    payload = senml({0: "/3/0/11/0", 2: 1}, {0: "/3/0/11/1", 2: 2})
    assert of(Step.SUCCEEDED, path="/3/0/11", content_format=112, payload=payload).value() is None


@pytest.mark.parametrize("method", ["read", "discover"])
def test_what_nobody_could_check_before_is_checked_here(method: str) -> None:
    outcome = of(Step.SUCCEEDED, typed=False, content_format=112, payload=b"\xff\xff", method=method)
    assert (outcome.step, outcome.reason, outcome.status) == (Step.REFUSED, "adapter", 500)
    assert outcome.detail.startswith("the answer does not decode: ")


def test_a_create_says_where_if_the_device_said_a_path() -> None:
    assert of(Step.SUCCEEDED, method="create", path="/3442", location="/3442/7").created == Path(3442, 7)
    for location in ("", "elsewhere", "/1/2/3/4/5"):
        assert of(Step.SUCCEEDED, method="create", path="/3442", location=location).created is None


@pytest.mark.spec("D-12")
def test_a_discover_gives_links_below_the_device_s_root() -> None:
    payload = b"</lw/3/0>;pmin=10,</lw/3/0/9>;gt=40.5;x,</other>"
    outcome = of(Step.SUCCEEDED, method="discover", path="/3/0", payload=payload, root="/lw")
    assert outcome.links == {Path(3, 0): {"pmin": 10}, Path(3, 0, 9): {"gt": 40.5, "x": None}}


def test_an_end_without_method_and_path_has_those_that_were_asked_for() -> None:
    outcome = of(Step.CANCELLED, method="", path="", reason="cancelled", status=0)
    assert (outcome.method, outcome.path, outcome.status, outcome.device_status) == ("asked", "/asked", 408, 0)


def test_a_row_that_goes_on_has_no_reason_and_one_of_an_older_version_none_that_is_known() -> None:
    waits = stored_outcome(command(reason="unanswered", detail="1 of 3 tries made"))
    assert (waits.ended, waits.reason, waits.status, waits.detail) == (False, "", 0, "1 of 3 tries made")
    old = stored_outcome(command(step=Step.EXPIRED))
    assert (old.ended, old.reason, old.status) == (True, "", 0)
    assert stored_outcome(command(step=Step.REFUSED, reason="device-not-found")).status == 404


@given(
    st.sampled_from(["read", "observe", "read-composite", "discover", "create", "exec"]),
    st.sampled_from(["/3/0/9", "/3/0", "/3/0/9,/1/0/1", "/3/0/9,"]),
    st.sampled_from([-1, 0, 40, 42, 110, 112, 11542, 11544, 60_000]),
    st.binary(max_size=60),
    st.text(max_size=20),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_whatever_was_answered_is_an_outcome(
    method: str, path: str, content_format: int, payload: bytes, location: str, typed: bool
) -> None:
    outcome = of(
        Step.SUCCEEDED,
        typed,
        method=method,
        path=path,
        content_format=content_format,
        payload=payload,
        location=location,
    )
    assert outcome.step in (Step.SUCCEEDED, Step.REFUSED)
    assert outcome.succeeded == (outcome.status == 200)
    outcome.value()
