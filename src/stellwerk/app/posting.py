"""Commands that programs post and wait for: stored first, and then awaited, asked or cancelled."""

from collections.abc import Awaitable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypedDict

from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.handlers.awaiting import Wait
from stellwerk.app.handlers.commands import Commands, Place
from stellwerk.app.outcome import Outcome, outcome_of, stored_outcome
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.command import FINAL, UNANSWERED, Command, Step
from stellwerk.device.profile import parse_priority
from stellwerk.device.record import DeviceRecord
from stellwerk.lwm2m.path import shown

Device: TypeAlias = str | int | DeviceRecord
"""A device's name, its number in the store, or its record."""

WITHIN_S: Final = 120.0
"""How long a call waits where it says nothing: longer than all repetitions of a confirmable message (93 s)."""

_STORED_S: Final = 1.0
"""How long after a row says that a command has ended its end is waited for: it is on its way already."""
_LONGEST_S: Final = 10 * 365 * 86_400.0


class How(TypedDict, total=False):
    """What every operation may be given besides."""

    within_s: float
    """How long an awaited call waits; 120 s."""
    expires_s: float | None
    """How long the command may wait for the device; None: as its profile and the server say, and where those say
    nothing for as long as it is registered."""
    priority: int | None
    """-100 to 100: of the commands that wait the higher goes first; None: as the device's profile says."""


class UnknownDevice(UserError):
    """``device`` is none of the tenant's devices."""

    def __init__(self, device: object) -> None:
        self.device = device
        super().__init__(f"there is no device {shown(str(device))}; provision it first")


