"""The load's devices with credentials (secure.h says which), put into the database as the server makes them."""

import asyncio
import base64
import time
from hashlib import sha256
from pathlib import Path

import servers

SERVER_ID = b"s"
"""What the server sends as with OSCORE (oscore.h)."""
_AT_A_TIME = 2_000


def name_of(number: int) -> str:
    """As the load calls its devices."""
    return f"load-{number:08d}"


def oscore_id(number: int) -> bytes:
    """What the device sends as."""
    return number.to_bytes(4, "big")


def oscore_secret(name: str) -> bytes:
    """Its master secret."""
    return sha256(f"oscore {name}".encode()).digest()[:16]


def provision(data_dir: Path, devices: int, security: str) -> None:
    """Make ``devices`` with pre-shared keys (``psk``), raw public keys (``rpk``), OSCORE contexts (``oscore``), or none
    (``x509``: their names are in their certificates); the server must not run."""
    data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_provision(data_dir, devices, security))


async def _provision(data_dir: Path, devices: int, security: str) -> None:
    from stellwerk.app.records import NewDevice
    from stellwerk.storage.migrations import migrate
    from stellwerk.storage.sqlite.store import SqliteStore

    migrate(data_dir)
    store = await SqliteStore.open(data_dir)
    now_ms = time.time_ns() // 1_000_000
    tenant_id = await store.ensure_tenant(servers.TENANT, now_ms)

    async def device(number: int) -> None:
        name = name_of(number)
        device = NewDevice(name, name, (), "SCS-LwM2M", (), now_ms, credential=_credential(name, number, security))
        await store.create_device(tenant_id, device)

    for first in range(0, devices, _AT_A_TIME):
        await asyncio.gather(*map(device, range(first, min(first + _AT_A_TIME, devices))))
    await store.close()


def _credential(name: str, number: int, security: str):  # type: ignore[no-untyped-def]
    from stellwerk.app.oscore import OscoreContext, render_oscore
    from stellwerk.core.ids import DeviceId
    from stellwerk.device.record import OSCORE, X509, Credential

    if security == "oscore":
        context = OscoreContext(0, DeviceId(0), oscore_id(number), SERVER_ID, oscore_secret(name))
        return Credential(name, "", kind=OSCORE, endpoint=name, oscore=render_oscore(context))
    if security == "x509":
        return Credential(name, "", kind=X509, endpoint=name)
    if security == "psk":
        key = sha256(f"psk {name}".encode()).digest()[:16]
        return Credential(name, base64.b64encode(key).decode())
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    secret = int.from_bytes(sha256(f"key {name}".encode()).digest())
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Credential(
        name,
        base64.b64encode(spki).decode(),
        kind="rpk",
        endpoint=name,
        key_id=f"rpk:{sha256(spki).hexdigest()}",
    )
