"""Commands: taken as rows, handed to `delivery`, cancelled. What becomes of them is `outcomes`'s (contract Device to
Cloud §7)."""

import json
from collections.abc import Sequence
from typing import Any, Final

import structlog

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.committing import commit
from stellwerk.app.handlers.delivery import NEVER_MS, Delivery
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.outcomes import Outcomes
from stellwerk.app.handlers.resolving import Resolved, resolve
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.meters import Meters
from stellwerk.app.ports import (
    Clock,
    CommandNeverSent,
    DecidingStore,
    DeviceAnswer,
    DeviceLink,
    Limits,
    MessageRecord,
    NewCommand,
    NewOutgoing,
)
from stellwerk.app.registry import Known, Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import StellwerkError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.core.uuid_text import random_uuid
from stellwerk.device.command import Step
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.operations import AnyCancel, AnyObserve
from stellwerk.lwm2m.schema.library import Library

log = structlog.get_logger(__name__)

GAP_S: Final = 0.1
"""Between our answer to a sleeper's uplink and the first command (contract QM-6)."""
PROBE_S: Final = 60.0


class Commands:
    """``queue_s``: how long a command may wait for its device, also for one that is not registered; None: as long as
    the registration lasts, and not at all without one (contract §7.3). The rest as in `Delivery` and `Outcomes`."""

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
        queue_s: float | None = None,
        again_s: float = 1.0,
        grace_s: float = 0.0,
        gap_s: float = GAP_S,
        probe_s: float = PROBE_S,
        meters: Meters | None = None,
    ) -> None:
        self._meters = meters or Meters(clock.now)
        self._store = store
        self._registry = registry
        self._library = library
        self._observations = observations
        self._clock = clock
        self._entropy = entropy
        self._limits = limits
        self._queue_s = queue_s
        outcomes = Outcomes(
            store=store,
            registry=registry,
            observations=observations,
            tasks=tasks,
            clock=clock,
            again_s=again_s,
            grace_s=grace_s,
            meters=self._meters,
        )
        self.delivery = Delivery(
            store=store,
            registry=registry,
            observations=observations,
            outcomes=outcomes,
            tasks=tasks,
            clock=clock,
            link=link,
            awake_s=awake_s,
            again_s=again_s,
            gap_s=gap_s,
            probe_s=probe_s,
        )

    # -- what faces ask --

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
        expires_ms: int | None = None,
    ) -> MessageRecord:
        """Store an outgoing message with its commands; returns it as stored. What cannot be sent is answered in
        received-msg in the same transaction. ``expires_ms``: until when, UTC, a command may wait for the device.
        Raises `AlreadyExists`, `ContainerFull`."""
        now_ms = self._clock.wall_ms()
        rn = name or random_uuid(self._entropy)
        deadline_ms = self._deadline_ms(now_ms, expires_ms)
        commands: list[NewCommand] = []
        entries: list[JournalEntry] = []
        for resolved in await self._resolve(device, requests, may_wait=deadline_ms < NEVER_MS):
            request_id = random_uuid(self._entropy)
            if isinstance(resolved, Resolved):
                text = _json_text(resolved.request.content)
                method, operation = resolved.request.method, resolved.operation
                commands.append(NewCommand(request_id, method, operation, text, content_info, deadline_ms))
                continue
            entries.append(
                JournalEntry(
                    Kind.ANSWER,
                    device.device_id,
                    now_ms,
                    path=resolved.path,
                    labels=(f"outgoing_msgRN:{rn}", f"requestId:{request_id}", *device.uplink_labels),
                    method=resolved.method,
                    reason=resolved.reason,
                    detail=resolved.detail,
                )
            )
        text = _json_text(content)
        outgoing = NewOutgoing(
            device.device_id,
            self._entropy.take(12).hex(),
            rn,
            now_ms,
            text,
            content_info,
            len((content if isinstance(content, str) else text).encode()),
            creator,
            labels,
            tuple(commands),
            tuple(entries),
        )
        record, stored = await self._store.post_outgoing(outgoing, self._limits.max_instances)
        if stored:
            self.delivery.add(device.device_id, stored, device.uplink_labels)
        return record

    async def cancel(self, device: DeviceRecord, message: MessageRecord) -> bool:
        """End the commands of an outgoing message that were not sent yet; each is answered in received-msg. False when
        none of them waits any more."""
        await self.delivery.settle(device.device_id)
        commands = await self._store.commands_of_message(message.resource_id)
        waiting = self.delivery.take_out(device.device_id, {each.command_id for each in commands})
        if not waiting:
            return False
        now_ms = self._clock.wall_ms()
        entries = [
            JournalEntry(
                Kind.ANSWER,
                device.device_id,
                now_ms,
                path=str(each.operation.path),
                labels=each.labels + device.uplink_labels,
                method=each.method,
                reason="cancelled",
                detail="cancelled before it was sent",
                command_id=each.command_id,
            )
            for each in waiting
        ]

        def done(error: Exception | None) -> None:
            if error is not None:
                self.delivery.put_back(device.device_id, waiting)
                return
            self.delivery.taken_ended(waiting)
            for each in waiting:
                each.step = Step.CANCELLED
                self._meters.command_ended(Step.CANCELLED.value, (now_ms - each.created_ms) / 1000)

        changes = [CommandNeverSent(each, Step.CANCELLED, now_ms) for each in waiting]
        await commit(self._store, entries, changes, done)
        return True

    # -- what happens to devices --

    def device_heard(self, known: Known) -> None:
        """An uplink of the device was answered."""
        self.delivery.device_heard(known)

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        """Its registration ended."""
        self.delivery.device_lost(device_id, at)

    def device_removed(self, device_id: DeviceId, at: Instant) -> None:
        """It is gone with all that was stored of it."""
        self.delivery.device_removed(device_id, at)

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a command; False when ``answer.handle`` is not one of ours."""
        return self.delivery.finished(answer, at)

    async def recover(self) -> int:
        """Take up after a restart; returns how many devices have open commands."""
        return await self.delivery.recover()

    # -- inside --

    def _deadline_ms(self, now_ms: int, expires_ms: int | None) -> int:
        """Until when commands may wait, in the clock of lifetimes."""
        if expires_ms is not None:
            wait_ms = expires_ms - now_ms
        elif self._queue_s is not None:
            wait_ms = int(self._queue_s * 1000)
        else:
            return NEVER_MS
        return self._clock.lifetime_ms() + max(wait_ms, 0)

    async def _resolve(
        self, device: DeviceRecord, requests: Sequence[CommandRequest | RefusedRequest], may_wait: bool
    ) -> list[Resolved | RefusedRequest]:
        """The operations behind the requests, in order; later ones find what earlier ones leave."""
        try:
            known = await self._registry.load_of(device.device_id)
            await self._observations.load(device.device_id)
        except (StellwerkError, ValueError, KeyError, TypeError) as error:
            log.exception("device.unreadable", device=device.name)
            text = f"what is stored of the device cannot be read: {type(error).__name__}: {error}"
            return [_refused(each, "device-data", text) for each in requests]
        wanted = set(self._observations.wanted_paths(device.device_id))
        registration = known.registration if known else None
        types = known.registration.types if known else self._library.for_device("1.1", {}, device.tenant)
        found: list[Resolved | RefusedRequest] = []
        for request in requests:
            resolved = resolve(request, registration, types, wanted)
            if isinstance(resolved, Resolved):
                if known is None and not may_wait:
                    text = "the device is not registered; check its binding mode and lifetime"
                    resolved = _refused(resolved.request, "timeout-binding", text)
                elif isinstance(resolved.operation, AnyObserve):
                    wanted.add(resolved.operation.path)
                elif isinstance(resolved.operation, AnyCancel):
                    wanted.discard(resolved.operation.path)
            found.append(resolved)
        return found


def _refused(request: CommandRequest | RefusedRequest, reason: str, detail: str) -> RefusedRequest:
    if isinstance(request, RefusedRequest):
        return request
    return RefusedRequest(request.method, request.path, reason, detail, request.content)


def _json_text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
