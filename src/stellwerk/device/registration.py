"""The registration of one device: what it said of itself and until when that holds (Core 1.2.2 §6.2; contract §4)."""

from dataclasses import dataclass
from typing import Final

from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.lwm2m.link_format import ObjectList
from stellwerk.lwm2m.operations import Operation, Write, WriteComposite
from stellwerk.lwm2m.registration_parameters import MAX_LIFETIME_S
from stellwerk.lwm2m.schema.library import DeviceTypes

DEFAULT_LIFETIME_S: Final = 86_400
_SERVER: Final = 1
_LIFETIME: Final = 1

INFINITE_MS: Final = 1 << 62
"""The deadline of a lifetime of 0 (Server object 1.2, resource 1)."""


@dataclass(slots=True)
class Registration:
    """``location`` is the last segment of ``/rd/<location>``. Times are UTC milliseconds since 1970.

    ``body`` is the object list as received and ``objects`` its decoded form; both are shared between devices that
    sent the same bytes. Mutated only by `app` after the commit of the change.
    """

    location: str
    device_id: DeviceId
    endpoint_name: str
    peer: PeerId
    version: str
    lifetime_s: int
    binding: str
    queue_mode: bool
    body: bytes
    objects: ObjectList
    types: DeviceTypes
    registered_ms: int
    updated_ms: int
    sms: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    proven: bool = True
    """The device showed that it receives at ``peer``: it answered us or used its unguessable location from there. Not
    stored; one that was loaded counts as proven."""

    def deadline_ms(self, grace_s: float) -> int:
        """When it expires unless an Update comes first (R-6): lifetime plus the grace, in UTC milliseconds."""
        if self.lifetime_s == 0:
            return INFINITE_MS
        return self.updated_ms + self.lifetime_s * 1000 + int(grace_s * 1000)


def written_lifetime(operation: Operation, objects: ObjectList) -> int | None:
    """The lifetime in seconds that the device took with ``operation``: a Write to ``/1/x/1`` of the only server account
    it lists (contract R-8). None otherwise; of several accounts we do not know ours, so its Update has to tell."""
    if not isinstance(operation, Write | WriteComposite):
        return None
    listed = objects.objects.get(_SERVER)
    for (object_id, *rest), value, _ in operation.content.entries:
        if object_id != _SERVER or rest[1:] != [_LIFETIME] or not isinstance(value, int):
            continue
        if listed is not None and listed.instances not in ((), (rest[0],)):
            return None
        return value if 0 <= value <= MAX_LIFETIME_S else None
    return None
