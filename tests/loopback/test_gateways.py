"""A gateway on a real socket, its end devices over HTTP, and a server that stops in between."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.stack import Step, con

from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, decode_message, encode_message
from stellwerk.config import Settings
from stellwerk.wiring import Server

TENANT = "/device-management-orchestrator/v3/default"
HEADERS = {"Authorization": "Bearer t", "X-M2M-Origin": "CTestApp", "X-M2M-RI": "1"}


class Wire:
    """Takes the place of the stack that a `Gateway` talks to."""

    def __init__(self, device: socket.socket) -> None:
        self.device = device
        self.server: tuple[str, int] = ("127.0.0.1", 0)
        self.answers: asyncio.Queue[Message] = asyncio.Queue()

    def __lshift__(self, step: Step) -> "Wire":
        self.device.sendto(encode_message(step.message), self.server)
        return self

    async def live(self, gateway: Gateway) -> None:
        """Answer requests, and keep what answers ours."""
        while True:
            message = decode_message(await asyncio.get_running_loop().sock_recv(self.device, 4096))
            if message.type == CON and 0 < message.code < 32:
                gateway.answer(message)
            else:
                self.answers.put_nowait(message)

    async def ask(self, step: Step) -> Message:
        _ = self << step
        async with asyncio.timeout(5):
            return await self.answers.get()


@contextlib.asynccontextmanager
async def running(data_dir: Path, wire: Wire, port: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    server = Server(
        Settings(
            data_dir=data_dir,
            http_port=0,
            coap_host="127.0.0.1",
            coap_port=port,
            coaps_port=None,
            bootstrap_coap_port=None,
            bootstrap_coaps_port=None,
            api_token="t",
            expiry_grace_s=0.0,
        )
    )
    await server.start()
    try:
        await server.provision([NewDevice("gw1", "gw1", (), "SCS-LwM2M", (), 0)])
        (wire.server,) = server.bound.coap
        base = f"http://{server.bound.http_host}:{server.bound.http_port}{TENANT}"
        async with httpx.AsyncClient(base_url=base, headers=HEADERS, verify=False) as client:
            yield client
    finally:
        await server.stop()


async def newest(client: httpx.AsyncClient, device: str, kind: str) -> Any:
    """The newest received message of a device once it is of this kind."""
    async with asyncio.timeout(5):
        while True:
            answer = await client.get(f"/device-communication/{device}/received-msg/la")
            if answer.status_code == 200:
                content = answer.json()["contentInstance"]["content"]
                content = json.loads(content) if isinstance(content, str) else content
                if content["messageType"] == kind:
                    return content
            await asyncio.sleep(0.02)


async def read(client: httpx.AsyncClient, device: str) -> Any:
    body = {"m2m:cin": {"con": "READ /3303/0/5700"}}
    headers = {"Content-Type": "application/json;ty=4"}
    posted = await client.post(f"/device-communication/{device}/outgoing-msg", json=body, headers=headers)
    assert posted.status_code == 201, posted.text
    return await newest(client, device, "response")


@pytest.mark.slow
@pytest.mark.spec("LwM2M-contract 12", "GW-1")
def test_end_devices_live_through_a_restart_of_the_server(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.bind(("127.0.0.1", 0))
            device.setblocking(False)
            wire = Wire(device)
            gateway = Gateway(wire, behind=[Behind("d7", "d01"), Behind("d8", "d02")])  # type: ignore[arg-type]
            living = asyncio.create_task(wire.live(gateway))
            async with running(tmp_path, wire) as client:
                links = gateway._links(True)
                register = con(
                    codes.POST, "/rd?ep=gw1&lt=300&lwm2m=1.1", mid=1, token=b"r", payload=links, content_format=40
                )
                assert (await wire.ask(register)).code == codes.CREATED
                await newest(client, "gw1-d8", "registration")
                assert (await read(client, "gw1-d7"))["data"] == {"3303/0/5700": 21.5}
            async with running(tmp_path, wire, wire.server[1]) as client:
                pack = b'[{"n":"/d01/3303/0/5700","v":1.5},{"n":"/d02/3303/0/5700","v":2.5}]'
                send = con(codes.POST, "/dp", mid=2, token=b"s", payload=pack, content_format=110)
                assert (await wire.ask(send)).code == codes.CHANGED
                assert (await newest(client, "gw1-d7", "send"))["data"] == {"3303/0/5700": 1.5}
                assert (await newest(client, "gw1-d8", "send"))["data"] == {"3303/0/5700": 2.5}
                gateway.behind[1].values["/3303/0/5700"] = 3.5
                assert (await read(client, "gw1-d8"))["data"] == {"3303/0/5700": 3.5}
                node = (await client.get("/gw1-d8")).json()["node"]
                assert "gateway_prefix:d02" in node["labels"]
                assert (await client.delete("/gw1")).status_code == 200
                assert (await client.get("/gw1-d8")).status_code == 404
            living.cancel()

    asyncio.run(story())
