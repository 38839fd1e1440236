"""Simulated devices on real sockets get their servers from a real bootstrap server, and register there."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path

import pytest
from bootstrap_world import BS_KEY, DM_KEY, NO_SEC, World, bootstrap_world, psk_block, registered, until

from stellwerk.device.bootstrap.configuration import EST_KEYS
from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.key_material import der_of, pkcs8_of, to_base64
from stellwerk.device.record import NOSEC, PSK, X509
from stellwerk.issuing import Issuer, new_key
from stellwerk.key_files import KeyFolder
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions, Mode
from stellwerk.sim.happenings import BootstrapFailed, Bootstrapped, Enrolled, EnrolmentFailed, Registered
from stellwerk.sim.population import Poke
from stellwerk.sim.security import Certificate, Credentials, PreSharedKey, Security


def certificate_block(certificate: Certificate) -> dict[str, str]:
    return {
        "securityMode": "X509",
        "clientPublicKeyOrId": to_base64(certificate.chain[0]),
        "clientSecretKey": to_base64(pkcs8_of(certificate.key)),
    }


@pytest.fixture
def world(tmp_path: Path):
    """Runs a story in a world."""

    def play(story: Callable[[World], Awaitable[None]]) -> None:
        async def work() -> None:
            async with bootstrap_world(tmp_path / "data") as made:
                await story(made)

        asyncio.run(work())

    return play


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


@pytest.mark.slow
@pytest.mark.spec("ETS 10", "LwM2M-contract 2.5", "SEC-10", "RFC 9148 3", "RFC 9148 4.2")
def test_a_fleet_enrols_with_certificates_of_the_factory_and_renews_what_it_got_in_another_life(world, tmp_path: Path):
    async def story(world: World) -> None:
        await world.profile("dev-1", X509, keys=EST_KEYS)
        await world.profile("dev-2", X509, keys=EST_KEYS, transport="tcp", binding="T")
        issuer = KeyFolder(world.settings.data_dir).issuer()
        own = {name: issued(issuer, name) for name in ("dev-1", "dev-2")}
        for name, certificate in own.items():
            client = {"securityConfigClientMode": "X509", "cert": ""}
            await world.provision(name, name, client, certificate_block(certificate), NO_SEC)
        security = Security(lambda name, number: own[name], anchors=(issuer.certificate,))
        kept = Commissioning(state=tmp_path / "states")
        first = await world.run(2, security=security, bootstrap=kept)
        await until(lambda: registered(first))
        assert [each.accounts[0].server.transport for each in first.devices] == ["dtls", "tls"]
        assert sorted(world.told(Enrolled), key=str) == [Enrolled("dev-1", "sen"), Enrolled("dev-2", "sen")]
        (entry,) = [
            cells
            for cells in json.loads((tmp_path / "states" / "dev-1.json").read_text())["objects"]["0"].values()
            if cells["2"] == 4
        ]
        assert bytes.fromhex(entry["3"]["hex"]) != own["dev-1"].chain[0]
        first.close()
        second = await world.run(2, security=security, bootstrap=kept)
        await until(lambda: registered(second))
        assert (len(world.told(Bootstrapped)), len(world.told(Enrolled))) == (2, 2)
        for device in second.devices:
            second._submit(Poke(device, BootstrapDevice.renew))
        await until(lambda: len(world.told(Registered)) == 6)
        assert {each.function for each in world.told(Enrolled)[-2:]} == {"sren"}
        for name in own:
            assert (await world.server.operations.read(name, "/3/0/0")).values[0].value == "Stellwerk"
        assert world.told(EnrolmentFailed) == world.told(BootstrapFailed) == []
        assert "2 bootstraps" not in str(second.summary())
        assert "2 enrolments" in str(second.summary())

    world(story)
