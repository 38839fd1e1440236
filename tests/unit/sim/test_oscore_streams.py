"""Devices that were made with an OSCORE context, over TCP (RFC 8613 within RFC 8323); bytes in memory."""

from itertools import count
from typing import Any, Final

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import ContextStored, GiveContext, NoContext, Respond, SendRequest
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.events import ContextQuestion, ContextRederived, ContextState, RequestReceived, ResponseReceived
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.coap.tcp.endpoint import AdoptConnection, StreamEndpoint
from stellwerk.core.ids import PeerId
from stellwerk.net.tls_client import TlsClients
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.fleet import WaysPopulation
from stellwerk.sim.bootstrap.options import BootstrapOptions, OscoreValues
from stellwerk.sim.bootstrap.stream_ways import Connected, Judge, StreamWays, Unconnected
from stellwerk.sim.bootstrap.ways import Ways
from stellwerk.sim.happenings import Happening, Registered, RegistrationRefused, SessionLost, Updated
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Leave, Start, Stop
from stellwerk.sim.security import Security, one_for_all
from stellwerk.sim.sessions import client_endpoint

from .conftest import SeededEntropy

SECRET: Final = b"sixteen secret b"
CONTEXT: Final = OscoreValues(SECRET, b"dev-1", b"srv", master_salt=b"salt")
SERVER: Final = ("10.0.0.3", 5683)
DEVICE: Final = ("10.0.0.2", 40_000)


