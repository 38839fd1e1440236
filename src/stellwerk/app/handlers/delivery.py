"""Commands on their way to devices: in order, one at a time, when the device listens (contract §3, §7.3 of Device to
Cloud).

The order is always the same: the row first, then `sent` committed, then the datagram, then the outcome committed
(design §3). Nothing waits for a device but its own rows. A device that sleeps keeps its commands as rows; after a
restart they are read again when the device is heard.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence, Set
from typing import Final

import structlog

from stellwerk.app.changes import Change, Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.handlers.flight import Flight, is_passive, prepare, refusal
from stellwerk.app.handlers.household_turns import HouseholdTurns
from stellwerk.app.handlers.judging import LOST, judge
from stellwerk.app.handlers.lanes import Lane, Lanes
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.outcomes import UNKNOWN_TEXT, Outcomes
from stellwerk.app.handlers.overdue import Overdue
from stellwerk.app.handlers.turns import Turns
from stellwerk.app.handlers.unanswered import Unanswered, log_not_noted
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.app.profiles import Profiles
from stellwerk.app.registry import Known, KnownGateway, Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.device.command import NEVER_MS, Command, Step, advance, after_restart
from stellwerk.device.queue import superseded
from stellwerk.lwm2m.operations import AnyCancel, AnyObserve, Operation, WriteAttributes

log = structlog.get_logger(__name__)

_SHOWN: Final = 10
"""Objects that a line of the device's log names at most."""


