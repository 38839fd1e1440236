"""The yardstick: a minimal aiocoap server that stores nothing. Register gets 2.01 with a fixed Location, all else 2.04.

Run with a port: python benchmarks/aiocoap_server.py 5700
"""

import asyncio
import logging
import sys

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


async def serve(port: int) -> None:
    site = aiocoap.resource.Site()
    site.add_resource(["rd"], _Answering(aiocoap.CREATED, ("rd", "x")))
    site.add_resource(["rd", "x"], _Answering(aiocoap.CHANGED))
    site.add_resource(["dp"], _Answering(aiocoap.CHANGED))
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port))
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    uvloop.run(serve(int(sys.argv[1])))
