"""Received messages as reports for programs."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stellwerk.app.ports import MessageRecord
from stellwerk.app.reports import Report, report_of
from stellwerk.lwm2m.path import Path


def report(content: Any) -> Report:
    return report_of(MessageRecord("0" * 24, "name", 7, 1000, json.dumps(content), None, 1, "CNI-IPE", ()))


def test_a_send_has_its_values_by_path() -> None:
    content = {"nodeResourceName": "dev1", "time": 5, "messageType": "send", "data": {"3303/0/5700": 21.5, "3/0/9": 80}}
    found = report(content)
    assert (found.number, found.kind, found.time_ms) == (7, "send", 1000)
    assert found.values == {Path(3303, 0, 5700): 21.5, Path(3, 0, 9): 80}
    assert found.content == content


def test_a_notification_of_one_resource_has_its_value() -> None:
    found = report({"messageType": "notify", "resourcePath": "/3303/0/5700", "dataValue": 21.5, "attributes": {}})
    assert (found.kind, found.values) == ("notify", {Path(3303, 0, 5700): 21.5})


def test_what_a_discover_found_is_no_value() -> None:
    assert report({"messageType": "response", "method": "discover", "data": {"3/0": {"pmin": 10}}}).values == {}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON | st.fixed_dictionaries({"messageType": _JSON, "data": _JSON, "dataValue": _JSON, "resourcePath": _JSON}))
def test_whatever_an_application_injected_is_a_report(content: Any) -> None:
    found = report(content)
    assert found.number == 7
    assert all(isinstance(each, Path) for each in found.values)
