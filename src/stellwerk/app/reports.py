"""What a device tells, for programs that follow it: its received messages, one after the other."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from stellwerk.app.ports import MessageRecord, ProjectedStore
from stellwerk.app.views import Views
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.path import Path, PathError


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
    """Follows devices with the readers that the console has: nothing is read of a device that nobody follows."""

    def __init__(self, *, projected: ProjectedStore, views: Views) -> None:
        self._projected = projected
        self._views = views

    async def follow(self, device_id: DeviceId, after: int = 0) -> AsyncIterator[Report]:
        """The reports behind number ``after``, oldest first, those that are kept and then each that comes, within about
        a second; ends when the device is removed. Who follows so slowly that messages went by retention sees a gap in
        the numbers."""
        view = self._views.device(device_id)
        changed = asyncio.Event()
        end = view.follow(changed.set)
        try:
            await view.now()
            while view.content is not None or view.trouble:
                changed.clear()
                newest = (await self._projected.received_state(device_id)).state_tag
                if newest > after:
                    found = await self._projected.received_messages(device_id, newest - after, 0)
                    for message in reversed(found):
                        if message.state_tag > after:
                            yield report_of(message)
                    after = newest
                    continue
                await changed.wait()
        finally:
            end()


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
