"""The client's side of registration as a state machine (Core 1.1.1 §6.2; contract §4, R-17)."""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from stellwerk.coap import codes

UPDATE_AT: Final = 0.8
"""The part of a lifetime after which it is renewed."""

_FOREVER_S: Final = 86_400
_SPREAD: Final = 0.05


class State(Enum):
    """Where a device stands with its server."""

    OFF = auto()
    WAITING = auto()
    """Not registered; the next Register is due at a time."""
    REGISTERING = auto()
    REGISTERED = auto()
    UPDATING = auto()
    LEAVING = auto()
    WITHDRAWING = auto()
    """Stopped while its Register was under way: should that succeed, a De-register follows."""


class Ask(Enum):
    """A request to send now."""

    REGISTER = auto()
    UPDATE = auto()
    DEREGISTER = auto()


class Outcome(Enum):
    """What an answer meant."""

    REGISTERED = auto()
    UPDATED = auto()
    LOST = auto()
    """The server does not know the registration any more: a Register follows at once."""
    REFUSED = auto()
    """Neither accepted nor final: it is tried again later."""
    LEFT = auto()
    UNWANTED = auto()
    """Registered after all, though stopped meanwhile: `Enrolment.leave` again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Contract R-17: ``count`` tries ``first_s`` apart, doubling, then a pause of ``pause_s`` before they start again.
    The sequence of Core's defaults is 60 s and 24 h; a simulator is more eager."""

    first_s: float = 5.0
    count: int = 5
    pause_s: float = 300.0

    def pause_after(self, failures: int) -> float:
        """How many seconds to wait after so many failures (from 1 on) in a row."""
        nth = (failures - 1) % self.count + 1
        return self.pause_s if nth == self.count else self.first_s * 2 ** (nth - 1)


class Enrolment:
    """Says when to send which registration request. Times are monotonic seconds."""

    __slots__ = (
        "_due",
        "_failures",
        "_patience",
        "_random",
        "_update_every_s",
        "location",
        "registered_lifetime_s",
        "state",
    )

    def __init__(self, random: Random, patience: Patience, update_every_s: float | None) -> None:
        """``update_every_s`` None: after `UPDATE_AT` of the lifetime."""
        self.state = State.OFF
        self.location: tuple[str, ...] = ()
        self.registered_lifetime_s = 0
        self._due: float | None = None
        self._failures = 0
        self._random = random
        self._patience = patience
        self._update_every_s = update_every_s

    @property
    def is_registered(self) -> bool:
        """Whether the device believes that its server knows it."""
        return self.state in (State.REGISTERED, State.UPDATING)

    @property
    def failures(self) -> int:
        """How many requests came to nothing since the last that did not."""
        return self._failures

    def start(self, at: float) -> None:
        """Register at ``at``, whatever was before."""
        self.state, self._due, self.location = State.WAITING, at, ()

    def ask_update(self, now: float) -> None:
        """Update as soon as possible; during one, another follows."""
        if self.is_registered:
            self._due = now

    def leave(self) -> Ask | None:
        """De-register if registered, or as soon as a Register under way succeeds; else just stop."""
        self._due = None
        if self.is_registered:
            self.state = State.LEAVING
            return Ask.DEREGISTER
        if self.state is State.REGISTERING:
            self.state = State.WITHDRAWING
        elif self.state is State.WAITING:
            self.state = State.OFF
        return None

    def deadline(self) -> float | None:
        """When `take_due` has something."""
        return self._due if self.state in (State.WAITING, State.REGISTERED) else None

    def take_due(self, now: float) -> Ask | None:
        """The request whose time has come; it counts as sent."""
        if self._due is None or self._due > now:
            return None
        if self.state is State.WAITING:
            self.state, self._due = State.REGISTERING, None
            return Ask.REGISTER
        if self.state is State.REGISTERED:
            self.state, self._due = State.UPDATING, None
            return Ask.UPDATE
        return None

    def answered(
        self, code: int, location: tuple[str, ...], max_age_s: int | None, lifetime_s: int, now: float
    ) -> Outcome:
        """The server answered the request under way with ``code``; ``lifetime_s`` is what that request stated."""
        if self.state is State.REGISTERING:
            # Contract R-1: any other success is a failure.
            if code == codes.CREATED and location:
                self.location = location
                self._settle(lifetime_s, now)
                return Outcome.REGISTERED
            self._retry(now, max_age_s)
            return Outcome.REFUSED
        if self.state is State.UPDATING:
            if code == codes.CHANGED:
                self._settle(lifetime_s, now)
                return Outcome.UPDATED
            if code >> 5 == 5 or code == codes.TOO_MANY_REQUESTS:
                self._failures += 1
                self.state, self._due = State.REGISTERED, now + self._pause(max_age_s)
                return Outcome.REFUSED
            self.start(now)
            return Outcome.LOST
        if self.state is State.WITHDRAWING and code == codes.CREATED:
            self.state, self.location = State.REGISTERED, location
            return Outcome.UNWANTED
        self.state = State.OFF
        return Outcome.LEFT

    def unanswered(self, now: float) -> Outcome:
        """The request under way came to nothing: timeout, reset."""
        if self.state in (State.REGISTERING, State.UPDATING):
            # A server that does not answer an Update may be a new one: register, after a while.
            self._retry(now, None)
            return Outcome.REFUSED
        self.state = State.OFF
        return Outcome.LEFT

    def interrupted(self, now: float) -> Outcome | None:
        """The way to the server broke down: the request under way is as good as not sent, and made again at ``now``.
        What is left of a withdrawal is that the device is gone."""
        if self.state is State.REGISTERING:
            self.state, self._due = State.WAITING, now
        elif self.state is State.UPDATING:
            self.state, self._due = State.REGISTERED, now
        elif self.state in (State.LEAVING, State.WITHDRAWING):
            self.state = State.OFF
            return Outcome.LEFT
        return None

    def _settle(self, lifetime_s: int, now: float) -> None:
        self._failures = 0
        self.state, self.registered_lifetime_s = State.REGISTERED, lifetime_s
        every = self._update_every_s or UPDATE_AT * (lifetime_s or _FOREVER_S)
        # Asked for during the exchange, or else once per period; the spread keeps a fleet from marching in step.
        due = every * (1 - _SPREAD * self._random.random())
        self._due = now if self._due is not None else now + due

    def _retry(self, now: float, max_age_s: int | None) -> None:
        self._failures += 1
        self.state, self._due = State.WAITING, now + self._pause(max_age_s)

    def _pause(self, max_age_s: int | None) -> float:
        pause = self._patience.pause_after(self._failures)
        if max_age_s is not None:
            pause = max(pause, max_age_s)
        return pause * (1 + _SPREAD * self._random.random())
