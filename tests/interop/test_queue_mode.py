"""Devices in queue mode, on Leshan and on aiocoap, whose radio is off unless they spoke a moment ago. How often
something was delivered is counted on the device's side."""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from aiocoap_device import SENML_CBOR, AiocoapDevice
from leshan_client import LeshanClient, class_path
from raw_coap import Relay
from served import Json, Served, wait_until

AWAKE_S = "1"
RADIO_S = 3.0
"""Longer than the server believes, so that a server that keeps to its window never speaks to a device that is deaf."""

_numbers = itertools.count(1)


class Sleeper(Protocol):
    """A device with a time zone to write and a reboot to execute."""

    name: str
    relay: Relay

    def register(self) -> None: ...
    def register_soon(self) -> None:
        """Begins to, and returns."""

    def wake(self) -> None:
        """Updates its registration."""

    def writes(self, value: str) -> int: ...
    def executes(self, arguments: str) -> int: ...
    def close(self) -> None: ...


class LeshanSleeper:
    def __init__(self, name: str, server: Served) -> None:
        self.name, self.relay = name, Relay(server.coap_port, awake_s=RADIO_S)
        self.client: LeshanClient | None = None

    def register(self) -> None:
        self.client = LeshanClient(self.relay.port, self.name, queue_mode=True)
        assert self.client.wait_said("register").startswith("registered /rd/")

    def register_soon(self) -> None:
        assert self.client is not None
        self.client.order("again")

    def wake(self) -> None:
        assert self.client is not None
        self.client.order("update")
        self.client.wait_said("updated")

    def writes(self, value: str) -> int:
        return self.client.count(f"wrote 15 {value}") if self.client else 0

    def executes(self, arguments: str) -> int:
        return self.client.count(f"executed 4 {arguments}") if self.client else 0

    def close(self) -> None:
        if self.client is not None:
            self.client.kill()
        self.relay.close()


class AiocoapSleeper:
    def __init__(self, name: str, server: Served) -> None:
        self.name, self.relay = name, Relay(server.coap_port, awake_s=RADIO_S)
        self._device = AiocoapDevice(self.relay.port)

    def register(self) -> None:
        self._device.register(self.name, queue_mode=True)

    def register_soon(self) -> None:
        self._device.register_soon(self.name, queue_mode=True)

    def wake(self) -> None:
        self._device.update()

    def writes(self, value: str) -> int:
        # One record of SenML CBOR: 13 bytes of name and heads, then the text.
        return sum(
            payload[13:] == value.encode() for form, payload in self._device.timezone.writes if form == SENML_CBOR
        )

    def executes(self, arguments: str) -> int:
        return self._device.reboot.calls.count(arguments.encode())

    def close(self) -> None:
        self._device.close()
        self.relay.close()


REASON = class_path()[1]
KINDS = [
    pytest.param(LeshanSleeper, id="leshan", marks=pytest.mark.skipif(bool(REASON), reason=f"Leshan: {REASON}")),
    pytest.param(AiocoapSleeper, id="aiocoap"),
]
Make = Callable[..., Sleeper]


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    return serve_module(auto_provision="sleeper-*", awake_s=AWAKE_S).start()


