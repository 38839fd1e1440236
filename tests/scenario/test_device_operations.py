"""A program asks devices: one call for each operation, and every way one can end is a value."""

import asyncio
import gc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stellwerk.app.outcome import Outcome
from stellwerk.app.posting import BadArgument, Call, Pending, UnknownCommand, UnknownDevice
from stellwerk.app.records import NewDevice, QueueFull
from stellwerk.coap import codes
from stellwerk.core.errors import UserError
from stellwerk.device.command import Step
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink
from tests.scenario.lab import Lab
from tests.scenario.stack import Stack, ack, after, con, rst
from tests.scenario.test_commands import NOTIFICATION, SENML_MANUFACTURER, path_of
from tests.scenario.test_observations import notification
from tests.scenario.test_queue import asleep, wake
from tests.scenario.test_registration import register

AWAKE_S = 94


@pytest.fixture
def device(stack: Stack) -> Any:
    made = stack.provision("dev1")
    register(stack)
    return made


@pytest.fixture
def patient() -> Iterator[Stack]:
    """Commands have ten minutes."""
    made = Stack(queue_s=600)
    yield made
    made.close()


def posted(stack: Stack, call: Call) -> Pending:
    found: Pending = stack.run(stack._then_settle(call.post()))
    return found


def ended(stack: Stack, call: Call) -> Outcome:
    """Of one that needs no device."""
    found: Outcome = stack.run(stack._then_settle(_awaited(call)))
    return found


async def _awaited(call: Call) -> Outcome:
    return await call


def answered(stack: Stack, call: Call, code: int = codes.CONTENT, payload: bytes = b"", **more: Any) -> Outcome:
    """What comes of an operation when the device answers so."""
    waiting = stack.begin(call)
    request = stack.take()
    stack << ack(code, mid=request.mid, token=request.token, payload=payload, **more)
    found: Outcome = waiting.result()
    return found


# -- each operation, with a device that does it --


@pytest.mark.spec("D-1")
def test_a_read_gives_typed_values_by_path(lab: Lab) -> None:
    client = lab.join()
    outcome = lab.outcome(lab.stack.operations.read("dev1", "/3442/0"))
    assert (outcome.succeeded, outcome.step, outcome.reason, outcome.status) == (True, Step.SUCCEEDED, "ok", 200)
    assert (outcome.method, outcome.path, outcome.device_status) == ("read", "/3442/0", 205)
    newest = outcome.latest()
    assert newest[Path(3442, 0, 150)] == bytes.fromhex("0123456789ABCDEF")
    assert newest[Path(3442, 0, 170)] == ObjectLink(3, 0)
    assert outcome.value("/3442/0/125") == 2**63
    single = lab.outcome(lab.stack.operations.read(client.record, Path(3442, 0, 140)))
    assert single.value() is True


@pytest.mark.spec("D-5")
@pytest.mark.parametrize(
    ("resource", "value", "read"),
    [
        (110, "60", "60"),
        (120, -5, -5),
        (125, 2**64 - 1, 2**64 - 1),
        (130, -1.5, -1.5),
        (140, False, False),
        (150, b"\x00\xff", b"\x00\xff"),
        (160, datetime(2030, 1, 31, 12, tzinfo=UTC), 1_896_091_200),
        (170, ObjectLink(65535, 65535), ObjectLink(65535, 65535)),
        (180, "</3/0>", "</3/0>"),
    ],
)
def test_a_typed_value_is_written_and_read_as_the_same(lab: Lab, resource: int, value: Any, read: Any) -> None:
    lab.join()
    operations = lab.stack.operations
    assert lab.outcome(operations.write("dev1", f"/3442/0/{resource}", value)).device_status == 204
    assert lab.outcome(operations.read("dev1", f"/3442/0/{resource}")).value() == read


@pytest.mark.spec("D-6")
def test_a_write_replaces_or_leaves_what_it_does_not_name(lab: Lab) -> None:
    lab.join()
    operations = lab.stack.operations
    assert lab.outcome(operations.write("dev1", "/3442/0", {110: "text", 1120: [7, 8]})).succeeded
    assert lab.outcome(operations.write("dev1", "/3442/0/1120", {1: 9, 4: 10}, replace=False)).succeeded
    several = lab.outcome(operations.read("dev1", "/3442/0/1120")).latest()
    assert several == {Path(3442, 0, 1120, 0): 7, Path(3442, 0, 1120, 1): 9, Path(3442, 0, 1120, 4): 10}
    assert lab.outcome(operations.write("dev1", "/3442/0/1120", {2: 1})).succeeded
    assert lab.outcome(operations.read("dev1", "/3442/0/1120")).latest() == {Path(3442, 0, 1120, 2): 1}
    assert lab.outcome(operations.read("dev1", "/3442/0/110")).value() == "text"


