"""Live pages over real sockets, beside everything else a server does."""

import asyncio
import json
import re
import socket as sockets
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, encode_message
from stellwerk.config import Settings
from stellwerk.wiring import Server

T = TypeVar("T")

PASSWORD = "correct horse"
DEVICES = [NewDevice(f"dev-{number}", f"dev-{number}", (), "SCS-LwM2M", (), 0) for number in range(3)]


class Person:
    """A browser's part: cookies, a page, its socket."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self._server = server
        self.http = http

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.bound.http_port}"

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path)

    async def sign_in(self) -> None:
        answer = await self.http.post("/login", data={"name": "admin@localhost", "password": PASSWORD})
        assert answer.status_code == 303

    def socket(self, page: str, **headers: str) -> Any:
        """The connection that the page's script opens."""
        client_id = re.search(r"['\"]client_id['\"]: ['\"]([0-9a-f-]{36})", page)
        assert client_id is not None
        query = {
            "EIO": "4",
            "transport": "websocket",
            "client_id": client_id[1],
            "tab_id": "tab",
            "document_id": "document",
            "next_message_id": "0",
            "implicit_handshake": "true",
        }
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        return connect(
            f"ws://{self.host}/_nicegui_ws/socket.io/?{urlencode(query)}",
            origin=headers.get("origin", f"http://{self.host}"),  # type: ignore[arg-type]
            additional_headers={"Cookie": headers.get("cookie", cookies)},
        )


class Served:
    """A server; ``runner`` has the loop of all of them, since NiceGUI knows one."""

    def __init__(self, data_dir: Path, runner: asyncio.Runner) -> None:
        self.runner = runner
        settings = Settings(
            data_dir=data_dir,
            http_port=0,
            coap_host="127.0.0.1",
            coap_port=0,
            coaps_port=None,
            bootstrap_coap_port=None,
            bootstrap_coaps_port=None,
            admin_password=PASSWORD,
            api_token="token",
        )
        self.server = Server(settings)

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(story)

    def start(self) -> None:
        async def work() -> None:
            await self.server.start()
            await self.server.provision(DEVICES)

        self.run(work())

    def stop(self) -> None:
        self.run(self.server.stop())

    @asynccontextmanager
    async def person(self) -> AsyncIterator[Person]:
        """Somebody who signed in."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.server.bound.http_port}", verify=False) as http:
            person = Person(self.server, http)
            await person.sign_in()
            yield person


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with asyncio.Runner() as runner:
        made = Served(tmp_path_factory.mktemp("served"), runner)
        made.start()
        yield made
        made.stop()


@contextmanager
def register(name: str, address: tuple[str, int]) -> Iterator[None]:
    """The device is registered, and its socket open, while this lasts."""
    query = tuple((15, each.encode()) for each in (f"ep={name}", "lt=300", "lwm2m=1.1"))
    message = Message(CON, codes.POST, 1, b"t", ((11, b"rd"), (12, b"\x28"), *query), b"</1/0>,</3/0>")
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as device:
        device.sendto(encode_message(message), address)
        yield


async def shake_hands(socket: ClientConnection) -> None:
    """Until the page's socket is in its room: engine.io opens, socket.io connects."""
    assert str(await socket.recv()).startswith("0{")
    await socket.send("40")
    async with asyncio.timeout(5):
        while not str(await socket.recv()).startswith("40{"):
            pass


async def pushed(socket: ClientConnection) -> dict[str, Any]:
    """The next change that the page is sent."""
    async with asyncio.timeout(10):
        while True:
            text = str(await socket.recv())
            if text == "2":
                await socket.send("3")
            elif text.startswith("42") and (event := json.loads(text[2:]))[0] == "run_javascript":
                found = re.fullmatch(r"runMethod\(\d+, 'apply', (.*)\)", event[1]["code"], re.DOTALL)
                if found is not None:
                    rows, order, now_ms = json.loads(found[1])
                    return {"rows": rows, "order": order, "now_ms": now_ms}


async def drain(socket: ClientConnection) -> None:
    while True:
        await pushed(socket)


def test_the_faces_for_programs_are_as_they_were(served: Served) -> None:
    async def story() -> None:
        async with served.person() as person:
            assert (await person.get("/health/ready")).json() == {"status": "ready"}
            assert (await person.get("/docs")).json()["info"]["title"] == "Stellwerk"
            assert (await person.get("/onem2m/default")).status_code == 401
            missing = await person.get("/nothing/here")
            assert (missing.status_code, missing.json()["errorCode"]) == (404, 32)
            for path in ("/health/live", "/"):
                wrong = await person.http.delete(path)
                assert (wrong.status_code, wrong.json()["status"]) == (405, 405)

    served.run(story())


def test_a_socket_is_refused_without_session_and_from_other_sites(served: Served) -> None:
    async def story() -> None:
        async with served.person() as person:
            page = (await person.get("/")).text
            for headers in ({"cookie": "x=y"}, {"origin": "http://evil.example"}):
                with pytest.raises(InvalidStatus) as refused:
                    await person.socket(page, **headers).__aenter__()
                assert refused.value.response.status_code == 403

    served.run(story())


def test_signing_out_closes_every_page_of_the_session(served: Served) -> None:
    async def story() -> None:
        async with served.person() as person:
            page = (await person.get("/")).text
            async with person.socket(page) as socket:
                await shake_hands(socket)
                await person.http.post("/logout", headers={"origin": f"http://{person.host}"})
                async with asyncio.timeout(5):
                    while not (text := str(await socket.recv())).startswith('42["open"'):
                        pass
                assert json.loads(text[2:])[1]["path"] == "/login"

    served.run(story())


@pytest.mark.slow
def test_pages_hear_of_a_device_and_five_of_them_hold_up_no_stop(
    served: Served, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    served = Served(tmp_path, served.runner)
    served.start()

    async def story() -> float:
        async with served.person() as person, AsyncExitStack() as stack:
            open_sockets = []
            for path in ["/", "/", "/?q=dev", "/devices/1", "/devices/2"]:
                page = await person.get(path)
                assert page.status_code == 200
                socket = await stack.enter_async_context(person.socket(page.text))
                await shake_hands(socket)
                open_sockets.append(socket)
            with register("dev-0", served.server.bound.coap[0]):
                for socket in open_sockets[:3]:
                    change = await pushed(socket)
                    # What is as before is not sent again.
                    assert [(row["name"], row["state"]) for row in change["rows"]] == [("dev-0", "registered")]
                    assert change["order"] is None
            started = time.monotonic()
            await served.server.stop()
            took = time.monotonic() - started
            for socket in open_sockets:
                with pytest.raises(ConnectionClosed):
                    await drain(socket)
            return took

    took = served.run(story())
    served.stop()
    assert "Traceback" not in capfd.readouterr().err
    assert took < 2
