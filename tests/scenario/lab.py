"""The whole server and simulated devices on one network in memory: commands in as applications write them, messages
out, every datagram between them kept.

``lab.ask(device, "READ /3/0/0")`` is a message to ``outgoing-msg`` and what came of it in ``received-msg``.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.outcome import Outcome
from stellwerk.app.posting import Call
from stellwerk.app.registry import Known
from stellwerk.coap.endpoint import Endpoint
from stellwerk.coap.message import Message, decode_message
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Operation
from stellwerk.lwm2m.schema.library import Library
from stellwerk.northbound.onem2m.commands import parse_commands
from stellwerk.sim.device import Device
from stellwerk.sim.happenings import Happening
from stellwerk.sim.network import MemoryNetwork
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Leave, Move, Poke, Population, Start
from tests.scenario.stack import WALL_MS, SeededEntropy, Stack

SERVER = ("10.0.0.1", 5683)
SECOND_SERVER = ("10.0.0.9", 5683)
_DEVICES = [("10.0.1.1", 40_000 + each) for each in range(8)]
_ANSWER_S = 2.0


@dataclass
class Sent:
    """A datagram as it left."""

    at: float
    to_device: bool
    message: Message


@dataclass
class Client:
    """A simulated device and the server's record of it."""

    device: Device
    record: DeviceRecord
    address: tuple[str, int]


