"""A secure session goes on after a restart of a real server: no handshake, and what waited leaves at once."""

import asyncio
import os
import socket
from pathlib import Path
from time import monotonic

import pytest

from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, decode_message, encode_message
from stellwerk.config import Settings
from stellwerk.core.ids import PeerId
from stellwerk.device.record import Credential
from stellwerk.dtls.actions import Connect, SendData
from stellwerk.dtls.endpoint import Endpoint
from stellwerk.dtls.events import DataReceived, SessionEstablished
from stellwerk.dtls.parameters import ClientParameters
from stellwerk.wiring import Server

KEY = bytes(range(16))
HOST = "127.0.0.1"


class Entropy:
    def take(self, count: int) -> bytes:
        return os.urandom(count)


class Device:
    """One socket with a DTLS engine in front."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, 0))
        self.socket.setblocking(False)
        self.peer = PeerId("udp", HOST, port, HOST, self.socket.getsockname()[1])
        self.engine = Endpoint(Entropy())
        self.sent = 0

    async def connect(self) -> PeerId:
        parameters = ClientParameters(psk_identity=b"id1", psk=KEY, cid=b"")
        self.engine.submit(Connect(self.peer, parameters), monotonic())
        while True:
            for event in await self._turn():
                if isinstance(event, SessionEstablished):
                    return event.peer

    async def ask(self, session: PeerId, message: Message) -> Message:
        self.engine.submit(SendData(session, encode_message(message)), monotonic())
        while True:
            for event in await self._turn():
                if isinstance(event, DataReceived):
                    return decode_message(event.data)

    async def _turn(self) -> list[object]:
        for _, datagram in self.engine.take_datagrams():
            self.socket.sendto(datagram, (HOST, self.peer.remote_port))
            self.sent += 1
        found: list[object] = [*self.engine.take_events()]
        if found:
            return found
        async with asyncio.timeout(5):
            datagram = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
        self.engine.feed(datagram, peer=self.peer, now=monotonic())
        return [*self.engine.take_events()]


@pytest.mark.slow
@pytest.mark.spec("Design 7", "SEC-1")
def test_a_secure_session_goes_on_after_a_restart_without_a_handshake(tmp_path: Path) -> None:
    def server(port: int) -> Server:
        return Server(
            Settings(
                data_dir=tmp_path,
                auto_read=(),
                http_port=None,
                coap_host=HOST,
                coap_port=None,
                coaps_port=port,
                bootstrap_coap_port=None,
                bootstrap_coaps_port=None,
            )
        )

    async def story() -> None:
        first = server(0)
        await first.start()
        credential = Credential("id1", f"psk-hex:{KEY.hex()}")
        await first.provision([NewDevice("dev1", "dev1", credential=credential)])
        ((_, port),) = first.bound.coaps
        device = Device(port)
        session = await device.connect()
        options = ((11, b"rd"), (12, b"\x28"), (15, b"lt=300"), (15, b"lwm2m=1.1"))
        answer = await device.ask(session, Message(CON, codes.POST, 1, b"t", options, b"</1/0>,</3/0>"))
        assert answer.code == codes.CREATED
        location = tuple(each for each in answer.options if each[0] == 8)
        await first.stop()
        again = server(port)
        await again.start()
        try:
            sent = device.sent
            path = tuple((11, value) for _, value in location)
            assert (await device.ask(session, Message(CON, codes.POST, 2, b"t", path))).code == codes.CHANGED
            assert device.sent == sent + 1
        finally:
            await again.stop()
            device.socket.close()

    asyncio.run(story())
