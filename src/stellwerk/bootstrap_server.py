"""Builds the bootstrap server beside that of device management: its listeners, its keys, its use case."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from stellwerk.app.bootstrap_accounts import BootstrapAccounts, Issue
from stellwerk.app.bootstrap_admission import BootstrapAdmission
from stellwerk.app.bootstrap_history import BootstrapHistory
from stellwerk.app.bootstrap_sight import BootstrapSight
from stellwerk.app.brake import Brake
from stellwerk.app.failures import Failures
from stellwerk.app.handlers.bootstrap_channels import BootstrapChannels, ChannelTable
from stellwerk.app.handlers.bootstrap_connections import BootstrapConnections
from stellwerk.app.handlers.bootstrap_conversations import BootstrapConversations
from stellwerk.app.handlers.bootstrap_sessions import BootstrapSessions
from stellwerk.app.handlers.bootstrapping import Bootstrapping
from stellwerk.app.handlers.enrolling import Authority, Enrolling
from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.meters import Meters, Transport
from stellwerk.app.ports import DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.config import Settings
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import DeviceId
from stellwerk.device.bootstrap.account import ServerMaterial
from stellwerk.device.key_material import der_of, spki_of
from stellwerk.device.record import DeviceRecord
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.key_files import BOOTSTRAP, SERVER, KeyFolder, ServerKeys
from stellwerk.net.clock import SystemClock
from stellwerk.southbound.bootstrap_listeners import BootstrapListeners
from stellwerk.southbound.secure_listener import SecureSettings
from stellwerk.southbound.stream_listener import StreamSettings

log = structlog.get_logger(__name__)


class BootstrapServer:
    """`build` it, then `listen`. ``bound`` and ``bound_secure``: where it listens."""

    def __init__(
        self,
        settings: Settings,
        listeners: BootstrapListeners,
        bootstrapping: Bootstrapping,
        channels: list[BootstrapChannels[Any]],
        contexts: OscoreContexts | None,
        sight: BootstrapSight,
    ) -> None:
        self._settings = settings
        self.listeners = listeners
        self.bootstrapping = bootstrapping
        self.channels = channels
        self.contexts = contexts
        self.sight = sight
        self.bound: list[tuple[str, int]] = []
        self.bound_secure: list[tuple[str, int]] = []

    @classmethod
    async def build(
        cls,
        settings: Settings,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: SystemClock,
        entropy: Entropy,
        meters: Meters,
        secure: SecureSettings,
        streams: StreamSettings | None,
        tls: StreamSettings | None,
        server_keys: ServerKeys | None,
        issue: Issue | None,
        brake: Brake,
    ) -> "BootstrapServer | None":
        """None where both ports are off. ``streams`` and ``tls``: bounds of connections, None for none; they are of no
        effect where their port is off. ``server_keys``: those of device management, None where it has no secure
        port. Raises `KeyFileUnusable`, `StoreTrouble`."""
        interrupted = await store.interrupt_bootstrap_sessions(clock.wall_ms())
        if interrupted:
            log.warning("bootstrap.interrupted", sessions=interrupted, meaning="the server stopped in the middle")
        plain, over_dtls = settings.bootstrap_coap_port is not None, settings.bootstrap_coaps_port is not None
        if not plain and not over_dtls:
            return None
        keys = None
        if over_dtls:
            # Its key pair is not that of device management (SEC-8).
            keys = await asyncio.to_thread(ServerKeys.open, settings.data_dir, BOOTSTRAP, [settings.coap_host])
            if (
                server_keys is not None
                and _material(keys.identity).public_key == _material(server_keys.identity).public_key
            ):
                log.error(
                    "keys.not_apart",
                    meaning="the bootstrap server has the key pair of the server of devices; "
                    "make it another: stellwerk keys make --bootstrap --force",
                )
        listeners = BootstrapListeners(
            entropy=entropy,
            clock=clock,
            plain=plain,
            secure=secure if over_dtls else None,
            keys=keys,
            meters=meters,
            streams=streams,
            tls=tls,
            ask_echo=settings.echo != "off",
            oscore=settings.oscore,
        )
        lines = RareLines(store)
        table = ChannelTable(Failures(tasks=tasks, lines=lines))
        channels: list[BootstrapChannels[Any]] = []
        if listeners.secure is not None:
            sessions = BootstrapSessions(
                store=store,
                tasks=tasks,
                clock=clock,
                link=listeners.secure.peers,
                lines=lines,
                meters=meters.secure,
                table=table,
                per_tenant=settings.dtls_handshakes_per_tenant,
            )
            listeners.secure.peers.connect(sessions)
            channels.append(sessions)
        if listeners.tls is not None:
            connections = BootstrapConnections(
                store=store,
                tasks=tasks,
                clock=clock,
                link=listeners.tls.peers,
                lines=lines,
                meters=meters.tls,
                table=table,
                per_tenant=settings.dtls_handshakes_per_tenant,
            )
            listeners.tls.peers.connect(connections)
            channels.append(connections)
        if keys is not None:
            keys.changed = partial(_keys_changed, listeners, channels)
            tasks.spawn("bootstrap server keys", keys.run())
        for each in channels:
            tasks.spawn("bootstrap sessions", each.run())
        folder = KeyFolder(settings.data_dir)
        accounts = BootstrapAccounts(store, own_material(folder, server_keys, keys), issue)
        contexts = None
        if settings.oscore:
            contexts = OscoreContexts(
                store=store,
                tasks=tasks,
                failures=table.failures,
                meters=meters.oscore,
                devices=table.devices,
                promoting=None,
                is_bootstrap=True,
            )
            listeners.links.speak_oscore(contexts)
        history = BootstrapHistory(store, lines, meters.bootstrap, table.whence)
        bootstrapping = Bootstrapping(
            store=store,
            tasks=tasks,
            clock=clock,
            link=listeners.links,
            admission=BootstrapAdmission(store, table.devices, table.identities),
            accounts=accounts,
            history=history,
            conversations=BootstrapConversations(
                store=store, tasks=tasks, clock=clock, link=listeners.links, history=history
            ),
            enrolling=Enrolling(store, accounts, Authority(folder.authority, folder.enrol)),
            meters=meters.bootstrap,
            most=settings.bootstrap_sessions,
            packs=settings.bootstrap_packs,
            brake=brake,
            prove_moves=settings.echo == "moves",
        )
        listeners.connect(bootstrapping)
        for each in channels:
            each.is_used = bootstrapping.conversations.runs_for
        if contexts is not None:
            contexts.connect(bootstrapping.lost)
        sight = BootstrapSight(
            store=store,
            accounts=accounts,
            under_way=bootstrapping.conversations.under_way,
            begin=lambda record: bootstrapping.begin(record, None, clock.instant()),
            requests=history.refusals,
            handshakes=table.failures.recent,
        )
        return cls(settings, listeners, bootstrapping, channels, contexts, sight)

    async def listen(self) -> None:
        """Raises `CannotBind`."""
        host, settings = self._settings.coap_host, self._settings
        if settings.bootstrap_coap_port is not None:
            self.bound = await self.listeners.listen(host, settings.bootstrap_coap_port)
            self.bootstrapping.listens_at = host, self.bound[0][1]
        if settings.bootstrap_coaps_port is not None:
            self.bound_secure = await self.listeners.listen_secure(host, settings.bootstrap_coaps_port)

    def transport(self) -> Transport:
        """What was counted."""
        return self.listeners.transport()

    def revoked(self, device: DeviceRecord) -> None:
        """What the device proves itself with changed, or was taken away."""
        self._forget(device.device_id)
        self.bootstrapping.conversations.revoked(device.device_id)

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone."""
        self.bootstrapping.conversations.removed(device_id)
        self._forget(device_id)

    def _forget(self, device_id: DeviceId) -> None:
        """Nobody stays who came in with what the device had."""
        for each in self.channels:
            each.removed(device_id)
        if self.contexts is not None:
            self.contexts.removed(device_id)


def own_material(
    folder: KeyFolder, server: ServerKeys | None, bootstrap: ServerKeys | None
) -> Callable[[bool], ServerMaterial]:
    """What this platform's own servers show just now: True the bootstrap server, False that of device management. Of
    one without a secure port what its files say; empty where there are none."""

    def own(is_bootstrap: bool) -> ServerMaterial:
        keys, name = (bootstrap, BOOTSTRAP) if is_bootstrap else (server, SERVER)
        if keys is not None:
            return _material(keys.identity)
        if not folder.exists(name):
            return ServerMaterial()
        issued = folder.load(name)
        return ServerMaterial(spki_of(issued.key.public_key()), der_of(issued.chain[0]) if issued.chain else b"")

    return own


def _keys_changed(listeners: BootstrapListeners, channels: list[BootstrapChannels[Any]]) -> None:
    listeners.replace_identity()
    for each in channels:
        each.keys_changed()


def _material(identity: ServerIdentity) -> ServerMaterial:
    return ServerMaterial(spki_of(identity.key.public_key()), identity.chain[0] if identity.chain else b"")
