"""A bootstrap session step by step: what is asked, in which order, and how each way to go wrong ends."""

from dataclasses import replace

import pytest
from bootstrap_client import SILENT, Said, agrees, play

from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.conversation import FORMATS, About, Outcome, converse, stop
from stellwerk.device.bootstrap.discovered import Discovered
from stellwerk.device.bootstrap.history import MAX_STEPS, MAX_TEXT, BootstrapState, StepRecord
from stellwerk.device.bootstrap.plan import Plan
from stellwerk.lwm2m.bootstrap import (
    BootstrapDelete,
    BootstrapDiscover,
    BootstrapFinish,
    BootstrapOperation,
    BootstrapRead,
    BootstrapWrite,
    PctUnsupported,
)
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.lwm2m.path import Path

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
SECURITY = Content(
    (
        Entry(Path(0, 1, 0), "coaps://dm.example:5684"),
        Entry(Path(0, 1, 1), False),
        Entry(Path(0, 1, 2), 0),
        Entry(Path(0, 1, 3), b"dev1-7f"),
        Entry(Path(0, 1, 5), KEY),
        Entry(Path(0, 1, 10), 123),
    )
)
SERVER = Content((Entry(Path(1, 0, 0), 123), Entry(Path(1, 0, 1), 300)))
DELETES = (BootstrapDelete(Path(0, 1)), BootstrapDelete(Path(1, 0)))
WRITES = (
    BootstrapWrite(Path(0, 1), SECURITY, ContentFormat.SENML_CBOR),
    BootstrapWrite(Path(1, 0), SERVER, ContentFormat.SENML_CBOR),
)
PLAN = Plan(DELETES, WRITES)
RIGHTS = b"\x08\x00\x03\xc1\x00\x03"
"""/2/0/0 is 3, in TLV."""
CORRECTION = Plan((BootstrapDelete(Path(1)),), WRITES[1:])
WHOLE = [BootstrapDiscover(), *DELETES, *WRITES, BootstrapFinish()]


class Plans:
    """Gives the plans above and remembers what it was told."""

    def __init__(self, plan: Plan = PLAN, correction: Plan = CORRECTION) -> None:
        self._plan, self._correction = plan, correction
        self.told: list[object] = []
        self.ticks = 0
        self.steps: list[StepRecord] = []

    def plan_of(self, discovered: Discovered | None) -> Plan:
        self.told.append(discovered)
        return self._plan

    def correction_of(self, discovered: Discovered | None, servers: Content | None) -> Plan:
        self.told.append(servers)
        return self._correction

    def now_ms(self) -> int:
        self.ticks += 1
        return self.ticks

    def about(self, version: str | None = None) -> About:
        return About(self.plan_of, self.correction_of, self.now_ms, version, self.steps.append)


def answering(kind: type, *answers: Said | None, from_index: int = 0):
    """Like `agrees`, but ``answers`` to the operations of one kind, None for what `agrees` says."""

    def reply(operation: BootstrapOperation, count: int) -> Said:
        at = count - from_index
        if isinstance(operation, kind) and 0 <= at < len(answers):
            return answers[at] or agrees(operation)
        return agrees(operation)

    return reply


# -- what goes well --


@pytest.mark.spec("B-2", "Platform 12.1")
def test_a_session_discovers_deletes_writes_and_finishes():
    plans = Plans()
    about = plans.about()
    outcome, asked = play(about)
    assert outcome == Outcome(BootstrapState.CONFIGURED)
    assert asked == WHOLE
    assert about.steps == [
        StepRecord(1, "Bootstrap-Discover", "/", agrees(BootstrapDiscover()).payload.decode(), 205),
        StepRecord(2, "Bootstrap-Delete", "/0/1", "", 202),
        StepRecord(3, "Bootstrap-Delete", "/1/0", "", 202),
        StepRecord(4, "Bootstrap-Write", "/0/1", about.steps[3].summary, 204),
        StepRecord(5, "Bootstrap-Write", "/1/0", "0 Short Server ID: 123; 1 Lifetime: 300", 204),
        StepRecord(6, "Bootstrap-Finish", "", "", 204),
    ]
    assert plans.steps == about.steps
    assert "5 Secret Key: 16 bytes, not shown" in about.steps[3].summary


