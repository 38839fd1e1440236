"""A whole server behind its HTTP application, without sockets: memory store, real use cases, a listening link."""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import httpx
import pytest

from stellwerk.app.changes import Commit, PutRegistration
from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.app.handlers.applications import Applications
from stellwerk.app.handlers.commands import Commands
from stellwerk.app.handlers.connections import Connections
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.handlers.injecting import Injecting
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.provisioning import Provisioning
from stellwerk.app.handlers.reading import Reading
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.journal import JournalEntry
from stellwerk.app.listening import Listening
from stellwerk.app.ports import Limits
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import NewDevice
from stellwerk.app.registry import Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.operations import Operation
from stellwerk.lwm2m.schema.library import Library
from stellwerk.northbound.auth import Access, SignedTokens, Tokens
from stellwerk.northbound.http import build_http
from stellwerk.northbound.services import Services
from stellwerk.storage.memory import MemoryStore

T = TypeVar("T")

V3 = "/device-management-orchestrator/v3"
NOW_MS = 1_752_761_133_829
OBJECTS = b"</1/0>,</3/0>,</6/0>,</3303/0>"


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now(self) -> float:
        return self.ms / 1000

    def wall_ms(self) -> int:
        return self.ms

    def lifetime_ms(self) -> int:
        return self.ms


class Entropy:
    """The same bytes in every run."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, count: int) -> bytes:
        self.count += 1
        return hashlib.shake_128(str(self.count).encode()).digest(count)


class ListeningLink:
    """A device side that remembers what it was to send; the test answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Operation]] = []

    def choose_format(self, registration: Any, operation: Any) -> int:
        return 112

    def draw_token(self) -> bytes:
        return b"token123"

    def send(
        self,
        handle: int,
        registration: Registration,
        operation: Operation,
        token: bytes | None = None,
        ack_timeout_s: float | None = None,
    ) -> None:
        self.sent.append((handle, operation))

    def cancel(self, handle: int) -> None: ...
    def hold(self, handle: int) -> None: ...
    def repeat(self, handle: int) -> None: ...
    def prove_peer(self, peer: PeerId) -> None: ...
    def reaches(self, peer: PeerId) -> bool:
        return True

    def move_peer(self, old: PeerId, new: PeerId) -> None: ...
    def forget_peer(self, peer: PeerId) -> None: ...
    def forget_observation(self, peer: PeerId, token: bytes) -> None: ...


