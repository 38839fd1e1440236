"""The bootstrap server of a whole server: its ports, its keys, its sessions in the database."""

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stellwerk.app.credential_record import parse_record
from stellwerk.coap import actions, codes, events
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import ACK, CON, Message, decode_message, encode_message
from stellwerk.coap.options import encode_uint
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.config import Settings
from stellwerk.core.ids import PeerId, context_peer
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import Credential
from stellwerk.embed import NewDevice
from stellwerk.key_files import BOOTSTRAP, SERVER, KeyFolder
from stellwerk.net.clock import SystemEntropy
from stellwerk.net.udp import CannotBind
from stellwerk.wiring import Server

HOST = "127.0.0.1"
PROFILE = BootstrapConfiguration((ServerEntry(short_id=123, host="dm.example"),))
STEPS = {codes.GET: codes.CONTENT, codes.DELETE: codes.DELETED, codes.PUT: codes.CHANGED, codes.POST: codes.CHANGED}


def settings(data_dir: Path, **more: Any) -> Settings:
    known: dict[str, Any] = {
        "data_dir": data_dir,
        "http_port": None,
        "coap_host": HOST,
        "coap_port": None,
        "coaps_port": 0,
        "bootstrap_coap_port": 0,
        "bootstrap_coaps_port": 0,
    }
    return Settings(**(known | more))


