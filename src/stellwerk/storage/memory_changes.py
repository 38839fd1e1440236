"""What decided changes write into the dicts: a part of `memory`."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, assert_never

from stellwerk.app.changes import (
    Change,
    ChangeCommand,
    ChangeRegistration,
    CommandNeverSent,
    CommandSent,
    DropObservation,
    DropRegistration,
    DropSession,
    DropSessionsOf,
    PutObservation,
    PutRegistration,
    PutSession,
)
from stellwerk.app.records import MessageRecord
from stellwerk.app.session import SESSIONS_PER_DEVICE, SecureSession
from stellwerk.core.ids import DeviceId
from stellwerk.device.command import Command, Step
from stellwerk.device.observation import WantedObservation
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.paths import Target
from stellwerk.storage.content import content_size
from stellwerk.storage.identifiers import sent_ids
from stellwerk.storage.memory_credentials import MemoryCredentials
from stellwerk.storage.memory_journal import MemoryJournal
from stellwerk.storage.memory_undo import Undo

SENT: Final = "sent-msg"
OUTGOING: Final = "outgoing-msg"


class Broken(Exception):
    """A change that the tables would not take: a location or token that is taken, a device that is not there."""


class MemoryChanges(MemoryCredentials):
    """A part of `MemoryStore`: the tables of what is decided about a device."""

    def __init__(self, salt: bytes, journal: MemoryJournal) -> None:
        super().__init__(salt, journal)
        self._undo = Undo()
        self._registrations: dict[DeviceId, tuple[Registration, int]] = {}
        """With their deadlines, in milliseconds of `Clock.lifetime_ms`."""
        self._observations: dict[tuple[DeviceId, Target], WantedObservation] = {}
        self._commands: dict[int, Command] = {}
        self._outgoing: dict[tuple[DeviceId, str], MessageRecord] = {}
        self._sent: dict[int, tuple[DeviceId, MessageRecord]] = {}
        """By the number of their command."""
        self._containers: dict[tuple[DeviceId, str], tuple[int, int]] = {}
        """State tag and time of the last change."""

    def _apply_all(self, changes: Iterable[Change]) -> None:
        """All of them or, raising `Broken`, none."""
        with self._undo:
            for change in changes:
                self._apply(change)

    def _apply(self, change: Change) -> None:
        """Inside a ``with self._undo``. Raises `Broken`."""
        if isinstance(change, PutRegistration | ChangeRegistration):
            self._put_registration(change)
        elif isinstance(change, DropRegistration):
            known = self._registrations.get(change.device_id)
            if known is not None and known[0].location == change.location:
                self._undo.delete(self._registrations, change.device_id)
        elif isinstance(change, PutObservation):
            self._put_observation(change.observation)
        elif isinstance(change, DropObservation):
            self._undo.delete(self._observations, (change.device_id, change.path))
        elif isinstance(change, ChangeCommand):
            self._step(change.command_id, change.step, change.at_ms, change.reason, change.detail)
        elif isinstance(change, CommandSent):
            self._send(change)
            self._step(change.command.command_id, Step.SENT, change.at_ms)
        elif isinstance(change, CommandNeverSent):
            self._step(change.command.command_id, change.step, change.at_ms, change.reason, change.detail)
        elif isinstance(change, PutSession):
            self._put_session(change.session)
        elif isinstance(change, DropSession):
            self._undo.delete(self._sessions, change.session_id)
        elif isinstance(change, DropSessionsOf):
            for each in self._sessions_made(change.device_id):
                self._undo.delete(self._sessions, each.session_id)
        else:
            assert_never(change)

    def _put_registration(self, change: PutRegistration | ChangeRegistration) -> None:
        registration = change.registration
        known = self._registrations.get(registration.device_id)
        if isinstance(change, ChangeRegistration) and (known is None or known[0].location != registration.location):
            return
        if registration.device_id not in self._devices:
            raise Broken(f"there is no device {registration.device_id}")
        for other, _ in self._registrations.values():
            if other.location == registration.location and other.device_id != registration.device_id:
                raise Broken(f"location {registration.location} is taken")
        self._undo.write(self._registrations, registration.device_id, (replace(registration), change.deadline_ms))

    def _put_observation(self, wanted: WantedObservation) -> None:
        key = (wanted.device_id, wanted.path)
        if wanted.device_id not in self._devices:
            raise Broken(f"there is no device {wanted.device_id}")
        if any(each.token == wanted.token for other, each in self._observations.items() if other != key):
            raise Broken("the token is taken")
        self._undo.write(self._observations, key, wanted)

    def _send(self, change: CommandSent) -> None:
        command = self._commands.get(change.command.command_id)
        if command is None or not command.outgoing_rn or command.command_id in self._sent:
            return
        container = (command.device_id, SENT)
        tag = self._containers.get(container, (0, 0))[0] + 1
        self._undo.write(self._containers, container, (tag, change.at_ms))
        ids = sent_ids(self._salt, command.command_id)
        message = MessageRecord(
            *ids,
            tag,
            change.at_ms,
            command.content,
            command.content_info,
            content_size(command.content),
            "CNI-IPE",
            change.labels,
        )
        self._undo.write(self._sent, command.command_id, (command.device_id, message))

    def _step(self, command_id: int, step: Step, at_ms: int, reason: str = "", detail: str = "") -> None:
        command = self._commands.get(command_id)
        if command is None:
            return
        self._undo.write(self._commands, command_id, replace(command, step=step, reason=reason, detail=detail))
        waiting = (each for each in self._commands.values() if each.outgoing_ri == command.outgoing_ri)
        outgoing = (command.device_id, command.outgoing_ri)
        if outgoing in self._outgoing and all(each.step is not Step.QUEUED for each in waiting):
            self._undo.delete(self._outgoing, outgoing)
            container = (command.device_id, OUTGOING)
            tag, modified_ms = self._containers[container]
            self._undo.write(self._containers, container, (tag, max(modified_ms, at_ms)))

    def _put_session(self, session: SecureSession) -> None:
        if session.device_id not in self._devices:
            raise Broken(f"there is no device {session.device_id}")
        known = self._sessions.get(session.session_id)
        if known is not None and known.ceiling > session.ceiling:
            return
        if known is not None:
            read_mark = max(session.read_mark, known.read_mark)
            session = replace(session, created_ms=known.created_ms, read_mark=read_mark)
        self._undo.write(self._sessions, session.session_id, session)
        for each in self._sessions_made(session.device_id)[:-SESSIONS_PER_DEVICE]:
            self._undo.delete(self._sessions, each.session_id)

    def _sessions_made(self, device_id: DeviceId) -> list[SecureSession]:
        return [each for each in self._sessions.values() if each.device_id == device_id]
