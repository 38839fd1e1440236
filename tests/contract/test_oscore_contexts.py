"""OSCORE contexts are kept the same in every store, and none protects two messages with one number."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from stellwerk.app.oscore import UNKNOWN, OscoreContext, read_oscore, render_oscore
from stellwerk.app.ports import DecidingStore
from stellwerk.app.records import AlreadyExists, DeviceGone
from stellwerk.core.ids import DeviceId
from stellwerk.device.record import NOSEC, OSCORE, Credential
from stellwerk.storage.backup import make_backup
from stellwerk.storage.restore import restore_backup
from stellwerk.storage.sqlite.store import SqliteStore

from .builders import NOW_MS, make_device
from .conftest import Stores

pytestmark = pytest.mark.anyio


def context(device_id: int = 1, sender_id: bytes = b"\x01\xff", **fields: object) -> OscoreContext:
    known = OscoreContext(0, DeviceId(device_id), sender_id, b"", bytes(range(16)), b"salt", created_ms=NOW_MS)
    return replace(known, **fields)  # type: ignore[arg-type]


def credential(known: OscoreContext | None = None, **fields: object) -> Credential:
    made = Credential("urn:imei:dev-1", "", kind=OSCORE, oscore=render_oscore(known or context()), modified_ms=NOW_MS)
    return replace(made, **fields)  # type: ignore[arg-type]


def test_keys_are_the_same_after_they_were_text() -> None:
    full = context(id_context=b"\x00ID", aead=24, hkdf=-11)
    assert read_oscore(render_oscore(full), DeviceId(1), NOW_MS) == full
    assert read_oscore(render_oscore(context()), DeviceId(1), NOW_MS) == context()
    assert bytes(range(16)).hex() not in repr(full)


@pytest.mark.spec("LwM2M-contract 2.6")
async def test_a_context_is_found_by_its_sender_id_and_its_device(stores: Stores) -> None:
    store = stores.deciding
    device_id = (await make_device(store)).device_id
    kept = await store.put_oscore_context(context(device_id, id_context=b"id"))
    assert kept == context(device_id, id_context=b"id", number=kept.number)
    assert kept.number > 0
    if stores.durable:
        await stores.close()
        await stores.open()
        store = stores.deciding
    assert await store.oscore_context(kept.sender_id, None) == kept
    assert await store.oscore_context(kept.sender_id, b"id") == kept
    assert await store.oscore_context(kept.sender_id, b"other") is None
    assert await store.oscore_context(b"", None) is None
    assert await store.oscore_context_of(device_id) == kept
    again = await store.put_oscore_context(replace(kept, id_context=b"derived"))
    assert again.number > kept.number
    assert await store.oscore_context_of(device_id) == again
    await store.remove_device(device_id)
    assert await store.oscore_context(kept.sender_id, None) is None


async def test_a_sender_id_is_one_devices(store: DecidingStore) -> None:
    first = (await make_device(store)).device_id
    second = (await make_device(store, "dev-2")).device_id
    await store.put_oscore_context(context(first))
    with pytest.raises(AlreadyExists, match="OSCORE sender ID '01ff'"):
        await store.put_oscore_context(context(second))
    with pytest.raises(AlreadyExists, match="OSCORE sender ID"):
        await store.set_credential(second, credential(identity="urn:imei:dev-2"))
    with pytest.raises(AlreadyExists, match="OSCORE sender ID"):
        await make_device(store, "dev-3", credential=credential(identity="urn:imei:dev-3"))
    assert await store.credential_of(second) is None
    with pytest.raises(DeviceGone):
        await store.put_oscore_context(context(99, b"\x09"))


@pytest.mark.spec("RFC 8613 B.1.1")
async def test_a_ceiling_is_raised_and_never_lowered(store: DecidingStore) -> None:
    device_id = (await make_device(store)).device_id
    number = (await store.put_oscore_context(context(device_id))).number
    for ceiling, kept in ((100, 100), (50, 100), (200, 200)):
        assert await store.raise_oscore_ceiling(number, ceiling)
        found = await store.oscore_context_of(device_id)
        assert found is not None
        assert found.ceiling == kept
    assert not await store.raise_oscore_ceiling(number + 1, 100)


async def test_a_credential_brings_its_context_which_stays_while_nothing_changes(store: DecidingStore) -> None:
    device = await make_device(store, credential=credential())
    assert device.security == OSCORE
    made = await store.oscore_context_of(device.device_id)
    assert made is not None
    assert made == context(device.device_id, number=made.number)
    await store.raise_oscore_ceiling(made.number, 500)
    await store.set_credential(device.device_id, credential(description="the same", modified_ms=NOW_MS + 1))
    assert await store.credential_changes(9) == []
    assert await store.oscore_context_of(device.device_id) == replace(made, ceiling=500)
    other = credential(context(id_context=b"other"))
    await store.set_credential(device.device_id, other)
    assert [each.device_id for each in await store.credential_changes(9)] == [device.device_id]
    changed = await store.oscore_context_of(device.device_id)
    assert changed is not None
    assert (changed.id_context, changed.ceiling) == (b"other", 0)
    assert changed.number > made.number
    assert await store.credential_of(device.device_id) == other
    await store.set_credential(device.device_id, None)
    assert await store.oscore_context(made.sender_id, None) is None


@pytest.mark.spec("RFC 8613 B.1.1")
async def test_keys_that_come_again_go_on_where_they_were(store: DecidingStore) -> None:
    """Whatever came between: taken away, given to another device, derived anew."""
    first = (await make_device(store, credential=credential())).device_id
    made = await store.oscore_context_of(first)
    assert made is not None
    await store.raise_oscore_ceiling(made.number, 500)
    await store.put_oscore_context(replace(made, id_context=b"derived", ceiling=0))
    await store.set_credential(first, None)
    await store.set_credential(first, credential())
    again = await store.oscore_context_of(first)
    assert again is not None
    assert again.ceiling == 500
    await store.raise_oscore_ceiling(again.number, 700)
    await store.remove_device(first)
    second = (await make_device(store, "dev-2", credential=credential(identity="urn:imei:dev-2"))).device_id
    moved = await store.oscore_context_of(second)
    assert moved is not None
    assert moved.ceiling == 700
    third = await store.put_oscore_context(context(second, ceiling=100))
    assert third.ceiling == 700
    fourth = await store.put_oscore_context(context(second, master_secret=b"o" * 16))
    assert fourth.ceiling == 0


def at_bootstrap(known: OscoreContext, **fields: object) -> Credential:
    """A credential of a device that has that context at the bootstrap server."""
    block = {"securityMode": "NO_SEC", "oscore": json.loads(render_oscore(known))}
    parts = json.dumps({"bootstrapServer": block, "lwm2mServer": {"securityMode": "NO_SEC"}})
    return credential(**{"bootstrap": parts, **fields})


@pytest.mark.spec("LwM2M-contract 2.6", "RFC 8613 B.1.1")
async def test_the_context_at_the_bootstrap_server_is_apart_from_that_at_the_other(store: DecidingStore) -> None:
    there = context(master_secret=b"t" * 16)
    device_id = (await make_device(store, credential=at_bootstrap(there))).device_id
    held = await store.oscore_context_of(device_id)
    known = await store.oscore_context_of(device_id, is_bootstrap=True)
    assert held is not None
    assert known is not None
    assert (held.is_bootstrap, known.is_bootstrap) == (False, True)
    assert (held.master_secret, known.master_secret) == (bytes(range(16)), b"t" * 16)
    assert await store.oscore_context(b"\x01\xff", None) == held
    assert await store.oscore_context(b"\x01\xff", b"", is_bootstrap=True) == known
    await store.raise_oscore_ceiling(known.number, 90)
    # Each stays while the other changes.
    await store.set_credential(device_id, at_bootstrap(context(master_secret=b"u" * 16)))
    assert [each.only_bootstrap for each in await store.credential_changes(9)] == [True]
    assert await store.oscore_context_of(device_id) == held
    known = await store.oscore_context_of(device_id, is_bootstrap=True)
    assert known is not None
    assert (known.master_secret, known.ceiling) == (b"u" * 16, 0)
    await store.set_credential(device_id, at_bootstrap(context(master_secret=b"u" * 16), oscore="", kind=NOSEC))
    assert await store.oscore_context_of(device_id) is None
    assert await store.oscore_context_of(device_id, is_bootstrap=True) == known
    await store.put_fresh_credential(device_id, credential(context(sender_id=b"\x02"), identity="fresh"))
    await store.promote_fresh_credential(device_id)
    assert await store.oscore_context_of(device_id, is_bootstrap=True) == known
    await store.set_credential(device_id, at_bootstrap(there))
    again = await store.oscore_context_of(device_id, is_bootstrap=True)
    assert again is not None
    assert again.ceiling == 90
    await store.set_credential(device_id, None)
    assert await store.oscore_context(b"\x01\xff", None, is_bootstrap=True) is None


@pytest.mark.spec("RFC 8613 3.3")
async def test_no_two_servers_have_one_context(store: DecidingStore) -> None:
    with pytest.raises(AlreadyExists, match="OSCORE recipient ID"):
        await make_device(store, credential=at_bootstrap(context()))
    first = (await make_device(store, credential=at_bootstrap(context(), oscore="", kind=NOSEC))).device_id
    second = (await make_device(store, "dev-2")).device_id
    with pytest.raises(AlreadyExists, match="OSCORE recipient ID"):
        await store.set_credential(second, credential(identity="urn:imei:dev-2"))
    other = at_bootstrap(context(master_secret=b"o" * 16), identity="urn:imei:dev-2", oscore="", kind=NOSEC)
    with pytest.raises(AlreadyExists, match="OSCORE sender ID"):
        await store.set_credential(second, other)
    assert await store.credential_of(second) is None
    await store.remove_device(first)
    await store.set_credential(second, credential(identity="urn:imei:dev-2"))


async def test_a_fresh_context_is_there_beside_the_other_until_it_is_used(store: DecidingStore) -> None:
    device_id = (await make_device(store, credential=credential())).device_id
    old = await store.oscore_context_of(device_id)
    given = credential(context(sender_id=b"\x02", master_secret=b"n" * 16), identity="fresh")
    await store.put_fresh_credential(device_id, given)
    new = await store.oscore_context(b"\x02", None)
    assert old is not None
    assert new is not None
    assert (old.is_fresh, new.is_fresh) == (False, True)
    assert await store.oscore_context_of(device_id) == old
    with pytest.raises(AlreadyExists, match="OSCORE sender ID"):
        await store.put_fresh_credential(device_id, credential(identity="clash"))
    await store.put_fresh_credential(device_id, given)
    new = await store.oscore_context(b"\x02", None)
    assert new is not None
    await store.raise_oscore_ceiling(new.number, 40)
    await store.promote_fresh_credential(device_id)
    assert await store.oscore_context_of(device_id) == replace(new, is_fresh=False, ceiling=40)
    assert await store.oscore_context(old.sender_id, None) is None


@pytest.mark.spec("RFC 8613 B.1.1")
async def test_a_fresh_context_that_was_used_and_derived_anew_goes_on_where_it_was(store: DecidingStore) -> None:
    device_id = (await make_device(store, credential=credential())).device_id
    given = credential(context(sender_id=b"\x02", master_secret=b"n" * 16), identity="fresh")
    await store.put_fresh_credential(device_id, given)
    new = await store.oscore_context(b"\x02", None)
    assert new is not None
    await store.raise_oscore_ceiling(new.number, 40)
    await store.put_oscore_context(replace(new, id_context=b"derived", ceiling=0))
    await store.promote_fresh_credential(device_id)
    await store.set_credential(device_id, credential())
    await store.set_credential(device_id, given)
    again = await store.oscore_context_of(device_id)
    assert again is not None
    assert (again.id_context, again.ceiling) == (b"", 40)


@pytest.mark.spec("LwM2M-contract 15", "RFC 8613 B.2")
def test_after_a_backup_was_put_back_nothing_is_protected_with_a_former_context(data_dir: Path, tmp_path: Path) -> None:
    async def use(folder: Path, ceiling: int) -> bool:
        store = await SqliteStore.open(folder)
        device = await store.device(DeviceId(1)) or await make_device(store, credential=credential())
        found = await store.oscore_context_of(device.device_id)
        assert found is not None
        try:
            return found.ceiling != UNKNOWN and await store.raise_oscore_ceiling(found.number, ceiling)
        finally:
            await store.close()

    async def give_again(folder: Path) -> list[int]:
        store = await SqliteStore.open(folder)
        ceilings = []
        for text in (credential(), None, credential(), credential(context(master_secret=b"n" * 16))):
            await store.set_credential(DeviceId(1), text)
            found = await store.oscore_context_of(DeviceId(1))
            ceilings.append(0 if found is None else found.ceiling)
        await store.close()
        return ceilings

    assert asyncio.run(use(data_dir, 100))
    file = tmp_path / "backup"
    make_backup(data_dir, file, "1", NOW_MS, pause=lambda seconds: None)
    assert asyncio.run(use(data_dir, 200))
    restored = tmp_path / "restored"
    restored.mkdir()
    restore_backup(restored, file, NOW_MS)
    assert not asyncio.run(use(restored, 300))
    # Nor when the same keys are given again; others begin at the beginning.
    assert asyncio.run(give_again(restored)) == [UNKNOWN, 0, UNKNOWN, 0]
    assert asyncio.run(use(data_dir, 300))


@pytest.mark.spec("RFC 8613 3.3")
async def test_no_two_contexts_protect_with_one_key_of_ours(store: DecidingStore) -> None:
    """What the device sends as has no part in our key: two devices with one secret would have the same nonces."""
    first = (await make_device(store, credential=credential())).device_id
    second = (await make_device(store, "dev-2")).device_id
    shared = credential(context(sender_id=b"\x02"), identity="urn:imei:dev-2")
    with pytest.raises(AlreadyExists, match="OSCORE recipient ID with this master secret"):
        await store.set_credential(second, shared)
    with pytest.raises(AlreadyExists, match="OSCORE recipient ID with this master secret"):
        await store.put_fresh_credential(first, credential(context(sender_id=b"\x02"), identity="fresh"))
    for own in (context(second, b"\x02", recipient_id=b"\x09"), context(second, b"\x02", id_context=b"own")):
        await store.put_oscore_context(own)


@pytest.mark.spec("RFC 8613 3.3", "RFC 8613 B.1.1")
async def test_numbers_go_on_where_only_what_the_device_sends_as_has_changed(store: DecidingStore) -> None:
    device_id = (await make_device(store, credential=credential())).device_id
    made = await store.oscore_context_of(device_id)
    assert made is not None
    await store.raise_oscore_ceiling(made.number, 500)
    await store.set_credential(device_id, credential(context(sender_id=b"\x02")))
    changed = await store.oscore_context_of(device_id)
    assert changed is not None
    assert (changed.sender_id, changed.ceiling) == (b"\x02", 500)
