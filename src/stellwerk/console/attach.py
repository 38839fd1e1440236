"""Puts the console on the HTTP application, behind everything else."""

import asyncio
from typing import Final, Protocol

import structlog
from fastapi import FastAPI
from nicegui import Client
from starlette.routing import Route, WebSocketRoute

from stellwerk.console import nicegui_host
from stellwerk.console.gate import Endpoint, Gate
from stellwerk.console.services import ConsoleServices
from stellwerk.console.sessions import Session, Sessions

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
"""How often open pages are told of a banner, and asked whether their session still counts."""


class OpenPage(Protocol):
    """A page in somebody's browser, as the console sees it."""

    session: Session
    client: Client

    @property
    def is_visible(self) -> bool: ...

    def say(self, banner: str) -> None:
        """Show ``banner`` on top, nothing where it is empty."""
        ...

    def leave(self) -> None:
        """The session is over: show nothing more and go to the sign-in page."""
        ...


class Console:
    """The console of one server. `start` before requests come, `stop` when none comes any more."""

    def __init__(self, services: ConsoleServices) -> None:
        self.services = services
        self.sessions = Sessions(services.key, services.clock, services.deciding.account)
        self.pages: set[OpenPage] = set()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run NiceGUI and look after open pages."""
        await nicegui_host.start()
        self._looking = asyncio.get_running_loop().create_task(self._look_after_pages(), name="console pages")

    async def stop(self) -> None:
        """Forget every page."""
        if self._looking is None:
            return
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        self._looking = None
        for page in list(self.pages):
            if not page.client.is_deleted:
                page.client.delete()
        self.pages.clear()
        await nicegui_host.stop()

    def end(self, session: Session) -> None:
        """Sign out: every page of the session goes."""
        self.sessions.end(session)
        for page in list(self.pages):
            if page.session.session_id == session.session_id:
                page.leave()

    async def _look_after_pages(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.pages:
                try:
                    self._look()
                except Exception:
                    log.exception("console.look_failed")

    def _look(self) -> None:
        banner = self.services.banner()
        for page in list(self.pages):
            if not self.sessions.is_alive(page.session):
                page.leave()
            elif page.is_visible:
                self.sessions.touch(page.session)
                page.say(banner)


def attach_console(app: FastAPI, services: ConsoleServices) -> Console:
    """Routes of the console, after those that are there. Paths that are nobody's stay the application's to refuse."""
    from stellwerk.console import pages  # noqa: F401 - defines the pages

    nicegui_host.prepare()
    console = Console(services)
    gate = Gate(services, console.sessions, console)
    read = ["GET", "HEAD"]
    app.router.routes += [
        Route("/", Endpoint(gate.page), methods=read, include_in_schema=False),
        Route("/devices/{device_id:int}", Endpoint(gate.page), methods=read, include_in_schema=False),
        Route("/security", Endpoint(gate.page), methods=read, include_in_schema=False),
        Route("/login", gate.sign_in, methods=[*read, "POST"], include_in_schema=False),
        Route("/logout", gate.sign_out, methods=["POST"], include_in_schema=False),
        Route("/session", gate.renew, methods=["POST"], include_in_schema=False),
        Route("/console/{name}", gate.file, methods=read, include_in_schema=False),
        Route("/favicon.ico", gate.icon, methods=read, include_in_schema=False),
        Route("/_nicegui/{rest:path}", Endpoint(gate.assets), methods=read, include_in_schema=False),
        WebSocketRoute("/_nicegui_ws/{rest:path}", Endpoint(gate.socket)),
    ]
    return console
