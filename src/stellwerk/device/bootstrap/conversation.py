"""One bootstrap session, from the first step to the outcome (Core 1.2.2 §6.1; contract B-1, B-2, B-5, B-7).

Discover (and a Read of /1 where it left out what the plan needs), Deletes, Writes, Finish, one after the other; after a
Finish that was refused as inconsistent a Read of /1, and of /2 where the plan has rights, a corrected plan, and Finish
again. Both are read whatever the binding (contract §16). A conversation is a generator: it yields operations, is sent
the answer to each, and returns how the session ended. `stop` ends it from outside. What was done so far stands in
`About.steps` at any time.

A device without object 2 is configured without the rights that the profile gives. Where another step fails that
matters, nothing else is sent, not even Finish: a device that was not told that it is finished keeps what it had, or
gives up what it got (contract B-3).
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeAlias, assert_never

from stellwerk.core.errors import PeerError, StellwerkError
from stellwerk.device.bootstrap.discovered import Discovered, decode_discovered
from stellwerk.device.bootstrap.history import MAX_TEXT, BootstrapState, StepRecord, add_step
from stellwerk.device.bootstrap.plan import Plan
from stellwerk.device.bootstrap.summaries import heard, repeats, secrets_in, summarize
from stellwerk.lwm2m.bootstrap import (
    ACCESS_CONTROL,
    SERVER,
    BootstrapDelete,
    BootstrapDiscover,
    BootstrapFinish,
    BootstrapOperation,
    BootstrapRead,
    BootstrapWrite,
    PctUnsupported,
    bootstrap_types,
)
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import ContentFormat, decode_content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import Status, dotted, is_success

FORMATS: Final = (
    ContentFormat.TLV,
    ContentFormat.SENML_CBOR,
    ContentFormat.SENML_JSON,
    ContentFormat.LWM2M_CBOR,
    ContentFormat.LWM2M_JSON,
)
"""What is tried, in this order, after a device has refused the format that a Write came in."""

_FORMAT_REFUSED: Final = frozenset({Status.UNSUPPORTED_CONTENT_FORMAT, Status.NOT_ACCEPTABLE})
_NOTHING_DELETED: Final = frozenset({Status.NOT_FOUND, Status.METHOD_NOT_ALLOWED})
_GONE: Final = frozenset({"lost", "unconnected", "cancelled"})
_SILENCE: Final = "timeout"
_UNDECIDED: Final = frozenset({"timeout", "lost", "malformed", "oversized"})
"""How a request fails that may have been carried out."""
_OLD: Final = "1.0"


class Answer(Protocol):
    """What came of an operation, as `app.device_ports.DeviceAnswer` has it."""

    @property
    def status(self) -> int: ...
    @property
    def content_format(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def failure(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def acknowledged(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended: ``reason`` is a stable word, empty where all is well, ``detail`` is for people.

    Of the conversation itself: ``configuration`` and ``pct`` (`BootstrapState.REFUSED`); ``delete-refused``,
    ``write-refused``, ``formats-refused``, ``finish-refused``, ``reset``, ``malformed``, ``oversized``, ``unsendable``
    (`STEP_FAILED`); ``finish-refused`` (`INCONSISTENT`); ``timeout`` (`SILENT`); ``lost``, ``unconnected``,
    ``cancelled`` (`LOST`)."""

    state: BootstrapState
    reason: str = ""
    detail: str = ""


Conversation: TypeAlias = Generator[BootstrapOperation, Answer, Outcome]


class _Stopped(Exception):
    """Thrown into a conversation: nobody waits for it any more."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class _Ended(Exception):
    """A step ended the session."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.reason)


