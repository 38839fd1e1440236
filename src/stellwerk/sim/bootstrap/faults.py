"""Devices that get bootstrapping wrong, on request.

A fault is written ``KIND[:WORD...][@STEP]``: ``silence@finish``, ``refuse:4.06:once@finish``, ``late:5s@write``,
``again@2``, ``garbage@discover``, ``stranger``, ``csr:once@sen``. STEP is a kind of request of the bootstrap server
(`STEPS`), the number of a request in the session (from 1 on), or a path like ``/0/1``; without it, every request. Or it
is a request of the device that enrols (`ENROLMENTS`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

from stellwerk.lwm2m.path import Path, PathError
from stellwerk.sim.faults import InvalidFault

STEPS: Final = ("discover", "read", "write", "delete", "finish")
ENROLMENTS: Final = ("crts", "sen", "sren")
"""What a device asks for that enrols (RFC 9148)."""
_EVERYWHERE: Final = Path()
_LATE_S: Final = 5.0
_REMEMBERED: Final = 8

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%", re.ASCII)
_SECONDS: Final = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)s", re.ASCII)
_CODE: Final = re.compile(r"([45])\.([0-2]\d|3[01])", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,5}", re.ASCII)
_STEP_NUMBER: Final = re.compile(r"[1-9]\d{0,2}", re.ASCII)
_ONCE: Final = "once"


class StepFaultKind(Enum):
    """What goes wrong."""

    SILENCE = "silence"
    """The request is not answered, nor are its repetitions, and has no effect."""
    RESET = "reset"
    """It is rejected with RST and has no effect."""
    REFUSE = "refuse"
    """It is answered with a code of class 4 or 5 and has no effect."""
    LATE = "late"
    """It has its effect at once, its answer comes later."""
    GARBAGE = "garbage"
    """What it is answered cannot be decoded."""
    AGAIN = "again"
    """After its answer the device sends another Bootstrap-Request, or asks for another certificate, and forgets what it
    has been given."""
    MOVE = "move"
    """After its answer the device speaks from another port, as behind a NAT that forgot it."""
    REBOOT = "reboot"
    """Instead of an answer the device restarts, and has what it had before; so it does instead of hearing one."""
    CLOSE = "close"
    """Instead of an answer the device closes the connection or secure session that the request came over."""
    STRANGER = "stranger"
    """The Bootstrap-Request names an endpoint that nobody knows, or the signing request does."""
    PCT = "pct"
    """The Bootstrap-Request prefers a content format that there is not, or the one with a number."""
    CSR = "csr"
    """A signing request bears a signature that is not of its key."""


_WITHOUT_EFFECT: Final = frozenset(
    {StepFaultKind.SILENCE, StepFaultKind.RESET, StepFaultKind.REFUSE, StepFaultKind.REBOOT, StepFaultKind.CLOSE}
)
_OF_REQUEST: Final = frozenset({StepFaultKind.STRANGER, StepFaultKind.PCT})
_NOT_OF_STEPS: Final = _OF_REQUEST | {StepFaultKind.CSR}
_KINDS: Final = {each.value: each for each in StepFaultKind}
_HOW: Final = {
    StepFaultKind.REFUSE: "refuse says with which code of class 4 or 5, like refuse:4.00@write or "
    "refuse:4.06:once@finish",
    StepFaultKind.LATE: "late takes seconds and a step, like late:5s@write",
    StepFaultKind.STRANGER: "stranger is of the Bootstrap-Request, or of a signing request, so it takes a share or "
    "once, like stranger:20% or stranger@sen",
    StepFaultKind.PCT: "pct is of the Bootstrap-Request, so it takes a number and a share, like pct:65000",
    StepFaultKind.CSR: "csr is of signing requests, so it takes a share or once, like csr:once or csr@sren",
}
_AT_ENROLMENTS: Final = {
    StepFaultKind.AGAIN: ENROLMENTS,
    StepFaultKind.REBOOT: ENROLMENTS,
    StepFaultKind.STRANGER: ENROLMENTS[1:],
    StepFaultKind.CSR: ENROLMENTS[1:],
}
"""What can go wrong with the requests of a device that enrols, and with which."""
_WHERE: Final = (
    f"write one of {', '.join(STEPS)}, the number of a request like 3, or a path like /0/1; where the device enrols "
    f"({', '.join(ENROLMENTS)}) go {', '.join(each.value for each in _AT_ENROLMENTS)}"
)


@dataclass(frozen=True, slots=True)
class StepFault:
    """``kind`` befalls the part ``share`` (0..1) of the requests at ``step``: one of `STEPS`, a number, or None.

    ``path``: of those, the ones at and below it. ``once``: the first of them alone. ``seconds``: how late. ``code``: of
    a refusal. ``number``: the content format that is preferred."""

    kind: StepFaultKind
    step: str | int | None = None
    path: Path = _EVERYWHERE
    share: float = 1.0
    once: bool = False
    seconds: float = _LATE_S
    code: int = 0
    number: int = 65_000

    @classmethod
    def parse(cls, text: str) -> "StepFault":
        """The fault written ``KIND[:WORD...][@STEP]``; the words may come in any order. Raises `InvalidFault`."""
        head, at, where = text.partition("@")
        name, *words = head.split(":")
        kind = _KINDS.get(name)
        if kind is None:
            raise InvalidFault(text, f"{name[:20]!r} is no kind of fault of a bootstrap; one of {', '.join(_KINDS)}")
        how = _HOW.get(kind, f"{name} takes a share or once, and a step, like {name}:20%@write or {name}:once@finish")
        found: dict[str, float | int | bool] = {}
        for word in words:
            read = _read_word(kind, word)
            if read is None or read[0] in found:
                raise InvalidFault(text, how)
            found[read[0]] = read[1]
        if kind is StepFaultKind.REFUSE and "code" not in found:
            raise InvalidFault(text, how)
        if at and where in _AT_ENROLMENTS.get(kind, ()):
            return cls(kind, where, **found)  # type: ignore[arg-type]
        if at and kind in _NOT_OF_STEPS:
            raise InvalidFault(text, how)
        step, path = _read_step(text, where) if at else (None, Path())
        return cls(kind, step, path, **found)  # type: ignore[arg-type]

    @property
    def has_effect(self) -> bool:
        """Whether the request that it befalls is carried out all the same."""
        return self.kind not in _WITHOUT_EFFECT

    @property
    def needs_channel(self) -> bool:
        """Whether there has to be a connection or a secure session that it can end."""
        return self.kind is StepFaultKind.CLOSE

    def is_at(self, step: str, number: int, path: Path) -> bool:
        """Whether it befalls the request ``number`` of a session, which is a ``step`` at ``path``."""
        if isinstance(self.step, int):
            return self.step == number
        return self.step in (None, step) and self.path.covers(path)


class StepFaults:
    """The faults of one device; the first that befalls a request counts."""

    __slots__ = ("_faults", "_random", "_silenced", "_spent", "committed")

    def __init__(self, faults: Iterable[StepFault], seed: int) -> None:
        self._faults = tuple(faults)
        self._random = Random(seed)
        self._silenced: list[bytes] = []
        self._spent: set[StepFault] = set()
        self.committed = 0

    def strike(self, step: str, number: int, path: Path, token: bytes) -> StepFault | None:
        """What befalls a request of the bootstrap server, if anything. One that got no answer gets none either when it
        is repeated."""
        if token in self._silenced:
            return StepFault(StepFaultKind.SILENCE)
        for each in self._faults:
            if each.kind not in _NOT_OF_STEPS and each.is_at(step, number, path) and self._befalls(each):
                if each.kind is StepFaultKind.SILENCE:
                    self._silenced = [*self._silenced[1 - _REMEMBERED :], token]
                return each
        return None

    def strike_request(self) -> list[StepFault]:
        """What befalls a Bootstrap-Request."""
        return [each for each in self._faults if each.kind in _OF_REQUEST and each.step is None and self._befalls(each)]

    def strike_enrolment(self, function: str) -> list[StepFault]:
        """What befalls a request for ``function``, one of `ENROLMENTS`."""
        return [
            each
            for each in self._faults
            if (each.step == function or (each.kind is StepFaultKind.CSR and each.step is None and function != "crts"))
            and self._befalls(each)
        ]

    def _befalls(self, fault: StepFault) -> bool:
        if fault in self._spent or (fault.share < 1.0 and self._random.random() >= fault.share):
            return False
        if fault.once:
            self._spent.add(fault)
        self.committed += 1
        return True


def _read_word(kind: StepFaultKind, word: str) -> tuple[str, float | int | bool] | None:
    if word == _ONCE:
        return "once", True
    if (match := _SHARE.fullmatch(word)) and float(match[1]) <= 100:
        return "share", float(match[1]) / 100
    if kind is StepFaultKind.LATE and (match := _SECONDS.fullmatch(word)):
        return "seconds", float(match[1])
    if kind is StepFaultKind.REFUSE and (match := _CODE.fullmatch(word)):
        return "code", int(match[1]) << 5 | int(match[2])
    if kind is StepFaultKind.PCT and _NUMBER.fullmatch(word) and int(word) < 65_536:
        return "number", int(word)
    return None


def _read_step(text: str, where: str) -> tuple[str | int | None, Path]:
    if where in STEPS:
        return where, Path()
    if _STEP_NUMBER.fullmatch(where):
        return int(where), Path()
    try:
        return None, Path.parse(where)
    except PathError:
        raise InvalidFault(text, f"{where[:20]!r} is no step; {_WHERE}") from None
