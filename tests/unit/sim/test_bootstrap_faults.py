"""Devices that get a bootstrap wrong on request, and networks that do."""

import asyncio

import pytest

from stellwerk.coap import codes
from stellwerk.lwm2m.path import Path
from stellwerk.sim.bootstrap.faults import StepFault, StepFaultKind
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions
from stellwerk.sim.faults import InvalidFault
from stellwerk.sim.fleet import Fleet, FleetOptions
from stellwerk.sim.happenings import Bootstrapped, Moved, Rebooted, Registered
from stellwerk.sim.population import Start
from stellwerk.sim.security import STRANGER, PreSharedKey

from .bootstrap_bench import PLAIN, BootstrapBench

# PLAIN is: Discover, Delete, Write /0/1, Write /1/1, Finish.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("silence@finish", StepFault(StepFaultKind.SILENCE, "finish")),
        ("refuse:4.06:once@finish", StepFault(StepFaultKind.REFUSE, "finish", once=True, code=0x86)),
        ("late:7.5s:20%@3", StepFault(StepFaultKind.LATE, 3, seconds=7.5, share=0.2)),
        ("garbage@discover", StepFault(StepFaultKind.GARBAGE, "discover")),
        ("again@/0/1", StepFault(StepFaultKind.AGAIN, None, Path(0, 1))),
        ("close:once@write", StepFault(StepFaultKind.CLOSE, "write", once=True)),
        ("stranger", StepFault(StepFaultKind.STRANGER)),
        ("stranger:once@sen", StepFault(StepFaultKind.STRANGER, "sen", once=True)),
        ("csr", StepFault(StepFaultKind.CSR)),
        ("csr:50%@sren", StepFault(StepFaultKind.CSR, "sren", share=0.5)),
        ("again@crts", StepFault(StepFaultKind.AGAIN, "crts")),
        ("reboot:once@sren", StepFault(StepFaultKind.REBOOT, "sren", once=True)),
        ("pct:65001:once", StepFault(StepFaultKind.PCT, number=65001, once=True)),
    ],
)
def test_faults_as_people_write_them(text: str, fault: StepFault):
    assert StepFault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no kind"),
        ("noise", "one of silence, reset"),
        ("refuse", "like refuse:4.00@write"),
        ("refuse:2.04", "like refuse:4.00@write"),
        ("silence:101%", "silence:20%@write"),
        ("silence:5s", "silence:20%@write"),
        ("late:5s:6s", "late:5s@write"),
        ("silence@0", "no step"),
        ("silence@register", "one of discover, read, write, delete, finish"),
        ("stranger@write", "Bootstrap-Request"),
        ("stranger@crts", "like stranger:20% or stranger@sen"),
        ("csr@crts", "like csr:once or csr@sren"),
        ("csr@write", "like csr:once or csr@sren"),
        ("silence@sen", r"where the device enrols \(crts, sen, sren\) go again, reboot, stranger, csr"),
        ("pct:70000", "pct:65000"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_the_rule(text: str, rule: str):
    with pytest.raises(InvalidFault, match=rule):
        StepFault.parse(text)


def run(*faults: str, wait_s: float = 2.0) -> BootstrapBench:
    bench = BootstrapBench(faults=faults)
    bench.start(wait_s)
    return bench


STEPS = ["discover", "delete", "/0/1", "/1/1", "finish"]


@pytest.mark.parametrize("index", range(5))
def test_each_step_is_refused_on_request(index: int):
    bench = run(f"refuse:4.00@{index + 1}")
    assert bench.bootstrap.codes[index] == "4.00"
    assert bench.bootstrap.codes.count("4.00") == 1
    assert bench.is_configured == (index < 2)
    same = run(f"refuse:4.00@{STEPS[index]}")
    assert same.bootstrap.codes == bench.bootstrap.codes


@pytest.mark.parametrize("step", STEPS)
def test_each_step_meets_silence_on_request_and_the_session_fails(step: str):
    bench = run(f"silence:once@{step}", wait_s=246)
    device = bench.population.devices()[0]
    assert bench.bootstrap.codes[STEPS.index(step) :] == ["none"]
    assert not bench.is_configured
    bench.network.run_for(2)
    assert bench.failures == ["overtime"]
    assert set(device.tree.instances(0)) == {0}
    bench.network.run_for(20)
    # A fault that comes once is over, and it asks again.
    assert bench.is_configured


@pytest.mark.parametrize("step", STEPS)
def test_each_step_meets_a_reset_on_request(step: str):
    bench = run(f"reset@{step}")
    answered = ["2.05", "2.02", "2.04", "2.04"][: STEPS.index(step)]
    assert bench.bootstrap.codes == [*answered, "none"]


def test_a_discover_is_answered_with_garbage():
    bench = run("garbage@discover")
    answer = bench.bootstrap.answers[0]
    assert answer is not None
    assert answer.payload
    with pytest.raises(UnicodeDecodeError):
        answer.payload.decode("ascii")
    assert bench.is_configured


def test_a_finish_is_refused_once_or_always():
    script = [*PLAIN, PLAIN[-1]]
    once = BootstrapBench(script, faults=["refuse:4.06:once@finish"])
    once.start()
    assert once.bootstrap.codes[-2:] == ["4.06", "2.04"]
    assert once.is_configured
    always = BootstrapBench(script, faults=["refuse:4.06@finish"])
    always.start()
    assert always.bootstrap.codes[-2:] == ["4.06", "4.06"]
    assert not always.is_configured


def test_an_answer_comes_seconds_later_as_a_message_of_its_own():
    bench = run("late:5s@/0/1", wait_s=4)
    assert len(bench.bootstrap.answers) == 2
    bench.network.run_for(4)
    assert bench.bootstrap.codes[2:] == ["2.04", "2.04", "2.04"]
    assert bench.is_configured


def test_the_last_answer_may_be_late_too():
    bench = run("late:5s@finish", wait_s=4)
    assert bench.is_configured
    bench.network.run_for(4)
    assert bench.bootstrap.codes[-1] == "2.04"


def test_it_asks_again_in_the_middle_and_forgets_what_it_was_given():
    bench = run("again:once@/1/1")
    first, second = bench.bootstrap.asked("bs")
    assert first.token != second.token
    assert bench.is_configured
    assert len(bench.of(Bootstrapped)) == 1


def test_it_speaks_from_another_port_in_the_middle():
    bench = run("move:once@delete", wait_s=246)
    assert bench.of(Moved)
    assert bench.bootstrap.codes == ["2.05", "2.02", "none"]
    bench.network.run_for(20)
    assert bench.failures == ["overtime"]
    first, second = bench.bootstrap.asked("bs")
    assert first.peer.remote_port != second.peer.remote_port
    assert bench.is_configured


def test_it_restarts_in_the_middle_and_begins_anew():
    bench = run("reboot:once@/0/1", wait_s=10)
    assert bench.of(Rebooted)
    assert bench.failures == ["restarted"]
    assert len(bench.bootstrap.asked("bs")) == 2
    assert bench.is_configured


def test_it_comes_as_somebody_whom_nobody_knows():
    bench = run("stranger:once")
    assert bench.bootstrap.asked("bs")[0].query[0] == f"ep={STRANGER}dev-1"


def test_it_prefers_a_format_that_there_is_not():
    bench = run("pct:65001")
    assert bench.bootstrap.asked("bs")[0].query == ("ep=dev-1", "pct=65001")


def test_what_it_gets_wrong_is_counted():
    bench = run("refuse:4.00:once@write", "stranger")
    assert bench.population.devices()[0].faults_committed == 2


def test_a_silent_step_is_silent_however_often_it_comes():
    bench = run("silence:once@discover", wait_s=100)
    assert bench.bootstrap.codes == ["none"]


def test_a_share_of_the_devices_gets_it_wrong():
    bench = BootstrapBench(faults=["refuse:4.00:50%@delete"])
    for number in range(40):
        local = ("10.0.1.1", 1000 + number)
        bench.join(local)
        bench.devices.submit(Start(bench.device(f"dev-{number}", local, seed=number)))
    bench.network.run_for(2)
    assert 8 < bench.bootstrap.codes.count("4.00") < 32
    assert len(bench.of(Bootstrapped)) == 40


@pytest.mark.parametrize("conditions", [{"loss": 0.1}, {"duplication": 0.5, "jitter_s": 1.0}, {"reorder": 0.3}])
def test_many_at_once_over_a_bad_network_are_configured(conditions: dict[str, float]):
    bench = BootstrapBench(network={**conditions, "seed": 5})
    for number in range(50):
        local = ("10.0.1.1", 1000 + number)
        bench.join(local)
        bench.devices.submit(Start(bench.device(f"dev-{number}", local)))
    bench.network.run_for(600)
    assert {each.endpoint_name for each in bench.of(Registered)} == {f"dev-{number}" for number in range(50)}
    # What comes twice has no effect twice.
    assert len(bench.of(Bootstrapped)) == 50
    assert all(codes.dotted(each.code)[0] == "2" for each in bench.bootstrap.answers if each is not None)


@pytest.mark.parametrize("step", ["discover", "write", "finish"])
def test_a_session_that_the_device_closes_is_over_and_it_comes_again(step: str):
    key = bytes(range(16))
    bench = BootstrapBench(
        PLAIN, keys={b"bs-1": key}, credentials=PreSharedKey(b"bs-1", key), faults=[f"close:once@{step}"]
    )
    bench.start(2)
    assert bench.failures == ["lost"]
    assert [each.reason for each in bench.bootstrap.ended] == ["close-notify"]
    bench.network.run_for(20)
    assert bench.is_configured


def test_what_is_to_be_closed_has_to_be_there():
    fault = Commissioning(BootstrapOptions("", faults=(StepFault.parse("close@write"),)))

    async def opened() -> None:
        await Fleet(FleetOptions(server="coap://127.0.0.1:1", bootstrap=fault)).open()

    with pytest.raises(InvalidFault, match=r"write coap\+tcp://, or give keys"):
        asyncio.run(opened())