class UnknownCommand(UserError):
    """No command is stored under ``ref``: it never was, or its row has been kept long enough."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        super().__init__(f"no command is stored under {shown(ref)}; rows are kept for a week after their end")


class ServerStopped(UserError):
    """The server that was asked was stopped, before or meanwhile."""

    def __init__(self) -> None:
        super().__init__("the server was stopped; what was stored is found by its ref after the next start")


class BadArgument(UserError):
    """``value`` cannot be the argument ``name``; ``hint`` says what can."""

    def __init__(self, name: str, value: object, hint: str) -> None:
        self.name, self.value, self.hint = name, value, hint
        super().__init__(f"{name}={repr(value)[:60]} is not possible; right is {hint}")


@dataclass(frozen=True, slots=True)
class State:
    """How far a command has come. ``place``: of one that waits to be sent, where it stands and what for.
    ``waits_again`` says that it was sent, went unanswered and is sent again when the device is heard; ``detail`` says
    more."""

    step: Step
    place: Place | None = None
    waits_again: bool = False
    detail: str = ""


class Pending:
    """A command that is stored. ``ref`` is all that has to be kept to find it after a restart, with
    `DeviceOperations.pending`; it is empty where the command was refused at once."""

    def __init__(
        self, posting: "Posting", device: DeviceRecord, ref: str, wait: Wait | None, method: str, path: str
    ) -> None:
        """``wait``: None of a command that had ended before anybody asked."""
        self._posting = posting
        self._wait = wait
        self._method, self._path = method, path
        self.device = device
        self.ref = ref

    async def outcome(self, within_s: float = WITHIN_S) -> Outcome:
        """How it ended, or, when it did not within so many seconds, how far it has come (`Outcome.ended` is False
        then). Any number may wait; giving up ends nothing. Raises `BadArgument` and `ServerStopped`."""
        within_s = _seconds("within_s", within_s)
        if self._wait is None:
            return await self._stored()
        ended = await self._wait.for_end(within_s)
        if ended is None:
            outcome = await self._stored()
            ended = await self._wait.for_end(_STORED_S) if outcome.ended else None
            if ended is None:
                return outcome
        return outcome_of(ended, self.ref, self._method, self._path)

    async def state(self) -> State:
        """How far it has come, as its row says. Raises `ServerStopped`."""
        command = await self._posting.command(self.ref)
        if command is None:
            return State((await self.outcome(0)).step)
        place = None
        if command.step is Step.QUEUED:
            place = await self._posting.place(self.device, self.ref)
        return State(command.step, place, command.reason == UNANSWERED, command.detail)

    async def cancel(self) -> bool:
        """End it as `Step.CANCELLED` unless it was sent; False where it was, or has ended. Raises `StoreTrouble`."""
        return bool(self.ref) and await self._posting.withdraw(self.device, self.ref)

    async def _stored(self) -> Outcome:
        command = await self._posting.command(self.ref)
        if command is not None:
            return stored_outcome(command)
        text = "nothing is stored of the command any more"
        return Outcome(self.ref, self._method, self._path, Step.OUTCOME_UNKNOWN, "outcome-unknown", 408, text)


class Call(Awaitable[Outcome]):
    """An operation that nobody has asked for yet: ``await`` asks for it and waits for its end, `post` only asks.

    A call that is awaited waits ``within_s`` at most. Then a command without a time of its own (``expires_s``) that was
    not sent yet is cancelled, since nobody waits for it any more; one that was sent, or has a time of its own, goes on,
    and the outcome says how far it has come.
    """

    def __init__(
        self,
        posting: "Posting",
        device: Device,
        request: CommandRequest | RefusedRequest,
        *,
        within_s: float = WITHIN_S,
        expires_s: float | None = None,
        priority: int | None = None,
    ) -> None:
        """As `How` says. Raises `BadArgument` and `BadProfile`."""
        self._posting = posting
        self._device = device
        self._request = request
        self._within_s = _seconds("within_s", within_s)
        self._expires_s = None if expires_s is None else _seconds("expires_s", expires_s)
        self._priority = None if priority is None else parse_priority(str(priority))

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self._run().__await__()

    async def post(self) -> Pending:
        """Returns once the command is stored; it survives a restart. Raises `UnknownDevice`, `QueueFull`, `DeviceGone`,
        `ServerStopped` and `StoreTrouble`; then nothing is stored."""
        return await self._posting.post(self._device, self._request, self._expires_s, self._priority)

    async def _run(self) -> Outcome:
        pending = await self.post()
        outcome = await pending.outcome(self._within_s)
        if not outcome.ended and self._expires_s is None:
            with suppress(StoreTrouble):
                # It is stored that it waits, and that may stay so.
                await pending.cancel()
            outcome = await pending.outcome(0)
        return outcome


class Posting:
    """Stores the commands of a tenant's programs, and finds them again."""

    def __init__(self, *, store: DecidingStore, commands: Commands, clock: Clock, tenant_id: TenantId) -> None:
        self._store = store
        self._commands = commands
        self._clock = clock
        self._tenant_id = tenant_id

    async def pending(self, ref: str) -> Pending:
        """The command that was posted under ``ref``, in this run or before. Of one that ended before the server was
        started the outcome has no values; those are among the device's. Raises `UnknownCommand`."""
        command = await self.command(ref)
        device = None if command is None else await self._store.device(command.device_id)
        if command is None or device is None or device.tenant_id != self._tenant_id:
            raise UnknownCommand(ref)
        wait = None
        if command.step not in FINAL:
            wait = self._commands.awaited.wait(command.request_id, command.device_id)
        return Pending(self, device, ref, wait, command.method, str(command.operation.path))

    async def device(self, device: Device) -> DeviceRecord:
        """The device as it is now. Raises `UnknownDevice` and `ServerStopped`."""
        self._check_open()
        found: DeviceRecord | None
        if isinstance(device, str):
            found = await self._store.device_by_name(self._tenant_id, device)
        else:
            number = device.device_id if isinstance(device, DeviceRecord) else DeviceId(device)
            found = await self._store.device(number)
        if found is None or found.tenant_id != self._tenant_id:
            raise UnknownDevice(device.name if isinstance(device, DeviceRecord) else device)
        return found

    async def post(
        self,
        device: Device,
        request: CommandRequest | RefusedRequest,
        expires_s: float | None,
        priority: int | None,
    ) -> Pending:
        """As `Call.post`."""
        record = await self.device(device)
        expires_ms = None if expires_s is None else self._clock.wall_ms() + round(expires_s * 1000)
        posted = await self._commands.submit(record, request, expires_ms=expires_ms, priority=priority)
        return Pending(self, record, posted.ref, posted.wait, request.method, request.path)

    async def command(self, ref: str) -> Command | None:
        """The row of a command of any tenant. Raises `ServerStopped`."""
        self._check_open()
        commands = await self._store.commands_of_message(ref) if ref else ()
        return commands[0] if commands else None

    async def place(self, device: DeviceRecord, ref: str) -> Place | None:
        """Where a command stands that was not sent yet."""
        return (await self._commands.places(device)).get(ref)

    def close(self) -> None:
        """The store is about to close."""
        self._commands.awaited.close()

    def _check_open(self) -> None:
        if self._commands.awaited.closed:
            raise ServerStopped

    async def withdraw(self, device: DeviceRecord, ref: str) -> bool:
        """As `Pending.cancel`."""
        self._check_open()
        return await self._commands.withdraw(device, ref)


def _seconds(name: str, value: float) -> float:
    """Raises `BadArgument`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_S:
        raise BadArgument(name, value, "a number of seconds from 0 to ten years")
    return value