def test_a_single_value_cannot_be_written_in_part(stack: Stack, device: Any) -> None:
    outcome = ended(stack, stack.operations.write("dev1", "/1/0/1", 60, replace=False))
    assert (outcome.step, outcome.reason) == (Step.REFUSED, "adapter-bad-request")
    assert "replace it" in outcome.detail
    assert stack.silent()


@pytest.mark.spec("D-8")
def test_an_execute_with_arguments_runs(lab: Lab) -> None:
    lab.join()
    outcome = lab.outcome(lab.stack.operations.execute("dev1", "/3442/0/3", "0='x',1"))
    assert (outcome.method, outcome.status) == ("exec", 200)
    assert lab.outcome(lab.stack.operations.read("dev1", "/3442/0/4")).latest() == {
        Path(3442, 0, 4, 0): "x",
        Path(3442, 0, 4, 1): "",
    }


@pytest.mark.spec("D-9", "D-10")
def test_a_create_says_what_it_made_and_a_delete_takes_it_away(lab: Lab) -> None:
    lab.join()
    operations = lab.stack.operations
    assert lab.outcome(operations.create("dev1", "/3442/7", {110: "seven"})).succeeded
    made = lab.outcome(operations.create("dev1", "/3442", {"110": "any"})).created
    assert made is not None
    assert lab.outcome(operations.read("dev1", made.child(110))).value() == "any"
    assert lab.outcome(operations.delete("dev1", made)).succeeded
    gone = lab.outcome(operations.read("dev1", made.child(110)))
    assert (gone.step, gone.status) == (Step.REFUSED, 404)


@pytest.mark.spec("D-12")
def test_attributes_that_are_written_show_in_a_discover(lab: Lab) -> None:
    lab.join()
    operations = lab.stack.operations
    assert lab.outcome(operations.write_attributes("dev1", "/3442/0/120", {"pmin": 5, "gt": 40.5})).succeeded
    links = lab.outcome(operations.discover("dev1", "/3442/0/120")).links
    assert links[Path(3442, 0, 120)] == {"pmin": 5, "gt": 40.5}
    assert lab.outcome(operations.write_attributes("dev1", "/3442/0/120", {"pmin": None})).succeeded
    assert lab.outcome(operations.discover("dev1", "/3442/0/120")).links[Path(3442, 0, 120)] == {"gt": 40.5}


def test_depth_is_for_newer_devices(lab: Lab) -> None:
    lab.join(lwm2m_version="1.2")
    assert Path(3, 0, 0) not in lab.outcome(lab.stack.operations.discover("dev1", "/3", depth=1)).links
    lab.join("dev2", lwm2m_version="1.1")
    refused = lab.outcome(lab.stack.operations.discover("dev2", "/3", depth=1))
    assert (refused.step, refused.reason) == (Step.REFUSED, "not-acceptable")


@pytest.mark.spec("D-11")
def test_composites_read_and_write_several_paths_at_once(lab: Lab) -> None:
    lab.join()
    operations = lab.stack.operations
    assert lab.outcome(operations.write_composite("dev1", {"/3442/0/110": "both", Path(3442, 0, 120): 3})).succeeded
    outcome = lab.outcome(operations.read_composite("dev1", ["/3442/0/120", "/3442/0/110", "/3442/0/4"]))
    assert outcome.latest() == {Path(3442, 0, 110): "both", Path(3442, 0, 120): 3}
    assert outcome.missing == (Path(3442, 0, 4),)
    assert outcome.path == "/3442/0/4,/3442/0/110,/3442/0/120"


