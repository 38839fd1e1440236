"""Devices over TCP against the real server, on the loop it runs on."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from stellwerk.config import Settings
from stellwerk.sim import streams
from stellwerk.sim.fleet import Fleet, FleetOptions, NoServer
from stellwerk.sim.impairment import Conditions
from stellwerk.wiring import Server

CSM = bytes.fromhex("50e12301000020")


def settings(data_dir: Path, coap_port: int = 0) -> Settings:
    return Settings(
        data_dir=data_dir,
        http_port=None,
        coap_host="127.0.0.1",
        coap_port=coap_port,
        coaps_port=None,
        bootstrap_coap_port=None,
        bootstrap_coaps_port=None,
        auto_read=(),
        auto_provision=("sim-*",),
        admin_password="of no account",
    )


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for spans two engines, neither of which tells of it
        await asyncio.sleep(0.01)


@pytest.mark.spec("ETS 106", "LwM2M-contract 1.8", "RFC 8323 5.5")
def test_a_fleet_over_tcp_registers_and_leaves_and_whoever_stays_is_released(tmp_path: Path) -> None:
    async def story() -> None:
        server = Server(settings(tmp_path))
        await server.start()
        ((host, port),) = server.bound.coap
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(CSM + bytes.fromhex("00e2"))
        assert await reader.readexactly(9) == CSM + bytes.fromhex("00e3")
        stop = asyncio.Event()
        fleet = Fleet(FleetOptions(server=f"coap+tcp://{host}:{port}", count=5))
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.run(stop))
            await until(lambda: len(fleet.devices) == 5 and all(each.is_registered for each in fleet.devices))
            stop.set()
        assert not any(each.is_registered or each.is_leaving for each in fleet.devices)
        await server.stop()
        assert await reader.read() == bytes.fromhex("00e4")
        writer.close()
        with pytest.raises(NoServer, match="refused"):
            await Fleet(FleetOptions(server=f"coap+tcp://{host}:{port}")).open()

    run(story)


def test_a_bad_network_is_not_simulated_over_tcp() -> None:
    lossy = FleetOptions(server="coap+tcp://127.0.0.1:5683", conditions=Conditions(loss=0.1))
    with pytest.raises(NoServer, match="a bad network is one of datagrams"):
        asyncio.run(Fleet(lossy).open())


@pytest.mark.slow
@pytest.mark.spec("LwM2M-contract 1.8", "R-14")
def test_a_fleet_over_tcp_survives_a_restart_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECONNECT_S", 0.02)
    monkeypatch.setattr(streams, "_AGAIN_S", 0.02)

    async def story() -> None:
        server = Server(settings(tmp_path))
        await server.start()
        ((host, port),) = server.bound.coap
        stop = asyncio.Event()
        fleet = Fleet(FleetOptions(server=f"coap+tcp://{host}:{port}", count=5))
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.run(stop))
            await until(lambda: len(fleet.devices) == 5 and all(each.is_registered for each in fleet.devices))
            locations = [each.location for each in fleet.devices]
            await server.stop()
            server = Server(settings(tmp_path, port))
            await server.start()
            # Their connections are gone; what they were registered as is not.
            await until(lambda: fleet.summary().updates_total >= 5)
            assert [each.location for each in fleet.devices] == locations
            stop.set()
        await server.stop()

    run(story)
