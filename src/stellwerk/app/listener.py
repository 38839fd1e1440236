"""What the use cases tell of devices. `listening.Listening` implements it, and tells each part that wants to know."""

from typing import Protocol

from stellwerk.app.registry import Known
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.link_format import ObjectList


class Listener(Protocol):
    """Who wants to know that a device was heard or lost; called after the commit and the answer."""

    def device_registered(self, known: Known, at: Instant) -> None: ...
    def device_heard(self, known: Known, at: Instant) -> None: ...
    def device_lost(self, device_id: DeviceId, at: Instant) -> None: ...
    def objects_changed(self, before: ObjectList, known: Known, at: Instant) -> None: ...
    def connection_changed(self, known: Known, at: Instant) -> None:
        """What the device observes for us ended with its connection, or began anew over one; `device_heard` follows."""
        ...
