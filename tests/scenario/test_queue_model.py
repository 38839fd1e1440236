"""The queue of a sleeper against a list: whatever is posted, cancelled, answered, left unanswered or restarted, the
device is asked in the order of the list, and every command ends as the list says (contract QM-3 to QM-5)."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stellwerk.coap import codes
from stellwerk.coap.message import CON
from stellwerk.device.command import Step
from tests.scenario.stack import Stack, after, con
from tests.scenario.test_commands import execute, path_of, read, write
from tests.scenario.test_queue import answer, restarted
from tests.scenario.test_registration import register
from tests.scenario.test_storms import SLEEPER

ZONES = ("/3/0/14", "/3/0/15")
REBOOT = "/3/0/4"
METHODS = {codes.GET: "read", codes.PUT: "write", codes.POST: "execute"}
TRIES = 3


@dataclass
class Owed:
    number: int
    method: str
    path: str
    priority: int
    message: Any
    step: Step = Step.QUEUED
    tries: int = 0


class Sleeper(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.stack = Stack(queue_s=10_000_000)
        self.device = self.stack.provision("dev1")
        self.location = register(self.stack, target=SLEEPER.replace("lt=3000", "lt=0"))
        self.stack << after(94)
        self.mid = 10
        self.owed: list[Owed] = []

    def waiting(self) -> list[Owed]:
        open_ones = [each for each in self.owed if each.step in (Step.QUEUED, Step.SENT)]
        return sorted(open_ones, key=lambda each: (-each.priority, each.number))

    @rule(
        method=st.sampled_from(["read", "write", "write", "execute"]),
        zone=st.sampled_from(ZONES),
        priority=st.sampled_from([0, 0, 0, 5]),
    )
    def post(self, method: str, zone: str, priority: int) -> None:
        path = REBOOT if method == "execute" else zone
        made = {"read": read(path), "write": write(path, "x"), "execute": execute(path)}[method]
        message = self.stack.post(self.device, made, priority=priority)
        fresh = Owed(len(self.owed), method, path, priority, message)
        self.owed.append(fresh)
        if method == "write":
            order = self.waiting()
            place = order.index(fresh)
            for side in (order[:place][::-1], order[place + 1 :]):
                for each in side:
                    if (each.method, each.path, each.step) == ("write", path, Step.QUEUED):
                        each.step = Step.SUPERSEDED
                    elif each.method == "execute" or each.path == path:
                        break

    @precondition(lambda self: any(each.step is Step.QUEUED for each in self.owed))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from([each for each in self.owed if each.step is Step.QUEUED]))
        assert self.stack.run(self.stack._then_settle(self.stack.commands.cancel(self.device, chosen.message)))
        chosen.step = Step.CANCELLED

    @rule(patience=st.integers(0, 4), anew=st.booleans())
    def wake(self, patience: int, anew: bool) -> None:
        """The device is heard, answers so many requests, and falls asleep."""
        self.mid += 1
        if anew:
            self.location = register(self.stack, mid=self.mid, target=SLEEPER.replace("lt=3000", "lt=0"))
        else:
            self.stack << con(codes.POST, self.location, mid=self.mid)
            assert self.stack.take().code == codes.CHANGED
        while order := self.waiting():
            ((_, request),) = self.stack.out
            self.stack.out.clear()
            assert (METHODS[request.code], path_of(request)) == (order[0].method, order[0].path)
            order[0].tries += 1
            order[0].step = Step.SENT
            if not patience:
                break
            patience -= 1
            answer(self.stack, request) if order[0].method != "execute" else self.changed(request)
            order[0].step = Step.SUCCEEDED
        assert self.stack.silent()
        self.stack << after(94)
        self.stack << after(94)
        assert {message.type for _, message in self.stack.out} <= {CON}
        self.stack.out.clear()
        if order and (order[0].method == "execute" or order[0].tries == TRIES):
            order[0].step = Step.TIMED_OUT

    def changed(self, request: Any) -> None:
        self.mid += 1
        self.stack << con(codes.CHANGED, mid=20_000 + self.mid, token=request.token)
        self.stack.take()

    @rule()
    def restart(self) -> None:
        old, self.stack = self.stack, restarted(self.stack)
        old.close()
        for each in self.owed:
            # How often a command was tried is not known any more; that it was, is.
            each.tries = min(each.tries, 1)

    @invariant()
    def every_command_is_where_the_list_says(self) -> None:
        if hasattr(self, "stack"):
            assert self.stack.store is not None
            found = self.stack.run(self.stack.store.recent_commands(self.device.device_id, 1000))
            assert [each.step for each in reversed(found)] == [each.step for each in self.owed]
            ended = [each for each in self.owed if each.step not in (Step.QUEUED, Step.SENT)]
            said = [each for each in self.stack.received(self.device) if each["messageType"] == "response"]
            assert len(said) == len(ended)
            assert self.stack.silent()

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()


Sleeper.TestCase.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
test_the_queue_of_a_sleeper_is_the_list_it_should_be = pytest.mark.spec("QM-3", "QM-4", "QM-5")(Sleeper.TestCase)
