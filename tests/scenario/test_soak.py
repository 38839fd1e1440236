"""Devices come, are asked, fail, move and go, thousands of times: nothing of them stays in memory (design §4)."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.meters import Meters, UplinkMeter
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message, encode_message
from stellwerk.core.ids import PeerId
from stellwerk.storage.memory import MemoryStore
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.stack import Stack, ack, after, con, rst
from tests.scenario.test_commands import NOTIFICATION, execute, read, write
from tests.scenario.test_composites import composite
from tests.scenario.test_observations import observe
from tests.scenario.test_streams import frame

LINKS = b"</>;ct=112,</1/0>,</3/0>,</3303/0>,</9999/0>"
BOUNDED = {"RareLines._written", "ObjectLists._asked", "ModelWarnings._said", "Memory._learned"}
"""The last so many of what was said or learned, whoever it was about."""
FIXED = {"Links._by_transport", "Link._uplink_meters", "Link.refused", "Promoting.hearers"}
NEEDED = {"Turns._looks", "Turns._current", "Lanes._lanes", "Observations._by_device", "Reading._left", "Link._pending"}
NEEDED |= {"Registry._by_device", "Gateways._read_at", "Prolonging._stored_ms", "Delivery._flights", "Tasks._running"}


def tables(root: object) -> Iterator[tuple[str, int]]:
    """Sizes of every table that the server keeps, with where it is; not the store's, the schema's or the engine's."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | MemoryStore | Meters | UplinkMeter):
            continue
        seen.add(id(each))
        names = [*getattr(each, "__dict__", {})]
        for kind in type(each).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            names += [slots] if isinstance(slots, str) else slots
        for name in names:
            value = getattr(each, name, None)
            if isinstance(value, dict | set | list) or type(value).__name__ == "deque":
                yield f"{type(each).__name__}.{name}", len(value)
                waiting.extend(value.values() if isinstance(value, dict) else ())
            elif type(value).__module__.startswith(("stellwerk.app", "stellwerk.southbound")):
                waiting.append(value)


