"""`DeviceDirectory` over the devices of a `MemoryStore`."""

from collections.abc import Callable, Iterable, Sequence

from stellwerk.core.ids import TenantId
from stellwerk.device.record import DeviceRecord


class MemoryDirectory:
    """``devices``: all there are, asked anew for every page."""

    def __init__(self, devices: Callable[[], Iterable[DeviceRecord]]) -> None:
        self._devices = devices

    async def page(
        self,
        tenant_id: TenantId | None,
        text: str,
        limit: int,
        *,
        after: DeviceRecord | None = None,
        before: DeviceRecord | None = None,
    ) -> Sequence[DeviceRecord]:
        found = self._found(tenant_id, text)
        if after is not None:
            return [each for each in found if _key(each) > _key(after)][:limit]
        if before is not None:
            return [each for each in found if _key(each) < _key(before)][-limit:]
        return found[:limit]

    async def count(self, tenant_id: TenantId | None, text: str, at_most: int) -> int:
        return min(len(self._found(tenant_id, text)), at_most)

    def _found(self, tenant_id: TenantId | None, text: str) -> list[DeviceRecord]:
        wanted = text.lower()
        found = [
            each
            for each in self._devices()
            if tenant_id in (None, each.tenant_id)
            and any(wanted in part.lower() for part in (each.name, each.node_id, *each.labels))
        ]
        return sorted(found, key=_key)


def _key(record: DeviceRecord) -> tuple[int, str]:
    return record.tenant_id, record.name