class Delivery:
    """``turns`` says when a device listens; ``again_s``: when the store is asked anew after it failed."""

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
        profiles: Profiles,
        turns: Turns,
        again_s: float,
    ) -> None:
        self._store = store
        self._registry = registry
        self._observations = observations
        self._outcomes = outcomes
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._profiles = profiles
        self._turns = turns
        self._again_s = again_s
        self._lanes = Lanes(
            store=store,
            registry=registry,
            observations=observations,
            tasks=tasks,
            again_s=again_s,
            taken=self._taken,
        )
        self._overdue = Overdue(store=store, lanes=self._lanes, clock=clock, end=self._end_waiting)
        self._flights: dict[int, Flight] = {}
        self._not_stored: set[int] = set()
        """Commands that the store, though it works, did not take once."""
        self._unanswered = Unanswered(store=store, lanes=self._lanes, clock=clock)
        self._households = HouseholdTurns(self._lanes)
        turns.on_free = self._drain_client
        profiles.on_change = self._go_on_everywhere

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
        known = self._registry.of(device_id)
        if known is not None:
            lane.objects = known.registration.objects.objects
        if self._lanes.is_stored(device_id):
            # Older ones are still rows, and they go first.
            self._lanes.load_soon(device_id)
        elif known is None:
            # Perhaps it ended while the message was being stored.
            self.device_lost(device_id, self._instant())
        else:
            self._drain(device_id)

    def active(self, device_id: DeviceId) -> Command | None:
        """The command that is on its way to the device."""
        lane = self._lanes.get(device_id)
        return None if lane is None else lane.active

    def relabel(self, device_id: DeviceId, uplink_labels: tuple[str, ...]) -> None:
        """What messages about commands that wait carry from now on."""
        lane = self._lanes.get(device_id)
        if lane is not None:
            lane.uplink_labels = uplink_labels

    def device_heard(self, known: Known) -> None:
        """An uplink of the device was answered: what waits for it may leave, one at a time (QM-3)."""
        device_id = known.registration.device_id
        if self._lanes.owes(device_id):
            self._turns.heard(known)
            if self._lanes.is_stored(device_id):
                self._lanes.load_soon(device_id)

    def device_registered(self, known: Known, at: Instant) -> None:
        """The device registered anew: what waits for it is kept, and its log says so (QM-5)."""
        device_id = known.registration.device_id
        lane = self._lanes.get(device_id)
        if lane is None or not lane.waiting:
            return
        one = len(lane.waiting) == 1
        waits = "1 command that waits was" if one else f"{len(lane.waiting)} commands that wait were"
        detail = f"{waits} posted before this Register and {'is' if one else 'are'} kept"
        listed, before = known.registration.objects.objects, lane.objects
        if before is not None and before.keys() != listed.keys():
            detail += "; the object list changed:" + _difference(before.keys(), listed.keys())
        lane.objects = listed
        row = JournalEntry(Kind.LOG, device_id, at.wall_ms, reason="commands-kept", detail=detail)
        self._store.submit(Commit((row,), (), log_not_noted, reserve=True))

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        """The registration ended: what has no time of its own ends as 408; the rest waits for the next (§7.3)."""
        self._households.forget(device_id)
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

    def take_superseded(self, device_id: DeviceId, fresh: Sequence[tuple[Operation, int]]) -> list[Command]:
        """Writes that wait and that commands of a new message, in their order and with their priorities, make needless
        (`device.queue`), out of the queue as with `take_out`. None while the device listens: then each is on its way
        as good as at once, and somebody may want the device to see them all."""
        lane, known = self._lanes.get(device_id), self._registry.of(device_id)
        if lane is None or (known is not None and self._turns.listens(known, self._clock.now())):
            return []
        gone = {each.command_id for each in superseded(lane.waiting, fresh)}
        return self._lanes.take_out(device_id, lambda each: each.command_id in gone) if gone else []

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
        """`look` every ``every_s`` seconds, for ever."""
        while True:
            try:
                await self.look()
            except Exception:
                # The store is in trouble; its own face says so. What waits, waits.
                log.exception("command_expiry.failed")
            await asyncio.sleep(every_s)

    async def look(self) -> int:
        """End a slice of the waiting commands whose time is over, see to what is on its way, and note what was
        delivered; returns how many ended."""
        self._turns.look()
        self._unanswered.note_delivered(self._flights)
        return await self._overdue.look()

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
            # There may be nothing after all, and reads that waited for it.
            self._turns.go_on(device_id)

    # -- sending --

    def _go_on_everywhere(self) -> None:
        for device_id in self._lanes.devices():
            self._turns.go_on(device_id)

    def _drain(self, device_id: DeviceId) -> bool:
        """Send what comes next, if the device may be asked; True while commands for it are not over."""
        lane = self._lanes.get(device_id)
        known = self._registry.of(device_id)
        if lane is None or known is None:
            return False
        if lane.active is not None or lane.loading is not None or not self._turns.free(known):
            return True
        if lane.waiting and not self._may_go(lane.waiting[0], known):
            self._turns.probe_later(known)
            return True
        if lane.waiting and known.household is not None and self._households.is_asked(known.household, but=known):
            return True
        if lane.waiting and not self._observations.loaded(device_id):
            # An Observe has to know what else is wanted.
            self._lanes.load_soon(device_id)
            return True
        now_ms = self._clock.lifetime_ms()
        while lane.waiting:
            command = lane.waiting.popleft()
            if command.expires_ms <= now_ms:
                self._overdue.expire(lane, command)
            elif (reason := refusal(command, self._observations, command.command_id in self._lanes.tries)) is not None:
                self._end_waiting(lane, command, Step.REFUSED, *reason, self._clock.wall_ms())
            elif not self._may_go(command, known):
                # It stood behind one that needs no device, or is over.
                lane.waiting.appendleft(command)
                self._turns.probe_later(known)
                return True
            else:
                lane.active = command
                if known.household is not None:
                    lane.client_id = known.household.registration.device_id
                    self._households.took(lane.client_id, device_id)
                self._turns.take(known, command.command_id)
                self._send(command, known)
                return True
        self._lanes.tidy(device_id)
        return False

    def _may_go(self, command: Command, known: Known) -> bool:
        return self._turns.listens(known, self._clock.now()) or (
            self._profiles.sleeps(known) and self._needs_no_device(command, known)
        )

    def _drain_client(self, client_id: DeviceId) -> bool:
        """`_drain` a device, or of a household the one whose turn it is: whoever comes after the one that had it last;
        True while commands for any of them are not over."""
        house = self._registry.of(client_id)
        if not isinstance(house, KnownGateway):
            return self._drain(client_id)
        owed = False
        for each in self._households.in_turn(house):
            lane = self._lanes.get(each)
            if lane is not None and self._drain(each):
                owed = True
                if lane.active is not None:
                    return True
        if not owed:
            self._households.forget(client_id)
        return owed

    def _send(self, command: Command, known: Known) -> None:
        sent_before = command.command_id in self._lanes.tries
        client_id = (known.household or known).registration.device_id
        flight, changes = prepare(
            command,
            known,
            self._observations,
            self._clock.wall_ms(),
            sent_before=sent_before,
            listens=self._turns.listens(known, self._clock.now()),
        )

        def done(error: Exception | None) -> None:
            if error is not None:
                log_not_stored(log, "command.not_stored", error, command_id=command.command_id)
                self._lanes.back(command)
                self._turns.leave(command.command_id)
                if flight.observation is not None:
                    self._observations.not_stored(flight.observation, flight.before)
                if self._registry.of(command.device_id) is None:
                    self.device_lost(command.device_id, self._instant())
                elif not isinstance(error, StoreTrouble) and command.command_id in self._not_stored:
                    self._not_storable(command, error)
                else:
                    if not isinstance(error, StoreTrouble):
                        # Once more: the fresh token of an Observe may have been taken.
                        self._not_stored.add(command.command_id)
                    asyncio.get_running_loop().call_later(self._again_s, self._turns.go_on, client_id)
                return
            self._not_stored.discard(command.command_id)
            self._lanes.tries[command.command_id] = self._lanes.tries.get(command.command_id, 0) + 1
            if command.step is Step.QUEUED:
                command.step = advance(command.step, Step.SENT)
            command.reason = command.detail = ""
            current = self._registry.of(command.device_id)
            if current is None:
                self._turns.leave(command.command_id)
                self._lost_in_flight(command, self._clock.wall_ms())
                return
            self._flights[command.command_id] = flight
            self._ask(flight, current)

        self._store.submit(Commit((), changes, done))

    def _not_storable(self, command: Command, error: Exception) -> None:
        """The store takes everything but this; to try again would not help."""
        lane = self._lanes.of(command.device_id)
        lane.waiting.remove(command)
        reason = "observe-store" if isinstance(command.operation, AnyObserve) else "adapter"
        detail = f"not sent: that it is sent could not be stored ({type(error).__name__})"
        self._end_waiting(lane, command, Step.REFUSED, reason, detail, self._clock.wall_ms())
        self._drain(command.device_id)

    def _needs_no_device(self, command: Command, known: Known) -> bool:
        wanted = self._observations.of(command.device_id, command.operation.path)
        operation = command.operation
        if not isinstance(operation, AnyCancel) or wanted is None:
            return False
        return is_passive(operation, wanted, known, listens=self._turns.listens(known, self._clock.now()))

    def _ask(self, flight: Flight, known: Known) -> None:
        command, operation = flight.command, flight.operation
        if isinstance(operation, AnyCancel) and operation.passive:
            del self._flights[command.command_id]
            self._turns.leave(command.command_id)
            answer = DeviceAnswer(command.command_id)
            self._end(command, Step.SUCCEEDED, "ok", "", self._clock.wall_ms(), answer)
            return
        self._turns.start(command.command_id, known, operation, flight.token)

    # -- answers --

    def reacted(self, handle: int, *, delivered: bool) -> None:
        """The device took a command, or a part of it; the answer is still to come."""
        if delivered and handle in self._flights:
            self._unanswered.delivered(handle)

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a command; False when ``answer.handle`` is not one of ours."""
        flight = self._flights.get(answer.handle)
        if flight is None:
            return False
        command = flight.command
        try:
            del self._flights[answer.handle]
            self._conclude(flight, answer, at)
        except Exception as error:
            # Whatever mistake of ours that is: the command ends, and those behind it get their turn.
            log.exception("command.answer_failed", command_id=command.command_id)
            self._flights.pop(answer.handle, None)
            self._end(command, Step.REFUSED, "adapter", f"internal error: {type(error).__name__}", at.wall_ms)
        return True

    def _conclude(self, flight: Flight, answer: DeviceAnswer, at: Instant) -> None:
        command = flight.command
        known = self._registry.of(command.device_id)
        if answer.failure == "cancelled" or (known is None and answer.failure in ("lost", "unconnected")):
            self._lost_in_flight(command, at.wall_ms)
            return
        if answer.failure == "unconnected" or (answer.failure == "lost" and self._unanswered.may_repeat(command)):
            # Whatever waits, waits until the device is heard again.
            self._lanes.back(command)
            self._turns.leave(command.command_id)
            return
        operation = command.operation
        step, reason, detail = judge(operation, answer, known, at)
        if answer.failure == "lost" and after_restart(operation) is Step.OUTCOME_UNKNOWN:
            step, reason = Step.OUTCOME_UNKNOWN, "outcome-unknown"
        if answer.failure == "timeout" and known is not None:
            # Asleep or gone, whatever its window says (QM-4): what follows waits until it is heard.
            known.silent_since = at.now
            if self._profiles.sleeps(known):
                reason = "timeout-binding"
                if self._unanswered.may_repeat(command):
                    self._unanswered.wait_again(command, detail, at.wall_ms)
                    return
        changes: Sequence[Change] = ()
        if step is Step.SUCCEEDED and flight.observation is not None:
            changes = self._observations.established(flight.observation, answer)
        elif step is Step.SUCCEEDED and isinstance(operation, WriteAttributes) and known is not None:
            changes = self._observations.attributes_written(known, operation)
        self._end(command, step, reason, detail, at.wall_ms, answer if not answer.failure else None, changes)

    def _lost_in_flight(self, command: Command, at_ms: int) -> None:
        """The registration ended or moved while the command was on its way."""
        registered = self._registry.of(command.device_id) is not None
        removed = self._lanes.of(command.device_id).removed
        if not removed and (registered or command.expires_ms < NEVER_MS) and self._unanswered.may_repeat(command):
            self._unanswered.wait_again(command, "the registration ended or moved before the device answered", at_ms)
            self._drain(command.device_id)
            return
        self._end(command, *LOST, at_ms)

    # -- ending --

    def _end(
        self,
        command: Command,
        step: Step,
        reason: str,
        detail: str,
        at_ms: int,
        answer: DeviceAnswer | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        self._lanes.ending(command)
        # Of one that is behind a gateway no more, whose turn it had.
        client_id = self._lanes.of(command.device_id).client_id or command.device_id

        def then() -> None:
            self._lanes.ended(command)
            self._turns.go_on(client_id)

        known = self._registry.of(command.device_id)
        labels = known.uplink_labels if known is not None else self._lanes.of(command.device_id).uplink_labels
        self._outcomes.end(command, step, reason, detail, at_ms, labels, then, answer, changes)

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


def _difference(before: Set[int], now: Set[int]) -> str:
    gone = "".join(f" /{each}" for each in sorted(before - now)[:_SHOWN])
    new = "".join(f" /{each}" for each in sorted(now - before)[:_SHOWN])
    return (f" without{gone} now" if gone else "") + (f" with{new} now" if new else "")
