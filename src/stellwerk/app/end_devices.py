"""What the end of a gateway's registration means for the devices behind it: theirs end in the same commit."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from stellwerk.app.changes import DropRegistration
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import DecidingStore
from stellwerk.core.instant import Instant
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.gateway import GATEWAY
from stellwerk.lwm2m.status import Status

Behind = tuple[EndDeviceRecord, EndDeviceRegistration | None]
"""An end device, and its registration where it has one."""


class Ends(NamedTuple):
    """``registrations`` are to be forgotten once the rest is stored."""

    entries: tuple[JournalEntry, ...] = ()
    changes: tuple[DropRegistration, ...] = ()
    registrations: tuple[EndDeviceRegistration, ...] = ()


_NONE: Final = Ends()


async def ends_behind(store: DecidingStore, registration: Registration, kind: Kind, at: Instant, detail: str) -> Ends:
    """What goes with ``registration`` when it ends as ``kind`` says, `Kind.DEREGISTER` or `Kind.EXPIRE`."""
    if GATEWAY not in registration.objects.objects:
        return _NONE
    return ends_of(await store.end_devices(registration.device_id), kind, at, detail)


def ends_of(found: Iterable[Behind], kind: Kind, at: Instant, detail: str) -> Ends:
    """The ends of those that are registered; ``detail`` says why in each device's log."""
    entries, changes, registrations = [], [], []
    for record, registration in found:
        if registration is None:
            continue
        entries.append(
            JournalEntry(
                kind,
                record.device_id,
                at.wall_ms,
                status=Status.DELETED if kind == Kind.DEREGISTER else 0,
                labels=record.uplink_labels,
                location=registration.location,
                detail=detail,
            )
        )
        changes.append(DropRegistration(record.device_id, registration.location))
        registrations.append(registration)
    return Ends(tuple(entries), tuple(changes), tuple(registrations))
