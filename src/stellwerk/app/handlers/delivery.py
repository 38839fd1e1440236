"""Commands on their way to devices: in order, one at a time, when the device listens (contract §3, §7.3 of Device to
Cloud).

The order is always the same: the row first, then `sent` committed, then the datagram, then the outcome committed
(design §3). Nothing waits for a device but its own rows. A device that sleeps keeps its commands as rows; after a
restart they are read again when the device is heard.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from typing import Final

import structlog

from stellwerk.app.committing import log_not_stored
from stellwerk.app.handlers.lanes import Lane, Lanes
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.outcomes import UNKNOWN_TEXT, Outcomes
from stellwerk.app.ports import (
    Change,
    ChangeCommand,
    Clock,
    CommandSent,
    Commit,
    DecidingStore,
    DeviceAnswer,
    DeviceLink,
    StoreTrouble,
)
from stellwerk.app.registry import Known, KnownGateway, Registry
from stellwerk.app.status_table import reason_for_device_status
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.device.command import Command, Step, advance, after_restart
from stellwerk.device.observation import WantedObservation
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.operations import CancelObservation, Observe, Operation, Read, WriteAttributes
from stellwerk.lwm2m.status import dotted, is_success

log = structlog.get_logger(__name__)

NEVER_MS: Final = 1 << 62
"""`Command.expires_ms` of one that ends with the registration and not before."""
TRIES: Final = 3
"""How often a command is sent in all before no answer means that it failed."""
SLICE: Final = 1000

_FAILURES: Final = {
    "timeout": (Step.TIMED_OUT, "timeout", "sent, no answer"),
    "reset": (Step.REFUSED, "device-bad-request", "the device reset the request"),
    "refused": (Step.REFUSED, "adapter-unavailable", "given up here"),
    "malformed": (Step.REFUSED, "adapter", "the device's answer broke the rules of CoAP"),
    "oversized": (Step.REFUSED, "adapter", "the device's answer is longer than this server takes"),
    "lost": (Step.TIMED_OUT, "timeout-binding", "sent, and the connection ended before the device answered"),
    "unconnected": (Step.TIMED_OUT, "timeout-binding", "the device has no connection"),
    "cancelled": (Step.TIMED_OUT, "timeout-binding", "the registration ended before the device answered"),
}


class _Flight:
    """A command between its first datagram and its last answer; ``following``: what is still to be asked."""

    __slots__ = ("answer", "command", "following", "token")

    def __init__(self, command: Command, following: deque[Operation], token: bytes | None) -> None:
        self.command = command
        self.following = following
        self.token = token
        self.answer: DeviceAnswer | None = None
        """The one that decides, while something less important is asked."""


class Delivery:
    """``awake_s``: how long a queue-mode device listens after its last uplink (contract QM-2); ``gap_s``: what passes
    between our answer to an uplink and the first command (QM-6); ``probe_s``: how long a device without queue mode that
    left a command unanswered is not tried again unless it is heard; ``again_s``: when the store is asked anew after it
    failed."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        observations: Observations,
        outcomes: Outcomes,
        tasks: Tasks,
        clock: Clock,
        link: DeviceLink,
        awake_s: float,
        again_s: float,
        gap_s: float,
        probe_s: float,
    ) -> None:
        self._store = store
        self._registry = registry
        self._observations = observations
        self._outcomes = outcomes
        self._tasks = tasks
        self._clock = clock
        self._link = link
        # Long enough for what waits to leave at all.
        self._awake_s = max(awake_s, 2 * gap_s)
        self._again_s = again_s
        self._gap_s = gap_s
        self._probe_s = probe_s
        self._lanes = Lanes(
            store=store,
            registry=registry,
            observations=observations,
            tasks=tasks,
            again_s=again_s,
            taken=self._taken,
        )
        self._flights: dict[int, _Flight] = {}
        self._not_stored: set[int] = set()
        """Commands that the store, though it works, did not take once."""
        self._probes: list[tuple[float, DeviceId]] = []
        """A heap: when devices that are silent are tried again although they were not heard."""
        self._probing: set[DeviceId] = set()
        self._turns: dict[DeviceId, DeviceId] = {}
        """Of those in households that had the turn last: the gateway."""

    def __len__(self) -> int:
        """Commands in memory that have not ended."""
        return len(self._lanes)

    @property
    def in_flight(self) -> int:
        """Commands whose answer is awaited."""
        return len(self._flights)

    # -- waiting --

    def add(self, device_id: DeviceId, commands: Sequence[Command], uplink_labels: tuple[str, ...]) -> None:
        """Commands that are stored; they leave in order, once the device listens."""
        lane = self._lanes.put(device_id, commands)
        lane.uplink_labels = uplink_labels
        if self._lanes.is_stored(device_id):
            # Older ones are still rows, and they go first.
            self._lanes.load_soon(device_id)
        elif self._registry.of(device_id) is None:
            # Perhaps it ended while the message was being stored.
            self.device_lost(device_id, self._instant())
        else:
            self._drain(device_id)

    def relabel(self, device_id: DeviceId, uplink_labels: tuple[str, ...]) -> None:
        """What messages about commands that wait carry from now on."""
        lane = self._lanes.get(device_id)
        if lane is not None:
            lane.uplink_labels = uplink_labels

    def device_heard(self, known: Known) -> None:
        """An uplink of the device was answered: what waits for it may leave, one at a time (QM-3)."""
        device_id = known.registration.device_id
        if self._lanes.is_stored(device_id):
            self._lanes.load_soon(device_id)
        elif self._lanes.get(device_id) is not None:
            if known.registration.queue_mode and self._gap_s:
                asyncio.get_running_loop().call_later(self._gap_s, self._drain, device_id)
            else:
                self._drain(device_id)

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        """The registration ended: what has no time of its own ends as 408; the rest waits for the next (§7.3)."""
        if self._lanes.is_stored(device_id):
            # With what is still only rows.
            self._lanes.load_soon(device_id)
            return
        lane = self._lanes.get(device_id)
        if lane is None or lane.loading is not None:
            return
        if lane.removed:
            self._lanes.drop(device_id)
        for command in self._lanes.take_out(device_id, lambda each: each.expires_ms >= NEVER_MS):
            sent = command.command_id in self._lanes.tries
            text = f"the registration ended before the {'device answered' if sent else 'command could be sent'}"
            self._end_waiting(lane, command, Step.TIMED_OUT, "timeout-binding", text, at.wall_ms)
        if lane.active is not None and lane.active.command_id in self._flights:
            # Another device may be at the same address, so the engine has not forgotten it.
            self._link.cancel(lane.active.command_id)
        self._lanes.tidy(device_id)

    def device_removed(self, device_id: DeviceId, at: Instant) -> None:
        """The device and all its rows are gone."""
        self._lanes.drop(device_id)
        self.device_lost(device_id, at)

    def take_out(self, device_id: DeviceId, command_ids: Collection[int]) -> list[Command]:
        """Those of the commands that wait and were never sent, out of the queue. The caller ends them, and says
        `taken_ended` or `put_back`."""
        return self._lanes.take_out(
            device_id, lambda each: each.command_id in command_ids and each.command_id not in self._lanes.tries
        )

    def taken_ended(self, commands: Iterable[Command]) -> None:
        """The end of what `take_out` gave is stored."""
        for each in commands:
            self._lanes.ended(each)

    def put_back(self, device_id: DeviceId, commands: Sequence[Command]) -> None:
        """What `take_out` gave waits as before: its end could not be stored."""
        self._lanes.spare(commands)
        self.add(device_id, commands, self._lanes.of(device_id).uplink_labels)

    async def settle(self, device_id: DeviceId) -> None:
        """Know of every open command of the device."""
        if self._lanes.is_stored(device_id):
            await self._lanes.load(device_id)

    # -- time --

    async def run_expiry(self, every_s: float = 1.0) -> None:
        """Look every ``every_s`` seconds, for ever, for commands whose time is over."""
        while True:
            try:
                await self.look()
            except Exception:
                # The store is in trouble; its own face says so. What waits, waits.
                log.exception("command_expiry.failed")
            await asyncio.sleep(every_s)

    async def look(self) -> int:
        """End a slice of the waiting commands whose time is over, and try silent devices anew; returns how many
        ended."""
        self._probe()
        due: dict[DeviceId, set[int]] = {}
        for command in await self._store.commands_due(self._clock.lifetime_ms(), SLICE):
            due.setdefault(command.device_id, set()).add(command.command_id)
        return sum([await self._expire_those(device_id, command_ids) for device_id, command_ids in due.items()])

    async def _expire_those(self, device_id: DeviceId, command_ids: Collection[int]) -> int:
        if self._lanes.is_stored(device_id):
            try:
                await self._lanes.load(device_id)
            except Exception:
                # One device's rows cannot be read: the others' time is over all the same.
                log.exception("commands.not_loaded", device_id=device_id)
            # A thousand devices' rows are many: others get their turn in between.
            await asyncio.sleep(0)
        lane = self._lanes.get(device_id)
        if lane is None or lane.loading is not None:
            return 0
        # One that is on its way hears from the device or from the engine's timers.
        ended = self._lanes.take_out(device_id, lambda each: each.command_id in command_ids)
        for each in ended:
            self._expire(lane, each)
        return len(ended)

    def _probe(self) -> None:
        now = self._clock.now()
        while self._probes and self._probes[0][0] <= now:
            _, device_id = heappop(self._probes)
            self._probing.discard(device_id)
            self._drain(device_id)

    def _expire(self, lane: Lane, command: Command) -> None:
        if command.command_id in self._lanes.tries:
            text = "sent, no answer within the command's time; check the device's binding mode"
        else:
            text = "the device was not heard within the command's time; check its binding mode and lifetime"
        self._end_waiting(lane, command, Step.EXPIRED, "timeout-binding", text, self._clock.wall_ms())

    # -- after a restart --

    async def recover(self) -> int:
        """Take up after a restart: what was queued goes on; what was sent and not answered is sent again, or ends as
        `outcome unknown` where repeating could do harm (design §3). Rows of sleepers stay rows until they are heard.
        Returns how many devices have open commands."""
        count, at_once = await self._lanes.find_stored()
        self._tasks.spawn("commands taken up", self._take_up(at_once))
        return count

    async def _take_up(self, devices: Sequence[DeviceId]) -> None:
        for device_id in devices:
            if self._lanes.is_stored(device_id):
                self._lanes.load_soon(device_id)
            await asyncio.sleep(0)

    def _taken(self, device_id: DeviceId, unknown: Sequence[Command]) -> None:
        """Commands of an earlier run wait now; ``unknown`` were sent, and must not be sent again."""
        for command in unknown:
            self._end(command, Step.OUTCOME_UNKNOWN, "outcome-unknown", UNKNOWN_TEXT, self._clock.wall_ms())
        if self._registry.of(device_id) is None:
            self.device_lost(device_id, self._instant())
        else:
            self._drain(device_id)

    # -- sending --

    def _listens(self, known: Known, now: float) -> bool:
        if not self._link.reaches(known.registration.peer):
            return False
        if known.silent_since >= known.last_heard and now - known.silent_since < self._probe_s:
            return False
        if not known.registration.queue_mode:
            return True
        return known.silent_since < known.last_heard and now - known.last_heard <= self._awake_s

    def _drain(self, device_id: DeviceId) -> None:
        lane = self._lanes.get(device_id)
        known = self._registry.of(device_id)
        if lane is None or known is None or lane.active is not None or lane.loading is not None:
            return
        if lane.waiting and not self._listens(known, self._clock.now()):
            is_there = not known.registration.queue_mode and self._link.reaches(known.registration.peer)
            if is_there and device_id not in self._probing:
                self._probing.add(device_id)
                heappush(self._probes, (known.silent_since + self._probe_s, device_id))
            return
        if lane.waiting and known.household is not None and self._neighbour_speaks(known, known.household):
            return
        if lane.waiting and not self._observations.loaded(device_id):
            # An Observe has to know what else is wanted.
            self._lanes.load_soon(device_id)
            return
        now_ms = self._clock.lifetime_ms()
        while lane.waiting:
            command = lane.waiting.popleft()
            if command.expires_ms <= now_ms:
                self._expire(lane, command)
            elif (refusal := self._refusal(command)) is not None:
                self._end_waiting(lane, command, Step.REFUSED, *refusal, self._clock.wall_ms())
            else:
                lane.active = command
                if known.household is not None:
                    self._turns[device_id] = known.household.registration.device_id
                self._send(command, known)
                return
        self._lanes.tidy(device_id)

    def _neighbour_speaks(self, known: Known, house: KnownGateway) -> bool:
        """A gateway and those behind it are one client: one command is on its way to any of them (NSTART 1)."""
        for each in (house, *house.behind.values()):
            lane = self._lanes.get(each.registration.device_id)
            if each is not known and lane is not None and lane.active is not None:
                return True
        return False

    def _drain_neighbours(self, device_id: DeviceId) -> None:
        """The turn of a device in a household is over: that of the others comes, those listed behind it first."""
        house = self._registry.of(self._turns.pop(device_id, device_id))
        if not isinstance(house, KnownGateway):
            return
        others = [house.registration.device_id, *house.behind]
        place = others.index(device_id) if device_id in others else 0
        for each in (*others[place + 1 :], *others[: place + 1]):
            if self._lanes.get(each) is not None:
                self._drain(each)

    def _refusal(self, command: Command) -> tuple[str, str] | None:
        """Why what could be done when the command was posted cannot be done now that its turn has come (§7.2)."""
        operation = command.operation
        if isinstance(operation, Observe) and command.command_id not in self._lanes.tries:
            if self._observations.of(command.device_id, operation.path) is not None:
                return "conflict", f"{operation.path} is observed already; UNOBSERVE it first"
        elif (
            isinstance(operation, CancelObservation)
            and self._observations.of(command.device_id, operation.path) is None
        ):
            return "no-observation", f"{operation.path} is not observed"
        return None

    def _send(self, command: Command, known: Known) -> None:
        at_ms = self._clock.wall_ms()
        changes: list[Change] = []
        operation = command.operation
        flight = _Flight(command, deque((operation,)), None)
        before = self._observations.of(command.device_id, operation.path)
        observation: WantedObservation | None = None
        if isinstance(operation, Observe):
            observation = self._observations.new(known, operation, command.labels, at_ms)
            flight.token = observation.token
            changes.append(self._observations.put(observation))
            if operation.attributes:
                flight.following.appendleft(WriteAttributes(operation.path, operation.attributes))
        elif isinstance(operation, CancelObservation) and before is not None:
            flight.token = before.token
            if before.attributes:
                # They were written for this observation; whoever observes next shall not inherit them.
                names = tuple((name, None) for name, _ in before.attributes)
                flight.following.append(WriteAttributes(operation.path, names))
        sent_before = command.command_id in self._lanes.tries
        if sent_before:
            changes.append(ChangeCommand(command.command_id, Step.SENT, at_ms))
        else:
            changes.append(CommandSent(command, at_ms, command.labels + known.uplink_labels))

        def done(error: Exception | None) -> None:
            if error is not None:
                log_not_stored(log, "command.not_stored", error, command_id=command.command_id)
                self._lanes.back(command)
                if observation is not None:
                    self._observations.not_stored(observation, before)
                if self._registry.of(command.device_id) is None:
                    self.device_lost(command.device_id, self._instant())
                elif not isinstance(error, StoreTrouble) and command.command_id in self._not_stored:
                    self._not_storable(command, error)
                else:
                    if not isinstance(error, StoreTrouble):
                        # Once more: the fresh token of an Observe may have been taken.
                        self._not_stored.add(command.command_id)
                    asyncio.get_running_loop().call_later(self._again_s, self._drain, command.device_id)
                return
            self._not_stored.discard(command.command_id)
            self._lanes.tries[command.command_id] = self._lanes.tries.get(command.command_id, 0) + 1
            if command.step is Step.QUEUED:
                command.step = advance(command.step, Step.SENT)
            current = self._registry.of(command.device_id)
            if current is None:
                self._lost_in_flight(command, self._clock.wall_ms())
                return
            self._flights[command.command_id] = flight
            self._ask(flight, current)

        self._store.submit(Commit((), changes, done))

    def _not_storable(self, command: Command, error: Exception) -> None:
        """The store takes everything but this; to try again would not help."""
        lane = self._lanes.of(command.device_id)
        lane.waiting.remove(command)
        reason = "observe-store" if isinstance(command.operation, Observe) else "adapter"
        detail = f"not sent: that it is sent could not be stored ({type(error).__name__})"
        self._end_waiting(lane, command, Step.REFUSED, reason, detail, self._clock.wall_ms())
        self._drain(command.device_id)

    def _ask(self, flight: _Flight, known: Known) -> None:
        """Send the next of the command's operations."""
        operation = flight.following.popleft()
        token = None if isinstance(operation, WriteAttributes) else flight.token
        self._link.send(flight.command.command_id, known.registration, operation, token)

    # -- answers --

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a command; False when ``answer.handle`` is not one of ours."""
        flight = self._flights.get(answer.handle)
        if flight is None:
            return False
        command = flight.command
        try:
            known = self._registry.of(command.device_id)
            if not answer.failure and known is not None:
                known.heard(at.now, self._link)
            goes_on = not answer.failure and is_success(answer.status) and bool(flight.following)
            if goes_on and flight.answer is None and isinstance(command.operation, CancelObservation):
                # What follows is tidying: the cancel itself has succeeded.
                flight.answer = answer
            if goes_on and known is not None:
                self._ask(flight, known)
                return True
            del self._flights[answer.handle]
            if goes_on and flight.answer is None:
                # The attributes were taken, and the Observe itself was never sent.
                self._lost_in_flight(command, at.wall_ms)
            else:
                self._conclude(flight, flight.answer or answer, at)
        except Exception as error:
            # Whatever mistake of ours that is: the command ends, and those behind it get their turn.
            log.exception("command.answer_failed", command_id=command.command_id)
            self._flights.pop(answer.handle, None)
            self._end(command, Step.REFUSED, "adapter", f"internal error: {type(error).__name__}", at.wall_ms)
        return True

    def _conclude(self, flight: _Flight, answer: DeviceAnswer, at: Instant) -> None:
        command = flight.command
        known = self._registry.of(command.device_id)
        if answer.failure:
            self._conclude_failure(command, known, answer, at)
            return
        operation = command.operation
        if not is_success(answer.status):
            reason = reason_for_device_status(answer.status)
            text = answer.payload[:200].decode("utf-8", "replace")
            asked = " to the attributes" if isinstance(operation, Observe) and flight.following else ""
            detail = f"the device answered {dotted(answer.status)}{asked}{': ' + text if text else ''}"
            self._end(command, Step.REFUSED, reason, detail, at.wall_ms, answer)
            return
        if isinstance(operation, Observe) and not answer.observing:
            text = "the device answered with the value alone; it does not observe this path"
            self._end(command, Step.REFUSED, "observe-no-id", text, at.wall_ms, answer)
            return
        if isinstance(operation, Read | Observe) and known is not None:
            content_format = None if answer.content_format < 0 else answer.content_format
            try:
                decode_content(
                    content_format,
                    answer.payload,
                    operation.path,
                    known.registration.types,
                    now_s=at.wall_ms / 1000,
                    root=known.registration.objects.root,
                )
            except PeerError as error:
                self._end(command, Step.REFUSED, "adapter", f"the answer does not decode: {error}", at.wall_ms)
                return
        self._end(command, Step.SUCCEEDED, "ok", "", at.wall_ms, answer)

    def _conclude_failure(self, command: Command, known: Known | None, answer: DeviceAnswer, at: Instant) -> None:
        if answer.failure == "cancelled":
            self._lost_in_flight(command, at.wall_ms)
            return
        step, reason, text = _FAILURES[answer.failure]
        if answer.failure in ("lost", "unconnected"):
            # Whatever waits, waits until the device is heard again.
            if answer.failure == "unconnected" or self._may_repeat(command):
                self._lanes.back(command)
                return
            if after_restart(command.operation) is Step.OUTCOME_UNKNOWN:
                step, reason = Step.OUTCOME_UNKNOWN, "outcome-unknown"
        if answer.failure == "timeout" and known is not None:
            # Asleep or gone, whatever its window says (QM-4): what follows waits until it is heard.
            known.silent_since = at.now
            if known.registration.queue_mode:
                reason = "timeout-binding"
                if self._may_repeat(command):
                    self._lanes.back(command)
                    return
        detail = f"{text}: {answer.detail}" if answer.detail else text
        self._end(command, step, reason, detail, at.wall_ms)

    def _lost_in_flight(self, command: Command, at_ms: int) -> None:
        """The registration ended or moved while the command was on its way."""
        registered = self._registry.of(command.device_id) is not None
        removed = self._lanes.of(command.device_id).removed
        if not removed and (registered or command.expires_ms < NEVER_MS) and self._may_repeat(command):
            self._lanes.back(command)
            self._drain(command.device_id)
            return
        step, reason, text = _FAILURES["cancelled"]
        self._end(command, step, reason, text, at_ms)

    def _may_repeat(self, command: Command) -> bool:
        return (
            after_restart(command.operation) is Step.QUEUED
            and self._lanes.tries.get(command.command_id, 0) < TRIES
            and command.expires_ms > self._clock.lifetime_ms()
        )

    # -- ending --

    def _end(
        self,
        command: Command,
        step: Step,
        reason: str,
        detail: str,
        at_ms: int,
        answer: DeviceAnswer | None = None,
    ) -> None:
        self._lanes.ending(command)

        def then() -> None:
            self._lanes.ended(command)
            self._drain_neighbours(command.device_id)
            self._drain(command.device_id)

        known = self._registry.of(command.device_id)
        labels = known.uplink_labels if known is not None else self._lanes.of(command.device_id).uplink_labels
        self._outcomes.end(command, step, reason, detail, at_ms, labels, then, answer)

    def _end_waiting(self, lane: Lane, command: Command, step: Step, reason: str, detail: str, at_ms: int) -> None:
        self._lanes.ending(command)
        self._not_stored.discard(command.command_id)
        sent = command.command_id in self._lanes.tries

        def then() -> None:
            self._lanes.ended(command)

        self._outcomes.end_waiting(command, step, reason, detail, at_ms, lane.uplink_labels, was_sent=sent, then=then)

    # -- inside --

    def _instant(self) -> Instant:
        return Instant(self._clock.now(), self._clock.wall_ms())