@pytest.mark.spec("LwM2M-contract 5")
def test_a_device_of_1_0_is_neither_asked_to_discover_nor_to_read():
    plans = Plans()
    outcome, asked = play(plans.about("1.0"), answering(BootstrapFinish, Said(406)))
    assert outcome.state is BootstrapState.CONFIGURED
    assert not any(isinstance(each, BootstrapDiscover | BootstrapRead) for each in asked)
    assert plans.told == [None, None]


@pytest.mark.spec("Platform 12.3")
def test_a_profile_that_gives_nothing_is_told_with_finish():
    outcome, asked = play(Plans(Plan()).about())
    assert outcome == Outcome(BootstrapState.NOTHING_TO_DO)
    assert asked == [BootstrapDiscover(), BootstrapFinish()]


def test_warnings_of_the_plan_are_in_the_history():
    about = Plans(Plan(DELETES, WRITES, ("instance 0 is taken for the bootstrap account",))).about()
    play(about)
    assert [each.summary for each in about.steps if each.operation == "Plan"] == [
        "instance 0 is taken for the bootstrap account"
    ]


def test_servers_that_discover_lists_without_their_number_are_read_first():
    plans = Plans()
    reply = answering(BootstrapDiscover, Said(205, b"</0/0>,</0/1>;ssid=123,</1/0>,</1/1>"))
    outcome, asked = play(plans.about(), reply)
    assert outcome.state is BootstrapState.CONFIGURED
    assert asked[:2] == [BootstrapDiscover(), BootstrapRead(Path(1))]
    (told,) = plans.told
    assert isinstance(told, Discovered)
    assert [(each.instance_id, each.short_id) for each in told.of(1)] == [(0, 123)]


def test_of_too_many_steps_the_first_and_the_last_stay_in_the_history():
    writes = tuple(BootstrapWrite(Path(1, each), Content(), ContentFormat.TLV) for each in range(150))
    about = Plans(Plan((), writes, ("w" * 9000,))).about()
    outcome, asked = play(about)
    assert (outcome.state, len(asked)) == (BootstrapState.CONFIGURED, 152)
    assert len(about.steps) == MAX_STEPS
    assert [each.operation for each in about.steps[:3]] == ["Bootstrap-Discover", "Plan", "Bootstrap-Write"]
    assert [each.path for each in about.steps[-3:]] == ["/1/148", "/1/149", ""]
    (gap,) = [each.summary for each in about.steps if each.operation == "..."]
    assert gap == f"{153 - MAX_STEPS + 1} steps are not kept"
    assert max(len(each.summary) for each in about.steps) <= MAX_TEXT


# -- Discover --


@pytest.mark.spec("B-2", "Platform 12.1")
@pytest.mark.parametrize(
    "answer",
    [
        *(Said(each) for each in (400, 401, 402, 404, 405, 406, 500, 501)),
        Said(205, b"\xff\xfe no links"),
        Said(205, b"<<<"),
        Said(failure="reset", detail="the peer sent RST"),
        Said(failure="malformed", detail="a block without Block2"),
        Said(failure="oversized", detail="response_body_bytes"),
        Said(failure="timeout", detail="no answer after its acknowledgement", acknowledged=True),
    ],
    ids=lambda each: f"{each.status or each.failure}-{each.payload[:3].hex()}",
)
def test_a_device_that_cannot_say_what_it_holds_is_bootstrapped_all_the_same(answer: Said):
    plans = Plans()
    about = plans.about()
    outcome, asked = play(about, answering(BootstrapDiscover, answer))
    assert (outcome, asked) == (Outcome(BootstrapState.CONFIGURED), WHOLE)
    assert plans.told == [None]
    assert about.steps[0].detail.startswith(("the session goes on without", "taken as if it had not answered"))
    assert (about.steps[0].status, about.steps[0].failure) == (answer.status, answer.failure)


# -- silence and loss, at each step --

_PLACES = range(len(WHOLE))


