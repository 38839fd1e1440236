"""Simulated devices on real sockets get their servers from a real bootstrap server, and register there."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from stellwerk.access import open_store
from stellwerk.app.credential_record import parse_record
from stellwerk.app.records import NewDevice
from stellwerk.coap.parameters import Parameters
from stellwerk.config import Settings
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.key_material import der_of, pkcs8_of, to_base64
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import NOSEC, PSK, X509
from stellwerk.issuing import Issuer, new_key
from stellwerk.key_files import KeyFolder
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions, Mode
from stellwerk.sim.fleet import Fleet, FleetOptions
from stellwerk.sim.happenings import BootstrapFailed, Bootstrapped, Happening, Registered
from stellwerk.sim.security import Certificate, Credentials, PreSharedKey, Security
from stellwerk.wiring import Server

# What counts from byte to byte is no key for a bootstrap server to give (B-10).
BS_KEY, DM_KEY = sha256(b"bootstrap").digest()[:16], sha256(b"device management").digest()[:16]
EAGER = Parameters(ack_timeout_s=0.5)
NO_SEC = {"securityMode": "NO_SEC"}


def psk_block(identity: str, key: bytes) -> dict[str, str]:
    return {"securityMode": "PSK", "clientPublicKeyOrId": identity, "clientSecretKey": key.hex()}


def certificate_block(certificate: Certificate) -> dict[str, str]:
    return {
        "securityMode": "X509",
        "clientPublicKeyOrId": to_base64(certificate.chain[0]),
        "clientSecretKey": to_base64(pkcs8_of(certificate.key)),
    }


class World:
    """A server with all its ports, and fleets against its bootstrap server."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self.settings, self.server = settings, server
        self.happened: list[Happening] = []
        self.fleets: list[Fleet] = []

    async def profile(self, name: str, mode: str) -> None:
        """Devices of this profile register with this platform with ``mode``."""
        host, port = self.server.bound.coap[0] if mode == NOSEC else self.server.bound.coaps[0]
        entry = ServerEntry(mode=mode, host=host, port=port, lifetime_s=600)
        async with open_store(self.settings) as store:
            tenant_id = await store.tenant(self.settings.tenant)
            assert tenant_id is not None
            await store.put_profile(ProfileRecord(tenant_id, name, DEFAULT, 0, 0, BootstrapConfiguration((entry,))))

    async def provision(self, name: str, profile: str, client: dict[str, Any], bs: dict[str, str], dm: Any) -> None:
        record = {"client": {"endpoint": name, **client}, "bootstrap": {"bootstrapServer": bs, "lwm2mServer": dm}}
        credential = parse_record(json.dumps(record), 0)
        await self.server.provision([NewDevice(name, f"urn:dev:os:{name}", profile=profile, credential=credential)])

    async def run(self, count: int, *, security: Security | None = None, **changes: Any) -> Fleet:
        bound = self.server.bound
        scheme, (host, port) = (
            ("coap", bound.bootstrap_coap[0]) if security is None else ("coaps", bound.bootstrap_coaps[0])
        )
        options = {"prefix": "dev-", "parameters": EAGER, "bootstrap": Commissioning(), **changes}
        fleet = Fleet(
            FleetOptions(server=f"{scheme}://{host}:{port}", count=count, security=security, **options),
            self.happened.append,
        )
        self.fleets.append(fleet)
        await fleet.open()
        await fleet.start()
        return fleet

    def told(self, kind: type) -> list[Any]:
        return [each for each in self.happened if isinstance(each, kind)]

    async def states_of(self, name: str) -> list[BootstrapState]:
        """How the bootstrap sessions of a device ended."""
        async with open_store(self.settings) as store:
            tenant_id = await store.tenant(self.settings.tenant)
            assert tenant_id is not None
            device = await store.device_by_name(tenant_id, name)
            assert device is not None
            return [each.state for each in await store.bootstrap_sessions(device.device_id, 10)]


@pytest.fixture
def world(tmp_path: Path):
    """Runs a story in a world."""

    def play(story: Callable[[World], Awaitable[None]]) -> None:
        async def work() -> None:
            settings = Settings(
                data_dir=tmp_path / "data",
                http_port=None,
                coap_host="127.0.0.1",
                coap_port=0,
                coaps_port=0,
                bootstrap_coap_port=0,
                bootstrap_coaps_port=0,
                auto_read=(),
            )
            server = Server(settings, {})
            await server.start()
            made = World(settings, server)
            try:
                await story(made)
            finally:
                for each in made.fleets:
                    each.close()
                await server.stop()

        asyncio.run(work())

    return play


