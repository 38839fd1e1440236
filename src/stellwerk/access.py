"""What the command line does about access: bearer tokens for scripts, clients of the token endpoint, the store for
commands."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import ApiClient
from stellwerk.config import Settings
from stellwerk.core.errors import UserError
from stellwerk.core.ids import TenantId
from stellwerk.core.uuid_text import random_uuid
from stellwerk.device.record import DeviceRecord
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.northbound.auth import Role, SignedTokens
from stellwerk.northbound.oauth import secret_hash
from stellwerk.storage.lock import DataDirInUse, DirectoryLock
from stellwerk.storage.migrations import DECIDING_FILE, migrate, require
from stellwerk.storage.resealing import has_moved
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.token_key import load_token_key
from stellwerk.storage.vault import KEY_FILE, KEY_SETTING, MasterKeyUnusable, Vault, read_keys

_LONGEST_ID: Final = 128


async def issue_token(settings: Settings, tenant: str, role: Role, lifetime_s: int) -> str:
    """A token that servers on this data directory take for ``lifetime_s`` seconds. Raises `TokenKeyUnusable`, and
    `UserError` where a server has not made the tenant."""
    async with open_store(settings) as store:
        await tenant_named(settings, store, tenant)
    signed = SignedTokens(load_token_key(settings.data_dir), SystemClock().wall_ms)
    return signed.issue("stellwerk token", (tenant,), role, lifetime_s, random_uuid(SystemEntropy()))


async def add_client(settings: Settings, client_id: str, tenants: tuple[str, ...], role: Role) -> str:
    """Make the client, or change it; returns its new secret. Raises `UserError`."""
    if not client_id or len(client_id) > _LONGEST_ID or not client_id.isascii() or not client_id.isprintable():
        raise UserError(f"a client id has 1 to {_LONGEST_ID} visible ASCII characters")
    # Raises `TokenTooLong` here, where somebody reads it, and not when the program asks for its first token.
    SignedTokens(bytes(32), SystemClock().wall_ms).issue(client_id, tenants, role, 1, random_uuid(SystemEntropy()))
    secret = secrets.token_urlsafe(32)
    async with open_store(settings) as store:
        for each in tenants:
            await tenant_named(settings, store, each)
        now_ms = SystemClock().wall_ms()
        await store.put_api_client(ApiClient(client_id, secret_hash(secret), tenants, role, now_ms))
    return secret


async def list_clients(settings: Settings) -> Sequence[ApiClient]:
    """All clients by id."""
    async with open_store(settings) as store:
        return await store.api_clients()


async def remove_client(settings: Settings, client_id: str) -> bool:
    """False where there is none."""
    async with open_store(settings) as store:
        return await store.remove_api_client(client_id)


@asynccontextmanager
async def open_store(
    settings: Settings, *, may_make: bool = False, has_secrets: bool = False
) -> AsyncIterator[SqliteStore]:
    """The store of the data directory, for a command. Beside a running server too: only the journal has a single
    writer. Raises `UserError` where there is none yet: whoever stands in another folder than the server shall not find
    a data directory there afterwards; with ``may_make`` it is made, with its master key. ``has_secrets``: raises it,
    too, where the master key is another than the server's (`check_master_key`)."""
    if not may_make and not (settings.data_dir / DECIDING_FILE).exists():
        raise UserError(
            f"there is no data in the data directory {settings.data_dir.absolute()}; `stellwerk serve` makes it, and "
            "STELLWERK_DATA_DIR names another one"
        )
    with suppress(DataDirInUse):
        lock = DirectoryLock.take(settings.data_dir)
        try:
            migrate(settings.data_dir)
        finally:
            lock.release()
    if has_secrets:
        require(settings.data_dir)
        check_master_key(settings)
    if may_make or has_secrets or settings.master_key or (settings.data_dir / KEY_FILE).exists():
        vault = Vault.load(settings.data_dir, settings.master_key or None, settings.master_key_old)
    else:
        # The server has its master key from the setting: one that was made here would be taken for it.
        vault = Vault(secrets.token_bytes(32))
    store = await SqliteStore.open(settings.data_dir, vault=vault)
    try:
        yield store
    finally:
        await store.close()


def is_served(settings: Settings) -> bool:
    """Whether a server works in the data directory now. Raises `DataDirUnusable`."""
    try:
        DirectoryLock.take(settings.data_dir).release()
    except DataDirInUse:
        return True
    return False


def check_master_key(settings: Settings) -> None:
    """What is sealed here with another key than the server's, the server could not open. The database is migrated.
    Raises `UserError`."""
    file = settings.data_dir / KEY_FILE
    if not settings.master_key and not file.exists():
        raise UserError(
            f"there is no {KEY_FILE} in the data directory {settings.data_dir.absolute()}, so the server has its "
            f"master key from {KEY_SETTING}; set it here too, or no secret can be read or written"
        )
    if not settings.master_key or not file.exists():
        return
    try:
        in_setting, in_file = bytes.fromhex(settings.master_key), read_keys(file)
    except MasterKeyUnusable:
        # No server seals with that.
        return
    former = [bytes.fromhex(each) for each in settings.master_key_old.split(",") if each.strip()]
    if in_setting in in_file or in_file[0] in former:
        return
    if has_moved(settings.data_dir, Vault(*in_file), Vault(in_setting)):
        return
    raise UserError(
        f"the master key in {KEY_SETTING} is another than that in {file.absolute()}, with which the server seals: it "
        f"could not read what is sealed here. Unset {KEY_SETTING}, or name its data directory in STELLWERK_DATA_DIR; "
        "where the server is to have the key of the setting, `stellwerk keys rotate-master` moves to it, and "
        f"{KEY_FILE} is removed then"
    )


async def device_named(settings: Settings, store: SqliteStore, tenant: str, name: str) -> DeviceRecord:
    """Raises `UserError`."""
    tenant_id = await tenant_named(settings, store, tenant)
    device = await store.device_by_name(tenant_id, name)
    if device is None:
        raise no_device(tenant, name)
    return device


async def tenant_named(settings: Settings, store: DecidingStore, name: str) -> TenantId:
    """Raises `UserError`. Where somebody stands in another folder than the server, it is another data directory."""
    tenant_id = await store.tenant(name)
    if tenant_id is None:
        there = ", ".join(map(repr, await store.tenants())) or "none"
        raise UserError(
            f"there is no tenant {name!r} in the data directory {settings.data_dir.absolute()}; there is {there}. "
            "`stellwerk serve` makes the one that STELLWERK_TENANT names, and STELLWERK_DATA_DIR names another data "
            "directory"
        )
    return tenant_id


def no_device(tenant: str, name: str) -> UserError:
    """To be raised."""
    return UserError(f"tenant {tenant!r} has no device {name!r}; devices are named as they were provisioned")
