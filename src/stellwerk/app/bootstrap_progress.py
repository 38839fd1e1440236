"""How far a bootstrap session has come, in the journal: the lines of the device's log about it carry that besides
(``payload`` of a LOG entry). So a session that a crash of the server interrupts keeps its steps, and none of them costs
a write of its own."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import msgspec

from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.device.bootstrap.history import BootstrapSession, BootstrapState, StepRecord, add_step

LONGEST_MS: Final = 300_000
"""So far before the journal's end began what may have been under way then."""
INTERRUPTED: Final = "interrupted"
"""`StepRecord.failure` of what was under way when the server stopped."""


class Progress(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Stored in this order; add fields at the end, with defaults.

    Of the session ``number``: the step that is ``over`` with this line, and what is ``under_way`` from then on.
    ``state``: how the session ended, None while it runs, with ``ended_ms``, ``reason`` and ``detail`` as of
    `BootstrapSession`. ``spent_ms``: when that used up the device's one-time credential, 0: it did not.
    """

    number: int
    over: StepRecord | None = None
    under_way: StepRecord | None = None
    state: BootstrapState | None = None
    ended_ms: int = 0
    reason: str = ""
    detail: str = ""
    spent_ms: int = 0


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Progress).decode


def ended(session: BootstrapSession, spent_ms: int = 0) -> Progress:
    """As ``session`` has it."""
    return Progress(
        session.number,
        state=session.state,
        ended_ms=session.ended_ms,
        reason=session.reason,
        detail=session.detail,
        spent_ms=spent_ms,
    )


def encode_progress(progress: Progress) -> bytes:
    """The ``payload`` of an entry."""
    return _encode(progress)


def progress_in(entries: Iterable[JournalEntry]) -> list[Progress]:
    """What ``entries`` say of any session, in their order; what another version wrote and this one does not read is
    left out."""
    found = []
    for entry in entries:
        if entry.kind == Kind.LOG and entry.payload:
            try:
                found.append(_decode(entry.payload))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
    return found


def as_known(session: BootstrapSession, known: Iterable[Progress]) -> BootstrapSession:
    """A session that is stored as running, with what is ``known`` of it, in the order in which it happened: its steps,
    the last of them perhaps under way, and how it ended, if it did."""
    return _read(session, known)[0]


def as_interrupted(session: BootstrapSession, known: Iterable[Progress], now_ms: int) -> BootstrapSession:
    """`as_known`, of a session that nobody goes on with: the server has stopped."""
    session, under_way = _read(session, known)
    if session.state is not BootstrapState.RUNNING:
        return session
    session = replace(session, state=BootstrapState.INTERRUPTED, ended_ms=now_ms)
    if under_way is None:
        return session
    last = replace(under_way, failure=INTERRUPTED, detail="the server stopped before it had the answer")
    during = f"during {last.operation} {last.path}".rstrip()
    return replace(session, detail=during, steps=(*session.steps[:-1], last))


def spent_in(session: BootstrapSession, known: Iterable[Progress]) -> int:
    """When the session used up the device's one-time credential, 0: it did not, as far as is known."""
    return max((each.spent_ms for each in known if each.number == session.number), default=0)


def _read(session: BootstrapSession, known: Iterable[Progress]) -> tuple[BootstrapSession, StepRecord | None]:
    """The session as far as it is known, and the last of its steps where that is under way."""
    steps: list[StepRecord] = []
    left_out = 0
    under_way: StepRecord | None = None
    for each in known:
        if each.number != session.number:
            continue
        if each.over is not None:
            left_out = add_step(steps, each.over, left_out)
        under_way = each.under_way
        if each.state is not None:
            session = replace(session, state=each.state, ended_ms=each.ended_ms, reason=each.reason, detail=each.detail)
    if under_way is not None:
        add_step(steps, under_way, left_out)
    return replace(session, steps=tuple(steps)), under_way