def failing_at(place: int, answer: Said):
    seen = [0]

    def reply(operation: BootstrapOperation, count: int) -> Said:
        seen[0] += 1
        return answer if seen[0] == place + 1 else agrees(operation)

    return reply


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (SILENT, BootstrapState.SILENT),
        (Said(failure="lost", detail="closed"), BootstrapState.LOST),
        (Said(failure="unconnected", detail="no session"), BootstrapState.LOST),
        (Said(failure="cancelled", detail="the peer is forgotten"), BootstrapState.LOST),
        (Said(failure="refused", detail="peers_total"), BootstrapState.STEP_FAILED),
    ],
    ids=lambda each: each.failure if isinstance(each, Said) else "",
)
def test_silence_and_loss_end_the_session_at_any_step(place: int, answer: Said, state: BootstrapState):
    about = Plans().about()
    outcome, asked = play(about, failing_at(place, answer))
    assert outcome.state is state
    assert outcome.reason == ("unsendable" if answer.failure == "refused" else answer.failure)
    assert asked == WHOLE[: place + 1]
    last = about.steps[-1]
    assert (last.failure, last.status) == (answer.failure, 0)
    assert outcome.detail.startswith(f"{last.operation} {last.path}".rstrip() + f": {answer.failure}")


def test_a_finish_without_an_answer_may_have_been_heard_and_the_history_says_so():
    outcome, _ = play(Plans().about(), answering(BootstrapFinish, SILENT))
    assert outcome.detail == (
        "Bootstrap-Finish: timeout: no acknowledgement; perhaps the device has taken what it was given"
    )
    outcome, _ = play(Plans().about(), answering(BootstrapFinish, Said(failure="unconnected", detail="it has ended")))
    assert outcome.detail == "Bootstrap-Finish: unconnected: it has ended"


# -- Delete --


@pytest.mark.parametrize("status", [404, 405])
def test_what_is_not_there_cannot_be_deleted_and_that_is_no_obstacle(status: int):
    about = Plans().about()
    outcome, asked = play(about, answering(BootstrapDelete, Said(status, b"no such instance")))
    assert (outcome.state, asked) == (BootstrapState.CONFIGURED, WHOLE)
    assert about.steps[1].status == status
    assert about.steps[1].detail == "nothing was deleted; the session goes on: no such instance"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_a_delete_that_is_refused_ends_the_session_before_anything_is_written(status: int, place: int):
    outcome, asked = play(Plans().about(), answering(BootstrapDelete, Said(status), from_index=place))
    assert (outcome.state, outcome.reason) == (BootstrapState.STEP_FAILED, "delete-refused")
    assert asked == WHOLE[: 2 + place]


# -- Write --


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *((Said(each, b"why"), "write-refused") for each in (400, 401, 403, 404, 405, 413, 500, 503)),
        (Said(failure="reset"), "reset"),
        (Said(failure="malformed"), "malformed"),
    ],
)
def test_a_write_that_fails_ends_the_session_without_finish(answer: Said, reason: str, place: int):
    outcome, asked = play(Plans().about(), answering(BootstrapWrite, answer, from_index=place))
    assert (outcome.state, outcome.reason) == (BootstrapState.STEP_FAILED, reason)
    assert asked == WHOLE[: 4 + place]
    if answer.status:
        path = WRITES[place].path
        code = f"{answer.status // 100}.{answer.status % 100:02d}"
        assert outcome.detail == f"Bootstrap-Write {path}: the device answered {code}: why"


@pytest.mark.spec("B-4")
@pytest.mark.parametrize("status", [406, 415])
def test_a_refused_format_is_followed_by_others_and_the_first_that_works_stays(status: int):
    about = Plans().about()
    outcome, asked = play(about, answering(BootstrapWrite, Said(status), Said(status)))
    assert outcome.state is BootstrapState.CONFIGURED
    written = [(each.path, each.content_format) for each in asked if isinstance(each, BootstrapWrite)]
    assert written == [
        (Path(0, 1), ContentFormat.SENML_CBOR),
        (Path(0, 1), ContentFormat.TLV),
        (Path(0, 1), ContentFormat.SENML_JSON),
        (Path(1, 0), ContentFormat.SENML_JSON),
    ]
    assert [each.detail for each in about.steps if each.status == status] == [
        "Content-Format 112 is refused",
        "Content-Format 11542 is refused",
    ]