@dataclass(slots=True)
class About:
    """What a conversation needs to know, and what stays of it.

    ``plan_of`` gets what the device holds, None where it did not say; ``correction_of`` also what it holds of /1, and
    of /2 where that was read, after the plan, None where it did not say. Both may raise `StellwerkError`. ``now_ms``:
    UTC milliseconds since 1970.
    ``version``: the device's LwM2M version where it is known; 1.0 has neither Discover nor Read.
    ``on_step`` is told of each step once it is over, which is the last of ``steps`` then."""

    plan_of: Callable[[Discovered | None], Plan]
    correction_of: Callable[[Discovered | None, Content | None], Plan]
    now_ms: Callable[[], int]
    version: str | None = None
    on_step: Callable[[StepRecord], None] | None = None
    steps: list[StepRecord] = field(default_factory=list)
    """Oldest first, at most `history.MAX_STEPS`; the last may be ``under_way``."""
    left_out: int = 0
    """Steps that are not kept; a line called ``...`` stands in their place."""
    secrets: set[bytes] = field(default_factory=set, repr=False)
    """What the plans carry and must not come into ``steps``, whoever repeats it."""
    refused_formats: set[int] = field(default_factory=set)
    content_format: int | None = None
    """The one of the last Write that the device took."""
    lacks_rights: bool = False
    """The device has no object 2."""

    @property
    def under_way(self) -> StepRecord | None:
        """The step that waits for its answer: it has neither status nor failure yet."""
        last = self.steps[-1] if self.steps else None
        return None if last is None or last.status or last.failure else last

    def begin(self, operation: BootstrapOperation) -> None:
        """The step is sent."""
        name, path, summary = _described(operation)
        self._add(StepRecord(self.now_ms(), name, path, summary))

    def end(self, answer: Answer, note: str = "") -> None:
        """The step has its answer."""
        step = self.steps[-1]
        if answer.failure:
            self._finish(replace(step, failure=answer.failure, detail=_joined(note, answer.detail)))
            return
        said = heard(answer.payload, self.secrets) if answer.payload else ""
        if is_success(answer.status):
            summary = said if step.operation == "Bootstrap-Discover" else step.summary
            self._finish(replace(step, status=answer.status, summary=summary, detail=note))
        else:
            self._finish(replace(step, status=answer.status, detail=_joined(note, said)))

    def give_up(self, why: str) -> None:
        """Nobody waits for the answer any more."""
        if self.under_way is not None:
            self._finish(replace(self.under_way, failure="cancelled", detail=why))

    def note(self, name: str, text: str) -> None:
        """Something that is no operation."""
        self._add(StepRecord(self.now_ms(), name, "", text[:MAX_TEXT]))
        if self.on_step is not None:
            self.on_step(self.steps[-1])

    def aside(self, step: StepRecord) -> None:
        """Something that the device asked in between; what is under way stays the last."""
        last = self.under_way
        if last is not None:
            self.steps.pop()
        self._add(step)
        if last is not None:
            self._add(last)
        if self.on_step is not None:
            self.on_step(step)

    def quoted(self, answer: Answer, text: str) -> str:
        """``text`` about the payload of ``answer``, of which parts may stand in it."""
        return heard(answer.payload, self.secrets) if repeats(answer.payload, self.secrets) else text

    def describe(self, summary: str) -> None:
        """What the answer to the last step said."""
        self.steps[-1] = replace(self.steps[-1], summary=summary)

    def _add(self, step: StepRecord) -> None:
        self.left_out = add_step(self.steps, step, self.left_out)

    def _finish(self, step: StepRecord) -> None:
        step = replace(step, detail=step.detail[:MAX_TEXT])
        self.steps[-1] = step
        if self.on_step is not None:
            self.on_step(step)


def converse(about: About) -> Conversation:
    """Start the conversation. Raises nothing of its own."""
    try:
        outcome = yield from _session(about)
    except _Ended as ended:
        outcome = ended.outcome
    return replace(outcome, detail=outcome.detail[:MAX_TEXT])


def stop(talk: Conversation, outcome: Outcome) -> Outcome:
    """End ``talk`` wherever it stands; the step under way is given up in its history. ``outcome`` again: out of time,
    replaced by another session, without a connection."""
    with suppress(_Stopped):
        talk.throw(_Stopped(outcome.detail or outcome.state.value))
    return outcome


