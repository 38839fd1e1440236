"""What has to be deleted and written so that a device has what its profile says (contract B-2, B-4 to B-7; device
platform §12.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stellwerk.device.bootstrap.account import Account
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration
from stellwerk.device.bootstrap.discovered import Discovered
from stellwerk.lwm2m.bootstrap import BootstrapDelete, BootstrapWrite
from stellwerk.lwm2m.content import Content

Step: TypeAlias = BootstrapDelete | BootstrapWrite


@dataclass(frozen=True, slots=True)
class Plan:

    deletes: tuple[BootstrapDelete, ...] = ()
    writes: tuple[BootstrapWrite, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.deletes or self.writes)

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.deletes + self.writes


def make_plan(
    configuration: BootstrapConfiguration,
    accounts: Sequence[Account],
    discovered: Discovered | None,
    *,
    pct: int | None = None,
    version: str | None = None,
) -> Plan:
    """``accounts``: one for each of ``configuration.servers``, in their order. ``discovered`` None: the device could not
    be asked. ``version``: the LwM2M version of the device where it is known. The plan is empty where the profile gives
    nothing. Raises `BadAccount`, `PctUnsupported`."""
    raise NotImplementedError


def make_correction(
    configuration: BootstrapConfiguration,
    accounts: Sequence[Account],
    discovered: Discovered | None,
    servers: Content | None,
    *,
    pct: int | None = None,
    version: str | None = None,
) -> Plan:
    """After Finish was refused with 4.06: every account of the profile anew. ``discovered`` as it was before the first
    plan, ``servers``: what Bootstrap-Read of /1 said after it, None where it said nothing. Empty where nothing can be
    done. Raises as `make_plan`."""
    raise NotImplementedError
