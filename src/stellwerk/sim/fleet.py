"""A fleet of simulated devices on real sockets: `stellwerk sim` and the devices of `stellwerk demo`."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

import structlog

from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.parameters import Limits
from stellwerk.coap.tcp.endpoint import ReleaseConnections
from stellwerk.core.errors import UserError
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.net.driver import Driver, Engine
from stellwerk.net.open_files import SPARE_FILES, raise_open_files
from stellwerk.net.udp import BUFFER_BYTES, UdpSocket
from stellwerk.sim.bootstrap.connections import Connections, Fork
from stellwerk.sim.bootstrap.fleet import BootstrapFleet
from stellwerk.sim.device import Device
from stellwerk.sim.faults import FaultKind, InvalidFault
from stellwerk.sim.fleet_options import Behaviour as Behaviour
from stellwerk.sim.fleet_options import FleetOptions as FleetOptions
from stellwerk.sim.fleet_options import require_possible
from stellwerk.sim.happenings import (
    Deregistered,
    Happening,
    Moved,
    Rebooted,
)
from stellwerk.sim.impairment import Impairment
from stellwerk.sim.log_lines import write_down
from stellwerk.sim.lossy import LossyEngine
from stellwerk.sim.population import Move, Order, Poke, Population, Start, Stop
from stellwerk.sim.reach import NoServer, local_address, resolve
from stellwerk.sim.security import Certificate, Credentials, Security
from stellwerk.sim.sessions import Join, SecureDevices, client_endpoint
from stellwerk.sim.streams import StreamBearer
from stellwerk.sim.summary import Summary, Tally
from stellwerk.sim.tls_streams import tls_bearer

log = structlog.get_logger(__name__)

_START_STEP_S: Final = 0.05
_PACKAGES: Final[Mapping[tuple[str, ...], int]] = {("5", "0", "0"): 1024 * 1024}
"""The longest package of firmware that a device takes."""
_MOVE_AFTER_S: Final = 0.5


class TooManyDevices(UserError):
    """``wanted`` devices need more open files, ``files`` and some more, than the ``limit`` of this system."""

    def __init__(self, wanted: int, files: int, limit: int) -> None:
        self.wanted, self.limit = wanted, limit
        super().__init__(
            f"{wanted} devices need {files + SPARE_FILES} open files, the limit is {limit}: raise it (ulimit -Hn)"
        )


class Fleet:
    """Devices, their engine and their sockets. `run` is all of it; `open`, `start`, `leave`, `close` are its parts.
    ``on_happening`` is told whatever happens to the devices."""

    def __init__(self, options: FleetOptions, on_happening: Callable[[Happening], None] | None = None) -> None:
        self.options = options
        self._tell = on_happening
        limits = Limits(peers_total=max(1000, 2 * options.count))
        self.population: Population = Population(Endpoint(SystemEntropy(), limits, options.parameters, None, _PACKAGES))
        self.impairment = Impairment(options.conditions, options.seed)
        self.tally = Tally()
        self.devices: list[Device] = []
        self._clock = SystemClock()
        self._secure: SecureDevices | None = None
        self._bootstrap: BootstrapFleet | None = None
        self._credentials: list[Credentials] = []
        self._driver: Driver[Happening, Order | Join] | None = None
        self._bearer: StreamBearer | None = None
        self._connections: Connections | None = None
        self._sockets: list[UdpSocket] = []
        # All sockets are read by this thread alone, one datagram at a time: one buffer serves them all.
        self._buffer = bytearray(BUFFER_BYTES)
        self._closed = False
        self._lost = 0
        self._leaving = 0
        self._left = asyncio.Event()

    async def open(self) -> None:
        """Resolve the server and bind a socket for each device. Raises `NoServer`, `TooManyDevices`, `CannotBind`,
        `BadMemory`, `NoWay`, `InvalidFault`, and whatever the keyring of secure devices raises."""
        options = self.options
        require_possible(options)
        commissioning = options.commissioning
        # A connection with each of its servers besides.
        files = options.count * (3 if options.is_stream and commissioning is not None else 1)
        allowed = raise_open_files(files)
        if allowed < files:
            raise TooManyDevices(options.count, files, allowed + SPARE_FILES)
        server_host, server_port = await resolve(options.server)
        if options.is_stream and commissioning is None:
            await self._connect(server_host, server_port)
            return
        others = [await resolve(each) for each in options.template.other_server_uris]
        local_host = local_address(server_host, server_port)
        instant = self._clock.instant()
        if commissioning is not None:
            self._bootstrap = BootstrapFleet(
                commissioning, options.server, options.security, options.count, options.oscore
            )
            limits, offset_s = Limits(peers_total=max(1000, 2 * options.count)), instant.wall_ms / 1000 - instant.now
            self.population = self._bootstrap.population(
                limits, options.parameters, offset_s, lambda way: connections.ask(way)
            )
        engine: Engine[Happening, Any] = self.population
        if self._bootstrap is not None:
            fork = Fork(engine)
            connections = self._connections = Connections(fork.streams, self._hear, clock=self._clock)
            engine = fork.datagrams
        if options.security is not None and self._bootstrap is None:
            engine = self._secure = self._secured(options.security, instant)
            self.population = self._secure.population
        if not options.conditions.perfect:
            engine = LossyEngine(engine, self.impairment)
        self._driver = Driver(engine, self._hear, clock=self._clock, on_lost=self._count_lost)
        if self._bootstrap is not None:
            fork.datagrams.wake = self._driver.wake
        handles = count(1)
        for index in range(options.count):
            bound = UdpSocket(local_host, 0, self._buffer)
            self._sockets.append(bound)
            self._driver.add(bound)
            offset_s = instant.wall_ms / 1000 - instant.now
            server = PeerId("udp", server_host, server_port, bound.host, bound.port)
            if self._bootstrap is not None:
                number = options.first + index
                bootstrapping = self._bootstrap.device(
                    options.device(index), number, server, utc_offset_s=offset_s, handles=handles
                )
                self.devices.append(bootstrapping)
                continue
            peers = tuple(PeerId("udp", *each, bound.host, bound.port) for each in others)
            device = Device(options.device(index), server, utc_offset_s=offset_s, handles=handles, others=peers)
            self.devices.append(device)

    def _secured(self, security: Security, instant: Instant) -> SecureDevices:
        """The engine of devices that speak DTLS, and the credentials of each."""
        options = self.options
        self._credentials = [security.keyring(name, options.first + index) for index, name in enumerate(self._names())]
        if any(each.kind is FaultKind.EXPIRED_CERTIFICATE for each in options.faults) and not all(
            isinstance(each, Certificate) and each.issuer is not None for each in self._credentials
        ):
            raise InvalidFault(
                FaultKind.EXPIRED_CERTIFICATE.value,
                "only who can issue certificates can issue one that is expired (--issuer); else give one with --cert",
            )
        # Each session is another peer, and one is remembered for a while after its end.
        limits = Limits(peers_total=max(1000, 8 * options.count))
        coap = Endpoint(SystemEntropy(), limits, options.parameters, None, _PACKAGES, verified=True)
        dtls = client_endpoint(security, options.count, SystemEntropy())
        offset_s = instant.wall_ms / 1000 - instant.now
        return SecureDevices(coap, dtls, security, entropy=SystemEntropy(), utc_offset_s=offset_s)

    async def _connect(self, host: str, port: int) -> None:
        """Open a connection for each device."""
        options = self.options
        how: dict[str, Any] = {
            "entropy": SystemEntropy(),
            "clock": self._clock,
            "limits": Limits(),
            "parameters": options.parameters,
            "handle": self._hear,
            "on_moved": self._moved,
        }
        bearer = self._bearer = (
            StreamBearer(host, port, **how)
            if options.security is None
            else tls_bearer(host, port, options.security, self._names(), options.first, **how)
        )
        self.population = bearer.population
        instant = self._clock.instant()
        handles = count(1)
        for index in range(options.count):
            try:
                peer = await bearer.connect(index)
            except OSError as error:
                raise NoServer(options.server, error.strerror or str(error)) from None
            offset_s = instant.wall_ms / 1000 - instant.now
            self.devices.append(Device(options.device(index), peer, utc_offset_s=offset_s, handles=handles))

    def _names(self) -> list[str]:
        return [self.options.device(index).endpoint_name for index in range(self.options.count)]

    def _submit(self, order: Order | Join) -> None:
        if self._bearer is not None:
            assert not isinstance(order, Join)
            self._bearer.driver.submit(order)
        elif self._driver is not None:
            self._driver.submit(order)

    def _moved(self, old: PeerId, new: PeerId) -> None:
        """A device has another connection, and tells it with its Update."""
        for device in self.devices:
            if device.server == old:
                self._submit(Move(device, new))
                self._submit(Poke(device, Device.trigger_update))

    async def start(self) -> None:
        """Let the devices register, ``start_per_s`` at most each second."""
        batch = max(1, round(self.options.start_per_s * _START_STEP_S))
        pause = batch / self.options.start_per_s
        for first in range(0, len(self.devices), batch):
            for index, device in enumerate(self.devices[first : first + batch], first):
                self._submit(Join(device, self._credentials[index]) if self._credentials else Start(device))
                self.tally.started += 1
            if first + batch < len(self.devices):
                await asyncio.sleep(pause)

    async def leave(self) -> None:
        """Let every device de-register; waits for the answers at most ``leave_within_s``."""
        self._left.clear()
        for device in self.devices[: self.tally.started]:
            self._submit(Stop(device))
        self._leaving = sum(device.leaving for device in self.devices)
        if self._secure is not None:
            self._leaving += self._secure.leaving
        if self._leaving:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.leave_within_s):
                    await self._left.wait()

    def close(self) -> None:
        """Close all sockets."""
        self._closed = True
        if self._driver is not None:
            self._driver.close()
        if self._connections is not None:
            self._connections.close()
        if self._bearer is not None:
            self._bearer.driver.submit(ReleaseConnections())
            self._bearer.driver.close()

    def summary(self) -> Summary:
        """Where the fleet stands, and what happened since the last call."""
        now = self._clock.now()
        return self.tally.summarize(
            now,
            devices=len(self.devices),
            registered=sum(device.is_registered for device in self.devices),
            asleep=sum(not device.is_listening(now) for device in self.devices[: self.tally.started]),
            faults=sum(device.faults_committed for device in self.devices),
            lost=self.impairment.lost + self._lost,
        )

    async def run(self, stop: asyncio.Event, on_summary: Callable[[Summary], None] | None = None) -> Summary:
        """Run until ``stop`` is set, then de-register. ``on_summary`` is told every ``summary_every_s`` seconds.
        Gives the last summary. Raises as `open`."""
        try:
            await self.open()
            log.info("fleet.started", devices=len(self.devices), server=self.options.server, seed=self.options.seed)
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(self.start(), name="fleet-start")
                group.create_task(self._summarize(stop, on_summary), name="fleet-summary")
                reconnecting = None
                if self._bearer is not None:
                    reconnecting = group.create_task(self._bearer.reconnect_for_ever(), name="fleet-reconnect")
                await stop.wait()
                starting.cancel()
                if reconnecting is not None:
                    reconnecting.cancel()
            await self.leave()
            summary = self.summary()
            if on_summary is not None:
                on_summary(summary)
            log.info("fleet.stopped", devices=len(self.devices), registrations=summary.registrations_total)
            return summary
        finally:
            self.close()

    async def _summarize(self, stop: asyncio.Event, on_summary: Callable[[Summary], None] | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.summary_every_s):
                    await stop.wait()
                    return
            if on_summary is not None:
                on_summary(self.summary())

    def _hear(self, happenings: list[Happening], instant: Instant) -> None:
        for happening in happenings:
            self.tally.count(happening)
            if self._bootstrap is not None:
                self._bootstrap.note(happening, self.devices[self._index_of(happening.endpoint_name)])
            if self._tell is not None:
                self._tell(happening)
            write_down(happening)
            loop = asyncio.get_running_loop()
            if isinstance(happening, Deregistered):
                self._leaving -= 1
                if self._leaving == 0:
                    self._left.set()
            elif isinstance(happening, Rebooted) and self.options.reboot_moves:
                # Not yet: the answer to the Execute still has to leave from the old port.
                loop.call_later(_MOVE_AFTER_S, self._move, happening.endpoint_name)
            elif isinstance(happening, Moved):
                loop.call_later(_MOVE_AFTER_S, self._move, happening.endpoint_name, True)

    def _move(self, endpoint_name: str, unnoticed: bool = False) -> None:
        driver, bearer = self._driver, self._bearer
        index = self._index_of(endpoint_name)
        if bearer is not None and not self._closed:
            # Another address is another connection.
            bearer.driver.disconnect(self.devices[index].server)
        if driver is None or self._closed:
            return
        device, old = self.devices[index], self._sockets[index]
        bound = self._sockets[index] = UdpSocket(old.host, 0, self._buffer)
        driver.add(bound)
        server = device.server._replace(local_host=bound.host, local_port=bound.port)
        driver.submit(Move(device, server, unnoticed))
        driver.remove(old)

    def _index_of(self, endpoint_name: str) -> int:
        return int(endpoint_name.removeprefix(self.options.prefix)) - self.options.first

    def _count_lost(self, peer: PeerId) -> None:
        self._lost += 1


async def run_fleet(
    options: FleetOptions, stop: asyncio.Event, on_summary: Callable[[Summary], None] | None = None
) -> Summary:
    """Simulate ``options.count`` devices until ``stop`` is set; see `Fleet.run`."""
    return await Fleet(options).run(stop, on_summary)