class Lab:
    """One server, on `SERVER`. Time passes only in `run_for` and while an answer is waited for."""

    def __init__(self, *, beside: "Lab | None" = None, library: Library | None = None, **stack: Any) -> None:
        """``beside`` another lab it is a second server on the same network, with the same devices."""
        self.stack = Stack(library=library or Library.builtin(), **stack)
        self.wire: list[Sent] = []
        self.happenings: list[Happening] = []
        self.address = SERVER if beside is None else SECOND_SERVER
        if beside is None:
            self.network = MemoryNetwork(start=self.stack.clock.at, epoch_ms=WALL_MS)
            self.network.trace = self._trace
            self.population = Population(Endpoint(SeededEntropy(1)))
            self._far = self.network.attach(_DEVICES, self.population, self._note)
        else:
            self.network = beside.network
        self._near = self.network.attach(self.address, self.stack.engine, self._handle)
        self._free = iter(_DEVICES)

    # -- devices --

    def join(self, name: str = "dev1", *, others: int = 0, **options: Any) -> Client:
        """A device that is provisioned and registers; ``others`` servers beside this one."""
        record = self.stack.provision(name)
        address = next(self._free)
        options.setdefault("lifetime_s", 86_400)
        device = Device(
            DeviceOptions(name, other_server_uris=(f"coap://{SECOND_SERVER[0]}",) * others, **options),
            PeerId("udp", *self.address, *address),
            utc_offset_s=self.stack.clock.wall_ms() / 1000 - self.network.now,
            handles=count(1_000_000 * address[1]),
            others=(PeerId("udp", *SECOND_SERVER, *address),) * others,
        )
        self._far.submit(Start(device))
        self.run_for(1)
        return Client(device, record, address)

    def poke(self, client: Client, act: Callable[[Device, float], None]) -> None:
        """``act`` on a device from inside."""
        self._far.submit(Poke(client.device, act))
        self.run_for(0.5)

    def vanish(self, client: Client) -> None:
        """The device is gone without a word."""
        self._far.submit(Leave(client.device))

    def move(self, client: Client) -> None:
        """Let a device speak from another port, as it would over another bearer."""
        new = next(self._free)
        self._far.submit(Move(client.device, client.device.server._replace(local_port=new[1])))
        client.address = new

    # -- commands --

    def post(self, client: Client, *commands: str | dict[str, Any]) -> None:
        """Post messages with these contents, at once."""
        for content in commands:
            self._now()
            requests = parse_commands(content, None)
            self.stack.run(self._posting(client.record, content, tuple(requests)))
            self._near.flush()

    def ask(self, client: Client, *commands: str | dict[str, Any], within_s: float = _ANSWER_S) -> dict[str, Any]:
        """Post ``commands`` one after the other, each when the one before is answered; the last answer."""
        answer: dict[str, Any] = {}
        for each in commands:
            before = len(self.responses(client))
            self.post(client, each)
            end = self.network.now + within_s
            while len(self.responses(client)) == before and self.network.now < end:
                self.run_for(0.05)
            found = self.responses(client)[before:]
            assert found, f"no answer to {each}"
            answer = found[-1]
        return answer

    def data(self, client: Client, *commands: str | dict[str, Any]) -> Any:
        """The values that the last of ``commands`` gave; all of them have succeeded."""
        answer: dict[str, Any] = {}
        for each in commands:
            answer = self.ask(client, each)
            assert answer["status"]["code"] == 200, (each, answer["status"])
        return answer["data"]

    def outcome(self, call: Call, within_s: float = _ANSWER_S) -> Outcome:
        """What a program gets for an operation."""
        self._now()
        waiting = self.stack.run(self._beginning(call))
        self._near.flush()
        end = self.network.now + within_s
        while not waiting.done() and self.network.now < end:
            self.run_for(0.05)
        assert waiting.done(), "no outcome"
        found: Outcome = waiting.result()
        return found

    def send_down(self, client: Client, operation: Operation) -> None:
        """Let the device side of the server ask what no command may."""
        known = self.known(client)
        assert known is not None
        self._now()
        self.stack.run(self._sending(known.registration, operation))
        self._near.flush()
        self.run_for(1)

    # -- looking --

    def messages(self, client: Client, kind: str) -> list[dict[str, Any]]:
        """Contents of received-msg of one messageType, oldest first."""
        return [each for each in self.stack.received(client.record) if each["messageType"] == kind]

    def responses(self, client: Client) -> list[dict[str, Any]]:
        return self.messages(client, "response")

    def notifications(self, client: Client) -> list[dict[str, Any]]:
        return self.messages(client, "notify")

    def known(self, client: Client) -> Known | None:
        """The registration as the server has it."""
        return self.stack.registry.of(client.record.device_id)

    def sent(self, *, to_device: bool, since: float = 0.0) -> list[Message]:
        """What left in one direction."""
        return [each.message for each in self.wire if each.to_device is to_device and each.at >= since]

    # -- time --

    def run_for(self, seconds: float) -> None:
        """Let time pass, looking for what expired now and then."""
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run(min(end, self.network.now + 5))
            self._look()

    def close(self) -> None:
        self.stack.close()

    # -- inside --

    def _look(self) -> None:
        self._now()
        self.stack.run(self._looking())
        self._near.flush()

    def _now(self) -> None:
        self.stack.clock.at = self.network.now

    def _note(self, happenings: list[Any], instant: Instant) -> None:
        self.happenings.extend(happenings)

    def _trace(self, now: float, source: tuple[str, int], target: tuple[str, int], datagram: bytes) -> None:
        self.wire.append(Sent(now, source in (SERVER, SECOND_SERVER), decode_message(datagram)))

    def _handle(self, events: list[Any], instant: Instant) -> None:
        self._now()
        self.stack.run(self._handling(events))

    async def _handling(self, events: list[Any]) -> None:
        self.stack.link.handle(events, self.stack.clock.instant())
        await self._idle()

    async def _posting(self, record: DeviceRecord, content: Any, requests: tuple[CommandRequest, ...]) -> None:
        await self.stack.commands.post(
            record, name=None, content=content, content_info=None, creator="CTestApp", labels=(), requests=requests
        )
        await self._idle()

    async def _beginning(self, call: Call) -> "asyncio.Future[Outcome]":
        waiting = asyncio.ensure_future(call)
        await self._idle()
        return waiting

    async def _sending(self, registration: Registration, operation: Operation) -> None:
        # A handle that no command has: its answer is nobody's.
        self.stack.link.send(-1, registration, operation)
        await self._idle()

    async def _looking(self) -> None:
        for _ in range(10):
            if not (await self.stack.expiry.look() or await self.stack.commands.delivery.look()):
                break
            await self._idle()
        await self._idle()

    async def _idle(self) -> None:
        assert self.stack.store is not None
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0)
            quiet = 0 if len(self.stack.tasks) or self.stack.store.queue_length() else quiet + 1
