"""What became of an operation, as a value a program can look at: built from the journal's entry about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stellwerk.app.handlers.awaiting import Ended
from stellwerk.app.messages import discovered
from stellwerk.app.status_table import STATUS
from stellwerk.core.errors import PeerError
from stellwerk.device.command import FINAL, Command, Step
from stellwerk.lwm2m.answers import decode_answer, missing
from stellwerk.lwm2m.content import Content, Entry, Types, Untyped
from stellwerk.lwm2m.path import Path, PathError
from stellwerk.lwm2m.paths import parse_target
from stellwerk.lwm2m.value import Value

_WITH_VALUES: Final = frozenset({"read", "observe", "read-composite", "observe-composite"})

Attributes = Mapping[str, int | float | str | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``ref`` finds the command again, empty where it was refused before it was stored. ``method``: ``read``,
    ``write``, ``exec`` ...; ``path``: as the operation was about it, a list with commas.

    ``step``: `Step.SUCCEEDED`, ``REFUSED`` (by the device or before it was sent), ``TIMED_OUT``, ``OUTCOME_UNKNOWN``
    (sent, and whether it was done nobody knows), ``EXPIRED``, ``CANCELLED``, ``SUPERSEDED`` - or, where it has not
    ended yet, ``QUEUED``, ``SENT`` or ``DELIVERED``. ``reason`` is a key of `app.status_table.STATUS` and ``status``
    its number (200, 404, 408 ...), empty and 0 while it has not ended; ``detail`` says it to people. ``device_status``:
    the code of the device's answer, ``404`` for 4.04; 0 where it gave none.
    """

    ref: str
    method: str
    path: str
    step: Step
    reason: str = ""
    status: int = 0
    detail: str = ""
    device_status: int = 0
    values: tuple[Entry, ...] = ()
    """Of reads and observes: path, value and the device's time (UTC seconds, None where it stated none), in the order
    of the answer; several of one path where it sent a history."""
    missing: tuple[Path, ...] = ()
    """Of composites: what the device left out of its answer."""
    created: Path | None = None
    """Of a create: the new instance, where the device said which."""
    links: Mapping[Path, Attributes] = field(default_factory=dict)
    """Of a discover: what is there, with its attributes."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.step in FINAL

    @property
    def succeeded(self) -> bool:
        return self.step is Step.SUCCEEDED

    def latest(self) -> dict[Path, Value]:
        """The newest value of each path (contract D-15)."""
        return Content(self.values).latest()

    def value(self, path: str | Path | None = None) -> Value | None:
        """The newest value at ``path``, by default of the path that was asked for (or of the only one that was
        answered); None where there is none. Raises `PathError` for a text that is no path."""
        newest = self.latest()
        if path is None:
            try:
                path = Path.parse(self.path)
            except PathError:
                path = Path()
            if path not in newest and len(newest) == 1:
                return next(iter(newest.values()))
        return newest.get(Path.parse(path) if isinstance(path, str) else path)


def outcome_of(ended: Ended, ref: str, method: str, path: str) -> Outcome:
    """``method`` and ``path``: as they were asked for, where the entry has none."""
    row = ended.row
    step, reason, detail = ended.step, row.reason, row.detail
    found: dict[str, Any] = {}
    if step is Step.SUCCEEDED:
        try:
            found = _answer(ended)
        except PeerError as error:
            # Nobody could check it: the registration had ended when it came.
            step, reason, detail = Step.REFUSED, "adapter", f"the answer does not decode: {error}"
    return Outcome(
        ref,
        row.method or method,
        row.path or path,
        step,
        reason,
        STATUS[reason][0],
        detail,
        row.status,
        **found,
    )


def stored_outcome(command: Command) -> Outcome:
    """What the command's row says of it. The values of an answer are not part of it."""
    # While it has not ended, the row's reason says that it went unanswered once.
    reason = command.reason if command.step in FINAL else ""
    status = STATUS.get(reason, (0, ""))[0]
    path = str(command.operation.path)
    return Outcome(command.outgoing_ri, command.method, path, command.step, reason, status, command.detail)


def _answer(ended: Ended) -> dict[str, Any]:
    """Raises `PeerError`."""
    row = ended.row
    if row.method == "discover":
        data, problem = discovered(row)
        if data is None:
            raise PeerError(problem)
        return {"links": _links(data)}
    if row.method == "create":
        return {"created": _path(row.location)}
    if row.method not in _WITH_VALUES:
        return {}
    types: Types = Untyped() if ended.types is None else ended.types
    target = parse_target(row.path)
    content_format = None if row.content_format < 0 else row.content_format
    content = decode_answer(content_format, row.payload, target, types, now_s=row.time_ms / 1000, root=row.root)
    return {"values": content.entries, "missing": missing(content, target)}


def _links(data: Mapping[str, Attributes]) -> dict[Path, Attributes]:
    found = {}
    for text, attributes in data.items():
        path = _path(text)
        if path is not None:
            found[path] = attributes
    return found


def _path(text: str) -> Path | None:
    """A path that a device wrote; None for what is none."""
    try:
        return Path.parse("/" + text.removeprefix("/")) if text else None
    except PathError:
        return None
