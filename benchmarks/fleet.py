"""The load's devices with credentials (secure.h says which), put into the database as the server makes them."""

import asyncio
import base64
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import servers

SERVER_ID = b"s"
"""What the server sends as with OSCORE (oscore.h)."""
STREAM_KEY = "key-of-the-load!"
"""The pre-shared key of every device that comes over TLS (stream.h)."""
PREFIX = "load-"
_AT_A_TIME = 2_000


def name_of(number: int, prefix: str = PREFIX) -> str:
    """As the load calls its devices."""
    return f"{prefix}{number:08d}"


def oscore_id(number: int) -> bytes:
    """What the device sends as."""
    return number.to_bytes(4, "big")


def oscore_secret(name: str) -> bytes:
    """Its master secret."""
    return sha256(f"oscore {name}".encode()).digest()[:16]


def provision(data_dir: Path, devices: int, security: str, prefix: str = PREFIX) -> None:
    """Make ``devices`` with pre-shared keys (``psk``, over TLS ``stream-psk``), raw public keys (``rpk``), OSCORE
    contexts (``oscore``), or none (``x509``: their names are in their certificates); the server must not run."""
    data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_provision(data_dir, devices, security, prefix))


async def _provision(data_dir: Path, devices: int, security: str, prefix: str) -> None:
    from stellwerk.app.records import NewDevice
    from stellwerk.storage.migrations import migrate
    from stellwerk.storage.sqlite.store import SqliteStore

    migrate(data_dir)
    store = await SqliteStore.open(data_dir)
    now_ms = time.time_ns() // 1_000_000
    tenant_id = await store.ensure_tenant(servers.TENANT, now_ms)

    async def device(number: int) -> None:
        name = name_of(number, prefix)
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
    if security in ("psk", "stream-psk"):
        key = sha256(f"psk {name}".encode()).digest()[:16] if security == "psk" else STREAM_KEY.encode()
        return Credential(name, base64.b64encode(key).decode())
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = _private_key(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Credential(
        name,
        base64.b64encode(spki).decode(),
        kind="rpk",
        endpoint=name,
        key_id=f"rpk:{sha256(spki).hexdigest()}",
    )


def _private_key(name: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(int.from_bytes(sha256(f"key {name}".encode()).digest()), ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class Certified:
    """Certificates of one authority, in ``folder``: ``devices.der`` for the load, ``server.pem`` (chain and key),
    ``server.p12`` and ``authority.pem`` for servers of others."""

    folder: Path
    authority: Any

    @property
    def of_devices(self) -> Path:
        """As secure.h wants them."""
        return self.folder / "devices.der"

    def install(self, data_dir: Path) -> None:
        """Make it the authority of our server, which must not have run yet."""
        from stellwerk.key_files import AUTHORITY, KeyFolder

        KeyFolder(data_dir).store(AUTHORITY, self.authority)


def certify(folder: Path, devices: int, prefix: str = PREFIX) -> Certified:
    """Certificates for a server and ``devices``, put into ``folder``."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    from stellwerk.device.key_material import der_of
    from stellwerk.issuing import Issuer, make_authority, new_key
    from stellwerk.key_files import to_pem

    authority = make_authority("benchmark")
    issuer = Issuer(authority.key, authority.chain[0])
    folder.mkdir(parents=True)
    (folder / "authority.pem").write_bytes(to_pem(authority.chain))
    server = issuer.server(new_key(), "localhost", ("localhost", "127.0.0.1"))
    key = server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(to_pem(server.chain) + key)
    (folder / "server.p12").write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"server", server.key, server.chain[0], list(server.chain[1:]), BestAvailableEncryption(b"benchmark")
        )
    )
    with (folder / "devices.der").open("wb") as file:
        for number in range(devices):
            name = name_of(number, prefix)
            shown = der_of(issuer.client(_private_key(name), name).chain[0])
            file.write(len(shown).to_bytes(4, "big") + shown)
    return Certified(folder, authority)
