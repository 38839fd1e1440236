"""How commands end: what the device said, or that it said nothing, as a journal entry and the changes that go with it
in one commit (contract Device to Cloud §8, §12)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from stellwerk.app.changes import Change, ChangeCommand, ChangeRegistration, CommandNeverSent, Commit, DropObservation
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.app.handlers.awaiting import Awaited, Ended
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.app.registry import KnownEndDevice, Registry
from stellwerk.app.tasks import Tasks
from stellwerk.device.command import Command, Step
from stellwerk.device.instances import objects_after
from stellwerk.device.registration import Registration, written_lifetime
from stellwerk.lwm2m.link_format import LinkFormatError, decode_object_list, encode_object_list
from stellwerk.lwm2m.operations import AnyCancel, AnyObserve, Create, Delete

log = structlog.get_logger(__name__)

_REFUSALS: Final = 2
"""After so many that are not the trouble of the whole store, less is offered."""

_INSTANCES_SHOWN: Final = 50
"""Of how many instances a line of the device's log speaks at most."""


def kind_of(command: Command) -> Kind:
    """Of the journal's entry about its end: only a command that came in a message is answered with one."""
    return Kind.ANSWER if command.outgoing_rn else Kind.OUTCOME


Then = Callable[[], None]
"""Runs once the end is stored."""


