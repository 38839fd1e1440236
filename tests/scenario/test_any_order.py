"""Commands under whatever happens in whatever order: people post, cancel and change the profile, the device wakes,
moves, registers anew, speaks TCP, hangs up, answers, refuses or keeps silent, the disk is slow or refuses, the server
dies and comes back.

The device is one; what it gets and when it speaks is Hypothesis's choice. What has to hold after each step is in the
invariants, and at the end nothing is open any more.
"""

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cbor2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stellwerk.app.command_request import CommandRequest
from stellwerk.app.ports import StoreTrouble
from stellwerk.app.records import DeviceChange
from stellwerk.coap import codes
from stellwerk.coap.message import CON, Message
from stellwerk.core.ids import PeerId
from stellwerk.device.command import FINAL, Step
from stellwerk.device.profile import PowerMode, Profile, ProfileRecord
from stellwerk.device.queue import in_order
from tests.scenario.stack import HOME, Stack, ack, after, con, rst
from tests.scenario.test_commands import NOTIFICATION, path_of, read
from tests.scenario.test_observations import notification, observe, unobserve
from tests.scenario.test_registration import ELSEWHERE
from tests.scenario.test_streams import frame
from tests.scenario.trouble import TroubledStore

BODY = b'</>;rt="oma.lwm2m";ct=112,</1/0>,</3/0>,</3303/0>'
TARGETS = {True: "/rd?ep=dev1&lt=900&lwm2m=1.1&b=U&Q", False: "/rd?ep=dev1&lt=900&lwm2m=1.1&b=U"}
MARK = re.compile(rb"c([0-9]+)x")
OBSERVE = 6

kinds = st.sampled_from(
    [
        *("read", "write", "execute", "execute", "observe", "observe other", "unobserve"),
        *("observe with attributes", "write attributes", "unobserve passively"),
        *("read list", "write map", "observe list", "unobserve list"),
    ]
)
PATIENCE = 300
"""A task may wait for a disk that is slow until it catches up."""
LIST = ("/3/0/0", "/3303/0/5700")
CONNECTION = PeerId("tcp", "192.0.2.1", 50_001, "192.0.2.100", 5683)
peers = st.sampled_from([HOME, HOME, ELSEWHERE, CONNECTION])
PROFILES = [
    {},
    {"power_mode": PowerMode.PSM, "awake_s": 10.0},
    {"power_mode": PowerMode.DRX, "request_timeout_s": 30.0},
    {"power_mode": PowerMode.E_DRX, "paging_window_s": 5.0, "edrx_cycle_s": 60.0},
    {"coalesce": False, "priority": 3, "ack_timeout_s": 8.0},
]


