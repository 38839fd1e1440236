"""What profile IDs stand for: learned from a device, and used for that device alone (docs/registration.md)."""

from collections import OrderedDict
from typing import Final

import structlog

from stellwerk.app.committing import log_not_stored
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.core.ids import DeviceId
from stellwerk.lwm2m.profile_ids import KNOWN_BODIES, UnknownProfile, join_bodies

log = structlog.get_logger(__name__)

ASKED: Final = 10_000
"""Devices of which is remembered that they were asked for their complete list; the one asked first is forgotten."""


class ObjectLists:
    """A device whose profile IDs are not known is answered 4.09 once; what it sends next under the same IDs is its
    complete list, and where it named one ID, what that ID stands for from now on."""

    def __init__(self, store: DecidingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._asked: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    async def complete(
        self, endpoint_name: str, device_id: DeviceId | None, profile_ids: tuple[str, ...], body: bytes
    ) -> tuple[bytes, str | None]:
        """The whole object list as link format, and the profile ID that it teaches, None for none. ``device_id`` None:
        a device that is not known yet.

        Raises `UnknownProfile` (4.09), `LinkFormatError` (4.00), and what the store raises.
        """
        learned = await self._store.object_lists_of(device_id) if device_id is not None else {}
        found = [KNOWN_BODIES.get(each) or learned.get(each) for each in profile_ids]
        unknown = tuple(each for each, known in zip(profile_ids, found, strict=True) if known is None)
        if not unknown:
            return join_bodies([*(each for each in found if each is not None), body]), None
        if body and self._asked.get(endpoint_name) == profile_ids:
            return body, profile_ids[0] if len(profile_ids) == 1 else None
        self._asked[endpoint_name] = profile_ids
        self._asked.move_to_end(endpoint_name)
        if len(self._asked) > ASKED:
            self._asked.popitem(last=False)
        raise UnknownProfile(unknown)

    async def learn(self, endpoint_name: str, device_id: DeviceId, profile_id: str | None, body: bytes) -> None:
        """The device's list was taken. Should the store fail, the ID stays unknown and is asked about again."""
        self._asked.pop(endpoint_name, None)
        if profile_id is None:
            return
        try:
            await self._store.put_object_list(device_id, profile_id, body, self._clock.wall_ms())
        except Exception as error:
            log_not_stored(log, "object_list.not_stored", error, endpoint_name=endpoint_name)
