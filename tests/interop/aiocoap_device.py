"""A device on aiocoap that shares no code with ours: link format as text, payloads as bytes written by hand."""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import aiocoap
from aiocoap import resource
from served import free_port

T = TypeVar("T")
TEXT, TLV, SENML_JSON, SENML_CBOR = 0, 11542, 110, 112
LINKS = '</>;rt="oma.lwm2m";ct=112,</1/0>,</3/0>,</6/0>,</3303/0>'

# Object 3 as SenML JSON; object 6 as TLV: 64-bit floats (resource type 11, 8 bit length in a byte of its own).
DEVICE_JSON = b'[{"bn":"/3/0/","n":"0","vs":"aiocoap"},{"n":"9","v":88},{"n":"13","v":1700000000},{"n":"11/0","v":0}]'
LOCATION_TLV = b"\x08\x00\x16" + b"\xc8\x00\x08" + struct.pack(">d", 48.25) + b"\xc8\x01\x08" + struct.pack(">d", 11.5)
# Object 3303: [{-2: "/3303/0/", 0: "5700", 2: 21.5}, {0: "5701", 3: "Cel"}]
SENSOR_CBOR = b"\x82\xa3\x21\x68/3303/0/\x00\x645700\x02\xf9\x4d\x60\xa2\x00\x645701\x03\x63Cel"


class Fixed(resource.Resource):
    """Always the same bytes."""

    def __init__(self, payload: bytes, content_format: int) -> None:
        super().__init__()
        self._payload, self._format = payload, content_format

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self._payload, content_format=self._format)


class Timezone(resource.Resource):
    """/3/0/15: text that can be written, in text or in SenML CBOR."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[int | None, bytes]] = []
        self.value = b""

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=aiocoap.CONTENT, payload=self.value, content_format=TEXT)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        self.writes.append((request.opt.content_format, request.payload))
        # [{-2: "/3/0/15", 3: "..."}], short text only
        self.value = request.payload[13:] if request.opt.content_format == SENML_CBOR else request.payload
        return aiocoap.Message(code=aiocoap.CHANGED)


class Reboot(resource.Resource):
    """/3/0/4. Answers slowly, so that aiocoap sends an empty ACK first and a separate response after it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        self.calls.append(request.payload)
        await asyncio.sleep(0.3)
        return aiocoap.Message(code=aiocoap.CHANGED)