async def until(condition: Callable[[], object], within_s: float = 15.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for spans two engines, neither of which tells of it
            await asyncio.sleep(0.01)


def registered(fleet: Fleet) -> bool:
    return all(each.is_registered for each in fleet.devices)


def issued(issuer: Issuer, name: str) -> Certificate:
    made = issuer.client(new_key(), name)
    return Certificate(made.key, tuple(der_of(each) for each in made.chain), issuer)


@pytest.mark.slow
@pytest.mark.spec("B-1", "B-2", "B-7", "B-10", "ETS 0", "Platform 12.1")
def test_twenty_devices_of_three_kinds_of_security_are_configured_and_register(world):
    async def story(world: World) -> None:
        await world.profile("open", NOSEC)
        await world.profile("keys", PSK)
        await world.profile("certificates", X509)
        issuer = KeyFolder(world.settings.data_dir).issuer()
        own: dict[str, Certificate] = {}
        for number in range(1, 21):
            name = f"dev-{number}"
            if number <= 8:
                await world.provision(name, "open", {"securityConfigClientMode": "NO_SEC"}, NO_SEC, NO_SEC)
            elif number <= 14:
                client = {"securityConfigClientMode": "PSK", "identity": f"dm-{number}", "key": DM_KEY.hex()}
                blocks = psk_block(f"bs-{number}", BS_KEY), psk_block(f"dm-{number}", DM_KEY)
                await world.provision(name, "keys", client, *blocks)
            else:
                own[name] = issued(issuer, name)
                blocks = certificate_block(own[name]), certificate_block(issued(issuer, name))
                await world.provision(name, "certificates", {"securityConfigClientMode": "X509", "cert": ""}, *blocks)

        def keys(name: str, number: int) -> Credentials:
            return PreSharedKey(f"bs-{number}".encode(), BS_KEY)

        fleets = [
            await world.run(8),
            await world.run(6, first=9, security=Security(keys)),
            await world.run(6, first=15, security=Security(lambda name, number: own[name])),
        ]
        await until(lambda: all(map(registered, fleets)))
        assert not world.told(BootstrapFailed)
        assert len(world.told(Bootstrapped)) == len({each.endpoint_name for each in world.told(Registered)}) == 20
        for number in (1, 9, 15):
            assert await world.states_of(f"dev-{number}") == [BootstrapState.CONFIGURED]
            assert (await world.server.operations.read(f"dev-{number}", "/3/0/0")).values[0].value == "Stellwerk"
        summary = fleets[1].summary()
        assert (summary.bootstraps_total, summary.failed_bootstraps) == (6, {})
        assert "6 bootstraps" in str(summary)

    world(story)


@pytest.mark.slow
@pytest.mark.spec("B-6", "B-9")
def test_wherever_its_bootstrap_account_is_it_stays(world):
    async def story(world: World) -> None:
        await world.profile("open", NOSEC)
        ways = product(("1.0", "1.1", "1.2", "pack"), (0, 1, 5))
        for number, (release, instance) in enumerate(ways, 1):
            await world.provision(f"dev-{number}", "open", {"securityConfigClientMode": "NO_SEC"}, NO_SEC, NO_SEC)
            mode = Mode.PACK if release == "pack" else Mode.CLIENT
            template = BootstrapOptions("", instance=instance, mode=mode)
            version = "1.2" if release == "pack" else release
            await world.run(1, first=number, lwm2m_version=version, bootstrap=Commissioning(template))
        await until(lambda: len(world.told(BootstrapFailed)) + sum(map(registered, world.fleets)) >= 12)
        assert [(each.endpoint_name, each.reason) for each in world.told(BootstrapFailed)] == []
        for number, (_, instance) in enumerate(product(range(4), (0, 1, 5)), 1):
            device = world.fleets[number - 1].devices[0]
            assert device.tree.instances(0)[instance][1] is True
            assert len(device.tree.instances(0)) == 2
            assert await world.states_of(f"dev-{number}") == [BootstrapState.CONFIGURED]

    world(story)


@pytest.mark.spec("Platform 12.1")
def test_what_a_fleet_was_given_is_kept_and_used_after_a_restart(world, tmp_path: Path):
    async def story(world: World) -> None:
        await world.profile("keys", PSK)
        client = {"securityConfigClientMode": "PSK", "identity": "dm-1", "key": DM_KEY.hex()}
        await world.provision("dev-1", "keys", client, psk_block("bs-1", BS_KEY), psk_block("dm-1", DM_KEY))
        security = Security(lambda name, number: PreSharedKey(b"bs-1", BS_KEY))
        kept = Commissioning(state=tmp_path / "states")
        first = await world.run(1, security=security, bootstrap=kept)
        await until(lambda: registered(first))
        first.close()
        second = await world.run(1, security=security, bootstrap=kept)
        await until(lambda: registered(second))
        assert len(world.told(Bootstrapped)) == 1
        assert (tmp_path / "states" / "dev-1.json").stat().st_mode & 0o777 == 0o600

    world(story)
