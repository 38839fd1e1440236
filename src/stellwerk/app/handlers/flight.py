"""A command on its way: what is stored before it leaves."""

from typing import Final

from stellwerk.app.changes import Change, ChangeCommand, CommandSent
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.registry import Known
from stellwerk.device.command import Command, Step
from stellwerk.device.observation import WantedObservation
from stellwerk.lwm2m.operations import AnyCancel, AnyObserve

_CONNECTED: Final = frozenset({"tcp", "tls", "ws", "wss"})
"""Transports on which nothing can be reset (RFC 8323), so that a device learns of no passive cancel."""


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


def is_passive(operation: AnyCancel, wanted: WantedObservation, known: Known, *, listens: bool) -> bool:
    """Whether the relation is forgotten here and the device hears of it with its next notification (OB-5): where that
    is asked for, and where the device sleeps; but then attributes that were written for it have to be taken back some
    day."""
    if known.registration.peer.carrier in _CONNECTED:
        return False
    return operation.passive or (not wanted.attributes and not listens)


def prepare(
    command: Command,
    known: Known,
    observations: Observations,
    at_ms: int,
    *,
    sent_before: bool,
    listens: bool,
) -> tuple[Flight, list[Change]]:
    """The flight of a command, and what to store before its first datagram leaves. What it wants observed is known to
    ``observations`` at once, for a notification may overtake the commit. ``listens``: the device does now."""
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
        flight.operation = before.cancel(passive=is_passive(operation, before, known, listens=listens))
    if sent_before:
        changes.append(ChangeCommand(command.command_id, Step.SENT, at_ms))
    else:
        changes.append(CommandSent(command, at_ms, command.labels + known.uplink_labels))
    return flight, changes
