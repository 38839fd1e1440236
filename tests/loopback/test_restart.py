"""A server that comes back takes up where it stopped."""

import asyncio
import socket
from pathlib import Path

from stellwerk.app.records import NewCommand, NewDevice, NewOutgoing
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, decode_message, encode_message
from stellwerk.config import Settings
from stellwerk.lwm2m.operations import Read
from stellwerk.lwm2m.path import Path as ResourcePath
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.wiring import Server

REGISTER = Message(
    CON,
    codes.POST,
    1,
    b"t",
    ((11, b"rd"), (12, b"\x28"), (15, b"ep=dev1"), (15, b"lt=300"), (15, b"lwm2m=1.1")),
    b"</1/0>,</3/0>",
)


async def receive(device: socket.socket, within_s: float) -> Message:
    async with asyncio.timeout(within_s):
        return decode_message(await asyncio.get_running_loop().sock_recv(device, 2048))


async def queue_a_read(data_dir: Path) -> None:
    store = await SqliteStore.open(data_dir)
    device = await store.device_by_endpoint("dev1")
    assert device is not None
    read = NewCommand("request", "read", Read(ResourcePath(3, 0, 0)), '"READ /3/0/0"', None, 1 << 62)
    text = '"READ /3/0/0"'
    await store.post_outgoing(
        NewOutgoing(device.device_id, "0" * 24, "message", 1, text, None, 11, "CTestApp", (), (read,), ()), 100
    )
    await store.close()


def test_an_open_command_leaves_at_once_and_not_with_its_first_repetition(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.bind(("127.0.0.1", 0))
            device.setblocking(False)
            settings = Settings(
                data_dir=tmp_path,
                auto_read=(),
                http_port=0,
                coap_host="127.0.0.1",
                coap_port=0,
                coaps_port=None,
                bootstrap_coap_port=None,
                bootstrap_coaps_port=None,
            )
            server = Server(settings)
            await server.start()
            await server.provision([NewDevice("dev1", "dev1", (), "SCS-LwM2M", (), 0)])
            ((host, port),) = server.bound.coap
            device.sendto(encode_message(REGISTER), (host, port))
            assert (await receive(device, 5)).code == codes.CREATED
            await server.stop()
            await queue_a_read(tmp_path)
            again = Server(
                Settings(
                    data_dir=tmp_path,
                    auto_read=(),
                    http_port=0,
                    coap_host="127.0.0.1",
                    coap_port=port,
                    coaps_port=None,
                    bootstrap_coap_port=None,
                    bootstrap_coaps_port=None,
                )
            )
            await again.start()
            try:
                request = await receive(device, 1.5)
                assert (request.code, [value for number, value in request.options if number == 11]) == (
                    codes.GET,
                    [b"3", b"0", b"0"],
                )
            finally:
                await again.stop()

    asyncio.run(story())
