"""A server of its own process, devices, and a real browser: Chromium, driven by Playwright."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from stellwerk.access import open_store
from stellwerk.app.credential_record import parse_record, pre_shared_credential
from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.message import ACK, CON, Message, decode_message, encode_message
from stellwerk.config import Settings
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration, ServerEntry
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import PSK
from stellwerk.storage.sqlite.store import SqliteStore

PASSWORD = "correct horse"
TOKEN = "token"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Served:
    """``stellwerk serve`` in an empty directory; `restart` keeps data and ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http_port, self.coap_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        self.coaps_port = free_port(socket.SOCK_DGRAM)
        self.bootstrap_port, self.secure_bootstrap_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        bare = {name: value for name, value in os.environ.items() if not name.startswith("STELLWERK_")}
        settings = {
            "DATA_DIR": str(self.folder / "data"),
            "HTTP_PORT": str(self.http_port),
            "COAP_HOST": "127.0.0.1",
            "COAP_PORT": str(self.coap_port),
            "COAPS_PORT": str(self.coaps_port),
            "BOOTSTRAP_COAP_PORT": str(self.bootstrap_port),
            "BOOTSTRAP_COAPS_PORT": str(self.secure_bootstrap_port),
            "API_TOKEN": TOKEN,
            "ADMIN_PASSWORD": PASSWORD,
            "AUTO_PROVISION": "sim-*,hand-*",
            "AWAKE_S": "2",
            # A device answers what a test asked, and nothing else.
            "AUTO_READ": "",
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stellwerk", "serve"],
                env=bare | {f"STELLWERK_{name}": value for name, value in settings.items()},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, "the server is ready")

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(10) == 0
        self._process = None

    def provision(self, tenant: str, name: str, identity: str, key: str) -> None:
        """A device with a pre-shared key, as a command beside the server makes it."""
        device = NewDevice(name, f"urn:dev:{name}", created_ms=1, credential=pre_shared_credential(identity, key, 1))

        async def place(store: SqliteStore) -> None:
            await store.create_device(await store.ensure_tenant(tenant, 1), device)

        self._beside(place)

    def commission(self, name: str, factory_key: str, key: str) -> None:
        """A device that has a key for the bootstrap server, and is given another one for this server there."""
        blocks = {
            each: {"securityMode": "PSK", "clientPublicKeyOrId": f"{name}@{each}", "clientSecretKey": secret}
            for each, secret in (("bootstrapServer", factory_key), ("lwm2mServer", key))
        }
        client = {
            "securityConfigClientMode": "PSK",
            "endpoint": name,
            "identity": f"{name}@lwm2mServer",
            "key": key,
        }
        credential = parse_record(json.dumps({"client": client, "bootstrap": blocks}), 1)
        device = NewDevice(name, f"urn:dev:{name}", profile="newcomers", created_ms=1, credential=credential)
        entry = ServerEntry(mode=PSK, host="127.0.0.1", port=self.coaps_port, hold_off_s=0)

        async def place(store: SqliteStore) -> None:
            tenant_id = await store.ensure_tenant("default", 1)
            await store.put_profile(
                ProfileRecord(tenant_id, "newcomers", DEFAULT, 1, 1, BootstrapConfiguration((entry,)))
            )
            await store.create_device(tenant_id, device)

        self._beside(place)

    def _beside(self, work: Callable[[SqliteStore], Awaitable[None]]) -> None:
        """What a command beside the server does."""

        async def do() -> None:
            async with open_store(Settings(data_dir=self.folder / "data"), may_make=True) as store:
                await work(store)

        # Playwright has a loop of its own in this thread.
        with ThreadPoolExecutor(1) as aside:
            aside.submit(lambda: asyncio.run(do())).result()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/ready", timeout=2, verify=False).status_code == 200
        return False


class SecureDevices:
    """The simulator's, with the lines of a key file: endpoint name, identity, key. What they come with may be wrong."""

    def __init__(self, served: Served, prefix: str, *lines: str, bootstraps: bool = False) -> None:
        keys = served.folder.parent / f"{prefix}keys"
        keys.write_text("\n".join(lines))
        server = f"coaps://127.0.0.1:{served.secure_bootstrap_port if bootstraps else served.coaps_port}"
        words = ["--server", server, "--prefix", prefix, "--count", str(len(lines)), "--psk-file", str(keys)]
        words += ["--bootstrap"] if bootstraps else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stellwerk", "sim", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


class HandDevice:
    """A device that does what a test says: registers, and answers a Read when told."""

    def __init__(self, port: int, name: str, binding: str = "U") -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(10)
        self._mid = 0
        self._register(binding)

    def close(self) -> None:
        self._socket.close()

    def send(self, payload: bytes) -> None:
        """A Send in SenML JSON."""
        self._ask(Message(CON, codes.POST, self._next(), b"s", ((11, b"dp"), (12, b"\x6e")), payload))

    def answer_read(self, text: bytes) -> None:
        """Wait for the next request and answer it with a text."""
        request = decode_message(self._socket.recv(2048))
        assert request.code == codes.GET
        answer = Message(ACK, codes.CONTENT, request.mid, request.token, ((12, b""),), text)
        self._socket.send(encode_message(answer))

    def _register(self, binding: str) -> None:
        query = (f"ep={self.name}", "lt=300", "lwm2m=1.1", f"b={binding[0]}", *(["Q"] if "Q" in binding else []))
        options = ((11, b"rd"), (12, b"\x28"), *((15, each.encode()) for each in query))
        answer = self._ask(Message(CON, codes.POST, self._next(), b"r", options, b"</1/0>,</3/0>,</3303/0>"))
        assert answer.code == codes.CREATED

    def _ask(self, message: Message) -> Message:
        self._socket.send(encode_message(message))
        while (answer := decode_message(self._socket.recv(2048))).mid != message.mid:
            pass
        return answer

    def _next(self) -> int:
        self._mid += 1
        return self._mid


def ask_to_be_bootstrapped(port: int, name: str) -> int:
    """The code of the answer to a Bootstrap-Request without security."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.connect(("127.0.0.1", port))
        device.settimeout(10)
        device.send(encode_message(Message(CON, codes.POST, 1, b"b", ((11, b"bs"), (15, f"ep={name}".encode())))))
        return decode_message(device.recv(2048)).code


class Watched:
    """A page of the browser; what it complains about and what it asks for is kept."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page = page
        self.served = served
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def open(self, path: str = "/") -> None:
        self.page.goto(self.served.url + path)

    def sign_in(self, name: str = "admin@localhost", password: str = PASSWORD) -> None:
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s} s: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not on this machine; CI=true sh tools/browser_needs.sh installs it")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("served"))
    made.start()
    yield made
    made.stop()
    # The folder is the server's working directory: nothing else may lie in it.
    assert {each.name for each in made.folder.iterdir()} == {"data", "log"}
    assert "Traceback" not in made.log()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 800})
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def watched(context: BrowserContext, served: Served) -> Watched:
    return Watched(context.new_page(), served)


@pytest.fixture
def make_device(served: Served) -> Iterator[Callable[..., HandDevice]]:
    made: list[HandDevice] = []

    def make(name: str, binding: str = "U") -> HandDevice:
        made.append(HandDevice(served.coap_port, name, binding))
        return made[-1]

    yield make
    for each in made:
        each.close()
