"""One operation, from its first request to the answer that stands for it.

Mostly that is one request. It is more where a device refuses a format (D-2), has no composites (D-12), wants
attributes apart from the Observe (§7), or does not say what it created (D-9). A conversation is a generator: it yields
requests, is sent the answer to each, and returns the one that counts. What it found out on its way stands in ``notes``,
for the device's log, and in the memory, so that it is found out once for each registration.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, assert_never

from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.core.errors import PeerError, StellwerkError
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.answers import decode_answer
from stellwerk.lwm2m.content import Content, Entry
from stellwerk.lwm2m.formats import encode_content
from stellwerk.lwm2m.formats.content_format import ContentFormat
from stellwerk.lwm2m.formats.limits import MAX_ENTRIES
from stellwerk.lwm2m.link_format import decode_links
from stellwerk.lwm2m.operations import (
    CancelComposite,
    CancelObservation,
    Create,
    Delete,
    Discover,
    Execute,
    Observe,
    ObserveComposite,
    Operation,
    Read,
    ReadComposite,
    Write,
    WriteAttributes,
    WriteComposite,
)
from stellwerk.lwm2m.path import RESERVED_ID, Path, PathError, parse_path
from stellwerk.lwm2m.paths import MAX_PATHS
from stellwerk.lwm2m.status import Status, dotted, is_success
from stellwerk.southbound.format_choice import Memory, formats_for, has_open_format, kind_of
from stellwerk.southbound.translate_down import Down, translate_down

Conversation: TypeAlias = Generator[Down, DeviceAnswer, DeviceAnswer]

NO_COMPOSITE_PATIENCE_S: Final = 30.0
"""How long a device that may not know composites has for its answer after it acknowledged one: Wakaama acknowledges and
is silent for ever (contract D-12)."""

_ANOTHER_FORMAT: Final = frozenset({Status.NOT_ACCEPTABLE, Status.UNSUPPORTED_CONTENT_FORMAT})
# Accept is a critical option, so a device that does not know it may say so (RFC 7252 5.4.1).
_ANOTHER_ACCEPT: Final = _ANOTHER_FORMAT | {Status.BAD_OPTION}
_NO_METHOD: Final = frozenset({Status.METHOD_NOT_ALLOWED, Status.NOT_IMPLEMENTED})
_PERHAPS_NO_COMPOSITES: Final = (
    _ANOTHER_ACCEPT | _NO_METHOD | {Status.BAD_REQUEST, Status.NOT_FOUND, Status.INTERNAL_SERVER_ERROR}
)
"""What devices without composites answer to one; most of it may mean something else."""
_NO_QUERY: Final = frozenset({Status.BAD_REQUEST, Status.BAD_OPTION, Status.METHOD_NOT_ALLOWED})
"""What devices answer to an Observe whose attributes they do not know."""


@dataclass(slots=True)
class Circumstances:
    """What a conversation needs to know of the world. ``now_s``: UTC seconds since 1970."""

    registration: Registration
    memory: Memory
    now_s: Callable[[], float]
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Lines for the device's log: event and detail."""

    def note(self, event: str, detail: str) -> None:
        self.notes.append((event, detail))

    @property
    def location(self) -> str:
        return self.registration.location

    @property
    def composites(self) -> bool | None:
        if self.registration.version == "1.0":
            return False
        learned = self.memory.of(self.location)
        return None if learned is None else learned.composites

    def formats(self, operation: Operation) -> tuple[int, ...]:
        return formats_for(operation, self.registration, self.memory.of(self.location))


def converse(operation: Operation, about: Circumstances) -> Conversation:
    """Start the conversation for ``operation``. A request is encoded when it is yielded; raises nothing."""
    match operation:
        case Observe(attributes=attributes) if attributes:
            return _observe_with_attributes(operation, about)
        case CancelObservation():
            return _cancel(operation, about)
        case ReadComposite():
            return _read_composite(operation, about)
        case ObserveComposite():
            return _observe_composite(operation, about)
        case WriteComposite():
            return _write_composite(operation, about)
        case Create():
            return _create(operation, about)
        case Read() | Observe() | Write() | CancelComposite() | Execute() | Delete() | Discover() | WriteAttributes():
            return _ask(operation, about)
        case _:
            assert_never(operation)


def _ask(operation: Operation, about: Circumstances, *, query_refused: bool = False) -> Conversation:
    """One operation in the formats that come into question, until one is not refused. ``query_refused``: 4.02 would
    mean the attributes in the query."""
    reads = isinstance(operation, Read | Observe | ReadComposite | ObserveComposite) and not query_refused
    refusals = _ANOTHER_ACCEPT if reads else _ANOTHER_FORMAT
    formats = about.formats(operation)
    answer: DeviceAnswer | None = None
    refused: list[str] = []
    problem = ""
    for content_format in formats if has_open_format(operation) else formats[:1]:
        try:
            down = translate_down(operation, about.registration, content_format)
        except StellwerkError as error:
            problem = problem or str(error)
            continue
        answer = yield down
        answer.accept = -1 if down.accept is None else down.accept
        if answer.failure:
            return answer
        if answer.status not in refusals:
            if refused and is_success(answer.status):
                about.memory.note(about.location).formats[kind_of(operation)] = content_format
                text = f"{', '.join(refused)} to {operation.path}; {content_format} works and is used from now on"
                about.note("format-changed", text)
            return answer
        refused.append(f"{dotted(answer.status)} for Content-Format {content_format}")
    return answer or DeviceAnswer(0, failure="refused", detail=problem)