class World:
    """``token`` goes with every request; ``headers`` of a call replace or, given None, remove the usual ones."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.runner.get_loop()
        self.limits = Limits(max_instances=5, max_bytes=2000)
        self.library = Library.builtin()
        self.clock = Clock()
        self.entropy = Entropy()
        self.link = ListeningLink()
        self.missing: list[str] = []
        self.run(self._build())

    async def _build(self) -> None:
        self.tasks = Tasks()
        self.store = MemoryStore(library=self.library, limits=self.limits, salt=bytes(16))
        self.tenant_id = await self.store.ensure_tenant("acme", NOW_MS)
        await self.store.ensure_tenant("other", NOW_MS)
        registry = self.registry = Registry(self.store)
        self.profiles = profiles = Profiles(store=self.store, registry=registry, awake_s=93.0)
        turns = Turns(registry=registry, profiles=profiles, clock=self.clock, link=self.link)
        self.observations = Observations(store=self.store, registry=registry, clock=self.clock, link=turns)
        self.commands = Commands(
            store=self.store,
            registry=registry,
            library=self.library,
            observations=self.observations,
            tasks=self.tasks,
            clock=self.clock,
            entropy=self.entropy,
            link=self.link,
            limits=self.limits,
            profiles=profiles,
            turns=turns,
        )
        self.listening = Listening(self.tasks)
        reading = Reading(store=self.store, registry=registry, clock=self.clock, link=turns)
        connections = Connections(store=self.store, registry=registry, link=self.link, device_of=lambda peer: None)
        self.listening.connect(self.commands, self.observations, reading, turns, connections)
        self.removed: list[str] = []
        self.provisioning = Provisioning(
            store=self.store,
            clock=self.clock,
            entropy=self.entropy,
            spawn=lambda work: self.tasks.spawn("provisioning", work),
            removed=lambda device: self.removed.append(device.name),
        )
        self.services = Services(
            deciding=self.store,
            projected=self.store.projection,
            commands=self.commands,
            provisioning=self.provisioning,
            devices=Devices(
                store=self.store,
                registry=registry,
                clock=self.clock,
                link=self.link,
                listener=self.listening,
                relabel=self.commands.delivery.relabel,
            ),
            injecting=Injecting(store=self.store, projection=self.store.projection, clock=self.clock),
            applications=Applications(store=self.store, clock=self.clock, entropy=self.entropy),
            tokens=Tokens(
                {
                    "writer": Access(frozenset({"acme"})),
                    "reader": Access(frozenset({"acme"}), "r"),
                    "foreign": Access(frozenset({"other"})),
                    "everything": Access(frozenset({"acme", "ghost"})),
                    "demo": Access(frozenset({"acme"}), loopback_only=True),
                },
                SignedTokens(bytes(range(32)), self.clock.wall_ms),
            ),
            clock=self.clock,
            entropy=self.entropy,
            ready=self._ready,
            limits=self.limits,
        )
        self.app = build_http(self.services)

    async def _ready(self) -> list[str]:
        return self.missing

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def settle(self) -> None:
        """Let background tasks and commits finish."""

        async def turns() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.run(turns())

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str | None] | None = None,
        ty: int | None = None,
        client: tuple[str, int] = ("127.0.0.1", 50000),
        mount: str = f"{V3}/acme",
        **more: Any,
    ) -> httpx.Response:
        """One request below ``mount``, as the seed's examples send it."""
        wanted: dict[str, str | None] = {
            "Accept": "application/json",
            "Content-Type": "application/json" if ty is None else f"application/json;ty={ty}",
            "X-M2M-Origin": "CTestApp",
            "X-M2M-RI": "123",
            "Authorization": "Bearer writer",
            **(headers or {}),
        }
        kept = {name: value for name, value in wanted.items() if value is not None}

        async def work() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=client)
            async with httpx.AsyncClient(transport=transport, base_url="http://stellwerk") as http:
                return await http.request(method, f"{mount}{path}", headers=kept, **more)

        answer = self.run(work())
        self.settle()
        return answer

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.call("GET", path, **more)

    def post(self, path: str, ty: int, body: Any, **more: Any) -> httpx.Response:
        return self.call("POST", path, ty=ty, json=body, **more)

    def device(self, name: str = "device001", labels: tuple[str, ...] = (), **more: Any) -> DeviceRecord:
        new = NewDevice(name, f"urn:gsma:imei:{name}", labels, "SCS-LwM2M", more.pop("device_info", ()), NOW_MS)
        return self.run(self.store.create_device(self.tenant_id, new))

    def register(self, device: DeviceRecord) -> None:
        """The device is awake and known from now on."""
        self.commit((), self.registering(device).changes)

    def registering(self, device: DeviceRecord) -> Commit:
        """What a Register of the device stores."""
        objects = decode_object_list(OBJECTS)
        types = self.library.for_device("1.1", {})
        peer = PeerId("udp", "127.0.0.1", 40000, "127.0.0.1", 5683)
        registration = Registration(
            f"loc{device.device_id}",
            device.device_id,
            device.name,
            peer,
            "1.1",
            86400,
            "U",
            False,
            OBJECTS,
            objects,
            types,
            self.clock.wall_ms(),
            self.clock.wall_ms(),
        )
        return Commit((), (PutRegistration(registration, 1 << 62),), lambda error: None)

    def commit(self, entries: tuple[JournalEntry, ...], changes: Sequence[Any] = ()) -> None:
        async def work() -> None:
            done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            self.store.submit(Commit(entries, changes, done.set_result))
            assert await done is None

        self.run(work())

    def answer(self, status: int = 205, payload: bytes = b"", content_format: int = -1) -> None:
        """The device answers the oldest operation."""
        handle, _ = self.link.sent.pop(0)
        at = Instant(self.clock.now(), self.clock.wall_ms())

        async def work() -> None:
            self.commands.finished(DeviceAnswer(handle, status, content_format, payload), at)

        self.run(work())
        self.settle()

    def close(self) -> None:
        self.run(self.tasks.close())
        self.runner.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="module")
def long_lived_world() -> Iterator[World]:
    """One for all examples of a property."""
    world = World()
    yield world
    world.close()