@pytest.mark.spec("OB-1", "OB-9")
def test_observations_begin_report_and_end(lab: Lab) -> None:
    client = lab.join()
    operations = lab.stack.operations
    assert lab.outcome(operations.observe("dev1", "/3442/0/120", {"pmin": 0})).value() == 1024
    pair = ["/3442/0/110", "/3442/0/130"]
    assert lab.outcome(operations.observe_composite("dev1", pair)).value("/3442/0/110") == "initial value"
    again = lab.outcome(operations.observe("dev1", "/3442/0/120"))
    assert (again.step, again.status, again.reason) == (Step.REFUSED, 409, "conflict")
    lab.outcome(operations.write("dev1", "/3442/0/120", 7))
    lab.run_for(2)
    assert [each["dataValue"] for each in lab.notifications(client)] == [7]
    assert lab.outcome(operations.cancel_observation("dev1", "/3442/0/120", passive=True)).succeeded
    assert lab.outcome(operations.cancel_composite("dev1", reversed(pair))).succeeded
    none = lab.outcome(operations.cancel_composite("dev1", pair))
    assert (none.status, none.reason) == (404, "no-observation")


# -- endings --


def test_a_device_that_refuses_is_a_value_with_its_code(stack: Stack, device: Any) -> None:
    outcome = answered(stack, stack.operations.write("dev1", "/1/0/1", 60), codes.FORBIDDEN)
    assert (outcome.step, outcome.status, outcome.reason) == (Step.REFUSED, 403, "device-forbidden")
    assert (outcome.device_status, outcome.detail) == (403, "the device answered 4.03")
    assert (outcome.values, outcome.value()) == ((), None)


def test_an_answer_that_does_not_decode_is_refused_with_the_reason(stack: Stack, device: Any) -> None:
    call = stack.operations.read("dev1", "/3/0/0")
    outcome = answered(stack, call, payload=b"\x81\xa2", content_format=112)
    assert (outcome.step, outcome.status, outcome.reason) == (Step.REFUSED, 500, "adapter")
    assert outcome.detail.startswith("the answer does not decode")
    assert stack.values(device, "/3/0/0") == []


def test_silence_is_a_time_out(stack: Stack, device: Any) -> None:
    waiting = stack.begin(stack.operations.read("dev1", "/3/0/0", within_s=1000))
    stack << after(100)
    outcome = waiting.result()
    assert (outcome.step, outcome.status, outcome.reason) == (Step.TIMED_OUT, 408, "timeout")


def test_a_reset_is_a_refusal(stack: Stack, device: Any) -> None:
    waiting = stack.begin(stack.operations.read("dev1", "/3/0/0"))
    stack << rst(mid=stack.take().mid)
    assert (waiting.result().step, waiting.result().reason) == (Step.REFUSED, "device-bad-request")


def test_what_cannot_be_sent_is_refused_at_once(stack: Stack, device: Any) -> None:
    operations = stack.operations
    for call, reason in [
        (operations.read("dev1", "/9999/0"), "path-invalid"),
        (operations.read("dev1", "3/0"), "path-invalid"),
        (operations.write("dev1", "/1/0/1", "an hour"), "adapter-bad-request"),
        (operations.execute("dev1", "/3/0/0"), "not-acceptable"),
        (operations.read_composite("dev1", []), "path-invalid"),
        (operations.write_attributes("dev1", "/3/0/9", {"pmin": -1}), "adapter-bad-request"),
        (operations.cancel_observation("dev1", "/3/0/9"), "no-observation"),
    ]:
        outcome = ended(stack, call)
        assert (outcome.ref, outcome.step, outcome.reason) == ("", Step.REFUSED, reason), outcome
        assert outcome.detail
    assert stack.silent()
    assert stack.log(device)[-1] == "command-failed"
    pending = posted(stack, operations.read("dev1", "/9999/0"))
    assert stack.run(pending.state()).step is Step.REFUSED
    assert not stack.run(pending.cancel())


def test_a_device_that_is_not_there_is_a_value_and_not_an_error(stack: Stack) -> None:
    stack.provision("dev1")
    outcome = ended(stack, stack.operations.read("dev1", "/3/0/0"))
    assert (outcome.step, outcome.status, outcome.reason) == (Step.REFUSED, 408, "timeout-binding")
    assert "not registered" in outcome.detail


def test_a_device_that_nobody_provisioned_is_an_error_that_says_so(stack: Stack) -> None:
    with pytest.raises(UnknownDevice, match="there is no device 'dev9'; provision it first"):
        ended(stack, stack.operations.read("dev9", "/3/0/0"))
    with pytest.raises(UnknownDevice):
        ended(stack, stack.operations.read(99, "/3/0/0"))


