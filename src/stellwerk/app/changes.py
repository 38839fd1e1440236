"""Changes of deciding state, committed together with the journal entries that caused them (design §3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stellwerk.app.journal import JournalEntry
from stellwerk.app.session import SecureSession
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Command, Step
from stellwerk.device.observation import WantedObservation
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.paths import Target


@dataclass(frozen=True, slots=True)
class PutRegistration:
    """A new registration replaces whatever the device had (R-9). ``deadline_ms``: when to look whether it expired."""

    registration: Registration
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class ChangeRegistration:
    """What an Update changed, the registration as it is from now on. A plain Update changes no row: the journal entry
    is enough, and ``deadline_ms`` in the row stays a lower bound."""

    registration: Registration
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class DropRegistration:
    device_id: DeviceId
    location: str


@dataclass(frozen=True, slots=True)
class PutObservation:
    """Replaces the relation of the same device and path."""

    observation: WantedObservation


@dataclass(frozen=True, slots=True)
class DropObservation:
    device_id: DeviceId
    path: Target


@dataclass(frozen=True, slots=True)
class ChangeCommand:
    """A command takes a step; the store refuses nothing here, `device.command.advance` was asked before."""

    command_id: int
    step: Step
    at_ms: int
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CommandSent:
    """The move from outgoing-msg to sent-msg (contract Device to Cloud §7.1 step 3): insert the sent message, delete
    the outgoing one when this was the last of its commands, set the command to `sent`; before the datagram leaves. Of a
    command without a message only the step."""

    command: Command
    at_ms: int
    labels: tuple[str, ...]
    """Labels of the sent message: the trace pair, then uplink properties."""


@dataclass(frozen=True, slots=True)
class CommandNeverSent:
    """A command ended before it was sent: set its step, delete the outgoing message when it was the last."""

    command: Command
    step: Step
    at_ms: int
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PutSession:
    """What is kept of a secure session, new or as it is from now on. The newest `SESSIONS_PER_DEVICE` of a device stay;
    ``read_mark`` never goes back, ``created_ms`` stays the first one's, and what has a lower ceiling than is stored is
    old and changes nothing."""

    session: SecureSession


@dataclass(frozen=True, slots=True)
class DropSession:
    session_id: bytes


@dataclass(frozen=True, slots=True)
class DropSessionsOf:
    """All that the device has: its key was changed or taken away."""

    device_id: DeviceId


Change: TypeAlias = (
    PutRegistration
    | ChangeRegistration
    | DropRegistration
    | PutObservation
    | DropObservation
    | ChangeCommand
    | CommandSent
    | CommandNeverSent
    | PutSession
    | DropSession
    | DropSessionsOf
)


@dataclass(slots=True)
class Commit:
    """What one decision writes: all of it or nothing. ``done`` runs on the event loop once it is durable, with None, or
    with the error that kept it from being stored (then nothing of it is)."""

    entries: Sequence[JournalEntry]
    changes: Sequence[Change]
    done: Callable[[Exception | None], None]
    seq: int = 0
    """Set by the store before ``done(None)``: the journal's sequence number of the last entry, 0 without entries. What
    the entries say is readable once `ProjectedStore.projected_seq` has reached it."""
    reserve: bool = False
    """May use the part of the queue that is kept free of uplinks: what came of our own requests (design §3)."""
