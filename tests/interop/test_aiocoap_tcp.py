"""aiocoap over TCP and our server: an independent stack as a device with binding T (RFC 8323, ETS 106)."""

import itertools
import socket
from collections.abc import Callable, Iterator

import aiocoap
import pytest
from aiocoap import resource
from aiocoap_device import DEVICE_JSON, LINKS, SENML_CBOR, SENML_JSON, SENSOR_CBOR, TEXT, AiocoapDevice, Fixed
from served import Served, wait_until

_numbers = itertools.count(1)
LARGE = "".join(f"{each:05d}," for each in range(20_000))
"""120,000 characters: more than one message holds."""
CSM = bytes.fromhex("50e12301000020")


class StreamDevice(AiocoapDevice):
    """The same device, behind one TCP connection of its own."""

    def __init__(self, server_port: int) -> None:
        super().__init__(server_port)
        self.server = f"coap+tcp://127.0.0.1:{server_port}"

    async def _start(self) -> aiocoap.Context:
        site = resource.Site()
        site.add_resource(["3"], Fixed(DEVICE_JSON, SENML_JSON))
        site.add_resource(["3", "0", "0"], Fixed(b"aiocoap", TEXT))
        site.add_resource(["3", "0", "4"], self.reboot)
        site.add_resource(["3", "0", "15"], self.timezone)
        site.add_resource(["3", "0", "18"], Fixed(LARGE.encode(), TEXT))
        site.add_resource(["3303", "0"], Fixed(SENSOR_CBOR, SENML_CBOR))
        site.add_resource(["3303", "0", "5700"], self.temperature)
        return await aiocoap.Context.create_server_context(site, transports=["tcpclient"])

    def hang_up(self) -> None:
        """Let the connection go, and be ready for the next."""
        self.wait(self._hang_up())

    async def _hang_up(self) -> None:
        for interface in self._context.request_interfaces:
            pool = getattr(interface.token_interface, "_pool", {})
            for connection in list(pool.values()):
                connection._transport.close()
            pool.clear()


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module(auto_provision="tcp-*", auto_read="", log_level="debug").start()


@pytest.fixture
def name() -> str:
    return f"tcp-{next(_numbers)}"


@pytest.fixture
def device(server: Served, name: str) -> Iterator[StreamDevice]:
    made = StreamDevice(server.coap_port)
    made.register(name)
    server.api.wait_type(name, "registration")
    yield made
    made.close()


@pytest.mark.spec("ETS 106", "R-1")
def test_aiocoap_registers_over_tcp_and_is_read_over_its_connection(
    server: Served, name: str, device: StreamDevice
) -> None:
    answer = server.api.run(name, "READ /3/0/0")
    assert answer["content"]["data"] == {"3/0/0": "aiocoap"}
    peers = server.query("stellwerk.db", "SELECT peer FROM registration WHERE endpoint_name = ?", (name,))
    assert peers[0][0].startswith("tcp 127.0.0.1 ")


def test_aiocoap_is_written_and_executed_over_tcp(server: Served, name: str, device: StreamDevice) -> None:
    for command in ("WRITE /3/0/15 Europe/Berlin", "EXECUTE /3/0/4 0='a'"):
        assert server.api.run(name, command)["content"]["status"]["code"] == 200
    assert device.timezone.writes[0][1].endswith(b"Europe/Berlin")
    wait_until(lambda: device.reboot.calls == [b"0='a'"], within_s=5, what="the Execute")


@pytest.mark.spec("RFC 8323 6")
def test_aiocoap_answers_a_large_read_in_bert_blocks(server: Served, name: str, device: StreamDevice) -> None:
    answer = server.api.run(name, "READ /3/0/18")
    assert answer["content"]["status"]["code"] == 200
    assert answer["content"]["data"] == {"3/0/18": LARGE}


@pytest.mark.spec("RFC 8323 6", "BLK-1")
def test_aiocoap_registers_with_a_large_list(server: Served, name: str) -> None:
    device = StreamDevice(server.coap_port)
    try:
        links = LINKS + "," + ",".join(f"</3303/{each}>" for each in range(1, 1500))
        assert len(links) > 18_000
        device.register(name, links=links)
        server.api.wait_type(name, "registration")
        assert device.ask(aiocoap.POST, device.location).code == aiocoap.CHANGED
    finally:
        device.close()


