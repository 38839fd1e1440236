"""The one place where the parts meet: builds a server out of settings, starts it in order and stops it in order."""

import asyncio
import contextlib
import gc
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from stellwerk.app.brake import Bounds, Brake
from stellwerk.app.device_operations import DeviceOperations
from stellwerk.app.fresh_keys import FreshKeys
from stellwerk.app.handlers.accounts import ADMINISTRATOR, SYSTEM_ADMINISTRATOR, Accounts
from stellwerk.app.handlers.provisioning import Provisioning
from stellwerk.app.live_models import LiveModels
from stellwerk.app.meters import Meters, Transport
from stellwerk.app.monitoring import Monitor
from stellwerk.app.ports import Limits, StoreFailing
from stellwerk.app.posting import Posting
from stellwerk.app.records import AlreadyExists, NewDevice
from stellwerk.app.reports import Reports
from stellwerk.app.tasks import Tasks
from stellwerk.bootstrap_server import BootstrapServer
from stellwerk.config import Settings
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.device_server import DeviceServer
from stellwerk.faces import Faces
from stellwerk.key_files import KeyFolder
from stellwerk.lwm2m.schema.library import Library
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.northbound.auth import Access
from stellwerk.northbound.rest.metrics import Sources
from stellwerk.southbound.bootstrap_listeners import BootstrapListeners
from stellwerk.southbound.listeners import Listeners
from stellwerk.southbound.secure_listener import SecureSettings
from stellwerk.southbound.stream_listener import StreamSettings, within_open_files
from stellwerk.storage.lock import DataDirUnusable, DirectoryLock
from stellwerk.storage.migrations import migrate
from stellwerk.storage.projector_process import ProjectorProcess
from stellwerk.storage.resealing import find_unreadable
from stellwerk.storage.retention import retain
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.vault import Vault

log = structlog.get_logger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How often threads hand over the interpreter: the store's writer must not wait 5 ms for a busy loop (design §5)."""

COLLECTOR_THRESHOLDS = (50_000, 50, 1_000)
"""What an uplink leaves behind has no cycles, and each look of the collector at the oldest generation costs time for
every registered device: with the interpreter's defaults it took half of an Update. Cycles are still found, later."""