class Crowd:
    """Devices that do as chance has it. Chance is the same in every run."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.chance = random.Random(7)
        self.mid = 0
        self.registered: dict[str, tuple[PeerId, str]] = {}
        """By name: where it speaks from, and its location."""
        self.records: dict[str, Any] = {}
        self.port = 1024

    def peer(self) -> PeerId:
        self.port += 1
        transport = self.chance.choice(["udp", "udp", "tcp"])
        made = PeerId(transport, f"192.0.2.{self.chance.randrange(1, 9)}", self.port, "192.0.2.100", 5683)
        if transport == "tcp":
            self.stack.connect(made)
        return made

    def say(
        self, peer: PeerId, code: int, target: str, payload: bytes = b"", form: int | None = None
    ) -> Message | None:
        """Send a request and give its answer."""
        if peer.is_connection:
            if not self.stack.streams.is_connected(peer):
                return None
            self.stack.say(peer, frame(code, target, b"dev", payload, content_format=form))
            sent = [each for to, each in self.stack.stream_out if to == peer and each is not None]
            return next((each for each in sent if each.token == b"dev"), None)
        self.mid = self.mid + 1 & 0xFFFF
        self.stack << con(code, target, mid=self.mid, token=b"dev", payload=payload, content_format=form, peer=peer)
        return next((each for to, each in self.stack.out if to == peer and each.token == b"dev"), None)

    def register(self, name: str) -> None:
        queue = self.chance.choice(["", "&Q"])
        before = self.registered.get(name)
        peer = before[0] if before is not None and self.chance.random() < 0.5 else self.peer()
        answer = self.say(peer, codes.POST, f"/rd?ep={name}&lt=300&lwm2m=1.1&b=U{queue}", LINKS, 40)
        if answer is not None and answer.code == codes.CREATED:
            parts = [value.decode() for number, value in answer.options if number == 8]
            self.registered[name] = (peer, "/" + "/".join(parts))

    def update(self, name: str) -> None:
        peer, location = self.registered[name]
        if self.chance.random() < 0.3:
            peer = self.peer()
        if self.say(peer, codes.POST, location) is not None:
            self.registered[name] = (peer, location)

    def deregister(self, name: str) -> None:
        peer, location = self.registered.pop(name)
        self.say(peer, codes.DELETE, location)

    def hang_up(self, name: str) -> None:
        peer, _ = self.registered[name]
        if peer.is_connection and self.stack.streams.is_connected(peer):
            self.stack.say(peer, b"")

    def post(self, name: str) -> None:
        kinds = [read("/3/0/0"), write("/3/0/15", "x"), execute("/3/0/4"), observe(), composite("read", "/3/0", "/1/0")]
        kinds.append(CommandRequest("unobserve", "/3303/0/5700", "UNOBSERVE"))
        record = self.records.get(name) or self.stack.run(
            self.stack.store.device_by_name(self.stack.tenant_id, name)  # type: ignore[union-attr]
        )
        if record is not None:
            self.records[name] = record
            wait = self.chance.choice([None, 20_000])
            expires_ms = None if wait is None else self.stack.clock.wall_ms() + wait
            self.stack.post(record, *self.chance.choices(kinds, k=2), expires_ms=expires_ms)

    def answer_some(self) -> None:
        """Answer, refuse, reset or pass over what was asked."""
        out, self.stack.out = self.stack.out, []
        for peer, request in out:
            if request.type != CON or not 0 < request.code < 32:
                continue
            how = self.chance.random()
            if how < 0.2:
                continue
            step = rst(mid=request.mid, peer=peer)
            if how < 0.4:
                step = ack(codes.METHOD_NOT_ALLOWED, mid=request.mid, token=request.token, peer=peer)
            elif how < 0.9:
                observing = 1 if (6, b"") in request.options else None
                code = codes.CONTENT if request.code in (codes.GET, codes.FETCH) else codes.CHANGED
                step = ack(code, mid=request.mid, token=request.token, peer=peer, observe=observing)
                if code == codes.CONTENT:
                    step = ack(
                        code,
                        mid=request.mid,
                        token=request.token,
                        peer=peer,
                        observe=observing,
                        payload=NOTIFICATION,
                        content_format=112,
                    )
            self.stack.engine.feed(encode_message(step.message), peer=peer, now=self.stack.clock.now())
        streams, self.stack.stream_out = self.stack.stream_out, []
        for peer, message in streams:
            if message is None or not 0 < message.code < 32 or self.chance.random() < 0.3:
                continue
            data = frame(codes.CONTENT, "", message.token, NOTIFICATION, content_format=112)
            self.stack.streams.feed(data, peer=peer, now=self.stack.clock.now())
        self.stack.run(self.stack._settle())


class House:
    """A gateway of the same sort, with what is behind it."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd, self.stack, self.chance = crowd, crowd.stack, crowd.chance
        self.stack.provision("gw1")
        peer = PeerId("udp", "192.0.2.200", 5683, "192.0.2.100", 5683)
        self.gateway = Gateway(self.stack, peer=peer, queue="&Q", mid=5000)

    def act(self) -> None:
        gateway, chance = self.gateway, self.chance
        gateway.behind = [Behind(f"d{each}", f"p{each}") for each in chance.sample(range(6), chance.randrange(4))]
        gateway.silent = chance.random() < 0.2
        self.stack.out = [each for each in self.stack.out if each[0] != gateway.peer]
        act = chance.choice([gateway.register, gateway.register, gateway.deregister, lambda: None])
        if act != gateway.deregister or "gw1" in self.stack.registrations():
            act()
        for each in range(6):
            self.crowd.post(f"gw1-d{each}")
        gateway.pump()


@pytest.mark.spec("R-6", "R-9", "LwM2M-contract 12")
def test_nothing_stays_in_memory_of_devices_that_come_and_go() -> None:
    stack = Stack(auto_provision=("soak-*",), end_devices=6, reads=(3,), uplinks_extend=True, gap_s=0.1, read_at_once=4)
    crowd = Crowd(stack)
    house = House(crowd)
    chance = crowd.chance
    for number in range(50):
        for _ in range(10):
            crowd.register(f"soak-{chance.randrange(number, number + 12)}")
        for act in (crowd.post, crowd.post, crowd.update, crowd.post, crowd.hang_up, crowd.deregister):
            for name in chance.sample(sorted(crowd.registered), min(4, len(crowd.registered))):
                if name in crowd.registered:
                    act(name)
        # They may be gone.
        crowd.post(f"soak-{chance.randrange(number + 1)}")
        house.act()
        crowd.answer_some()
        crowd.answer_some()
        stack << after(chance.choice([0.2, 1, 5, 95]))
    for _ in range(10):
        stack << after(200)
        stack.out.clear()
        stack.stream_out.clear()
    assert stack.registrations() == []
    found = dict(each for root in (stack.listening, stack.links, stack.uplinks, stack.expiry) for each in tables(root))
    assert found.keys() >= NEEDED | BOUNDED
    assert {name: size for name, size in found.items() if size and name not in BOUNDED | FIXED} == {}
    assert stack.engine.peers == 0
    stack.close()