def test_a_device_that_takes_no_format_fails_after_each_was_tried_once():
    refusals = [Said(415)] * 20
    outcome, asked = play(Plans().about(), answering(BootstrapWrite, *refusals))
    assert (outcome.state, outcome.reason) == (BootstrapState.STEP_FAILED, "formats-refused")
    tried = [each.content_format for each in asked if isinstance(each, BootstrapWrite)]
    assert sorted(tried) == sorted(FORMATS)
    assert not isinstance(asked[-1], BootstrapFinish)


def test_the_key_is_nowhere_in_the_history_even_if_the_device_repeats_it():
    about = Plans().about()
    said = b"cannot write " + KEY.hex().encode()
    outcome, _ = play(about, answering(BootstrapWrite, Said(400, said)))
    kept = repr(about.steps) + repr(outcome) + repr(about)
    assert KEY.hex() not in kept
    assert repr(KEY) not in kept
    assert outcome.detail.endswith("4.00: 45 bytes that repeat a secret, not shown")


# -- Finish --


@pytest.mark.spec("B-7", "ETS 9")
def test_an_inconsistent_configuration_is_corrected_once():
    plans = Plans()
    about = plans.about()
    outcome, asked = play(about, answering(BootstrapFinish, Said(406, b"no server account")))
    assert outcome == Outcome(BootstrapState.CONFIGURED, detail="after a correction")
    read = BootstrapRead(Path(1), ContentFormat.SENML_CBOR)
    assert asked == [*WHOLE, read, *CORRECTION.deletes, *CORRECTION.writes, BootstrapFinish()]
    assert plans.told[1] == Content((Entry(Path(1, 0, 0), 123),))
    (step,) = [each for each in about.steps if each.operation == "Bootstrap-Read"]
    assert (step.path, step.status, step.summary) == ("/1", 205, "0/0 Short Server ID: 123")
    assert about.steps[5].detail == "no server account"


@pytest.mark.spec("B-7", "B-12", "READ-2")
@pytest.mark.parametrize("said", [Said(205, RIGHTS, 11542), Said(404)])
def test_where_rights_were_written_they_are_read_too(said: Said):
    write = BootstrapWrite(Path(2, 0), Content((Entry(Path(2, 0, 0), 3),)), ContentFormat.SENML_CBOR)
    plans = Plans(Plan(DELETES, (*WRITES, write)))

    def reply(operation: BootstrapOperation, count: int) -> Said:
        if isinstance(operation, BootstrapRead) and operation.path == Path(2):
            return said
        return answering(BootstrapFinish, Said(406))(operation, count)

    about = plans.about()
    outcome, asked = play(about, reply)
    assert outcome.state is BootstrapState.CONFIGURED
    assert [each.path for each in asked if isinstance(each, BootstrapRead)] == [Path(1), Path(2)]
    held = (Entry(Path(1, 0, 0), 123),)
    assert plans.told[1] == Content((*held, Entry(Path(2, 0, 0), 3)) if said.payload else held)


@pytest.mark.spec("B-7")
@pytest.mark.spec("B-12")
def test_a_device_without_rights_gives_every_server_all_and_is_no_worse_for_it():
    rights = BootstrapWrite(Path(2, 0), Content((Entry(Path(2, 0, 0), 3),)), ContentFormat.TLV)
    plan = Plan((), (*WRITES, rights, replace(rights, path=Path(2, 1))))

    def reply(operation: BootstrapOperation, count: int) -> Said:
        is_right = isinstance(operation, BootstrapWrite) and operation.path[0] == 2
        return Said(404) if is_right else agrees(operation, count)

    about = Plans(plan).about()
    outcome, asked = play(about, reply)
    assert asked[-2:] == [rights, BootstrapFinish()]
    assert outcome == Outcome(BootstrapState.CONFIGURED)
    assert [each.detail for each in about.steps if each.status == 404] == [
        "the device has no object 2: each server may do everything there; the session goes on"
    ]


def test_what_stays_inconsistent_is_not_corrected_again():
    outcome, asked = play(Plans().about(), answering(BootstrapFinish, Said(406, b"no"), Said(406, b"still no")))
    assert (outcome.state, outcome.reason) == (BootstrapState.INCONSISTENT, "finish-refused")
    assert outcome.detail == "Bootstrap-Finish: the device answered 4.06: still no; after the correction too"
    assert sum(isinstance(each, BootstrapFinish) for each in asked) == 2


