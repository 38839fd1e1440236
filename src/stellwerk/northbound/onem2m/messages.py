"""Messages of the three containers by name, whichever store has them (contract §4.4)."""

from stellwerk.app.records import MessageRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.onem2m.tree import MessageContainerName
from stellwerk.northbound.services import Services


async def find_message(
    services: Services, device: DeviceRecord, container: MessageContainerName, name: str
) -> MessageRecord:
    """``name``: a resource name, or ``la`` for the newest and ``ol`` for the oldest. Raises `Refusal` where there is
    none."""
    if name in ("la", "ol"):
        found = await _at_an_end(services, device, container, name)
        if found is None:
            raise Refusal(Rsc.NOT_FOUND, f"{container} of {device.name} is empty")
        return found
    if container == "received-msg":
        found = await services.projected.find_received(device.device_id, name=name)
    else:
        found = await services.deciding.find_message(device.device_id, container, name=name)
    if found is None:
        raise Refusal(
            Rsc.NOT_FOUND, f"{container} of {device.name} has no message {name[:80]!r}; it may have been evicted"
        )
    return found


async def _at_an_end(
    services: Services, device: DeviceRecord, container: MessageContainerName, name: str
) -> MessageRecord | None:
    device_id = device.device_id
    offset = 0
    if name == "ol":
        if container == "received-msg":
            state = await services.projected.received_state(device_id)
        else:
            state = await services.deciding.container_state(device_id, container)
        offset = max(state.count - 1, 0)
    if container == "received-msg":
        records = await services.projected.received_messages(device_id, 1, offset)
    elif container == "sent-msg":
        records = await services.deciding.sent_messages(device_id, 1, offset)
    else:
        records = await services.deciding.outgoing_messages(device_id, 1, offset)
    return records[0] if records else None