class NotStarted(UserError):
    """The server was asked for ``what`` before it was started."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"there are no {what} before the server is started; await its start() first")


@dataclass(slots=True)
class Bound:
    """Where the listeners stand; a port is 0 where there is none."""

    coap: list[tuple[str, int]] = field(default_factory=list)
    coaps: list[tuple[str, int]] = field(default_factory=list)
    bootstrap_coap: list[tuple[str, int]] = field(default_factory=list)
    bootstrap_coaps: list[tuple[str, int]] = field(default_factory=list)
    http_host: str = ""
    http_port: int = 0


class Server:
    """All roles in one process. `start`, then `stop` within seconds; what was acknowledged is on disk."""

    def __init__(self, settings: Settings, tokens: Mapping[str, Access] | None = None) -> None:
        """``tokens``: bearer tokens besides the configured one."""
        self._settings = settings
        self._tokens = dict(tokens or {})
        self.bound = Bound()
        self.generated_password: str | None = None
        """Of the accounts that the first start made, where no setting names one: to be shown once."""
        self._ready = False
        self._tasks = Tasks()
        self._clock = SystemClock()
        self._meters = Meters(self._clock.now)
        self._monitor: Monitor | None = None
        self._listeners: Listeners | None = None
        self._bootstrap: BootstrapServer | None = None
        self._lock: DirectoryLock | None = None
        self._store: SqliteStore | None = None
        self._projector: ProjectorProcess | None = None
        self._faces: Faces | None = None
        self._operations: DeviceOperations | None = None

    @property
    def operations(self) -> DeviceOperations:
        """What programs ask the devices of the configured tenant. Raises `NotStarted`."""
        if self._operations is None:
            raise NotStarted("operations")
        return self._operations

    async def start(self) -> None:
        """Open the store, listen to devices, take up what was open, then listen to people. Raises `UserError` for what
        the operator can mend."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        try:
            await self._start()
        except BaseException as error:
            await self.stop()
            if isinstance(error, StoreFailing | sqlite3.OperationalError):
                # A full disk, most likely; nobody needs to see where in the code.
                raise DataDirUnusable(self._settings.data_dir, str(error)) from error
            raise

    async def stop(self) -> None:
        """Take nothing more in, finish what is being stored, answer it, close."""
        self._ready = False
        if self._operations is not None:
            self._operations.close()
            self._operations = None
        for listeners in self._all_listeners():
            listeners.stop_reading()
        if self._faces is not None:
            await self._faces.stop()
        await self._tasks.close()
        if self._faces is not None:
            await self._faces.close()
        # What closing commits is still answered: the sockets go last.
        if self._store is not None:
            await self._store.close()
        await asyncio.sleep(0)
        for listeners in self._all_listeners():
            listeners.close()
        if self._projector is not None:
            await self._projector.stop()
        if self._lock is not None:
            self._lock.release()

    async def provision(self, devices: Iterable[NewDevice]) -> None:
        """Make devices in the configured tenant; one that exists already stays as it is."""
        assert self._store is not None
        tenant_id = await self._store.ensure_tenant(self._settings.tenant, self._clock.wall_ms())
        for each in devices:
            with contextlib.suppress(AlreadyExists):
                await self._store.create_device(tenant_id, replace(each, created_ms=self._clock.wall_ms()))

    async def give_when_bootstrapped(self, profile: str, configuration: BootstrapConfiguration) -> None:
        """Say what devices of a profile of the configured tenant are given when they bootstrap; the profile is made if
        there is none."""
        assert self._store is not None
        now_ms = self._clock.wall_ms()
        tenant_id = await self._store.ensure_tenant(self._settings.tenant, now_ms)
        known = await self._store.profile(tenant_id, profile)
        record = known or ProfileRecord(tenant_id, profile, DEFAULT, now_ms, now_ms)
        await self._store.put_profile(replace(record, modified_ms=now_ms, bootstrap=configuration))

    async def _start(self) -> None:
        settings = self._settings
        clock, entropy, tasks = self._clock, SystemEntropy(), self._tasks
        limits = Limits(settings.container_mni, settings.container_mbs)
        library = Library.builtin().with_models()

        # Two writers of one journal would give two entries the same number: nobody looks at the files without the lock.
        self._lock = DirectoryLock.take(settings.data_dir)
        for done in await asyncio.to_thread(migrate, settings.data_dir):
            log.info("store.migrated", what=done)
        vault = Vault.load(settings.data_dir, settings.master_key or None, settings.master_key_old)
        unreadable = await asyncio.to_thread(find_unreadable, settings.data_dir, vault)
        if unreadable is not None:
            log.error("master_key.does_not_fit", detail=str(unreadable), meaning="such devices cannot make a handshake")
        meters = self._meters
        store = self._store = await SqliteStore.open(
            settings.data_dir, vault=vault, library=library, limits=limits, meters=meters
        )
        tenant_id = await store.ensure_tenant(settings.tenant, clock.wall_ms())
        models = LiveModels(store=store, library=library, clock=clock)
        await models.load()
        projector = self._projector = ProjectorProcess(settings.data_dir, limits)
        await projector.start()
        store.on_commit = projector.wake
        brake = Brake(entropy, Bounds(lag_s=settings.brake_lag_s))
        monitor = self._monitor = Monitor(
            store=store,
            projected=store.projection,
            brake=brake,
            clock=clock,
            restart_projector=projector.restart,
        )

        streams, tls, bootstrap_streams, bootstrap_tls = _stream_settings(settings)
        server = await DeviceServer.build(
            settings,
            store=store,
            tasks=tasks,
            clock=clock,
            entropy=entropy,
            meters=meters,
            library=library,
            limits=limits,
            brake=brake,
            tenant_id=tenant_id,
            secure=_secure_settings(settings),
            streams=streams,
            tls=tls,
        )
        self._listeners = server.listeners
        commands, devices, channels = server.commands, server.devices, server.channels
        bootstrap = self._bootstrap = await BootstrapServer.build(
            settings,
            store=store,
            tasks=tasks,
            clock=clock,
            entropy=entropy,
            meters=meters,
            secure=_secure_settings(settings),
            streams=bootstrap_streams,
            tls=bootstrap_tls,
            server_keys=server.keys,
            issue=FreshKeys(KeyFolder(settings.data_dir).certify),
            brake=brake,
        )
        if bootstrap is not None:
            devices.revoking.bootstrap_revoked = bootstrap.revoked
        # Who lost its credentials while nobody listened is not let in by a session from before.
        await devices.revoking.look()

        # Sockets first: what was open leaves at once.
        self.bound.coap, self.bound.coaps = await server.listen()
        if bootstrap is not None:
            await bootstrap.listen()
            self.bound.bootstrap_coap, self.bound.bootstrap_coaps = bootstrap.bound, bootstrap.bound_secure
        tasks.spawn("monitor", monitor.run())
        open_commands = await server.begin()
        tasks.spawn("retention", retain(store, clock, settings.dtls_session_days))
        tasks.spawn("models", models.run())

        def removed(device: DeviceRecord) -> None:
            if bootstrap is not None:
                bootstrap.removed(device.device_id)
            server.removed(device)

        provisioning = Provisioning(
            store=store,
            clock=clock,
            entropy=entropy,
            spawn=lambda work: tasks.spawn("provisioning", work),
            removed=removed,
            allow_nosec=settings.allow_nosec,
        )
        tasks.spawn("provisioning resumed", provisioning.resume(tenant_id))
        accounts = Accounts(store, clock)
        self.generated_password = await accounts.ensure_first(settings.tenant, settings.admin_password or None)
        posting = Posting(store=store, commands=commands, clock=clock, tenant_id=tenant_id)
        self._operations = DeviceOperations(posting, Reports(store=store, projected=store.projection, tasks=tasks))
        sources = Sources(
            meters=meters,
            monitor=monitor,
            condition=store.condition,
            transport=self._transport,
            registrations=lambda: len(server.registry),
            commands=lambda: (len(commands.delivery) - commands.delivery.in_flight, commands.delivery.in_flight),
            projector=lambda: (projector.pid, projector.restarts, store.projection.failures()),
        )
        security = channels.summary if settings.oscore or channels.sessions is not None else None
        if settings.http_port is not None:
            faces = self._faces = Faces(
                settings,
                store=store,
                library=library,
                tasks=tasks,
                clock=clock,
                entropy=entropy,
                meters=meters,
                tokens=self._tokens,
                limits=limits,
                ready=self._missing,
                banner=monitor.notice,
            )
            await faces.start(
                commands=commands,
                profiles=server.profiles,
                provisioning=provisioning,
                devices=devices,
                accounts=accounts,
                sources=sources,
                port=settings.http_port,
                security=security,
                bootstrap=None if bootstrap is None else bootstrap.sight,
            )
            self.bound.http_host, self.bound.http_port = faces.host, faces.port
        # What lives as long as the process need not be looked at again.
        gc.collect()
        gc.freeze()
        self._ready = True
        log.info(
            "server.ready",
            coap=[f"{host}:{port}" for host, port in self.bound.coap],
            coaps=[f"{host}:{port}" for host, port in self.bound.coaps],
            bootstrap_coap=[f"{host}:{port}" for host, port in self.bound.bootstrap_coap],
            bootstrap_coaps=[f"{host}:{port}" for host, port in self.bound.bootstrap_coaps],
            coap_tcp="on" if settings.coap_tcp else "off",
            coap_tls=next((each.tls.offers() for each in self._all_listeners() if each.tls is not None), "off"),
            http=f"{self.bound.http_host}:{self.bound.http_port}" if self._faces is not None else "off",
            devices_with_open_commands=open_commands,
        )

    def _all_listeners(self) -> list[Listeners | BootstrapListeners]:
        found: list[Listeners | BootstrapListeners] = []
        if self._listeners is not None:
            found.append(self._listeners)
        if self._bootstrap is not None:
            found.append(self._bootstrap.listeners)
        return found

    def _transport(self) -> Transport:
        figures = Transport()
        for listeners in self._all_listeners():
            figures.add(listeners.transport())
        return figures

    async def _missing(self) -> list[str]:
        missing = []
        if not self._ready:
            missing.append("listeners are not bound yet")
        for listeners in self._all_listeners() if self._ready else ():
            missing += listeners.missing()
        if self._monitor is not None:
            missing += self._monitor.missing()
        if self._projector is None or not self._projector.alive:
            missing.append("the projector does not run")
        return missing