def _session(about: About) -> Conversation:
    discovered = yield from _discover(about)
    if discovered is not None and discovered.wants_read:
        known = yield from _read(Path(SERVER), about)
        discovered = discovered if known is None else discovered.with_servers(known)
    try:
        plan = about.plan_of(discovered)
    except PctUnsupported as error:
        return Outcome(BootstrapState.REFUSED, "pct", str(error))
    except StellwerkError as error:
        return Outcome(BootstrapState.REFUSED, "configuration", str(error))
    yield from _carry_out(plan, about)
    answer = yield from _finish(about)
    if answer.status != Status.NOT_ACCEPTABLE:
        return Outcome(BootstrapState.CONFIGURED if plan else BootstrapState.NOTHING_TO_DO)
    held = yield from _read(Path(SERVER), about)
    if held is not None and any(each.path[0] == ACCESS_CONTROL for each in plan.writes):
        rights = yield from _read(Path(ACCESS_CONTROL), about)
        if rights is not None:
            held = Content(held.entries + rights.entries, held.empty + rights.empty)
    try:
        correction = about.correction_of(discovered, held)
    except StellwerkError as error:
        return _inconsistent(answer, about, f"it cannot be corrected: {error}")
    if not correction:
        return _inconsistent(answer, about, "; ".join(correction.warnings) or "there is nothing to correct")
    yield from _carry_out(correction, about)
    answer = yield from _finish(about)
    if answer.status == Status.NOT_ACCEPTABLE:
        return _inconsistent(answer, about, "after the correction too")
    return Outcome(BootstrapState.CONFIGURED, detail="after a correction")


def _inconsistent(answer: Answer, about: About, why: str) -> Outcome:
    said = _said(BootstrapFinish(), answer, about)
    return Outcome(BootstrapState.INCONSISTENT, "finish-refused", f"{said}; {why}")


# -- steps --


def _discover(about: About) -> Generator[BootstrapOperation, Answer, Discovered | None]:
    """What the device holds; None where it cannot say, which stops nothing (device platform §12.1)."""
    if about.version == _OLD:
        return None
    answer = yield from _ask_if_able(BootstrapDiscover(), about)
    if answer is None:
        return None
    try:
        found = decode_discovered(answer.payload)
    except PeerError as error:
        about.end(answer, f"taken as if it had not answered: {about.quoted(answer, str(error))}")
        return None
    about.end(answer)
    return found


def _read(path: Path, about: About) -> Generator[BootstrapOperation, Answer, Content | None]:
    """What the device holds of an object; None where it cannot say."""
    if about.version == _OLD:
        return None
    # What it took it can say; before that, it chooses.
    answer = yield from _ask_if_able(BootstrapRead(path, about.content_format), about)
    if answer is None:
        return None
    content_format = None if answer.content_format < 0 else answer.content_format
    try:
        found = decode_content(content_format, answer.payload, path, bootstrap_types(Content()))
    except PeerError as error:
        about.end(answer, f"taken as if it had not answered: {about.quoted(answer, str(error))}")
        return None
    about.describe(about.quoted(answer, summarize(found, path)))
    about.end(answer)
    return found


def _carry_out(plan: Plan, about: About) -> Generator[BootstrapOperation, Answer, None]:
    for write in plan.writes:
        about.secrets |= secrets_in(write.content)
    if plan.warnings:
        about.note("Plan", "; ".join(plan.warnings))
    for delete in plan.deletes:
        yield from _delete(delete, about)
    for write in plan.writes:
        if write.path[0] != ACCESS_CONTROL or not about.lacks_rights:
            yield from _write(write, about)


def _delete(delete: BootstrapDelete, about: About) -> Generator[BootstrapOperation, Answer, None]:
    answer = yield from _ask(delete, about)
    if answer.status in _NOTHING_DELETED and not answer.failure:
        about.end(answer, "nothing was deleted; the session goes on")
        return
    about.end(answer)
    _check(delete, answer, about, "delete-refused")


