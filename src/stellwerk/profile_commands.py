"""What the command line does about profiles; a running server takes it up within seconds."""

from collections.abc import Sequence

from stellwerk.access import open_store, tenant_named
from stellwerk.app.records import DeviceChange
from stellwerk.config import Settings
from stellwerk.core.errors import UserError
from stellwerk.core.ids import TenantId
from stellwerk.device.bootstrap.configuration import NO_BOOTSTRAP
from stellwerk.device.profile import (
    DEFAULT,
    SETTINGS,
    BadProfile,
    ProfileRecord,
    check_name,
    parse_settings,
    to_settings,
)
from stellwerk.net.clock import SystemClock
from stellwerk.storage.sqlite.store import SqliteStore


class Unknown(UserError):
    """There is no such tenant, profile or device; the text says how to find those there are."""


def describe(record: ProfileRecord) -> str:
    """One line: the name, then what it says itself, as ``set`` takes it."""
    said = " ".join(f"{name}={_text(value)}" for name, value in to_settings(record.profile).items())
    return f"{record.name}\t{said or '(as the server)'}"


async def list_profiles(settings: Settings, tenant: str) -> Sequence[ProfileRecord]:
    """The tenant's, by name. Raises `Unknown`."""
    async with open_store(settings) as store:
        return await store.profiles(await tenant_named(settings, store, tenant))


async def show_profile(settings: Settings, tenant: str, name: str) -> ProfileRecord:
    """Raises `Unknown`."""
    async with open_store(settings) as store:
        return await _profile(store, await tenant_named(settings, store, tenant), name)


async def set_profile(settings: Settings, tenant: str, name: str, pairs: Sequence[str]) -> ProfileRecord:
    """Make the profile, or change what ``pairs`` (``awake_s=10``; empty behind ``=``: as the server) name of it; all of
    them hold, or none. Raises `BadProfile`, `Unknown`."""
    check_name(name)
    texts: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise BadProfile(f"{pair[:40]!r} is no setting; write name=value, with one of {', '.join(SETTINGS)}")
        if key.strip() in texts:
            raise BadProfile(f"{key.strip()!r} is given twice")
        texts[key.strip()] = value
    async with open_store(settings) as store:
        tenant_id = await tenant_named(settings, store, tenant)
        before = await store.profile(tenant_id, name)
        profile = parse_settings(texts, DEFAULT if before is None else before.profile)
        now_ms = SystemClock().wall_ms()
        kept = NO_BOOTSTRAP if before is None else before.bootstrap
        await store.put_profile(ProfileRecord(tenant_id, name, profile, now_ms, now_ms, kept))
        return await _profile(store, tenant_id, name)


async def remove_profile(settings: Settings, tenant: str, name: str) -> None:
    """Raises `Unknown`, `ProfileInUse`."""
    async with open_store(settings) as store:
        if not await store.remove_profile(await tenant_named(settings, store, tenant), name):
            raise Unknown(f"there is no profile {name!r}; `stellwerk profile list` names them")


async def give_profile(settings: Settings, tenant: str, device_name: str, name: str) -> None:
    """Give the device another profile. Raises `Unknown`."""
    async with open_store(settings) as store:
        tenant_id = await tenant_named(settings, store, tenant)
        await _profile(store, tenant_id, name)
        device = await store.device_by_name(tenant_id, device_name)
        change = DeviceChange(SystemClock().wall_ms(), profile=name)
        if device is None or await store.change_device(device.device_id, change) is None:
            raise Unknown(
                f"tenant {tenant!r} has no device {device_name!r}; devices are named as they were provisioned"
            )


async def _profile(store: SqliteStore, tenant_id: TenantId, name: str) -> ProfileRecord:
    found = await store.profile(tenant_id, name)
    if found is None:
        raise Unknown(f"there is no profile {name!r}; `stellwerk profile set {name} awake_s=10` makes one")
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