def test_a_device_of_another_tenant_is_no_device(stack: Stack, device: Any) -> None:
    assert stack.store is not None
    other = stack.run(stack.store.ensure_tenant("other", 1))
    theirs = stack.run(stack.store.create_device(other, NewDevice("far", "urn:far", (), "SCS-LwM2M", (), 1)))
    for each in ("far", theirs.device_id, theirs):
        with pytest.raises(UnknownDevice):
            ended(stack, stack.operations.read(each, "/3/0/0"))


@pytest.mark.parametrize(
    "how", [{"within_s": -1}, {"within_s": float("nan")}, {"within_s": "1"}, {"expires_s": float("inf")}]
)
def test_a_time_that_is_none_is_an_error(stack: Stack, how: Any) -> None:
    with pytest.raises(BadArgument, match="a number of seconds from 0 to ten years"):
        stack.operations.read("dev1", "/3/0/0", **how)


def test_values_that_are_none_are_errors(stack: Stack) -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), endless, datetime(2030, 1, 1)):
        with pytest.raises(BadArgument, match="value="):
            stack.operations.write("dev1", "/3/0/13", value)
    with pytest.raises(BadArgument, match="0, 1, 2 or 3"):
        stack.operations.discover("dev1", "/3", depth=4)
    with pytest.raises(UserError, match="from -100 to 100"):
        stack.operations.read("dev1", "/3/0/0", priority=101)


_TEXTS = st.text(st.characters(codec=None), max_size=30) | st.just("/3/0/0")


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_for_is_an_outcome_or_an_error_for_people(stack: Stack, data: st.DataObject) -> None:
    if not stack.registrations():
        stack.provision("dev1")
        register(stack)
    operations = stack.operations
    text = data.draw(_TEXTS)
    calls = [
        lambda: operations.read("dev1", text),
        lambda: operations.write("dev1", data.draw(_TEXTS), text),
        lambda: operations.write("dev1", "/3/0/15", {text: [text]}),
        lambda: operations.write_composite("dev1", {text: None}),
        lambda: operations.execute("dev1", "/3/0/4", text),
        lambda: operations.observe("dev1", "/3/0/0", {text: text}),
        lambda: operations.read_composite("dev1", [text, "/3/0/0"]),
        lambda: operations.read(text, "/3/0/0"),
    ]
    for call in calls:
        try:
            pending = posted(stack, call())
        except UserError:
            continue
        assert stack.run(pending.outcome(0)).step in (Step.REFUSED, Step.SENT, Step.QUEUED)


# -- devices that sleep --


@pytest.mark.spec("QM-2", "QM-5")
def test_a_sleeper_is_asked_when_it_wakes_and_the_handle_says_how_far_it_is(patient: Stack) -> None:
    _, location = asleep(patient)
    first = posted(patient, patient.operations.read("dev1", "/3/0/0"))
    second = posted(patient, patient.operations.read("dev1", "/3/0/1", priority=5))
    state = patient.run(first.state())
    assert state.step is Step.QUEUED
    assert state.place is not None
    assert (state.place.position, state.place.count, state.place.waits_for) == (2, 2, "wake")
    waits = patient.run(first.outcome(0))
    assert (waits.ended, waits.step, waits.reason, waits.status) == (False, Step.QUEUED, "", 0)
    wake(patient, location)
    request = patient.take()
    assert path_of(request) == "/3/0/1"
    assert patient.run(second.state()).step is Step.SENT
    patient << ack(codes.NOT_FOUND, mid=request.mid, token=request.token)
    assert patient.run(second.outcome(0)).status == 404
    request = patient.take()
    patient << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    assert patient.run(first.outcome(0)).value() == "ACME"
    assert patient.run(first.state()).step is Step.SUCCEEDED


@pytest.mark.spec("QM-5")
def test_what_waits_can_be_cancelled_and_what_was_sent_cannot(patient: Stack) -> None:
    _, location = asleep(patient)
    pending = posted(patient, patient.operations.execute("dev1", "/3/0/4"))
    waiting = asyncio_task(patient, pending)
    assert patient.run(patient._then_settle(pending.cancel()))
    assert (waiting.result().step, waiting.result().reason) == (Step.CANCELLED, "cancelled")
    assert not patient.run(pending.cancel())
    sent = posted(patient, patient.operations.execute("dev1", "/3/0/4"))
    wake(patient, location)
    assert path_of(patient.take()) == "/3/0/4"
    assert not patient.run(sent.cancel())
    assert patient.silent()