# -- observing --


def _observe_with_attributes(operation: Observe, about: Circumstances) -> Conversation:
    """Within the Observe for a device of 1.2, else written before it (contract §7)."""
    plain = replace(operation, attributes=())
    learned = about.memory.of(about.location)
    if about.registration.version not in ("1.0", "1.1") and not (learned is not None and learned.attributes_apart):
        answer = yield from _ask(operation, about, query_refused=True)
        if answer.failure or answer.status not in _NO_QUERY:
            return answer
        refusal = dotted(answer.status)
        written = yield translate_down(WriteAttributes(operation.path, operation.attributes), about.registration, 0)
        if not written.failure and is_success(written.status):
            about.memory.note(about.location).attributes_apart = True
            text = f"{operation.path}: the device answered {refusal} to attributes within an Observe; they are written"
            about.note("attributes-apart", text)
    else:
        written = yield translate_down(WriteAttributes(operation.path, operation.attributes), about.registration, 0)
    if written.failure or not is_success(written.status):
        written.to_attributes = True
        return written
    answer = yield from _ask(plain, about)
    if not answer.failure and not answer.observing:
        # Nothing goes by them then; the answer stays what it is, whatever comes of this.
        yield _unset(operation, about)
    return answer


def _unset(operation: Observe | CancelObservation, about: Circumstances) -> Down:
    unset = tuple((name, None) for name, _ in operation.attributes)
    return translate_down(WriteAttributes(operation.path, unset), about.registration, 0)


def _cancel(operation: CancelObservation, about: Circumstances) -> Conversation:
    answer = yield from _ask(operation, about)
    learned = about.memory.of(about.location)
    apart = about.registration.version in ("1.0", "1.1") or (learned is not None and learned.attributes_apart)
    if operation.attributes and apart and not answer.failure and is_success(answer.status):
        # They were written for this observation; whoever observes next shall not inherit them. The cancel itself has
        # succeeded, whatever comes of this.
        yield _unset(operation, about)
    return answer


# -- composites --


def _read_composite(operation: ReadComposite, about: Circumstances) -> Conversation:
    if about.composites is False:
        if about.registration.version == "1.0":
            about.note(
                "composite-by-reads", f"{operation.path}: LwM2M 1.0 has no composites; each path is read by itself"
            )
        return (yield from _read_each(operation, about))
    answer = yield from _ask(operation, about)
    silent = _is_silent(answer)
    if not silent and (answer.failure or answer.status not in _PERHAPS_NO_COMPOSITES):
        if not answer.failure and is_success(answer.status):
            _knows_composites(about)
        return answer
    why = "said nothing after its acknowledgement" if silent else f"answered {dotted(answer.status)}"
    about.note("composite-by-reads", f"{operation.path}: the device {why}; each path is read by itself")
    found = yield from _read_each(operation, about)
    if not found.failure and is_success(found.status) and about.composites is None:
        # What it said of the composite was not about these paths.
        about.memory.note(about.location).composites = False
    return found


def _read_each(operation: ReadComposite, about: Circumstances) -> Conversation:
    """Best effort as a Read-Composite is (D-11): what cannot be read is left out. One answer of all that was said."""
    registration = about.registration
    entries: dict[tuple[Path, float | None], Entry] = {}
    refusal: DeviceAnswer | None = None
    readable = False
    paths = operation.paths.outermost()
    if paths == (Path(),):
        # Nobody reads the root by itself.
        listed = sorted(registration.objects.objects)
        if len(listed) > MAX_PATHS:
            about.note("composite-incomplete", f"of {len(listed)} objects the first {MAX_PATHS} are read")
        paths = tuple(Path(each) for each in listed[:MAX_PATHS])
    for path in paths:
        answer = yield from _ask(Read(path), about)
        if answer.failure:
            return answer
        if not is_success(answer.status):
            refusal = answer
            if answer.status != Status.NOT_FOUND:
                about.note("composite-incomplete", f"{path}: the device answered {dotted(answer.status)}")
            continue
        readable = True
        try:
            content = decode_answer(
                None if answer.content_format < 0 else answer.content_format,
                answer.payload,
                path,
                registration.types,
                about.now_s(),
                registration.objects.root,
            )
        except PeerError as error:
            return DeviceAnswer(0, failure="undecodable", detail=f"{path}: {error}")
        for entry in content.entries:
            entries[entry.path, entry.time_s] = entry
        if len(entries) > MAX_ENTRIES:
            return DeviceAnswer(
                0, failure="oversized", detail=f"more than {MAX_ENTRIES} values in all; name fewer paths"
            )
    if refusal is not None and not readable:
        return refusal
    try:
        payload = _pack(entries.values(), registration)
    except StellwerkError as error:
        return DeviceAnswer(0, failure="undecodable", detail=str(error))
    return DeviceAnswer(0, Status.CONTENT, ContentFormat.SENML_CBOR, payload)


