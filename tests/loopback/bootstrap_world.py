"""A whole server and fleets of simulated devices that its bootstrap server configures, on real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from stellwerk.access import open_store
from stellwerk.app.credential_record import parse_record
from stellwerk.app.records import NewDevice
from stellwerk.coap.parameters import Parameters
from stellwerk.config import Settings
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import NOSEC
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.fleet import Fleet, FleetOptions
from stellwerk.sim.happenings import Happening
from stellwerk.sim.security import Security
from stellwerk.wiring import Server

# What counts from byte to byte is no key for a bootstrap server to give (B-10).
BS_KEY, DM_KEY = sha256(b"bootstrap").digest()[:16], sha256(b"device management").digest()[:16]
EAGER = Parameters(ack_timeout_s=0.5)
NO_SEC = {"securityMode": "NO_SEC"}


def psk_block(identity: str, key: bytes) -> dict[str, str]:
    return {"securityMode": "PSK", "clientPublicKeyOrId": identity, "clientSecretKey": key.hex()}


class World:
    """A server with all its ports, and fleets against its bootstrap server."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self.settings, self.server = settings, server
        self.happened: list[Happening] = []
        self.fleets: list[Fleet] = []

    async def profile(self, name: str, mode: str, **more: Any) -> None:
        """Devices of this profile register with this platform with ``mode``; ``more`` of their `ServerEntry`."""
        host, port = self.server.bound.coap[0] if mode == NOSEC else self.server.bound.coaps[0]
        entry = ServerEntry(mode=mode, host=host, port=port, lifetime_s=600, **more)
        async with open_store(self.settings, may_make=True) as store:
            tenant_id = await store.tenant(self.settings.tenant)
            assert tenant_id is not None
            await store.put_profile(ProfileRecord(tenant_id, name, DEFAULT, 0, 0, BootstrapConfiguration((entry,))))

    async def provision(self, name: str, profile: str, client: dict[str, Any], bs: dict[str, str], dm: Any) -> None:
        record = {"client": {"endpoint": name, **client}, "bootstrap": {"bootstrapServer": bs, "lwm2mServer": dm}}
        credential = parse_record(json.dumps(record), 0)
        await self.server.provision([NewDevice(name, f"urn:dev:os:{name}", profile=profile, credential=credential)])

    async def run(self, count: int, *, security: Security | None = None, over: str = "udp", **changes: Any) -> Fleet:
        """Devices that bootstrap, ``over`` UDP and DTLS or ``tcp`` and TLS; with ``bootstrap`` None such as register
        themselves."""
        bound = self.server.bound
        options = {"prefix": "dev-", "parameters": EAGER, "bootstrap": Commissioning(), **changes}
        commissioning = options["bootstrap"]
        if commissioning is not None and commissioning.template.is_bootstrap:
            open_port, secure_port = bound.bootstrap_coap, bound.bootstrap_coaps
        else:
            open_port, secure_port = bound.coap, bound.coaps
        scheme, (host, port) = ("coap", open_port[0]) if security is None else ("coaps", secure_port[0])
        scheme += "+tcp" if over == "tcp" else ""
        fleet = Fleet(
            FleetOptions(server=f"{scheme}://{host}:{port}", count=count, security=security, **options),
            self.happened.append,
        )
        self.fleets.append(fleet)
        await fleet.open()
        await fleet.start()
        return fleet

    async def restart(self) -> None:
        """Another server takes the place of the one that ends, on the same ports and data."""
        bound = self.server.bound
        self.settings = replace(
            self.settings,
            coap_port=bound.coap[0][1],
            coaps_port=bound.coaps[0][1],
            bootstrap_coap_port=bound.bootstrap_coap[0][1],
            bootstrap_coaps_port=bound.bootstrap_coaps[0][1],
        )
        await self.server.stop()
        self.server = Server(self.settings, {})
        await self.server.start()

    def told(self, *kinds: type) -> list[Any]:
        return [each for each in self.happened if isinstance(each, kinds)]

    async def states_of(self, name: str) -> list[BootstrapState]:
        """How the bootstrap sessions of a device ended."""
        async with open_store(self.settings, may_make=True) as store:
            tenant_id = await store.tenant(self.settings.tenant)
            assert tenant_id is not None
            device = await store.device_by_name(tenant_id, name)
            assert device is not None
            return [each.state for each in await store.bootstrap_sessions(device.device_id, 10)]


@contextlib.asynccontextmanager
async def bootstrap_world(data_dir: Path) -> AsyncIterator[World]:
    """A world that ends with the block."""
    settings = Settings(
        data_dir=data_dir,
        http_port=None,
        coap_host="127.0.0.1",
        coap_port=0,
        coaps_port=0,
        bootstrap_coap_port=0,
        bootstrap_coaps_port=0,
        coap_tcp_connections=1_000,
        auto_read=(),
    )
    server = Server(settings, {})
    await server.start()
    made = World(settings, server)
    try:
        yield made
    finally:
        for each in made.fleets:
            each.close()
        await made.server.stop()


async def until(condition: Callable[[], object], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for spans two engines, neither of which tells of it
            await asyncio.sleep(0.01)


def registered(fleet: Fleet) -> bool:
    return all(each.is_registered for each in fleet.devices)
