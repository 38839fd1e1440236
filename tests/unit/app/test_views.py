"""Contents are read at most once in a while, once for all who look, and for nobody when nobody does."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from stellwerk.app.changes import Commit, PutRegistration
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import DeviceState, NewDevice
from stellwerk.app.registry import Registry
from stellwerk.app.tasks import Tasks
from stellwerk.app.views import DeviceQuery, Doors, Views
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, BootstrapTrigger
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore
from stellwerk.storage.memory_directory import MemoryDirectory

pytestmark = pytest.mark.anyio

NOW_MS = 1_790_000_000_000
OBJECTS = b"</1/0>,</3/0>,</3303/0>"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    ms = NOW_MS

    def now(self) -> float:
        return self.ms / 1000

    def wall_ms(self) -> int:
        return self.ms

    def lifetime_ms(self) -> int:
        return self.ms


class World:
    """A store with views on it; ``reads`` counts how often states were asked for."""

    def __init__(self, every_s: float = 0.001) -> None:
        self.library = Library.builtin()
        self.store = MemoryStore(library=self.library)
        self.clock = Clock()
        self.tasks = Tasks()
        self.reads = 0
        self.failing = False
        projection = self.store.projection
        world = self

        class Counting:
            """The projection, counted, and broken on demand."""

            def __getattr__(self, name: str) -> Any:
                return getattr(projection, name)

            async def recent_states(self, devices: Sequence[DeviceId]) -> Sequence[DeviceState]:
                world.reads += 1
                if world.failing:
                    raise OSError("the disk is gone")
                return await projection.recent_states(devices)

        self.views = Views(
            store=self.store,
            projected=Counting(),
            directory=MemoryDirectory(self.store.all_devices),
            library=self.library,
            clock=self.clock,
            tasks=self.tasks,
            profiles=Profiles(store=self.store, registry=Registry(self.store), awake_s=10),
            every_s=every_s,
        )

    async def device(self, name: str, **more: Any) -> DeviceRecord:
        tenant_id = await self.store.ensure_tenant("default", NOW_MS)
        return await self.store.create_device(tenant_id, NewDevice(name, name, (), "SCS-LwM2M", (), NOW_MS, **more))

    async def commit(self, *entries: JournalEntry, changes: Sequence[Any] = ()) -> None:
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.store.submit(Commit(entries, changes, done.set_result))
        assert await done is None

    async def register(self, record: DeviceRecord, *, queue_mode: bool = False) -> None:
        objects = decode_object_list(OBJECTS)
        types = self.library.for_device("1.1", {1: None, 3: None, 3303: None})
        registration = Registration(
            location=f"loc{record.device_id}",
            device_id=record.device_id,
            endpoint_name=record.name,
            peer=PeerId("udp", "192.0.2.7", 5683, "192.0.2.1", 5683),
            version="1.1",
            lifetime_s=300,
            binding="UQ" if queue_mode else "U",
            queue_mode=queue_mode,
            body=OBJECTS,
            objects=objects,
            types=types,
            registered_ms=self.clock.ms,
            updated_ms=self.clock.ms,
        )
        entry = JournalEntry(Kind.REGISTER, record.device_id, self.clock.ms, status=201, location=registration.location)
        await self.commit(entry, changes=[PutRegistration(registration, NOW_MS + 300_000)])

    async def send(self, record: DeviceRecord, value: float) -> None:
        payload = b'[{"bn":"/3303/0/","n":"5700","v":%g},{"n":"5701","vs":"Cel"}]' % value
        await self.commit(
            JournalEntry(Kind.SEND, record.device_id, self.clock.ms, status=204, payload=payload, content_format=110)
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_all_who_ask_for_the_same_share_one_view_and_others_have_their_own(world: World) -> None:
    query = DeviceQuery(None, "dev")
    view = world.views.devices(query)
    assert world.views.devices(DeviceQuery(None, "dev")) is view
    assert world.views.devices(DeviceQuery(None, "other")) is not view
    assert world.views.device(DeviceId(1)) is world.views.device(DeviceId(1))


async def test_a_view_that_nobody_holds_is_forgotten(world: World) -> None:
    world.views.device(DeviceId(1))
    gc.collect()
    assert len(world.views._views) == 0


async def test_followers_hear_of_changes_and_of_nothing_else(world: World) -> None:
    record = await world.device("dev-1")
    view = world.views.devices(DeviceQuery(record.tenant_id))
    heard: list[str] = []
    stop = view.follow(lambda: heard.append(view.content.lines[0].standing if view.content else ""))
    view.follow(lambda: None)
    await until(lambda: heard)
    seen = world.reads
    await until(lambda: world.reads > seen + 3)
    assert heard == ["never"]
    await world.register(record)
    await until(lambda: len(heard) == 2)
    assert heard == ["never", "registered"]
    stop()


async def test_nothing_is_read_once_nobody_follows(world: World) -> None:
    record = await world.device("dev-1")
    view = world.views.devices(DeviceQuery(record.tenant_id))
    stop = view.follow(lambda: None)
    await until(lambda: world.reads > 2)
    stop()
    stop()  # twice does no harm
    await until(lambda: len(world.tasks) == 0)
    seen = world.reads
    for _ in range(5):
        await asyncio.sleep(0.002)
    assert world.reads == seen


async def test_followers_of_one_view_cost_one_reading_and_it_is_not_repeated_at_once() -> None:
    world = World(every_s=3600)
    record = await world.device("dev-1")
    view = world.views.devices(DeviceQuery(record.tenant_id))
    for _ in range(5):
        view.follow(lambda: None)
    await until(lambda: world.reads == 1)
    await view.now()
    await view.now()
    assert world.reads == 1
    await world.tasks.close()


async def test_a_reading_that_fails_is_said_and_what_was_read_stays(world: World) -> None:
    record = await world.device("dev-1")
    view = world.views.devices(DeviceQuery(record.tenant_id))
    said: list[str] = []
    view.follow(lambda: said.append(view.trouble))
    await until(lambda: said == [""])
    world.failing = True
    await until(lambda: said == ["", "the disk is gone"])
    assert view.content is not None
    assert len(view.content.lines) == 1
    world.failing = False
    await until(lambda: said == ["", "the disk is gone", ""])


async def test_a_follower_that_fails_takes_nobody_with_it(world: World) -> None:
    record = await world.device("dev-1")
    view = world.views.devices(DeviceQuery(record.tenant_id))
    heard: list[int] = []

    def broken() -> None:
        raise ValueError("broken")

    view.follow(broken)
    view.follow(lambda: heard.append(1))
    await until(lambda: heard)
    await world.register(record)
    await until(lambda: len(heard) == 2)


async def test_the_standing_says_asleep_after_the_time_a_sleeper_listens(world: World) -> None:
    sleeper, awake = await world.device("sleeper"), await world.device("waker")
    await world.register(sleeper, queue_mode=True)
    await world.register(awake)
    view = world.views.devices(DeviceQuery(None))
    assert (await view.now()) is not None
    world.clock.ms += 10_001
    view.follow(lambda: None)
    await until(lambda: view.content and view.content.lines[0].standing == "asleep")
    assert view.content is not None
    assert view.content.lines[1].standing == "registered"


async def test_a_list_knows_what_lies_before_and_behind_it(world: World) -> None:
    for number in range(5):
        await world.device(f"dev-{number}")
    first = await world.views.devices(DeviceQuery(None, limit=2)).now()
    assert first is not None
    assert (first.count, first.has_before, first.has_after) == (5, False, True)
    middle = await world.views.devices(DeviceQuery(None, limit=2, after=first.lines[-1].record)).now()
    assert middle is not None
    assert [each.record.name for each in middle.lines] == ["dev-2", "dev-3"]
    assert (middle.has_before, middle.has_after) == (True, True)
    back = await world.views.devices(DeviceQuery(None, limit=2, before=middle.lines[0].record)).now()
    assert back is not None
    assert [each.record.name for each in back.lines] == ["dev-0", "dev-1"]
    assert (back.has_before, back.has_after) == (False, True)


async def test_a_device_is_shown_with_its_names_from_the_model_and_what_is_the_same_stays_the_same(
    world: World,
) -> None:
    record = await world.device("dev-1")
    await world.register(record)
    await world.send(record, 21.5)
    view = world.views.device(record.device_id)
    before = await view.now()
    assert before is not None
    assert [(each.path, each.object_name, each.name, each.value) for each in before.values] == [
        ("/3303/0/5700", "Temperature", "Sensor Value", "21.5"),
        ("/3303/0/5701", "Temperature", "Sensor Units", '"Cel"'),
    ]
    assert before.registration is not None
    assert before.registration.objects == ("/1/0", "/3/0", "/3303/0")
    assert [each.event for each in before.log] == ["registration"]
    world.clock.ms += 1000
    await world.send(record, 22)
    view.follow(lambda: None)
    await until(lambda: view.content is not before)
    after = view.content
    assert after is not None
    assert after.registration is before.registration
    assert after.log is before.log
    assert after.values[0].value == "22.0"
    assert len(after.messages) == len(before.messages) + 1


async def test_a_device_that_was_removed_is_no_content(world: World) -> None:
    record = await world.device("dev-1")
    view = world.views.device(record.device_id)
    changed: list[bool] = []
    view.follow(lambda: changed.append(view.content is None))
    await until(lambda: changed == [False])
    await world.store.remove_device(record.device_id)
    await until(lambda: changed == [False, True])


@pytest.mark.spec("Platform 12")
async def test_a_device_is_shown_with_its_bootstrap_sessions() -> None:
    world = World(every_s=0.0)
    record = await world.device("meter")
    view = world.views.device(record.device_id)
    first = await view.now()
    assert first is not None
    assert first.bootstraps == ()
    session = BootstrapSession(
        0, record.device_id, "meter", "udp://h:1", BootstrapTrigger.CLIENT, BootstrapState.REFUSED, NOW_MS
    )
    await world.store.put_bootstrap_session(session)
    second = await view.now()
    third = await view.now()
    assert second is not None
    assert third is not None
    assert [each.state for each in second.bootstraps] == [BootstrapState.REFUSED]
    assert third.bootstraps is second.bootstraps


async def test_who_is_kept_out_is_nobody_where_there_are_no_doors(world: World) -> None:
    assert await world.views.doors("default").now() == Doors(None, None)
