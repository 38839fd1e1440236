"""Commands that were sent and not answered yet: that they were delivered is noted, and which of them may be sent once
more (design §3; contract Device to Cloud §7.3)."""

from collections.abc import Mapping
from typing import Final

import structlog

from stellwerk.app.changes import Change, ChangeCommand, Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.handlers.flight import Flight
from stellwerk.app.handlers.lanes import Lanes
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.device.command import UNANSWERED, Command, Step, advance, after_restart

log = structlog.get_logger(__name__)

TRIES: Final = 3
"""How often a command is sent in all before no answer means that it failed."""


class Unanswered:
    """``lanes``: where commands wait, and how often each was sent."""

    def __init__(self, *, store: DecidingStore, lanes: Lanes, clock: Clock) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._delivered: set[int] = set()
        """Commands that were acknowledged and not answered, since `note_delivered`."""

    def delivered(self, command_id: int) -> None:
        """The device acknowledged the command; the answer is still to come."""
        self._delivered.add(command_id)

    def note_delivered(self, flights: Mapping[int, Flight]) -> None:
        """Store which commands their devices acknowledged and do not answer at once: all in one commit, and none for
        the many that are answered within a second. ``flights``: the commands that are on their way, by number."""
        at_ms = self._clock.wall_ms()
        changes: list[Change] = []
        for command_id in self._delivered:
            flight = flights.get(command_id)
            if flight is not None and flight.command.step is Step.SENT:
                flight.command.step = advance(flight.command.step, Step.DELIVERED)
                changes.append(ChangeCommand(command_id, Step.DELIVERED, at_ms))
        self._delivered.clear()
        if changes:
            self._store.submit(Commit((), changes, log_not_noted, reserve=True))

    def may_repeat(self, command: Command) -> bool:
        """Whether it does no harm to send the command again, and it has tries and time left."""
        return (
            after_restart(command.operation) is Step.QUEUED
            and self._lanes.tries.get(command.command_id, 0) < TRIES
            and command.expires_ms > self._clock.lifetime_ms()
        )

    def wait_again(self, command: Command, why: str, at_ms: int) -> None:
        """The command goes back to those that wait and is sent again when the device is heard; its row says so
        meanwhile. ``why``: what came instead of an answer, as the beginning of a sentence."""
        tries = self._lanes.tries.get(command.command_id, 1)
        if command.step is Step.DELIVERED:
            command.step = advance(command.step, Step.SENT)
        command.reason = UNANSWERED
        command.detail = f"{why}; {tries} of {TRIES} tries made, the next when the device is heard"
        change = ChangeCommand(command.command_id, command.step, at_ms, command.reason, command.detail)
        self._store.submit(Commit((), (change,), log_not_noted, reserve=True))
        self._lanes.back(command)


def log_not_noted(error: Exception | None) -> None:
    """`Commit.done` of what may be lost: a line for the log when it is."""
    if error is not None:
        log_not_stored(log, "command.not_noted", error)
