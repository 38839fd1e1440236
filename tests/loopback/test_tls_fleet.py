"""Simulated devices speak CoAP over TLS with the real server, on real sockets."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bootstrap_world import DM_KEY, NO_SEC, World, bootstrap_world, psk_block, registered, until

from stellwerk.device.key_material import der_of, spki_of
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.key_files import KeyFolder
from stellwerk.sim.faults import Fault, InvalidFault
from stellwerk.sim.fleet import Fleet, FleetOptions
from stellwerk.sim.happenings import HandshakeDone, HandshakeFailed, RegistrationLost, SessionLost, Updated
from stellwerk.sim.reach import NoServer
from stellwerk.sim.security import AfterHandshake, Certificate, Credentials, PreSharedKey, RawKey, Resume, Security
from stellwerk.sim.tls_streams import NoWay


@pytest.fixture
def world(tmp_path: Path):
    """Runs a story in a world."""

    def play(story: Callable[[World], Awaitable[None]]) -> None:
        async def work() -> None:
            async with bootstrap_world(tmp_path / "data") as made:
                await story(made)

        asyncio.run(work())

    return play


async def provision_psk(world: World, name: str) -> None:
    client = {"securityConfigClientMode": "PSK", "identity": name, "key": DM_KEY.hex()}
    block = psk_block(name, DM_KEY)
    await world.provision(name, "default", client, block, block)


def psk(name: str, number: int) -> Credentials:
    return PreSharedKey(name.encode(), DM_KEY)


async def run(world: World, security: Security, count: int = 1, **options: Any) -> Fleet:
    host, port = world.server.bound.coaps[0]
    fleet = Fleet(
        FleetOptions(server=f"coaps+tcp://{host}:{port}", count=count, prefix="dev-", security=security, **options),
        world.happened.append,
    )
    world.fleets.append(fleet)
    await fleet.open()
    await fleet.start()
    return fleet


@pytest.mark.slow
@pytest.mark.spec("RFC 8323 9.1", "LwM2M-contract 2.4")
def test_devices_with_pre_shared_keys_register_are_read_and_take_leave(world):
    async def story(world: World) -> None:
        for number in (1, 2, 3):
            await provision_psk(world, f"dev-{number}")
        fleet = await run(world, Security(psk), 3)
        await until(lambda: registered(fleet))
        assert {each.server.transport for each in fleet.devices} == {"tls"}
        assert (await world.server.operations.read("dev-2", "/3/0/0")).values[0].value == "Stellwerk"
        assert len(world.told(HandshakeDone)) == 3
        await fleet.leave()
        assert fleet.summary().registered == 0

    world(story)


@pytest.mark.slow
@pytest.mark.spec("RFC 8323 9.1", "LwM2M-contract 2.4")
def test_devices_with_certificates_take_the_server_for_what_it_shows(world):
    async def story(world: World) -> None:
        keys = KeyFolder(world.settings.data_dir)
        made = keys.issuer().client(new_key(), "dev-1")
        own = Certificate(made.key, tuple(map(der_of, made.chain)))
        await world.provision("dev-1", "default", {"securityConfigClientMode": "X509", "cert": ""}, NO_SEC, NO_SEC)
        fleet = await run(world, Security(lambda name, number: own, anchors=(keys.issuer().certificate,)))
        await until(lambda: registered(fleet))
        assert (await world.server.operations.read("dev-1", "/3/0/0")).values[0].value == "Stellwerk"
        await fleet.leave()
        for other in ({"anchors": make_authority("other").chain}, {"server_key": spki_of(new_key().public_key())}):
            await run(world, Security(lambda name, number: own, **other))
        await until(lambda: len(world.told(HandshakeFailed)) == 2)
        assert {each.reason for each in world.told(HandshakeFailed)} == {"untrusted-certificate", "unknown-identity"}

    world(story)


@pytest.mark.slow
@pytest.mark.spec("R-14")
def test_after_a_restart_of_the_server_it_makes_another_handshake_and_goes_on(world):
    async def story(world: World) -> None:
        await provision_psk(world, "dev-1")
        fleet = await run(world, Security(psk), sample_every_s=0.1)
        await until(lambda: registered(fleet))
        reconnecting = asyncio.create_task(fleet._bearer.reconnect_for_ever())
        await world.restart()
        await until(lambda: len(world.told(HandshakeDone)) == 2 and world.told(Updated))
        assert (await world.server.operations.read("dev-1", "/3/0/0")).values[0].value == "Stellwerk"
        assert world.told(RegistrationLost) == []
        reconnecting.cancel()

    world(story)


@pytest.mark.slow
def test_a_handshake_that_fails_says_why(world):
    async def story(world: World) -> None:
        await provision_psk(world, "dev-1")
        other = Issuer(*_authority()).client(new_key(), "dev-1")
        strangers: list[Credentials] = [
            PreSharedKey(b"dev-1", bytes(16)),
            PreSharedKey(b"nobody", DM_KEY),
            Certificate(other.key, tuple(map(der_of, other.chain))),
        ]
        for each in strangers:
            fleet = await run(world, Security(lambda name, number, own=each: own))
            await until(lambda: world.told(HandshakeFailed) or world.told(SessionLost))
            (told,) = [*world.told(HandshakeFailed), *world.told(SessionLost)]
            assert "alert" in told.reason, told
            assert not registered(fleet)
            world.happened.clear()
            fleet.close()

    world(story)


def _authority():
    made = make_authority("other")
    return made.key, made.chain[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resume": Resume.ID}, "no resumption"),
        ({"cid_length": 0}, "no connection IDs"),
        ({"suites": (0xC0A8,)}, "no choice of suites"),
        ({"after_handshake": AfterHandshake.NOTHING}, "leave out --after-handshake"),
        ({"keyring": lambda name, number: RawKey(new_key())}, "no raw public keys"),
    ],
)
def test_what_tls_has_not_is_refused(changes: dict[str, Any], said: str):
    security = Security(**{"keyring": psk, **changes})
    with pytest.raises(NoWay, match=said):
        asyncio.run(Fleet(FleetOptions(server="coaps+tcp://127.0.0.1:1", security=security)).open())


def test_tls_needs_credentials_and_has_no_faults_of_dtls():
    with pytest.raises(NoServer, match=r"speak TLS need credentials; give them some \(--psk or --cert\)"):
        asyncio.run(Fleet(FleetOptions(server="coaps+tcp://127.0.0.1:1")).open())
    faulty = FleetOptions(server="coaps+tcp://127.0.0.1:1", security=Security(psk), faults=(Fault.parse("wrong-key"),))
    with pytest.raises(InvalidFault, match="write coaps://"):
        asyncio.run(Fleet(faulty).open())
