"""Builds the server of device management beside that of bootstrapping: its listeners, its keys, its use cases."""

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from stellwerk.app.brake import Brake
from stellwerk.app.channels import SecureChannels
from stellwerk.app.handlers.commands import Commands
from stellwerk.app.handlers.connections import Connections
from stellwerk.app.handlers.deregistering import forget_registration
from stellwerk.app.handlers.devices import Devices
from stellwerk.app.handlers.expiry import Expiry
from stellwerk.app.handlers.gateway_sends import GatewaySends
from stellwerk.app.handlers.gateways import Gateways, read_after_register
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.prolonging import Prolonging
from stellwerk.app.handlers.reading import Reading
from stellwerk.app.handlers.registering import Registering
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.listening import Listening
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Limits
from stellwerk.app.profiles import Profiles
from stellwerk.app.registry import Registry
from stellwerk.app.speaking import Speaking
from stellwerk.app.tasks import Tasks
from stellwerk.app.uplinks import Uplinks
from stellwerk.config import Settings
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.record import DeviceRecord
from stellwerk.dtls.tickets import TicketKey
from stellwerk.key_files import ServerKeys
from stellwerk.lwm2m.registration_parameters import Tolerances
from stellwerk.lwm2m.schema.library import Library
from stellwerk.net.clock import SystemClock
from stellwerk.southbound.listeners import Listeners
from stellwerk.southbound.secure_listener import SecureSettings
from stellwerk.southbound.stream_listener import StreamSettings
from stellwerk.storage.sqlite.store import SqliteStore
from stellwerk.storage.token_key import session_id_secret, ticket_secret

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class DeviceServer:
    """`build` it, then `listen`, then `begin`. What the rest of the server asks is in its fields; ``keys`` are None
    where there is no secure port."""

    settings: Settings
    tasks: Tasks
    clock: SystemClock
    listeners: Listeners
    keys: ServerKeys | None
    registry: Registry
    listening: Listening
    profiles: Profiles
    commands: Commands
    expiry: Expiry
    devices: Devices
    channels: SecureChannels

    @classmethod
    async def build(
        cls,
        settings: Settings,
        *,
        store: SqliteStore,
        tasks: Tasks,
        clock: SystemClock,
        entropy: Entropy,
        meters: Meters,
        library: Library,
        limits: Limits,
        brake: Brake,
        tenant_id: TenantId,
        secure: SecureSettings,
        streams: StreamSettings | None,
        tls: StreamSettings | None,
    ) -> "DeviceServer":
        """``tenant_id``: where devices are made that provision themselves. Raises `KeyFileUnusable`, `StoreTrouble`."""
        registry = Registry(store)
        prolonging = None
        if settings.uplinks_extend_lifetime:
            prolonging = Prolonging(store=store, clock=clock, grace_s=settings.expiry_grace_s)
        listening = Listening(tasks, prolonging)
        keys = None
        if settings.coaps_port is not None:
            keys = await asyncio.to_thread(ServerKeys.open, settings.data_dir, addresses=[settings.coap_host])
        listeners = Listeners(
            store=store,
            remembers=store.remembers,
            tasks=tasks,
            entropy=entropy,
            clock=clock,
            brake=brake,
            meters=meters,
            streams=streams,
            secure=secure,
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
        connections = Connections(
            store=store,
            registry=registry,
            link=link,
            grace_s=settings.expiry_grace_s,
            device_of=devices_of_sessions.get,
        )
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
            keys.changed = partial(_keys_changed, keys, listeners, devices, tasks)
            await devices.revoking.trust(keys.fingerprints())
            tasks.spawn("secure sessions", channels.sessions.run())
            tasks.spawn("server keys", keys.run())
        return cls(
            settings, tasks, clock, listeners, keys, registry, listening, profiles, commands, expiry, devices, channels
        )

    async def listen(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Where that became, without security and with it; empty where a port is off. Raises `CannotBind`."""
        settings, plain, secure = self.settings, [], []
        if settings.coap_port is not None:
            plain = await self.listeners.listen(settings.coap_host, settings.coap_port)
        if settings.coaps_port is not None:
            secure = await self.listeners.listen_secure(settings.coap_host, settings.coaps_port)
        return plain, secure

    async def begin(self) -> int:
        """Take up what was open, and keep it going; how many commands were open."""
        open_commands = await self.commands.recover()
        self.tasks.spawn("expiry", self.expiry.run())
        self.tasks.spawn("command expiry", self.commands.delivery.run_expiry())
        self.tasks.spawn("profiles", self.profiles.run())
        self.tasks.spawn("credentials", self.devices.revoking.run())
        if self.settings.auto_provision:
            log.warning(
                "auto_provision.on",
                patterns=list(self.settings.auto_provision),
                meaning="these may register without keys",
            )
        return open_commands

    def removed(self, device: DeviceRecord) -> None:
        """The device is gone."""
        self.channels.removed(device.device_id)
        known, now = self.registry.of(device.device_id), self.clock.instant()
        if known is not None:
            forget_registration(self.registry, self.listeners.links, self.listening, known.registration, now)
        self.commands.device_removed(device.device_id, now)


def _keys_changed(keys: ServerKeys, listeners: Listeners, devices: Devices, tasks: Tasks) -> None:
    if listeners.secure is not None:
        listeners.secure.replace_identity()
    if listeners.tls is not None:
        listeners.tls.replace_identity()
    tasks.spawn("authorities", devices.revoking.trust(keys.fingerprints()))
