"""The brake: what is refused while the store or the projector cannot keep up (design §3, contract MSG-14).

Telemetry goes first, then new registrations, and only at the end what keeps a registration alive. Whoever is refused is
told when to come again, later the worse it is, and each a little differently, so that a fleet does not return in one
wave. Time comes in as an argument.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from stellwerk.app.device_ports import Acknowledgement
from stellwerk.app.ports import StoreFailing, StoreOverloaded
from stellwerk.core.entropy import Entropy
from stellwerk.lwm2m.status import Status

LONGEST_S: Final = 60
"""The longest Max-Age."""
HOLD_S: Final = 1.0
"""A level stays at least this long, so that it does not flutter."""
_STEPS: Final = (1.0, 2.0, 4.0)
"""Multiples of a bound at which Send, Register and Update are refused."""
_RELEASE: Final = 0.5
"""A level ends when the strain is down to this part of what started it."""
_PER_STRAIN_S: Final = 4.0
_DRAWN_AT_ONCE: Final = 256


class Level(IntEnum):
    """What is refused: this and all before it."""

    NONE = 0
    SEND = 1
    """Sends; confirmable notifications stay unacknowledged, and come again."""
    REGISTER = 2
    """Registers too; non-confirmable notifications are dropped."""
    UPDATE = 3
    """Updates and De-registers too: nothing of what a device starts is taken."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on Sends are refused; Registers from twice, Updates from four times as much (for ``lag_s`` never). The
    queue's are far below what its writer refuses (`storage.sqlite.writer`)."""

    queue: int = 4_000
    queue_bytes: int = 12 * 1024 * 1024
    lag: int = 500_000
    lag_bytes: int = 512 * 1024 * 1024
    lag_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Strain:
    """One look at the store: commits that wait and the bytes in them; journal entries that are not projected, the bytes
    in them and the age of the oldest; why nothing can be written, empty while it can."""

    queue: int = 0
    queue_bytes: int = 0
    lag: int = 0
    lag_bytes: int = 0
    lag_s: float = 0.0
    failing: str = ""


class Brake:
    """``level`` is all that hot paths read. ``refused`` counts by what was refused and why."""

    __slots__ = (
        "_bounds",
        "_drawn",
        "_entropy",
        "_held_until",
        "_longest_s",
        "level",
        "refused",
        "since",
        "strain",
        "updates_refused_at",
        "why",
    )

    def __init__(self, entropy: Entropy, bounds: Bounds | None = None) -> None:
        self._entropy = entropy
        self._bounds = bounds or Bounds()
        self._drawn = b""
        self._held_until = 0.0
        self._longest_s = int(_PER_STRAIN_S)
        self.level = Level.NONE
        self.why = ""
        """``queue``, ``queue-bytes``, ``lag``, ``lag-bytes``, ``lag-seconds`` or ``disk``; empty while it is off."""
        self.since = 0.0
        """When it came on."""
        self.updates_refused_at = float("-inf")
        """When Updates were last refused, or might have been."""
        self.strain = Strain()
        """The last look."""
        self.refused: dict[tuple[str, str], int] = {}

    def measure(self, strain: Strain, now: float) -> bool:
        """Set the level by a new look at the store; True when it changed."""
        self.strain = strain
        ratio, why = self._worst(strain)
        level = _level(ratio)
        if level < self.level:
            if now < self._held_until:
                level = self.level
            elif why == self.why:
                level = max(level, min(self.level, _level(ratio / _RELEASE)))
        if level >= Level.UPDATE or self.level >= Level.UPDATE:
            self.updates_refused_at = now
        changed = level != self.level
        if level > self.level:
            self._held_until = now + HOLD_S
            if not self.level:
                self.since = now
        self.level = level
        if not level:
            self.why = ""
        elif ratio >= _RELEASE or not self.why:
            # What only holds is still there for what it came for.
            self.why = why
        on_for_s = now - self.since if level else 0.0
        self._longest_s = int(min(LONGEST_S, max(_PER_STRAIN_S, _PER_STRAIN_S * ratio, on_for_s / 2)))
        return changed

    def max_age_s(self) -> int:
        """When to come again, in seconds: between half and all of what the trouble is worth."""
        if not self._drawn:
            self._drawn = self._entropy.take(_DRAWN_AT_ONCE)
        draw, self._drawn = self._drawn[-1], self._drawn[:-1]
        shortest = (self._longest_s + 1) // 2
        return shortest + draw * (self._longest_s - shortest + 1) // 256

    def refusal(self, what: str) -> Acknowledgement:
        """The answer to an uplink that the level refuses, counted."""
        self.count(what, self.why)
        return self.come_again("overloaded" if self.why != "disk" else "nothing can be stored")

    def not_stored(self, what: str, error: Exception) -> Acknowledgement:
        """The answer to an uplink that the store did not take, counted."""
        self.count(what, reason_of(error))
        return self.come_again("not stored")

    def come_again(self, why: str) -> Acknowledgement:
        """5.03 with Max-Age."""
        return Acknowledgement(
            Status.SERVICE_UNAVAILABLE, detail=f"{why}; come again later", max_age_s=self.max_age_s()
        )

    def holds_notification(self, confirmable: bool) -> bool:
        """Whether a notification shall be left without a word; counted if so. A confirmable one comes again by itself,
        so it is left earlier."""
        if self.level < (Level.SEND if confirmable else Level.REGISTER):
            return False
        self.count("notification-left" if confirmable else "notification-dropped", self.why)
        return True

    def count(self, what: str, why: str) -> None:
        """Count one refusal."""
        self.refused[what, why] = self.refused.get((what, why), 0) + 1

    def _worst(self, strain: Strain) -> tuple[float, str]:
        if strain.failing:
            return _STEPS[-1], "disk"
        bounds = self._bounds
        return max(
            (strain.queue / bounds.queue, "queue"),
            (strain.queue_bytes / bounds.queue_bytes, "queue-bytes"),
            (strain.lag / bounds.lag, "lag"),
            (strain.lag_bytes / bounds.lag_bytes, "lag-bytes"),
            # Age alone endangers nothing that is stored, so it never costs a device its registration.
            (min(strain.lag_s / bounds.lag_s, _STEPS[1]), "lag-seconds"),
        )


def reason_of(error: Exception) -> str:
    """Why the store did not take a commit, as a word to count."""
    match error:
        case StoreFailing():
            return "disk"
        case StoreOverloaded():
            return "queue-full"
        case _:
            return "error"


def _level(ratio: float) -> Level:
    return Level(sum(ratio >= step for step in _STEPS))
