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
        async with httpx.AsyncClient(verify=False) as http:
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
        async with httpx.AsyncClient(verify=False) as http:
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
        async with httpx.AsyncClient(verify=False) as http:
            asking = asyncio.ensure_future(http.get(f"http://127.0.0.1:{server.port}/"))
            await started.wait()
            await asyncio.wait_for(server.stop(), 5)
            assert (await asking).status_code == 503

    asyncio.run(run())
    assert not any(each.exc_info for each in caplog.records)


_FEW = 2
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "


def talk(app: Any, *pieces: bytes) -> bytes:
    """What the server says to ``pieces`` until it closes, on one connection; pieces stop with its first word."""

    async def run() -> bytes:
        server = HttpServer(app, "127.0.0.1", 0)
        await server.start()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            first = asyncio.ensure_future(reader.read(1))
            for piece in pieces:
                writer.write(piece)
                await asyncio.wait([first], timeout=0.005)
                if first.done() and len(pieces) > _FEW:
                    break
            said = await asyncio.wait_for(first, 5) + await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return said
        finally:
            await server.stop()

    return asyncio.run(run())


def test_a_head_that_grows_without_end_is_refused():
    said = talk(hello, HEAD, *[b"x" * 5_000] * 40)
    assert said.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("pieces", [(), (b"\r\n",), (b"GET",), (HEAD,)])
def test_nobody_waits_for_ever_for_the_head_of_a_request(pieces, monkeypatch):
    monkeypatch.setattr(server_module.Guarded, "head_within_s", 0.05)
    said = talk(hello, *pieces)
    assert said.startswith(b"HTTP/1.1 408 ") == (len(pieces) > 0 and pieces[0] != b"\r\n")


def test_the_second_request_of_a_connection_is_waited_for_no_longer(monkeypatch):
    monkeypatch.setattr(server_module.Guarded, "head_within_s", 0.05)
    said = talk(hello, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HEAD)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in said


def test_a_request_that_waits_behind_a_slow_answer_is_answered(monkeypatch):
    monkeypatch.setattr(server_module.Guarded, "head_within_s", 0.02)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.1)
        await hello(scope, receive, send)

    said = talk(slow, HEAD + b"1\r\n\r\n" + HEAD, b"2\r\nConnection: close\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 ") == 2


def test_a_live_page_may_be_silent_for_longer_than_a_head_may_take(monkeypatch):
    monkeypatch.setattr(server_module.Guarded, "head_within_s", 0.02)

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.2)
        await send({"type": "websocket.send", "text": "still here"})
        await receive()

    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

    async def run() -> None:
        server = HttpServer(socket, "127.0.0.1", 0)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + key)
        assert await asyncio.wait_for(reader.readuntil(b"still here"), 5)
        writer.close()
        await server.stop()

    asyncio.run(run())