def _write(write: BootstrapWrite, about: About) -> Generator[BootstrapOperation, Answer, None]:
    """In the format of the plan, or the first other one that the device has not refused in this session."""
    answer: Answer | None = None
    for content_format in dict.fromkeys((write.content_format, *FORMATS)):
        if content_format in about.refused_formats:
            continue
        answer = yield from _ask(replace(write, content_format=content_format), about)
        if write.path[0] == ACCESS_CONTROL and answer.status == Status.NOT_FOUND and not answer.failure:
            # It says so only here: many list no object without instances.
            about.lacks_rights = True
            about.end(answer, "the device has no object 2: each server may do everything there; the session goes on")
            return
        if answer.failure or answer.status not in _FORMAT_REFUSED:
            about.end(answer)
            _check(write, answer, about, "write-refused")
            about.content_format = content_format
            return
        about.refused_formats.add(content_format)
        about.end(answer, f"Content-Format {content_format} is refused")
    said = "the device refuses every format" if answer is None else _said(write, answer, about)
    formats = ", ".join(str(int(each)) for each in sorted(about.refused_formats))
    raise _Ended(Outcome(BootstrapState.STEP_FAILED, "formats-refused", f"{said}; Content-Formats tried: {formats}"))


def _finish(about: About) -> Generator[BootstrapOperation, Answer, Answer]:
    """The answer: a success, or 4.06."""
    finish = BootstrapFinish()
    answer = yield from _ask(finish, about)
    about.end(answer)
    if answer.failure or answer.status != Status.NOT_ACCEPTABLE:
        _check(finish, answer, about, "finish-refused")
    return answer


# -- asking --


def _ask(operation: BootstrapOperation, about: About) -> Generator[BootstrapOperation, Answer, Answer]:
    about.begin(operation)
    try:
        return (yield operation)
    except _Stopped as stopped:
        about.give_up(stopped.why)
        raise


def _ask_if_able(
    operation: BootstrapDiscover | BootstrapRead, about: About
) -> Generator[BootstrapOperation, Answer, Answer | None]:
    """A successful answer, whose step the caller ends; None where the device is there and does not give one."""
    answer = yield from _ask(operation, about)
    if not answer.failure and is_success(answer.status):
        return answer
    able = not answer.failure or answer.failure in ("reset", "malformed", "oversized")
    if able or (answer.failure == _SILENCE and answer.acknowledged):
        about.end(answer, "the session goes on without")
        return None
    about.end(answer)
    _check(operation, answer, about, "")
    return None


def _check(operation: BootstrapOperation, answer: Answer, about: About, refused: str) -> None:
    """Raises `_Ended` where the step did not succeed."""
    failure = answer.failure
    if not failure and is_success(answer.status):
        return
    if failure == _SILENCE:
        state, reason = BootstrapState.SILENT, failure
    elif failure in _GONE:
        state, reason = BootstrapState.LOST, failure
    else:
        # What is refused with a failure was refused here, and nothing was sent.
        state, reason = BootstrapState.STEP_FAILED, "unsendable" if failure == "refused" else failure or refused
    raise _Ended(Outcome(state, reason, _said(operation, answer, about)))


def _said(operation: BootstrapOperation, answer: Answer, about: About) -> str:
    name, path, _ = _described(operation, summarized=False)
    step = f"{name} {path}".rstrip()
    if answer.failure:
        perhaps = answer.failure in _UNDECIDED and isinstance(operation, BootstrapFinish)
        told = _joined(answer.failure, answer.detail)
        return f"{step}: {told}" + ("; perhaps the device has taken what it was given" if perhaps else "")
    said = heard(answer.payload, about.secrets) if answer.payload else ""
    return f"{step}: the device answered {_joined(dotted(answer.status), said)}"


def _described(operation: BootstrapOperation, *, summarized: bool = True) -> tuple[str, str, str]:
    """Name, path and payload for people."""
    match operation:
        case BootstrapDiscover(path):
            return "Bootstrap-Discover", str(path), ""
        case BootstrapRead(path):
            return "Bootstrap-Read", str(path), ""
        case BootstrapDelete(path):
            return "Bootstrap-Delete", str(path), ""
        case BootstrapWrite(path, content, _):
            return "Bootstrap-Write", str(path), summarize(content, path) if summarized else ""
        case BootstrapFinish():
            return "Bootstrap-Finish", "", ""
        case _:
            assert_never(operation)


def _joined(first: str, second: str) -> str:
    return f"{first}: {second}" if first and second else first or second
