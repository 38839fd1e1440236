"""What the console needs of the rest of the server, in one bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stellwerk.app.bootstrap_sight import BootstrapSight
from stellwerk.app.command_request import CommandRequest, RefusedRequest
from stellwerk.app.handlers.accounts import Accounts
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.records import MessageRecord
from stellwerk.app.views import Views
from stellwerk.device.record import DeviceRecord


class HandlesCommands(Protocol):
    """The use case behind the command box; `app.handlers.commands.Commands` is it."""

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
        """Raises `ContainerFull`, `QueueFull` and `StoreTrouble`."""
        ...

    async def withdraw(self, device: DeviceRecord, ref: str) -> bool:
        """End what waits of the commands that came together; ``ref`` is their `Command.outgoing_ri`. False when none of
        them waits any more. Raises `StoreTrouble`."""
        ...


def nothing_to_say() -> str:
    """The banner of a server that is well."""
    return ""


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """``parse``: the text of the command box to commands, as outgoing-msg takes it. ``key``: 32 secret bytes of this
    data directory; what is signed with it is forgotten when it changes. ``banner``: what every page says on top, empty
    for nothing. ``bootstrap`` None: there is no bootstrap server."""

    deciding: DecidingStore
    views: Views
    accounts: Accounts
    commands: HandlesCommands
    parse: Callable[[Any, str | None], Sequence[CommandRequest | RefusedRequest]]
    clock: Clock
    key: bytes
    banner: Callable[[], str] = nothing_to_say
    bootstrap: BootstrapSight | None = None
