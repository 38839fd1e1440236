"""What people watch: contents read at most once a second, once for all who look at the same, and only while somebody
does (design §5: readers must not slow an acknowledgement)."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import structlog

from stellwerk.app.bootstrap_sight import BootstrapSight, RefusedPeer, recent_sessions
from stellwerk.app.failures import Security
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.profiles import Profiles
from stellwerk.app.reading_ports import DeviceDirectory, ProjectedStore
from stellwerk.app.records import DeviceState, LogLine, MessageRecord, StoredValue
from stellwerk.app.security_facts import NOTHING, SecurityFacts, read_security
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.bootstrap.history import BootstrapSession
from stellwerk.device.command import Command, Step
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.schema.library import DeviceTypes, Library
from stellwerk.lwm2m.value import ResourceType

log = structlog.get_logger(__name__)

T = TypeVar("T")

EVERY_S: Final = 1.0
"""How often a view is read while somebody follows it."""
SHARE: Final = 10
"""A view that is slow to read rests this many times as long as reading took."""
DIRECTORY_EVERY_S: Final = 5.0
"""How often a page of the device list looks for devices that came or went."""
COUNT_AT_MOST: Final = 10_000
MESSAGES: Final = 30
LOG_LINES: Final = 50
COMMANDS: Final = 20
QUEUE: Final = 1_000
"""Of so many commands that wait the places are shown."""

Standing: TypeAlias = Literal["registered", "asleep", "expired", "deregistered", "never"]


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """Which page of the device list: as `DeviceDirectory.page` takes it."""

    tenant_id: TenantId | None
    text: str = ""
    limit: int = 50
    after: DeviceRecord | None = None
    before: DeviceRecord | None = None


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """One device of a list. Times are UTC ms, 0 = never."""

    record: DeviceRecord
    standing: Standing
    last_seen_ms: int = 0
    registered_ms: int = 0


@dataclass(frozen=True, slots=True)
class DeviceList:
    """``count``: how many devices the query finds on all pages; `COUNT_AT_MOST` stands for that many or more."""

    lines: tuple[DeviceLine, ...] = ()
    count: int = 0
    has_before: bool = False
    has_after: bool = False


@dataclass(frozen=True, slots=True)
class ValueLine:
    """``value`` is JSON text; of a time, UTC milliseconds. The names are the object model's, empty where no model knows
    the path."""

    path: str
    object_name: str
    name: str
    units: str
    value: str
    time_ms: int
    is_time: bool = False


@dataclass(frozen=True, slots=True)
class RegistrationFacts:
    """What a registered device said of itself; ``objects`` are paths as it listed them."""

    endpoint_name: str
    address: str
    version: str
    lifetime_s: int
    binding: str
    queue_mode: bool
    objects: tuple[str, ...]
    secure: bool = False
    """Whether it came over a secure session; ``address`` names that then."""
    oscore: bool = False
    """Whether it protects its messages with OSCORE; ``address`` names the context then."""


@dataclass(frozen=True, slots=True)
class DeviceDetail:
    """Everything the page of one device shows. Messages, log and commands are newest first. A part that did not change
    is the same object as in the reading before."""

    line: DeviceLine
    registration: RegistrationFacts | None = None
    values: tuple[ValueLine, ...] = ()
    messages: tuple[MessageRecord, ...] = ()
    log: tuple[LogLine, ...] = ()
    commands: tuple[Command, ...] = ()
    queue: tuple[int, ...] = ()
    """Numbers of the commands that were not sent yet, in the order in which they leave."""
    security: SecurityFacts = NOTHING
    bootstraps: tuple[BootstrapSession, ...] = ()
    """Newest first."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Who is kept out, and of secure sessions how many are in: ``secure`` None where device management has no secure
    port, ``bootstrap`` None where there is no bootstrap server."""

    secure: Security | None
    bootstrap: tuple[RefusedPeer, ...] | None


class View(Generic[T]):
    """A content that is read again and again while somebody follows it. ``content`` is None before the first reading
    and where there is nothing to show; ``trouble`` says why the last reading failed, empty when it did not."""

    def __init__(self, name: str, read: Callable[[], Awaitable[T | None]], tasks: Tasks, every_s: float) -> None:
        self._name = name
        self._read = read
        self._tasks = tasks
        self._every_s = every_s
        self._followers: dict[int, Callable[[], None]] = {}
        self._last_follower = 0
        self._running = False
        self._turn = asyncio.Lock()
        self._read_at = float("-inf")
        self.content: T | None = None
        self.trouble = ""

    async def now(self) -> T | None:
        """The content, read unless somebody did within the last second."""
        if asyncio.get_running_loop().time() - self._read_at >= self._every_s:
            await self._refresh()
        return self.content

    def follow(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` after every reading that brought something new; the result ends that."""
        self._last_follower += 1
        number = self._last_follower
        self._followers[number] = changed
        if not self._running:
            self._running = self._tasks.spawn(self._name, self._keep_reading())
        return lambda: _void(self._followers.pop(number, None))

    @property
    def followers(self) -> int:
        return len(self._followers)

    async def _keep_reading(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._followers:
                started = loop.time()
                if await self._refresh():
                    self._tell()
                spent = loop.time() - started
                await asyncio.sleep(max(self._every_s - spent, SHARE * spent))
        finally:
            self._running = False

    async def _refresh(self) -> bool:
        """True where content or trouble is another one now."""
        async with self._turn:
            before = self.content, self.trouble
            try:
                self.content = await self._read()
                self.trouble = ""
            except Exception as error:
                if not self.trouble:
                    log.exception("view.unreadable", view=self._name)
                self.trouble = str(error) or type(error).__name__
            self._read_at = asyncio.get_running_loop().time()
            return (self.content, self.trouble) != before

    def _tell(self) -> None:
        for changed in list(self._followers.values()):
            try:
                changed()
            except Exception:
                log.exception("view.follower_failed", view=self._name)


class Views:
    """Hands out views; who asks for the same while another holds it gets that one."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        projected: ProjectedStore,
        directory: DeviceDirectory,
        library: Library,
        clock: Clock,
        tasks: Tasks,
        profiles: Profiles,
        security: Callable[[str | None], Security] | None = None,
        bootstrap: BootstrapSight | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        """``profiles`` say how long after its last message a device that sleeps is taken to listen. ``security``: of
        secure sessions, by tenant; None where there are none. ``bootstrap`` None: there is no bootstrap server."""
        self._store = store
        self._projected = projected
        self._directory = directory
        self._library = library
        self._clock = clock
        self._tasks = tasks
        self._profiles = profiles
        self._security = security
        self._bootstrap = bootstrap
        self._every_s = every_s
        self._views: WeakValueDictionary[Hashable, View[Any]] = WeakValueDictionary()

    def devices(self, query: DeviceQuery) -> View[DeviceList]:
        """A page of the device list."""
        return self._view(query, "view of devices", lambda: _ListReader(self, query).read)

    def device(self, device_id: DeviceId) -> View[DeviceDetail]:
        """One device; the content is None once there is no such device."""
        return self._view(device_id, f"view of device {device_id}", lambda: _DetailReader(self, device_id).read)

    def doors(self, tenant: str | None) -> View[Doors]:
        """As somebody of ``tenant`` may see them, of all tenants for None."""

        async def read() -> Doors:
            return Doors(
                None if self._security is None else self._security(tenant),
                None if self._bootstrap is None else self._bootstrap.refused(tenant),
            )

        return self._view(("doors", tenant), "view of who is kept out", lambda: read)

    def _view(self, key: Hashable, name: str, reader: Callable[[], Callable[[], Awaitable[T | None]]]) -> View[T]:
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(name, reader(), self._tasks, self._every_s)
        return view

    # -- for the readers --

    def line(self, record: DeviceRecord, state: DeviceState | None, queue_mode: bool) -> DeviceLine:
        """What a list says of a device."""
        if state is None:
            return DeviceLine(record, "never")
        standing: Standing = "never"
        match state.status:
            case "registered":
                silent_s = (self._clock.wall_ms() - state.last_seen_ms) / 1000
                sleeps = self._profiles.of(record).sleeps(queue_mode)
                standing = "asleep" if sleeps and silent_s > self._profiles.window_s(record) else "registered"
            case "expired":
                standing = "expired"
            case "deregistered":
                standing = "deregistered"
        return DeviceLine(record, standing, state.last_seen_ms, state.registered_ms)


class _ListReader:
    def __init__(self, views: Views, query: DeviceQuery) -> None:
        self._views = views
        self._query = query
        self._list = DeviceList()
        self._records: tuple[DeviceRecord, ...] = ()
        self._next_look = float("-inf")
        self._queue_modes: dict[DeviceId, tuple[int, bool]] = {}
        """With the time of the registration that said so."""

    async def read(self) -> DeviceList:
        views = self._views
        loop = asyncio.get_running_loop()
        if (started := loop.time()) >= self._next_look:
            await self._look()
            self._next_look = loop.time() + max(DIRECTORY_EVERY_S, SHARE * (loop.time() - started))
        states = await views._projected.recent_states([each.device_id for each in self._records])
        by_id = {each.device_id: each for each in states}
        lines = []
        for record in self._records:
            state = by_id.get(record.device_id)
            lines.append(views.line(record, state, await self._queue_mode(state)))
        found = self._list
        self._list = DeviceList(tuple(lines), found.count, found.has_before, found.has_after)
        return self._list

    async def _look(self) -> None:
        query, directory = self._query, self._views._directory
        backwards = query.before is not None
        found = tuple(
            await directory.page(query.tenant_id, query.text, query.limit + 1, after=query.after, before=query.before)
        )
        further = len(found) > query.limit
        if further:
            found = found[1:] if backwards else found[: query.limit]
        count = await directory.count(query.tenant_id, query.text, COUNT_AT_MOST)
        self._records = found
        self._list = DeviceList(
            (),
            count,
            has_before=further if backwards else query.after is not None,
            has_after=backwards or further,
        )

    async def _queue_mode(self, state: DeviceState | None) -> bool:
        """Asked of the store once for each registration."""
        if state is None or state.status != "registered":
            return False
        known = self._queue_modes.get(state.device_id)
        if known is None or known[0] != state.registered_ms:
            # A page of many such questions lets others have their turn.
            await asyncio.sleep(0)
            registration = await self._views._store.registration_of(state.device_id)
            known = (state.registered_ms, registration is not None and registration.queue_mode)
            self._queue_modes[state.device_id] = known
        return known[1]


class _DetailReader:
    def __init__(self, views: Views, device_id: DeviceId) -> None:
        self._views = views
        self._device_id = device_id
        self._detail: DeviceDetail | None = None
        self._seq = -1
        self._tag = -1
        self._state: DeviceState | None = None
        self._queue_mode = False
        self._stored: tuple[StoredValue, ...] = ()

    async def read(self) -> DeviceDetail | None:
        views, device_id = self._views, self._device_id
        record = await views._store.device(device_id)
        if record is None:
            self._detail, self._seq, self._tag = None, -1, -1
            return None
        detail = self._detail or DeviceDetail(views.line(record, None, False))
        registration, values, messages, lines = detail.registration, detail.values, detail.messages, detail.log
        # What is projected cannot have changed before the projector moved.
        if (seq := await views._projected.projected_seq()) != self._seq:
            self._state = await views._projected.state_of(device_id)
            stored = await views._store.registration_of(device_id)
            self._queue_mode = stored is not None and stored.queue_mode
            registration = _same(registration, None if stored is None else _facts(stored))
            values = await self._values(values, stored, record.tenant)
            if (tag := (await views._projected.received_state(device_id)).state_tag) != self._tag:
                messages = tuple(await views._projected.received_messages(device_id, MESSAGES, 0))
                self._tag = tag
            lines = _same(lines, tuple(await views._projected.device_log(device_id, LOG_LINES)))
            self._seq = seq
        commands = _same(detail.commands, tuple(await views._store.recent_commands(device_id, COMMANDS)))
        waits = any(each.step is Step.QUEUED for each in commands)
        queued = await views._store.queued_commands(device_id, QUEUE) if waits else ()
        queue = _same(detail.queue, tuple(command_id for command_id, _ in queued))
        security = _same(detail.security, await read_security(views._store, device_id, detail.security))
        under_way = None if views._bootstrap is None else views._bootstrap.under_way(device_id)
        bootstraps = _same(detail.bootstraps, await recent_sessions(views._store, device_id, under_way))
        line = _same(detail.line, views.line(record, self._state, self._queue_mode))
        self._detail = DeviceDetail(line, registration, values, messages, lines, commands, queue, security, bootstraps)
        return self._detail

    async def _values(
        self, before: tuple[ValueLine, ...], registration: Registration | None, tenant: str
    ) -> tuple[ValueLine, ...]:
        stored = tuple(await self._views._projected.current_values(self._device_id))
        if stored == self._stored and before:
            return before
        self._stored = stored
        library = self._views._library
        types = registration.types if registration is not None else library.for_device("1.1", {}, tenant)
        return tuple(sorted((_value_line(each, types) for each in stored), key=_by_path))


def _value_line(stored: StoredValue, types: DeviceTypes) -> ValueLine:
    object_name = name = units = ""
    try:
        path = Path.parse(stored.path)
    except PathError:
        path = Path()
    if path:
        model = types.object(path[0])
        object_name = model.name if model is not None else ""
        if (resource := types.resource(path)) is not None:
            name, units = resource.name, resource.units
    is_time = len(path) > 2 and types.resource_type(path) is ResourceType.TIME
    return ValueLine(stored.path, object_name, name, units, stored.value, stored.time_ms, is_time)


def _by_path(line: ValueLine) -> tuple[int, ...]:
    """Numbers in order: /3/0/10 comes after /3/0/9."""
    return tuple(int(each) if each.isdecimal() else -1 for each in line.path.strip("/").split("/"))


def _facts(registration: Registration) -> RegistrationFacts:
    peer = registration.peer
    objects = tuple(
        f"/{number}" + (f"/{instance}" if instance is not None else "")
        for number, listed in sorted(registration.objects.objects.items())
        for instance in (listed.instances or (None,))
    )
    return RegistrationFacts(
        registration.endpoint_name,
        str(peer) if peer.is_session or peer.is_context else f"{peer.remote_host}:{peer.remote_port}",
        registration.version,
        registration.lifetime_s,
        registration.binding,
        registration.queue_mode,
        objects,
        peer.carrier in ("dtls", "tls"),
        peer.is_context,
    )


def _same(before: T, now: T) -> T:
    """The object from before where it says the same."""
    return before if before == now else now


def _void(_: object) -> None:
    """For lambdas whose result nobody wants."""