class Outcomes:
    """``again_s``: how long until what the store did not take is offered again; ``grace_s``: what a registration has
    beyond its lifetime (R-6)."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        observations: Observations,
        tasks: Tasks,
        clock: Clock,
        again_s: float,
        grace_s: float,
        meters: Meters,
        awaited: Awaited,
    ) -> None:
        self._meters = meters
        self._awaited = awaited
        self._store = store
        self._registry = registry
        self._observations = observations
        self._tasks = tasks
        self._clock = clock
        self._again_s = again_s
        self._grace_s = grace_s

    def end(
        self,
        command: Command,
        step: Step,
        reason: str,
        detail: str,
        at_ms: int,
        uplink_labels: tuple[str, ...],
        then: Then,
        answer: DeviceAnswer | None = None,
        more: Sequence[Change] = (),
    ) -> None:
        """A command that was sent is over. ``answer``: the device's, where it gave one; ``more``: what else changes
        with it."""
        known = self._registry.of(command.device_id)
        succeeded = answer is not None and step is Step.SUCCEEDED
        row = JournalEntry(
            kind_of(command),
            command.device_id,
            at_ms,
            status=answer.status if answer else 0,
            path=str(command.operation.path),
            content_format=answer.content_format if answer and succeeded else -1,
            payload=answer.payload if answer and succeeded else b"",
            labels=command.labels + uplink_labels,
            location=answer.location if answer and succeeded else "",
            method=command.method,
            reason=reason,
            detail=detail,
            command_id=command.command_id,
            root=known.registration.objects.root if known else "",
        )
        changes: list[Change] = [ChangeCommand(command.command_id, step, at_ms, reason, detail), *more]
        operation = command.operation
        # An Observe that did not succeed leaves nothing wanted, a cancel that did neither.
        if (isinstance(operation, AnyCancel) and succeeded) or (isinstance(operation, AnyObserve) and not succeeded):
            changes.append(DropObservation(command.device_id, operation.path))
        self._store_end(command, step, row, changes, then, answer if succeeded else None)

    def end_waiting(
        self,
        command: Command,
        step: Step,
        reason: str,
        detail: str,
        at_ms: int,
        uplink_labels: tuple[str, ...],
        *,
        was_sent: bool,
        then: Then,
    ) -> None:
        """A command that waits is over. ``was_sent``: it was sent before and waits for another try."""
        row = JournalEntry(
            kind_of(command),
            command.device_id,
            at_ms,
            path=str(command.operation.path),
            labels=command.labels + uplink_labels,
            method=command.method,
            reason=reason,
            detail=detail,
            command_id=command.command_id,
        )
        changes: list[Change] = []
        if was_sent:
            changes.append(ChangeCommand(command.command_id, step, at_ms, reason, detail))
            if isinstance(command.operation, AnyObserve):
                # Wanted since it was first sent; the command has failed, so nothing is.
                changes.append(DropObservation(command.device_id, command.operation.path))
        else:
            changes.append(CommandNeverSent(command, step, at_ms, reason, detail))

        self._store_end(command, step, row, changes, then, None)

    def _store_end(
        self,
        command: Command,
        step: Step,
        row: JournalEntry,
        changes: list[Change],
        then: Then,
        success: DeviceAnswer | None,
    ) -> None:
        """Offer the end to the store until it takes it. ``success``: what the device did may change what is known of
        its registration."""
        renewed: Registration | None = None
        refused = 0
        ended = step
        known = self._registry.of(command.device_id)
        types = known.registration.types if known is not None else None

        def done(error: Exception | None) -> None:
            nonlocal refused
            if renewed is not None:
                self._settle_renewal(renewed, error)
            if error is not None:
                refused += not isinstance(error, StoreTrouble)
                if refused == _REFUSALS:
                    tell_the_least(error)
                self._offer_again(command, error, submit)
                return
            command.step = ended
            self._meters.command_ended(ended.value, (row.time_ms - command.created_ms) / 1000)
            self._drop(changes)
            then()
            self._awaited.ended(command.request_id, Ended(ended, row, types))

        def tell_the_least(error: Exception) -> None:
            # The store works and will not take this; those behind it shall not wait for ever.
            nonlocal row, success, changes, ended
            row = JournalEntry(
                row.kind,
                row.device_id,
                row.time_ms,
                path=row.path,
                labels=command.labels,
                method=row.method,
                reason="adapter",
                detail=f"what became of the command could not be stored ({type(error).__name__})",
                command_id=row.command_id,
            )
            success = None
            if ended is Step.SUCCEEDED:
                ended = Step.REFUSED
            changes = [
                replace(each, step=ended, reason=row.reason, detail=row.detail)
                if isinstance(each, ChangeCommand | CommandNeverSent)
                else each
                for each in changes
            ]

        def submit() -> None:
            nonlocal renewed
            # Anew each time: an Update may have come since the store was busy.
            renewed, lines = self._renew(command, success, row.time_ms) if success is not None else (None, [])
            if renewed is None:
                self._store.submit(Commit((row, *lines), changes, done, reserve=True))
                return
            change = ChangeRegistration(renewed, renewed.deadline_ms(self._grace_s))
            self._store.submit(Commit((row, *lines), (*changes, change), done, reserve=True))

        submit()

    def _drop(self, changes: list[Change]) -> None:
        for change in changes:
            if isinstance(change, DropObservation):
                self._observations.dropped(change.device_id, change.path)

    def _renew(
        self, command: Command, answer: DeviceAnswer, at_ms: int
    ) -> tuple[Registration | None, list[JournalEntry]]:
        """The registration after what the device did, with a line for its log about each difference: under the lifetime
        that it took, counted from now, for it may never send it in an Update (contract R-8); with the instances that
        it made or removed (D-9, D-10). No registration where nothing differs."""
        known = self._registry.of(command.device_id)
        # Of one behind a gateway the lifetime is the gateway's, and so is the list of what it has.
        if known is None or isinstance(known, KnownEndDevice):
            return None, []
        operation = command.operation
        before = known.pending or known.registration
        lines: list[JournalEntry] = []

        def line(event: str, detail: str) -> JournalEntry:
            return JournalEntry(Kind.LOG, command.device_id, at_ms, reason=event, detail=detail)

        after = before
        lifetime_s = written_lifetime(operation, before.objects)
        if lifetime_s is not None:
            after = replace(after, lifetime_s=lifetime_s, updated_ms=self._clock.lifetime_ms())
            lines.append(line("lifetime-changed", f"{lifetime_s} s, written to {operation.path}"))
        objects = objects_after(operation, before.objects, answer.location, answer.instances)
        if objects is not None and isinstance(operation, Create | Delete):
            object_id = operation.path[0]
            body = encode_object_list(objects)
            try:
                # Decoded, and so shared with others that have the same list.
                after = replace(after, body=body, objects=decode_object_list(body))
            except LinkFormatError as error:
                # More than a device may register.
                lines.append(line("instances-unknown", f"/{object_id}: what the device has since is no list: {error}"))
            else:
                listed = ", ".join(map(str, objects.objects[object_id].instances[:_INSTANCES_SHOWN])) or "none"
                more = len(objects.objects[object_id].instances) - _INSTANCES_SHOWN
                told = f"/{object_id} has the instances {listed}" + (f" and {more} more" if more > 0 else "")
                lines.append(line("instances-changed", told))
        if after is before:
            return None, lines
        known.pending = after
        return after, lines

    def _settle_renewal(self, renewed: Registration, error: Exception | None) -> None:
        current = self._registry.at(renewed.location)
        if current is None:
            return
        if current.pending is renewed:
            current.pending = None
        if error is None:
            current.registration.lifetime_s = renewed.lifetime_s
            current.registration.body = renewed.body
            current.registration.objects = renewed.objects
            current.registration.updated_ms = max(current.registration.updated_ms, renewed.updated_ms)

    def _offer_again(self, command: Command, error: Exception, submit: Then) -> None:
        """What became of a command is not lost to a store that is busy for a while; until then the command is open."""
        log_not_stored(log, "command.outcome_not_stored", error, command_id=command.command_id)

        async def later() -> None:
            await asyncio.sleep(self._again_s)
            submit()

        if not self._tasks.spawn(f"outcome {command.command_id}", later()):
            asyncio.get_running_loop().call_later(self._again_s, submit)


UNKNOWN_TEXT: Final = "sent, and the server restarted before the answer; not repeated because repeating could do harm"
