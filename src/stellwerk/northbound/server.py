"""An application on a socket, inside a loop that runs already."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stellwerk.core.errors import UserError

GRACE_S: Final = 2
"""How long running requests may take to end when the server stops; the whole server has five seconds."""

HEAD_WITHIN_S: Final = 30.0
"""How long the head of a request may take to arrive, counted from the connection or from its first byte."""
LARGEST_HEAD: Final = 65_536

WEBSOCKET_BYTES: Final = 1_000_000
"""The longest message taken from a live page."""


class CannotListen(UserError):
    """``host``:``port`` cannot be bound; ``reason`` is the system's word."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port, self.reason = host, port, reason
        super().__init__(
            f"cannot listen on TCP {host}:{port}: {reason}; choose another address or port, or stop what uses it"
        )


class _Quiet(uvicorn.Server):
    """Leaves signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Guarded(HttpToolsProtocol):
    """A connection on which nobody waits for ever for the head of a request, however slowly it comes, and on which none
    grows without end. Bodies have their bounds with who reads them."""

    head_within_s = HEAD_WITHIN_S

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing() or self not in self.connections:
            # A WebSocket has a protocol of its own from here on.
            return
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self._refuse(b"431 Request Header Fields Too Large", b"the head of the request is too large")
        if not self._is_answering:
            # Bytes that begin no request, too, end the wait for the next one.
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect_no_head()
        super().on_headers_complete()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_within_s, self._head_is_late)

    def _expect_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._is_answering:
            # It may wait behind an answer that takes its time.
            self._expect_head()
        elif self._in_head:
            self._refuse(b"408 Request Timeout", b"the head of the request did not arrive")
        else:
            self.transport.close()

    def _refuse(self, status: bytes, text: bytes) -> None:
        self._expect_no_head()
        length = str(len(text)).encode()
        self.transport.write(
            b"HTTP/1.1 "
            + status
            + b"\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: "
            + length
            + b"\r\nconnection: close\r\n\r\n"
            + text
        )
        self.transport.close()


class HttpServer:
    """One application on one address. ``port`` is the bound one, also where 0 was asked for."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._app = app
        self.host = host
        self.port = port
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve; returns when connections are accepted. Raises `CannotListen`."""
        listener = _bind(self.host, self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            loop="none",
            http=Guarded,
            # Live pages; they ping by themselves, and what they are sent is too small to be worth compressing.
            ws="websockets-sansio",
            ws_max_size=WEBSOCKET_BYTES,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            # Wiring starts and stops what is behind the application.
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            # The caller's address is the peer's; who may speak for others is a setting that does not exist yet.
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Quiet(config)
        self._serving = asyncio.get_running_loop().create_task(
            self._server.serve(sockets=[listener]), name=f"http {self.host}:{self.port}"
        )
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise OSError(f"the HTTP server on {self.host}:{self.port} ended while it started")
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Accept nothing more, let running requests end for `GRACE_S`, close."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        # Whoever was told to end needs the loop once more to say so.
        await asyncio.sleep(0)
        self._server = self._serving = None

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application. A request that is still unfinished when the server stops is told so: it is nobody's
        mistake and leaves no traceback."""
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if started or self.is_serving or scope["type"] != "http":
                raise
            headers = [(b"connection", b"close"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    @property
    def is_serving(self) -> bool:
        """Whether connections are accepted right now."""
        return self._server is not None and self._server.started and not self._server.should_exit


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket. Bound here, since uvicorn ends the process where an address is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise CannotListen(host, port, getattr(error, "strerror", None) or str(error)) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotListen(host, port, error.strerror or str(error)) from error
    return listener
