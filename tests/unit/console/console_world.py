"""A console behind its HTTP application, without sockets: memory store, real accounts, a clock of the test's."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI

from stellwerk.app.bootstrap_accounts import BootstrapAccounts
from stellwerk.app.bootstrap_history import RefusedRequest
from stellwerk.app.bootstrap_sight import BootstrapSight
from stellwerk.app.failures import FailedHandshake, Security
from stellwerk.app.handlers.accounts import Accounts
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import NewDevice
from stellwerk.app.registry import Registry
from stellwerk.app.tasks import Tasks
from stellwerk.app.views import Views
from stellwerk.console import Console, ConsoleServices, attach_console
from stellwerk.device.bootstrap.account import ServerMaterial
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.memory_directory import MemoryDirectory

T = TypeVar("T")

NOW_MS = 1_790_000_000_000
PASSWORD = "correct horse"
HOST = "stellwerk.example:8080"


class Clock:
    ms = NOW_MS

    def now(self) -> float:
        return self.ms / 1000

    def wall_ms(self) -> int:
        return self.ms

    def lifetime_ms(self) -> int:
        return self.ms


class NoCommands:
    """Commands are the browser tests' to show."""

    async def post(self, device: DeviceRecord, **more: Any) -> Any:
        raise AssertionError("nobody posts here")

    async def withdraw(self, device: DeviceRecord, ref: str) -> bool:
        raise AssertionError("nobody cancels here")


async def _nobody_begins(record: DeviceRecord) -> None:
    raise AssertionError("nobody begins here")


class World:
    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.tasks = Tasks()
        self.banner = ""
        self.failures: list[FailedHandshake] = []
        self.refused: list[RefusedRequest] = []
        self.cookies: dict[str, str] = {}
        self.run(self._build())

    async def _build(self) -> None:
        self.store = MemoryStore(library=Library.builtin())
        self.tenant_id = await self.store.ensure_tenant("acme", NOW_MS)
        await self.store.ensure_tenant("other", NOW_MS)
        # The cheapest hash there is: what it costs is no concern here.
        hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.accounts = Accounts(self.store, self.clock, hasher=hasher)
        await self.accounts.ensure_first("acme", PASSWORD)
        sight = BootstrapSight(
            store=self.store,
            accounts=BootstrapAccounts(self.store, lambda _: ServerMaterial()),
            under_way=lambda _: None,
            begin=_nobody_begins,
            requests=lambda tenant: [each for each in self.refused if tenant in (None, each.tenant)],
            handshakes=lambda tenant: (),
        )
        self.services = ConsoleServices(
            deciding=self.store,
            views=Views(
                store=self.store,
                projected=self.store.projection,
                directory=MemoryDirectory(self.store.all_devices),
                library=Library.builtin(),
                clock=self.clock,
                tasks=self.tasks,
                profiles=Profiles(store=self.store, registry=Registry(self.store), awake_s=93),
                security=lambda tenant: Security(
                    2 if tenant is None else None,
                    tuple(each for each in self.failures if tenant in (None, each.tenant)),
                ),
                bootstrap=sight,
            ),
            accounts=self.accounts,
            commands=NoCommands(),
            parse=lambda content, content_info: [],
            clock=self.clock,
            key=bytes(32),
            banner=lambda: self.banner,
            bootstrap=sight,
        )
        self.app = FastAPI(openapi_url=None, redirect_slashes=False)
        self.console: Console = attach_console(self.app, self.services)
        await self.console.start()

    def close(self) -> None:
        self.run(self.console.stop())
        self.run(self.tasks.close())
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def device(self, name: str, tenant: str = "acme", **more: Any) -> DeviceRecord:
        async def work() -> DeviceRecord:
            tenant_id = await self.store.ensure_tenant(tenant, NOW_MS)
            node_id = more.pop("node_id", f"urn:dev:{name}")
            return await self.store.create_device(
                tenant_id, NewDevice(name, node_id, more.pop("labels", ()), "SCS-LwM2M", (), NOW_MS, **more)
            )

        return self.run(work())

    def call(
        self, method: str, path: str, *, scheme: str = "http", origin: str | None = "", **more: Any
    ) -> httpx.Response:
        """One request with the cookies of before; as a browser does, a POST carries the origin of our own pages unless
        another one (None: none) is given."""
        headers = {"host": HOST, **more.pop("headers", {})}
        if origin or (origin == "" and method == "POST"):
            headers["origin"] = origin or f"{scheme}://{HOST}"
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())

        async def work() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.9", 50000))
            async with httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{HOST}") as http:
                return await http.request(method, path, headers=headers, **more)

        answer = self.run(work())
        for name, value in answer.cookies.items():
            self.cookies[name] = value
        return answer

    def sign_in(self, name: str = "admin@localhost", password: str = PASSWORD, **more: Any) -> httpx.Response:
        fields = {"name": name, "password": password, "next": more.pop("next", "/")}
        return self.call("POST", "/login", data=fields, **more)
