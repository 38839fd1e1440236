"""What people and programs reach over HTTP: the APIs and the console, on one server."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI

from stellwerk.app.bootstrap_sight import BootstrapSight
from stellwerk.app.failures import Security
from stellwerk.app.handlers.accounts import Accounts
from stellwerk.app.handlers.applications import Applications
from stellwerk.app.handlers.commands import Commands
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.handlers.injecting import Injecting
from stellwerk.app.handlers.provisioning import Provisioning
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Limits
from stellwerk.app.profiles import Profiles
from stellwerk.app.tasks import Tasks
from stellwerk.app.views import Views
from stellwerk.config import Settings
from stellwerk.core.entropy import Entropy
from stellwerk.lwm2m.schema.library import Library
from stellwerk.net.clock import SystemClock
from stellwerk.northbound.auth import Access, SignedTokens, Tokens
from stellwerk.northbound.http import build_http
from stellwerk.northbound.onem2m.commands import parse_commands
from stellwerk.northbound.rest.metrics import Sources, counted
from stellwerk.northbound.server import HttpServer
from stellwerk.northbound.services import Services
from stellwerk.storage.sqlite.directory import SqliteDirectory
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.token_key import load_token_key

if TYPE_CHECKING:
    from stellwerk.console import Console

log = structlog.get_logger(__name__)


class Faces:
    """``tokens``: bearer tokens besides the configured one; ``ready``: what is missing yet; ``banner``: what everybody
    at the console should know. `start`, then `stop`, then `close`. ``host`` and ``port``: where it listens."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: SqliteStore,
        library: Library,
        tasks: Tasks,
        clock: SystemClock,
        entropy: Entropy,
        meters: Meters,
        tokens: Mapping[str, Access],
        limits: Limits,
        ready: Callable[[], Awaitable[list[str]]],
        banner: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._store = store
        self._library = library
        self._tasks = tasks
        self._clock = clock
        self._entropy = entropy
        self._meters = meters
        self._tokens = dict(tokens)
        self._limits = limits
        self._ready = ready
        self._banner = banner
        self._http: HttpServer | None = None
        self._console: Console | None = None
        self._directory: SqliteDirectory | None = None
        self.host, self.port = "", 0

    async def start(
        self,
        *,
        commands: Commands,
        profiles: Profiles,
        provisioning: Provisioning,
        devices: Devices,
        accounts: Accounts,
        sources: Sources,
        port: int,
        security: Callable[[str | None], Security] | None,
        bootstrap: BootstrapSight | None,
    ) -> None:
        """``security`` and ``bootstrap``: what there is to see of secure channels and of the bootstrap server, None
        where there are none. Raises `CannotBind` and what else the operator can mend."""
        settings, store = self._settings, self._store
        tokens = dict(self._tokens)
        if settings.api_token:
            tokens[settings.api_token] = Access(tenants=frozenset({settings.tenant}), role="rw")
        key = load_token_key(settings.data_dir)
        signed = SignedTokens(key, self._clock.wall_ms)
        if not settings.api_auth:
            log.warning("http.open_to_all", meaning="STELLWERK_API_AUTH=off: nobody is asked for a token")
        services = Services(
            deciding=store,
            projected=store.projection,
            commands=commands,
            provisioning=provisioning,
            devices=devices,
            injecting=Injecting(store=store, projection=store.projection, clock=self._clock),
            applications=Applications(store=store, clock=self._clock, entropy=self._entropy),
            tokens=Tokens(tokens, signed, required=settings.api_auth),
            clock=self._clock,
            entropy=self._entropy,
            ready=self._ready,
            naming=settings.naming,
            limits=self._limits,
            tenant=settings.tenant,
        )
        app = build_http(services, sources=sources)
        await self._attach_console(app, commands, profiles, accounts, key, security, bootstrap)
        server = self._http = HttpServer(counted(app, self._meters), settings.host, port)
        await server.start()
        self.host, self.port = settings.host, server.port

    async def _attach_console(
        self,
        app: FastAPI,
        commands: Commands,
        profiles: Profiles,
        accounts: Accounts,
        key: bytes,
        security: Callable[[str | None], Security] | None,
        bootstrap: BootstrapSight | None,
    ) -> None:
        store = self._store
        # A second of imports, in which devices are answered already.
        console = await asyncio.to_thread(import_module, "stellwerk.console")
        directory = self._directory = SqliteDirectory(self._settings.data_dir)
        views = Views(
            store=store,
            projected=store.projection,
            directory=directory,
            library=self._library,
            clock=self._clock,
            tasks=self._tasks,
            profiles=profiles,
            security=security,
            bootstrap=bootstrap,
        )
        services = console.ConsoleServices(
            deciding=store,
            views=views,
            accounts=accounts,
            commands=commands,
            parse=parse_commands,
            clock=self._clock,
            key=key,
            banner=self._banner,
            bootstrap=bootstrap,
        )
        self._console = console.attach_console(app, services)
        await self._console.start()

    async def stop(self) -> None:
        """Take no request any more; who looks at the console is let go."""
        if self._http is not None:
            await self._http.stop()
        if self._console is not None:
            await self._console.stop()

    async def close(self) -> None:
        """Nobody asks any more."""
        if self._directory is not None:
            await self._directory.close()
