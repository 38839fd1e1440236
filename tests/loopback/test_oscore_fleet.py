"""Simulated devices speak OSCORE on real sockets, with a context from the bootstrap server, or one of their own."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bootstrap_world import BS_KEY, DM_KEY, NO_SEC, World, bootstrap_world, psk_block, registered, until

from stellwerk.access import open_store
from stellwerk.device.bootstrap.configuration import FRESH_KEYS
from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.record import NOSEC, PSK
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.happenings import (
    BootstrapFailed,
    Bootstrapped,
    Registered,
    RegistrationLost,
    RegistrationRefused,
    Updated,
)
from stellwerk.sim.key_files import oscore_keyring
from stellwerk.sim.security import PreSharedKey, Security

CONTEXT = {
    "masterSecret": sha256(b"a secret").digest()[:16].hex(),
    "senderId": "6d31",
    "recipientId": "01",
    "masterSalt": "9e7ca92223786340",
}
NO_KEYS = {"securityConfigClientMode": "NO_SEC"}
TEMPERATURE = "/3303/0/5700"


@pytest.fixture
def world(tmp_path: Path):
    """Runs a story in a world."""

    def play(story: Callable[[World], Awaitable[None]]) -> None:
        async def work() -> None:
            async with bootstrap_world(tmp_path / "data") as made:
                await story(made)

        asyncio.run(work())

    return play


async def transport_of(world: World, name: str) -> str:
    """What the device is registered over, as the server has it stored."""
    async with open_store(world.settings, may_make=True) as store:
        tenant_id = await store.tenant(world.settings.tenant)
        assert tenant_id is not None
        device = await store.device_by_name(tenant_id, name)
        assert device is not None
        registration = await store.registration_of(device.device_id)
        assert registration is not None
        return registration.peer.transport


async def last_report(world: World, name: str) -> int:
    """The number of the device's newest message, from 0 on."""
    newest = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1), contextlib.aclosing(world.server.operations.reports(name)) as reports:
            async for each in reports:
                newest = each.number
    return newest


async def is_heard(world: World, name: str) -> bool:
    """Whether the server hears what it observes of the device from now on."""
    after = await last_report(world, name)
    async with asyncio.timeout(10), contextlib.aclosing(world.server.operations.reports(name, after)) as reports:
        async for each in reports:
            if each.kind == "notify":
                return True
    return False


async def read(world: World, name: str) -> Any:
    return (await world.server.operations.read(name, "/3/0/0")).values[0].value


async def goes_on_after_restarts(world: World, tmp_path: Path, options: dict[str, Any], transport: str) -> None:
    """A device registers over ``transport``, is read and observed, also after it and the server began another life."""
    options = {"sample_every_s": 0.1, "update_every_s": 0.3, **options}
    fleet = await world.run(1, **options)
    await until(lambda: registered(fleet))
    assert await transport_of(world, "dev-1") == transport
    assert await read(world, "dev-1") == "Stellwerk"
    assert (await world.server.operations.observe("dev-1", TEMPERATURE)).succeeded
    assert await is_heard(world, "dev-1")

    # The device ends without a word.
    fleet.close()
    fleet = await world.run(1, **options)
    await until(lambda: registered(fleet))
    assert await read(world, "dev-1") == "Stellwerk"
    assert await is_heard(world, "dev-1")

    await world.restart()
    updates = len(world.told(Updated))
    await until(lambda: len(world.told(Updated)) > updates)
    assert await read(world, "dev-1") == "Stellwerk"
    assert await is_heard(world, "dev-1")
    assert world.told(BootstrapFailed) == world.told(RegistrationRefused) == world.told(RegistrationLost) == []
    assert len(world.told(Registered)) == 2
    await fleet.leave()
    assert fleet.summary().registered == 0


