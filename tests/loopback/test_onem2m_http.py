"""The HTTP server on a real socket."""

import asyncio
import signal
from typing import Any

import httpx
import pytest

from stellwerk.northbound import server as server_module
from stellwerk.northbound.server import CannotListen, HttpServer


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body and the caller's host."""
    size = 0
    while True:
        part = await receive()
        size += len(part.get("body", b""))
        if not part.get("more_body"):
            break
    text = f"{size} {scope['client'][0]}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


def test_an_application_is_served_and_stopped_inside_a_running_loop():
    async def run() -> None:
        before = signal.getsignal(signal.SIGTERM)
        server = HttpServer(hello, "127.0.0.1", 0)
        assert not server.is_serving
        await server.start()
        assert server.is_serving
        assert server.port > 0
        assert signal.getsignal(signal.SIGTERM) is before
        url = f"http://127.0.0.1:{server.port}/"
        async with httpx.AsyncClient() as http:
            answer = await http.post(url, content=b"x" * 100_000, headers={"X-Forwarded-For": "192.0.2.7"})
            assert answer.text == "100000 127.0.0.1"
            await asyncio.wait_for(server.stop(), 5)
            with pytest.raises(httpx.TransportError):
                await http.get(url)
        assert not server.is_serving
        await server.stop()

    asyncio.run(run())


def test_an_address_that_is_taken_is_an_error_and_no_exit():
    async def run() -> None:
        first = HttpServer(hello, "127.0.0.1", 0)
        await first.start()
        with pytest.raises(CannotListen, match="in use"):
            await HttpServer(hello, "127.0.0.1", first.port).start()
        await first.stop()

    asyncio.run(run())


def test_a_request_that_runs_may_end_before_the_server_stops():
    async def run() -> None:
        started, release = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            started.set()
            await release.wait()
            await hello(scope, receive, send)

        server = HttpServer(slow, "127.0.0.1", 0)
        await server.start()
        async with httpx.AsyncClient() as http:
            asking = asyncio.ensure_future(http.get(f"http://127.0.0.1:{server.port}/"))
            await started.wait()
            stopping = asyncio.ensure_future(server.stop())
            release.set()
            assert (await asking).status_code == 200
            await asyncio.wait_for(stopping, 5)

    asyncio.run(run())


def test_a_request_that_does_not_end_is_told_that_the_server_stops(caplog, monkeypatch):
    monkeypatch.setattr(server_module, "GRACE_S", 0.1)

    async def run() -> None:
        started = asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            started.set()
            await asyncio.Event().wait()

        server = HttpServer(endless, "127.0.0.1", 0)
        await server.start()
        async with httpx.AsyncClient() as http:
            asking = asyncio.ensure_future(http.get(f"http://127.0.0.1:{server.port}/"))
            await started.wait()
            await asyncio.wait_for(server.stop(), 5)
            assert (await asking).status_code == 503

    asyncio.run(run())
    assert not any(each.exc_info for each in caplog.records)
