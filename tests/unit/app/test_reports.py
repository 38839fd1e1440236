"""Received messages as reports for programs."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stellwerk.app.records import ContainerState, MessageRecord
from stellwerk.app.reports import Report, Reports, report_of
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.path import Path


def message(content: Any, tag: int = 7) -> MessageRecord:
    return MessageRecord("0" * 24, "name", tag, 1000, json.dumps(content), None, 1, "CNI-IPE", ())


def report(content: Any) -> Report:
    return report_of(message(content))


class Busy:
    """A store of which every look at how much there is is out of date: ``behind`` more have come by the next. Keeps the
    newest ``kept`` messages."""

    def __init__(self, behind: int, kept: int = 100, deleted: tuple[int, ...] = ()) -> None:
        self.behind, self.kept, self.deleted = behind, kept, deleted
        self.newest = 3

    async def device(self, device_id: DeviceId) -> object:
        return object()

    async def received_state(self, device_id: DeviceId) -> ContainerState:
        return ContainerState(self.newest, 0, 0, 0)

    async def received_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        self.newest += self.behind
        self.behind = max(0, self.behind - 1)
        tags = range(self.newest, max(0, self.newest - min(limit, self.kept)), -1)
        return [message({}, tag) for tag in tags if tag not in self.deleted]


def numbers(store: Any, count: int, after: int = 0) -> list[int]:
    async def story() -> list[int]:
        tasks = Tasks()
        found: list[int] = []
        reports = Reports(store=store, projected=store, tasks=tasks, every_s=0.0)
        async with asyncio.timeout(5), aclosing(reports.follow(DeviceId(1), after)) as following:
            async for each in following:
                found.append(each.number)
                if len(found) == count:
                    break
        await tasks.close()
        return found

    return asyncio.run(story())


def test_what_comes_while_it_is_looked_pushes_nothing_out() -> None:
    assert numbers(Busy(2), 6) == [1, 2, 3, 4, 5, 6]


def test_who_goes_on_behind_a_report_gets_the_next() -> None:
    assert numbers(Busy(0), 1, after=2) == [3]


def test_what_went_leaves_a_gap() -> None:
    assert numbers(Busy(2, kept=2), 2) == [5, 6]
    assert numbers(Busy(0, deleted=(2,)), 2) == [1, 3]


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
