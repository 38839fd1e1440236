"""What people see of a device's credentials: nothing secret, and the same object while nothing changes."""

import asyncio

import pytest
from tests.credential_material import b64, certificate, der, spki

from stellwerk.app.credentials import change_credential, endpoint_names, written_credential
from stellwerk.app.records import NewDevice
from stellwerk.app.security_facts import NOTHING, read_security
from stellwerk.device.record import Credential
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.vault import SecretUnreadable


@pytest.mark.spec("Platform 4")
def test_facts_of_credentials_hold_no_secret_and_are_read_anew_when_they_change() -> None:
    async def run() -> None:
        store = MemoryStore(library=Library.builtin())
        tenant_id = await store.ensure_tenant("acme", 1)
        device = await store.create_device(tenant_id, NewDevice("meter-1", "urn:x:1", (), "SCS-LwM2M", (), 1))
        names = endpoint_names(device.node_id, device.name)
        assert await read_security(store, device.device_id, NOTHING) is NOTHING
        await change_credential(store, device, lambda _: Credential("id-1", "psk-hex:00ff"), 5)
        psk = await read_security(store, device.device_id, NOTHING)
        assert (psk.kind, psk.identity, psk.changed_ms) == ("psk", "id-1", 5)
        assert "00ff" not in repr(psk)
        assert await read_security(store, device.device_id, psk) is psk
        raw = written_credential(None, f"rpk:{b64(spki())}", 6, names)
        await change_credential(store, device, lambda _: raw, 6)
        rpk = await read_security(store, device.device_id, psk)
        assert (rpk.kind, len(rpk.fingerprint), rpk.subject) == ("rpk", 64, "")
        pin = written_credential(None, f"x509:{b64(der(certificate()))}", 7, names)
        await change_credential(store, device, lambda _: pin, 7)
        pinned = await read_security(store, device.device_id, rpk)
        assert (pinned.subject, pinned.until_ms > 1_700_000_000_000) == ("CN=meter-1", True)
        store.credential_of = unreadable  # type: ignore[method-assign]
        assert "another master key" in (await read_security(store, device.device_id, pinned)).trouble

    asyncio.run(run())


async def unreadable(device_id: object) -> None:
    raise SecretUnreadable("key of device 1")
