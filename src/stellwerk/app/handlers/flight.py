"""A command on its way: what is stored before it leaves."""

from collections.abc import Callable

from stellwerk.app.changes import Change, ChangeCommand, CommandSent
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.registry import Known
from stellwerk.device.command import Command, Step
from stellwerk.device.observation import WantedObservation
from stellwerk.lwm2m.operations import AnyCancel, AnyObserve


class Flight:
    """A command between its first datagram and its answer. ``operation``: as it leaves, with what is known of the
    relation that a cancel is about."""

    __slots__ = ("before", "command", "observation", "operation", "token")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.operation = command.operation
        self.token: bytes | None = None
        """Of the requests with Observe."""
        self.observation: WantedObservation | None = None
        """What an Observe wants from now on."""
        self.before: WantedObservation | None = None
        """What was wanted of its path."""


def refusal(command: Command, observations: Observations, sent_before: bool) -> tuple[str, str] | None:
    """Why what could be done when the command was posted cannot be done now that its turn has come (contract Device to
    Cloud §7.2), as reason and detail; None where it can."""
    operation = command.operation
    if isinstance(operation, AnyObserve) and not sent_before:
        if observations.of(command.device_id, operation.path) is not None:
            return "conflict", f"{operation.path} is observed already; UNOBSERVE it first"
    elif isinstance(operation, AnyCancel) and observations.of(command.device_id, operation.path) is None:
        return "no-observation", f"{operation.path} is not observed"
    return None


def prepare(
    command: Command,
    known: Known,
    observations: Observations,
    at_ms: int,
    *,
    sent_before: bool,
    is_passive: Callable[[AnyCancel, WantedObservation, Known], bool],
) -> tuple[Flight, list[Change]]:
    """The flight of a command, and what to store before its first datagram leaves. What it wants observed is known to
    ``observations`` at once, for a notification may overtake the commit."""
    flight = Flight(command)
    changes: list[Change] = []
    operation = command.operation
    before = flight.before = observations.of(command.device_id, operation.path)
    if isinstance(operation, AnyObserve):
        flight.observation = observations.new(known, operation, command.labels, at_ms)
        flight.token = flight.observation.token
        changes.append(observations.put(flight.observation))
    elif isinstance(operation, AnyCancel) and before is not None:
        flight.token = before.token
        flight.operation = before.cancel(passive=is_passive(operation, before, known))
    if sent_before:
        changes.append(ChangeCommand(command.command_id, Step.SENT, at_ms))
    else:
        changes.append(CommandSent(command, at_ms, command.labels + known.uplink_labels))
    return flight, changes
