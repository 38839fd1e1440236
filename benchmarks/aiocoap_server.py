"""The yardstick: a minimal aiocoap server that stores nothing. Register gets 2.01 with a fixed Location, all else 2.04.

Run with a port: python benchmarks/aiocoap_server.py 5700
With a path behind it (``/3303/0``), it observes that on every device that registers, and throws the values away.
"""

import asyncio
import logging
import sys
import warnings

import aiocoap
import aiocoap.resource
import uvloop


class _Answering(aiocoap.resource.Resource):
    def __init__(self, code: aiocoap.Code, location: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._code, self._location = code, location

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        answer = aiocoap.Message(code=self._code)
        if self._location:
            answer.opt.location_path = self._location
        return answer


class _Observing(_Answering):
    """Answers a Register, then observes the device."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(aiocoap.CREATED, ("rd", "x"))
        self._path = path
        self._context: aiocoap.Context | None = None
        self._observed: dict[object, object] = {}
        """By address; keeps the observations alive."""

    def connect(self, context: aiocoap.Context) -> None:
        """Who sends the requests."""
        self._context = context

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        asyncio.get_running_loop().call_soon(self._observe, request.remote)
        return await super().render_post(request)

    def _observe(self, remote: object) -> None:
        if self._context is None or remote in self._observed:
            return
        request = aiocoap.Message(code=aiocoap.GET, observe=0)
        request.remote = remote
        request.opt.uri_path = self._path
        sent = self._observed[remote] = self._context.request(request)
        sent.observation.register_callback(lambda _: None)


async def serve(port: int, path: str | None) -> None:
    observing = _Observing(tuple(path.strip("/").split("/"))) if path else None
    site = aiocoap.resource.Site()
    site.add_resource(["rd"], observing or _Answering(aiocoap.CREATED, ("rd", "x")))
    site.add_resource(["rd", "x"], _Answering(aiocoap.CHANGED))
    site.add_resource(["dp"], _Answering(aiocoap.CHANGED))
    context = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port))
    if observing:
        observing.connect(context)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    # A callback costs it less than the task that replaces it.
    warnings.simplefilter("ignore", DeprecationWarning)
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
