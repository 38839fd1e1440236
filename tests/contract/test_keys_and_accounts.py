"""Keys of devices, accounts and API clients are kept the same in every store; on disk, keys are sealed."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import Account, AlreadyExists, ApiClient
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import NOSEC, PSK, RPK, X509, Credential
from stellwerk.storage.migrations import DECIDING_FILE
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.vault import KEY_FILE, SecretUnreadable, Vault

from .builders import NOW_MS, make_device

pytestmark = pytest.mark.anyio

KEY = Credential("meter@psk", "dGVzdDEyMw==", "cred", "m2m:crds", NOW_MS, NOW_MS + 1)


@pytest.mark.spec("D2C 6.5")
async def test_a_device_made_with_a_key_has_it_and_says_so(store: DecidingStore) -> None:
    device = await make_device(store, "meter", credential=KEY)
    assert device.security == PSK
    assert await store.credential_of(device.device_id) == KEY
    assert (await make_device(store, "open")).security == NOSEC


@pytest.mark.spec("D2C 6.5")
async def test_a_key_is_given_replaced_and_taken_away(store: DecidingStore) -> None:
    device = await make_device(store)
    assert await store.credential_of(device.device_id) is None
    given = await store.set_credential(device.device_id, KEY)
    assert given == replace(device, security=PSK)
    other = replace(KEY, identity="other", secret="psk-hex:00ff", envelope="dcfg:crds")
    await store.set_credential(device.device_id, other)
    assert await store.credential_of(device.device_id) == other
    assert await store.set_credential(device.device_id, None) == device
    assert await store.credential_of(device.device_id) is None
    assert await store.device(device.device_id) == device
    assert await store.set_credential(DeviceId(999), KEY) is None


@pytest.mark.spec("SEC-9", "Platform 4")
async def test_a_change_is_made_of_what_the_device_has_then(store: DecidingStore) -> None:
    device_id = (await make_device(store, "meter", credential=KEY)).device_id
    seen: list[Credential | None] = []

    def change(known: Credential | None) -> Credential | None:
        seen.append(known)
        return None if known is None else replace(known, description=known.description + "!")

    def refuse(known: Credential | None) -> Credential | None:
        raise AlreadyExists("resource name", "credentials")

    changed = await asyncio.gather(*(store.change_credential(device_id, change) for _ in range(3)))
    assert changed == [await store.device(device_id)] * 3
    assert await store.credential_of(device_id) == replace(KEY, description=KEY.description + "!!!")
    await store.put_fresh_credential(device_id, replace(KEY, identity="fresh"))
    await asyncio.gather(store.promote_fresh_credential(device_id), store.change_credential(device_id, change))
    kept = await store.credential_of(device_id)
    assert kept is not None
    assert (kept.identity, kept.description) == ("fresh", KEY.description + "!!!!")
    with pytest.raises(AlreadyExists):
        await store.change_credential(device_id, refuse)
    assert await store.credential_of(device_id) == kept
    assert await store.change_credential(DeviceId(99), change) is None
    assert len(seen) == 4


async def test_whose_credentials_changed_is_noted_until_that_is_forgotten(store: DecidingStore) -> None:
    device, other = await make_device(store, "meter", credential=KEY), await make_device(store, "other")
    assert await store.credential_changes(10) == []
    await store.set_credential(device.device_id, replace(KEY, secret="changed"))
    await store.set_credential(other.device_id, replace(KEY, identity="other"))
    (first, early, _), (second, late, _) = await store.credential_changes(10)
    assert (first, second) == (device.device_id, other.device_id)
    assert await store.credential_changes(1) == [(first, early, False)]
    await store.forget_credential_change(late)
    # Changed again before the first change was worked off: that one's number counts no more.
    await store.set_credential(device.device_id, None)
    ((again, number, _),) = await store.credential_changes(10)
    assert again == device.device_id
    await store.forget_credential_change(early)
    assert await store.credential_changes(10) == [(again, number, False)]
    await store.remove_device(device.device_id)
    assert await store.credential_changes(10) == []


@pytest.mark.spec("SEC-9", "Platform 5")
async def test_an_authority_that_is_distrusted_concerns_certificates_by_name_only(store: DecidingStore) -> None:
    named = await make_device(store, "named", credential=replace(KEY, identity="named", secret="", kind=X509))
    pinned = replace(KEY, identity="ab" * 32, kind=X509, key_id="x509:00")
    await make_device(store, "pinned", credential=pinned)
    await make_device(store, "shared", credential=KEY)
    assert await store.trust_authorities(["aa", "bb"]) == 0
    assert await store.trust_authorities(["aa", "bb", "cc"]) == 0
    assert await store.credential_changes(10) == []
    assert await store.trust_authorities(["bb", "cc", "dd"]) == 1
    assert [each.device_id for each in await store.credential_changes(10)] == [named.device_id]


async def test_what_does_not_decide_who_comes_in_is_no_change(store: DecidingStore) -> None:
    device = await make_device(store, "meter", credential=replace(KEY, bootstrap="{}"))
    await store.set_credential(device.device_id, replace(KEY, description="mine", bootstrap="{}", modified_ms=1))
    assert await store.credential_changes(10) == []


@pytest.mark.spec("SEC-9", "Platform 4")
async def test_what_only_the_bootstrap_server_goes_by_is_noted_apart(store: DecidingStore) -> None:
    bare = (await make_device(store, "bare")).device_id
    nosec = Credential("bare", "", kind=NOSEC, endpoint="bare", bootstrap='{"lwm2mServer": {}}')
    changed = await store.set_credential(bare, nosec)
    assert changed is not None
    assert changed.security == NOSEC
    assert await store.credential_of(bare) == nosec
    ((device_id, number, only_bootstrap),) = await store.credential_changes(10)
    assert (device_id, only_bootstrap) == (bare, True)
    await store.forget_credential_change(number)
    await store.set_credential(bare, replace(KEY, bootstrap=nosec.bootstrap))
    await store.set_credential(bare, KEY)
    # Nobody has worked off yet that it comes with a key now.
    ((device_id, _, only_bootstrap),) = await store.credential_changes(10)
    assert (device_id, only_bootstrap) == (bare, False)


async def test_an_identity_is_one_devices_and_a_refusal_changes_nothing(store: DecidingStore) -> None:
    first = await make_device(store, "first", credential=KEY)
    second = await make_device(store, "second")
    with pytest.raises(AlreadyExists, match="PSK identity"):
        await store.set_credential(second.device_id, KEY)
    with pytest.raises(AlreadyExists, match="PSK identity"):
        await make_device(store, "third", credential=KEY)
    assert await store.device_by_name(first.tenant_id, "third") is None
    assert await store.device(second.device_id) == second
    await store.set_credential(first.device_id, replace(KEY, secret="changed"))
    await store.remove_device(first.device_id)
    assert await store.set_credential(second.device_id, KEY) == replace(second, security=PSK)


RAW_KEY = Credential(
    "urn:imei:7", "MFkwEw==", kind=RPK, endpoint="urn:imei:7", bootstrap='{"a":1}', key_id="rpk:" + "0a" * 32
)


@pytest.mark.spec("D2C 6.5")
async def test_a_credential_is_found_by_its_identity_and_by_its_key(store: DecidingStore) -> None:
    meter = await make_device(store, "meter", credential=KEY)
    raw = await make_device(store, "raw", credential=RAW_KEY)
    certified = await make_device(store, "certified")
    certificate = replace(RAW_KEY, identity="c" * 64, kind=X509, key_id="", bootstrap="")
    given = await store.set_credential(certified.device_id, certificate)
    assert (meter.security, raw.security, given and given.security) == (PSK, RPK, X509)
    assert await store.credential_by_identity("meter@psk") == (meter, KEY)
    assert await store.credential_by_identity("urn:imei:7") == (raw, RAW_KEY)
    assert await store.credential_by_key(RAW_KEY.key_id) == (raw, RAW_KEY)
    assert await store.credential_by_identity("c" * 64) == (given, certificate)
    assert await store.credential_by_identity("nobody") is None
    assert await store.credential_by_key("") is None
    assert await store.credential_by_key("rpk:00") is None


async def test_a_raw_public_key_is_one_devices(store: DecidingStore) -> None:
    await make_device(store, "raw", credential=RAW_KEY)
    second = await make_device(store, "second", credential=KEY)
    with pytest.raises(AlreadyExists, match="public key"):
        await store.set_credential(second.device_id, replace(RAW_KEY, identity="another"))
    assert await store.credential_of(second.device_id) == KEY
    # Keys that have no such name do not meet.
    await make_device(store, "third", credential=replace(KEY, identity="third"))


async def test_accounts_are_found_by_name_and_replaced(store: DecidingStore) -> None:
    account = Account("admin@localhost", "$argon2id$1", "TENANT_ADMIN", "default", NOW_MS)
    assert await store.account(account.name) is None
    await store.put_account(account)
    await store.put_account(replace(account, password_hash="$argon2id$2"))
    assert await store.account(account.name) == replace(account, password_hash="$argon2id$2")


async def test_api_clients_are_listed_replaced_and_removed(store: DecidingStore) -> None:
    one = ApiClient("one", "00", ("default", "other"), "rw", NOW_MS)
    two = replace(one, client_id="two", role="r")
    for each in (two, one):
        await store.put_api_client(each)
    assert await store.api_clients() == [one, two]
    await store.put_api_client(replace(one, tenants=()))
    assert await store.api_client("one") == replace(one, tenants=())
    assert await store.remove_api_client("one")
    assert not await store.remove_api_client("one")
    assert await store.api_clients() == [two]


def files_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {each.name: (each.stat().st_mode & 0o777, each.read_bytes()) for each in folder.iterdir()}


async def test_the_file_holds_no_key_that_could_be_read(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device = await make_device(store, "meter", credential=replace(KEY, secret="psk-text:very secret words"))
    await store.close()
    for name, (mode, contents) in files_in(data_dir).items():
        assert b"very secret" not in contents, name
        assert name != KEY_FILE or mode == 0o600
    again = await SqliteStore.open(data_dir)
    credential = await again.credential_of(device.device_id)
    await again.close()
    assert credential is not None
    assert credential.key == b"very secret words"


async def test_a_key_opens_with_its_master_key_and_for_its_device_only(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir, vault=Vault(bytes(32)))
    first = await make_device(store, "first", credential=KEY)
    second = await make_device(store, "second", credential=replace(KEY, identity="second"))
    await store.close()
    other = await SqliteStore.open(data_dir, vault=Vault(b"1" * 32))
    with pytest.raises(SecretUnreadable, match="STELLWERK_MASTER_KEY"):
        await other.credential_of(first.device_id)
    await other.close()
    with closing(sqlite3.connect(data_dir / DECIDING_FILE)) as connection:
        connection.execute(
            "UPDATE credential SET secret=(SELECT secret FROM credential WHERE device_id=?) WHERE device_id=?",
            (first.device_id, second.device_id),
        )
        connection.commit()
    swapped = await SqliteStore.open(data_dir, vault=Vault(bytes(32)))
    with pytest.raises(SecretUnreadable):
        await swapped.credential_of(second.device_id)
    assert await swapped.credential_of(first.device_id) == KEY
    await swapped.close()
