"""Simulated devices against the stack over a network that loses, doubles, reorders and renumbers (design §7)."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.ports import Limits
from stellwerk.coap import codes
from stellwerk.coap.endpoint import Endpoint
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.schema.library import Library
from stellwerk.sim.device import Device
from stellwerk.sim.happenings import Served
from stellwerk.sim.network import MemoryNetwork
from stellwerk.sim.options import DeviceOptions
from stellwerk.sim.population import Population, Start
from stellwerk.storage.memory import MemoryStore
from tests.scenario.stack import SeededEntropy, Stack
from tests.scenario.test_commands import execute, read, write

SERVER = ("10.0.0.1", 5683)
DEVICES = 5
RESET_EXTREMES = "/3303/0/5605"
PERIOD = "/1/0/3"


class Field:
    """The stack on one side of a `MemoryNetwork`, devices with all their commands on the other."""

    def __init__(self, seed: int, **conditions: Any) -> None:
        everything = MemoryStore(library=Library.builtin(), limits=Limits(100_000, 1 << 30))
        self.stack = Stack(store=everything, seed=seed, grace_s=93.0)
        self.network = MemoryNetwork(seed, start=self.stack.clock.at, **conditions)
        self.served: list[Served] = []
        self.posted: Counter[str] = Counter()
        addresses = [("10.0.1.1", 40_000 + each) for each in range(DEVICES)]
        self.population = Population(Endpoint(SeededEntropy(seed + 1)))
        self.far = self.network.attach(addresses, self.population, self._note)
        self.near = self.network.attach(SERVER, self.stack.engine, self._handle)
        self.records = [self.stack.provision(f"dev-{each}") for each in range(DEVICES)]
        self.addresses = addresses
        for each, address in enumerate(addresses):
            self.far.submit(Start(self._device(each, seed, address)))

    def _device(self, number: int, seed: int, address: tuple[str, int]) -> Device:
        options = DeviceOptions(f"dev-{number}", update_every_s=40.0, sample_every_s=15.0, seed=seed * 100 + number)
        offset_s = self.stack.clock.wall_ms() / 1000 - self.network.now
        handles = count(1 + number * 1_000_000)
        return Device(options, PeerId("udp", *SERVER, *address), utc_offset_s=offset_s, handles=handles)

    def post(self, number: int, *requests: CommandRequest) -> None:
        self.posted[f"dev-{number}"] += len(requests)
        self._now()
        self.stack.run(self._posting(self.records[number], requests))
        self.near.flush()

    def run_for(self, seconds: float) -> None:
        """Let time pass, looking for what expired now and then."""
        end = self.network.now + seconds
        while self.network.now < end:
            self.network.run(min(end, self.network.now + 20))
            self._now()
            self.stack.run(self._looking())
            self.near.flush()

    def responses(self, number: int) -> list[dict[str, Any]]:
        return [each for each in self.stack.received(self.records[number]) if each["messageType"] == "response"]

    def close(self) -> None:
        self.stack.close()

    def _now(self) -> None:
        self.stack.clock.at = self.network.now

    def _note(self, happenings: list[Any], instant: Instant) -> None:
        self.served.extend(each for each in happenings if isinstance(each, Served))

    def _handle(self, events: list[Any], instant: Instant) -> None:
        self._now()
        self.stack.run(self._handling(events))

    async def _handling(self, events: list[Any]) -> None:
        self.stack.link.handle(events, self.stack.clock.instant())
        await self._idle()

    async def _posting(self, record: Any, requests: tuple[CommandRequest, ...]) -> None:
        await self.stack.commands.post(
            record, name=None, content="", content_info=None, creator="CTestApp", labels=(), requests=requests
        )
        await self._idle()

    async def _looking(self) -> None:
        await self.stack.expiry.look()
        await self._idle()

    async def _idle(self) -> None:
        assert self.stack.store is not None
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0)
            quiet = 0 if len(self.stack.tasks) or self.stack.store.queue_length() else quiet + 1


@pytest.fixture
def field(request: pytest.FixtureRequest) -> Iterator[Field]:
    made = Field(request.param, loss=0.2, duplication=0.1, delay_s=0.05, jitter_s=0.3, reorder=0.2, reorder_delay_s=1.5)
    yield made
    made.close()


def a_busy_half_hour(field: Field) -> None:
    """Commands of every kind to every device, while each device changes its port twice."""
    field.run_for(60)
    for turn in range(4):
        for number in range(DEVICES):
            field.post(number, read("/3/0/0"), execute(RESET_EXTREMES), write(PERIOD, str(100 + turn)))
            if turn == 1:
                observe = CommandRequest("observe", "/3303/0/5700", "OBSERVE /3303/0/5700")
                field.post(number, observe)
            if (turn + number) % 2:
                host, port = field.addresses[number]
                field.network.move((host, port), (host, port + 1000))
                field.addresses[number] = (host, port + 1000)
        field.run_for(240)
    field.run_for(700)


@pytest.mark.spec("Design 7", "MSG-1", "MSG-2")
@pytest.mark.parametrize("field", [1], indirect=True)
def test_every_command_ends_with_exactly_one_response_that_is_true(field: Field) -> None:
    a_busy_half_hour(field)
    store = field.stack.store
    assert store is not None
    assert field.stack.run(store.open_commands(None, 100)) == []
    for number, record in enumerate(field.records):
        name = record.name
        responses = field.responses(number)
        assert len(responses) == field.posted[name]
        messages = field.stack.run(store.projection.received_messages(record.device_id, 10_000, 0))
        ids = [label for each in messages if '"response"' in each.content for label in each.labels[1:2]]
        assert len(set(ids)) == len(ids) == field.posted[name]
        assert {each["status"]["code"] for each in responses} <= {200, 408}
        assert all(
            (each["data"] is not None) == (each["status"]["code"] == 200)
            for each in responses
            if each["method"] in ("read", "observe")
        )
        for method, code, path in (("exec", codes.POST, RESET_EXTREMES), ("write", codes.PUT, PERIOD)):
            ran = sum(
                (each.endpoint_name, each.method, f"/{each.path}", each.code) == (name, code, path, codes.CHANGED)
                for each in field.served
            )
            said = sum(each["method"] == method and each["status"]["code"] == 200 for each in responses)
            commanded = sum(each["method"] == method for each in responses)
            # What was reported as done was done, and nothing was done twice.
            assert said <= ran <= commanded
    assert sum(len(field.responses(number)) for number in range(DEVICES)) == DEVICES * 13
    done = [each for number in range(DEVICES) for each in field.responses(number) if each["status"]["code"] == 200]
    assert len(done) > DEVICES * 13 / 2
    assert len(field.stack.registrations()) == DEVICES


@pytest.mark.parametrize("field", [3], indirect=True)
def test_once_the_network_is_well_again_every_command_succeeds_and_what_is_observed_arrives(field: Field) -> None:
    for number in range(DEVICES):
        field.post(number, read("/3/0/0"))
    a_busy_half_hour(field)
    field.network.impairment.conditions = type(field.network.impairment.conditions)(delay_s=0.05)
    field.run_for(400)
    before = [len(field.stack.values(record, "/3303/0/5700")) for record in field.records]
    seen = [len(field.responses(number)) for number in range(DEVICES)]
    for number in range(DEVICES):
        field.post(number, read("/3/0/0"), execute(RESET_EXTREMES))
    field.run_for(120)
    for number in range(DEVICES):
        assert [each["status"]["code"] for each in field.responses(number)[seen[number] :]] == [200, 200]
    # A device that gave a relation up, since its notification was not acknowledged in time, is asked again when it
    # registers again.
    observed = [bool(each.observed_paths) for each in field.population.devices()]
    after = [len(field.stack.values(record, "/3303/0/5700")) for record in field.records]
    assert any(observed)
    assert [now > then for then, now in zip(before, after, strict=True)] == observed
    for record, relation in zip(field.records, observed, strict=True):
        assert field.stack.observations.wanted_paths(record.device_id) or not relation
