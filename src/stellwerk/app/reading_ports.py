"""What the use cases need of storage to show: tables that follow the journal, and devices to choose from."""

from collections.abc import Sequence
from typing import Protocol

from stellwerk.app.records import ContainerState, DeviceState, LogLine, MessageRecord, StoredValue
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.record import DeviceRecord


class ProjectedStore(Protocol):
    """Reads of what the projector made of the journal; a little behind, never ahead."""

    async def received_messages(self, device_id: DeviceId, limit: int, offset: int) -> Sequence[MessageRecord]:
        """Newest first, at most what the eviction rules leave."""
        ...

    async def received_state(self, device_id: DeviceId) -> ContainerState: ...
    async def find_received(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        resource_id: str | None = None,
        seq: int | None = None,
    ) -> MessageRecord | None:
        """A received message by resource name, by resource ID, or by the journal sequence number it came from."""
        ...

    async def received_by_resource_id(self, resource_id: str) -> tuple[DeviceId, MessageRecord] | None:
        """A received message of any device; the caller checks whose."""
        ...

    async def recent_states(self, tenant_devices: Sequence[DeviceId]) -> Sequence[DeviceState]:
        """The states of these devices, those there are."""
        ...

    async def state_of(self, device_id: DeviceId) -> DeviceState | None: ...
    async def current_values(self, device_id: DeviceId) -> Sequence[StoredValue]: ...
    async def value_history(self, device_id: DeviceId, path: str, limit: int) -> Sequence[StoredValue]:
        """Newest first."""
        ...

    async def device_log(self, device_id: DeviceId, limit: int) -> Sequence[LogLine]:
        """Newest first."""
        ...

    async def projected_seq(self) -> int:
        """The journal sequence number up to which everything is projected."""
        ...


class DeviceDirectory(Protocol):
    """Devices in pages, for people who look for one. Works beside the event loop: a search may read every device of a
    tenant, and no acknowledgement waits for it."""

    async def page(
        self,
        tenant_id: TenantId | None,
        text: str,
        limit: int,
        *,
        after: DeviceRecord | None = None,
        before: DeviceRecord | None = None,
    ) -> Sequence[DeviceRecord]:
        """At most ``limit`` devices by tenant and name, of one tenant or of all: those with ``text`` in name, node ID
        or labels (letters of ASCII in either case), the first behind ``after`` or the last before ``before``."""
        ...

    async def count(self, tenant_id: TenantId | None, text: str, at_most: int) -> int:
        """How many devices `page` would find in all; the count ends at ``at_most``."""
        ...
