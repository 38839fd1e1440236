"""Commands: taken as rows, sent one at a time to devices that listen, ended by what the device said or did not say.

The order is always the same: the row first, then `sent` committed, then the datagram, then the outcome committed
(design §3). Nothing waits for a device but its own row.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.resolving import Resolved, resolve
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import (
    Change,
    ChangeCommand,
    ChangeRegistration,
    Clock,
    CommandNeverSent,
    CommandSent,
    Commit,
    DecidingStore,
    DeviceAnswer,
    DeviceLink,
    DropObservation,
    Limits,
    MessageRecord,
    NewCommand,
    NewOutgoing,
)
from stellwerk.app.registry import NEVER, Known, Registry
from stellwerk.app.status_table import reason_for_device_status
from stellwerk.app.tasks import Tasks
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.core.uuid_text import random_uuid
from stellwerk.device.command import Command, Step, advance, after_restart
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration, written_lifetime
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.operations import CancelObservation, Observe, Operation, Read
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.status import dotted, is_success

log = structlog.get_logger(__name__)

NEVER_MS: Final = 1 << 62
_FAILURES: Final = {
    "timeout": (Step.TIMED_OUT, "timeout", "sent, no answer"),
    "reset": (Step.REFUSED, "device-bad-request", "the device reset the request"),
    "refused": (Step.REFUSED, "adapter-unavailable", "given up here"),
    "malformed": (Step.REFUSED, "adapter", "the device's answer broke the rules of CoAP"),
    "cancelled": (Step.TIMED_OUT, "timeout-binding", "the registration ended before the device answered"),
}


class Commands:
    """``awake_s``: how long a queue-mode device listens after its last uplink (contract QM-2); ``again_s``: how long
    until what the store did not take is offered again; ``grace_s``: what a registration has beyond its lifetime
    (R-6)."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        library: Library,
        observations: Observations,
        tasks: Tasks,
        clock: Clock,
        entropy: Entropy,
        link: DeviceLink,
        limits: Limits,
        awake_s: float,
        again_s: float = 1.0,
        grace_s: float = 0.0,
    ) -> None:
        self._store = store
        self._registry = registry
        self._library = library
        self._observations = observations
        self._tasks = tasks
        self._clock = clock
        self._entropy = entropy
        self._link = link
        self._limits = limits
        self._awake_s = awake_s
        self._again_s = again_s
        self._grace_s = grace_s
        self._waiting: dict[DeviceId, deque[Command]] = {}
        self._active: dict[DeviceId, Command] = {}
        self._by_handle: dict[int, Command] = {}
        self._resent: set[int] = set()
        self._uplink_labels: dict[DeviceId, tuple[str, ...]] = {}
        """Of devices with open commands: their last messages carry them even when the registration is gone."""

    # -- taking commands --

    async def post(
        self,
        device: DeviceRecord,
        *,
        name: str | None,
        content: Any,
        content_info: str | None,
        creator: str,
        labels: tuple[str, ...],
        requests: Sequence[CommandRequest | RefusedRequest],
    ) -> MessageRecord:
        """Store an outgoing message with its commands; returns it as stored. What cannot be sent is answered in
        received-msg in the same transaction. Raises `AlreadyExists`, `ContainerFull`."""
        now_ms = self._clock.wall_ms()
        known = await self._registry.load_of(device.device_id)
        await self._observations.load(device.device_id)
        wanted = set(self._observations.wanted_paths(device.device_id))
        types = known.registration.types if known else self._library.for_device("1.1", {})
        rn = name or random_uuid(self._entropy)
        commands: list[NewCommand] = []
        entries: list[JournalEntry] = []
        for request in requests:
            request_id = random_uuid(self._entropy)
            resolved = resolve(request, known.registration if known else None, types, wanted)
            if isinstance(resolved, Resolved) and known is None:
                resolved = RefusedRequest(
                    resolved.request.method,
                    resolved.request.path,
                    "timeout-binding",
                    "the device is not registered; check its binding mode and lifetime",
                    resolved.request.content,
                )
            if isinstance(resolved, Resolved):
                # Later commands of the message find what earlier ones leave.
                if isinstance(resolved.operation, Observe):
                    wanted.add(resolved.operation.path)
                elif isinstance(resolved.operation, CancelObservation):
                    wanted.discard(resolved.operation.path)
                method = resolved.request.method
                text = _json_text(resolved.request.content)
                commands.append(NewCommand(request_id, method, resolved.operation, text, content_info, NEVER_MS))
                continue
            trace = (f"outgoing_msgRN:{rn}", f"requestId:{request_id}")
            entries.append(
                JournalEntry(
                    Kind.ANSWER,
                    device.device_id,
                    now_ms,
                    path=resolved.path,
                    labels=trace + device.uplink_labels,
                    method=resolved.method,
                    reason=resolved.reason,
                    detail=resolved.detail,
                )
            )
        text = _json_text(content)
        size = len((content if isinstance(content, str) else text).encode())
        resource_id = self._entropy.take(12).hex()
        outgoing = NewOutgoing(
            device.device_id,
            resource_id,
            rn,
            now_ms,
            text,
            content_info,
            size,
            creator,
            labels,
            tuple(commands),
            tuple(entries),
        )
        record, stored = await self._store.post_outgoing(outgoing, self._limits.max_instances)
        if stored:
            self._waiting.setdefault(device.device_id, deque()).extend(stored)
            self._uplink_labels[device.device_id] = device.uplink_labels
            if self._registry.of(device.device_id) is None:
                # It ended while the message was being stored.
                self.device_lost(device.device_id, Instant(self._clock.now(), self._clock.wall_ms()))
            else:
                self._drain(device.device_id)
        return record

    # -- when a device listens --

    def device_heard(self, known: Known) -> None:
        """An uplink of the device was answered: what waits for it may leave, one at a time (QM-3)."""
        if known.registration.device_id in self._waiting:
            self._drain(known.registration.device_id)

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        """The registration ended; nothing more can be sent: what waits ends as 408 (contract §7.3)."""
        for command in self._waiting.pop(device_id, ()):
            if command.command_id in self._resent:
                text = "the registration ended before the device answered"
            else:
                text = "the registration ended before the command could be sent"
            self._never_sent(command, Step.TIMED_OUT, "timeout-binding", text, at.wall_ms)
        active = self._active.get(device_id)
        if active is None:
            self._uplink_labels.pop(device_id, None)
        elif active.command_id in self._by_handle:
            # Another device may be at the same address, so the engine has not forgotten it.
            self._link.cancel(active.command_id)

    async def recover(self) -> int:
        """Take up after a restart: what was queued goes on; what was sent and not answered is sent again, or ends as
        `outcome unknown` where repeating could do harm (design §3). Returns how many commands were open."""
        commands = await self._store.open_commands(None, 1_000_000)
        now_ms = self._clock.wall_ms()
        for device_id in dict.fromkeys(each.device_id for each in commands):
            known = await self._registry.load_of(device_id)
            # What the store wants observed, before a command adds to it.
            await self._observations.load(device_id)
            record = known.record if known is not None else await self._store.device(device_id)
            self._uplink_labels[device_id] = record.uplink_labels if record is not None else ()
        for command in commands:
            if command.step is Step.QUEUED:
                self._waiting.setdefault(command.device_id, deque()).append(command)
            elif after_restart(command.operation) is Step.QUEUED:
                self._resent.add(command.command_id)
                self._waiting.setdefault(command.device_id, deque()).append(command)
            else:
                self._end(command, Step.OUTCOME_UNKNOWN, "outcome-unknown", _UNKNOWN_TEXT, now_ms)
        for device_id in list(self._waiting):
            if self._registry.of(device_id) is None:
                self.device_lost(device_id, Instant(self._clock.now(), now_ms))
            else:
                self._drain(device_id)
        return len(commands)

    def _drain(self, device_id: DeviceId) -> None:
        if device_id in self._active:
            return
        known = self._registry.of(device_id)
        queue = self._waiting.get(device_id)
        if not queue or known is None:
            return
        if known.registration.queue_mode and self._clock.now() - known.last_heard > self._awake_s:
            return
        while queue:
            command = queue.popleft()
            if not self._conflicts(command):
                self._active[device_id] = command
                self._send(command, known)
                break
            text = f"{command.operation.path} is observed already; UNOBSERVE it first"
            self._never_sent(command, Step.REFUSED, "conflict", text, self._clock.wall_ms())
        if not queue:
            del self._waiting[device_id]

    def _conflicts(self, command: Command) -> bool:
        """Whether another OBSERVE of the path was taken before and sent first (contract Device to Cloud §7.2)."""
        operation = command.operation
        if not isinstance(operation, Observe) or command.command_id in self._resent:
            return False
        return self._observations.of(command.device_id, operation.path) is not None

    def _send(self, command: Command, known: Known) -> None:
        at_ms = self._clock.wall_ms()
        token = None
        changes: list[Change] = []
        if isinstance(command.operation, Observe):
            observation = self._observations.new(known, command.operation, command.labels, at_ms)
            token = observation.token
            changes.append(self._observations.put(observation))
        elif isinstance(command.operation, CancelObservation):
            wanted = self._observations.of(command.device_id, command.operation.path)
            token = wanted.token if wanted else self._link.draw_token()
        if command.command_id in self._resent:
            changes.append(ChangeCommand(command.command_id, Step.SENT, at_ms))
        else:
            changes.append(CommandSent(command, at_ms, command.labels + known.uplink_labels))

        def done(error: Exception | None) -> None:
            if error is not None:
                log.warning("command.not_stored", command_id=command.command_id, error=repr(error))
                self._active.pop(command.device_id, None)
                self._waiting.setdefault(command.device_id, deque()).appendleft(command)
                if isinstance(command.operation, Observe) and command.command_id not in self._resent:
                    self._observations.dropped(command.device_id, command.operation.path)
                if self._registry.of(command.device_id) is None:
                    self.device_lost(command.device_id, Instant(self._clock.now(), self._clock.wall_ms()))
                else:
                    asyncio.get_running_loop().call_later(self._again_s, self._drain, command.device_id)
                return
            self._resent.discard(command.command_id)
            current = self._registry.of(command.device_id)
            if command.step is Step.QUEUED:
                command.step = advance(command.step, Step.SENT)
            if current is None:
                self._end(command, Step.TIMED_OUT, "timeout-binding", "the registration ended", self._clock.wall_ms())
                return
            self._by_handle[command.command_id] = command
            self._link.send(command.command_id, current.registration, command.operation, token)

        self._store.submit(Commit((), changes, done))

    # -- how commands end --

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a command; False when ``answer.handle`` is not one of ours."""
        command = self._by_handle.pop(answer.handle, None)
        if command is None:
            return False
        try:
            self._conclude(command, answer, at)
        except Exception as error:
            # Whatever mistake of ours that is: the command ends, and those behind it get their turn.
            log.exception("command.answer_failed", command_id=command.command_id)
            self._end(command, Step.REFUSED, "adapter", f"internal error: {type(error).__name__}", at.wall_ms)
        return True

    def _conclude(self, command: Command, answer: DeviceAnswer, at: Instant) -> None:
        known = self._registry.of(command.device_id)
        if answer.failure:
            step, reason, text = _FAILURES[answer.failure]
            if reason == "timeout" and known is not None and known.registration.queue_mode:
                reason = "timeout-binding"
                # Asleep, whatever its window says (QM-4): the next command waits until it is heard.
                known.last_heard = NEVER
            detail = f"{text}: {answer.detail}" if answer.detail else text
            self._end(command, step, reason, detail, at.wall_ms)
            return
        if known is not None:
            known.last_heard = at.now
            if not known.registration.proven:
                known.registration.proven = True
                self._link.prove_peer(known.registration.peer)
        if not is_success(answer.status):
            reason = reason_for_device_status(answer.status)
            text = answer.payload[:200].decode("utf-8", "replace")
            detail = f"the device answered {dotted(answer.status)}{': ' + text if text else ''}"
            self._end(command, Step.REFUSED, reason, detail, at.wall_ms, answer)
            return
        if isinstance(command.operation, Read | Observe) and known is not None:
            content_format = None if answer.content_format < 0 else answer.content_format
            try:
                decode_content(
                    content_format,
                    answer.payload,
                    command.operation.path,
                    known.registration.types,
                    now_s=at.wall_ms / 1000,
                    root=known.registration.objects.root,
                )
            except PeerError as error:
                self._end(command, Step.REFUSED, "adapter", f"the answer does not decode: {error}", at.wall_ms)
                return
        self._end(command, Step.SUCCEEDED, "ok", "", at.wall_ms, answer)

    def _end(
        self,
        command: Command,
        step: Step,
        reason: str,
        detail: str,
        at_ms: int,
        answer: DeviceAnswer | None = None,
    ) -> None:
        known = self._registry.of(command.device_id)
        answered = answer is not None and step is Step.SUCCEEDED
        row = JournalEntry(
            Kind.ANSWER,
            command.device_id,
            at_ms,
            status=answer.status if answer else 0,
            path=str(command.operation.path),
            content_format=answer.content_format if answer and answered else -1,
            payload=answer.payload if answer and answered else b"",
            labels=command.labels + (known.uplink_labels if known else self._uplink_labels.get(command.device_id, ())),
            method=command.method,
            reason=reason,
            detail=detail,
            command_id=command.command_id,
            root=known.registration.objects.root if known else "",
        )
        changes: list[Change] = [ChangeCommand(command.command_id, step, at_ms, reason, detail)]
        operation = command.operation
        observes = isinstance(operation, Observe) and answer is not None and answer.observing and answered
        cancelled = isinstance(operation, CancelObservation) and step is Step.SUCCEEDED
        if cancelled or (isinstance(operation, Observe) and not observes):
            changes.append(DropObservation(command.device_id, operation.path))

        renewed: Registration | None = None

        def done(error: Exception | None) -> None:
            if renewed is not None:
                self._settle_renewal(renewed, error)
            if error is not None:
                self._offer_again(command, error, submit)
                return
            command.step = step
            for change in changes:
                if isinstance(change, DropObservation):
                    self._observations.dropped(change.device_id, change.path)
            if self._active.get(command.device_id) is command:
                del self._active[command.device_id]
            self._drain(command.device_id)
            if command.device_id not in self._active and command.device_id not in self._waiting:
                self._uplink_labels.pop(command.device_id, None)

        def submit() -> None:
            nonlocal renewed
            # Anew each time: an Update may have come since the store was busy.
            renewed = self._renew(operation, command.device_id) if answered else None
            if renewed is None:
                self._store.submit(Commit((row,), changes, done))
                return
            text = f"{renewed.lifetime_s} s, written to {operation.path}"
            line = JournalEntry(Kind.LOG, command.device_id, at_ms, reason="lifetime-changed", detail=text)
            longer = ChangeRegistration(renewed, renewed.deadline_ms(self._grace_s))
            self._store.submit(Commit((row, line), (*changes, longer), done))

        submit()

    def _renew(self, operation: Operation, device_id: DeviceId) -> Registration | None:
        """The registration under the lifetime that the device took with ``operation``, counted from now: it may never
        send it in an Update (contract R-8). None where the operation says nothing of it."""
        known = self._registry.of(device_id)
        if known is None:
            return None
        before = known.pending or known.registration
        lifetime_s = written_lifetime(operation, before.objects)
        if lifetime_s is None:
            return None
        known.pending = replace(before, lifetime_s=lifetime_s, updated_ms=self._clock.lifetime_ms())
        return known.pending

    def _settle_renewal(self, renewed: Registration, error: Exception | None) -> None:
        current = self._registry.at(renewed.location)
        if current is None:
            return
        if current.pending is renewed:
            current.pending = None
        if error is None:
            current.registration.lifetime_s = renewed.lifetime_s
            current.registration.updated_ms = max(current.registration.updated_ms, renewed.updated_ms)

    def _offer_again(self, command: Command, error: Exception, submit: Callable[[], None]) -> None:
        """What became of a command is not lost to a store that is busy for a while; until then the command is open."""
        log.warning("command.outcome_not_stored", command_id=command.command_id, error=repr(error))

        async def later() -> None:
            await asyncio.sleep(self._again_s)
            submit()

        if not self._tasks.spawn(f"outcome {command.command_id}", later()):
            asyncio.get_running_loop().call_later(self._again_s, submit)

    def _never_sent(self, command: Command, step: Step, reason: str, detail: str, at_ms: int) -> None:
        row = JournalEntry(
            Kind.ANSWER,
            command.device_id,
            at_ms,
            path=str(command.operation.path),
            labels=command.labels + self._uplink_labels.get(command.device_id, ()),
            method=command.method,
            reason=reason,
            detail=detail,
            command_id=command.command_id,
        )
        changes: list[Change] = []
        operation = command.operation
        if command.command_id in self._resent:
            self._resent.discard(command.command_id)
            changes.append(ChangeCommand(command.command_id, step, at_ms, reason, detail))
            if isinstance(operation, Observe):
                # Wanted since it was first sent; the command has failed, so nothing is.
                changes.append(DropObservation(command.device_id, operation.path))
        else:
            changes.append(CommandNeverSent(command, step, at_ms))

        def done(error: Exception | None) -> None:
            if error is not None:
                self._offer_again(command, error, submit)
            elif len(changes) > 1:
                self._observations.dropped(command.device_id, operation.path)

        def submit() -> None:
            self._store.submit(Commit((row,), changes, done))

        submit()


_UNKNOWN_TEXT: Final = "sent, and the server restarted before the answer; not repeated because repeating could do harm"


def _json_text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