class AnyOrder(RuleBasedStateMachine):
    body = BODY
    end_devices = 0

    def __init__(self) -> None:
        super().__init__()
        self.store = TroubledStore()
        self.stack = Stack(store=self.store, again_s=0.0, end_devices=self.end_devices, patience=PATIENCE)
        self.device = self.stack.provision("dev1", ("d2c-uplink-property_Room:7",))
        self.inbox: list[tuple[PeerId, Message]] = []
        """Requests that the device did not answer yet."""
        self.messages: list[tuple[Any, Any]] = []
        """What was posted, with the device."""
        self.posted = 0
        self.reached: dict[int, set[bytes]] = defaultdict(set)
        """By number of the command: tokens of the requests that carried it."""
        self.first_sent: list[int] = []
        self.executes: set[int] = set()
        self.priorities: dict[int, tuple[int, int]] = {}
        """Device and priority, by number of the command."""
        self.location = ""
        self.peer = HOME
        self.mid = 0
        self.runs = 0
        self.token = b""
        """Of the device's newest relation."""

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.stack.close()

    # -- people --

    @rule(
        wanted=st.lists(kinds, min_size=1, max_size=3),
        wait_s=st.sampled_from([None, None, 30, 400]),
        priority=st.sampled_from([0, 0, 0, 5]),
    )
    def post(self, wanted: list[str], wait_s: int | None, priority: int) -> None:
        device = self.somebody()
        requests = [self.request(each) for each in wanted]
        numbers = range(self.posted - len(wanted) + 1, self.posted + 1)
        self.priorities |= dict.fromkeys(numbers, (device.device_id, priority))
        expires_ms = None if wait_s is None else self.stack.clock.wall_ms() + wait_s * 1000
        message = self.stack.post(device, *requests, expires_ms=expires_ms, priority=priority)
        self.messages.append((device, message))
        self.collect()

    def somebody(self) -> Any:
        """Whom the next message is for."""
        devices = self.devices()
        return devices[self.posted % len(devices)]

    def devices(self) -> list[Any]:
        return [*self.stack.run(self.store.devices(self.stack.tenant_id, 10, 0))]

    @rule(settings=st.sampled_from(PROFILES))
    def change_the_profile(self, settings: dict[str, Any]) -> None:
        async def work() -> None:
            record = ProfileRecord(self.stack.tenant_id, "SCS-LwM2M", Profile(**settings), 1, self.posted + 1)
            await self.store.put_profile(record)
            await self.stack.profiles.refresh()

        self.stack.run(self.stack._then_settle(work()))
        self.collect()

    def request(self, kind: str) -> CommandRequest:
        self.posted += 1
        mark = f"c{self.posted}x"
        if kind == "execute":
            self.executes.add(self.posted)
            return CommandRequest("execute", "/3/0/4", mark, arguments=f"0='{mark}'")
        if kind == "write":
            return CommandRequest("write", "/3/0/15", mark, mark, has_value=True)
        if kind == "write map":
            value = {"/3/0/15": mark, "/3/0/14": "+01"}
            return CommandRequest(
                "write-composite", ",".join(value), mark, value, has_value=True, from_text=False, paths=tuple(value)
            )
        others = {
            "observe with attributes": replace(observe(), attributes=(("pmin", "5"),)),
            "write attributes": CommandRequest("write-attributes", "/3303/0", mark, attributes=(("pmax", "60"),)),
            "unobserve passively": replace(unobserve(), attributes=(("passive", None),)),
            "read list": CommandRequest("read-composite", ",".join(LIST), mark, paths=LIST),
            "observe list": CommandRequest("observe-composite", ",".join(LIST), mark, paths=LIST),
            "unobserve list": CommandRequest("unobserve-composite", ",".join(LIST), mark, paths=LIST),
            "read": read("/3/0/0"),
            "observe": observe(),
            "observe other": observe("/3/0/1"),
            "unobserve": unobserve(),
        }
        return others[kind]

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        device, message = data.draw(st.sampled_from(self.messages[-5:]))

        async def work() -> None:
            with suppress(StoreTrouble):
                await self.stack.commands.cancel(device, message)

        if not self.store.slow:
            self.stack.run(self.stack._then_settle(work()))
        self.collect()

    @rule(room=st.sampled_from(["7", "8", "9"]))
    def relabel(self, room: str) -> None:
        async def work() -> None:
            labels = (f"d2c-uplink-property_Room:{room}",)
            changed = await self.store.change_device(
                self.device.device_id, DeviceChange(self.stack.clock.wall_ms(), labels=labels)
            )
            assert changed is not None
            known = self.stack.registry.of(self.device.device_id)
            if known is not None:
                known.record, known.uplink_labels = changed, changed.uplink_labels
            self.stack.commands.delivery.relabel(self.device.device_id, changed.uplink_labels)
            self.device = changed

        self.stack.run(work())

    # -- the device --

    @initialize(asleep=st.booleans())
    def begin(self, asleep: bool) -> None:
        self.register(HOME, asleep)

    @rule(peer=peers, queue_mode=st.booleans())
    def register(self, peer: PeerId, queue_mode: bool) -> None:
        self.peer = peer
        self.say(codes.POST, TARGETS[queue_mode], payload=self.body, content_format=40)

    @precondition(lambda self: self.location)
    @rule(peer=peers)
    def update(self, peer: PeerId) -> None:
        self.peer = peer
        self.say(codes.POST, self.location)

    @precondition(lambda self: self.location)
    @rule()
    def deregister(self) -> None:
        self.say(codes.DELETE, self.location)
        self.location = ""

    @precondition(lambda self: self.token)
    @rule()
    def notify(self) -> None:
        self.mid += 1
        self.stack << notification(self.token, mid=self.mid, number=self.mid)
        self.collect()

    @precondition(lambda self: self.peer is CONNECTION)
    @rule()
    def hang_up(self) -> None:
        self.stack.say(CONNECTION, b"")
        self.collect()

    @precondition(lambda self: self.inbox)
    @rule(how=st.sampled_from(["ok", "ok", "ok", "refuse", "reset", "lose"]))
    def answer(self, how: str) -> None:
        peer, request = self.inbox.pop(0)
        if how == "lose":
            return
        if peer == CONNECTION:
            self.answer_over_the_connection(request, how)
        elif how == "reset":
            self.stack << rst(mid=request.mid, peer=peer)
        elif how == "refuse":
            self.stack << ack(codes.NOT_FOUND, mid=request.mid, token=request.token, peer=peer)
        elif request.code in (codes.GET, codes.FETCH):
            value = dict(request.options).get(OBSERVE)
            payload = self.content(path_of(request), request.code)
            if value == b"":
                self.token = request.token
            number = 1 if value == b"" else None
            self.stack << ack(
                codes.CONTENT,
                mid=request.mid,
                token=request.token,
                payload=payload,
                content_format=112,
                observe=number,
                peer=peer,
            )
        else:
            self.stack << ack(codes.CHANGED, mid=request.mid, token=request.token, peer=peer)
        self.collect()

    def content(self, path: str, code: int) -> bytes:
        if path == "/3303/0/5700" or code == codes.FETCH:
            return NOTIFICATION
        return b"\x81\xa2\x21" + bytes([0x60 + len(path)]) + path.encode() + b"\x03\x64ACME"

    def answer_over_the_connection(self, request: Message, how: str) -> None:
        if how == "reset":
            self.stack.say(CONNECTION, b"")
        elif how == "refuse":
            self.stack.say(CONNECTION, frame(codes.NOT_FOUND, token=request.token))
        elif request.code in (codes.GET, codes.FETCH):
            observe = 1 if dict(request.options).get(OBSERVE) == b"" else None
            payload = self.content(path_of(request), request.code)
            data = frame(codes.CONTENT, "", request.token, payload, content_format=112, observe=observe)
            self.stack.say(CONNECTION, data)
        else:
            self.stack.say(CONNECTION, frame(codes.CHANGED, token=request.token))

    def say(self, code: int, target: str, **more: Any) -> None:
        self.mid += 1
        if self.peer is CONNECTION:
            if not self.stack.streams.is_connected(CONNECTION):
                self.stack.connect(CONNECTION)
            self.stack.say(CONNECTION, frame(code, target, b"d", **more))
            self.collect()
            return
        self.stack << con(code, target, mid=self.mid, token=b"d", peer=self.peer, **more)
        self.collect()

    # -- the world --

    @rule(seconds=st.sampled_from([1, 10, 95, 95, 500]))
    def time_passes(self, seconds: int) -> None:
        self.stack << after(seconds)
        self.collect()

    @rule(commits=st.integers(1, 3))
    def the_disk_refuses(self, commits: int) -> None:
        self.store.refuse_next = commits

    @rule()
    def the_disk_is_slow(self) -> None:
        self.store.slow = True

    @precondition(lambda self: self.store.slow)
    @rule()
    def the_disk_catches_up(self) -> None:
        async def work() -> None:
            self.store.catch_up()
            await self.stack._settle()

        self.stack.run(work())
        self.collect()

    @rule()
    def the_server_dies_and_comes_back(self) -> None:
        # What was not written is lost, and nobody was told that it is stored.
        self.store._held.clear()
        self.store.slow = False
        self.store.refuse_next = 0
        self.runs += 1
        before = self.stack
        self.stack = Stack(
            store=self.store,
            clock=before.clock,
            seed=self.runs,
            ask_for_s=247,
            again_s=0.0,
            end_devices=self.end_devices,
            patience=PATIENCE,
        )
        before.close()
        self.stack.run(self.stack._then_settle(self.stack.commands.recover()))
        self.collect()

    def collect(self) -> None:
        streams = [(peer, message) for peer, message in self.stack.stream_out if message is not None]
        for peer, message in [*self.stack.out, *streams]:
            if (message.type == CON or peer == CONNECTION) and codes.GET <= message.code <= codes.IPATCH:
                self.inbox.append((peer, message))
                for found in MARK.findall(message.payload):
                    number = int(found)
                    if not self.reached[number]:
                        self.first_sent.append(number)
                    self.reached[number].add(message.token)
                    # The datagram is out: that it is must be on the disk.
                    assert self.step_of(number) is not Step.QUEUED
            elif message.code == codes.CREATED:
                self.location = "/" + "/".join(value.decode() for option, value in message.options if option == 8)
        self.stack.out.clear()
        self.stack.stream_out.clear()

    def step_of(self, number: int) -> Step:
        (found,) = [each.step for each in self.store._commands.values() if each.content == f'"c{number}x"']
        return found

    # -- what always holds --

    @invariant()
    def each_command_has_one_response_once_it_ended_and_none_before(self) -> None:
        answered: dict[str, int] = defaultdict(int)
        received = self.store.projection.received_messages
        for record in [
            each for device in self.devices() for each in self.stack.run(received(device.device_id, 10_000, 0))
        ]:
            if '"messageType":"response"' in record.content:
                answered[record.labels[1]] += 1
                assert record.labels[0].startswith("outgoing_msgRN:")
                assert [each.partition(":")[0] for each in record.labels[2:]] == ["Room"]
        for command in self.store._commands.values():
            assert answered[command.labels[1]] == (command.step in FINAL), command

    @invariant()
    def an_open_command_is_seen_where_it_belongs(self) -> None:
        names = [each.resource_name for _, each in self.store._sent.values()]
        assert len(names) == len(set(names))
        outgoing = {resource_id for _, resource_id in self.store._outgoing}
        for command in self.store._commands.values():
            if command.step is Step.QUEUED:
                assert command.outgoing_ri in outgoing
            elif command.step not in FINAL:
                assert command.command_id in self.store._sent

    @invariant()
    def an_execute_reaches_the_device_once_at_most(self) -> None:
        for number in self.executes:
            assert len(self.reached[number]) <= 1, f"c{number}x"

    @invariant()
    def commands_leave_in_the_order_of_their_posting(self) -> None:
        for line in set(self.priorities.values()):
            sent = [each for each in self.first_sent if self.priorities[each] == line]
            assert sent == sorted(sent)

    @invariant()
    def memory_and_rows_agree(self) -> None:
        delivery, store = self.stack.commands.delivery, self.store
        lanes = delivery._lanes
        open_ids = {each.command_id for each in store._commands.values() if each.step not in FINAL}
        if not store.slow:
            assert lanes._ending <= open_ids
            assert set(lanes.tries) <= open_ids
            assert set(delivery._flights) <= open_ids
            known = self.stack.observations._by_device
            for device_id, wanted in known.items():
                assert {*wanted} == {path for each, path in store._observations if each == device_id}
            tokens = {each.token for wanted in known.values() for each in wanted.values()}
            assert {*self.stack.observations._by_token} == tokens
        for device in self.devices():
            if lanes.is_stored(device.device_id):
                continue
            lane = lanes.get(device.device_id)
            owed = set() if lane is None else {each.command_id for each in lane.waiting}
            if lane is not None and lane.active is not None:
                owed.add(lane.active.command_id)
            its = {each for each in open_ids if store._commands[each].device_id == device.device_id}
            assert its <= owed | lanes._ending
            assert lane is None or list(lane.waiting) == in_order(lane.waiting)

    @invariant()
    def whoever_sleeps_is_asked_one_thing_at_a_time(self) -> None:
        turns = self.stack.turns
        assert set(turns._client_of) == set(turns._current.values())
        assert set(self.stack.links._by_transport["udp"]._pending) <= set(turns._out)
        lanes = self.stack.commands.delivery._lanes._lanes.values()
        # Or that it leaves is being stored.
        active = {each.active.command_id for each in lanes if each.active is not None}
        assert set(turns._current.values()) <= set(turns._out) | active

    def everything_ends(self) -> None:
        """The disk is well, and the device comes and answers whatever it is asked."""
        self.store.refuse_next = 0
        if self.store.slow:
            self.the_disk_catches_up()
        for _ in range(3 * len(self.store._commands) + 3):
            if all(each.step in FINAL for each in self.store._commands.values()):
                break
            self.register(HOME, queue_mode=True)
            while self.inbox:
                self.answer("ok")
            self.time_passes(10)
        self.each_command_has_one_response_once_it_ended_and_none_before()
        still = [each for each in self.store._commands.values() if each.step not in FINAL]
        assert not still