def asyncio_task(stack: Stack, pending: Pending) -> "asyncio.Future[Outcome]":
    async def work() -> "asyncio.Future[Outcome]":
        waiting = asyncio.ensure_future(pending.outcome())
        await stack._settle()
        return waiting

    found: asyncio.Future[Outcome] = stack.run(work())
    return found


def test_a_command_has_the_time_it_is_given_and_then_expires(stack: Stack) -> None:
    asleep(stack)
    waiting = stack.begin(stack.operations.read("dev1", "/3/0/0", expires_s=30))
    stack << after(29)
    assert not waiting.done()
    stack << after(2)
    outcome = waiting.result()
    assert (outcome.step, outcome.status, outcome.reason) == (Step.EXPIRED, 408, "timeout-binding")


def test_a_command_with_a_time_of_its_own_waits_for_a_device_that_is_not_there_yet(stack: Stack) -> None:
    stack.provision("dev1")
    pending = posted(stack, stack.operations.read("dev1", "/3/0/0", expires_s=600))
    assert stack.run(pending.state()).place.waits_for == "registration"
    register(stack)
    stack << after(1)
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    assert stack.run(pending.outcome(0)).value() == "ACME"


def test_who_waits_no_longer_takes_an_unsent_command_back(patient: Stack) -> None:
    _, location = asleep(patient)
    outcome = ended(patient, patient.operations.execute("dev1", "/3/0/4", within_s=0))
    assert (outcome.ended, outcome.step) == (True, Step.CANCELLED)
    wake(patient, location)
    assert patient.silent()


def test_who_waits_no_longer_leaves_a_command_with_a_time_of_its_own(patient: Stack) -> None:
    _, location = asleep(patient)
    outcome = ended(patient, patient.operations.execute("dev1", "/3/0/4", within_s=0, expires_s=600))
    assert (outcome.ended, outcome.step) == (False, Step.QUEUED)
    wake(patient, location)
    request = patient.take()
    patient << ack(codes.CHANGED, mid=request.mid, token=request.token)
    later = patient.run(patient.run(patient.operations.pending(outcome.ref)).outcome(0))
    assert (later.ended, later.succeeded, later.status) == (True, True, 200)


def test_who_waits_no_longer_for_what_was_sent_is_told_that_it_was(stack: Stack, device: Any) -> None:
    outcome = ended(stack, stack.operations.execute("dev1", "/3/0/4", within_s=0, expires_s=5))
    pending = stack.run(stack.operations.pending(outcome.ref))
    assert stack.run(pending.outcome(0)).step is Step.SENT
    request = stack.take()
    stack << ack(codes.CHANGED, mid=request.mid, token=request.token)
    assert stack.run(pending.outcome(0)).succeeded


@pytest.mark.spec("QM-5")
def test_a_newer_write_of_the_same_path_takes_the_place_of_one_that_waits(patient: Stack) -> None:
    asleep(patient)
    older = posted(patient, patient.operations.write("dev1", "/1/0/1", 60))
    newer = posted(patient, patient.operations.write("dev1", "/1/0/1", 90))
    outcome = patient.run(older.outcome(0))
    assert (outcome.step, outcome.status, outcome.reason) == (Step.SUPERSEDED, 409, "superseded")
    assert newer.ref in outcome.detail
    assert patient.run(newer.state()).step is Step.QUEUED


def test_a_full_queue_is_an_error_for_people(patient: Stack) -> None:
    device, _ = asleep(patient)
    for _ in range(patient.profiles.queue_length(device)):
        posted(patient, patient.operations.read("dev1", "/3/0/0"))
    with pytest.raises(QueueFull, match="commands wait for the device already"):
        posted(patient, patient.operations.read("dev1", "/3/0/0"))


# -- registrations and devices that end --


def test_a_registration_that_ends_ends_what_has_no_time_of_its_own(stack: Stack) -> None:
    _, location = asleep(stack)
    waiting = stack.begin(stack.operations.read("dev1", "/3/0/0"))
    stack << con(codes.DELETE, location, mid=9) >> ack(codes.DELETED, mid=9)
    assert (waiting.result().step, waiting.result().reason) == (Step.TIMED_OUT, "timeout-binding")


