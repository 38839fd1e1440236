"""The one NiceGUI of this process: set up once, running while at least one console does.

NiceGUI keeps its application, its socket server and its pages in module globals. Its settings therefore belong to the
process; which server a page belongs to travels with the request (`gate`).
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from nicegui import app as nicegui_app
from nicegui import core, ui

RECONNECT_S: Final = 20.0
"""How long a page whose connection broke is kept. Pings follow from it: one in 16 s for each page."""
HISTORY: Final = 100
"""Messages of a page that are kept for the time its connection is broken."""

ACCENT: Final = "#1f5f8b"

_prepared = False
_running: list[AbstractAsyncContextManager[Any]] = []
_users = 0
_loop: asyncio.AbstractEventLoop | None = None


def prepare() -> None:
    """Settings of the process; pages may be defined before or after."""
    global _prepared
    if _prepared:
        return
    _prepared = True
    ui.run_with(
        # Only the settings are wanted: the routes of `attach` lead to NiceGUI, and `start` runs it.
        FastAPI(),
        title="Stellwerk",
        dark=None,
        language="en-US",
        # Pages push what changed; nothing is bound.
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_S,
        message_history_length=HISTORY,
        # Compressing half a megabyte of script would hold up the loop that acknowledges devices.
        gzip_middleware_factory=None,
        tailwind=False,
        show_welcome_message=False,
    )
    # Its own page for what is not found is a live page that is kept, for everybody who asks for a wrong path.
    nicegui_app.add_exception_handler(404, http_exception_handler)  # type: ignore[arg-type]
    nicegui_app.colors(primary=ACCENT)
    # Without polling there is one way in, and no request that another site's form could make.
    nicegui_app.config.socket_io_js_transports = ["websocket"]


async def start() -> None:
    """Run NiceGUI on this loop, unless it runs already. Raises `RuntimeError` where it runs on another one."""
    global _users, _loop
    prepare()
    loop = asyncio.get_running_loop()
    if _loop is not None and _loop is not loop:
        if not _loop.is_closed():
            raise RuntimeError("a console runs on another event loop of this process; NiceGUI has one for all")
        # That loop ended without a word.
        _running.clear()
        _users = 0
        _watch_connections_again()
    _loop = loop
    _users += 1
    if _users == 1:
        context = nicegui_app.router.lifespan_context(nicegui_app)
        await context.__aenter__()
        _running.append(context)


async def stop() -> None:
    """The counterpart of `start`; the last one ends NiceGUI."""
    global _users, _loop
    _users -= 1
    if _users == 0 and _running:
        await core.sio.shutdown()
        _watch_connections_again()
        await _running.pop().__aexit__(None, None, None)
        _loop = None


def _watch_connections_again() -> None:
    """The socket server's watcher of connections starts with the first one, once: the next run needs another one."""
    core.sio.eio.start_service_task = True
    core.sio.eio.service_task_event = None
