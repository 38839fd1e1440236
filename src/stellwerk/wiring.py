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
from stellwerk.app.channels import SecureChannels
from stellwerk.app.device_operations import DeviceOperations
from stellwerk.app.fresh_keys import FreshKeys
from stellwerk.app.handlers.accounts import ADMINISTRATOR, SYSTEM_ADMINISTRATOR, Accounts
from stellwerk.app.handlers.commands import Commands
from stellwerk.app.handlers.connections import Connections
from stellwerk.app.handlers.deregistering import forget_registration
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.handlers.expiry import Expiry
from stellwerk.app.handlers.gateway_sends import GatewaySends
from stellwerk.app.handlers.gateways import Gateways, read_after_register
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.prolonging import Prolonging
from stellwerk.app.handlers.provisioning import Provisioning
from stellwerk.app.handlers.reading import Reading
from stellwerk.app.handlers.registering import Registering
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.listening import Listening
from stellwerk.app.live_models import LiveModels
from stellwerk.app.meters import Meters, Transport
from stellwerk.app.monitoring import Monitor
from stellwerk.app.ports import Limits, StoreFailing
from stellwerk.app.posting import Posting
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import AlreadyExists, NewDevice
from stellwerk.app.registry import Registry
from stellwerk.app.reports import Reports
from stellwerk.app.speaking import Speaking
from stellwerk.app.tasks import Tasks
from stellwerk.app.uplinks import Uplinks
from stellwerk.bootstrap_server import BootstrapServer
from stellwerk.config import Settings
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.bootstrap.configuration import BootstrapConfiguration
from stellwerk.device.profile import DEFAULT, ProfileRecord
from stellwerk.device.record import DeviceRecord
from stellwerk.dtls.tickets import TicketKey
from stellwerk.faces import Faces
from stellwerk.key_files import KeyFolder, ServerKeys
from stellwerk.lwm2m.registration_parameters import Tolerances
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
from stellwerk.storage.token_key import session_id_secret, ticket_secret
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

        registry = Registry(store)
        prolonging = None
        if settings.uplinks_extend_lifetime:
            prolonging = Prolonging(store=store, clock=clock, grace_s=settings.expiry_grace_s)
        listening = Listening(tasks, prolonging)
        keys = None
        if settings.coaps_port is not None:
            keys = await asyncio.to_thread(ServerKeys.open, settings.data_dir, addresses=[settings.coap_host])
        streams, tls, bootstrap_streams, bootstrap_tls = _stream_settings(settings)
        listeners = self._listeners = Listeners(
            store=store,
            remembers=store.remembers,
            tasks=tasks,
            entropy=entropy,
            clock=clock,
            brake=brake,
            meters=meters,
            streams=streams,
            secure=_secure_settings(settings),
            keys=keys,
            ticket_key=TicketKey(*ticket_secret(settings.data_dir)),
            id_secret=session_id_secret(settings.data_dir),
            ask_echo=settings.echo != "off",
            tls=tls,
            oscore=settings.oscore,
        )
        link = listeners.links
        profiles = Profiles(
            store=store,
            registry=registry,
            awake_s=settings.awake_s,
            queue_s=settings.queue_s,
            queue_length=settings.queue_length,
        )
        await profiles.refresh()
        turns = Turns(registry=registry, profiles=profiles, clock=clock, link=link)
        observations = Observations(store=store, registry=registry, clock=clock, link=turns)
        commands = Commands(
            store=store,
            registry=registry,
            library=library,
            observations=observations,
            tasks=tasks,
            clock=clock,
            entropy=entropy,
            link=link,
            limits=limits,
            profiles=profiles,
            turns=turns,
            grace_s=settings.expiry_grace_s,
            meters=meters,
        )
        reading = Reading(
            store=store,
            registry=registry,
            clock=clock,
            link=turns,
            objects=read_after_register(settings.auto_read, settings.gateway_end_devices),
            as_messages=settings.auto_read_messages,
        )
        devices_of_sessions: dict[PeerId, DeviceId] = {}
        registering = Registering(
            store=store,
            registry=registry,
            library=library,
            clock=clock,
            entropy=entropy,
            link=link,
            listener=listening,
            brake=brake,
            meters=meters,
            grace_s=settings.expiry_grace_s,
            auto_provision=settings.auto_provision,
            tenant_id=tenant_id,
            tolerances=Tolerances(
                missing_version="missing-version" in settings.tolerate,
                queue_in_binding="queue-in-binding" in settings.tolerate,
            ),
            prove_moves=settings.echo == "moves",
            speaking=Speaking(store, devices_of_sessions),
        )
        gateways = Gateways(
            store=store,
            registry=registry,
            library=library,
            observations=observations,
            reading=reading,
            tasks=tasks,
            clock=clock,
            entropy=entropy,
            link=turns,
            listener=listening,
            most=settings.gateway_end_devices,
        )
        uplinks = Uplinks(
            store=store,
            registry=registry,
            library=library,
            registering=registering,
            tasks=tasks,
            clock=clock,
            link=link,
            listener=listening,
            brake=brake,
            grace_s=settings.expiry_grace_s,
            gateway_sends=GatewaySends(store=store, gateways=gateways, tasks=tasks, listener=listening, brake=brake)
            if settings.gateway_end_devices
            else None,
        )
        expiry = Expiry(
            store=store,
            registry=registry,
            clock=clock,
            link=link,
            listener=listening,
            brake=brake,
            grace_s=settings.expiry_grace_s,
        )
        connections = Connections(store=store, registry=registry, link=link, grace_s=settings.expiry_grace_s)
        listening.connect(commands, observations, reading, turns, connections, gateways)
        observations.from_elsewhere = uplinks.moving.notified_from_elsewhere
        listeners.connect(uplinks, observations, listening.finished, listening.reacted, connections.lost)

        devices = Devices(
            store=store,
            registry=registry,
            clock=clock,
            link=link,
            listener=listening,
            relabel=commands.delivery.relabel,
        )
        devices.revoking.withdraw = commands.withdraw_all
        channels = SecureChannels(
            store=store,
            tasks=tasks,
            clock=clock,
            lines=registering.lines,
            meters=meters,
            devices=devices_of_sessions,
            dtls=None if listeners.secure is None else listeners.secure.peers,
            tls=None if listeners.tls is None else listeners.tls.peers,
            oscore=settings.oscore,
            per_tenant=settings.dtls_handshakes_per_tenant,
        )
        channels.connect(uplinks.moving.take_over, connections.lost, registering, devices.revoking)
        listeners.connect_channels(channels)
        if listeners.secure is not None and keys is not None and channels.sessions is not None:
            store.marks = listeners.secure.marks
            keys.changed = lambda: _keys_changed(keys, listeners, devices, tasks)
            await devices.revoking.trust(keys.fingerprints())
            tasks.spawn("secure sessions", channels.sessions.run())
            tasks.spawn("server keys", keys.run())
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
            server_keys=keys,
            issue=FreshKeys(KeyFolder(settings.data_dir).certify),
            brake=brake,
        )
        if bootstrap is not None:
            devices.revoking.bootstrap_revoked = bootstrap.revoked
        # Who lost its credentials while nobody listened is not let in by a session from before.
        await devices.revoking.look()

        # Sockets first: what was open leaves at once.
        if settings.coap_port is not None:
            self.bound.coap = await listeners.listen(settings.coap_host, settings.coap_port)
        if settings.coaps_port is not None:
            self.bound.coaps = await listeners.listen_secure(settings.coap_host, settings.coaps_port)
        if bootstrap is not None:
            await bootstrap.listen()
            self.bound.bootstrap_coap, self.bound.bootstrap_coaps = bootstrap.bound, bootstrap.bound_secure
        tasks.spawn("monitor", monitor.run())
        open_commands = await commands.recover()
        tasks.spawn("expiry", expiry.run())
        tasks.spawn("command expiry", commands.delivery.run_expiry())
        tasks.spawn("profiles", profiles.run())
        tasks.spawn("retention", retain(store, clock, settings.dtls_session_days))
        tasks.spawn("models", models.run())
        tasks.spawn("credentials", devices.revoking.run())
        if settings.auto_provision:
            log.warning(
                "auto_provision.on", patterns=list(settings.auto_provision), meaning="these may register without keys"
            )

        def removed(device: DeviceRecord) -> None:
            channels.removed(device.device_id)
            if bootstrap is not None:
                bootstrap.removed(device.device_id)
            known = registry.of(device.device_id)
            if known is not None:
                forget_registration(registry, link, listening, known.registration, clock.instant())
            commands.device_removed(device.device_id, clock.instant())

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
            registrations=lambda: len(registry),
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
                profiles=profiles,
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
            coap_tls="off" if listeners.tls is None else listeners.tls.offers(),
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


def _keys_changed(keys: ServerKeys, listeners: Listeners, devices: Devices, tasks: Tasks) -> None:
    if listeners.secure is not None:
        listeners.secure.replace_identity()
    if listeners.tls is not None:
        listeners.tls.replace_identity()
    tasks.spawn("authorities", devices.revoking.trust(keys.fingerprints()))


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