def _stream_settings(settings: Settings) -> tuple[StreamSettings | None, ...]:
    """Of TCP and TLS, and of both at the bootstrap server; None where there is none."""
    each = StreamSettings(settings.coap_tcp_connections, settings.coap_tcp_per_address, settings.coap_tcp_ping_s)
    wanted = (
        settings.coap_tcp and settings.coap_port is not None,
        settings.coap_tls and settings.coaps_port is not None,
        settings.coap_tcp and settings.bootstrap_coap_port is not None,
        settings.coap_tls and settings.bootstrap_coaps_port is not None,
    )
    return within_open_files(*(each if is_wanted else None for is_wanted in wanted))


def _secure_settings(settings: Settings) -> SecureSettings:
    return SecureSettings(
        cid=settings.dtls_cid,
        cid_code_points=settings.dtls_cid_code_points,
        cbc=settings.dtls_cbc,
        clockless=settings.dtls_clockless,
        session_days=settings.dtls_session_days,
        sessions=settings.dtls_sessions,
        half_open=settings.dtls_half_open,
        per_address=settings.dtls_handshakes_per_address,
        with_certificates=settings.dtls_handshakes_with_certificates,
        node_id=settings.node_id,
    )


def announce_password(password: str) -> None:
    """Say it once, to whoever watches the first start; no log keeps it."""
    sys.stderr.write(
        f"\nSign in as {ADMINISTRATOR} or {SYSTEM_ADMINISTRATOR} with the password {password}\n"
        "It is shown this once; STELLWERK_ADMIN_PASSWORD gives both another.\n\n"
    )
    sys.stderr.flush()


async def run(server: Server, stop: asyncio.Event) -> None:
    """Start, wait for ``stop``, stop."""
    await server.start()
    if server.generated_password is not None:
        announce_password(server.generated_password)
    try:
        await stop.wait()
    finally:
        log.info("server.stopping")
        await server.stop()
        log.info("server.stopped")
