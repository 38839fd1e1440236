"""Commands: taken as rows, handed to `delivery`, cancelled. What becomes of them is `outcomes`'s (contract Device to
Cloud §7)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import structlog

from stellwerk.app.changes import CommandNeverSent
from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.committing import commit
from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.handlers.awaiting import Awaited, Ended, Wait
from stellwerk.app.handlers.delivery import Delivery
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.outcomes import Outcomes, kind_of
from stellwerk.app.handlers.resolving import Resolved, resolve
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.meters import Meters
from stellwerk.app.ports import UNBOUNDED, Clock, DecidingStore, Limits
from stellwerk.app.profiles import Profiles
from stellwerk.app.records import MessageRecord, NewCommand, NewOutgoing
from stellwerk.app.registry import Known, Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.entropy import Entropy
from stellwerk.core.errors import StellwerkError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.core.uuid_text import random_uuid
from stellwerk.device.command import NEVER_MS, Command, Step
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.operations import AnyCancel, AnyObserve, Write
from stellwerk.lwm2m.schema.library import Library

log = structlog.get_logger(__name__)

_SHOWN_NAME: Final = 80
_MOST_SHOWN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message's first command that waits stands: ``position`` of ``count`` (from 1), and what it waits for:
    ``turn`` (the device listens, and is asked one thing at a time), ``wake`` (it sleeps or does not answer) or
    ``registration``."""

    position: int
    count: int
    waits_for: Literal["turn", "wake", "registration"]


@dataclass(frozen=True, slots=True)
class Posted:
    """A command without a message. ``ref`` finds it for as long as its row is kept, empty where it was refused at once;
    ``wait`` has its end."""

    ref: str
    wait: Wait


@dataclass(frozen=True, slots=True)
class _Origin:
    """The message that commands come in; without a ``name`` there is none."""

    ref: str
    name: str = ""
    content: Any = ""
    content_info: str | None = None
    creator: str = ""
    labels: tuple[str, ...] = ()


_Found: TypeAlias = tuple[str, Resolved | RefusedRequest]
"""With the request ID."""


