"""End devices behind a gateway: provisioned and registered like any device, reached through the gateway alone (LwM2M
Gateway 1.1; contract §12). Types of their own, so that what is kept of all other devices holds nothing for this."""

from dataclasses import dataclass, replace
from typing import Final

from stellwerk.core.ids import DeviceId
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import INFINITE_MS, Registration
from stellwerk.lwm2m.link_format import ObjectList
from stellwerk.lwm2m.schema.library import DeviceTypes

NO_GATEWAY: Final = DeviceId(0)
"""No device has this number."""
GATEWAY_LABELS: Final = ("gateway:", "gateway_prefix:")
"""How labels of the node of an end device begin that the server keeps itself."""

_OF_NODE_ID: Final = 9
_OF_NAME: Final = 10


@dataclass(frozen=True, slots=True)
class EndDeviceRecord(DeviceRecord):
    """``gateway_id``: the device it is behind, ``gateway`` its name; ``prefix``: the segment before the paths."""

    gateway_id: DeviceId = NO_GATEWAY
    gateway: str = ""
    prefix: str = ""


@dataclass(slots=True)
class EndDeviceRegistration(Registration):
    """Stands as long as the gateway's does: address, lifetime, binding and content formats are the gateway's, the
    objects its own. ``location`` is no path of ours: nobody can update it from outside."""

    gateway_id: DeviceId = NO_GATEWAY
    prefix: str = ""

    def deadline_ms(self, grace_s: float) -> int:
        """It has none of its own."""
        return INFINITE_MS

    def following(self, gateway: Registration) -> "EndDeviceRegistration":
        """As it is under the gateway's registration as that is now."""
        return replace(
            self,
            peer=gateway.peer,
            lifetime_s=gateway.lifetime_s,
            binding=gateway.binding,
            queue_mode=gateway.queue_mode,
            objects=_objects(self.objects, gateway, self.prefix),
            updated_ms=gateway.updated_ms,
            proven=gateway.proven,
        )


def register_behind(
    gateway: Registration,
    record: EndDeviceRecord,
    *,
    location: str,
    version: str,
    body: bytes,
    objects: ObjectList,
    types: DeviceTypes,
    registered_ms: int,
) -> EndDeviceRegistration:
    """The registration of ``record`` under that of its gateway; ``objects``, ``body`` and ``types`` without prefix."""
    return EndDeviceRegistration(
        location=location,
        device_id=record.device_id,
        endpoint_name=record.node_id,
        peer=gateway.peer,
        version=version,
        lifetime_s=gateway.lifetime_s,
        binding=gateway.binding,
        queue_mode=gateway.queue_mode,
        body=body,
        objects=_objects(objects, gateway, record.prefix),
        types=types,
        registered_ms=registered_ms,
        updated_ms=gateway.updated_ms,
        proven=gateway.proven,
        gateway_id=record.gateway_id,
        prefix=record.prefix,
    )


def end_device_aliases(node_id: str, name: str) -> tuple[tuple[str, int], ...]:
    """As `record.endpoint_aliases`. These only say whose name it is: nobody may register under it, and where another
    device is meant by the same name, it is that one."""
    return ((node_id, _OF_NODE_ID), (name, _OF_NAME))


def _objects(objects: ObjectList, gateway: Registration, prefix: str) -> ObjectList:
    # Gateway 1.1 §8.3.1: with an alternate path the prefix comes behind it.
    return replace(objects, root=f"{gateway.objects.root}/{prefix}", content_formats=gateway.objects.content_formats)