class AnyOrderBehindAGateway(AnyOrder):
    """Two devices are behind the one that speaks, and all three are asked."""

    body = BODY + b',</25>;ver="2.0",</25/0>,</25/1>'
    end_devices = 3

    @initialize(asleep=st.booleans())
    def begin(self, asleep: bool) -> None:
        self.register(HOME, asleep)
        while self.inbox:
            self.answer("ok")
        assert len(self.devices()) == 3

    def content(self, path: str, code: int) -> bytes:
        if path == "/25":
            stems = [(f"/25/{place}", f"d{place}", f"p{place}") for place in range(2)]
            records = [({0: f"{stem}/0", 3: name}, {0: f"{stem}/1", 3: prefix}) for stem, name, prefix in stems]
            links = [{0: f"{stem}/3", 3: "</3/0>,</3303/0>"} for stem, _, _ in stems]
            return cbor2.dumps([*records[0], links[0], *records[1], links[1]])
        if path.endswith("/3303/0/5700"):
            return cbor2.dumps([{0: path, 2: 21.5}])
        return super().content(path, code)

    @invariant()
    def a_household_has_one_command_on_its_way(self) -> None:
        lanes = self.stack.commands.delivery._lanes._lanes.values()
        ending = self.stack.commands.delivery._lanes._ending
        assert sum(each.active is not None and each.active.command_id not in ending for each in lanes) <= 1


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestAnyOrderBehindAGateway = AnyOrderBehindAGateway.TestCase
TestAnyOrderBehindAGateway.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
