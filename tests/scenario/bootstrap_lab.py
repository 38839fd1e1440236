"""Both servers, each plain and over DTLS, and simulated devices that know a bootstrap server alone, on one network in
memory."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

from cryptography.x509 import Certificate

from stellwerk.coap import codes
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import Message, decode_message
from stellwerk.coap.parameters import Limits, Parameters
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.bootstrap.account import ServerMaterial
from stellwerk.device.key_material import spki_of
from stellwerk.device.record import Credential
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.lwm2m.path import Path
from stellwerk.northbound.onem2m.commands import parse_commands
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.faults import StepFault
from stellwerk.sim.bootstrap.memory import Memory
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.bootstrap.ways import Ways
from stellwerk.sim.happenings import BootstrapFailed, Happening
from stellwerk.sim.network import MemoryNetwork
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Leave, Poke, Population, Start, Stop
from stellwerk.sim.security import Security, one_for_all
from stellwerk.sim.sessions import client_endpoint
from tests.scenario.bootstrap_port import BootstrapPort
from tests.scenario.stack import WALL_MS, SeededEntropy, Stack

HOST = "10.0.0.1"
PLAIN, SECURE, BOOTSTRAP, SECURE_BOOTSTRAP = 5683, 5684, 5687, 5688
_DEVICES = [("10.0.1.1", 40_000 + each) for each in range(4)]
_METHODS = {codes.GET: "GET", codes.PUT: "PUT", codes.DELETE: "DELETE", codes.POST: "POST"}


class BootstrapLab:
    """Time passes only in `run_for`. ``identity``: what both servers show, where they have certificates."""

    def __init__(
        self, identity: ServerIdentity | None = None, trusted: tuple[Certificate, ...] = (), **port: Any
    ) -> None:
        secure = ServerParameters(identity=identity)
        self.stack = Stack(secure=secure, trusted=trusted)
        if identity is not None:
            port["own"] = ServerMaterial(spki_of(identity.key.public_key()), identity.chain[0])
        self.port = BootstrapPort(self.stack, secure=secure, trusted=trusted, **port)
        self.network = MemoryNetwork(start=self.stack.clock.at, epoch_ms=WALL_MS)
        self.network.trace = self._trace
        self.steps: list[str] = []
        """What bootstrap clients without security were asked, in order."""
        self.happenings: list[Happening] = []
        self._stations = [
            self.network.attach((HOST, port_number), engine, self._handler(hear))
            for port_number, engine, hear in (
                (PLAIN, self.stack.engine, self.stack.link.handle),
                (SECURE, self.stack.secure_stack, self.stack.secure_peers.handle),
                (BOOTSTRAP, self.port.engine, self.port.link.handle),
                (SECURE_BOOTSTRAP, self.port.secure_stack, self.port.secure_peers.handle),
            )
        ]
        nothing = Security(one_for_all(None))  # type: ignore[arg-type]
        self._offset_s = WALL_MS / 1000 - self.network.now
        self.ways = Ways(
            Endpoint(SeededEntropy(2), Limits(), Parameters(), verified=True, oscore=True),
            client_endpoint(nothing, 100, SeededEntropy(4)),
            entropy=SeededEntropy(5),
            utc_offset_s=self._offset_s,
        )
        self._devices = self.network.attach(_DEVICES, Population(self.ways), self._note)  # type: ignore[arg-type]
        self._free = iter(_DEVICES)
        self._handles = count(1)

    # -- devices --

    def provision(self, name: str = "dev1", credential: Credential | None = None) -> Any:
        return self.stack.provision(name, credential=credential)

    def join(
        self,
        name: str = "dev1",
        *,
        options: dict[str, Any] | None = None,
        wait_s: float = 3.0,
        memory: Memory | None = None,
        **bootstrap: Any,
    ) -> BootstrapDevice:
        """A device that was provisioned comes from the factory, or goes on from ``memory``; ``options`` of
        `DeviceOptions`, the others of `BootstrapOptions`."""
        secure = bootstrap.get("credentials") is not None
        bootstrap["faults"] = tuple(StepFault.parse(each) for each in bootstrap.get("faults", ()))
        port = SECURE_BOOTSTRAP if secure else BOOTSTRAP
        transport = ("oscore+" if bootstrap.get("oscore") else "") + ("dtls" if secure else "udp")
        device = BootstrapDevice(
            DeviceOptions(f"urn:dev:os:{name}", **{"lifetime_s": 86_400, **(options or {})}),
            PeerId(transport, HOST, port, *next(self._free)),
            bootstrap=BootstrapOptions(f"coap{'s' if secure else ''}://{HOST}:{port}", **bootstrap),
            utc_offset_s=self._offset_s,
            handles=self._handles,
            resolve=lambda host, port: (host, port) if host == HOST else None,
            memory=memory,
        )
        self._devices.submit(Start(device))
        self.run_for(wait_s)
        return device

    def leave(self, device: BootstrapDevice) -> None:
        """It is gone without a word."""
        self._devices.submit(Leave(device))

    def stop(self, device: BootstrapDevice) -> None:
        """It takes leave."""
        self._devices.submit(Stop(device))
        self.run_for(1)

    def poke(self, device: BootstrapDevice, act: Callable[[Any, float], None], wait_s: float = 3.0) -> None:
        """It does something by itself."""
        self._devices.submit(Poke(device, act))
        self.run_for(wait_s)

    def accounts(self, device: BootstrapDevice) -> list[int]:
        """The short server IDs of the accounts that it has."""
        cells = device.tree.instances(0).values()
        return sorted(short_id for each in cells if not each.get(1) and isinstance(short_id := each.get(10), int))

    def has_bootstrap_account(self, device: BootstrapDevice) -> bool:
        return any(each.get(1) is True for each in device.tree.instances(0).values())

    def value(self, device: BootstrapDevice, path: str) -> Any:
        object_id, instance_id, resource_id = Path.parse(path)
        return device.tree.instances(object_id)[instance_id].get(resource_id)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Why devices say that bootstraps failed."""
        return [(each.reason, each.detail) for each in self.happenings if isinstance(each, BootstrapFailed)]

    def registered(self) -> list[str]:
        return self.stack.registrations()

    # -- commands --

    def command(self, record: Any, content: str, wait_s: float = 3.0) -> int:
        """The code of the answer to a message to ``outgoing-msg``."""
        self._now()
        self.stack.run(self._posting(record, content))
        self._flush()
        self.run_for(wait_s)
        [*_, answer] = [each for each in self.stack.received(record) if each["messageType"] == "response"]
        return int(answer["status"]["code"])

    # -- time --

    def run_for(self, seconds: float) -> None:
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run(min(end, self.network.now + 0.5))
            self._now()
            due = [call for at, call in self.stack.timers if at <= self.network.now]
            self.stack.timers = [each for each in self.stack.timers if each[0] > self.network.now]
            self.stack.run(self._doing(lambda due=due: [call() for call in due]))  # type: ignore[misc]
            self._flush()

    def close(self) -> None:
        self.stack.close()

    # -- inside --

    def _handler(self, hear: Callable[[list[Any], Instant], None]) -> Callable[[list[Any], Instant], None]:
        def handle(events: list[Any], instant: Instant) -> None:
            self._now()
            self.stack.run(self._doing(lambda: hear(events, self.stack.clock.instant())))

        return handle

    def _now(self) -> None:
        self.stack.clock.at = self.network.now

    def _flush(self) -> None:
        for each in self._stations:
            each.flush()

    def _note(self, happenings: list[Any], instant: Instant) -> None:
        self.happenings.extend(happenings)

    def _trace(self, now: float, source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> None:
        if source == (HOST, BOOTSTRAP):
            message = decode_message(datagram)
            if codes.is_request(message.code):
                self.steps.append(_step_of(message))

    async def _posting(self, record: Any, content: str) -> None:
        await self.stack.commands.post(
            record,
            name=None,
            content=content,
            content_info=None,
            creator="CTestApp",
            labels=(),
            requests=tuple(parse_commands(content, None)),
        )
        await self._idle()

    async def _doing(self, act: Callable[[], object]) -> None:
        act()
        await self._idle()

    async def _idle(self) -> None:
        assert self.stack.store is not None
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0)
            quiet = 0 if len(self.stack.tasks) or self.stack.store.queue_length() else quiet + 1


def _step_of(message: Message) -> str:
    path = "/".join(value.decode() for number, value in message.options if number == 11)
    return f"{_METHODS[message.code]} /{path}"