class Device:
    """One without security."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect((HOST, port))

    def ask(self) -> None:
        options = ((11, b"bs"), (15, b"ep=dev1"))
        self.socket.send(encode_message(Message(CON, codes.POST, 1, b"t", options)))

    async def hear(self) -> Message:
        async with asyncio.timeout(5):
            return decode_message(await asyncio.get_running_loop().sock_recv(self.socket, 4096))

    async def obey(self) -> list[int]:
        """Do what is asked up to Finish; the codes of the requests."""
        asked = []
        while codes.POST not in asked:
            request = await self.hear()
            asked.append(request.code)
            is_discover = request.code == codes.GET
            options = ((12, encode_uint(40)),) if is_discover else ()
            body = b"</>;lwm2m=1.1,</0/0>,</1>,</3/0>" if is_discover else b""
            answer = Message(ACK, STEPS[request.code], request.mid, request.token, options, body)
            self.socket.send(encode_message(answer))
        return asked


async def prepare(server: Server) -> Any:
    """One device, and a profile that gives it a server."""
    await server.provision([NewDevice("dev1", "dev1")])
    store = server._store
    assert store is not None
    tenant_id = await store.tenant("default")
    assert tenant_id is not None
    await store.put_profile(ProfileRecord(tenant_id, "SCS-LwM2M", DEFAULT, 0, 0, PROFILE))
    return await store.device_by_endpoint("dev1")


@pytest.mark.slow
@pytest.mark.spec("B-1", "B-16", "SEC-8", "Design 2")
def test_a_device_is_bootstrapped_on_a_port_of_its_own_and_a_stop_in_the_middle_is_named(tmp_path: Path) -> None:
    async def states(server: Server, record: Any) -> list[str]:
        assert server._store is not None
        return [each.state.value for each in await server._store.bootstrap_sessions(record.device_id, 9)]

    async def story() -> None:
        server = Server(settings(tmp_path))
        await server.start()
        try:
            record = await prepare(server)
            ((_, port),) = server.bound.bootstrap_coap
            assert port not in (each for _, each in (*server.bound.coaps, *server.bound.bootstrap_coaps))
            assert await server._missing() == []
            device = Device(port)
            device.ask()
            assert (await device.hear()).code == codes.CHANGED
            assert await device.obey() == [codes.GET, codes.PUT, codes.PUT, codes.POST]
            device.socket.close()
            late = Device(port)
            late.ask()
            await late.hear()
            await late.hear()
            assert await states(server, record) == ["running", "configured"]
            assert server._transport().received >= 6
        finally:
            await server.stop()
            late.socket.close()
        keys = KeyFolder(tmp_path)
        assert keys.load(BOOTSTRAP).key.private_numbers() != keys.load(SERVER).key.private_numbers()
        again = Server(settings(tmp_path, coaps_port=None, bootstrap_coaps_port=None))
        await again.start()
        try:
            assert await states(again, record) == ["interrupted", "configured"]
        finally:
            await again.stop()

    asyncio.run(story())


CONTEXT = ContextMaterial(1, b"dev1", b"bs", bytes(range(16)), b"salt", ceiling=100)
RECORD = {
    "client": {"securityConfigClientMode": "NO_SEC", "endpoint": "dev1"},
    "bootstrap": {
        "bootstrapServer": {
            "securityMode": "NO_SEC",
            "oscore": {
                "masterSecret": CONTEXT.master_secret.hex(),
                "senderId": CONTEXT.sender_id.hex(),
                "recipientId": CONTEXT.recipient_id.hex(),
                "masterSalt": CONTEXT.master_salt.hex(),
            },
        },
        "lwm2mServer": {"securityMode": "NO_SEC"},
    },
}


class Protected:
    """One that speaks OSCORE: whatever it is asked goes well."""

    def __init__(self, port: int, unused: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect((HOST, port))
        self.server = PeerId("udp", HOST, port, *self.socket.getsockname())
        self.engine = Endpoint(SystemEntropy(), oscore=True)
        self.engine.submit(actions.VerifyPeer(self.server), 0.0)
        self.engine.submit(actions.AdoptContext(replace(CONTEXT, unused=unused), self.server), 0.0)
        peer = context_peer(CONTEXT.number, "udp")
        self.engine.submit(actions.SendRequest(1, peer, codes.POST, b"t", ("bs",), ("ep=dev1",)), 0.0)

    async def bootstrap(self) -> list[int]:
        """The codes of what it was asked, up to Finish."""
        asked: list[int] = []
        while codes.POST not in asked:
            for event in self.engine.take_events():
                if isinstance(event, events.ContextState):
                    self.engine.submit(actions.ContextStored(event.number, event.ceiling), 0.0)
                elif isinstance(event, events.RequestReceived):
                    asked.append(event.code)
                    answer = actions.Respond(event.exchange, STEPS[event.code])
                    if event.code == codes.GET:
                        answer.content_format, answer.payload = 40, b"</>;lwm2m=1.2,</0/0>,</21/0>,</3/0>"
                    self.engine.submit(answer, 0.0)
            for _, datagram in self.engine.take_datagrams():
                self.socket.send(datagram)
            if codes.POST not in asked:
                async with asyncio.timeout(5):
                    datagram = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
                self.engine.feed(datagram, peer=self.server, now=0.0)
        return asked


@pytest.mark.slow
@pytest.mark.spec("ETS 11", "LwM2M-contract 2.6", "RFC 8613 B.1.1")
def test_a_device_is_bootstrapped_over_oscore_and_its_numbers_outlast_the_server(tmp_path: Path) -> None:
    async def bootstrapped(credential: Credential | None, unused: int) -> int:
        server = Server(settings(tmp_path, coaps_port=None, bootstrap_coaps_port=None))
        await server.start()
        try:
            store = server._store
            assert store is not None
            record = await prepare(server)
            if credential is not None:
                await store.set_credential(record.device_id, credential)
            device = Protected(server.bound.bootstrap_coap[0][1], unused)
            assert await device.bootstrap() == [codes.GET, codes.PUT, codes.PUT, codes.POST]
            device.socket.close()
            context = await store.oscore_context_of(record.device_id, is_bootstrap=True)
            assert context is not None
            assert await store.oscore_context_of(record.device_id) is None
            return context.ceiling
        finally:
            await server.stop()

    first = asyncio.run(bootstrapped(parse_record(json.dumps(RECORD), 0), 0))
    assert asyncio.run(bootstrapped(None, 50)) > first > 0


def test_a_taken_port_names_the_setting(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind((HOST, 0))
            port = taken.getsockname()[1]
            server = Server(settings(tmp_path, coaps_port=None, bootstrap_coap_port=port, bootstrap_coaps_port=None))
            with pytest.raises(CannotBind, match="STELLWERK_BOOTSTRAP_COAP_PORT"):
                await server.start()
            # Without a secure port it needs no keys.
            assert not KeyFolder(tmp_path).exists(BOOTSTRAP)

    asyncio.run(story())