def test_where_nothing_can_be_corrected_finish_is_not_asked_again():
    outcome, asked = play(Plans(correction=Plan()).about(), answering(BootstrapFinish, Said(406)))
    assert (outcome.state, outcome.reason) == (BootstrapState.INCONSISTENT, "finish-refused")
    assert sum(isinstance(each, BootstrapFinish) for each in asked) == 1


@pytest.mark.parametrize("answer", [Said(404), Said(405), Said(406), Said(205, b"\xff\xff", 11542), Said(205, b"", 99)])
def test_the_correction_does_without_a_read(answer: Said):
    plans = Plans()

    def reply(operation: BootstrapOperation, count: int) -> Said:
        if isinstance(operation, BootstrapRead):
            return answer
        return answering(BootstrapFinish, Said(406))(operation, count)

    outcome, _ = play(plans.about(), reply)
    assert outcome.state is BootstrapState.CONFIGURED
    assert plans.told[1] is None


def test_a_correction_that_fails_is_a_step_that_failed():
    def reply(operation: BootstrapOperation, count: int) -> Said:
        if isinstance(operation, BootstrapWrite) and count == 2:
            return Said(400)
        return answering(BootstrapFinish, Said(406))(operation, count)

    outcome, asked = play(Plans().about(), reply)
    assert (outcome.state, outcome.reason) == (BootstrapState.STEP_FAILED, "write-refused")
    assert sum(isinstance(each, BootstrapFinish) for each in asked) == 1


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("answer", [Said(400), Said(404), Said(405), Said(500), Said(failure="reset")])
def test_any_other_refusal_of_finish_ends_the_session(answer: Said, place: int):
    answers = [Said(406)] * place + [answer]
    outcome, asked = play(Plans().about(), answering(BootstrapFinish, *answers))
    assert outcome.state is BootstrapState.STEP_FAILED
    assert outcome.reason == (answer.failure or "finish-refused")
    assert sum(isinstance(each, BootstrapFinish) for each in asked) == place + 1


# -- what cannot be planned --


class CannotBe(UserError):
    """What a user wrote cannot be."""


@pytest.mark.parametrize(
    ("error", "reason"), [(CannotBe("server 123: no key"), "configuration"), (PctUnsupported(60), "pct")]
)
def test_what_cannot_be_planned_is_refused_before_anything_is_changed(error: Exception, reason: str):
    def fail(discovered: Discovered | None) -> Plan:
        raise error

    plans = Plans()
    outcome, asked = play(About(fail, plans.correction_of, plans.now_ms))
    assert outcome == Outcome(BootstrapState.REFUSED, reason, str(error))
    assert asked == [BootstrapDiscover()]


def test_a_correction_that_cannot_be_planned_leaves_it_inconsistent():
    def fail(discovered: Discovered | None, servers: Content | None) -> Plan:
        raise CannotBe("server 123: no key")

    plans = Plans()
    outcome, _ = play(About(plans.plan_of, fail, plans.now_ms), answering(BootstrapFinish, Said(406)))
    assert outcome.state is BootstrapState.INCONSISTENT
    assert outcome.detail.endswith("it cannot be corrected: server 123: no key")


# -- stopped from outside --


@pytest.mark.spec("B-3", "B-16")
@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("state", [BootstrapState.OVERTIME, BootstrapState.REPLACED, BootstrapState.LOST])
def test_a_session_can_be_stopped_at_any_step_and_says_at_which(place: int, state: BootstrapState):
    plans = Plans()
    about = plans.about()
    talk = converse(about)
    operation = next(talk)
    for _ in range(place):
        operation = talk.send(agrees(operation))
    wanted = Outcome(state, "time", "the device's own time was running out")
    assert stop(talk, wanted) == wanted
    assert len(about.steps) == place + 1
    last = about.steps[-1]
    assert (last.status, last.failure, last.detail) == (0, "cancelled", "the device's own time was running out")
    assert plans.steps == about.steps
    with pytest.raises(StopIteration):
        next(talk)


def test_what_has_not_begun_or_is_over_can_be_stopped_too():
    wanted = Outcome(BootstrapState.REPLACED)
    about = Plans().about()
    assert stop(converse(about), wanted) == wanted
    assert about.steps == []
