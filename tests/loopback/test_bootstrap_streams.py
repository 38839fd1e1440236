"""Simulated devices that have TCP alone are bootstrapped and register over TCP, and over TLS, on real sockets."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bootstrap_world import BS_KEY, DM_KEY, NO_SEC, World, bootstrap_world, psk_block, registered, until

from stellwerk.device.bootstrap.history import BootstrapState
from stellwerk.device.key_material import der_of, pkcs8_of, to_base64
from stellwerk.device.record import NOSEC, PSK, X509
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.key_files import KeyFolder
from stellwerk.sim.bootstrap.faults import StepFault
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.enrolment import Patience
from stellwerk.sim.happenings import BootstrapFailed, Bootstrapped, HandshakeFailed, Registered
from stellwerk.sim.key_files import oscore_keyring
from stellwerk.sim.security import Certificate, PreSharedKey, RawKey, Security
from stellwerk.sim.tls_streams import NoWay

CONTEXT = {"senderId": "6d31", "recipientId": "02", "masterSecret": "8f1c02b7a4d95e36607b2d11c3f4e859"}
OPEN = {"securityConfigClientMode": "NO_SEC"}
CLIENT = {"securityConfigClientMode": "PSK", "identity": "dm-1", "key": DM_KEY.hex()}
WITH_KEY = Security(lambda name, number: PreSharedKey(b"bs-1", BS_KEY))


@pytest.fixture
def world(tmp_path: Path):
    """Runs a story in a world."""

    def play(story: Callable[[World], Awaitable[None]]) -> None:
        async def work() -> None:
            async with bootstrap_world(tmp_path / "data") as made:
                await story(made)

        asyncio.run(work())

    return play


def faulty(*faults: str, **more: Any) -> Commissioning:
    return Commissioning(BootstrapOptions("", faults=tuple(StepFault.parse(each) for each in faults)), **more)


def block_of(certificate: Certificate) -> dict[str, str]:
    return {
        "securityMode": "X509",
        "clientPublicKeyOrId": to_base64(certificate.chain[0]),
        "clientSecretKey": to_base64(pkcs8_of(certificate.key)),
    }


@pytest.mark.slow
@pytest.mark.spec("B-1", "B-7", "B-11", "BIN-2", "BIN-4", "RFC 8323 5.3", "LwM2M-contract 1.8", "Platform 12.1")
def test_over_tcp_it_registers_with_what_it_got_and_is_sent_back_by_a_command(world, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.profile("open", NOSEC)
        await world.provision("dev-1", "open", OPEN, NO_SEC, NO_SEC)
        kept = Commissioning(state=tmp_path / "states")
        first = await world.run(1, over="tcp", bootstrap=kept)
        await until(lambda: registered(first))
        port = world.server.bound.coap[0][1]
        assert [each.servers for each in world.told(Bootstrapped)] == [(f"coap+tcp://127.0.0.1:{port}",)]
        assert first.devices[0].accounts[0].server.transport == "tcp"
        await world.server.operations.execute("dev-1", "/1/0/9")
        await until(lambda: len(world.told(Registered)) == 2)
        assert await world.states_of("dev-1") == [BootstrapState.CONFIGURED] * 2
        assert (await world.server.operations.read("dev-1", "/3/0/0")).values[0].value == "Stellwerk"
        first.close()
        second = await world.run(1, over="tcp", bootstrap=kept)
        await until(lambda: registered(second))
        assert len(world.told(Bootstrapped)) == 2

    world(story)


@pytest.mark.slow
@pytest.mark.spec("B-10", "SEC-1", "RFC 8323 9", "LwM2M-contract 1.8", "Platform 12.1")
def test_over_tls_keys_and_certificates_of_both_servers_are_shown(world, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.profile("keys", PSK, keys="fresh")
        await world.profile("certificates", X509)
        await world.provision("dev-1", "keys", CLIENT, psk_block("bs-1", BS_KEY), NO_SEC)
        issuer = KeyFolder(world.settings.data_dir).issuer()
        made = [issuer.client(new_key(), "dev-2") for _ in range(2)]
        at_bootstrap, at_home = (Certificate(each.key, tuple(map(der_of, each.chain)), issuer) for each in made)
        client = {"securityConfigClientMode": "X509", "cert": ""}
        await world.provision("dev-2", "certificates", client, block_of(at_bootstrap), block_of(at_home))
        anchors = (issuer.certificate,)
        proofs = {"dev-1": PreSharedKey(b"bs-1", BS_KEY), "dev-2": at_bootstrap}
        secured = Security(lambda name, number: proofs[name], anchors=anchors)
        fleets = [await world.run(1, first=number, security=secured, over="tcp") for number in (1, 2)]
        await until(lambda: all(map(registered, fleets)))
        assert not world.told(BootstrapFailed, HandshakeFailed)
        assert {each.devices[0].accounts[0].server.transport for each in fleets} == {"tls"}
        for name in ("dev-1", "dev-2"):
            assert await world.states_of(name) == [BootstrapState.CONFIGURED]
            assert (await world.server.operations.read(name, "/3/0/0")).values[0].value == "Stellwerk"

    world(story)


@pytest.mark.slow
@pytest.mark.spec("SEC-1", "SEC-3", "LwM2M-contract 2.2")
def test_who_is_not_let_in_over_tls_hears_why_and_so_do_people(world) -> None:
    async def story(world: World) -> None:
        await world.profile("certificates", X509)
        stranger = make_authority("a stranger")
        foreign = Issuer(stranger.key, stranger.chain[0]).client(new_key(), "dev-1")
        shown = Certificate(foreign.key, tuple(map(der_of, foreign.chain)))
        await world.provision("dev-1", "certificates", OPEN, {"securityMode": "X509"}, NO_SEC)
        await world.run(1, security=Security(lambda name, number: shown), over="tcp")
        await until(lambda: world.told(BootstrapFailed))
        assert world.told(BootstrapFailed)[0].reason == "handshake"
        assert "unknown ca" in world.told(HandshakeFailed)[0].detail.replace("_", " ")
        bootstrap = world.server._bootstrap
        assert bootstrap is not None
        refused = bootstrap.sight.refused(None)[0]
        assert (refused.reason, refused.address.partition(":")[0]) == ("untrusted-certificate", "tls")
        with pytest.raises(NoWay, match="no raw public keys"):
            await world.run(1, security=Security(lambda name, number: RawKey(new_key())), over="tcp")

    world(story)


@pytest.mark.slow
@pytest.mark.spec("B-16", "LwM2M-contract 1.8")
def test_what_a_device_gets_wrong_over_a_connection_is_named_and_it_comes_again(world) -> None:
    async def story(world: World) -> None:
        await world.profile("open", NOSEC)
        await world.profile("keys", PSK)
        wrong = {
            1: ("close:once@discover", BootstrapState.LOST, "lost"),
            2: ("close:once@finish", BootstrapState.LOST, "lost"),
            # It was quicker than its move.
            3: ("move:once@write", BootstrapState.CONFIGURED, ""),
            4: ("refuse:4.00:once@write", BootstrapState.STEP_FAILED, ""),
            5: ("again:once@write", BootstrapState.REPLACED, ""),
            6: ("reboot:once@write", BootstrapState.LOST, "restarted"),
            7: ("garbage:once@discover", BootstrapState.CONFIGURED, ""),
        }
        for number, (fault, _, _) in wrong.items():
            await world.provision(f"dev-{number}", "open", OPEN, NO_SEC, NO_SEC)
            await world.run(1, first=number, over="tcp", bootstrap=faulty(fault), patience=Patience(0.3))
        await world.provision("dev-8", "keys", CLIENT, psk_block("bs-1", BS_KEY), psk_block("dm-1", DM_KEY))
        await world.run(
            1, first=8, over="tcp", security=WITH_KEY, bootstrap=faulty("close:once@write"), patience=Patience(0.3)
        )
        await world.provision("dev-9", "open", OPEN, {**NO_SEC, "oscore": CONTEXT}, NO_SEC)
        context = oscore_keyring(
            ":".join(CONTEXT[each] for each in ("senderId", "recipientId", "masterSecret")), count=1
        )
        await world.run(
            1, first=9, over="tcp", oscore=context, bootstrap=faulty("close:once@finish"), patience=Patience(0.3)
        )
        await until(lambda: all(map(registered, world.fleets)), 30)
        for number, (_, state, failure) in {
            **wrong,
            **dict.fromkeys((8, 9), ("", BootstrapState.LOST, "lost")),
        }.items():
            states = await world.states_of(f"dev-{number}")
            assert (states[0], states[-1]) == (BootstrapState.CONFIGURED, state), (number, states)
            told = [each.reason for each in world.told(BootstrapFailed) if each.endpoint_name == f"dev-{number}"]
            assert told[:1] == ([failure] if failure else told[:1]), (number, told)

    world(story)
