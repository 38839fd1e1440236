"""A device behind TLS against the real server, over sockets of the loopback."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from tests.scenario.test_streams import LINKS, frame
from tests.tls_client import file_with, pem

from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.tcp.frames import FrameDecoder, decode_frame
from stellwerk.config import Settings
from stellwerk.device.record import X509, Credential
from stellwerk.issuing import Issued, Issuer, make_authority, new_key
from stellwerk.key_files import KeyFolder
from stellwerk.wiring import Server

CSM = bytes.fromhex("50e12301000020")
NAME = "urn:dev:os:dev1"


def run(story: Callable[[Server], Awaitable[None]], data_dir: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            server = Server(
                Settings(
                    data_dir=data_dir,
                    http_port=None,
                    coap_host="127.0.0.1",
                    coap_port=None,
                    coaps_port=0,
                    bootstrap_coap_port=None,
                    bootstrap_coaps_port=None,
                    auto_read=(),
                    admin_password="of no account",
                )
            )
            await server.start()
            try:
                await story(server)
            finally:
                await server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class Device:
    """Speaks CoAP over TLS with Python's own ssl."""

    def __init__(self, server: Server, own: Issued, trusts: Path) -> None:
        self.address = server.bound.coaps[0]
        self.context = ssl.create_default_context(cafile=str(trusts))
        self.context.load_cert_chain(file_with(pem(own)))
        self.context.set_alpn_protocols(["coap"])
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self._decoder = FrameDecoder(1 << 16)

    async def connect(self) -> "Device":
        host, port = self.address
        self.reader, self.writer = await asyncio.open_connection(
            host, port, ssl=self.context, server_hostname="localhost"
        )
        self.writer.write(CSM)
        return self

    async def register(self) -> int:
        target = f"/rd?ep={NAME}&lt=300&lwm2m=1.1&b=T"
        self.writer.write(frame(codes.POST, target, payload=LINKS, content_format=40))
        while (message := await self.message()).code >> 5 == 7:
            pass
        return message.code

    async def message(self) -> object:
        while (found := self._decoder.next()) is None:
            data = await self.reader.read(4096)
            assert data, "the connection was closed"
            self._decoder.append(data)
        return decode_frame(found)


@pytest.mark.spec("ETS 404", "LwM2M-contract 1.8", "SEC-3", "SEC-9")
def test_a_device_registers_over_tls_is_released_at_the_end_and_refused_with_a_certificate_of_nobody(
    tmp_path: Path,
) -> None:
    async def story(server: Server) -> None:
        folder = KeyFolder(tmp_path)
        own = folder.issuer().client(new_key(), NAME)
        await server.provision([NewDevice("dev1", NAME, credential=Credential(NAME, "", kind=X509))])
        device = await Device(server, own, folder.certificate_file("ca")).connect()
        assert await device.register() == codes.CREATED
        strange = make_authority("Nobody")
        stranger = Issuer(strange.key, strange.chain[0]).client(new_key(), NAME)
        refused = Device(server, stranger, folder.certificate_file("ca"))
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):  # noqa: PT012
            await refused.connect()
            await refused.reader.read(1)
        device.writer.close()

    run(story, tmp_path)
