"""Applications that write at the same moment, and others that must not wait for them, against the real store."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stellwerk.app.records import NewDevice
from stellwerk.config import Settings
from stellwerk.wiring import Server


class World:
    """A server, and an application that may do everything."""

    def __init__(self, data_dir: Path) -> None:
        self.runner = asyncio.Runner()
        self.server = Server(
            Settings(
                data_dir=data_dir,
                http_port=0,
                coap_port=None,
                coaps_port=None,
                bootstrap_coap_port=None,
                bootstrap_coaps_port=None,
                tenant="acme",
                api_token="token",
            )
        )

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.runner.run(work)

    async def start(self) -> None:
        await self.server.start()
        self.http = httpx.AsyncClient(
            verify=False,
            base_url=f"http://127.0.0.1:{self.server.bound.http_port}/onem2m/acme",
            headers={"Authorization": "Bearer token", "X-M2M-Origin": "CTestApp", "X-M2M-RI": "1"},
            timeout=30,
        )

    async def stop(self) -> None:
        await self.http.aclose()
        await self.server.stop()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("data"))
    world.run(world.start())
    yield world
    world.run(world.stop())
    world.runner.close()


def device(number: int) -> NewDevice:
    return NewDevice(f"d-{number}", f"urn:dev:os:d-{number}", ("a:b",), "SCS-LwM2M", (), 0)


def mgmt_object() -> dict[str, str]:
    return {"Content-Type": "application/json;ty=13"}


@pytest.mark.spec("D2C 6.5")
def test_two_who_change_different_things_of_a_device_at_once_both_find_them(world: World):
    async def story() -> None:
        http = world.http
        await world.server.provision([device(1)])
        names = ["man", "mod", "dty", "cnty", "hwv", "osv", "smod", "purl"]
        answers = await asyncio.gather(
            *(http.put("/d-1/device-info", json={"m2m:dvi": {name: f"new {name}"}}) for name in names)
        )
        assert {each.status_code for each in answers} == {200}
        info = (await http.get("/d-1/device-info")).json()["m2m:dvi"]
        assert {name: info.get(name) for name in names} == {name: f"new {name}" for name in names}

        key = {"m2m:crds": {"crid": "first", "crse": "psk-text:first"}}
        assert (await http.post("/d-1", json=key, headers=mgmt_object())).status_code == 201
        changes = [{"crid": "second"}, {"crse": "psk-text:second"}, {"dc": "of the boiler"}]
        await asyncio.gather(*(http.put("/d-1/credentials", json={"m2m:crds": each}) for each in changes))
        found = (await http.get("/d-1/credentials")).json()["m2m:crds"]
        assert (found["crid"], found["crse"], found["dc"]) == ("second", "psk-text:second", "of the boiler")

    world.run(story())


@pytest.mark.spec("D2C 6.5")
def test_of_two_who_give_a_device_its_first_key_at_once_one_is_refused(world: World):
    async def story() -> None:
        http = world.http
        await world.server.provision([device(2)])
        keys = [{"m2m:crds": {"crid": f"id-{each}", "crse": f"psk-text:{each}"}} for each in range(4)]
        answers = await asyncio.gather(*(http.post("/d-2", json=key, headers=mgmt_object()) for key in keys))
        assert sorted(each.status_code for each in answers) == [201, 409, 409, 409]
        infos = [{"m2m:dvi": {"man": f"maker {each}"}} for each in range(4)]
        answers = await asyncio.gather(*(http.post("/d-2", json=info, headers=mgmt_object()) for info in infos))
        assert sorted(each.status_code for each in answers) == [201, 409, 409, 409]

    world.run(story())


@pytest.mark.spec("D2C 4.3")
def test_who_looks_through_the_whole_tree_holds_up_nobody(world: World):
    """Bounds are counted in turns of the loop, which no slow machine makes fewer."""

    async def story() -> None:
        http = world.http
        await world.server.provision([device(number) for number in range(100, 200)])
        turns = 0
        asking = asyncio.ensure_future(http.get("?fu=1&lbl=nosuch*"))
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await asking).json() == {"m2m:uril": []}
        # 100 devices have ten resources each.
        assert turns > 100

    world.run(story())
