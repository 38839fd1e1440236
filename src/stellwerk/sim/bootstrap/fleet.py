"""A fleet whose devices bootstrap: their engine on real sockets, what each knows, and what it keeps."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.tcp.connection import StreamLimits
from stellwerk.coap.tcp.endpoint import StreamEndpoint
from stellwerk.core.ids import PeerId
from stellwerk.net.clock import SystemEntropy
from stellwerk.net.tls_client import TlsClients
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.memory import MemoryFolder
from stellwerk.sim.bootstrap.options import BootstrapOptions, OscoreValues
from stellwerk.sim.bootstrap.stream_ways import Connected, ConnectionReport, Judge, StreamWays, Unconnected
from stellwerk.sim.bootstrap.ways import Ways
from stellwerk.sim.device import Device
from stellwerk.sim.happenings import Bootstrapped, Enrolled, Forgot, Happening, Remembered
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Order, Population
from stellwerk.sim.security import Credentials, RawKey, Security
from stellwerk.sim.sessions import client_endpoint
from stellwerk.sim.tls_streams import NoWay

_LARGEST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Commissioning:
    """How the devices of a fleet get their accounts. ``template``: what they have in common; server and credentials are
    those of the fleet. ``state``: the folder where each keeps what it was given and what it used up, see
    `MemoryFolder`."""

    template: BootstrapOptions = field(default_factory=lambda: BootstrapOptions(""))
    state: Path | None = None


class WaysPopulation(Population):
    """Devices on `Ways`. A sleeper's radio keeps its connections: what comes over them while it sleeps is not lost."""

    def __init__(self, ways: Ways) -> None:
        super().__init__(ways)  # type: ignore[arg-type]
        self._ways = ways

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        if not peer.is_connection:
            super().feed(datagram, peer=peer, now=now)
            return
        self._now = now
        self._ways.feed(datagram, peer=peer, now=now)
        self._run()

    def submit(self, action: Order | ConnectionReport, now: float) -> None:
        if isinstance(action, Connected | Unconnected):
            self._now = now
            self._ways.submit(action, now)
            self._run()
        else:
            super().submit(action, now)


class BootstrapFleet:
    """What a fleet of ``count`` devices needs besides. ``oscore`` gives each its context with the server. Raises
    `BadMemory`."""

    def __init__(
        self,
        commissioning: Commissioning,
        server_uri: str,
        security: Security | None,
        count: int,
        oscore: Callable[[str, int], OscoreValues] | None = None,
    ) -> None:
        self._template = replace(commissioning.template, server_uri=server_uri, forgets=commissioning.state is None)
        self._oscore = oscore
        if security is not None:
            self._template = replace(
                self._template,
                server_key=security.server_key,
                anchors=security.anchors,
                suites=security.suites,
                cid_length=security.cid_length,
                handshake_s=security.handshake_s,
                first_timeout_s=security.first_timeout_s,
            )
        self._security = security
        self._is_stream = "+tcp:" in server_uri
        self._transport = ("tls" if security else "tcp") if self._is_stream else ("dtls" if security else "udp")
        self._count = count
        self._folder = MemoryFolder(commissioning.state) if commissioning.state is not None else None

    def population(
        self, limits: Limits, parameters: Parameters, utc_offset_s: float, connect: Callable[[PeerId], None]
    ) -> "WaysPopulation":
        """The engine of all of them. ``connect`` is asked for a connection; see `connections`."""
        # A device speaks to its bootstrap server and to several others, one session each.
        security = self._security or Security(_nobody)
        dtls = client_endpoint(security, 2 * self._count, SystemEntropy())
        limits = replace(limits, peers_total=4 * limits.peers_total)
        coap = Endpoint(SystemEntropy(), limits, parameters, verified=True, oscore=True)
        bounds = StreamLimits(_LARGEST, _LARGEST, _LARGEST, ping_after_s=None)

        def connected() -> StreamEndpoint:
            return StreamEndpoint(SystemEntropy(), limits, parameters, bounds, oscore=True)

        def streams(judge: Judge) -> StreamWays:
            secure = TlsClients(connected(), SystemEntropy(), handshake_s=security.handshake_s)
            return StreamWays(connected(), secure, connect=connect, judge=judge, entropy=SystemEntropy())

        return WaysPopulation(
            Ways(coap, dtls, entropy=SystemEntropy(), utc_offset_s=utc_offset_s, streams=streams),
        )

    def device(
        self,
        options: DeviceOptions,
        number: int,
        server: PeerId,
        *,
        utc_offset_s: float,
        handles: Iterator[int],
    ) -> BootstrapDevice:
        """The device ``number`` of the fleet, with what was kept of it. Raises `BadMemory`, `NoWay`, and whatever the
        keyring raises."""
        name = options.endpoint_name
        bootstrap, memory = self._template, None
        if self._security is not None:
            bootstrap = replace(bootstrap, credentials=self._security.keyring(name, number))
            if self._is_stream and isinstance(bootstrap.credentials, RawKey):
                raise NoWay("over TLS there are no raw public keys; use --psk or --cert, or write coaps://")
        server = server._replace(transport=self._transport)
        if self._oscore is not None:
            bootstrap = replace(bootstrap, oscore=self._oscore(name, number))
        if self._folder is not None:
            memory = self._folder.load(name)
        return BootstrapDevice(
            options,
            server,
            bootstrap=bootstrap,
            utc_offset_s=utc_offset_s,
            handles=handles,
            resolve=resolve_host,
            memory=memory,
        )

    def note(self, happening: Happening, device: Device) -> None:
        """Keep what ``device`` has from now on, if ``happening`` changed that. Raises `BadMemory`."""
        if self._folder is not None and isinstance(happening, Bootstrapped | Enrolled | Forgot | Remembered):
            assert isinstance(device, BootstrapDevice)
            self._folder.store(device.memory())


@lru_cache(maxsize=1024)
def resolve_host(host: str, port: int) -> tuple[str, int] | None:
    """The address of ``host``, where it has both of IPv4; None where it has none. It waits for the name server."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    _, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return str(address[0]), int(address[1])


def _nobody(endpoint_name: str, number: int) -> Credentials:
    raise AssertionError(f"{endpoint_name} brings no credentials of its own")
