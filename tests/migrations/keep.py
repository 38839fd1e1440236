"""Writes dumps of databases at the present schema, to be migrated for ever after: see the README beside."""

import asyncio
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from stellwerk.app.changes import ChangeCommand, CommandSent, PutObservation, PutRegistration, PutSession
from stellwerk.app.session import SecureSession
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Step
from stellwerk.device.profile import Profile, ProfileRecord
from stellwerk.device.record import Credential
from stellwerk.storage.migrations import DECIDING_FILE, HEADS, PROJECTED_FILE, migrate
from stellwerk.storage.projector import Projector
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.vault import Vault
from tests.contract.builders import (
    NOW_MS,
    make_commands,
    make_device,
    observation,
    peer,
    register,
    registration,
    send,
    tree_resource,
    update,
    write,
)

DATABASES = Path(__file__).with_name("databases")
VAULT = Vault(b"kept databases, not a secret key")
"""Since 0003 there is a sealed key among what is kept."""
SESSION = SecureSession(b"\x01session", DeviceId(0), peer(), b"kept", 1 << 48, NOW_MS)
"""Since 0004."""
KEY = Credential("meter-1@psk", "psk-text:kept", "cred", "m2m:crds", NOW_MS, NOW_MS)
_BLOCK = '{"securityMode": "PSK", "clientPublicKeyOrId": "%s", "clientSecretKey": "00112233445566778899aabbccddeeff"}'
COMMISSIONED = Credential(
    "meter-2@psk",
    "psk-text:kept",
    created_ms=NOW_MS,
    modified_ms=NOW_MS,
    bootstrap=f'{{"bootstrapServer": {_BLOCK % "meter-2@bs"}, "lwm2mServer": {_BLOCK % "meter-2@psk"}}}',
)
"""Since 0004-0002."""


async def fill(data_dir: Path) -> None:
    """One of everything."""
    store = await SqliteStore.open(data_dir, vault=VAULT)
    device = await make_device(store, "meter-1", node_id="urn:imei:1234", labels=("d2c-uplink-property_Room:1",))
    device_id = device.device_id
    await store.set_credential(device_id, KEY)
    gone = await make_device(store, "gone")
    await store.remove_device(gone.device_id)
    await make_device(store, "meter-2", credential=COMMISSIONED)
    await store.put_profile(ProfileRecord(device.tenant_id, "meters", Profile(awake_s=10.0), NOW_MS, NOW_MS))
    await write(store, [register(device_id, 1)], [PutRegistration(registration(device_id), NOW_MS + 300_000)])
    await write(store, [send(device_id, 2, labels=("Room:1",)), update(DeviceId(device_id), NOW_MS + 3, 3)])
    await write(store, [], [PutObservation(observation(device_id))])
    store.marks = lambda: [(SESSION.session_id, SESSION.ceiling)]
    await write(store, [], [PutSession(replace(SESSION, device_id=DeviceId(device_id)))])
    sent, _waits = await make_commands(store, device_id, count=2)
    await write(store, [], [CommandSent(sent, NOW_MS + 4, sent.labels)])
    await write(store, [], [ChangeCommand(sent.command_id, Step.SUCCEEDED, NOW_MS + 5)])
    await store.create_resource(tree_resource(device.tenant_id))
    projector = Projector(data_dir)
    projector.run_all()
    projector.close()
    await write(store, [send(device_id, 6)])
    await store.close()


def dump(file: Path, to: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        to.write_text("\n".join(connection.iterdump()) + "\n")


def main() -> None:
    revision = HEADS["deciding"] if len(set(HEADS.values())) == 1 else "-".join(HEADS.values())
    folder = DATABASES / revision
    if folder.exists():
        sys.exit(f"{folder} exists; a kept database is never written again")
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        data_dir = Path(name)
        migrate(data_dir)
        asyncio.run(fill(data_dir))
        dump(data_dir / DECIDING_FILE, folder / "stellwerk.sql")
        dump(data_dir / PROJECTED_FILE, folder / "projected.sql")


if __name__ == "__main__":
    main()
