"""Devices that get it wrong, on request: silent, late, refusing, talking nonsense, gone or somewhere else.

A fault is written ``KIND[:WORD...][@PATH]``: ``silence:20%``, ``late:5s``, ``refuse:4.04:50%@/3/0/0``, ``reboot:60s``.
What happens follows from the device's seed alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

from stellwerk.core.errors import UserError
from stellwerk.lwm2m.path import Path, PathError

_LATE_S: Final = 5.0
_REMEMBERED: Final = 8
_EVERYWHERE: Final = Path()

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)%", re.ASCII)
_SECONDS: Final = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)s", re.ASCII)
_CODE: Final = re.compile(r"([45])\.([0-2]\d|3[01])", re.ASCII)
_NUMBER: Final = re.compile(r"(\d{1,5})", re.ASCII)
_LIMITS: Final = {"share": (0.0, 1.0), "seconds": (0.1, 86_400.0), "number": (0, 65_535)}


class FaultKind(Enum):
    """What goes wrong."""

    SILENCE = "silence"
    """A request is not answered, nor are its repetitions, and has no effect."""
    RESET = "reset"
    """A request is rejected with RST and has no effect."""
    REFUSE = "refuse"
    """A request is answered with a code of class 4 or 5 and has no effect."""
    LATE = "late"
    """A request has its effect at once, its answer comes later."""
    FORMAT = "format"
    """An answer comes in a content format that nobody asked for; with a number, it is only called that."""
    GARBAGE = "garbage"
    """What an answer, a notification or a Send says cannot be decoded."""
    PLAIN_OBSERVE = "plain-observe"
    """An Observe is answered like a Read: no observation is there."""
    REBOOT = "reboot"
    """Instead of an answer the device restarts; with seconds, it does so each time they have passed."""
    MOVE = "move"
    """After its answer the device speaks from another port, as behind a NAT that forgot it; with seconds, each time
    they have passed."""
    WRONG_KEY = "wrong-key"
    """It comes to a handshake with another key than the one that goes with its identity."""
    WRONG_IDENTITY = "wrong-identity"
    """It comes to a handshake as somebody whom nobody knows."""
    EXPIRED_CERTIFICATE = "expired-certificate"
    """It comes to a handshake with a certificate that was good until yesterday."""


_WITHOUT_EFFECT: Final = frozenset({FaultKind.SILENCE, FaultKind.RESET, FaultKind.REFUSE, FaultKind.REBOOT})
_UNANSWERED: Final = frozenset({FaultKind.SILENCE, FaultKind.REBOOT})
_TIMED: Final = frozenset({FaultKind.REBOOT, FaultKind.MOVE})
_HANDSHAKE: Final = frozenset({FaultKind.WRONG_KEY, FaultKind.WRONG_IDENTITY, FaultKind.EXPIRED_CERTIFICATE})
_KINDS: Final = {each.value: each for each in FaultKind}

_HOW: Final = {
    FaultKind.REFUSE: "refuse says with which code of class 4 or 5, like refuse:4.04 or refuse:5.00:20%@/3/0/0",
    FaultKind.LATE: "late takes seconds, a share and a path, like late:5s or late:5s:20%@/3/0",
    FaultKind.FORMAT: "format takes a content format, a share and a path, like format, format:20% or format:65000@/3/0",
    FaultKind.REBOOT: "reboot takes seconds between two, or a share and a path, like reboot:60s or reboot@/3/0/9",
    FaultKind.MOVE: "move takes seconds between two, or a share and a path, like move:60s or move@/3/0/9",
    **{
        each: f"{each.value} befalls handshakes, so it takes a share alone, like {each.value} or {each.value}:20%"
        for each in _HANDSHAKE
    },
}


class InvalidFault(UserError):
    """``text`` is no fault; ``rule`` says what would be right."""

    def __init__(self, text: str, rule: str) -> None:
        self.text, self.rule = text, rule
        super().__init__(f"fault {text[:60]!r}: {rule}")


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` befalls the part ``share`` (0..1) of the requests at ``path`` and below.

    ``seconds``: how late, or between two that come by time alone. ``code``: of a refusal. ``content_format``: the
    number that an answer bears.
    """

    kind: FaultKind
    path: Path = _EVERYWHERE
    share: float = 1.0
    seconds: float | None = None
    code: int | None = None
    content_format: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """The fault written ``KIND[:WORD...][@PATH]``; the words may come in any order. Raises `InvalidFault`."""
        head, at, where = text.partition("@")
        name, *words = head.split(":")
        kind = _KINDS.get(name)
        if kind is None:
            raise InvalidFault(text, f"{name[:20]!r} is no kind of fault; one of {', '.join(_KINDS)}")
        wrong = InvalidFault(text, _HOW.get(kind, f"{name} takes a share and a path, like {name}:20% or {name}@/3/0/9"))
        found: dict[str, float] = {}
        for word in words:
            name, number = _read_word(kind, word)
            if name in found or number is None:
                raise wrong
            found[name] = number
        try:
            path = Path.parse(where) if at else _EVERYWHERE
        except PathError as error:
            raise InvalidFault(text, f"{error}; write a path like /3/0/9") from None
        fault = cls(
            kind,
            path,
            found.get("share", 1.0),
            found.get("seconds", _LATE_S if kind is FaultKind.LATE else None),
            int(found["code"]) if "code" in found else None,
            int(found["number"]) if "number" in found else None,
        )
        if (kind is FaultKind.REFUSE and fault.code is None) or (fault.is_timed and (at or "share" in found)):
            raise wrong
        if fault.is_of_handshake and at:
            raise wrong
        return fault

    @property
    def is_timed(self) -> bool:
        """Whether it comes by time alone, whatever is asked."""
        return self.kind in _TIMED and self.seconds is not None

    @property
    def is_of_handshake(self) -> bool:
        """Whether it befalls handshakes and no requests."""
        return self.kind in _HANDSHAKE

    @property
    def has_effect(self) -> bool:
        """Whether the request that it befalls is carried out all the same."""
        return self.kind not in _WITHOUT_EFFECT