@pytest.mark.slow
@pytest.mark.spec("RFC 8613 B.1.1", "B-10", "ETS 0", "Platform 12.1")
@pytest.mark.parametrize("mode", [NOSEC, PSK])
def test_a_device_gets_a_context_from_the_bootstrap_server_and_goes_on_with_it_after_restarts(
    world, tmp_path: Path, mode: str
):
    async def story(world: World) -> None:
        await world.profile("protected", mode, keys=FRESH_KEYS, oscore=True)
        client, blocks, security = NO_KEYS, (NO_SEC, NO_SEC), None
        if mode == PSK:
            client = {"securityConfigClientMode": "PSK", "identity": "dm-1", "key": DM_KEY.hex()}
            blocks = psk_block("bs-1", BS_KEY), psk_block("dm-1", DM_KEY)
            security = Security(lambda name, number: PreSharedKey(b"bs-1", BS_KEY))
        await world.provision("dev-1", "protected", client, *blocks)
        kept = Commissioning(state=tmp_path / "states")
        options = {"bootstrap": kept, "security": security}
        await goes_on_after_restarts(world, tmp_path, options, "oscore+udp" if mode == NOSEC else "oscore+dtls")
        assert len(world.told(Bootstrapped)) == 1

    world(story)


@pytest.mark.slow
@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 B.2", "RFC 8323 4.1")
@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("transport", ["oscore+udp", "oscore+dtls", "oscore+tcp", "oscore+tls"])
def test_a_device_has_a_context_of_its_own_and_goes_on_with_it_after_restarts(
    world, tmp_path: Path, transport: str, keeps: bool
):
    async def story(world: World) -> None:
        client, block, security = NO_KEYS, NO_SEC, None
        if transport in ("oscore+dtls", "oscore+tls"):
            client = {"securityConfigClientMode": "PSK", "identity": "dm-1", "key": DM_KEY.hex()}
            block = psk_block("dm-1", DM_KEY)
            security = Security(lambda name, number: PreSharedKey(b"dm-1", DM_KEY))
        await world.provision("dev-1", "default", {**client, "oscore": CONTEXT}, block, block)
        text = ":".join(CONTEXT[each] for each in ("senderId", "recipientId", "masterSecret", "masterSalt"))
        states = tmp_path / "states" if keeps else None
        kept = Commissioning(BootstrapOptions("", is_bootstrap=False), states)
        over = "tcp" if transport in ("oscore+tcp", "oscore+tls") else "udp"
        options = {"bootstrap": kept, "security": security, "oscore": oscore_keyring(text, count=1), "over": over}
        await goes_on_after_restarts(world, tmp_path, options, transport)

    world(story)


@pytest.mark.slow
@pytest.mark.spec("LwM2M-contract 2.6", "ETS 11", "RFC 8613 B.2")
@pytest.mark.parametrize("way", ["oscore+udp", "oscore+tcp", "oscore+tls"])
def test_a_device_speaks_oscore_with_the_bootstrap_server_and_with_the_server_that_it_is_given(world, way: str):
    async def story(world: World) -> None:
        await world.profile("protected", NOSEC, keys=FRESH_KEYS, oscore=True)
        block, security = {**NO_SEC, "oscore": CONTEXT}, None
        if way == "oscore+tls":
            block |= psk_block("bs-1", BS_KEY)
            security = Security(lambda name, number: PreSharedKey(b"bs-1", BS_KEY))
        await world.provision("dev-1", "protected", NO_KEYS, block, NO_SEC)
        text = ":".join(CONTEXT[each] for each in ("senderId", "recipientId", "masterSecret", "masterSalt"))
        over = "udp" if way == "oscore+udp" else "tcp"
        for life in (1, 2):
            fleet = await world.run(1, oscore=oscore_keyring(text, count=1), over=over, security=security)
            await until(lambda fleet=fleet: registered(fleet))
            assert fleet.devices[0].server.transport == way
            assert (await transport_of(world, "dev-1")).startswith("oscore+")
            assert await read(world, "dev-1") == "Stellwerk"
            assert await world.states_of("dev-1") == [BootstrapState.CONFIGURED] * life
            fleet.close()
        assert world.told(BootstrapFailed) == world.told(RegistrationRefused) == []

    world(story)
