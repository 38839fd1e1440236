"""Messages that applications put into received-msg, or take out of it (contract Device to Cloud §8)."""

import json
from collections.abc import Sequence
from typing import Any, Final

import structlog

from stellwerk.app.committing import commit
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.projected import Projected
from stellwerk.app.reading_ports import ProjectedStore
from stellwerk.app.records import AlreadyExists, MessageRecord
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import DeviceRecord

log = structlog.get_logger(__name__)

_STORED: Final = "the message is stored"


class PushedOut(UserError):
    """The message was stored, and newer ones pushed it out before it could be shown, or its device was removed."""

    def __init__(self) -> None:
        super().__init__("the message was stored, and newer messages pushed it out at once; do not repeat it")


class Injecting:
    """Writes to the journal as devices do, so that injected messages are ordered, shown and forwarded like theirs."""

    def __init__(
        self, *, store: DecidingStore, projection: ProjectedStore, clock: Clock, projected: Projected | None = None
    ) -> None:
        self._store = store
        self._projection = projection
        self._clock = clock
        self._projected = projected or Projected(projection)
        self._names: set[tuple[DeviceId, str]] = set()
        """Names that are on their way into the journal."""
        self._stored: dict[tuple[DeviceId, str], int] = {}
        """Names that are in the journal, and where; no look into the container finds them before they are projected."""

    async def inject(
        self,
        device: DeviceRecord,
        *,
        name: str | None,
        content: Any,
        content_info: str | None,
        creator: str,
        labels: Sequence[str],
    ) -> MessageRecord:
        """The message as it is stored and shown from now on: ``labels``, then the device's uplink properties. Raises
        `AlreadyExists` for a name that the container holds, `NotReadableYet`, `PushedOut`."""
        if name is None:
            return await self._inject(device, "", content, content_info, creator, labels)
        key = (device.device_id, name)
        if key in self._names:
            raise AlreadyExists("resource name", name)
        self._names.add(key)
        try:
            await self._forget_projected()
            if key in self._stored or await self._projection.find_received(device.device_id, name=name) is not None:
                raise AlreadyExists("resource name", name)
            return await self._inject(device, name, content, content_info, creator, labels)
        finally:
            self._names.discard(key)

    async def remove(self, device: DeviceRecord, message: MessageRecord) -> None:
        """The received message is gone once this returns. Raises `NotReadableYet`."""
        entry = JournalEntry(
            Kind.MESSAGE_REMOVED, device.device_id, self._clock.wall_ms(), location=message.resource_id
        )
        seq = await commit(self._store, (entry,), ())
        log.info("message.removed", device=device.name, message=message.resource_name)
        await self._projected.reached(seq, "the removal is stored")

    async def _forget_projected(self) -> None:
        if self._stored:
            projected = await self._projection.projected_seq()
            self._stored = {key: seq for key, seq in self._stored.items() if seq > projected}

    async def _inject(
        self,
        device: DeviceRecord,
        name: str,
        content: Any,
        content_info: str | None,
        creator: str,
        labels: Sequence[str],
    ) -> MessageRecord:
        entry = JournalEntry(
            Kind.INJECTED,
            device.device_id,
            self._clock.wall_ms(),
            payload=json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(),
            # One that is given and a property of the device too is there once.
            labels=tuple(dict.fromkeys((*labels, *device.uplink_labels))),
            location=name,
            method=content_info or "",
            detail=creator,
        )
        seq = await commit(self._store, (entry,), ())
        if name:
            # Until it is seen to be projected: a projector that stands still lets nobody wait that long.
            self._stored[device.device_id, name] = seq
        await self._projected.reached(seq, _STORED)
        self._stored.pop((device.device_id, name), None)
        found = await self._projection.find_received(device.device_id, seq=seq)
        if found is None:
            raise PushedOut
        return found