@pytest.mark.parametrize("sent", [False, True])
def test_a_device_that_is_removed_takes_its_commands_with_it(stack: Stack, sent: bool) -> None:
    if sent:
        device = stack.provision("dev1")
        register(stack)
    else:
        device, _ = asleep(stack)
    waiting = stack.begin(stack.operations.execute("dev1", "/3/0/4"))

    async def remove() -> None:
        assert stack.store is not None
        await stack.store.remove_device(device.device_id)
        stack.commands.device_removed(device.device_id, stack.clock.instant())

    stack.run(stack._then_settle(remove()))
    assert waiting.result().step is (Step.TIMED_OUT if sent else Step.CANCELLED)
    assert waiting.result().status == 408
    assert len(stack.commands.awaited) == 0
    with pytest.raises(UnknownDevice):
        ended(stack, stack.operations.read(device, "/3/0/0"))


# -- restarts --


def restarted(stack: Stack) -> Stack:
    again = Stack(store=stack.store, clock=stack.clock, seed=stack.seed + 1, queue_s=stack.queue_s)
    again.run(again._then_settle(again.commands.recover()))
    return again


def test_a_command_is_found_again_after_a_restart_and_its_end_is_heard(patient: Stack) -> None:
    _, location = asleep(patient)
    ref = posted(patient, patient.operations.read("dev1", "/3/0/0")).ref
    again = restarted(patient)
    pending = again.run(again.operations.pending(ref))
    assert again.run(pending.outcome(0)).step is Step.QUEUED
    wake(again, location)
    request = again.take()
    again << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    assert again.run(pending.outcome(0)).value() == "ACME"
    last = restarted(again)
    kept = last.run(last.run(last.operations.pending(ref)).outcome(0))
    assert (kept.ref, kept.step, kept.status, kept.values) == (ref, Step.SUCCEEDED, 200, ())
    again.close()
    last.close()


def test_an_execute_on_its_way_at_a_restart_has_an_unknown_outcome(patient: Stack) -> None:
    patient.provision("dev1")
    register(patient)
    ref = posted(patient, patient.operations.execute("dev1", "/3/0/4")).ref
    patient.take()
    again = restarted(patient)
    outcome = again.run(again.run(again.operations.pending(ref)).outcome(0))
    assert (outcome.step, outcome.status, outcome.reason) == (Step.OUTCOME_UNKNOWN, 408, "outcome-unknown")
    assert again.silent()
    again.close()


@pytest.mark.parametrize("step", [Step.CANCELLED, Step.SUPERSEDED, Step.EXPIRED])
def test_what_ended_unsent_before_a_restart_says_how(patient: Stack, step: Step) -> None:
    asleep(patient)
    pending = posted(patient, patient.operations.write("dev1", "/1/0/1", 60, expires_s=30))
    if step is Step.CANCELLED:
        patient.run(patient._then_settle(pending.cancel()))
    elif step is Step.SUPERSEDED:
        posted(patient, patient.operations.write("dev1", "/1/0/1", 90))
    else:
        patient << after(31)
    before = patient.run(pending.outcome(0))
    again = restarted(patient)
    kept = again.run(again.run(again.operations.pending(pending.ref)).outcome(0))
    assert kept == before
    assert kept.step is step
    again.close()


def test_what_was_refused_when_its_turn_came_says_so_after_a_restart(patient: Stack) -> None:
    # Before it registers nobody can know what is observed of it.
    patient.provision("dev1")
    first, second = (posted(patient, patient.operations.observe("dev1", "/3303/0/5700")) for _ in range(2))
    register(patient)
    patient << after(1)
    request = patient.take()
    patient << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112, observe=1
    )
    assert patient.run(first.outcome(0)).succeeded
    refused = patient.run(second.outcome(0))
    assert (refused.step, refused.reason) == (Step.REFUSED, "conflict")
    again = restarted(patient)
    assert again.run(again.run(again.operations.pending(second.ref)).outcome(0)) == refused
    again.close()