class Faults:
    """The faults of one device; the first that befalls a request counts."""

    __slots__ = ("_faults", "_handshakes", "_random", "_silenced", "_timed", "committed")

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        every = tuple(faults)
        self._faults = tuple(each for each in every if not each.is_timed and not each.is_of_handshake)
        self._handshakes = tuple(each for each in every if each.is_of_handshake)
        self._random = Random(seed)
        self._timed = {each: 0.0 for each in every if each.is_timed}
        self._silenced: list[bytes] = []
        self.committed = 0

    def strike(self, path: Path | None, token: bytes, is_observe: bool) -> Fault | None:
        """What befalls a request for ``path`` (None: for something that is none), if anything. A request that got no
        answer gets none either when it is repeated."""
        if token in self._silenced:
            return Fault(FaultKind.SILENCE)
        for each in self._faults:
            if each.kind is FaultKind.PLAIN_OBSERVE and not is_observe:
                continue
            if not each.path or (path is not None and each.path.covers(path)):
                if each.share < 1.0 and self._random.random() >= each.share:
                    continue
                self.committed += 1
                if each.kind in _UNANSWERED:
                    self._silenced = [*self._silenced[1 - _REMEMBERED :], token]
                return each
        return None

    def spoil(self, payload: bytes, path: Path = _EVERYWHERE) -> bytes:
        """What the device tells by itself about ``path``, or bytes that break its format."""
        for each in self._faults:
            if each.kind is FaultKind.GARBAGE and each.path.covers(path):
                if each.share < 1.0 and self._random.random() >= each.share:
                    continue
                self.committed += 1
                return self.garble(payload)
        return payload

    def strike_handshake(self) -> FaultKind | None:
        """What befalls a handshake that begins, if anything."""
        for each in self._handshakes:
            if each.share >= 1.0 or self._random.random() < each.share:
                self.committed += 1
                return each.kind
        return None

    def garble(self, payload: bytes) -> bytes:
        """Cut short, with a broken last byte."""
        keep = self._random.randrange(1, max(2, len(payload)))
        return payload[: keep - 1] + bytes([payload[keep - 1] ^ 0xA5]) if payload else payload

    # -- what comes by time --

    def start(self, now: float) -> None:
        """The device is switched on at ``now``; what comes by time comes from then on."""
        for each in self._timed:
            assert each.seconds is not None
            # Not all devices of a fleet at once.
            self._timed[each] = now + each.seconds * (1 - 0.1 * self._random.random())

    def deadline(self) -> float | None:
        """When `take_due` has something."""
        return min((at for at in self._timed.values() if at), default=None)

    def take_due(self, now: float) -> list[Fault]:
        """What happens now."""
        due = [each for each, at in self._timed.items() if at and at <= now]
        for each in due:
            assert each.seconds is not None
            self._timed[each] = now + each.seconds
            self.committed += 1
        return due

    def stop(self) -> None:
        """Nothing comes by time any more."""
        self._timed = dict.fromkeys(self._timed, 0.0)


_WORDS: Final[tuple[tuple[str, frozenset[FaultKind], re.Pattern[str]], ...]] = (
    ("share", frozenset(FaultKind), _SHARE),
    ("seconds", _TIMED | {FaultKind.LATE}, _SECONDS),
    ("code", frozenset({FaultKind.REFUSE}), _CODE),
    ("number", frozenset({FaultKind.FORMAT}), _NUMBER),
)


def _read_word(kind: FaultKind, word: str) -> tuple[str, float | None]:
    for name, kinds, pattern in _WORDS:
        match = pattern.fullmatch(word) if kind in kinds else None
        if match is None:
            continue
        if name == "code":
            return name, int(match[1]) << 5 | int(match[2])
        number = float(match[1]) / 100 if name == "share" else float(match[1])
        lowest, highest = _LIMITS[name]
        return name, number if lowest <= number <= highest else None
    return "", None


MISBEHAVIOUR: Final = tuple(
    Fault.parse(each) for each in ("late:4s:4%", "silence:3%", "refuse:5.00:3%", "refuse:4.00:2%", "garbage:4%")
)
"""What a device does that misbehaves now and then."""
