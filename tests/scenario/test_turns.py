"""Whose turn it is with a device that sleeps, when several parts of the server want something of it (contract §3)."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from stellwerk.app.ports import Limits
from stellwerk.coap import codes
from stellwerk.coap.message import encode_message
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import UNANSWERED, Command, Step
from stellwerk.device.profile import PowerMode
from stellwerk.lwm2m.operations import Discover
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from stellwerk.storage.memory import MemoryStore
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import execute, path_of, read
from tests.scenario.test_composites import LEVEL, LIFETIME, VALUE, composite, join
from tests.scenario.test_observations import establish, observe, unobserve
from tests.scenario.test_queue import answer as answer_read
from tests.scenario.test_queue_mode import commands, give, seconds, sent
from tests.scenario.test_registration import ELSEWHERE, LINKS, register
from tests.scenario.test_storms import SLEEPER, responses
from tests.scenario.test_streams import CONNECTION, frame, said
from tests.scenario.test_streams import register as stream_register


class SlowRows(MemoryStore):
    """Open commands are read when ``wait`` is set, where it is there."""

    def __init__(self) -> None:
        super().__init__(library=Library.builtin(), limits=Limits())
        self.wait: asyncio.Event | None = None

    async def open_commands(self, device_id: DeviceId, limit: int) -> Sequence[Command]:
        if self.wait is not None:
            await self.wait.wait()
        return await super().open_commands(device_id, limit)


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(queue_s=6000)
    yield made
    made.close()


@pytest.mark.spec("QM-3", "D-12")
def test_every_part_of_a_conversation_is_held_once_the_window_is_over(stack: Stack) -> None:
    give(stack, awake_s=10.0)
    device = join(stack, flags="&Q")
    stack.post(device, composite("read", LEVEL, VALUE))
    request = stack.take()
    stack << ack(mid=request.mid)
    seconds(stack, 5)
    stack << con(codes.METHOD_NOT_ALLOWED, mid=50, token=request.token) >> ack(mid=50)
    # It acknowledged the first part only, and says nothing to the second.
    assert path_of(stack.take()) == LEVEL
    seconds(stack, 11)
    sent(stack)
    seconds(stack, 100)
    assert sent(stack) == []


@pytest.mark.spec("QM-2", "D-12")
def test_a_device_that_answers_part_by_part_listens_all_the_while(stack: Stack) -> None:
    give(stack, awake_s=30.0, power_mode=PowerMode.PSM, request_timeout_s=40.0)
    device = join(stack, version="1.0", links=b"</1/0>,</3/0>")
    stack.post(device, composite("read", LEVEL, LIFETIME, "/3/0/21"))
    for value in (b"\xc2\x01\x01\x2c", b"\xc1\x09\x50"):
        request = stack.take()
        seconds(stack, 25)
        stack.out.clear()
        stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=value, content_format=11542)
    # Its window began anew with each answer, and so did its time for the next.
    assert sent(stack) == ["/3/0/21"]
    seconds(stack, 8)
    assert set(sent(stack)) == {"/3/0/21"}
    seconds(stack, 22)
    sent(stack)
    seconds(stack, 9)
    assert sent(stack) == []
    seconds(stack, 2)
    assert commands(stack, device)[0].reason == UNANSWERED


@pytest.mark.spec("MSG-11", "D-12")
def test_a_conversation_goes_on_where_the_device_has_moved_to_in_its_silence(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack)
    stack.post(device, composite("read", LEVEL, VALUE))
    request = stack.take()
    stack << ack(mid=request.mid)
    stack << con(codes.POST, location, mid=9, peer=ELSEWHERE) >> ack(codes.CHANGED, mid=9, peer=ELSEWHERE)
    stack.out.clear()
    seconds(stack, 31)
    assert {(peer, path_of(message)) for peer, message in stack.out} == {(ELSEWHERE, LEVEL)}


@pytest.mark.spec("QM-8")
def test_a_device_that_looks_for_pages_is_asked_after_a_restart_without_being_heard(stack: Stack) -> None:
    give(stack, power_mode=PowerMode.E_DRX, paging_window_s=5.0, edrx_cycle_s=80.0)
    device = stack.provision("dev1")
    register(stack)
    seconds(stack, 6)
    again = Stack(store=stack.store, clock=stack.clock, seed=1, queue_s=6000)
    again.run(again._then_settle(again.commands.recover()))
    again.post(device, read("/3/0/0"))
    assert sent(again) == ["/3/0/0"]
    again.close()


# -- what waits, when something else comes to nothing --


@pytest.mark.spec("QM-3", "OB-5")
def test_a_cancel_that_needs_no_device_does_not_let_what_is_behind_it_out(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = register(stack, target=SLEEPER)
    stack.post(device, observe())
    establish(stack, stack.take())
    # It falls asleep over an Execute, and the cancel's time is over by the time that one is given up.
    stack.post(device, execute("/3/0/4"))
    stack.post(device, unobserve(), expires_ms=stack.clock.wall_ms() + 60_000)
    stack.post(device, read("/3/0/0"))
    sent(stack)
    stack << after(94)
    assert "/3/0/0" not in sent(stack)
    assert responses(stack, device)[1:] == [(408, "timeout-binding"), (408, "timeout-binding")]
    stack << con(codes.POST, location, mid=9) >> ack(codes.CHANGED, mid=9)
    assert sent(stack) == ["/3/0/0"]


@pytest.mark.spec("QM-3")
def test_reads_of_our_own_do_not_wait_for_commands_that_turn_out_to_be_over() -> None:
    store = SlowRows()
    stack = Stack(store=store, queue_s=60, reads=(3,), gap_s=0.1)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    stack.out.clear()
    seconds(stack, 95)
    stack.post(device, read("/3/0/0"))
    again = Stack(store=store, clock=stack.clock, seed=1, queue_s=60, reads=(3,), gap_s=0.1)
    stack.close()
    again.run(again._then_settle(again.commands.recover()))
    # It ended meanwhile, and nobody has looked at the row.
    store._commands[next(iter(store._commands))].step = Step.CANCELLED
    store.wait = asyncio.Event()

    async def wake_up() -> None:
        step = con(codes.POST, SLEEPER, mid=5, token=b"t", payload=LINKS, content_format=40)
        again.engine.feed(encode_message(step.message), peer=step.peer, now=again.clock.now())
        for moment in range(40):
            again.link.handle(again.engine.take_events(), again.clock.instant())
            await asyncio.sleep(0)
            if moment == 20:
                again.clock.at += 1
                for _, call in again.timers:
                    call()
                again.timers.clear()
        assert store.wait is not None
        store.wait.set()
        await again._settle()

    again.run(wake_up())
    assert "/3" in sent(again)
    again.close()


@pytest.mark.spec("D2C 7.3", "BIN-4")
def test_a_command_lost_with_its_connection_and_its_registration_ends_with_them(stack: Stack) -> None:
    device = stack.provision("dev1")
    location = stream_register(stack)
    stack.queue_s = None
    stack.profiles._queue_s = None
    stack.post(device, read("/3/0/0"))
    assert path_of(said(stack, CONNECTION)) == "/3/0/0"
    # Both in one round: De-register is stored while the end of the connection is still to be told.
    stack.streams.feed(frame(codes.DELETE, location), peer=CONNECTION, now=stack.clock.now())

    async def race() -> None:
        stack.stream_link.handle(stack.streams.take_events(), stack.clock.instant())
        stack.streams.feed(b"", peer=CONNECTION, now=stack.clock.now())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stack.registrations()
        await stack._settle()

    stack.run(race())
    assert responses(stack, device) == [(408, "timeout-binding")]


@pytest.mark.spec("OB-7")
def test_much_that_waits_in_the_name_of_an_old_registration_does_not_keep_the_next_command(stack: Stack) -> None:
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    known = stack.registry.of(device.device_id)
    assert known is not None
    old = replace(known.registration, location="gone")
    first = 1 << 60

    async def ask() -> None:
        stack.turns.send(first, known.registration, Discover(Path(3)))
        for number in range(1_100):
            stack.turns.send(first + 1 + number, old, Discover(Path(3)))

    stack.run(stack._then_settle(ask()))
    stack.post(device, read("/3/0/0"))
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=b"</3>", content_format=40)
    assert sent(stack) == ["/3/0/0"]
    assert not stack.turns._waiting


def test_looks_at_what_is_over_do_not_pile_up_for_as_long_as_a_window_may_be(stack: Stack) -> None:
    give(stack, awake_s=86_400.0)
    device = stack.provision("dev1")
    register(stack, target=SLEEPER)
    for _ in range(150):
        stack.post(device, read("/3/0/0"))
        answer_read(stack, stack.take())
    assert len(stack.turns._looks) <= 65