def test_a_reference_that_nobody_has_is_an_error(stack: Stack) -> None:
    with pytest.raises(UnknownCommand, match="no command is stored under '0123'"):
        stack.run(stack.operations.pending("0123"))
    with pytest.raises(UnknownCommand):
        stack.run(stack.operations.pending(""))


# -- beside the other faces --


def test_no_message_goes_with_a_program_s_command(stack: Stack, device: Any) -> None:
    assert stack.store is not None
    before = stack.received(device)
    call = stack.operations.read("dev1", "/3/0/0")
    assert answered(stack, call, payload=SENML_MANUFACTURER, content_format=112).value() == "ACME"
    assert stack.received(device) == before
    for container in ("outgoing-msg", "sent-msg"):
        state = stack.run(stack.store.container_state(device.device_id, container))
        assert (state.state_tag, state.count) == (0, 0)
    assert stack.values(device, "/3/0/0") == ['"ACME"']
    (command,) = stack.run(stack.store.recent_commands(device.device_id, 10))
    assert (command.content, command.outgoing_rn) == ('{"method":"READ","path":"/3/0/0"}', "")


def test_commands_of_all_faces_wait_in_one_queue(patient: Stack) -> None:
    from tests.scenario.test_commands import read

    device, location = asleep(patient)
    posted(patient, patient.operations.read("dev1", "/3/0/0"))
    patient.post(device, read("/3/0/1"))
    posted(patient, patient.operations.read("dev1", "/3/0/2"))
    wake(patient, location)
    order = []
    for _ in range(3):
        request = patient.take()
        order.append(path_of(request))
        patient << ack(codes.NOT_FOUND, mid=request.mid, token=request.token)
    assert order == ["/3/0/0", "/3/0/1", "/3/0/2"]
    assert [each["path"] for each in patient.received(device) if each["messageType"] == "response"] == ["3/0/1"]


def test_nothing_is_kept_for_those_who_do_not_wait(stack: Stack, device: Any) -> None:
    pending = posted(stack, stack.operations.read("dev1", "/3/0/0"))
    assert len(stack.commands.awaited) == 1
    del pending
    gc.collect()
    assert len(stack.commands.awaited) == 0
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    assert stack.values(device, "/3/0/0") == ['"ACME"']


def test_who_gives_up_takes_the_end_from_nobody(stack: Stack, device: Any) -> None:
    pending = posted(stack, stack.operations.read("dev1", "/3/0/0"))
    one, two = asyncio_task(stack, pending), asyncio_task(stack, pending)
    one.cancel()
    request = stack.take()
    stack << ack(codes.CONTENT, mid=request.mid, token=request.token, payload=SENML_MANUFACTURER, content_format=112)
    assert one.cancelled()
    assert two.result().value() == "ACME"


# -- reports --


def test_reports_are_what_the_device_told_in_order_and_what_it_tells_next(stack: Stack, device: Any) -> None:
    reports = stack.operations.reports("dev1")

    async def following() -> "asyncio.Future[Any]":
        return asyncio.ensure_future(anext(reports))

    first = stack.run(stack._then_settle(following())).result()
    assert (first.number, first.kind, dict(first.values)) == (1, "registration", {})
    second = stack.run(following())
    waiting = stack.begin(stack.operations.observe("dev1", "/3303/0/5700"))
    request = stack.take()
    stack << ack(
        codes.CONTENT, mid=request.mid, token=request.token, payload=NOTIFICATION, content_format=112, observe=1
    )
    assert waiting.result().value() == 21.5
    assert not second.done()
    stack << notification(request.token, mid=50, number=2)
    stack.run(_turns(second))
    assert (second.result().number, second.result().kind) == (2, "notify")
    assert second.result().values == {Path(3303, 0, 5700): 21.5}
    again = stack.operations.reports("dev1", after=1)
    assert stack.run(anext(again)) == second.result()
    stack.run(reports.aclose())
    stack.run(again.aclose())


def test_reports_end_with_their_device(stack: Stack, device: Any) -> None:
    async def story() -> list[str]:
        found = []
        async for report in stack.operations.reports("dev1"):
            found.append(report.kind)
            assert stack.store is not None
            await stack.store.remove_device(device.device_id)
        return found

    assert stack.run(asyncio.wait_for(story(), 5)) == ["registration"]


async def _turns(waiting: "asyncio.Future[Any]") -> None:
    await asyncio.wait({waiting}, timeout=5)
