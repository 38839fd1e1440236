"""Every way in which a device proves who it is (secure sessions of DTLS, connections behind TLS, OSCORE contexts), for
whoever needs them as one: a device that loses its credentials loses all of them."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from stellwerk.app.device_ports import SecureLink
from stellwerk.app.failures import Failures, Security
from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.handlers.promoting import Promoting
from stellwerk.app.handlers.secure_sessions import SecureSessions, TakeOver
from stellwerk.app.handlers.tls_connections import TlsConnections, TlsLink
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.record import DeviceRecord


class Revoked(Protocol):
    """`app.handlers.revoking.Revoking`, as far as it is told here."""

    revoked: Callable[[DeviceRecord], object]

    async def promoted(self, device: DeviceRecord, peer: PeerId) -> None: ...


class Registered(Protocol):
    """`app.handlers.registering.Registering`, as far as it is told here."""

    superseded: Callable[[PeerId], None]

    def await_promotion(self, settled: Callable[[DeviceId], Awaitable[None]]) -> None:
        """``settled`` returns when a fresh credential that a device has just shown is the one that holds."""
        ...


class SecureChannels:
    """``dtls`` and ``tls`` reach the engines, None where there are none; ``devices``: the table of whose each peer is,
    for those who look only. ``per_tenant``: complete handshakes a second, 0 for no bound."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        lines: RareLines,
        meters: Meters,
        devices: dict[PeerId, DeviceId],
        dtls: SecureLink | None = None,
        tls: TlsLink | None = None,
        oscore: bool = True,
        per_tenant: float = 0.0,
    ) -> None:
        self.failures = Failures(tasks=tasks, lines=lines)
        self.promoting = Promoting(store, tasks)
        self.sessions: SecureSessions | None = None
        self.connections: TlsConnections | None = None
        self.contexts: OscoreContexts | None = None
        if dtls is not None:
            self.sessions = SecureSessions(
                store=store,
                tasks=tasks,
                clock=clock,
                link=dtls,
                lines=lines,
                meters=meters,
                per_tenant=per_tenant,
                devices=devices,
                failures=self.failures,
                promoting=self.promoting,
            )
        if tls is not None:
            self.connections = TlsConnections(
                store=store,
                tasks=tasks,
                link=tls,
                lines=lines,
                meters=meters.tls,
                per_tenant=per_tenant,
                devices=devices,
                failures=self.failures,
                promoting=self.promoting,
            )
        if oscore:
            self.contexts = OscoreContexts(
                store=store,
                tasks=tasks,
                failures=self.failures,
                meters=meters.oscore,
                devices=devices,
                promoting=self.promoting,
            )

    def connect(
        self,
        take_over: TakeOver,
        lost: Callable[[PeerId, str, Instant], None],
        registering: Registered,
        revoking: Revoked,
    ) -> None:
        """Close the circle: ``take_over`` moves a registration, ``lost`` hears of channels that are no more."""
        if self.sessions is not None:
            self.sessions.connect(take_over, lost if self.contexts is None else self.contexts.session_lost)
        if self.contexts is not None:
            self.contexts.connect(lost)
        self.promoting.hearers.append(revoking.promoted)
        registering.superseded = self.superseded
        registering.await_promotion(self.promoting.settled)
        revoking.revoked = self.revoked

    def superseded(self, peer: PeerId) -> None:
        """The device is registered over another channel than ``peer`` now."""
        if self.sessions is not None:
            self.sessions.superseded(peer)
        if self.connections is not None:
            self.connections.superseded(peer)

    def revoked(self, device: DeviceRecord) -> None:
        """The device's credentials changed: nobody who came in with what they were stays."""
        for each in (self.sessions, self.connections, self.contexts):
            if each is not None:
                each.revoked(device)

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone with all that was stored of it."""
        for each in (self.sessions, self.connections, self.contexts):
            if each is not None:
                each.removed(device_id)

    def summary(self, tenant: str | None) -> Security:
        """What somebody of ``tenant`` may see, None for all."""
        return (self.failures if self.sessions is None else self.sessions).summary(tenant)
