"""What people see of the bootstrap server: sessions of a device, what it would be given, who was refused."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stellwerk.app.bootstrap_accounts import BootstrapAccounts
from stellwerk.app.bootstrap_admission import Admitted
from stellwerk.app.bootstrap_blocks import read_blocks
from stellwerk.app.bootstrap_history import RefusedRequest
from stellwerk.app.failures import FailedHandshake
from stellwerk.app.ports import DecidingStore
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.configuration import EST_KEYS
from stellwerk.device.bootstrap.discovered import Discovered
from stellwerk.device.bootstrap.dry_run import DryRun, show_plan
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState
from stellwerk.device.bootstrap.plan import make_plan
from stellwerk.device.record import NOSEC, DeviceRecord

SESSIONS: Final = 10
"""Of a device, the newest."""


@dataclass(frozen=True, slots=True)
class RefusedPeer:
    """Whose request or handshake the bootstrap server refused. ``key`` tells them apart; ``said``: who the peer says to
    be, nothing of it is proven; ``tenant`` and ``device`` whom it concerns, empty where that is nobody."""

    key: str
    at_ms: int
    said: str
    address: str
    reason: str
    detail: str
    device: str = ""
    device_id: int = 0


async def recent_sessions(
    store: DecidingStore, device_id: DeviceId, under_way: BootstrapSession | None
) -> tuple[BootstrapSession, ...]:
    """Newest first; the one that is ``under_way`` with its steps so far. Raises `StoreTrouble`."""
    found = tuple(await store.bootstrap_sessions(device_id, SESSIONS))
    if under_way is None:
        return found
    return tuple(
        under_way if each.number == under_way.number and each.state is BootstrapState.RUNNING else each
        for each in found
    )


async def preview(
    store: DecidingStore,
    accounts: BootstrapAccounts,
    record: DeviceRecord,
    held: Discovered | None = None,
    *,
    pct: int | None = None,
    version: str | None = None,
    transport: str = "",
) -> DryRun:
    """What would be written to the device; nothing is sent or stored, fresh keys are made for the look alone. ``held``:
    what it has, None: as if it could not be asked. ``transport``: over which it comes, ``udp`` or ``tcp``, empty: as it
    is registered, unless it is to enrol, which goes over DTLS alone. Raises `UserError` for what people have to mend
    (the device would be refused with it), `PctUnsupported`, `StoreTrouble`."""
    credential = await store.credential_of(record.device_id)
    blocks = read_blocks(credential)
    admitted = Admitted(record, credential, blocks, blocks.endpoint or record.node_id)
    is_secure = blocks.bootstrap_server.security != NOSEC
    # What is made for the look is stored nowhere, so it was made at no time.
    if not transport:
        registration = await store.registration_of(record.device_id)
        is_tcp = registration is not None and registration.peer.is_over_tcp
        enrols = any(each.keys == EST_KEYS for each in (await accounts.configuration_of(record)).servers)
        transport = "tcp" if is_tcp and not enrols else "udp"
    may_enrol = blocks.bootstrap_server.kind != NOSEC and transport == "udp"
    given = await accounts.gather(admitted, is_secure=is_secure, now_ms=0, may_enrol=may_enrol, transport=transport)
    plan = make_plan(given.configuration, given.accounts, held, pct=pct, version=version)
    elsewhere = {short_id for short_id, _ in blocks.servers}
    ours = [each for each in given.accounts if each.entry.short_id not in elsewhere]
    shown = show_plan(plan, given.configuration, ours, given.fresh or credential)
    if blocks.one_time and credential is not None and credential.spent_ms:
        spent = "its bootstrap credential was for one time and was used up: it is refused until it has another"
        shown = replace(shown, warnings=(spent, *shown.warnings))
    return shown


class BootstrapSight:
    """``under_way``: the session of a device that runs; ``begin``: bootstrap a device that did not ask; ``requests``
    and ``handshakes``: those that were refused, of a tenant, None for all."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        accounts: BootstrapAccounts,
        under_way: Callable[[DeviceId], BootstrapSession | None],
        begin: Callable[[DeviceRecord], Awaitable[None]],
        requests: Callable[[str | None], Iterable[RefusedRequest]],
        handshakes: Callable[[str | None], Iterable[FailedHandshake]],
    ) -> None:
        self._store = store
        self._accounts = accounts
        self.under_way = under_way
        self._begin = begin
        self._requests = requests
        self._handshakes = handshakes

    async def preview(self, record: DeviceRecord) -> DryRun:
        """What the device would be given. Raises as `preview`."""
        registration = await self._store.registration_of(record.device_id)
        version = None if registration is None else registration.version
        return await preview(self._store, self._accounts, record, version=version)

    async def may_begin(self, record: DeviceRecord) -> bool:
        """Whether the device's profile lets the server begin. Raises `StoreTrouble`."""
        return (await self._accounts.configuration_of(record)).server_initiated

    async def begin(self, record: DeviceRecord) -> None:
        """Bootstrap the device where it is heard, though it did not ask. Raises `UserError` where that cannot be,
        `StoreTrouble`."""
        await self._begin(record)

    def refused(self, tenant: str | None) -> tuple[RefusedPeer, ...]:
        """Who was refused of late, the newest first."""
        found: Sequence[RefusedPeer] = [
            *(
                RefusedPeer(
                    f"r{each.number}",
                    each.at_ms,
                    f"endpoint {each.endpoint!r}" if each.endpoint else "",
                    each.peer,
                    each.reason,
                    each.detail,
                    each.device,
                    each.device_id,
                )
                for each in self._requests(tenant)
            ),
            *(
                RefusedPeer(
                    f"h{each.number}",
                    each.at_ms,
                    each.identity,
                    each.address,
                    each.reason,
                    each.detail,
                    each.device,
                    each.device_id,
                )
                for each in self._handshakes(tenant)
            ),
        ]
        return tuple(sorted(found, key=lambda each: each.at_ms, reverse=True))