@pytest.mark.spec("OB-1", "OB-2", "OB-5", "RFC 8323 7")
def test_aiocoap_is_observed_and_cancelled_over_tcp(server: Served, name: str, device: StreamDevice) -> None:
    assert server.api.run(name, "OBSERVE /3303/0/5700")["content"]["status"]["code"] == 200
    wait_until(lambda: device.temperature.observers == 1, within_s=5, what="the relation")
    for value in (22.0, 23.5, 24.25):
        device.soon(device.temperature.change, value)
        wait_until(lambda value=value: value in server.values("/3303/0/5700", name), within_s=10, what=f"{value}")
    assert server.api.run(name, "UNOBSERVE /3303/0/5700")["content"]["status"]["code"] == 200
    wait_until(lambda: device.temperature.observers == 0, within_s=5, what="the end of the relation")


@pytest.mark.spec("ETS 306")
def test_aiocoap_sends_over_tcp(server: Served, name: str, device: StreamDevice) -> None:
    answer = device.ask(aiocoap.POST, "/dp", b"\x81\xa2\x00\x6c/3303/0/5700\x02\x18\x2a", SENML_CBOR)
    assert answer.code == aiocoap.CHANGED
    wait_until(lambda: 42 in server.values("/3303/0/5700", name), within_s=10, what="the value")


@pytest.mark.spec("LwM2M-contract 1.8", "OB-7", "R-14")
def test_a_lost_connection_lets_commands_wait_and_an_update_brings_all_back(
    server: Served, name: str, device: StreamDevice
) -> None:
    assert server.api.run(name, "OBSERVE /3303/0/5700")["content"]["status"]["code"] == 200
    device.hang_up()
    wait_until(
        lambda: any(
            each.get("event") == "registration.disconnected" and each.get("endpoint_name") == name
            for each in server.log_lines()
        ),
        within_s=5,
        what="that the connection is gone is noticed",
    )
    posted = server.api.command(name, "READ /3/0/0")
    assert not any(f"outgoing_msgRN:{posted}" in each["labels"] for each in server.messages(name))
    device.update()
    (answer,) = server.answers(name, posted)
    assert answer["data"] == {"3/0/0": "aiocoap"}
    wait_until(lambda: device.temperature.observers >= 1, within_s=5, what="the relation is restored")
    device.soon(device.temperature.change, 31.5)
    wait_until(lambda: 31.5 in server.values("/3303/0/5700", name), within_s=10, what="a value after it")


# -- by hand --


def dial(server: Served) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.coap_port), timeout=5)
    assert _read(made, 7) == CSM
    return made


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


@pytest.mark.spec("RFC 8323 5.4", "LwM2M-contract 1.9")
def test_a_ping_gets_its_pong(server: Served) -> None:
    with dial(server) as connection:
        connection.sendall(CSM + bytes.fromhex("02e2abcd"))
        assert _read(connection, 4) == bytes.fromhex("02e3abcd")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes.fromhex("0002"), b"the first message has to be a CSM"),
        (bytes.fromhex("10e130"), b"critical option 3 is unknown in a CSM"),
        (CSM + b"\x0f\x01", b"a token longer than 8 bytes"),
        (CSM + b"\xf0\xff\xff\xff\xff", b"of at most 65536"),
        (CSM + b"\x10\x02\xff", b"a payload marker without payload"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    ],
)
def test_bytes_that_are_no_coap_end_in_an_abort_and_nothing_else(server: Served, data: bytes, said: bytes) -> None:
    with dial(server) as connection:
        connection.sendall(data)
        rest = b""
        while more := connection.recv(1000):
            rest += more
        assert b"\xe5" in rest[:4]
        assert said in rest
    with dial(server) as connection:
        connection.sendall(CSM + bytes.fromhex("00e2"))
        assert _read(connection, 2) == bytes.fromhex("00e3")
