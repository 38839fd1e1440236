"""What `stellwerk demo` shows, as far as no other test does."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from stellwerk import demo
from stellwerk.config import Settings
from stellwerk.sim.fleet import run_fleet
from stellwerk.wiring import Server


@pytest.mark.slow
def test_the_device_that_knows_the_bootstrap_server_alone_is_registered_within_seconds(tmp_path: Path) -> None:
    async def story() -> None:
        settings = Settings(
            data_dir=tmp_path,
            http_port=None,
            coap_host=demo.LOOPBACK,
            coap_port=None,
            coaps_port=0,
            bootstrap_coap_port=None,
            bootstrap_coaps_port=0,
        )
        server = Server(settings)
        await server.start()
        stop = asyncio.Event()
        try:
            ports = server.bound.coaps[0][1], server.bound.bootstrap_coaps[0][1]
            fleet = asyncio.ensure_future(run_fleet(await demo._newcomer(server, 9, *ports), stop))
            store = server._store
            assert store is not None
            device = await store.device_by_endpoint("demo-9")
            assert device is not None
            async with asyncio.timeout(10):
                while await store.registration_of(device.device_id) is None:  # noqa: ASYNC110 - the store tells nobody
                    await asyncio.sleep(0.01)
            credential = await store.credential_of(device.device_id)
            assert credential is not None
            assert credential.identity.startswith("urn:dev:os:demo-9#")
            (session,) = await store.bootstrap_sessions(device.device_id, 9)
            assert session.state.value == "configured"
            stop.set()
            await fleet
        finally:
            stop.set()
            with suppress(Exception):
                await fleet
            await server.stop()

    asyncio.run(story())
