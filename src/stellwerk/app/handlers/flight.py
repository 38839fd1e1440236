"""A command on its way: what is stored before it leaves, and what of it is still to be asked."""

from collections import deque

from stellwerk.app.handlers.observations import Observations
from stellwerk.app.ports import Change, ChangeCommand, CommandSent, DeviceAnswer
from stellwerk.app.registry import Known
from stellwerk.device.command import Command, Step
from stellwerk.device.observation import WantedObservation
from stellwerk.lwm2m.operations import CancelObservation, Observe, Operation, WriteAttributes


class Flight:
    """A command between its first datagram and its last answer; ``following``: what is still to be asked."""

    __slots__ = ("answer", "before", "command", "following", "observation", "token")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.following: deque[Operation] = deque((command.operation,))
        self.token: bytes | None = None
        """Of the requests with Observe."""
        self.observation: WantedObservation | None = None
        """What an Observe wants from now on."""
        self.before: WantedObservation | None = None
        """What was wanted of its path."""
        self.answer: DeviceAnswer | None = None
        """The one that decides, while something less important is asked."""


def refusal(command: Command, observations: Observations, sent_before: bool) -> tuple[str, str] | None:
    """Why what could be done when the command was posted cannot be done now that its turn has come (contract Device to
    Cloud §7.2), as reason and detail; None where it can."""
    operation = command.operation
    if isinstance(operation, Observe) and not sent_before:
        if observations.of(command.device_id, operation.path) is not None:
            return "conflict", f"{operation.path} is observed already; UNOBSERVE it first"
    elif isinstance(operation, CancelObservation) and observations.of(command.device_id, operation.path) is None:
        return "no-observation", f"{operation.path} is not observed"
    return None


def prepare(
    command: Command, known: Known, observations: Observations, at_ms: int, *, sent_before: bool
) -> tuple[Flight, list[Change]]:
    """The flight of a command, and what to store before its first datagram leaves. What it wants observed is known to
    ``observations`` at once, for a notification may overtake the commit."""
    flight = Flight(command)
    changes: list[Change] = []
    operation = command.operation
    flight.before = observations.of(command.device_id, operation.path)
    if isinstance(operation, Observe):
        flight.observation = observations.new(known, operation, command.labels, at_ms)
        flight.token = flight.observation.token
        changes.append(observations.put(flight.observation))
        if operation.attributes:
            flight.following.appendleft(WriteAttributes(operation.path, operation.attributes))
    elif isinstance(operation, CancelObservation) and flight.before is not None:
        flight.token = flight.before.token
        if flight.before.attributes:
            # They were written for this observation; whoever observes next shall not inherit them.
            names = tuple((name, None) for name, _ in flight.before.attributes)
            flight.following.append(WriteAttributes(operation.path, names))
    if sent_before:
        changes.append(ChangeCommand(command.command_id, Step.SENT, at_ms))
    else:
        changes.append(CommandSent(command, at_ms, command.labels + known.uplink_labels))
    return flight, changes