def _pack(entries: Iterable[Entry], registration: Registration) -> bytes:
    content = Content(tuple(entries))
    return encode_content(ContentFormat.SENML_CBOR, content, Path(), registration.types, registration.objects.root)


def _observe_composite(operation: ObserveComposite, about: Circumstances) -> Conversation:
    instead = "OBSERVE each path by itself"
    if about.composites is False:
        return _no_composites(about, instead)
    answer = yield from _ask(operation, about, query_refused=bool(operation.attributes))
    if operation.attributes and not answer.failure and answer.status in _NO_QUERY:
        answer.to_attributes = True
        return answer
    return _composite_answered(answer, about, instead)


def _write_composite(operation: WriteComposite, about: Circumstances) -> Conversation:
    # Single writes would not be all or nothing (D-11): that they will do instead is for the caller to say.
    instead = "WRITE each path by itself, if it is not all or nothing that counts"
    if about.composites is False:
        return _no_composites(about, instead)
    answer = yield from _ask(operation, about)
    if _is_silent(answer) and about.composites is None:
        # It may have written all the same, late.
        answer.detail += "; perhaps it knows no composites"
        return answer
    return _composite_answered(answer, about, instead)


def _composite_answered(answer: DeviceAnswer, about: Circumstances, instead: str) -> DeviceAnswer:
    if not answer.failure and is_success(answer.status):
        _knows_composites(about)
        return answer
    silent = _is_silent(answer)
    if about.composites is None and (silent or (not answer.failure and answer.status in _NO_METHOD)):
        about.memory.note(about.location).composites = False
        why = "says nothing after its acknowledgement" if silent else f"answered {dotted(answer.status)}"
        return DeviceAnswer(0, failure="unsupported", detail=f"the device {why}: it knows no composites; {instead}")
    return answer


def _no_composites(about: Circumstances, instead: str) -> DeviceAnswer:
    old = about.registration.version == "1.0"
    why = "a device of LwM2M 1.0 has no composites" if old else "the device showed before that it knows no composites"
    return DeviceAnswer(0, failure="unsupported", detail=f"{why}; {instead}")


def _knows_composites(about: Circumstances) -> None:
    if about.composites is None:
        about.memory.note(about.location).composites = True


def _is_silent(answer: DeviceAnswer) -> bool:
    return answer.failure == "timeout" and answer.acknowledged


# -- instances --


def _create(operation: Create, about: Circumstances) -> Conversation:
    """Says what was made, from the answer's Location, from what was asked for, or from a Discover (D-9)."""
    answer = yield from _ask(operation, about)
    if answer.failure or answer.status != Status.CREATED:
        return answer
    if answer.location:
        if _is_instance(answer.location, operation.path[0]):
            return answer
        said = answer.location if len(answer.location) <= 60 else answer.location[:60] + "..."
        about.note("location-ignored", f"{operation.path}: the device says that it created {said}, no instance of it")
        answer.location = ""
    chosen = {path[1] for path in (*(each.path for each in operation.content.entries), *operation.content.empty)}
    if chosen and RESERVED_ID not in chosen:
        answer.location = str(operation.path.child(min(chosen)))
        return answer
    found = yield translate_down(Discover(operation.path), about.registration, 0)
    if found.failure or not is_success(found.status):
        about.note("instances-unknown", f"{operation.path}: the device did not say what it created, nor what there is")
        return answer
    objects = about.registration.objects
    object_id = operation.path[0]
    try:
        answer.instances = _instances(found.payload, objects.root, object_id)
    except PeerError as error:
        about.note("instances-unknown", f"{operation.path}: what the device discovered does not decode: {error}")
        return answer
    before = objects.objects.get(object_id)
    fresh = set(answer.instances) - set(before.instances if before is not None else ())
    if len(fresh) == 1:
        answer.location = str(operation.path.child(fresh.pop()))
    return answer


def _is_instance(location: str, object_id: int) -> bool:
    try:
        made = parse_path(location)
    except PathError:
        return False
    return len(made) == 2 and made[0] == object_id and made[1] != RESERVED_ID


def _instances(payload: bytes, root: str, object_id: int) -> tuple[int, ...]:
    """The instances of an object that a Discover of it names. Raises `LinkFormatError`."""
    found: set[int] = set()
    for link in decode_links(payload):
        try:
            path = parse_path(link.target.removeprefix(root))
        except PathError:
            continue
        if len(path) > 1 and path[0] == object_id and path[1] != RESERVED_ID:
            found.add(path[1])
    return tuple(sorted(found))
