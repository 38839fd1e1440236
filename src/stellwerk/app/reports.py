"""What a device tells, for programs that follow it: its received messages, one after the other."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from stellwerk.app.ports import DecidingStore
from stellwerk.app.reading_ports import ProjectedStore
from stellwerk.app.records import MessageRecord
from stellwerk.app.tasks import Tasks
from stellwerk.app.views import View
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.path import Path, PathError

EVERY_S: Final = 0.25
"""How often it is looked whether a device that is followed told something."""


@dataclass(frozen=True, slots=True)
class Report:
    """``number`` counts the device's messages, from 1; ``kind``: ``registration``, ``update``, ``deregistration``,
    ``registration-expire``, ``send``, ``notify``, ``response`` (to a command that came in a message of the Device to
    Cloud containers), or what an application injected, empty where it names none. ``time_ms``: UTC. ``values``: newest
    by path, as messages show them (opaque as base64, times in milliseconds). ``content`` is all of the message
    (docs/onem2m.md)."""

    number: int
    kind: str
    time_ms: int
    values: Mapping[Path, Any]
    content: Mapping[str, Any]


class Reports:
    """Follows devices; nothing is read of one that nobody follows, and once for all who follow the same."""

    def __init__(
        self, *, store: DecidingStore, projected: ProjectedStore, tasks: Tasks, every_s: float = EVERY_S
    ) -> None:
        self._store = store
        self._projected = projected
        self._tasks = tasks
        self._every_s = every_s
        self._views: WeakValueDictionary[DeviceId, View[int]] = WeakValueDictionary()

    async def follow(self, device_id: DeviceId, after: int = 0) -> AsyncGenerator[Report]:
        """The reports behind number ``after``, oldest first: those that are kept, and then each that comes. Ends when
        the device is removed. Who follows so slowly that messages went by retention sees a gap in the numbers."""
        view = self._view(device_id)
        changed = asyncio.Event()
        end = view.follow(changed.set)
        try:
            newest = await view.now()
            while newest is not None or view.trouble:
                changed.clear()
                if newest is not None and newest > after:
                    for message in await self._behind(device_id, after, newest):
                        yield report_of(message)
                        after = message.state_tag
                    after = max(after, newest)
                else:
                    await changed.wait()
                newest = view.content
        finally:
            end()

    async def _behind(self, device_id: DeviceId, after: int, newest: int) -> list[MessageRecord]:
        """The messages behind ``after`` that are kept, oldest first; more may have come than ``newest`` says."""
        while True:
            found = await self._projected.received_messages(device_id, newest - after, 0)
            if not found or found[0].state_tag <= newest:
                return [each for each in reversed(found) if each.state_tag > after]
            newest = found[0].state_tag

    def _view(self, device_id: DeviceId) -> View[int]:
        view = self._views.get(device_id)
        if view is None:

            async def newest() -> int | None:
                if await self._store.device(device_id) is None:
                    return None
                return (await self._projected.received_state(device_id)).state_tag

            view = self._views[device_id] = View(f"reports of device {device_id}", newest, self._tasks, self._every_s)
        return view


def report_of(message: MessageRecord) -> Report:
    """A received message as a report, whatever an application may have injected."""
    content = json.loads(message.content)
    if not isinstance(content, dict):
        return Report(message.state_tag, "", message.created_ms, {}, {"con": content})
    data = content.get("data")
    found = dict(data) if isinstance(data, dict) else {}
    if "dataValue" in content:
        found[str(content.get("resourcePath"))] = content["dataValue"]
    values: dict[Path, Any] = {}
    if content.get("method") != "discover":
        for place, value in found.items():
            try:
                values[Path.parse("/" + place.removeprefix("/"))] = value
            except PathError:
                continue
    kind = content.get("messageType")
    return Report(message.state_tag, kind if isinstance(kind, str) else "", message.created_ms, values, content)