class Commands:
    """The one way from requests to stored commands, whichever face they come from: `post` with a message of the Device
    to Cloud containers around them, `submit` without. How long commands may wait and how many, ``profiles`` says. The
    rest as in `Delivery` and `Outcomes`."""

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
        profiles: Profiles,
        turns: Turns,
        again_s: float = 1.0,
        grace_s: float = 0.0,
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
        self._profiles = profiles
        self._turns = turns
        self.awaited = Awaited()
        outcomes = Outcomes(
            store=store,
            registry=registry,
            observations=observations,
            tasks=tasks,
            clock=clock,
            again_s=again_s,
            grace_s=grace_s,
            meters=self._meters,
            awaited=self.awaited,
        )
        self.delivery = Delivery(
            store=store,
            registry=registry,
            observations=observations,
            outcomes=outcomes,
            tasks=tasks,
            clock=clock,
            link=link,
            profiles=profiles,
            turns=turns,
            again_s=again_s,
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
        priority: int | None = None,
    ) -> MessageRecord:
        """Store an outgoing message with its commands; returns it as stored. What cannot be sent is answered in
        received-msg in the same transaction, and so are the Writes that wait and that this message makes needless
        (QM-5). ``expires_ms``: until when, UTC, a command may wait for the device. ``priority``: of the commands that
        say none themselves, None: as the device's profile says. Raises `AlreadyExists`, `ContainerFull` and
        `QueueFull`."""
        origin = _Origin(self._draw_ref(), name or random_uuid(self._entropy), content, content_info, creator, labels)
        found = await self._resolve(device, requests, may_wait=self._may_wait(device, expires_ms))
        drawn = [(random_uuid(self._entropy), each) for each in found]
        return await self._store_commands(device, origin, drawn, expires_ms, priority)

    async def submit(
        self,
        device: DeviceRecord,
        request: CommandRequest | RefusedRequest,
        *,
        expires_ms: int | None = None,
        priority: int | None = None,
    ) -> Posted:
        """Store one command without a message; the rest as with `post`, and what cannot be sent has ended when this
        returns. Raises `QueueFull` and `DeviceGone`."""
        (found,) = await self._resolve(device, (request,), may_wait=self._may_wait(device, expires_ms))
        request_id = random_uuid(self._entropy)
        origin = _Origin(self._draw_ref())
        # Before it is stored: it may end before this is told that it is.
        wait = self.awaited.wait(request_id, device.device_id)
        await self._store_commands(device, origin, [(request_id, found)], expires_ms, priority)
        return Posted("" if isinstance(found, RefusedRequest) else origin.ref, wait)

    async def _store_commands(
        self,
        device: DeviceRecord,
        origin: _Origin,
        found: Sequence[_Found],
        expires_ms: int | None,
        priority: int | None,
    ) -> MessageRecord:
        now_ms = self._clock.wall_ms()
        deadline_ms = self._deadline_ms(device, now_ms, expires_ms)
        profile = self._profiles.of(device)
        if priority is None:
            priority = profile.priority or 0
        commands: list[NewCommand] = []
        refused: dict[str, JournalEntry] = {}
        for request_id, resolved in found:
            if isinstance(resolved, Resolved):
                text = _json_text(resolved.request.content)
                method, operation, own = resolved.request.method, resolved.operation, resolved.request.priority
                first = priority if own is None else own
                info = origin.content_info
                commands.append(NewCommand(request_id, method, operation, text, info, deadline_ms, first))
            else:
                refused[request_id] = _refusal(device, origin, request_id, resolved, now_ms)
        text = _json_text(origin.content)
        gone = await self._take_superseded(device, commands) if profile.coalesce is not False else []
        newer = f"message {origin.name[:_SHOWN_NAME]}" if origin.name else f"command {origin.ref}"
        detail = f"not sent: a newer WRITE of the same path takes its place, {newer}"
        replaced = [self._never_sent(each, device, now_ms, "superseded", detail) for each in gone]
        outgoing = NewOutgoing(
            device.device_id,
            origin.ref,
            origin.name,
            now_ms,
            text,
            origin.content_info,
            len((origin.content if isinstance(origin.content, str) else text).encode()),
            origin.creator,
            origin.labels,
            tuple(commands),
            (*refused.values(), *replaced),
            tuple(CommandNeverSent(each, Step.SUPERSEDED, now_ms, "superseded", detail) for each in gone),
        )
        try:
            record, stored = await self._store.post_outgoing(
                outgoing, self._limits.max_instances, self._profiles.queue_length(device)
            )
        except BaseException:
            if gone:
                self.delivery.put_back(device.device_id, gone)
            raise
        self._ended_unsent(gone, replaced, Step.SUPERSEDED)
        for request_id, entry in refused.items():
            self.awaited.ended(request_id, Ended(Step.REFUSED, entry))
        if stored:
            self.delivery.add(device.device_id, stored, device.uplink_labels)
        elif self._registry.of(device.device_id) is None:
            # It was looked at for this message alone.
            self._observations.forget_device(device.device_id)
        return record

    async def cancel(self, device: DeviceRecord, message: MessageRecord) -> bool:
        """`withdraw` the commands of an outgoing message."""
        return await self.withdraw(device, message.resource_id)

    async def withdraw(self, device: DeviceRecord, ref: str) -> bool:
        """End the commands of an outgoing message, by its resource ID, or the one that `submit` stored, as far as they
        were not sent yet; each is answered where its face looks for it. False when none of them waits any more."""
        await self.delivery.settle(device.device_id)
        return await self._withdraw(device, await self._store.commands_of_message(ref), "cancelled before it was sent")

    async def withdraw_all(self, device: DeviceRecord, why: str) -> bool:
        """`withdraw` everything that waits for the device."""
        await self.delivery.settle(device.device_id)
        commands = await self._store.open_commands(device.device_id, UNBOUNDED)
        return await self._withdraw(device, commands, f"cancelled before it was sent: {why}")

    async def _withdraw(self, device: DeviceRecord, commands: Sequence[Command], text: str) -> bool:
        waiting = self.delivery.take_out(device.device_id, {each.command_id for each in commands})
        if not waiting:
            return False
        now_ms = self._clock.wall_ms()
        entries = [self._never_sent(each, device, now_ms, "cancelled", text) for each in waiting]

        def done(error: Exception | None) -> None:
            if error is not None:
                self.delivery.put_back(device.device_id, waiting)
                return
            self._ended_unsent(waiting, entries, Step.CANCELLED)

        changes = [CommandNeverSent(each, Step.CANCELLED, now_ms, "cancelled", text) for each in waiting]
        await commit(self._store, entries, changes, done)
        return True

    async def places(self, device: DeviceRecord) -> dict[str, Place]:
        """Where messages of the device stand that wait, by the resource ID of the outgoing message."""
        waiting = await self._store.queued_commands(device.device_id, _MOST_SHOWN)
        known = self._registry.of(device.device_id)
        registered = known is not None or await self._store.registration_of(device.device_id) is not None
        listens = known is not None and self._turns.listens(known, self._clock.now())
        waits_for: Literal["turn", "wake", "registration"]
        waits_for = "turn" if listens else "wake" if registered else "registration"
        found: dict[str, Place] = {}
        for position, (_, resource_id) in enumerate(waiting, 1):
            found.setdefault(resource_id, Place(position, len(waiting), waits_for))
        return found

    # -- what happens to devices --

    def device_registered(self, known: Known, at: Instant) -> None:
        """The device registered; `device_heard` follows."""
        self.delivery.device_registered(known, at)

    def device_heard(self, known: Known) -> None:
        """An uplink of the device was answered."""
        self.delivery.device_heard(known)

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        """Its registration ended."""
        self.delivery.device_lost(device_id, at)

    def device_removed(self, device_id: DeviceId, at: Instant) -> None:
        """It is gone with all that was stored of it."""
        self.delivery.device_removed(device_id, at)
        # What is on its way ends by itself.
        active = self.delivery.active(device_id)
        text = "the device was removed, and what waited for it"
        row = JournalEntry(Kind.OUTCOME, device_id, at.wall_ms, reason="cancelled", detail=text)
        for request_id in self.awaited.of_device(device_id):
            if active is None or active.request_id != request_id:
                self.awaited.ended(request_id, Ended(Step.CANCELLED, row))

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a command; False when ``answer.handle`` is not one of ours."""
        return self.delivery.finished(answer, at)

    async def recover(self) -> int:
        """Take up after a restart; returns how many devices have open commands."""
        return await self.delivery.recover()

    # -- inside --

    async def _take_superseded(self, device: DeviceRecord, commands: Sequence[NewCommand]) -> list[Command]:
        """What waits and is needless from now on, out of the queue."""
        if not any(isinstance(each.operation, Write) for each in commands):
            return []
        known = self._registry.of(device.device_id)
        if known is not None and self._turns.listens(known, self._clock.now()):
            return []
        try:
            await self.delivery.settle(device.device_id)
        except Exception:
            # Rows of an earlier run that cannot be read now are sent later, as if nobody had looked.
            log.exception("commands.not_loaded", device_id=device.device_id)
            return []
        fresh = [(each.operation, each.priority) for each in commands]
        return self.delivery.take_superseded(device.device_id, fresh)

    def _never_sent(self, command: Command, device: DeviceRecord, at_ms: int, reason: str, detail: str) -> JournalEntry:
        return JournalEntry(
            kind_of(command),
            device.device_id,
            at_ms,
            path=str(command.operation.path),
            labels=command.labels + device.uplink_labels,
            method=command.method,
            reason=reason,
            detail=detail,
            command_id=command.command_id,
        )

    def _ended_unsent(self, commands: Sequence[Command], rows: Sequence[JournalEntry], step: Step) -> None:
        """What `delivery` gave out has ended with ``step``, and that is stored, in a row each."""
        self.delivery.taken_ended(commands)
        for each, row in zip(commands, rows, strict=True):
            each.step = step
            self._meters.command_ended(step.value, (row.time_ms - each.created_ms) / 1000)
            self.awaited.ended(each.request_id, Ended(step, row))

    def _draw_ref(self) -> str:
        return self._entropy.take(12).hex()

    def _may_wait(self, device: DeviceRecord, expires_ms: int | None) -> bool:
        """Whether a command has a time of its own, so that it may be posted before the device registers."""
        return self._deadline_ms(device, self._clock.wall_ms(), expires_ms) < NEVER_MS

    def _deadline_ms(self, device: DeviceRecord, now_ms: int, expires_ms: int | None) -> int:
        """Until when commands may wait, in the clock of lifetimes."""
        queue_s = self._profiles.queue_s(device)
        if expires_ms is not None:
            wait_ms = expires_ms - now_ms
        elif queue_s is not None:
            wait_ms = int(queue_s * 1000)
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


def _refusal(
    device: DeviceRecord, origin: _Origin, request_id: str, refused: RefusedRequest, at_ms: int
) -> JournalEntry:
    """What the face of a command that cannot be sent reads."""
    request = f"requestId:{request_id}"
    trace = (f"outgoing_msgRN:{origin.name}", request) if origin.name else (request,)
    return JournalEntry(
        Kind.ANSWER if origin.name else Kind.OUTCOME,
        device.device_id,
        at_ms,
        path=refused.path,
        labels=(*trace, *device.uplink_labels),
        method=refused.method,
        reason=refused.reason,
        detail=refused.detail,
    )


def _refused(request: CommandRequest | RefusedRequest, reason: str, detail: str) -> RefusedRequest:
    if isinstance(request, RefusedRequest):
        return request
    return RefusedRequest(request.method, request.path, reason, detail, request.content)


def _json_text(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