class Temperature(resource.ObservableResource):
    """/3303/0/5700 as text."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 21.5
        self.observers = 0

    async def render_get(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=aiocoap.CONTENT, payload=str(self.value).encode(), content_format=TEXT)

    def update_observation_count(self, newcount: int) -> None:
        self.observers = newcount

    def change(self, value: float) -> None:
        self.value = value
        self.updated_state()


class AiocoapDevice:
    """One aiocoap context, client and server on one port, in a loop and thread of its own."""

    def __init__(self, server_port: int) -> None:
        self.server = f"coap://127.0.0.1:{server_port}"
        self.timezone, self.reboot, self.temperature = Timezone(), Reboot(), Temperature()
        self.location = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aiocoap", daemon=True)
        self._thread.start()
        self._context = self.wait(self._start())

    def _site(self) -> Any:
        """What it serves."""
        site = resource.Site()
        site.add_resource(["3"], Fixed(DEVICE_JSON, SENML_JSON))
        site.add_resource(["3", "0", "0"], Fixed(b"aiocoap", TEXT))
        site.add_resource(["3", "0", "4"], self.reboot)
        site.add_resource(["3", "0", "15"], self.timezone)
        site.add_resource(["6"], Fixed(LOCATION_TLV, TLV))
        site.add_resource(["3303", "0"], Fixed(SENSOR_CBOR, SENML_CBOR))
        site.add_resource(["3303", "0", "5700"], self.temperature)
        return site

    async def _start(self) -> aiocoap.Context:
        site = self._site()
        while True:
            # A port that was free a moment ago may be taken by now.
            with contextlib.suppress(OSError):
                self.port = free_port()
                return await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", self.port))

    def wait(self, work: Coroutine[Any, Any, T], within_s: float = 15) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(within_s)

    def soon(self, call: Any, *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    def ask(
        self, code: aiocoap.Code, path: str, payload: bytes = b"", content_format: int | None = None, **more: Any
    ) -> Any:
        """The response to one request; ``path`` may hold a query, ``more`` are options."""
        return self.wait(self._exchange(code, path, payload, content_format, **more))

    async def _exchange(
        self, code: aiocoap.Code, path: str, payload: bytes, content_format: int | None, **more: Any
    ) -> aiocoap.Message:
        message = aiocoap.Message(
            code=code, uri=self.server + path, payload=payload, content_format=content_format, **more
        )
        return await self._context.request(message).response

    def register(
        self,
        endpoint: str,
        lifetime: int = 300,
        links: str = LINKS,
        version: str = "1.1",
        queue_mode: bool = False,
    ) -> None:
        query = f"ep={endpoint}&lt={lifetime}&lwm2m={version}&b=U{'&Q' if queue_mode else ''}"
        answer = self.ask(aiocoap.POST, f"/rd?{query}", links.encode(), 40)
        self._registered(answer)

    def register_soon(self, endpoint: str, *, queue_mode: bool) -> None:
        """Begins to, and returns."""
        query = f"ep={endpoint}&lt=300&lwm2m=1.1&b=U{'&Q' if queue_mode else ''}"
        work = self._exchange(aiocoap.POST, f"/rd?{query}", LINKS.encode(), 40)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda done: self._registered(done.result()))

    def update(self) -> None:
        answer = self.ask(aiocoap.POST, self.location)
        assert answer.code == aiocoap.CHANGED, answer.code

    def _registered(self, answer: aiocoap.Message) -> None:
        assert answer.code == aiocoap.CREATED, answer.code
        assert not answer.opt.location_query
        self.location = "/" + "/".join(answer.opt.location_path)

    def close(self) -> None:
        if self._loop.is_running():
            self.wait(self._context.shutdown())
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Script(resource.Resource):
    """Whatever is asked of it, it answers as ``answers`` says of the step (``PUT /0/1``), with success where it says
    nothing. An answer is a code, a body (2.05), seconds to wait before success (so that aiocoap acknowledges first),
    `SILENCE` (acknowledged, and never answered), or a list of what to answer one after the other."""

    def __init__(self, answers: dict[str, Any], holds: str) -> None:
        super().__init__()
        self._answers, self._holds = answers, holds
        self.steps: list[str] = []
        self.formats: list[int | None] = []
        """Of each PUT."""

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        step = f"{request.code.name} /{'/'.join(request.opt.uri_path)}"
        self.steps.append(step)
        if request.code == aiocoap.PUT:
            self.formats.append(request.opt.content_format)
        answer = self._answers.get(step)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = None
        if isinstance(answer, aiocoap.Code):
            return aiocoap.Message(code=answer, payload=b"" if answer.is_successful() else b"as the test wants it")
        if answer is None and request.code == aiocoap.GET:
            answer = self._holds.encode()
        if isinstance(answer, bytes):
            return aiocoap.Message(code=aiocoap.CONTENT, payload=answer, content_format=40)
        return aiocoap.Message(code=aiocoap.DELETED if request.code == aiocoap.DELETE else aiocoap.CHANGED)


SILENCE = 3600.0
FACTORY = "</>;lwm2m=1.1,</0/0>,</3/0>"
"""What a device holds that knows its bootstrap server alone."""


class ScriptedDevice(AiocoapDevice):
    """One that is to be bootstrapped, and does what a test says."""

    def __init__(self, bootstrap_port: int, answers: dict[str, Any] | None = None, holds: str = FACTORY) -> None:
        self.script = Script(answers or {}, holds)
        super().__init__(bootstrap_port)

    def _site(self) -> resource.Resource:
        return self.script

    @property
    def steps(self) -> list[str]:
        return list(self.script.steps)

    def request(self, endpoint: str, more: str = "") -> aiocoap.Message:
        """The answer to its Bootstrap-Request."""
        return self.ask(aiocoap.POST, f"/bs?ep={endpoint}{more}")
