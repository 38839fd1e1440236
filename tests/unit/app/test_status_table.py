"""The status table of received-msg."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.app.status_table import STATUS, reason_for_device_status


@pytest.mark.spec("D2C 12")
def test_the_table_holds_every_code_and_message_of_the_contract() -> None:
    assert set(STATUS.values()) == {
        (200, "success"),
        (400, "bad request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not found"),
        (405, "method not allowed"),
        (406, "not acceptable"),
        (408, "request timeout"),
        (409, "request conflict"),
        (415, "unsupported media type"),
        (500, "internal server error"),
        (503, "service unavailable"),
    }


@pytest.mark.spec("D2C 12")
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (205, "ok"),
        (204, "ok"),
        (400, "device-bad-request"),
        (401, "device-unauthorized"),
        (403, "device-forbidden"),
        (404, "device-not-found"),
        (405, "device-method"),
        (406, "device-not-acceptable"),
        (415, "device-format"),
        (402, "device-bad-request"),
        (408, "device-bad-request"),
        (412, "device-bad-request"),
        (413, "device-bad-request"),
        (500, "adapter"),
        (503, "adapter"),
    ],
)
def test_a_device_s_code_has_its_key(status: int, reason: str) -> None:
    assert reason_for_device_status(status) == reason


@given(st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_whatever_a_device_answers_has_a_row_in_the_table(status: int) -> None:
    assert reason_for_device_status(status) in STATUS
