"""The tenant a request is about, and what its caller may see."""

from dataclasses import dataclass

from stellwerk.core.ids import TenantId
from stellwerk.device.record import DeviceRecord
from stellwerk.northbound.auth import Role
from stellwerk.northbound.onem2m.errors import Refusal, Rsc
from stellwerk.northbound.services import Services


@dataclass(frozen=True, slots=True)
class Scope:
    """``role``: of the caller; without the right to write, secrets stay hidden (contract §6.5)."""

    services: Services
    tenant_id: TenantId
    tenant: str
    role: Role = "r"

    async def device(self, name: str) -> DeviceRecord:
        """Raises `Refusal` where the tenant has no device of that name."""
        device = await self.services.deciding.device_by_name(self.tenant_id, name)
        if device is None:
            raise Refusal(Rsc.NOT_FOUND, f"tenant {self.tenant!r} has no device or application {name[:80]!r}")
        return device