class Bench:
    """One device, its server, and the connection between them, if there is one. ``accepts``: whether there may be."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.accepts = True
        self.requests: list[RequestReceived] = []
        self.answers: list[ResponseReceived] = []
        self.agreed = 0
        self.connections = 0
        self.happenings: list[Happening] = []
        self.server = StreamEndpoint(SeededEntropy(7), oscore=True)
        self.material = ContextMaterial(7, b"srv", b"dev-1", SECRET, b"salt", ceiling=256)
        self._options = BootstrapOptions(
            f"coap+tcp://{SERVER[0]}:{SERVER[1]}", is_bootstrap=False, oscore=CONTEXT, **options
        )
        self._wanted: list[PeerId] = []
        self._way: PeerId | None = None
        self._locations = count(1)
        self._handles = count(1)
        self._life = 0
        self.population = self._population()

    def _population(self) -> WaysPopulation:
        self._life += 1
        nothing = Security(one_for_all(None))  # type: ignore[arg-type]

        def streams(judge: Judge) -> StreamWays:
            plain, secure = (StreamEndpoint(SeededEntropy(self._life + each), oscore=True) for each in (10, 20))
            entropy = SeededEntropy(6)
            clients: TlsClients[Any, Any] = TlsClients(secure, entropy, handshake_s=9.0)
            return StreamWays(plain, clients, connect=self._wanted.append, judge=judge, entropy=entropy)

        return WaysPopulation(
            Ways(
                Endpoint(SeededEntropy(2), Limits(), Parameters(), verified=True, oscore=True),
                client_endpoint(nothing, 100, SeededEntropy(4)),
                entropy=SeededEntropy(5),
                utc_offset_s=0.0,
                streams=streams,
            )
        )

    # -- the device --

    def start(self, wait_s: float = 2.0, **more: Any) -> BootstrapDevice:
        device = BootstrapDevice(
            DeviceOptions("dev-1", update_every_s=20.0),
            PeerId("tcp", *SERVER, *DEVICE),
            bootstrap=self._options,
            utc_offset_s=0.0,
            handles=self._handles,
            resolve=lambda host, port: (host, port),
            **more,
        )
        self.population.submit(Start(device), self.now)
        self.run_for(wait_s)
        return device

    def restart(self, device: BootstrapDevice) -> BootstrapDevice:
        """The process ends without a word; another goes on from what was kept."""
        self.population.submit(Leave(device), self.now)
        self.break_off()
        self.population = self._population()
        return self.start(memory=device.memory())

    def stop(self, device: BootstrapDevice) -> None:
        self.population.submit(Stop(device), self.now)
        self.run_for(1)

    def of(self, kind: type[Happening]) -> list[Any]:
        return [each for each in self.happenings if isinstance(each, kind)]

    # -- the server --

    def read(self, path: str) -> str:
        """The code of the answer to a request in the context of the newest Register."""
        peer = [each for each in self.requests if each.path[:1] == ("rd",)][-1].peer
        assert peer.is_context
        handle = next(self._handles)
        token = handle.to_bytes(4, "big")
        self.server.submit(SendRequest(handle, peer, codes.GET, token, tuple(path.split("/"))), self.now)
        self.run_for(1)
        return next((codes.dotted(each.code) for each in self.answers if each.handle == handle), "none")

    def _hear(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.requests.append(event)
            location = ("rd", f"r{next(self._locations)}") if event.path == ("rd",) else ()
            code = codes.CREATED if location else codes.DELETED if event.code == codes.DELETE else codes.CHANGED
            self.server.submit(Respond(event.exchange, code, location), self.now)
        elif isinstance(event, ContextQuestion):
            known = event.kid == b"dev-1"
            answer = GiveContext(event.question, self.material) if known else NoContext(event.question)
            self.server.submit(answer, self.now)
        elif isinstance(event, ContextState):
            self.server.submit(ContextStored(event.number, event.ceiling), self.now)
        elif isinstance(event, ResponseReceived):
            self.answers.append(event)
        self.agreed += isinstance(event, ContextRederived)

    # -- between them --

    def break_off(self) -> None:
        """The connection breaks, and both ends hear of it."""
        if self._way is not None:
            way, self._way = self._way, None
            self.server.feed(b"", peer=self._mirrored(way), now=self.now)
            self.population.feed(b"", peer=way, now=self.now)

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self._exchange()
            due = [each for each in (self.population.deadline(), self.server.deadline()) if each is not None]
            self.now = max(self.now, min([*due, end]))
            if self.now >= end:
                break
            self.population.tick(self.now)
            self.server.tick(self.now)
        self._exchange()

    def _exchange(self) -> None:
        busy = True
        while busy:
            busy = False
            for way in self._take_wanted():
                busy = True
                if self.accepts:
                    self._way, self.connections = way, self.connections + 1
                    self.server.submit(AdoptConnection(self._mirrored(way)), self.now)
                    self.population.submit(Connected(way), self.now)
                else:
                    self.population.submit(Unconnected(way, "refused"), self.now)
            for peer, data in self.population.take_datagrams():
                busy = True
                self.server.feed(data, peer=self._mirrored(peer), now=self.now)
            for _, data in self.server.take_datagrams():
                busy = True
                if self._way is not None:
                    self.population.feed(data, peer=self._way, now=self.now)
            for event in self.server.take_events():
                busy = True
                self._hear(event)
            self.happenings += self.population.take_events()

    def _take_wanted(self) -> list[PeerId]:
        wanted, self._wanted[:] = [*self._wanted], []
        return wanted

    def _mirrored(self, way: PeerId) -> PeerId:
        return PeerId("tcp", way.local_host, way.local_port + self.connections, way.remote_host, way.remote_port)


@pytest.mark.spec("RFC 8323 4.1", "LwM2M-contract 2.6")
def test_it_registers_under_its_context_is_read_and_takes_leave():
    bench = Bench()
    device = bench.start()
    assert device.is_registered
    assert device.accounts[0].server.transport == "oscore+tcp"
    assert bench.read("3/0/0") == "2.05"
    bench.stop(device)
    assert bench.requests[-1].code == codes.DELETE
    assert all(each.peer.is_context for each in bench.requests)
    assert (bench.connections, bench.agreed) == (1, 0)


@pytest.mark.spec("RFC 8613 B.1.1", "R-14")
def test_it_goes_on_in_another_connection_under_the_same_context():
    bench = Bench()
    device = bench.start()
    for life in (1, 2, 3):
        bench.break_off()
        bench.run_for(3)
        assert bench.connections == 1 + life
        assert len(bench.of(Updated)) == life
        assert bench.read("3/0/0") == "2.05"
    assert device.is_registered
    assert (len(bench.of(SessionLost)), len(bench.of(Registered)), bench.of(RegistrationRefused)) == (3, 1, [])
    # Nothing was protected with a number twice, or the server would have refused it.
    assert bench.agreed == 0


@pytest.mark.spec("RFC 8613 B.1.1")
def test_where_no_connection_is_to_be_had_it_comes_later_under_the_same_context():
    bench = Bench()
    device = bench.start()
    bench.accepts = False
    bench.break_off()
    bench.run_for(3)
    assert [each.reason for each in bench.of(RegistrationRefused)] == ["unconnected"]
    bench.accepts = True
    bench.run_for(20)
    assert device.is_registered
    assert bench.read("3/0/0") == "2.05"
    assert bench.agreed == 0


@pytest.mark.spec("RFC 8613 B.1.1")
def test_what_it_keeps_is_enough_for_another_life():
    bench = Bench()
    device = bench.start()
    bench.restart(device)
    assert bench.read("3/0/0") == "2.05"
    assert (len(bench.of(Registered)), bench.agreed, bench.of(RegistrationRefused)) == (2, 0, [])


@pytest.mark.spec("RFC 8613 B.2")
def test_who_has_forgotten_agrees_with_its_server_on_another_id_context():
    bench = Bench(forgets=True)
    device = bench.start()
    assert bench.read("3/0/0") == "2.05"
    assert bench.agreed == 1
    bench.break_off()
    bench.run_for(5)
    assert device.is_registered
    assert bench.read("3/0/0") == "2.05"
    assert bench.agreed == 1


def test_a_server_that_has_another_context_refuses_it_and_the_device_says_so():
    bench = Bench()
    bench.material = ContextMaterial(7, b"srv", b"dev-1", b"another secret!!", b"salt", ceiling=256)
    bench.start()
    (refused,) = bench.of(RegistrationRefused)
    assert refused.reason.startswith("unprotected")
    assert not bench.of(Registered)
