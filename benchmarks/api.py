"""A small HTTP client for benchmarks: connections that stay open, one request at a time on each, nothing else."""

import asyncio
import json
import re
from typing import Any

from servers import TENANT, TOKEN

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_NAME = re.compile(rb'"(?:resourceName|rn)":"([^"]+)"')


class Api:
    """The Device to Cloud face of a server on this machine. ``connections``: requests at a time, at most."""

    def __init__(self, port: int, connections: int = 16) -> None:
        self._port = port
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
        for _ in range(connections):
            self._free.put_nowait(None)
        self._base = f"/device-management-orchestrator/v3/{TENANT}"
        self._headers = (
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\nX-M2M-Origin: CBench\r\nX-M2M-RI: 1\r\n"
        )

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of ``path`` below the tenant."""
        return await self._request(f"GET {self._base}{path} HTTP/1.1\r\n{self._headers}\r\n".encode())

    async def post_command(self, device: str, command: str) -> tuple[int, bytes]:
        """Put ``command`` into ``outgoing-msg``."""
        body = json.dumps({"m2m:cin": {"con": command}})
        head = f"POST {self._base}/device-communication/{device}/outgoing-msg HTTP/1.1\r\n{self._headers}"
        more = f"Content-Type: application/json;ty=4\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self._request(f"{head}{more}{body}".encode())

    async def close(self) -> None:
        """Close what is open."""
        while not self._free.empty():
            found = self._free.get_nowait()
            if found is not None:
                found[1].close()

    async def _request(self, request: bytes) -> tuple[int, bytes]:
        streams = await self._free.get()
        try:
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            return int(head[9:12]), body
        except (OSError, EOFError):
            streams = None
            raise
        finally:
            self._free.put_nowait(streams)


def resource_name(body: bytes) -> bytes:
    """The name of the message that a post made."""
    found = _NAME.search(body)
    if found is None:
        raise SystemExit(f"bench: no resource name in {body[:200]!r}")
    return found[1]


async def observe_all(port: int, names: list[str], path: str, within_s: float = 60.0) -> None:
    """Post ``OBSERVE path`` for each device as soon as it is there."""
    api = Api(port, connections=8)
    deadline = asyncio.get_running_loop().time() + within_s

    async def observe(name: str) -> None:
        while True:
            status, body = await api.post_command(name, f"OBSERVE {path}")
            if status == 201:
                return
            if status != 404 or asyncio.get_running_loop().time() > deadline:
                raise SystemExit(f"bench: OBSERVE for {name} got {status}: {body[:200]!r}")
            await asyncio.sleep(0.2)

    # The fleet registers in order, so that the last one tells about the rest; before that, asking is in its way.
    while (await api.get(f"/device-communication/{names[-1]}"))[0] != 200:
        if asyncio.get_running_loop().time() > deadline:
            raise SystemExit(f"bench: {names[-1]} did not register within {within_s:g} s")
        await asyncio.sleep(0.2)
    await asyncio.gather(*map(observe, names))
    await api.close()


def content(body: bytes) -> Any:
    """What a message says."""
    return next(iter(json.loads(body).values()))["content"]