@pytest.fixture(params=KINDS)
def sleeper(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes registered sleepers that end with the test."""
    made: list[Sleeper] = []

    def make(server: Served) -> Sleeper:
        made.append(request.param(f"sleeper-{next(_numbers)}", server))
        made[-1].register()
        server.api.wait_type(made[-1].name, "registration")
        return made[-1]

    yield make
    for each in made:
        each.close()


def fall_asleep(device: Sleeper) -> None:
    wait_until(lambda: not device.relay.is_open, within_s=20, what="the radio is off")


def succeed(answers: list[Json]) -> None:
    assert [each["status"]["reason"] for each in answers] == ["ok"] * len(answers)


@pytest.mark.spec("QM-1")
@pytest.mark.spec("QM-3")
@pytest.mark.spec("QM-5")
def test_what_waits_for_a_sleeper_leaves_in_order_once_it_is_heard(server: Served, sleeper: Make) -> None:
    device = sleeper(server)
    fall_asleep(device)
    wanted = "WRITE /3/0/15 one; EXECUTE /3/0/4?0='a'; READ /3/0/15; WRITE /3/0/15 two; READ /3/0/15"
    posted = server.api.command(device.name, wanted)
    more = server.api.command(device.name, "EXECUTE /3/0/4?0='b'")
    time.sleep(1)  # in which nothing may happen
    for each in (posted, more):
        waiting = server.api.get(f"/device-communication/{device.name}/outgoing-msg/{each}")
        assert waiting.status_code == 200
    assert server.api.latest(device.name, "sent-msg") is None
    device.wake()
    answers = server.answers(device.name, posted, 5)
    succeed(answers + server.answers(device.name, more))
    assert [each["method"] for each in answers] == ["write", "exec", "read", "write", "read"]
    assert [each["data"] for each in answers if each["method"] == "read"] == [{"3/0/15": "one"}, {"3/0/15": "two"}]
    assert [device.writes("one"), device.writes("two")] == [1, 1]
    assert [device.executes("0='a'"), device.executes("0='b'")] == [1, 1]
    assert server.api.get(f"/device-communication/{device.name}/outgoing-msg/{posted}").status_code == 404
    # Not a word was said while nobody listened.
    assert device.relay.dropped == []


@pytest.mark.spec("QM-5")
@pytest.mark.spec("D2C 7.3")
def test_what_is_posted_while_a_sleeper_registers_anew_is_delivered_once(server: Served, sleeper: Make) -> None:
    device = sleeper(server)
    fall_asleep(device)
    posted = [server.api.command(device.name, "WRITE /3/0/15 before; EXECUTE /3/0/4?0='before'")]
    device.register_soon()
    posted += [server.api.command(device.name, f"WRITE /3/0/15 {n}; EXECUTE /3/0/4?0='{n}'") for n in range(8)]
    for each in posted:
        succeed(server.answers(device.name, each, 2, within_s=30))
    for what in ("before", *map(str, range(8))):
        assert (device.writes(what), device.executes(f"0='{what}'")) == (1, 1)
    registrations = [each for each in server.messages(device.name) if each["messageType"] == "registration"]
    assert len(registrations) == 2


@pytest.mark.spec("QM-5")
@pytest.mark.spec("Design 7")
@pytest.mark.parametrize("end", [Served.stop, Served.kill])
def test_what_waits_for_a_sleeper_survives_the_end_of_the_server(
    serve: Callable[..., Served], sleeper: Make, end: Callable[[Served], object]
) -> None:
    server = serve(auto_provision="sleeper-*", awake_s=AWAKE_S).start()
    device = sleeper(server)
    fall_asleep(device)
    posted = server.api.command(device.name, "WRITE /3/0/15 kept; EXECUTE /3/0/4?0='kept'; READ /3/0/15")
    end(server)
    server.start()
    later = server.api.command(device.name, "EXECUTE /3/0/4?0='later'")
    time.sleep(1)  # in which nothing may happen
    assert server.api.latest(device.name, "sent-msg") is None
    device.wake()
    answers = server.answers(device.name, posted, 3)
    succeed(answers + server.answers(device.name, later))
    assert answers[2]["data"] == {"3/0/15": "kept"}
    assert (device.writes("kept"), device.executes("0='kept'"), device.executes("0='later'")) == (1, 1, 1)
    assert device.relay.dropped == []


def test_a_sleeper_that_was_deaf_too_early_gets_each_command_once(server: Served, sleeper: Make) -> None:
    device = sleeper(server)
    fall_asleep(device)
    device.wake()
    device.relay.passes = False
    posted = server.api.command(device.name, "EXECUTE /3/0/4?0='deaf'; WRITE /3/0/15 deaf")
    wait_until(lambda: device.relay.dropped, within_s=10, what="the server speaks to the deaf")
    # Awake for good: what the server repeats comes some seconds apart.
    device.relay.passes, device.relay.awake_s = True, None
    device.wake()
    succeed(server.answers(device.name, posted, 2, within_s=40))
    assert (device.executes("0='deaf'"), device.writes("deaf")) == (1, 1)


def test_an_execute_whose_answer_was_lost_with_the_server_is_unknown_and_not_repeated(
    serve: Callable[..., Served], sleeper: Make
) -> None:
    server = serve(auto_provision="sleeper-*", awake_s=AWAKE_S).start()
    device = sleeper(server)
    fall_asleep(device)
    posted = server.api.command(device.name, "EXECUTE /3/0/4?0='lost'; WRITE /3/0/15 after")
    device.wake()
    device.relay.passes_up = False
    wait_until(lambda: device.executes("0='lost'"), within_s=10, what="it is executed")
    server.kill()
    device.relay.passes_up = True
    server.start()
    device.wake()
    answers = server.answers(device.name, posted, 2, within_s=30)
    assert [each["status"]["reason"] for each in answers] in (["outcome-unknown", "ok"], ["ok", "ok"])
    assert (device.executes("0='lost'"), device.writes("after")) == (1, 1)


@pytest.mark.spec("Design 7")
def test_whatever_happens_to_the_server_each_command_is_delivered_once_or_its_end_is_told(
    serve: Callable[..., Served], sleeper: Make
) -> None:
    server = serve(auto_provision="sleeper-*", awake_s=AWAKE_S).start()
    device = sleeper(server)
    posted: dict[int, str] = {}
    cycles = 3
    for cycle in range(cycles):
        fall_asleep(device)
        for n in range(cycle * 3, cycle * 3 + 3):
            posted[n] = server.api.command(device.name, f"EXECUTE /3/0/4?0='{n}'; WRITE /3/0/15 z{n}")
        device.wake()
        moment = random.uniform(0, 1.5 if cycle % 2 else 0.5)
        time.sleep(moment)
        server.kill()
        server.start()
    device.wake()
    unknown = 0
    for n, each in posted.items():
        ends = {
            answer["method"]: answer["status"]["reason"] for answer in server.answers(device.name, each, 2, within_s=40)
        }
        executed, written = device.executes(f"0='{n}'"), device.writes(f"z{n}")
        assert ends["exec"] in ("ok", "outcome-unknown")
        assert executed == 1 if ends["exec"] == "ok" else executed <= 1, (n, ends, executed)
        # A Write without an answer is sent again after a restart: it may arrive once more each time, never not at all.
        assert ends["write"] == "ok"
        assert 1 <= written <= 1 + cycles - n // 3, (n, written)
        unknown += ends["exec"] == "outcome-unknown"
    assert unknown <= 3, "more executes were on their way than servers were killed"
